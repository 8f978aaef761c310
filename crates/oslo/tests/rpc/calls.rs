//! What a client sends, and what it makes of what comes back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use oslo::messaging::memory::MemoryTransport;
use oslo::messaging::{
    CallError, Client, ClientOptions, Context, Failure, Listen, MessageProperties, Route, RpcVersion, SendError,
    ServerOptions, Target, Transport, TransportError,
};
use serde_json::{Map, Value, json};

use crate::kit::{Room, TOPIC, serve, within, without_waiting};

const VERSION: RpcVersion = RpcVersion::new(1, 0);
const MINUTE: Duration = Duration::from_mins(1);

fn args(args: Value) -> Map<String, Value> {
    let Value::Object(args) = args else { panic!("arguments are an object, not {args}") };
    args
}

fn client(transport: &MemoryTransport) -> Client {
    Client::new(Arc::new(transport.another_process()))
}

async fn ask(client: &Client, method: &str, with: Value, timeout: Duration) -> Result<Value, CallError> {
    client.call(&Context::admin(), &Target::topic(TOPIC), method, args(with), VERSION, timeout).await
}

#[tokio::test]
async fn a_call_returns_what_the_method_returns() {
    within(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        for value in [json!({}), json!({"a": null}), json!({"a": [1, -2.5e300, "\u{1F600}", true, {"b": {}}]})] {
            assert_eq!(ask(&client, "echo", value.clone(), MINUTE).await.unwrap(), value);
        }
        let queues = room.transport.queues().iter().filter(|name| name.starts_with("reply_")).count();
        assert_eq!(queues, 2, "one of this client for all its calls, and one of the room");
    })
    .await;
}

#[tokio::test]
async fn a_call_is_written_as_upstream_does() {
    within(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        ask(&client, "echo", json!({}), Duration::from_millis(60_500)).await.unwrap();
        let sent = &room.transport.sent()[0];
        let keys: Vec<_> = sent.message.keys().take(8).map(String::as_str).collect();
        assert_eq!(
            keys,
            ["method", "args", "version", "_msg_id", "_reply_q", "_timeout", "_unique_id", "_context_user"]
        );
        assert_eq!(sent.expiration, Some(Duration::from_millis(60_500)));
        assert_eq!(sent.message["_timeout"], Value::Null);
        for key in ["_msg_id", "_unique_id"] {
            let id = sent.message[key].as_str().unwrap();
            assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        }
        assert_ne!(sent.message["_msg_id"], sent.message["_unique_id"]);
    })
    .await;
}

#[tokio::test]
async fn casts_go_to_topic_server_or_all() {
    within(async {
        let transport = MemoryTransport::new();
        let client = client(&transport);
        let mut context = Context::default();
        context.set("user_id", "u".into());
        for (target, route) in [
            (Target::topic("t"), Route::Topic { key: "t".into() }),
            (Target::server("t", "h@b"), Route::Topic { key: "t.h@b".into() }),
            (Target::fanout("t"), Route::Fanout { topic: "t".into() }),
        ] {
            client.cast(&context, &target, "m", args(json!({"a": 1})), RpcVersion::new(1, 14)).await.unwrap();
            let sent = transport.sent().pop().unwrap();
            assert_eq!((sent.route, sent.expiration), (route, None), "{target}");
            let keys: Vec<_> = sent.message.keys().map(String::as_str).collect();
            assert_eq!(keys, ["method", "args", "version", "_unique_id", "_context_user_id"]);
            assert_eq!(sent.message["version"], "1.14");
        }
        let [one, other] = [0, 1].map(|at| transport.sent()[at].message["_unique_id"].clone());
        assert_ne!(one, other);
    })
    .await;
}

