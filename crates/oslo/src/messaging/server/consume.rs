//! From a delivery to its acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{Instrument, Span, debug, error, info, warn};

use super::duplicates::{Arrival, Duplicates, Held, KeptReply};
use super::replies::Replies;
use super::request::{Dispatch, Incoming, ReplyTo, Request};
use super::{Acknowledge, Handler, HandlerError, ServerOptions};
use crate::messaging::compression::COMPRESSION_HEADER;
use crate::messaging::envelope::{self, NotAMessage};
use crate::messaging::{Delivery, Failure, Listener, MessageProperties, Transport};

/// A larger body is read on a thread of its own, so that nothing else waits while it is.
const READ_AT_ONCE_BYTES_MAX: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Consumer {
    handler: Arc<dyn Handler>,
    options: ServerOptions,
    handlers: Arc<Semaphore>,
    places: Arc<Semaphore>,
    duplicates: Duplicates,
    replies: Replies,
    /// No new requests, and no waiting for better times.
    stop: CancellationToken,
    /// Nothing any more.
    abort: CancellationToken,
    requests: TaskTracker,
}

/// A request on its way.
struct Work {
    dispatch: Dispatch,
    reply_to: Option<ReplyTo>,
    unique_id: Option<String>,
    /// The delivery, where none other can join it.
    held: Option<Held>,
    /// A place among those that are handled at once. `None` where there is nothing to handle, or no time left to.
    turn: Option<OwnedSemaphorePermit>,
}

