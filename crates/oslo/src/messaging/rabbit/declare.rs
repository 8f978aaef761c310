//! Declares things at the broker, with the ways out that oslo.messaging has where the broker refuses.

use lapin::options::{
    BasicConsumeOptions, BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};

use super::connect::{Link, LinkError, within};
use super::limits::Limits;
use super::topology::{Exchange, Queue, Subscription};

const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const INTERNAL_ERROR: u16 = 541;

/// A channel to declare on. A refusal closes a channel, so it is another one afterwards.
#[derive(Debug)]
pub(super) struct Declarer<'a> {
    link: &'a Link,
    limits: Limits,
    /// Messages that may be unacknowledged; 0 for any number.
    prefetch_count: u16,
    pub(super) channel: Channel,
}

impl<'a> Declarer<'a> {
    pub(super) async fn new(link: &'a Link, prefetch_count: u16, limits: Limits) -> Result<Self, LinkError> {
        let channel = open(link, prefetch_count, &limits).await?;
        Ok(Self { link, limits, prefetch_count, channel })
    }

    /// One that declares on a channel that is there.
    pub(super) fn on(link: &'a Link, channel: Channel, prefetch_count: u16, limits: Limits) -> Self {
        Self { link, limits, prefetch_count, channel }
    }

    /// Declares an exchange; one that there is already and that is not durable is taken as it is.
    pub(super) async fn exchange(&mut self, exchange: &Exchange) -> Result<(), LinkError> {
        match self.try_exchange(exchange, exchange.durable).await {
            Err(error) if exchange.durable && is_about_durable(&error) => {
                tracing::warn!(
                    exchange = exchange.name,
                    error = error.text(),
                    "the exchange is there already and is not durable; services of this cloud have different options"
                );
                self.reopen().await?;
                self.try_exchange(exchange, false).await
            }
            result => result,
        }
    }

    /// Declares everything that a subscription needs.
    pub(super) async fn subscription(&mut self, subscription: &Subscription) -> Result<(), LinkError> {
        match self.try_subscription(subscription).await {
            // The exchange went away in between, as one does that deletes itself.
            Err(error) if error.code() == Some(NOT_FOUND) => {
                self.reopen().await?;
                self.try_subscription(subscription).await
            }
            result => result,
        }
    }

    /// Begins to consume. `tag` is what the broker calls it.
    pub(super) async fn consume(
        &self,
        subscription: &Subscription,
        tag: &str,
        stream_offset: Option<i64>,
    ) -> Result<Consumer, LinkError> {
        let mut arguments = subscription.consume_arguments.clone();
        if subscription.is_stream {
            let offset = stream_offset.map_or(AMQPValue::LongString("last".into()), AMQPValue::LongLongInt);
            arguments.insert("x-stream-offset".into(), offset);
        }
        let queue = subscription.queue.name.clone().into();
        within(
            self.limits.command,
            self.channel.basic_consume(queue, tag.into(), BasicConsumeOptions::default(), arguments),
        )
        .await
    }

    async fn try_subscription(&mut self, subscription: &Subscription) -> Result<(), LinkError> {
        if let Some(exchange) = &subscription.exchange {
            self.exchange(exchange).await?;
        }
        self.queue(&subscription.queue).await?;
        let Some(exchange) = &subscription.exchange else { return Ok(()) };
        let bind = self.channel.queue_bind(
            subscription.queue.name.clone().into(),
            exchange.name.clone().into(),
            subscription.routing_key.clone().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        within(self.limits.command, bind).await
    }

    async fn queue(&mut self, queue: &Queue) -> Result<(), LinkError> {
        match self.try_queue(queue, queue.durable).await {
            Err(error) if queue.durable && is_about_durable(&error) => {
                tracing::warn!(
                    queue = queue.name,
                    error = error.text(),
                    "the queue is there already and is not durable; it was made with other options"
                );
                self.reopen().await?;
                self.try_queue(queue, false).await
            }
            Err(error) if error.code() == Some(NOT_FOUND) => {
                // A queue without copies, on a node of the cluster that is down, is neither there nor not there.
                tracing::warn!(queue = queue.name, error = error.text(), "the queue is on a dead node; making it anew");
                self.reopen().await?;
                let name = queue.name.clone().into();
                let delete = self.channel.queue_delete(name, QueueDeleteOptions::default());
                if let Err(error) = within(self.limits.command, delete).await {
                    tracing::warn!(queue = queue.name, error = error.text(), "the queue could not be deleted");
                    self.reopen().await?;
                }
                self.try_queue(queue, queue.durable).await
            }
            result => result,
        }
    }

    async fn try_exchange(&self, exchange: &Exchange, durable: bool) -> Result<(), LinkError> {
        let options =
            ExchangeDeclareOptions { durable, auto_delete: exchange.auto_delete, ..ExchangeDeclareOptions::default() };
        let name = exchange.name.clone().into();
        let declare = self.channel.exchange_declare(name, exchange.kind.clone(), options, FieldTable::default());
        within(self.limits.command, declare).await
    }

    async fn try_queue(&self, queue: &Queue, durable: bool) -> Result<(), LinkError> {
        let options = QueueDeclareOptions { durable, auto_delete: queue.auto_delete, ..QueueDeclareOptions::default() };
        let declare = self.channel.queue_declare(queue.name.clone().into(), options, queue.arguments.clone());
        within(self.limits.command, declare).await.map(|_| ())
    }

    async fn reopen(&mut self) -> Result<(), LinkError> {
        self.channel = open(self.link, self.prefetch_count, &self.limits).await?;
        Ok(())
    }
}

async fn open(link: &Link, prefetch_count: u16, limits: &Limits) -> Result<Channel, LinkError> {
    let channel = link.channel(limits).await?;
    if prefetch_count > 0 {
        within(limits.command, channel.basic_qos(prefetch_count, BasicQosOptions { global: false })).await?;
    }
    Ok(channel)
}

fn is_about_durable(error: &LinkError) -> bool {
    error.code() == Some(PRECONDITION_FAILED) && error.text().contains("inequivalent arg 'durable'")
}
