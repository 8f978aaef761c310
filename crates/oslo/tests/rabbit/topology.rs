//! What is declared, for each option that changes it, as the broker tells it.

use oslo::messaging::rabbit::{Limits, MessagingOptions, RabbitTransport};
use oslo::messaging::{Listen, Listener, Transport as _, TransportError};
use serde_json::{Value, json};

use crate::kit::{broker, rows, send, serve, to_topic, transport_with, unique, within};

/// What one set of options makes of everything. Each of `d` is durable, each of `ad` goes by itself.
struct Row {
    query: &'static str,
    control: (bool, bool),
    topic_queue: Value,
    fanout_durable: bool,
    fanout_queue: Value,
    reply_queue: Value,
    prefetch: u32,
    consume_arguments: Value,
    /// One stream for all, in place of a queue for each.
    is_stream: bool,
}

fn queue(d: bool, ad: bool, arguments: &Value) -> Value {
    json!({"durable": d, "auto_delete": ad, "exclusive": false, "arguments": arguments})
}

fn defaults() -> Row {
    let transient = queue(false, false, &json!([["x-expires", "signedint", 1_800_000]]));
    Row {
        query: "",
        control: (false, false),
        topic_queue: queue(false, false, &json!([])),
        fanout_durable: false,
        fanout_queue: transient.clone(),
        reply_queue: transient,
        prefetch: 0,
        consume_arguments: json!([]),
        is_stream: false,
    }
}

fn table() -> Vec<Row> {
    let quorum = || json!(["x-queue-type", "longstr", "quorum"]);
    let expires = || json!(["x-expires", "signedint", 1_800_000]);
    let ha = || json!(["x-ha-policy", "longstr", "all"]);
    let limits = || {
        [
            json!(["x-delivery-limit", "signedint", 7]),
            json!(["x-max-in-memory-bytes", "long", 9_000_000_000_i64]),
            json!(["x-max-in-memory-length", "signedint", 8]),
        ]
    };
    let transient_quorum = || queue(true, false, &json!([expires(), quorum()]));
    let with_limits = |mut arguments: Vec<Value>| {
        arguments.extend(limits());
        arguments.sort_by_key(Value::to_string);
        Value::Array(arguments)
    };
    vec![
        defaults(),
        Row {
            query: "amqp_durable_queues=true",
            control: (true, false),
            topic_queue: queue(true, false, &json!([])),
            ..defaults()
        },
        Row {
            query: "amqp_auto_delete=true",
            control: (false, true),
            topic_queue: queue(false, true, &json!([])),
            ..defaults()
        },
        Row {
            query: "rabbit_quorum_queue=true",
            control: (true, false),
            topic_queue: queue(true, false, &json!([quorum()])),
            ..defaults()
        },
        Row {
            query: "rabbit_quorum_queue=true&rabbit_quorum_delivery_limit=7&rabbit_quorum_max_memory_length=8\
                    &rabbit_quorum_max_memory_bytes=9000000000",
            control: (true, false),
            topic_queue: queue(true, false, &with_limits(vec![quorum()])),
            ..defaults()
        },
        Row {
            query: "rabbit_transient_quorum_queue=true",
            fanout_durable: true,
            fanout_queue: transient_quorum(),
            reply_queue: transient_quorum(),
            ..defaults()
        },
        Row {
            query: "rabbit_transient_quorum_queue=true&rabbit_quorum_delivery_limit=7\
                    &rabbit_quorum_max_memory_length=8&rabbit_quorum_max_memory_bytes=9000000000",
            fanout_durable: true,
            fanout_queue: queue(true, false, &with_limits(vec![quorum(), expires()])),
            reply_queue: queue(true, false, &with_limits(vec![quorum(), expires()])),
            ..defaults()
        },
        Row {
            query: "rabbit_stream_fanout=true&rabbit_transient_quorum_queue=true&rabbit_qos_prefetch_count=5",
            fanout_durable: true,
            fanout_queue: queue(
                true,
                false,
                &json!([["x-max-age", "longstr", "1800s"], ["x-queue-type", "longstr", "stream"]]),
            ),
            reply_queue: transient_quorum(),
            prefetch: 5,
            is_stream: true,
            ..defaults()
        },
        Row {
            query: "rabbit_stream_fanout=true&rabbit_transient_quorum_queue=true&rabbit_qos_prefetch_count=5\
                    &rabbit_transient_queues_ttl=0",
            fanout_durable: true,
            fanout_queue: queue(true, false, &json!([["x-queue-type", "longstr", "stream"]])),
            reply_queue: queue(true, false, &json!([quorum()])),
            prefetch: 5,
            is_stream: true,
            ..defaults()
        },
        Row {
            query: "rabbit_transient_queues_ttl=4000000",
            fanout_queue: queue(false, false, &json!([["x-expires", "long", 4_000_000_000_i64]])),
            reply_queue: queue(false, false, &json!([["x-expires", "long", 4_000_000_000_i64]])),
            ..defaults()
        },
        Row {
            query: "rabbit_transient_queues_ttl=0",
            fanout_queue: queue(false, false, &json!([])),
            reply_queue: queue(false, false, &json!([])),
            ..defaults()
        },
        Row {
            query: "rabbit_ha_queues=true",
            topic_queue: queue(false, false, &json!([ha()])),
            fanout_queue: queue(false, false, &json!([expires(), ha()])),
            reply_queue: queue(false, false, &json!([expires(), ha()])),
            ..defaults()
        },
        Row {
            query: "enable_cancel_on_failover=true",
            consume_arguments: json!([["x-cancel-on-ha-failover", "bool", true]]),
            ..defaults()
        },
        Row { query: "rabbit_qos_prefetch_count=3", prefetch: 3, ..defaults() },
    ]
}

