//! A broker in memory, for tests of what is built on a [`Transport`]. It is stricter than RabbitMQ: a message that is
//! acknowledged or rejected twice, or both, is a panic.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    AckError, AckHandle, Delivery, Listen, Listener, MessageProperties, Publish, Published, Route, Transport,
    TransportError, envelope,
};

/// The way of one process to a broker. Clones are the same process; [`another_process`](Self::another_process) is not.
#[derive(Clone, Debug)]
pub struct MemoryTransport {
    broker: Arc<Broker>,
    process: u64,
}

/// What a broker did with messages so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub acknowledged: usize,
    pub dropped: usize,
    pub requeued: usize,
}

/// A message that was published, with its envelope taken off.
#[derive(Clone, Debug)]
pub struct Sent {
    pub route: Route,
    pub message: Map<String, Value>,
    pub body: Bytes,
    pub expiration: Option<Duration>,
    /// What the broker said to it.
    pub published: Published,
}

#[derive(Debug, Default)]
struct Broker {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<String, VecDeque<Message>>,
    /// Queues of fanout topics.
    fanouts: HashMap<String, Vec<String>>,
    held: HashMap<u64, HeldMessage>,
    sent: Vec<Sent>,
    settled: Settled,
    is_away: bool,
    closed: Vec<u64>,
    numbers: u64,
}

#[derive(Clone, Debug)]
struct Message {
    body: Bytes,
    properties: MessageProperties,
    expires_at: Option<Instant>,
    redelivered: bool,
}

#[derive(Debug)]
struct HeldMessage {
    queue: String,
    message: Message,
    process: u64,
    listener: u64,
}

impl Default for MemoryTransport {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryTransport {
    /// A process with a broker of its own.
    pub fn new() -> Self {
        Self { broker: Arc::default(), process: 0 }
    }

    /// One more process at the same broker.
    #[must_use]
    pub fn another_process(&self) -> Self {
        Self { broker: self.broker.clone(), process: self.broker.lock().number() }
    }

    /// Puts a message into a queue, as somebody would who keeps to no rules.
    pub fn put(&self, queue: &str, body: impl Into<Bytes>, properties: MessageProperties) {
        let message = Message { body: body.into(), properties, expires_at: None, redelivered: false };
        self.broker.lock().queues.entry(queue.into()).or_default().push_back(message);
        self.broker.changed.notify_waiters();
    }

    /// Puts a message into a queue, in an envelope and with the properties that belong to it.
    pub fn put_message(&self, queue: &str, message: Value) {
        let Value::Object(message) = message else { panic!("a message is an object, not {message}") };
        self.put(queue, envelope::seal(&message), MemoryTransport::properties());
    }

    /// The properties that messages have.
    pub fn properties() -> MessageProperties {
        MessageProperties {
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            ..MessageProperties::default()
        }
    }

    /// Cuts the connections of this process, which connects again at once: what it held is delivered again.
    pub fn cut_connections(&self) {
        self.broker.give_back(|held| held.process == self.process);
    }

    /// Takes the broker away or brings it back: what needs one waits.
    pub fn set_away(&self, is_away: bool) {
        self.broker.lock().is_away = is_away;
        self.broker.changed.notify_waiters();
    }

    pub fn queues(&self) -> Vec<String> {
        self.broker.lock().queues.keys().cloned().collect()
    }

    /// Messages that nobody holds.
    pub fn ready(&self, queue: &str) -> usize {
        self.broker.lock().queues.get(queue).map_or(0, VecDeque::len)
    }

    /// Messages that were delivered, and of which nothing was heard yet.
    pub fn held(&self) -> usize {
        self.broker.lock().held.len()
    }

    pub fn settled(&self) -> Settled {
        self.broker.lock().settled
    }

    /// All that was published, in order.
    pub fn sent(&self) -> Vec<Sent> {
        self.broker.lock().sent.clone()
    }

    /// Waits until `condition` holds, looking whenever something happened at the broker. Never gives up: the test's
    /// own limit of time does.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let mut changed = std::pin::pin!(self.broker.changed.notified());
        loop {
            changed.as_mut().enable();
            if condition(self) {
                return;
            }
            changed.as_mut().await;
            changed.set(self.broker.changed.notified());
        }
    }

    async fn connected(&self) -> Result<(), TransportError> {
        self.until(|transport| !transport.broker.lock().is_away || transport.is_closed()).await;
        if self.is_closed() { Err(TransportError::Closed) } else { Ok(()) }
    }

    fn is_closed(&self) -> bool {
        self.broker.lock().closed.contains(&self.process)
    }
}

