//! The reply queue of a client, and who waits for what comes there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::messaging::{Delivery, Failure, Listen, Listener, Transport, TransportError, envelope};

/// Signs of life that a caller may be behind with. More than one tells it nothing new.
const UNREAD_REPLIES_MAX: usize = 8;

#[derive(Debug)]
pub(super) enum Reply {
    /// The call is being handled.
    AtWork,
    Result(Value),
    Failure(Failure),
}

#[derive(Debug)]
pub(super) struct Replies {
    transport: Arc<dyn Transport>,
    bytes_max: usize,
    waiters: Arc<Waiters>,
    /// Made for the first call, and made again if it should ever end.
    queue: AsyncMutex<Option<ReplyQueue>>,
}

#[derive(Debug)]
struct ReplyQueue {
    name: String,
    reader: AbortOnDropHandle<()>,
}

/// Who waits, by the identifier of the call.
#[derive(Debug, Default)]
struct Waiters(Mutex<HashMap<String, mpsc::Sender<Reply>>>);

impl Replies {
    pub(super) fn new(transport: Arc<dyn Transport>, bytes_max: usize) -> Self {
        Self { transport, bytes_max, waiters: Arc::default(), queue: AsyncMutex::default() }
    }

    /// The queue that replies are to be sent to. Waits until a broker has it.
    pub(super) async fn queue(&self) -> Result<String, TransportError> {
        let mut queue = self.queue.lock().await;
        if let Some(queue) = queue.as_ref().filter(|queue| !queue.reader.is_finished()) {
            return Ok(queue.name.clone());
        }
        let listener = self.transport.listen(Listen::Replies).await?;
        let name = listener.reply_queue().ok_or(TransportError::Closed)?.to_owned();
        let reader = tokio::spawn(read(listener, Arc::downgrade(&self.waiters), self.bytes_max));
        *queue = Some(ReplyQueue { name: name.clone(), reader: AbortOnDropHandle::new(reader) });
        Ok(name)
    }

    /// Takes replies to a call from now on, until what is returned is dropped.
    pub(super) fn wait_for(&self, msg_id: &str) -> Waiting {
        let (sender, replies) = mpsc::channel(UNREAD_REPLIES_MAX);
        self.waiters.lock().insert(msg_id.into(), sender);
        Waiting { waiters: self.waiters.clone(), msg_id: msg_id.into(), replies }
    }
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiting {
    waiters: Arc<Waiters>,
    msg_id: String,
    replies: mpsc::Receiver<Reply>,
}

impl Waiting {
    pub(super) async fn next(&mut self) -> Reply {
        self.replies.recv().await.expect("the sender stays among the waiters while there is one who waits")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waiters.lock().remove(&self.msg_id);
    }
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Reply>>> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    fn give(&self, msg_id: &str, reply: Reply) {
        match self.lock().get(msg_id) {
            // It ended, and what came is a second reply or a late one.
            None => debug!(msg_id, "nobody waits for this reply"),
            // It is full of signs of life, or has an end already that is not read yet. An end is what must not be lost.
            Some(waiter) => {
                if waiter.capacity() > 1 || !matches!(reply, Reply::AtWork) {
                    let _ = waiter.try_send(reply);
                }
            }
        }
    }
}

async fn read(mut listener: Box<dyn Listener>, waiters: Weak<Waiters>, bytes_max: usize) {
    while let Some(delivery) = listener.next().await {
        let Some(waiters) = waiters.upgrade() else { break };
        let Delivery { body, properties, ack, .. } = delivery;
        // First, as upstream: a reply that brings this down would do so again.
        if let Err(error) = ack.ack().await {
            debug!(%error, "a reply was not acknowledged");
        }
        let mut message = match envelope::open(&body, &properties, bytes_max) {
            Ok(message) => message,
            Err(reason) => {
                warn!(%reason, "a reply is dropped because it cannot be read");
                continue;
            }
        };
        let mut take = |key: &str| message.get_mut(key).map(Value::take).unwrap_or_default();
        let Value::String(msg_id) = take("_msg_id") else {
            warn!("a reply is dropped because it does not say to what");
            continue;
        };
        let (failure, ending) = (take("failure"), take("ending"));
        let reply = match ending {
            _ if !failure.is_null() && failure != "" => Reply::Failure(Failure::from_reply(&failure)),
            Value::Bool(true) => Reply::Result(take("result")),
            _ => Reply::AtWork,
        };
        waiters.give(&msg_id, reply);
    }
}
