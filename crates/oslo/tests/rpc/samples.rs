//! Messages that real services sent: read by us, and written by us to the same bytes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use oslo::messaging::memory::MemoryTransport;
use oslo::messaging::{
    Client, Context, Failure, Handler, HandlerError, Listen, Request, Route, RpcVersion, Server, ServerOptions, Target,
    Transport,
};
use serde_json::{Map, Value, json};

use crate::kit::within;

const SAMPLES: &str = include_str!("../../testdata/wire-samples.jsonl");

struct Sample {
    name: String,
    routing_key: String,
    expiration: Option<String>,
    body: String,
    message: Map<String, Value>,
}

fn samples(direction: &str) -> Vec<Sample> {
    let samples = SAMPLES.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<_> = samples
        .filter(|sample| sample["direction"] == direction)
        .map(|sample| {
            let text = |key: &str| sample[key].as_str().unwrap().to_owned();
            let envelope: Value = serde_json::from_str(&text("body")).unwrap();
            Sample {
                name: text("name"),
                routing_key: text("routing_key"),
                expiration: sample["properties"]["expiration"].as_str().map(str::to_owned),
                body: text("body"),
                message: serde_json::from_str(envelope["oslo.message"].as_str().unwrap()).unwrap(),
            }
        })
        .collect();
    assert!(found.len() > 5, "{} samples of {direction}", found.len());
    found
}

fn context(message: &Map<String, Value>) -> Context {
    let pairs = message.iter().filter_map(|(key, value)| Some((key.strip_prefix("_context_")?.into(), value.clone())));
    pairs.collect()
}

/// The body with identifiers that are different each time taken from `of`.
fn with_ids(body: &[u8], sent: &Map<String, Value>, of: &Map<String, Value>) -> String {
    let mut body = String::from_utf8(body.to_vec()).unwrap();
    for key in ["_unique_id", "_msg_id", "_reply_q"] {
        if let (Some(sent), Some(of)) = (sent.get(key).and_then(Value::as_str), of.get(key).and_then(Value::as_str)) {
            body = body.replace(sent, of);
        }
    }
    body
}

#[tokio::test]
async fn requests_are_written_to_the_same_bytes() {
    within(async {
        for sample in samples("request") {
            let transport = MemoryTransport::new();
            let client = Client::new(Arc::new(transport.clone()));
            let message = &sample.message;
            let context = context(message);
            let method = message["method"].as_str().unwrap();
            let args = message["args"].as_object().unwrap().clone();
            let version: RpcVersion = message["version"].as_str().unwrap().parse().unwrap();
            let target = match sample.routing_key.split_once('.') {
                Some((topic, server)) => Target::server(topic, server),
                None => Target::topic(&sample.routing_key),
            };
            if message.contains_key("_msg_id") {
                let timeout = Duration::from_millis(sample.expiration.as_ref().unwrap().parse().unwrap());
                let call = client.call(&context, &target, method, args, version, timeout);
                tokio::select! {
                    outcome = call => panic!("nobody is there to answer: {outcome:?}"),
                    () = transport.until(|transport| !transport.sent().is_empty()) => {}
                }
            } else {
                client.cast(&context, &target, method, args, version).await.unwrap();
            }
            let sent = transport.sent().remove(0);
            assert_eq!(with_ids(&sent.body, &sent.message, message), sample.body, "{}", sample.name);
            assert_eq!(sent.route, Route::Topic { key: sample.routing_key });
            assert_eq!(sent.expiration.map(|expiration| expiration.as_millis().to_string()), sample.expiration);
        }
    })
    .await;
}

/// Ends every request in the same way, and keeps it.
#[derive(Debug)]
struct Same {
    outcome: Result<Value, Failure>,
    request: Mutex<Option<Request>>,
}

#[async_trait]
impl Handler for Same {
    fn version(&self) -> RpcVersion {
        RpcVersion::new(1, 1)
    }

    async fn handle(&self, request: Request) -> Result<Value, HandlerError> {
        *self.request.lock().unwrap() = Some(request);
        Ok(self.outcome.clone()?)
    }
}

async fn serve(transport: &MemoryTransport, outcome: Result<Value, Failure>) -> (Server, Arc<Same>) {
    let handler = Arc::new(Same { outcome, request: Mutex::default() });
    let options = ServerOptions::default();
    let server = Server::start(Arc::new(transport.clone()), "manila-data", "h", handler.clone(), options).await;
    (server.unwrap(), handler)
}

#[tokio::test]
async fn replies_are_written_to_the_same_bytes() {
    within(async {
        let endings = samples("reply").into_iter().filter(|sample| sample.message["ending"] == true);
        for sample in endings {
            let outcome = match sample.message["failure"].as_str() {
                Some(failure) => Err(serde_json::from_str(failure).unwrap()),
                None => Ok(sample.message["result"].clone()),
            };
            let transport = MemoryTransport::new();
            let (_server, _) = serve(&transport, outcome).await;
            let peer = transport.listen(Listen::Replies).await.unwrap();
            let msg_id = &sample.message["_msg_id"];
            let request = json!({"method": "m", "_msg_id": msg_id, "_reply_q": peer.reply_queue()});
            transport.put_message("manila-data", request);
            transport.until(|transport| !transport.sent().is_empty()).await;
            let sent = transport.sent().remove(0);
            assert_eq!(with_ids(&sent.body, &sent.message, &sample.message), sample.body, "{}", sample.name);
        }
    })
    .await;
}

#[tokio::test]
async fn requests_are_read_as_they_were_meant() {
    within(async {
        for sample in samples("request") {
            let transport = MemoryTransport::new();
            let (_server, handler) = serve(&transport, Ok(Value::Null)).await;
            transport.put("manila-data", sample.body.clone(), MemoryTransport::properties());
            // Those for another service are of versions that are not served here.
            let is_served = ["1.0", "1.1"].contains(&sample.message["version"].as_str().unwrap());
            transport.until(|transport| transport.settled().acknowledged == 1).await;
            let request = handler.request.lock().unwrap().take();
            assert_eq!(request.is_some(), is_served, "{}", sample.name);
            let Some(request) = request else { continue };
            assert_eq!(
                (request.method.as_str(), &request.args.into()),
                (sample.message["method"].as_str().unwrap(), &sample.message["args"])
            );
            assert_eq!(request.context, context(&sample.message));
            assert_eq!(request.unique_id.as_deref(), sample.message["_unique_id"].as_str());
            assert_eq!(request.is_call, sample.name.starts_with("call"));
            assert_eq!(request.context.user_identity(), "u1user p1project - - -");
        }
    })
    .await;
}
