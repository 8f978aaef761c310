//! Sends results to callers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::ServerLimits;
use super::request::ReplyTo;
use crate::messaging::envelope::{seal, unique_id};
use crate::messaging::{Failure, Publish, Published, Route, Transport};

#[derive(Debug)]
pub(super) struct Replies {
    transport: Arc<dyn Transport>,
}

impl Replies {
    pub(super) fn new(transport: Arc<dyn Transport>) -> Self {
        Self { transport }
    }

    /// The body of the one reply that ends a call.
    pub(super) fn body(reply_to: &ReplyTo, outcome: &Result<Value, Failure>, limits: &ServerLimits) -> Bytes {
        let body = message(reply_to, outcome, true);
        if body.len() <= limits.reply_bytes_max {
            return body;
        }
        let (bytes, limit) = (body.len(), limits.reply_bytes_max);
        error!(bytes, limit, "the result of a call is too large to be sent; its caller is told so");
        let told = format!("the result has {bytes} bytes as a message; the limit is {limit}");
        message(reply_to, &Err(Failure::internal(told)), true)
    }

    /// Tells a caller that it is still being worked for. `false` if there is no caller any more.
    pub(super) async fn heartbeat(&self, reply_to: &ReplyTo, queue: &str, patience: Duration) -> bool {
        let body = message(reply_to, &Ok(Value::Null), false);
        match timeout(patience, self.transport.publish(publish(queue, body, patience))).await {
            Ok(Ok(published)) => published == Published::Taken,
            Ok(Err(error)) => {
                debug!(%error, queue, "a caller could not be told that its call is being handled");
                true
            }
            // The next one is due.
            Err(_) => true,
        }
    }

    /// Sends a reply. The transport waits for a broker that is away and for a queue that is not there: its owner
    /// declares it again after the broker was restarted. A reply that cannot be sent is logged and dropped.
    pub(super) async fn send(&self, queue: &str, body: Bytes, limits: &ServerLimits) {
        match self.transport.publish(publish(queue, body, limits.reply_give_up_after)).await {
            Ok(Published::Taken) => {}
            Ok(Published::NobodyThere) => info!(queue, "a reply is dropped, because its queue is gone"),
            Err(error) => error!(%error, queue, "a reply could not be sent; its caller will run into its time-out"),
        }
    }
}

fn publish(queue: &str, body: Bytes, patience: Duration) -> Publish {
    Publish { route: Route::Reply { queue: queue.into() }, body, expiration: None, give_up_after: Some(patience) }
}

fn message(reply_to: &ReplyTo, outcome: &Result<Value, Failure>, is_ending: bool) -> Bytes {
    let (result, failure) = match outcome {
        Ok(result) => (result.clone(), Value::Null),
        Err(failure) => (Value::Null, failure.to_text().into()),
    };
    let pairs = [
        ("result", result),
        ("failure", failure),
        ("ending", is_ending.into()),
        ("_msg_id", reply_to.msg_id.clone()),
        ("_unique_id", unique_id().into()),
    ];
    seal(&pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}
