//! Messages that nobody should send. Each is acknowledged or rejected once, and the server goes on.

use bytes::Bytes;
use oslo::messaging::memory::{MemoryTransport, Settled};
use oslo::messaging::{MessageProperties, RpcVersion, compression::Compression};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::kit::{Room, TOPIC, limits, within, without_waiting};

const SAMPLES: &str = include_str!("../../testdata/wire-samples.jsonl");

fn sealed(inner: &str) -> Bytes {
    json!({"oslo.version": "2.0", "oslo.message": inner}).to_string().into()
}

/// Gives each body to a server of its own, and returns what became of the message.
async fn settled(body: Bytes, properties: MessageProperties) -> Settled {
    let mut room = Room::with(limits(|limits| limits.body_bytes_max = 1 << 20)).await;
    room.transport.put(TOPIC, body, properties);
    room.idle().await;
    let settled = room.transport.settled();
    room.call("still there?", "echo", json!({}));
    assert_eq!(room.reply().await["_msg_id"], "still there?");
    settled
}

#[tokio::test]
async fn what_is_no_message_is_dropped() {
    within(async {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let deep_object = "{\"a\":".repeat(100_000) + "1" + &"}".repeat(100_000);
        let good = sealed(r#"{"method": "echo"}"#);
        let mut cases: Vec<(Bytes, MessageProperties)> = [
            Bytes::new(),
            Bytes::from_static(b"\xff\xfe"),
            Bytes::from_static(b"\0"),
            "{".into(),
            "[]".into(),
            "null".into(),
            "\"text\"".into(),
            "5".into(),
            deep.clone().into(),
            deep_object.clone().into(),
            sealed(&deep),
            sealed(&deep_object),
            sealed(""),
            sealed("[]"),
            sealed("\"{}\""),
            sealed(r#"{"method": 1e999}"#),
            r#"{"oslo.version": "2.1", "oslo.message": "{}"}"#.into(),
            r#"{"oslo.version": "1.0", "oslo.message": "{}"}"#.into(),
            r#"{"oslo.version": 2.0, "oslo.message": "{}"}"#.into(),
            r#"{"oslo.version": null, "oslo.message": "{}"}"#.into(),
            r#"{"oslo.version": "2.0", "oslo.message": {}}"#.into(),
            r#"{"oslo.version": "2.0", "oslo.message": null}"#.into(),
            format!("{{\"method\": \"echo\", \"x\": \"{}\"}}", "x".repeat(2 << 20)).into(),
        ]
        .map(|body| (body, MemoryTransport::properties()))
        .into();
        for content_type in
            [None, Some("application/x-python-serialize"), Some("application/x-yaml"), Some("text/plain")]
        {
            let content_type = content_type.map(str::to_owned);
            cases.push((good.clone(), MessageProperties { content_type, ..MemoryTransport::properties() }));
        }
        let bomb = Compression::Zlib.compress(&vec![b' '; 64 << 20]);
        let method = Compression::Zlib.header();
        for (compression, body) in
            [("application/zstd", good.clone()), (method, good.clone()), (method, bomb.into()), ("", good)]
        {
            let headers = [("compression".to_owned(), compression.to_owned())].into();
            cases.push((body, MessageProperties { headers, ..MemoryTransport::properties() }));
        }
        for (body, properties) in cases {
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            let settled = settled(body, properties.clone()).await;
            assert_eq!(settled, Settled { dropped: 1, ..Settled::default() }, "{shown} {properties:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_can_be_read_is_answered_whatever_it_says() {
    within(async {
        let mut room = Room::new().await;
        let odd =
            [json!(null), json!(true), json!(-1), json!(1e300), json!(""), json!("x"), json!([1]), json!({"a": 1})];
        let mut number = 0;
        for key in
            ["method", "args", "version", "namespace", "_unique_id", "_timeout", "_context_auth_token", "_reply_q"]
        {
            for value in &odd {
                number += 1;
                let id = format!("call {number}");
                let more = json!({key: value});
                room.call_with(&id, "echo", json!({}), more.clone());
                if key == "_reply_q" {
                    // There is nobody to tell.
                    continue;
                }
                let reply = room.reply().await;
                assert_eq!(reply["_msg_id"], json!(id), "{more}");
            }
        }
        room.idle().await;
        assert_eq!(room.transport.settled().dropped, 0);
        assert_eq!(room.transport.held(), 0);
    })
    .await;
}

#[tokio::test]
async fn messages_from_before_there_were_envelopes_are_read() {
    within(async {
        let room = Room::new().await;
        let properties = MemoryTransport::properties;
        room.transport.put(TOPIC, r#"{"method": "echo", "oslo.version": "9"}"#, properties());
        room.transport.put(
            TOPIC,
            r#"{"oslo.version": "2.0", "oslo.message": "{\"method\": \"echo\"}", "x": 1}"#,
            properties(),
        );
        room.idle().await;
        assert_eq!(room.tool.methods(), ["echo", "echo"]);
        let none = MessageProperties { content_encoding: None, ..properties() };
        room.transport.put(TOPIC, sealed(r#"{"method": "echo", "args": {"a": "\ud800 NaN", "b": NaN}}"#), none);
        room.idle().await;
        assert_eq!(Value::from(room.tool.requests().remove(2).args), json!({"a": "\u{fffd} NaN", "b": null}));
        assert_eq!(room.tool.requests().remove(2).version, RpcVersion::new(1, 0));
    })
    .await;
}

/// Any JSON, with the keys that mean something more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        3 => prop::sample::select(vec![
            "oslo.version", "oslo.message", "method", "args", "version", "namespace", "_unique_id", "_msg_id",
            "_reply_q", "_timeout", "_context_request_id", "_context_", "result", "failure", "ending",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec!["echo", "fail", "panic", "1.0", "2.0", "1.1.1", "{}", "{\"method\": \"echo\"}"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key.clone(), inner), 0..12).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// Real messages, some bytes of which are others.
fn mutated_sample() -> impl Strategy<Value = Vec<u8>> {
    let bodies: Vec<Vec<u8>> = SAMPLES
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].as_str().unwrap().as_bytes().to_vec())
        .collect();
    let edits = vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..8);
    (prop::sample::select(bodies), edits, any::<Option<prop::sample::Index>>()).prop_map(|(mut body, edits, cut)| {
        for (at, byte, how) in edits {
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                _ => drop(body.remove(at)),
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        body
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let object = any_json().prop_map(|value| if value.is_object() { value } else { json!({"method": value}) });
    prop_oneof![
        1 => vec(any::<u8>(), 0..200),
        1 => any_json().prop_map(|value| value.to_string().into_bytes()),
        1 => object.prop_map(|value| sealed(&value.to_string()).to_vec()),
        3 => mutated_sample(),
    ]
}

fn properties() -> impl Strategy<Value = MessageProperties> {
    prop_oneof![
        8 => Just(MemoryTransport::properties()),
        1 => (any::<Option<String>>(), any::<Option<String>>(), "(application/x-gzip|application/x-bz2|.*)").prop_map(
            |(content_type, content_encoding, compression)| MessageProperties {
                content_type: content_type.or(Some("application/json".into())),
                content_encoding,
                headers: [("compression".to_owned(), compression)].into(),
                expiration: None,
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_stops_a_server(messages in vec((body(), properties()), 1..40)) {
        // Time is not waited for: replies to queues that are not there are given up after a minute.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(without_waiting(async {
            let mut room = Room::new().await;
            let count = messages.len();
            for (body, properties) in messages {
                room.transport.put(TOPIC, body, properties);
            }
            room.call("still there?", "echo", json!({}));
            while room.reply().await["_msg_id"] != "still there?" {}
            room.idle().await;
            // The broker in memory panics when it is told of a message twice; that each was told of is counted here.
            let settled = room.transport.settled();
            let replies_read = room.transport.sent().iter().filter(|sent| {
                matches!(&sent.route, oslo::messaging::Route::Reply { queue } if queue == room.reply_queue())
            }).count();
            assert_eq!(settled.acknowledged + settled.dropped, count + 1 + replies_read);
            assert_eq!((settled.requeued, room.transport.held()), (0, 0));
            assert!(room.server.is_running());
            room.server.stop().await;
        }));
    }
}