/// A row with everything that was declared for it.
struct Declared {
    row: Row,
    topic: String,
    exchange: String,
    fanout_name: String,
    reply_name: String,
    transport: RabbitTransport,
    listeners: Vec<Box<dyn Listener>>,
}

/// Everything that the broker has, by name where there is one.
struct Seen {
    queues: Vec<Value>,
    exchanges: Vec<Value>,
    bindings: Vec<Value>,
    consumers: Vec<Value>,
}

impl Seen {
    fn now() -> Self {
        let broker = broker().unwrap();
        Self {
            queues: rows(broker, &["list_queues", "name", "durable", "auto_delete", "exclusive", "arguments"]),
            exchanges: rows(
                broker,
                &["list_exchanges", "name", "type", "durable", "auto_delete", "internal", "arguments"],
            ),
            bindings: rows(broker, &["list_bindings"]),
            consumers: rows(
                broker,
                &["list_consumers", "queue_name", "consumer_tag", "ack_required", "prefetch_count", "arguments"],
            ),
        }
    }
}

async fn declare(row: Row) -> Declared {
    let url = format!("{}?{}", broker().unwrap().url(), row.query);
    let (topic, exchange) = (unique("topic"), unique("control"));
    let transport = transport_with(&url, &exchange, Limits::default());
    let server = serve(&transport, &topic).await;
    let replies = within(transport.listen(Listen::Replies)).await.unwrap();
    let reply_name = replies.reply_queue().unwrap().to_owned();
    let fanout_name = String::new();
    Declared { row, topic, exchange, fanout_name, reply_name, transport, listeners: vec![server, replies] }
}

fn sorted(mut arguments: Value) -> Value {
    if let Some(arguments) = arguments.as_array_mut() {
        arguments.sort_by_key(Value::to_string);
    }
    arguments
}

