//! Hands out messages, and tells the broker what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, BasicProperties};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use super::connect::within;
use crate::messaging::{AckError, AckHandle, Delivery, Listener, MessageProperties};

/// The side of those who take messages.
#[derive(Debug)]
pub(super) struct RabbitListener {
    pub(super) deliveries: mpsc::Receiver<Arrived>,
    pub(super) stop: mpsc::Sender<oneshot::Sender<()>>,
    pub(super) reply_queue: Option<String>,
    pub(super) offset: Offset,
    pub(super) command_limit: Duration,
    pub(super) _end: DropGuard,
}

/// A message with the queue that it came from.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) message: Box<AmqpDelivery>,
    pub(super) is_from_stream: bool,
}

/// How far a stream was read: all before it is acknowledged. Negative: nothing is.
#[derive(Clone, Debug)]
pub(super) struct Offset(Arc<AtomicI64>);

impl Default for Offset {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(-1)))
    }
}

impl Offset {
    /// Where to go on, after something was acknowledged.
    pub(super) fn next(&self) -> Option<i64> {
        let last = self.0.load(Ordering::Acquire);
        (last >= 0).then_some(last + 1)
    }

    fn acknowledge(&self, offset: i64) {
        self.0.fetch_max(offset, Ordering::AcqRel);
    }
}

#[async_trait]
impl Listener for RabbitListener {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let arrived = self.deliveries.recv().await?;
            // The connection that brought it is gone: the broker delivers it again, on the next one.
            if arrived.message.acker.usable() {
                return Some(self.delivery(arrived));
            }
        }
    }

    async fn stop(&mut self) {
        let (stopped, is_stopped) = oneshot::channel();
        if self.stop.send(stopped).await.is_ok() {
            // It ends without an answer when the transport is closed.
            let _ = is_stopped.await;
        }
    }

    fn reply_queue(&self) -> Option<&str> {
        self.reply_queue.as_deref()
    }
}

impl RabbitListener {
    fn delivery(&self, Arrived { message, is_from_stream }: Arrived) -> Delivery {
        let offset = match header(&message.properties, "x-stream-offset") {
            Some(AMQPValue::LongLongInt(offset)) if is_from_stream => Some((*offset, self.offset.clone())),
            _ => None,
        };
        Delivery {
            properties: properties(&message.properties),
            body: message.data.into(),
            redelivered: message.redelivered,
            ack: Box::new(RabbitAck { acker: message.acker, offset, limit: self.command_limit }),
        }
    }
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn properties(properties: &BasicProperties) -> MessageProperties {
    let mut headers = BTreeMap::new();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let text = match value {
            AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            AMQPValue::ShortString(text) => text.to_string(),
            _ => continue,
        };
        headers.insert(name.to_string(), text);
    }
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    MessageProperties {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        headers,
        expiration: text(properties.expiration()),
    }
}

/// Acknowledges on the connection that brought the message, and on no other.
#[derive(Debug)]
struct RabbitAck {
    acker: Acker,
    /// Of a message of a stream.
    offset: Option<(i64, Offset)>,
    limit: Duration,
}

impl RabbitAck {
    async fn tell(&self, tell: impl Future<Output = lapin::Result<bool>>) -> Result<(), AckError> {
        match within(self.limit, tell).await {
            Ok(true) => {
                if let Some((offset, read)) = &self.offset {
                    read.acknowledge(*offset);
                }
                Ok(())
            }
            Ok(false) => Err(AckError),
            Err(error) => {
                tracing::debug!(error = error.text(), "the message broker was not told what became of a message");
                Err(AckError)
            }
        }
    }
}

#[async_trait]
impl AckHandle for RabbitAck {
    async fn ack(&self) -> Result<(), AckError> {
        self.tell(self.acker.ack(BasicAckOptions::default())).await
    }

    async fn reject(&self, requeue: bool) -> Result<(), AckError> {
        self.tell(self.acker.reject(BasicRejectOptions { requeue })).await
    }
}