impl Broker {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }

    /// Puts messages that somebody holds back to where they were, in the order in which they were delivered.
    fn give_back(&self, is_meant: impl Fn(&HeldMessage) -> bool) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let mut tags: Vec<u64> = state.held.iter().filter(|(_, held)| is_meant(held)).map(|(tag, _)| *tag).collect();
        tags.sort_unstable_by(|one, other| other.cmp(one));
        for tag in tags {
            state.requeue(tag);
        }
        drop(guard);
        self.changed.notify_waiters();
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn requeue(&mut self, tag: u64) {
        let HeldMessage { queue, mut message, .. } = self.held.remove(&tag).expect("the caller looked it up");
        message.redelivered = true;
        // A queue that was deleted takes nothing back.
        if let Some(queue) = self.queues.get_mut(&queue) {
            queue.push_front(message);
        }
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    async fn listen(&self, listen: Listen) -> Result<Box<dyn Listener>, TransportError> {
        self.connected().await?;
        let mut state = self.broker.lock();
        let id = state.number();
        let (queues, own_queue, fanout) = match listen {
            Listen::Server { topic, server } => {
                let own = format!("{topic}_fanout_{id:032x}");
                state.fanouts.entry(topic.clone()).or_default().push(own.clone());
                (vec![topic.clone(), format!("{topic}.{server}"), own.clone()], own, Some(topic))
            }
            Listen::Replies => {
                let own = format!("reply_{id:032x}");
                (vec![own.clone()], own, None)
            }
        };
        for queue in &queues {
            state.queues.entry(queue.clone()).or_default();
        }
        drop(state);
        let stopped = false;
        Ok(Box::new(MemoryListener { transport: self.clone(), id, queues, own_queue, fanout, stopped }))
    }

    async fn publish(&self, publish: Publish) -> Result<Published, TransportError> {
        let connected = self.connected();
        match publish.give_up_after {
            None => connected.await?,
            Some(after) => tokio::time::timeout(after, connected).await.unwrap_or_else(|_| {
                Err(TransportError::Unreachable { after, what: "the broker in memory is away".into() })
            })?,
        }
        let Publish { route, body, expiration, .. } = publish;
        let properties = MessageProperties {
            expiration: expiration.map(|expiration| expiration.as_millis().to_string()),
            ..MemoryTransport::properties()
        };
        let expires_at = expiration.map(|expiration| Instant::now() + expiration);
        let stored = Message { body: body.clone(), properties, expires_at, redelivered: false };
        let message = envelope::open(&body, &stored.properties, usize::MAX).expect("what is published can be read");

        let mut guard = self.broker.lock();
        let state = &mut *guard;
        let queues = match &route {
            Route::Topic { key } => vec![key.clone()],
            Route::Fanout { topic } => state.fanouts.get(topic).cloned().unwrap_or_default(),
            Route::Reply { queue } => vec![queue.clone()],
        };
        let mut published =
            if matches!(route, Route::Reply { .. }) { Published::NobodyThere } else { Published::Taken };
        for queue in queues {
            if let Some(queue) = state.queues.get_mut(&queue) {
                queue.push_back(stored.clone());
                published = Published::Taken;
            }
        }
        state.sent.push(Sent { route, message, body, expiration, published });
        drop(guard);
        self.broker.changed.notify_waiters();
        Ok(published)
    }

    async fn close(&self) {
        self.broker.lock().closed.push(self.process);
        self.cut_connections();
    }
}

#[derive(Debug)]
struct MemoryListener {
    transport: MemoryTransport,
    id: u64,
    queues: Vec<String>,
    /// The one that goes when the listener goes.
    own_queue: String,
    fanout: Option<String>,
    stopped: bool,
}

impl MemoryListener {
    fn take(&self) -> Option<Delivery> {
        let mut guard = self.transport.broker.lock();
        let state = &mut *guard;
        if state.is_away {
            return None;
        }
        let now = Instant::now();
        for name in &self.queues {
            let Some(queue) = state.queues.get_mut(name) else { continue };
            queue.retain(|message| message.expires_at.is_none_or(|expires_at| expires_at > now));
            let Some(message) = queue.pop_front() else { continue };
            let delivery = (message.body.clone(), message.properties.clone(), message.redelivered);
            let tag = state.number();
            let (process, listener) = (self.transport.process, self.id);
            state.held.insert(tag, HeldMessage { queue: name.clone(), message, process, listener });
            let (body, properties, redelivered) = delivery;
            let ack = MemoryAck { broker: self.transport.broker.clone(), tag, used: Mutex::new(false) };
            return Some(Delivery { body, properties, redelivered, ack: Box::new(ack) });
        }
        None
    }
}

#[async_trait]
impl Listener for MemoryListener {
    async fn next(&mut self) -> Option<Delivery> {
        let mut taken = None;
        self.transport
            .until(|transport| {
                let is_over = self.stopped || transport.is_closed();
                if !is_over {
                    taken = self.take();
                }
                is_over || taken.is_some()
            })
            .await;
        self.transport.broker.changed.notify_waiters();
        taken
    }

    async fn stop(&mut self) {
        self.stopped = true;
    }

    fn reply_queue(&self) -> Option<&str> {
        self.fanout.is_none().then_some(self.own_queue.as_str())
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        self.transport.broker.give_back(|held| held.listener == self.id);
        let mut state = self.transport.broker.lock();
        state.queues.remove(&self.own_queue);
        if let Some(queues) = self.fanout.as_ref().and_then(|topic| state.fanouts.get_mut(topic)) {
            queues.retain(|queue| *queue != self.own_queue);
        }
        drop(state);
        self.transport.broker.changed.notify_waiters();
    }
}

#[derive(Debug)]
struct MemoryAck {
    broker: Arc<Broker>,
    tag: u64,
    used: Mutex<bool>,
}

impl MemoryAck {
    fn settle(&self, how: impl FnOnce(&mut State, u64)) -> Result<(), AckError> {
        let was_used = std::mem::replace(&mut *self.used.lock().expect("nothing panics under this lock"), true);
        assert!(!was_used, "a message was acknowledged or rejected a second time");
        let mut state = self.broker.lock();
        let is_held = state.held.contains_key(&self.tag);
        if is_held {
            how(&mut state, self.tag);
        }
        drop(state);
        self.broker.changed.notify_waiters();
        if is_held { Ok(()) } else { Err(AckError) }
    }
}

#[async_trait]
impl AckHandle for MemoryAck {
    async fn ack(&self) -> Result<(), AckError> {
        self.settle(|state, tag| {
            state.held.remove(&tag);
            state.settled.acknowledged += 1;
        })
    }

    async fn reject(&self, requeue: bool) -> Result<(), AckError> {
        self.settle(|state, tag| {
            if requeue {
                state.requeue(tag);
                state.settled.requeued += 1;
            } else {
                state.held.remove(&tag);
                state.settled.dropped += 1;
            }
        })
    }
}