fn check(declared: &mut Declared, seen: &Seen) {
    let Declared { row, topic, exchange, fanout_name, reply_name, .. } = declared;
    let query = row.query;
    let fanout = format!("{topic}_fanout");
    let exchange_of = |name: &str| seen.exchanges.iter().find(|row| row["name"] == name).cloned();
    let expected = |name: &str, kind: &str, durable: bool, auto_delete: bool| {
        Some(json!({"name": name, "type": kind, "durable": durable, "auto_delete": auto_delete, "internal": false,
            "arguments": []}))
    };
    assert_eq!(exchange_of(exchange), expected(exchange, "topic", row.control.0, row.control.1), "{query}");
    assert_eq!(exchange_of(&fanout), expected(&fanout, "fanout", row.fanout_durable, true), "{query}");

    // The fanout queue's name is random; what it is bound to is not.
    let binding_of = |source: &str| {
        let bindings = seen.bindings.iter().filter(|row| row["source_name"] == source);
        let mut keys: Vec<(String, String)> = bindings
            .map(|row| {
                assert_eq!((&row["destination_kind"], &row["arguments"]), (&json!("queue"), &json!([])), "{query}");
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                (text("destination_name"), text("routing_key"))
            })
            .collect();
        keys.sort();
        keys
    };
    let server = format!("{topic}.host1");
    assert_eq!(binding_of(exchange), [(topic.clone(), topic.clone()), (server.clone(), server.clone())], "{query}");
    let [(fanout_queue, key)] = &binding_of(&fanout)[..] else { panic!("{query}: {:?}", binding_of(&fanout)) };
    assert_eq!(key, topic, "{query}");
    if row.is_stream {
        assert_eq!(*fanout_queue, fanout, "{query}");
    } else {
        let suffix = fanout_queue.strip_prefix(&format!("{fanout}_")).unwrap();
        assert!(suffix.len() == 32 && suffix.bytes().all(|byte| byte.is_ascii_hexdigit()), "{query}: {suffix}");
    }
    fanout_name.clone_from(fanout_queue);
    let own = reply_name.strip_prefix("reply_").unwrap();
    assert!(own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{query}: {own}");

    for (name, expected) in [
        (&*topic, &row.topic_queue),
        (&server, &row.topic_queue),
        (fanout_queue, &row.fanout_queue),
        (reply_name, &row.reply_queue),
    ] {
        let mut found = seen.queues.iter().find(|row| row["name"] == **name).cloned().unwrap();
        found.as_object_mut().unwrap().remove("name");
        found["arguments"] = sorted(found["arguments"].take());
        // Quorum queues and streams cannot be exclusive, and do not say so.
        if found["exclusive"] == "" {
            found["exclusive"] = json!(false);
        }
        assert_eq!(found, *expected, "{query}: {name}");
    }
    for (name, tag) in [(&*topic, "1"), (&server, "2"), (fanout_queue, "3"), (reply_name, "1")] {
        // Who reads a stream is not listed.
        if row.is_stream && name == fanout_queue {
            continue;
        }
        let consumer = seen.consumers.iter().find(|row| row["queue_name"] == **name);
        let expected = json!({"queue_name": name, "consumer_tag": tag, "ack_required": true,
            "prefetch_count": row.prefetch, "arguments": row.consume_arguments});
        assert_eq!(consumer, Some(&expected), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_option_declares_what_the_contract_says() {
    testkit::lend!("each_option_declares_what_the_contract_says", broker());
    let mut all = Vec::new();
    for row in table() {
        all.push(declare(row).await);
    }
    let seen = Seen::now();
    for declared in &mut all {
        check(declared, &seen);
    }
    // At a clean stop only the fanout queue goes, and only if it is the server's own.
    for declared in &mut all {
        for mut listener in declared.listeners.drain(..) {
            listener.stop().await;
        }
        declared.transport.close().await;
    }
    let seen = Seen::now();
    let is_there = |name: &str| seen.queues.iter().any(|row| row["name"] == name);
    for Declared { row, topic, fanout_name, reply_name, .. } in &all {
        let goes_by_itself = row.topic_queue["auto_delete"] == true;
        assert_eq!(is_there(topic), !goes_by_itself, "{}", row.query);
        assert_eq!(is_there(&format!("{topic}.host1")), !goes_by_itself, "{}", row.query);
        assert_eq!(is_there(fanout_name), row.is_stream, "{}", row.query);
        assert!(is_there(reply_name), "{}", row.query);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_queue_manager_gives_lasting_names() {
    let broker = testkit::lend!("the_queue_manager_gives_lasting_names", broker());
    let dir = testkit::disk::TempDir::new();
    let (topic, host) = (unique("topic"), unique("host"));
    let url = format!("{}?use_queue_manager=true&hostname={host}&processname=p", broker.url());
    let options = MessagingOptions::of_url(&url).unwrap();
    let error = RabbitTransport::new(&options, None).unwrap_err();
    assert!(error.to_string().contains("lock_path"), "{error}");
    let transport = RabbitTransport::new(&options, Some(dir.path())).unwrap();
    let mut server = serve(&transport, &topic).await;
    let replies = within(transport.listen(Listen::Replies)).await.unwrap();
    assert_eq!(replies.reply_queue(), Some(&*format!("reply_{host}:p:2")));
    server.stop().await;
    transport.close().await;
    let queues = rows(broker, &["list_queues", "name"]);
    let fanout = format!("{topic}_fanout_{host}:p:1");
    assert!(queues.iter().any(|row| row["name"] == fanout), "it outlasts a clean stop: {queues:?}");
    std::fs::remove_file(format!("/dev/shm/{host}_p_qmanager")).unwrap();
}

/// Services with different options share exchanges and queues that were made first.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_durable_is_taken_as_it_is() {
    let broker = testkit::lend!("what_is_not_durable_is_taken_as_it_is", broker());
    let (topic, exchange) = (unique("topic"), unique("control"));
    let first = transport_with(&broker.url(), &exchange, Limits::default());
    let mut listener = serve(&first, &topic).await;
    listener.stop().await;
    drop(listener);

    let durable = format!("{}?amqp_durable_queues=true", broker.url());
    let second = transport_with(&durable, &exchange, Limits::default());
    let mut listener = serve(&second, &topic).await;
    send(&second, to_topic(&topic, "here")).await.unwrap();
    assert_eq!(crate::kit::next_text(&mut listener).await, "here");
    second.close().await;

    // The other way round nobody can help, but it is told.
    let exchange = unique("control");
    let durable = transport_with(&durable, &exchange, Limits::default());
    let _listener = serve(&durable, &unique("topic")).await;
    let plain = transport_with(&broker.url(), &exchange, Limits::default());
    let refused = within(plain.listen(Listen::Server { topic: unique("topic"), server: "host1".into() })).await;
    let Err(TransportError::Refused(what)) = refused else { panic!("{refused:?}") };
    assert!(what.contains("inequivalent arg 'durable'") && what.contains(&exchange), "{what}");
    let refused = send(&plain, to_topic("anybody", "here")).await;
    assert!(matches!(&refused, Err(TransportError::Refused(what)) if what.contains("durable")), "{refused:?}");
}
