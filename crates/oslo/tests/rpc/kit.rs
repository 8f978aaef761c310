//! A handler that does as it is told, and a peer that speaks in bare messages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oslo::messaging::memory::MemoryTransport;
use oslo::messaging::{
    Failure, Handler, HandlerError, Listen, Listener, Request, RpcVersion, Server, ServerLimits, ServerOptions,
    Transport,
};
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};

pub(crate) const TOPIC: &str = "things";

/// Nothing takes as long, on any machine.
const TEST_ENDS_AFTER: Duration = Duration::from_mins(2);

/// Runs a test that waits for conditions, and ends it when one never comes.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_ENDS_AFTER, test).await.expect("the test waits for something that does not come")
}

/// The same where time is not waited for: it jumps to what is due next.
pub(crate) async fn without_waiting<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_ENDS_AFTER * 10_000, test).await.expect("the test waits for something that does not come")
}

/// Knows a few methods:
/// - `echo` returns its arguments; `context` the context; `fail` a failure.
/// - `panic` panics.
/// - `wait` waits for a permit of `gate`.
/// - `later` says "not now" for the first `times` times.
#[derive(Debug)]
pub(crate) struct Tool {
    requests: watch::Sender<Vec<Request>>,
    tries: Mutex<HashMap<String, u64>>,
    pub(crate) gate: Semaphore,
}

impl Tool {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { requests: watch::Sender::default(), tries: Mutex::default(), gate: Semaphore::new(0) })
    }

    /// Every request that was handed in, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    /// Waits until so many were handed in.
    pub(crate) async fn handed_in(&self, count: usize) {
        self.requests.subscribe().wait_for(|requests| requests.len() == count).await.unwrap();
    }

    pub(crate) fn methods(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.method).collect()
    }
}

#[async_trait]
impl Handler for Tool {
    fn version(&self) -> RpcVersion {
        RpcVersion::new(1, 1)
    }

    async fn handle(&self, request: Request) -> Result<Value, HandlerError> {
        self.requests.send_modify(|requests| requests.push(request.clone()));
        match request.method.as_str() {
            "echo" => Ok(request.args.into()),
            "context" => Ok(serde_json::to_value(&request.context).unwrap()),
            "fail" => Err(Failure::new("shop.exception", "SoldOut", "No tea left.").kwarg("code", 409).into()),
            "panic" => panic!("as told"),
            "big" => Ok("x".repeat(request.args["bytes"].as_u64().unwrap() as usize).into()),
            "wait" => {
                self.gate.acquire().await.unwrap().forget();
                Ok("waited".into())
            }
            "later" => {
                let mut tries = self.tries.lock().unwrap();
                let tried = tries.entry(request.unique_id.unwrap_or_default()).or_default();
                *tried += 1;
                if *tried <= request.args["times"].as_u64().unwrap() {
                    return Err(HandlerError::Retry("the store is away".into()));
                }
                Ok((*tried).into())
            }
            other => Err(Failure::no_such_method(other).into()),
        }
    }
}

pub(crate) struct Room {
    pub(crate) transport: MemoryTransport,
    pub(crate) tool: Arc<Tool>,
    pub(crate) server: Server,
    peer: Box<dyn Listener>,
}

impl Room {
    pub(crate) async fn new() -> Self {
        Self::with(ServerOptions::default()).await
    }

    pub(crate) async fn with(options: ServerOptions) -> Self {
        let transport = MemoryTransport::new();
        let tool = Tool::new();
        let server = serve(&transport, &tool, options).await;
        let peer = transport.another_process().listen(Listen::Replies).await.unwrap();
        Self { transport, tool, server, peer }
    }

    pub(crate) fn reply_queue(&self) -> &str {
        self.peer.reply_queue().unwrap()
    }

    pub(crate) fn cast(&self, unique_id: &str, method: &str, args: Value) {
        self.request(method, args, json!({"_unique_id": unique_id}));
    }

    /// Sends a call; its unique identifier is also that by which it is replied to.
    pub(crate) fn call(&self, unique_id: &str, method: &str, args: Value) {
        self.call_with(unique_id, method, args, Value::Null);
    }

    /// Sends a call that has keys which others have not, or has others in their place.
    pub(crate) fn call_with(&self, unique_id: &str, method: &str, args: Value, more: Value) {
        let mut keys = json!({
            "_msg_id": unique_id, "_reply_q": self.reply_queue(), "_timeout": null, "_unique_id": unique_id,
        });
        if let (Value::Object(more), Some(keys)) = (more, keys.as_object_mut()) {
            keys.extend(more);
        }
        self.request(method, args, keys);
    }

    fn request(&self, method: &str, args: Value, more: Value) {
        let mut message = Map::new();
        message.insert("method".into(), method.into());
        message.insert("args".into(), args);
        message.insert("version".into(), "1.0".into());
        if let Value::Object(more) = more {
            message.extend(more);
        }
        self.transport.put_message(TOPIC, message.into());
    }

    /// The next reply, envelope taken off.
    pub(crate) async fn reply(&mut self) -> Map<String, Value> {
        let delivery = self.peer.next().await.expect("the peer listens for ever");
        delivery.ack.ack().await.unwrap();
        let envelope: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert_eq!(envelope["oslo.version"], "2.0");
        serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap()
    }

    /// The failure of the next reply.
    pub(crate) async fn failure(&mut self) -> Value {
        let reply = self.reply().await;
        assert_eq!((&reply["result"], &reply["ending"]), (&Value::Null, &json!(true)));
        serde_json::from_str(reply["failure"].as_str().expect("a failure is text")).unwrap()
    }

    /// Waits until nothing is left to do for the server.
    pub(crate) async fn idle(&self) {
        self.transport
            .until(|transport| {
                transport.held() == 0
                    && transport.queues().iter().filter(|q| q.starts_with(TOPIC)).all(|q| transport.ready(q) == 0)
            })
            .await;
    }
}

pub(crate) async fn serve(transport: &MemoryTransport, tool: &Arc<Tool>, options: ServerOptions) -> Server {
    Server::start(Arc::new(transport.clone()), TOPIC, "host1", tool.clone(), options).await.unwrap()
}

pub(crate) fn limits(change: impl FnOnce(&mut ServerLimits)) -> ServerOptions {
    let mut options = ServerOptions::default();
    change(&mut options.limits);
    options
}
