//! Hands messages to a broker, and waits until it has confirmed them.
//!
//! All go over one connection, which is opened when it is first needed and never consumes anything: a broker that is
//! out of memory or disk stops reading from who publishes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, MAX_SHORT_STRING_LENGTH};
use lapin::{BasicProperties, Channel, Confirmation, Event};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{Connector, Link, LinkError, within};
use super::dead_queues::DeadQueues;
use super::declare::{Declarer, PRECONDITION_FAILED};
use super::hosts::Hosts;
use super::options::RabbitOptions;
use super::status::{LinkStatus, Reporter};
use super::topology::{self, Exchange};
use crate::messaging::compression::COMPRESSION_HEADER;
use crate::messaging::{Publish, Published, Route, TransportError};

/// Sends everything that a transport sends.
#[derive(Debug)]
pub(super) struct Publisher {
    connector: Connector,
    options: RabbitOptions,
    control_exchange: Exchange,
    /// Held while the connection is made, so that only one is.
    hosts: tokio::sync::Mutex<Hosts>,
    link: Mutex<Option<Arc<SendLink>>>,
    reporter: OnceLock<Reporter>,
    dead_queues: Mutex<DeadQueues>,
    closing: CancellationToken,
    under_way: TaskTracker,
}

/// The connection with its two channels.
#[derive(Debug)]
struct SendLink {
    /// Any number of messages at a time.
    requests: Channel,
    /// One at a time: a message that the broker returns is told by the confirmation that follows it.
    replies: tokio::sync::Mutex<Channel>,
    declared: tokio::sync::Mutex<HashSet<String>>,
    /// When the first message was sent that the broker has not answered in any way since.
    unanswered_since: Mutex<Option<Instant>>,
    events: AbortHandle,
    link: Link,
}

/// A message as it goes to the broker.
#[derive(Debug)]
struct Message {
    exchange: Option<Exchange>,
    routing_key: String,
    is_reply: bool,
    body: Bytes,
    properties: BasicProperties,
}

/// What became of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Taken,
    Returned,
    Refused,
}

impl Publisher {
    pub(super) fn new(connector: Connector, options: RabbitOptions, control_exchange: &str, hosts: Hosts) -> Self {
        let limits = &connector.limits;
        let dead_queues = DeadQueues::new(limits.dead_queue, limits.dead_queues_max);
        Self {
            control_exchange: topology::control_exchange(&options, control_exchange),
            connector,
            options,
            hosts: tokio::sync::Mutex::new(hosts),
            link: Mutex::new(None),
            reporter: OnceLock::new(),
            dead_queues: Mutex::new(dead_queues),
            closing: CancellationToken::new(),
            under_way: TaskTracker::new(),
        }
    }

    pub(super) fn status(&self) -> Option<LinkStatus> {
        self.reporter.get().map(Reporter::status)
    }

    pub(super) async fn publish(&self, publish: Publish) -> Result<Published, TransportError> {
        if self.closing.is_cancelled() {
            return Err(TransportError::Closed);
        }
        let _under_way = self.under_way.token();
        let give_up_after = publish.give_up_after;
        let message = self.message(publish)?;
        let publish = async {
            if message.is_reply {
                self.reply(&message).await
            } else {
                self.until_confirmed(&message).await.map(|_| Published::Taken)
            }
        };
        let Some(after) = give_up_after else { return publish.await };
        tokio::time::timeout(after, publish).await.unwrap_or_else(|_| {
            let what = self.status().and_then(|status| status.last_error);
            let what = what.unwrap_or_else(|| "it has not confirmed the message".into());
            Err(TransportError::Unreachable { after, what })
        })
    }