#[tokio::test]
async fn fanout_reaches_every_server() {
    within(async {
        let room = Room::new().await;
        let other = serve(&room.transport.another_process(), &room.tool, ServerOptions::default()).await;
        let client = client(&room.transport);
        client.cast(&Context::admin(), &Target::fanout(TOPIC), "echo", Map::new(), VERSION).await.unwrap();
        room.tool.handed_in(2).await;
        other.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_is_told_with_all_that_came() {
    within(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        let error = ask(&client, "fail", json!({}), MINUTE).await.unwrap_err();
        let expected = Failure::new("shop.exception", "SoldOut", "No tea left.").kwarg("code", 409);
        assert_eq!(error.remote(), Some(&expected));
        assert_eq!(error.to_string(), "`fail` of things failed");
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("SoldOut: No tea left."));
        assert!(ask(&client, "nothing", json!({}), MINUTE).await.unwrap_err().remote().unwrap().is("NoSuchMethod"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_answers_times_out() {
    without_waiting(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        let began = tokio::time::Instant::now();
        let error = ask(&client, "wait", json!({}), MINUTE).await.unwrap_err();
        assert!(matches!(&error, CallError::Timeout { after, .. } if *after == MINUTE), "{error}");
        assert_eq!(began.elapsed(), MINUTE);
        // The late answer is for nobody, and the next one is not taken for it.
        room.tool.gate.add_permits(1);
        assert_eq!(ask(&client, "echo", json!({"a": 1}), MINUTE).await.unwrap(), json!({"a": 1}));

        // Nobody is there: the broker drops it.
        let nobody = Target::topic("nobody");
        let asked = client.call(&Context::admin(), &nobody, "m", Map::new(), VERSION, MINUTE).await;
        assert!(matches!(asked, Err(CallError::Timeout { .. })));

        // No broker either.
        room.transport.set_away(true);
        let error = ask(&client, "echo", json!({}), MINUTE).await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. } | CallError::Send { .. }), "{error}");
        let fresh = Client::new(Arc::new(room.transport.another_process()));
        assert!(matches!(ask(&fresh, "echo", json!({}), MINUTE).await, Err(CallError::Timeout { .. })));
        room.transport.set_away(false);
        assert_eq!(ask(&fresh, "echo", json!({}), MINUTE).await.unwrap(), json!({}));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_monitored_call_ends_when_the_server_falls_silent() {
    without_waiting(async {
        let room = Room::new().await;
        let options = ClientOptions { call_monitor: Some(Duration::from_secs(4)), ..ClientOptions::default() };
        let client = Client::with_options(Arc::new(room.transport.another_process()), options);
        let hour = MINUTE * 60;
        let call = tokio::spawn({
            let client = client.clone();
            async move { ask(&client, "wait", json!({}), hour).await }
        });
        tokio::time::sleep(MINUTE * 10).await;
        assert!(!call.is_finished());
        assert_eq!(room.transport.sent()[0].message["_timeout"], 4);
        room.tool.gate.add_permits(1);
        assert_eq!(call.await.unwrap().unwrap(), "waited");

        let began = tokio::time::Instant::now();
        let asked = client.call(&Context::admin(), &Target::topic("nobody"), "m", Map::new(), VERSION, hour).await;
        assert!(matches!(asked, Err(CallError::Timeout { after, .. }) if after == Duration::from_secs(4)));
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    })
    .await;
}

#[tokio::test]
async fn calls_at_the_same_time_get_their_own_answers() {
    within(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        let calls: Vec<_> = (0..100)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move { ask(&client, "echo", json!({"n": number}), MINUTE).await.unwrap() })
            })
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            assert_eq!(call.await.unwrap(), json!({"n": number}));
        }
    })
    .await;
}

/// A peer that answers one call with the bodies that `answer` makes of its `_msg_id`.
async fn answered_with(answer: impl Fn(&str) -> Vec<Bytes>) -> Result<Value, CallError> {
    let transport = MemoryTransport::new();
    let mut peer = transport.listen(Listen::Server { topic: TOPIC.into(), server: "h".into() }).await.unwrap();
    let client = client(&transport);
    let call = tokio::spawn(async move { ask(&client, "m", json!({}), MINUTE).await });
    peer.next().await.unwrap().ack.ack().await.unwrap();
    let request = transport.sent().remove(0).message;
    for body in answer(request["_msg_id"].as_str().unwrap()) {
        transport.put(request["_reply_q"].as_str().unwrap(), body, MemoryTransport::properties());
    }
    call.await.unwrap()
}

fn reply(message: &Value) -> Bytes {
    json!({"oslo.version": "2.0", "oslo.message": message.to_string()}).to_string().into()
}

