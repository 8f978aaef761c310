//! Keeps queues consumed, over all losses of the connection.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use lapin::message::Delivery as AmqpDelivery;
use lapin::options::{BasicCancelOptions, BasicRejectOptions, QueueDeleteOptions};
use lapin::{Channel, Consumer, Event};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamMap;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect::{Connector, Link, LinkError, within};
use super::declare::{Declarer, INTERNAL_ERROR, PRECONDITION_FAILED};
use super::hosts::Hosts;
use super::listener::{Arrived, Offset, RabbitListener};
use super::status::Reporter;
use super::topology::Subscription;
use super::url::Host;
use crate::messaging::TransportError;

/// How long a broker gets that had an internal error while it made a queue.
const INTERNAL_ERROR_PAUSE: Duration = Duration::from_secs(2);

/// The side of the broker: connects, declares, consumes, and starts again.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) connector: Connector,
    pub(super) hosts: Hosts,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) prefetch_count: u16,
    pub(super) reconnect_delay: Duration,
    pub(super) reporter: Reporter,
}

/// What the supervisor has of its listener.
#[derive(Debug)]
struct Ends {
    deliveries: Option<mpsc::Sender<Arrived>>,
    stop: mpsc::Receiver<oneshot::Sender<()>>,
    end: CancellationToken,
    offset: Offset,
}

/// A connection on which everything is consumed.
struct Session {
    // Before the link, which ends all of them.
    consumers: Consumers,
    channel: Channel,
    link: Link,
}

type Consumers = StreamMap<usize, Pin<Box<dyn Stream<Item = Consumed> + Send>>>;

/// What comes from a consumer.
enum Consumed {
    Message(Box<AmqpDelivery>),
    Failed(lapin::Error),
    Ended,
}

/// Why a session is over.
enum Over {
    Lost(LinkError),
    Wanted,
}

impl Supervisor {
    /// Starts to listen on a task of `tracker`; waits until everything is consumed. Ends with the listener, and with
    /// `end`.
    pub(super) async fn start(
        self,
        end: CancellationToken,
        tracker: &TaskTracker,
        reply_queue: Option<String>,
    ) -> Result<RabbitListener, TransportError> {
        let limits = self.connector.limits;
        let (deliveries, taken) = mpsc::channel(limits.deliveries_waiting_max);
        let (stop, stopped) = mpsc::channel(1);
        let (ready, is_ready) = oneshot::channel();
        let offset = Offset::default();
        let guard = end.clone().drop_guard();
        let ends = Ends { deliveries: Some(deliveries), stop: stopped, end, offset: offset.clone() };
        tracker.spawn(self.run(ends, ready));
        match is_ready.await {
            Ok(Ok(())) => Ok(RabbitListener {
                deliveries: taken,
                stop,
                reply_queue,
                offset,
                command_limit: limits.command,
                _end: guard,
            }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TransportError::Closed),
        }
    }

    async fn run(mut self, mut ends: Ends, ready: oneshot::Sender<Result<(), TransportError>>) {
        let mut ready = Some(ready);
        loop {
            let (host, pause) = self.hosts.next();
            let opened = tokio::select! {
                () = ends.end.cancelled() => break,
                stopped = ends.stop.recv() => {
                    // There is nothing to stop, and nothing more will come.
                    let _ = stopped.map(|stopped| stopped.send(()));
                    break;
                }
                opened = async {
                    tokio::time::sleep(pause).await;
                    self.open(&host, &ends.offset).await
                } => opened,
            };
            let broker = host.to_string();
            let error = match opened {
                Ok(session) => {
                    self.hosts.connected();
                    self.reporter.connected(&broker);
                    if let Some(ready) = ready.take() {
                        // Who does not wait any more has dropped what cancels us, too.
                        let _ = ready.send(Ok(()));
                    }
                    match self.consume(session, &mut ends).await {
                        Over::Lost(error) => error,
                        Over::Wanted => break,
                    }
                }
                Err(error) => {
                    if error.code() == Some(PRECONDITION_FAILED)
                        && let Some(ready) = ready.take()
                    {
                        let _ = ready.send(Err(refused(&error)));
                        break;
                    }
                    error
                }
            };
            self.reporter.failed(&broker, &error.text());
            if error.code() == Some(INTERNAL_ERROR) {
                tokio::select! {
                    () = ends.end.cancelled() => break,
                    () = tokio::time::sleep(INTERNAL_ERROR_PAUSE) => {}
                }
            }
        }
        self.reporter.closed();
    }

