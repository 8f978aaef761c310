//! What messages are carried by. The broker is behind this; tests have one in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Carries messages. It connects again by itself, to any broker that it knows, for as long as it lives.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Declares what `listen` needs, and consumes it. Waits until a broker answers, however long that takes; what is
    /// refused for good (wrong credentials are not: they can be mended at the broker) is an error.
    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, TransportError>;

    /// Hands a message to the broker, and returns when the broker has confirmed it. A lost connection is tried again
    /// until `give_up_after` (for ever where there is none): the message may then arrive twice, never not at all.
    async fn publish(&self, publish: Publish) -> Result<Published, TransportError>;

    /// Ends all connections, each after what it was about to send.
    async fn close(&self);
}

/// What is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A server's three queues: `topic` and `topic.server` on the control exchange, and a fanout queue of its own.
    Server { topic: String, server: String },
    /// A queue of this process alone, for replies: `reply_<32 hex>` on the default exchange.
    Replies,
}

/// Messages as they come, over all reconnects.
#[async_trait]
pub trait Listener: Send + fmt::Debug {
    /// The next one. `None` after [`Listener::stop`] once everything that had arrived was handed out.
    async fn next(&mut self) -> Option<Delivery>;

    /// Consumes no more. What arrived and was not acknowledged goes back to the broker when the listener is dropped.
    async fn stop(&mut self);

    /// Where replies are to be sent to, for [`Listen::Replies`].
    fn reply_queue(&self) -> Option<&str>;
}

/// One message from the broker. Neither acknowledged nor rejected, the broker delivers it again.
#[derive(Debug)]
pub struct Delivery {
    pub body: Bytes,
    pub properties: MessageProperties,
    /// The broker handed it out before.
    pub redelivered: bool,
    pub ack: Box<dyn AckHandle>,
}

/// Tells the broker what became of a message.
#[async_trait]
pub trait AckHandle: Send + Sync + fmt::Debug {
    async fn ack(&self) -> Result<(), AckError>;

    /// Dropped by the broker, or handed out again.
    async fn reject(&self, requeue: bool) -> Result<(), AckError>;
}

/// The connection that brought the message is gone: the broker will deliver it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection that brought the message is gone; the broker delivers it again")]
pub struct AckError;

/// Properties of a message that mean something to oslo.messaging.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    /// Text headers, such as `compression`.
    pub headers: BTreeMap<String, String>,
    /// Milliseconds until the broker drops it.
    pub expiration: Option<String>,
}

/// Where a message goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The control exchange; one server that listens to the key takes it.
    Topic { key: String },
    /// Every server of the topic.
    Fanout { topic: String },
    /// The default exchange, straight to a queue of replies. Mandatory: told when the queue is gone.
    Reply { queue: String },
}

#[derive(Clone, Debug)]
pub struct Publish {
    pub route: Route,
    pub body: Bytes,
    /// Dropped by the broker when nobody took it in that time.
    pub expiration: Option<Duration>,
    /// Not tried any longer than this.
    pub give_up_after: Option<Duration>,
}

/// What became of a message that the broker has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The broker has it. A topic that no queue listens to drops it silently.
    Taken,
    /// A reply whose queue is gone: nobody waits for it any more.
    NobodyThere,
}

#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The broker does not answer, or was not reached in the time given.
    #[error("no message broker was reached within {} s: {what}", .after.as_secs_f64())]
    Unreachable { after: Duration, what: String },
    /// It answers, and refuses for good.
    #[error("the message broker refuses: {0}")]
    Refused(String),
    #[error("the transport is closed")]
    Closed,
}