impl Consumer {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        handler: Arc<dyn Handler>,
        options: ServerOptions,
        stop: CancellationToken,
    ) -> Self {
        Self {
            handler,
            handlers: Arc::new(Semaphore::new(options.limits.handlers_max)),
            places: Arc::new(Semaphore::new(options.limits.deliveries_max)),
            options,
            duplicates: Duplicates::default(),
            replies: Replies::new(transport),
            stop,
            abort: CancellationToken::new(),
            requests: TaskTracker::new(),
        }
    }

    pub(super) async fn run(self: Arc<Self>, mut listener: Box<dyn Listener>) {
        loop {
            // Whatever of this is given up when the server stops goes back to the broker with the listener.
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                taken = self.take(listener.as_mut()) => taken,
            };
            let Some((delivery, place)) = taken else {
                error!("the message transport was closed; no more requests are taken");
                break;
            };
            self.clone().receive(delivery, place).await;
        }
        listener.stop().await;
        self.stop.cancel();
        self.requests.close();
        if timeout(self.options.limits.stop_wait, self.requests.wait()).await.is_err() {
            let left = self.requests.len();
            warn!(left, "requests did not end in time; the broker will deliver them again");
            self.abort.cancel();
            self.requests.wait().await;
        }
        drop(listener);
    }

    /// The next delivery, once there is room for it.
    async fn take(&self, listener: &mut dyn Listener) -> Option<(Delivery, OwnedSemaphorePermit)> {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        Some((listener.next().await?, place))
    }

    /// Finds out what was delivered, and leaves it to a task of its own. One after the other: handlers begin in the
    /// order in which requests came, each when it is its turn.
    async fn receive(self: Arc<Self>, delivery: Delivery, place: OwnedSemaphorePermit) {
        let Delivery { body, properties, redelivered, ack } = delivery;
        let message = match read(body, properties, self.options.limits.body_bytes_max).await {
            Ok(message) => message,
            Err(reason) => {
                warn!(%reason, "a message is dropped because it cannot be read");
                if let Err(error) = ack.reject(false).await {
                    debug!(%error, "a message that cannot be read was not dropped; it will come again");
                }
                return;
            }
        };
        let incoming = Incoming::new(message, redelivered);
        let unique_id = incoming.unique_id.clone();
        let context = incoming.context();
        let span = tracing::info_span!(
            "request",
            method = incoming.method_for_log(),
            request_id = context.request_id(),
            global_request_id = context.global_request_id(),
            user_id = context.user_id(),
            project_id = context.project_id(),
        );
        let mut held = Held { ack: Some(ack), _place: place };
        if self.options.acknowledge == Acknowledge::BeforeHandling && !acknowledge(&mut held).await {
            return;
        }
        let held = match self.duplicates.arrive(unique_id.as_deref(), held) {
            Arrival::First(held) => held,
            Arrival::Joined => {
                span.in_scope(|| info!(unique_id, "the message came again while it is being handled"));
                return;
            }
            Arrival::Again(mut held, reply) => {
                span.in_scope(|| info!(unique_id, "the message came again after it was handled"));
                self.requests.clone().spawn(
                    async move {
                        if let Some(KeptReply { queue, body }) = reply {
                            self.replies.send(&queue, body, &self.options.limits).await;
                        }
                        acknowledge(&mut held).await;
                    }
                    .instrument(span),
                );
                return;
            }
        };
        let reply_to = incoming.reply_to.clone();
        let dispatch = incoming.dispatch(self.handler.version(), self.options.answers_pings);
        let turn = match &dispatch {
            Dispatch::Handle(_) => self.turn().await,
            Dispatch::Answer(_) => None,
        };
        let work = Work { dispatch, reply_to, unique_id, held, turn };
        self.requests.clone().spawn(
            async move {
                tokio::select! {
                    () = self.serve(work) => {}
                    () = self.abort.cancelled() => {}
                }
            }
            .instrument(span),
        );
    }

    /// Sees a request to its end: result, reply, acknowledgement.
    async fn serve(&self, work: Work) {
        let Work { dispatch, reply_to, unique_id, held, turn } = work;
        let outcome = match dispatch {
            Dispatch::Answer(outcome) => Some(outcome),
            Dispatch::Handle(request) => self.handle_with_heartbeats(*request, turn, reply_to.as_ref()).await,
        };
        let Some(outcome) = outcome else {
            if let Some(unique_id) = &unique_id {
                self.duplicates.abandoned(unique_id);
            }
            return;
        };
        log(&outcome, reply_to.is_some());

        let limits = &self.options.limits;
        let reply = reply_to.and_then(|reply_to| {
            let queue = reply_to.queue.clone()?;
            Some(KeptReply { queue, body: Replies::body(&reply_to, &outcome, limits) })
        });
        if let Some(KeptReply { queue, body }) = &reply {
            self.replies.send(queue, body.clone(), limits).await;
        }
        let deliveries = match &unique_id {
            Some(unique_id) => self.duplicates.ended(unique_id, reply, limits),
            None => held.into_iter().collect(),
        };
        for mut held in deliveries {
            acknowledge(&mut held).await;
        }
    }

    /// Has the request handled, and tells the caller that it is, for as long as it is. `None` if it is not to be
    /// handled any more because the server stops.
    async fn handle_with_heartbeats(
        &self,
        request: Request,
        turn: Option<OwnedSemaphorePermit>,
        reply_to: Option<&ReplyTo>,
    ) -> Option<Result<Value, Failure>> {
        let handling = self.handle(request, turn);
        let monitored =
            reply_to.and_then(|reply_to| Some((reply_to, reply_to.queue.as_deref()?, reply_to.monitor_seconds?)));
        let Some((reply_to, queue, seconds)) = monitored else { return handling.await };
        // The second half is for the way.
        let period = Duration::from_secs(seconds) / 2;
        let mut beat = interval_at(tokio::time::Instant::now() + period, period);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut handling = std::pin::pin!(handling);
        let mut is_there = true;
        loop {
            let done = tokio::select! {
                biased;
                done = &mut handling => Some(done),
                _ = beat.tick(), if is_there => None,
            };
            match done {
                Some(outcome) => return outcome,
                // The handler is a task of its own and goes on. What has to come before the reply is sent before it.
                None => is_there = self.replies.heartbeat(reply_to, queue, period).await,
            }
        }
    }

    async fn handle(&self, request: Request, mut turn: Option<OwnedSemaphorePermit>) -> Option<Result<Value, Failure>> {
        let limits = &self.options.limits;
        let mut pause = limits.retry_pause_first;
        loop {
            let held_turn = turn.take()?;
            let (handler, request) = (self.handler.clone(), request.clone());
            let handling = async move { handler.handle(request).await };
            let reason = match AbortOnDropHandle::new(tokio::spawn(handling.instrument(Span::current()))).await {
                Ok(Ok(result)) => return Some(Ok(result)),
                Ok(Err(HandlerError::Failure(failure))) => return Some(Err(failure)),
                Ok(Err(HandlerError::Retry(reason))) => reason,
                Err(error) => {
                    let panic = error.try_into_panic().ok()?;
                    error!(panic = panic_text(panic.as_ref()), "the handler of a request panicked");
                    return Some(Err(Failure::internal(
                        "the service has a defect that this request meets; its log tells more",
                    )));
                }
            };
            // Others are handled meanwhile.
            drop(held_turn);
            warn!(reason, ?pause, "the request cannot be taken now and will be tried again");
            tokio::select! {
                () = sleep(pause) => {}
                () = self.stop.cancelled() => return None,
            }
            pause = (pause * 2).min(limits.retry_pause_max);
            turn = self.turn().await;
        }
    }

    /// Waits until one more may be handled. `None` if the server stops before.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        tokio::select! {
            turn = self.handlers.clone().acquire_owned() => turn.ok(),
            () = self.stop.cancelled() => None,
        }
    }
}

/// Reads a message; nothing that it holds brings down the reader.
async fn read(
    body: Bytes,
    properties: MessageProperties,
    bytes_max: usize,
) -> Result<serde_json::Map<String, Value>, String> {
    let is_small = body.len() <= READ_AT_ONCE_BYTES_MAX && !properties.headers.contains_key(COMPRESSION_HEADER);
    let open = move || envelope::open(&body, &properties, bytes_max).map_err(|error: NotAMessage| error.to_string());
    if is_small {
        return open();
    }
    tokio::task::spawn_blocking(open).await.unwrap_or_else(|_| Err("reading it failed, which is a defect".into()))
}

/// `false` if the broker does not know of it, and delivers the message again.
async fn acknowledge(held: &mut Held) -> bool {
    let Some(ack) = held.ack.take() else { return true };
    let acknowledged = ack.ack().await;
    if let Err(error) = &acknowledged {
        debug!(%error, "a request was not acknowledged");
    }
    acknowledged.is_ok()
}

fn log(outcome: &Result<Value, Failure>, is_call: bool) {
    match outcome {
        Ok(_) => debug!("the request was handled"),
        Err(failure) if is_call => info!(%failure, "the request failed; its caller is told"),
        Err(failure) => warn!(%failure, "the request failed; nobody waits to be told"),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}