    /// Connects, declares everything, and consumes it.
    async fn open(&self, host: &Host, offset: &Offset) -> Result<Session, LinkError> {
        let limits = self.connector.limits;
        let link = self.connector.connect(host).await?;
        let mut declarer = Declarer::new(&link, self.prefetch_count, limits).await?;
        for subscription in &self.subscriptions {
            declarer.subscription(subscription).await?;
        }
        let mut consumers = Consumers::new();
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            let consumer = declarer.consume(subscription, &tag(index), offset.next()).await?;
            consumers.insert(index, consumed(consumer));
        }
        let channel = declarer.channel;
        Ok(Session { consumers, channel, link })
    }

    /// Hands out what comes, until the connection is lost or the listener wants no more.
    async fn consume(&self, mut session: Session, ends: &mut Ends) -> Over {
        let limits = self.connector.limits;
        let mut events = Box::pin(session.link.events());
        let mut waiting: Option<Arrived> = None;
        let mut is_stopping = false;
        let over = loop {
            if is_stopping && waiting.is_none() && session.consumers.is_empty() {
                // Nothing more comes. The connection stays for acknowledgements.
                ends.deliveries = None;
                ends.end.cancelled().await;
                break Over::Wanted;
            }
            // What is received is handled below: none of these loses anything when another one is first.
            enum Next {
                End,
                Stop(oneshot::Sender<()>),
                Event(Event),
                Handed,
                Consumed(usize, Consumed),
            }
            let next = tokio::select! {
                biased;
                () = ends.end.cancelled() => Next::End,
                Some(stopped) = ends.stop.recv() => Next::Stop(stopped),
                Some(event) = events.next() => Next::Event(event),
                () = hand_out(&mut waiting, ends.deliveries.as_ref()), if waiting.is_some() => Next::Handed,
                Some((index, consumed)) = session.consumers.next(), if waiting.is_none() => {
                    Next::Consumed(index, consumed)
                }
            };
            match next {
                Next::End => break Over::Wanted,
                Next::Stop(stopped) => {
                    is_stopping = true;
                    self.stop(&session.channel).await;
                    let _ = stopped.send(());
                }
                Next::Event(Event::ConnectionBlocked(reason)) => self.reporter.blocked(&session.link.broker, &reason),
                Next::Event(Event::ConnectionUnblocked) => self.reporter.unblocked(&session.link.broker),
                Next::Consumed(index, Consumed::Message(message)) => {
                    let is_from_stream = self.subscriptions[index].is_stream;
                    if message.data.len() <= limits.body_bytes_max {
                        waiting = Some(Arrived { message, is_from_stream });
                    } else {
                        self.reject_oversized(&message).await;
                    }
                }
                Next::Event(Event::Error(error)) | Next::Consumed(_, Consumed::Failed(error)) => {
                    break Over::Lost(error.into());
                }
                Next::Event(_) | Next::Handed => {}
                Next::Consumed(index, Consumed::Ended) => {
                    session.consumers.remove(&index);
                    if is_stopping {
                        continue;
                    }
                    if let Err(error) = self.consume_again(&mut session, index, &ends.offset).await {
                        break Over::Lost(error);
                    }
                }
            }
        };
        if matches!(over, Over::Wanted) {
            session.link.close(&limits).await;
        } else if is_stopping {
            // There is nothing that a new connection would be for.
            return Over::Wanted;
        }
        over
    }

    /// The broker ended one consumer, as it does when a queue is deleted or moves to another node.
    async fn consume_again(&self, session: &mut Session, index: usize, offset: &Offset) -> Result<(), LinkError> {
        let subscription = &self.subscriptions[index];
        if !session.link.is_up() || !session.channel.status().connected() {
            return Err(LinkError::Ended("closed the channel"));
        }
        tracing::warn!(
            queue = subscription.queue.name,
            broker = session.link.broker,
            "the message broker ended the consumer of the queue; declaring and consuming it again"
        );
        tokio::time::sleep(self.reconnect_delay).await;
        let channel = session.channel.clone();
        let mut declarer = Declarer::on(&session.link, channel, self.prefetch_count, self.connector.limits);
        declarer.subscription(subscription).await?;
        if declarer.channel.id() != session.channel.id() {
            // The broker refused something and closed the channel, with all the consumers on it.
            return Err(LinkError::Ended("closed the channel"));
        }
        let consumer = declarer.consume(subscription, &tag(index), offset.next()).await?;
        session.consumers.insert(index, consumed(consumer));
        Ok(())
    }

    /// Consumes no more, and takes away what is this listener's alone.
    async fn stop(&self, channel: &Channel) {
        let limit = self.connector.limits.close;
        for (index, subscription) in self.subscriptions.iter().enumerate() {
            let cancel = channel.basic_cancel(tag(index).into(), BasicCancelOptions::default());
            let mut result = within(limit, cancel).await;
            if result.is_ok() && subscription.delete_at_stop {
                let name = subscription.queue.name.clone().into();
                let delete = channel.queue_delete(name, QueueDeleteOptions::default());
                result = within(limit, delete).await.map(|_| ());
            }
            if let Err(error) = result {
                let queue = &subscription.queue.name;
                tracing::warn!(queue, error = error.text(), "the message broker did not stop the consumer cleanly");
                break;
            }
        }
    }

    async fn reject_oversized(&self, message: &AmqpDelivery) {
        let limits = &self.connector.limits;
        tracing::error!(
            routing_key = message.routing_key.as_str(),
            bytes = message.data.len(),
            limit_bytes = limits.body_bytes_max,
            "a message is larger than any of ours can be, and is dropped"
        );
        let reject = message.acker.reject(BasicRejectOptions { requeue: false });
        if let Err(error) = within(limits.command, reject).await {
            tracing::warn!(error = error.text(), "the message could not be rejected, and will come again");
        }
    }
}

fn refused(error: &LinkError) -> TransportError {
    TransportError::Refused(format!(
        "{}; a queue or exchange is there with other properties: set the options of [oslo_messaging_rabbit] as for the \
         other services of this cloud, or delete it",
        error.text()
    ))
}

/// What the broker calls the consumer.
fn tag(index: usize) -> String {
    (index + 1).to_string()
}

fn consumed(consumer: Consumer) -> Pin<Box<dyn Stream<Item = Consumed> + Send>> {
    let messages = consumer.map(|item| match item {
        Ok(message) => Consumed::Message(Box::new(message)),
        Err(error) => Consumed::Failed(error),
    });
    Box::pin(messages.chain(futures_util::stream::iter([Consumed::Ended])))
}

/// Waits for room, and hands the message out. Cancel safe: it stays in `waiting` until then.
async fn hand_out(waiting: &mut Option<Arrived>, deliveries: Option<&mpsc::Sender<Arrived>>) {
    let Some(deliveries) = deliveries else { return };
    if let Ok(room) = deliveries.reserve().await
        && let Some(arrived) = waiting.take()
    {
        room.send(arrived);
    } else {
        // Nobody takes it any more, and our end comes with that.
        waiting.take();
    }
}