    /// Takes nothing more, waits for what is under way, and ends the connection.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.under_way.close();
        if tokio::time::timeout(self.connector.limits.close, self.under_way.wait()).await.is_err() {
            tracing::warn!(messages = self.under_way.len(), "messages are left that no message broker has confirmed");
        }
        let link = self.current().take();
        if let Some(link) = link {
            link.link.close(&self.connector.limits).await;
            if let Some(reporter) = self.reporter.get() {
                reporter.closed();
            }
        }
    }

    fn message(&self, publish: Publish) -> Result<Message, TransportError> {
        let (exchange, routing_key, is_reply) = match publish.route {
            Route::Topic { key } => (Some(self.control_exchange.clone()), key, false),
            Route::Fanout { topic } => (Some(topology::fanout_exchange(&self.options, &topic)), String::new(), false),
            Route::Reply { queue } => (None, queue, true),
        };
        let longest = exchange.iter().map(|it| it.name.len()).chain([routing_key.len()]).max();
        if longest > Some(MAX_SHORT_STRING_LENGTH) {
            return Err(TransportError::Refused(format!(
                "a name of {} bytes is longer than the {MAX_SHORT_STRING_LENGTH} that AMQP has room for",
                longest.unwrap_or_default()
            )));
        }
        let mut headers = FieldTable::default();
        let body = match self.options.compression {
            None => publish.body,
            Some(method) => {
                headers.insert(COMPRESSION_HEADER.into(), AMQPValue::LongString(method.header().into()));
                method.compress(&publish.body).into()
            }
        };
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_headers(headers)
            // Persistent, which a queue heeds that is durable itself.
            .with_delivery_mode(2)
            .with_priority(0);
        if let Some(expiration) = publish.expiration {
            properties = properties.with_expiration(expiration.as_millis().to_string().into());
        }
        Ok(Message { exchange, routing_key, is_reply, body, properties })
    }

    /// Tries until the queue of the reply is there, but not for ever.
    async fn reply(&self, message: &Message) -> Result<Published, TransportError> {
        let queue = &message.routing_key;
        if self.dead_queues().contains(queue) {
            tracing::debug!(queue, "a reply is dropped: nobody waits for it any more");
            return Ok(Published::NobodyThere);
        }
        let end = Instant::now() + self.options.missing_consumer_retry_timeout;
        loop {
            if self.until_confirmed(message).await? == Attempt::Taken {
                return Ok(Published::Taken);
            }
            if Instant::now() >= end {
                tracing::info!(queue, "a reply is dropped: its queue is gone, and so is who waited for it");
                self.dead_queues().insert(queue);
                return Ok(Published::NobodyThere);
            }
            tokio::select! {
                () = self.closing.cancelled() => return Err(TransportError::Closed),
                () = tokio::time::sleep(self.connector.limits.reply_retry) => {}
            }
        }
    }

    /// Tries until a broker has the message, or has returned it.
    async fn until_confirmed(&self, message: &Message) -> Result<Attempt, TransportError> {
        loop {
            let link = tokio::select! {
                () = self.closing.cancelled() => return Err(TransportError::Closed),
                link = self.connected() => link,
            };
            match self.attempt(&link, message).await {
                Ok(Attempt::Refused) => {
                    // The broker could not store it. It is up, so it gets a moment.
                    tracing::warn!(broker = link.link.broker, "the message broker did not take a message; trying on");
                    tokio::time::sleep(self.connector.limits.reply_retry).await;
                }
                Ok(attempt) => return Ok(attempt),
                Err(error) if error.code() == Some(PRECONDITION_FAILED) && link.link.is_up() => {
                    return Err(TransportError::Refused(error.text()));
                }
                Err(error) => self.discard(&link, &error),
            }
        }
    }

    async fn attempt(&self, link: &SendLink, message: &Message) -> Result<Attempt, LinkError> {
        if let Some(exchange) = &message.exchange {
            link.declare(exchange, &self.connector).await?;
        }
        let limit = self.connector.limits.confirm;
        if !message.is_reply {
            return link.confirm(&link.requests, message, false, limit).await;
        }
        let channel = link.replies.lock().await;
        link.confirm(&channel, message, self.options.direct_mandatory_flag, limit).await
    }

    /// The connection, made if there is none. Cancel safe: the next who asks goes on.
    async fn connected(&self) -> Arc<SendLink> {
        if let Some(link) = self.usable() {
            return link;
        }
        let mut hosts = self.hosts.lock().await;
        // Somebody else may have made it by now.
        if let Some(link) = self.usable() {
            return link;
        }
        let reporter = self.reporter.get_or_init(|| Reporter::new("sending".into()));
        loop {
            let (host, pause) = hosts.next();
            tokio::time::sleep(pause).await;
            match SendLink::open(&self.connector, &host, reporter).await {
                Ok(link) => {
                    hosts.connected();
                    let link = Arc::new(link);
                    *self.current() = Some(Arc::clone(&link));
                    return link;
                }
                Err(error) => reporter.failed(&host.to_string(), &error.text()),
            }
        }
    }

    /// The connection, if it is one. A broker that has answered nothing for too long is left.
    fn usable(&self) -> Option<Arc<SendLink>> {
        let link = self.current().clone()?;
        let limit = self.connector.limits.confirm;
        if !link.is_up() {
            self.discard(&link, &LinkError::Ended("closed the connection"));
            return None;
        }
        if link.is_silent(limit) {
            self.discard(&link, &LinkError::Silent(limit));
            return None;
        }
        Some(link)
    }

    fn discard(&self, link: &Arc<SendLink>, error: &LinkError) {
        let mut current = self.current();
        // Not the one that somebody else has made since.
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            *current = None;
            drop(current);
            if let Some(reporter) = self.reporter.get() {
                reporter.failed(&link.link.broker, &error.text());
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<SendLink>>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dead_queues(&self) -> MutexGuard<'_, DeadQueues> {
        self.dead_queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SendLink {
    async fn open(connector: &Connector, host: &super::url::Host, reporter: &Reporter) -> Result<Self, LinkError> {
        let limits = &connector.limits;
        let link = connector.connect(host).await?;
        let events = link.events();
        let requests = confirming(&link, connector).await?;
        let replies = confirming(&link, connector).await?;
        let (reporter, broker) = (reporter.clone(), link.broker.clone());
        reporter.connected(&broker);
        let events = tokio::spawn(async move {
            let mut events = Box::pin(events);
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => reporter.blocked(&broker, &reason),
                    Event::ConnectionUnblocked => reporter.unblocked(&broker),
                    Event::Error(error) => reporter.failed(&broker, &LinkError::from(error).text()),
                    _ => {}
                }
            }
        });
        tracing::debug!(broker = link.broker, limit_s = limits.confirm.as_secs(), "ready to send");
        Ok(Self {
            requests,
            replies: tokio::sync::Mutex::new(replies),
            declared: tokio::sync::Mutex::default(),
            unanswered_since: Mutex::new(None),
            events: events.abort_handle(),
            link,
        })
    }

    fn is_up(&self) -> bool {
        self.link.is_up() && self.requests.status().connected()
    }

    /// Declares an exchange before the first message to it. On a channel of its own, since a refusal closes the channel.
    async fn declare(&self, exchange: &Exchange, connector: &Connector) -> Result<(), LinkError> {
        let mut declared = self.declared.lock().await;
        if declared.contains(&exchange.name) {
            return Ok(());
        }
        let limits = connector.limits;
        let mut declarer = Declarer::new(&self.link, 0, limits).await?;
        declarer.exchange(exchange).await?;
        declared.insert(exchange.name.clone());
        within(limits.command, declarer.channel.close(200, "OK".into())).await
    }

    /// Sends, and waits until the broker has confirmed.
    async fn confirm(
        &self,
        channel: &Channel,
        message: &Message,
        mandatory: bool,
        limit: Duration,
    ) -> Result<Attempt, LinkError> {
        let exchange = message.exchange.as_ref().map_or("", |exchange| exchange.name.as_str());
        let options = BasicPublishOptions { mandatory, immediate: false };
        let send = async {
            let key = message.routing_key.as_str().into();
            channel.basic_publish(exchange.into(), key, options, &message.body, message.properties.clone()).await?.await
        };
        let mut send = Box::pin(send);
        self.unanswered().get_or_insert_with(Instant::now);
        let confirmation = loop {
            match tokio::time::timeout(limit, &mut send).await {
                Ok(confirmation) => break confirmation?,
                // It has the message, or will read it when it has memory and disk again.
                Err(_) if self.link.is_blocked() => {}
                Err(_) => return Err(LinkError::Silent(limit)),
            }
        };
        *self.unanswered() = None;
        Ok(match confirmation {
            Confirmation::Ack(None) => Attempt::Taken,
            // After an attempt that was given up, it could be that one's; then once more does no harm.
            Confirmation::Ack(Some(_)) => Attempt::Returned,
            Confirmation::Nack(_) | Confirmation::NotRequested => Attempt::Refused,
        })
    }

    fn is_silent(&self, limit: Duration) -> bool {
        !self.link.is_blocked() && self.unanswered().is_some_and(|since| since.elapsed() > limit)
    }

    fn unanswered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unanswered_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SendLink {
    fn drop(&mut self) {
        self.events.abort();
    }
}

async fn confirming(link: &Link, connector: &Connector) -> Result<Channel, LinkError> {
    let channel = link.channel(&connector.limits).await?;
    within(connector.limits.command, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}
