//! Serves requests: takes them from the broker, has them handled, answers calls, acknowledges.
//!
//! # What differs from upstream, and why
//!
//! oslo.messaging in Python acknowledges a request *before* anything is executed, so a crash loses it. Here a request
//! is acknowledged **after** its handler returned, and a handler returns once it has made durable what is asked for
//! ([`Acknowledge::AfterHandling`]; upstream's way can be chosen). It follows:
//!
//! - A request can come again: the broker delivers what was not acknowledged when a connection or process was lost.
//!   Whatever this server handled to its end is recognised by its `_unique_id` and only acknowledged, and the same
//!   reply is sent again for a caller that still waits; upstream's clients ignore a reply that they have already. What
//!   another process, or this one before a restart, had handled is for the handler to recognise
//!   ([`Request::unique_id`]). What is being handled is not handled twice: later deliveries join the first.
//! - A call is answered before it is acknowledged, so that no crash in between leaves its caller without an answer.
//! - Handlers must be quick. RabbitMQ closes a channel on which a delivery stays unacknowledged for half an hour.
//!   A handler may say [`HandlerError::Retry`] for what it cannot take at the moment: the delivery stays
//!   unacknowledged, and others are handled meanwhile.
//! - What is not read yet stays at the broker, or with the transport: at most [`ServerLimits::deliveries_max`]
//!   requests are in memory here. Upstream takes, acknowledges and keeps all there are.

mod consume;
mod duplicates;
mod replies;
mod request;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::request::Request;
use super::version::RpcVersion;
use super::{Failure, Listen, Transport, TransportError};

/// Handles requests, several at once.
#[async_trait]
pub trait Handler: Send + Sync + fmt::Debug {
    /// The highest version that is served, with all lower ones of the same major version.
    fn version(&self) -> RpcVersion;

    /// Does what is asked for, at least as far as that a crash cannot lose it. A method that is not served is a
    /// [`Failure::no_such_method`]. Unsuitable versions, namespaces and names that begin with `_` do not come here.
    ///
    /// A handler that panics has failed like any other; the caller is told that there is a defect.
    async fn handle(&self, request: Request) -> Result<Value, HandlerError>;
}

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HandlerError {
    /// It failed: told to the caller if there is one, acknowledged, done with.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// It cannot be taken now, for the reason given: not acknowledged, handed in again after a pause.
    #[error("not now: {0}")]
    Retry(String),
}

/// When a request is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acknowledge {
    /// When it was handled: never lost, perhaps delivered twice.
    #[default]
    AfterHandling,
    /// As upstream: never delivered twice, perhaps lost.
    BeforeHandling,
}

#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    pub acknowledge: Acknowledge,
    /// Answers `oslo_rpc_server_ping`; the option `rpc_ping_enabled` of services.
    pub answers_pings: bool,
    pub limits: ServerLimits,
}

/// How much of everything.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// Handlers at once. Upstream's `executor_thread_pool_size` is as large.
    pub handlers_max: usize,
    /// Requests in memory at once: handled, pausing before they are handed in again, or waiting for their reply to
    /// be sent. So many that a handler that takes nothing for a while does not keep calls from being answered.
    pub deliveries_max: usize,
    /// Size of a message, before and after decompression. Brokers refuse more than 128 MiB; no service sends a tenth.
    pub body_bytes_max: usize,
    /// Size of a reply. RabbitMQ 4 refuses more than 16 MiB by default, and closes the channel over it.
    pub reply_bytes_max: usize,
    /// Pause before a request that could not be taken is handed in again; doubled each time.
    pub retry_pause_first: Duration,
    /// No pause is longer: a request is taken soon after whatever was away is back.
    pub retry_pause_max: Duration,
    /// For so long a broker that is away is waited for with a reply. Callers wait for a minute, unless told otherwise.
    pub reply_give_up_after: Duration,
    /// Identifiers of handled requests that are remembered. Upstream remembers 16, which is enough where everything is
    /// acknowledged at once; here each delivery held when a connection breaks may come again.
    pub handled_ids_max: usize,
    /// Replies that are remembered with them, and the size of each: four MiB in all.
    pub kept_replies_max: usize,
    pub kept_reply_bytes_max: usize,
    /// For so long a server that stops waits for its handlers.
    pub stop_wait: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            handlers_max: 64,
            deliveries_max: 1000,
            body_bytes_max: 64 << 20,
            reply_bytes_max: 16 << 20,
            retry_pause_first: Duration::from_secs(1),
            retry_pause_max: Duration::from_secs(30),
            reply_give_up_after: Duration::from_mins(5),
            handled_ids_max: 4096,
            kept_replies_max: 128,
            kept_reply_bytes_max: 32 << 10,
            stop_wait: Duration::from_secs(30),
        }
    }
}

/// A server at work. Dropped, it stops too, but nobody waits for it.
#[derive(Debug)]
pub struct Server {
    stop: DropGuard,
    consumer: JoinHandle<()>,
}

impl Server {
    /// Listens to `topic`, `topic.server` and the fanout of the topic, and has what comes handled. Returns when the
    /// queues are there, however long it takes until a broker answers.
    pub async fn start(
        transport: Arc<dyn Transport>,
        topic: impl Into<String>,
        server: impl Into<String>,
        handler: Arc<dyn Handler>,
        options: ServerOptions,
    ) -> Result<Self, TransportError> {
        let listener = transport.listen(Listen::Server { topic: topic.into(), server: server.into() }).await?;
        let stop = CancellationToken::new();
        let consumer = consume::Consumer::new(transport, handler, options, stop.clone());
        let consumer = tokio::spawn(Arc::new(consumer).run(listener));
        Ok(Self { stop: stop.drop_guard(), consumer })
    }

    /// Whether it still takes requests. It ends by itself only when its transport is closed.
    pub fn is_running(&self) -> bool {
        !self.consumer.is_finished()
    }

    /// Takes no more requests, waits for those that are being handled, but no longer than
    /// [`stop_wait`](ServerLimits::stop_wait), and leaves the rest to the broker, which delivers them again.
    pub async fn stop(self) {
        drop(self.stop);
        // A panic of the consumer was logged as one already; there is nothing left to stop.
        let _ = self.consumer.await;
    }
}