#[tokio::test]
async fn replies_that_make_no_sense_are_passed_over() {
    within(async {
        let result = answered_with(|id| {
            let good = reply(&json!({"result": 7, "failure": null, "ending": true, "_msg_id": id}));
            vec![
                Bytes::from_static(b"\xff"),
                reply(&json!([])),
                reply(&json!({"result": 1, "failure": null, "ending": true})),
                reply(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": 5})),
                reply(&json!({"result": 1, "failure": null, "ending": true, "_msg_id": "another"})),
                reply(&json!({"result": null, "failure": null, "ending": false, "_msg_id": id})),
                good.clone(),
                good,
                reply(&json!({"result": 8, "failure": null, "ending": true, "_msg_id": id})),
            ]
        })
        .await;
        assert_eq!(result.unwrap(), json!(7));
    })
    .await;
}

#[tokio::test]
async fn any_failure_is_a_failure() {
    within(async {
        for (failure, class) in [
            (json!("{\"class\": \"X\", \"module\": \"m\"}"), "X"),
            (json!("not JSON"), ""),
            (json!({"class": "Old"}), "Old"),
            (json!(true), ""),
        ] {
            let asked = answered_with(|id| {
                vec![reply(&json!({"result": null, "failure": failure, "ending": true, "_msg_id": id}))]
            })
            .await;
            assert_eq!(asked.unwrap_err().remote().unwrap().class, class, "{failure}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    within(async {
        let transport = MemoryTransport::new();
        let options = ClientOptions { body_bytes_max: 1000, ..ClientOptions::default() };
        let client = Client::with_options(Arc::new(transport.clone()), options);
        let big = args(json!({"a": "x".repeat(1000)}));
        let cast = client.cast(&Context::admin(), &Target::topic("t"), "m", big.clone(), VERSION).await;
        assert!(matches!(cast, Err(SendError::TooLarge { limit: 1000, .. })));
        let call = client.call(&Context::admin(), &Target::topic("t"), "m", big, VERSION, MINUTE).await;
        assert!(matches!(call, Err(CallError::Send { error: SendError::TooLarge { .. }, .. })));
        assert!(transport.sent().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cast_is_tried_for_ever_or_as_long_as_told() {
    without_waiting(async {
        let transport = MemoryTransport::new();
        transport.set_away(true);
        let options = ClientOptions { cast_give_up_after: Some(MINUTE), ..ClientOptions::default() };
        let impatient = Client::with_options(Arc::new(transport.clone()), options);
        let cast = impatient.cast(&Context::admin(), &Target::topic("t"), "m", Map::new(), VERSION).await;
        assert!(matches!(cast, Err(SendError::Transport(TransportError::Unreachable { .. }))));

        let patient = Client::new(Arc::new(transport.clone()));
        let cast = tokio::spawn(async move {
            patient.cast(&Context::admin(), &Target::topic("t"), "m", Map::new(), VERSION).await
        });
        tokio::time::sleep(MINUTE * 1000).await;
        transport.set_away(false);
        cast.await.unwrap().unwrap();
        assert_eq!(transport.sent().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_call_whose_future_is_dropped_leaves_nothing() {
    within(async {
        let room = Room::new().await;
        let client = client(&room.transport);
        let call = tokio::spawn({
            let client = client.clone();
            async move { ask(&client, "wait", json!({}), MINUTE).await }
        });
        room.tool.handed_in(1).await;
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
        room.tool.gate.add_permits(1);
        room.idle().await;
        assert_eq!(ask(&client, "echo", json!({}), MINUTE).await.unwrap(), json!({}));
    })
    .await;
}

#[tokio::test]
async fn compressed_requests_are_read() {
    use oslo::messaging::compression::{COMPRESSION_HEADER, Compression};
    within(async {
        let mut room = Room::new().await;
        for (number, method) in [Compression::Zlib, Compression::Bzip2].into_iter().enumerate() {
            let id = format!("u{number}");
            let message = json!({"method": "echo", "args": {"a": "x".repeat(1_000_000)}, "_unique_id": id,
                "_msg_id": id, "_reply_q": room.reply_queue()});
            let properties = MessageProperties {
                headers: [(COMPRESSION_HEADER.to_owned(), method.header().to_owned())].into(),
                ..MemoryTransport::properties()
            };
            room.transport.put(TOPIC, method.compress(&reply(&message)), properties);
            assert_eq!(room.reply().await["result"]["a"].as_str().unwrap().len(), 1_000_000);
        }
    })
    .await;
}
