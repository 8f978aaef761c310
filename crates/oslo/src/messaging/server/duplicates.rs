//! Which requests are being handled and which were: a message that comes twice is done once.
//!
//! Only identifiers of requests that were handled to their end are remembered. One that is being handled takes further
//! deliveries of the same message to it, and all are acknowledged when it ends; if it never ends, none is.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::ServerLimits;
use crate::messaging::AckHandle;

/// A delivery that the broker waits to hear of.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` if it was acknowledged before it was handled.
    pub(super) ack: Option<Box<dyn AckHandle>>,
    /// A place among those that may be held at once.
    pub(super) _place: OwnedSemaphorePermit,
}

/// A reply that was sent, for a caller that perhaps never got it.
#[derive(Clone, Debug)]
pub(super) struct KeptReply {
    pub(super) queue: String,
    pub(super) body: Bytes,
}

#[derive(Debug)]
pub(super) enum Arrival {
    /// To be handled. `Some` if the message has no identifier by which another delivery of it could be known.
    First(Option<Held>),
    /// It is being handled; this delivery will be acknowledged with the first.
    Joined,
    /// It was handled: to be acknowledged.
    Again(Held, Option<KeptReply>),
}

#[derive(Debug, Default)]
pub(super) struct Duplicates {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: HashMap<String, Vec<Held>>,
    handled: HashMap<String, Option<KeptReply>>,
    /// The same identifiers, oldest first.
    handled_in_order: VecDeque<String>,
    /// Those of them whose reply is kept, oldest first.
    kept_in_order: VecDeque<String>,
}

impl Duplicates {
    pub(super) fn arrive(&self, unique_id: Option<&str>, held: Held) -> Arrival {
        let Some(unique_id) = unique_id else { return Arrival::First(Some(held)) };
        let mut state = self.lock();
        if let Some(deliveries) = state.running.get_mut(unique_id) {
            deliveries.push(held);
            return Arrival::Joined;
        }
        if let Some(reply) = state.handled.get(unique_id) {
            return Arrival::Again(held, reply.clone());
        }
        state.running.insert(unique_id.into(), vec![held]);
        Arrival::First(None)
    }

    /// Notes that a request was handled to its end, and returns its deliveries, which are to be acknowledged.
    pub(super) fn ended(&self, unique_id: &str, reply: Option<KeptReply>, limits: &ServerLimits) -> Vec<Held> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let deliveries = state.running.remove(unique_id).unwrap_or_default();
        let reply = reply.filter(|reply| reply.body.len() <= limits.kept_reply_bytes_max);
        let is_kept = reply.is_some();
        if state.handled.insert(unique_id.into(), reply).is_none() {
            state.handled_in_order.push_back(unique_id.into());
        }
        if is_kept {
            state.kept_in_order.push_back(unique_id.into());
        }
        if state.kept_in_order.len() > limits.kept_replies_max
            && let Some(oldest) = state.kept_in_order.pop_front()
            && let Some(reply) = state.handled.get_mut(&oldest)
        {
            *reply = None;
        }
        if state.handled_in_order.len() > limits.handled_ids_max
            && let Some(oldest) = state.handled_in_order.pop_front()
        {
            state.handled.remove(&oldest);
        }
        deliveries
    }

    /// Forgets a request that was not handled. The broker will deliver it again.
    pub(super) fn abandoned(&self, unique_id: &str) {
        // Handles are dropped outside of the lock, whatever their owner does then.
        let deliveries = self.lock().running.remove(unique_id);
        drop(deliveries);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}
