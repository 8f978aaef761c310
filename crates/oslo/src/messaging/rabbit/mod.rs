//! Messages by RabbitMQ, as oslo.messaging's driver `rabbit` carries them.
//!
//! Each listener has a connection of its own, and all that is sent goes over another one. Connections are made again
//! by ourselves, over all brokers of `transport_url`: what the AMQP library offers for that knows but one broker, and
//! gives up.
//!
//! That library, `lapin`, logs whole messages that the broker returns, at WARN. What it has to say is said here, too:
//! a program should switch its lines off (`lapin=off`).

mod connect;
mod dead_queues;
mod declare;
mod defs;
mod hosts;
mod limits;
mod listener;
mod names;
mod options;
mod publisher;
mod status;
mod supervisor;
mod tls;
mod topology;
mod url;

use std::path::Path;

use async_trait::async_trait;
use lapin::types::MAX_SHORT_STRING_LENGTH;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use defs::{MESSAGING_OPTIONS, RABBIT, RABBIT_OPTIONS};
pub use limits::Limits;
pub use options::{Failover, Login, MessagingOptions, QueueManagerOptions, RabbitOptions, TlsOptions};
pub use status::{LinkState, LinkStatus, RabbitStatus};
pub use url::{Host, TransportUrl, UrlError};

use super::transport::{Listen, Listener, Publish, Published, Transport, TransportError};
use connect::Connector;
use hosts::Hosts;
use names::Namer;
use publisher::Publisher;
use status::{Reporter, Reporters};
use supervisor::Supervisor;

/// A [`Transport`] to the brokers of one `transport_url`.
#[derive(Debug)]
pub struct RabbitTransport {
    url: TransportUrl,
    options: RabbitOptions,
    control_exchange: String,
    connector: Connector,
    namer: Namer,
    publisher: Publisher,
    listeners: Reporters,
    closing: CancellationToken,
    supervisors: TaskTracker,
}

/// Why a transport cannot be set up at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("messaging cannot be set up: {0}")]
pub struct SetupError(String);

impl RabbitTransport {
    /// Reads what the options name (certificates), and connects to nothing yet. `lock_path` is that of
    /// `[oslo_concurrency]`, which only the queue manager needs.
    pub fn new(options: &MessagingOptions, lock_path: Option<&Path>) -> Result<Self, SetupError> {
        Self::with_limits(options, lock_path, Limits::default())
    }

    /// With other bounds of what waits or collects.
    pub fn with_limits(
        options: &MessagingOptions,
        lock_path: Option<&Path>,
        limits: Limits,
    ) -> Result<Self, SetupError> {
        let MessagingOptions { url, control_exchange, rabbit, .. } = options;
        for (what, name) in [("virtual host", &url.virtual_host), ("control_exchange", control_exchange)] {
            if name.len() > MAX_SHORT_STRING_LENGTH {
                return Err(SetupError(format!("the {what} is longer than {MAX_SHORT_STRING_LENGTH} bytes")));
            }
        }
        let tls = rabbit.tls.as_ref().map(|tls| tls::client_config(tls, url.hosts.len())).transpose();
        let connector = Connector::new(rabbit, &url.virtual_host, tls.map_err(SetupError)?, limits);
        let hosts = Hosts::new(url.hosts.clone(), rabbit);
        Ok(Self {
            publisher: Publisher::new(connector.clone(), rabbit.clone(), control_exchange, hosts),
            namer: Namer::new(rabbit.queue_manager.as_ref(), lock_path).map_err(SetupError)?,
            url: url.clone(),
            options: rabbit.clone(),
            control_exchange: control_exchange.clone(),
            connector,
            listeners: Reporters::default(),
            closing: CancellationToken::new(),
            supervisors: TaskTracker::new(),
        })
    }

    /// How the connections are. Takes no time, asks no broker.
    pub fn status(&self) -> RabbitStatus {
        RabbitStatus { listeners: self.listeners.statuses(), sender: self.publisher.status() }
    }

    async fn next_name(&self) -> Result<String, TransportError> {
        let namer = self.namer.clone();
        // The counter's lock can be held by another process.
        let name = tokio::task::spawn_blocking(move || namer.next()).await;
        let failed = |what: String| TransportError::Refused(format!("the queue manager cannot count: {what}"));
        name.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }
}

#[async_trait]
impl Transport for RabbitTransport {
    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, TransportError> {
        if self.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        let (subscriptions, purpose, reply_queue) = match listen {
            Listen::Server { topic, server } => {
                // A stream has the name of its topic, and uses up no number.
                let suffix = if self.options.stream_fanout { String::new() } else { self.next_name().await? };
                let subscriptions = topology::server(&self.options, &self.control_exchange, &topic, &server, &suffix);
                (subscriptions, format!("serving {topic}"), None)
            }
            Listen::Replies => {
                let replies = topology::replies(&self.options, &self.next_name().await?);
                let queue = replies.queue.name.clone();
                (vec![replies], "getting replies".into(), Some(queue))
            }
        };
        let longest = subscriptions.iter().map(|it| it.queue.name.len()).max();
        if longest > Some(MAX_SHORT_STRING_LENGTH) {
            let what = format!("the name of a queue would be longer than {MAX_SHORT_STRING_LENGTH} bytes");
            return Err(TransportError::Refused(what));
        }
        let reporter = Reporter::new(purpose);
        self.listeners.add(&reporter);
        let supervisor = Supervisor {
            connector: self.connector.clone(),
            hosts: Hosts::new(self.url.hosts.clone(), &self.options),
            subscriptions,
            prefetch_count: self.options.qos_prefetch_count,
            reconnect_delay: self.options.reconnect_delay,
            reporter,
        };
        let listener = supervisor.start(self.closing.child_token(), &self.supervisors, reply_queue).await?;
        Ok(Box::new(listener))
    }

    async fn publish(&self, publish: Publish) -> Result<Published, TransportError> {
        self.publisher.publish(publish).await
    }

    async fn close(&self) {
        self.publisher.close().await;
        self.closing.cancel();
        self.supervisors.close();
        if tokio::time::timeout(self.connector.limits.close * 2, self.supervisors.wait()).await.is_err() {
            tracing::warn!("connections to message brokers did not end in time");
        }
    }
}

/// Nothing is left behind by who forgets to close.
impl Drop for RabbitTransport {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
