//! Asks other services: casts, which nobody answers, and calls, which are waited for.

mod replies;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

use self::replies::{Replies, Reply};
use super::envelope::{seal, unique_id};
use super::version::RpcVersion;
use super::{Context, Failure, Publish, Route, Transport, TransportError};

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub topic: String,
    /// That one of the servers of the topic; any of them where there is none.
    pub server: Option<String>,
    /// All of them.
    pub fanout: bool,
}

impl Target {
    /// Any server of a topic.
    pub fn topic(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), server: None, fanout: false }
    }

    /// One server of a topic.
    pub fn server(topic: impl Into<String>, server: impl Into<String>) -> Self {
        Self { topic: topic.into(), server: Some(server.into()), fanout: false }
    }

    /// Every server of a topic.
    pub fn fanout(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), server: None, fanout: true }
    }

    fn route(&self) -> Route {
        match &self.server {
            _ if self.fanout => Route::Fanout { topic: self.topic.clone() },
            Some(server) => Route::Topic { key: format!("{}.{server}", self.topic) },
            None => Route::Topic { key: self.topic.clone() },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            _ if self.fanout => write!(f, "all of {}", self.topic),
            Some(server) => write!(f, "{}.{server}", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Size of a message. RabbitMQ 4 refuses more than 16 MiB by default, and closes the channel over it.
    pub body_bytes_max: usize,
    /// Size of a reply.
    pub reply_bytes_max: usize,
    /// How long a cast is tried while no broker can be reached; for ever where there is no limit, as upstream.
    pub cast_give_up_after: Option<Duration>,
    /// Asks servers to say every half of this time that they are at work on a call, and takes them for dead when they
    /// did not for the whole of it. Whole seconds, 2 at least. Upstream's `call_monitor_timeout`.
    pub call_monitor: Option<Duration>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { body_bytes_max: 16 << 20, reply_bytes_max: 64 << 20, cast_give_up_after: None, call_monitor: None }
    }
}

/// Why a request was not handed to a broker.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    #[error("the message has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error(transparent)]
    Transport(#[from] TransportError),
}

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    #[error("`{method}` of {target} was not asked for")]
    Send {
        target: String,
        method: String,
        #[source]
        error: SendError,
    },
    /// Whether it was done is not known.
    #[error("`{method}` of {target} was not answered within {} s", .after.as_secs_f64())]
    Timeout { target: String, method: String, after: Duration },
    /// It failed there.
    #[error("`{method}` of {target} failed")]
    Remote {
        target: String,
        method: String,
        #[source]
        failure: Failure,
    },
}

impl CallError {
    /// What the server failed with, if it did.
    pub fn remote(&self) -> Option<&Failure> {
        match self {
            Self::Remote { failure, .. } => Some(failure),
            Self::Send { .. } | Self::Timeout { .. } => None,
        }
    }
}

/// Sends requests. Clones share one reply queue, which is made for the first call.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<dyn Transport>,
    options: ClientOptions,
    replies: Arc<Replies>,
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self::with_options(transport, ClientOptions::default())
    }

    pub fn with_options(transport: Arc<dyn Transport>, options: ClientOptions) -> Self {
        let replies = Arc::new(Replies::new(transport.clone(), options.reply_bytes_max));
        Self { transport, options, replies }
    }

    /// Asks for something that is done some time, by whoever listens to the target then. Returns when a broker has
    /// the request: that there is a queue for the target is the other side's business.
    pub async fn cast(
        &self,
        context: &Context,
        target: &Target,
        method: &str,
        args: Map<String, Value>,
        version: RpcVersion,
    ) -> Result<(), SendError> {
        let message = message(method, args, version, None, context);
        let body = self.body(&message)?;
        let give_up_after = self.options.cast_give_up_after;
        self.transport.publish(Publish { route: target.route(), body, expiration: None, give_up_after }).await?;
        Ok(())
    }

    /// Asks, and waits for the result, but no longer than `timeout`. A request that no server took in that time is
    /// dropped by the broker. A future that is dropped waits no more; the server is not told.
    pub async fn call(
        &self,
        context: &Context,
        target: &Target,
        method: &str,
        args: Map<String, Value>,
        version: RpcVersion,
        timeout: Duration,
    ) -> Result<Value, CallError> {
        let named = || (target.to_string(), method.to_owned());
        let timed_out = |after| {
            let (target, method) = named();
            CallError::Timeout { target, method, after }
        };
        let failed = |error: SendError| {
            let (target, method) = named();
            CallError::Send { target, method, error }
        };
        let deadline = Instant::now() + timeout;
        let left = || deadline.saturating_duration_since(Instant::now());

        let queue = match timeout_at(deadline, self.replies.queue()).await {
            Err(_) => return Err(timed_out(timeout)),
            Ok(queue) => queue.map_err(|error| failed(error.into()))?,
        };
        let msg_id = unique_id();
        let mut waiting = self.replies.wait_for(&msg_id);
        let reply = ReplyKeys { msg_id, queue, monitor: self.options.call_monitor };
        let body = self.body(&message(method, args, version, Some(reply), context)).map_err(failed)?;
        let publish = Publish { route: target.route(), body, expiration: Some(timeout), give_up_after: Some(left()) };
        match timeout_at(deadline, self.transport.publish(publish)).await {
            Err(_) => return Err(timed_out(timeout)),
            Ok(published) => published.map_err(|error| failed(error.into()))?,
        };

        loop {
            let silence_ends = self.options.call_monitor.map(|silence| Instant::now() + silence);
            let until = silence_ends.map_or(deadline, |ends| ends.min(deadline));
            match timeout_at(until, waiting.next()).await {
                Ok(Reply::AtWork) => {}
                Ok(Reply::Result(result)) => return Ok(result),
                Ok(Reply::Failure(failure)) => {
                    let (target, method) = named();
                    return Err(CallError::Remote { target, method, failure });
                }
                Err(_) if until < deadline => {
                    return Err(timed_out(self.options.call_monitor.unwrap_or(timeout)));
                }
                Err(_) => return Err(timed_out(timeout)),
            }
        }
    }

    fn body(&self, message: &Map<String, Value>) -> Result<Bytes, SendError> {
        let (body, limit) = (seal(message), self.options.body_bytes_max);
        if body.len() > limit {
            return Err(SendError::TooLarge { bytes: body.len(), limit });
        }
        Ok(body)
    }
}

/// What a call has more than a cast.
struct ReplyKeys {
    msg_id: String,
    queue: String,
    monitor: Option<Duration>,
}

/// The keys in the order in which oslo.messaging writes them.
fn message(
    method: &str,
    args: Map<String, Value>,
    version: RpcVersion,
    reply: Option<ReplyKeys>,
    context: &Context,
) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("method".into(), method.into());
    message.insert("args".into(), args.into());
    message.insert("version".into(), version.to_string().into());
    if let Some(ReplyKeys { msg_id, queue, monitor }) = reply {
        message.insert("_msg_id".into(), msg_id.into());
        message.insert("_reply_q".into(), queue.into());
        message.insert("_timeout".into(), monitor.map(|monitor| monitor.as_secs()).into());
    }
    message.insert("_unique_id".into(), unique_id().into());
    context.put_into(&mut message);
    message
}
