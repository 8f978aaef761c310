//! Messages there and back.

use std::time::Duration;

use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use oslo::messaging::compression::decompress;
use oslo::messaging::rabbit::{Limits, MessagingOptions, RabbitTransport};
use oslo::messaging::{Listen, Publish, Published, Route, Transport as _, TransportError};
use testkit::servers::rabbitmq::RabbitMq;
use tokio_stream::StreamExt as _;

use crate::kit::{
    LIMIT, broker, message, next, next_text, rows, send, serve, text, to_topic, transport, transport_with, unique,
    within,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_arrives_at_the_topic_at_the_server_and_at_all() {
    let broker = testkit::lend!("a_request_arrives_at_the_topic_at_the_server_and_at_all", broker());
    let transport = transport(&broker.url());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    for key in [topic.clone(), format!("{topic}.host1")] {
        assert_eq!(send(&transport, to_topic(&key, &key)).await.unwrap(), Published::Taken);
        assert_eq!(next_text(&mut listener).await, key);
    }
    let fanout = message(Route::Fanout { topic: topic.clone() }, "all");
    assert_eq!(send(&transport, fanout).await.unwrap(), Published::Taken);
    assert_eq!(next_text(&mut listener).await, "all");
    // A topic that nobody serves drops what it gets, and nobody is told.
    assert_eq!(send(&transport, to_topic("nobody", "x")).await.unwrap(), Published::Taken);

    let status = transport.status();
    assert!(status.is_listening() && status.sender.unwrap().is_connected());
    transport.close().await;
    assert!(listener.next().await.is_none());
    assert!(matches!(transport.publish(to_topic(&topic, "x")).await, Err(TransportError::Closed)));
    let listen = transport.listen(Listen::Replies).await;
    assert!(matches!(listen, Err(TransportError::Closed)), "{listen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_arrives_or_is_known_to_be_lost() {
    let broker = testkit::lend!("a_reply_arrives_or_is_known_to_be_lost", broker());
    let url = format!("{}?kombu_missing_consumer_retry_timeout=1", broker.url());
    let transport = transport(&url);
    let mut replies = within(transport.listen(Listen::Replies)).await.unwrap();
    let queue = replies.reply_queue().unwrap().to_owned();
    assert_eq!(send(&transport, message(Route::Reply { queue }, "42")).await.unwrap(), Published::Taken);
    assert_eq!(next_text(&mut replies).await, "42");

    let lost = message(Route::Reply { queue: "reply_nobody".into() }, "42");
    let start = std::time::Instant::now();
    assert_eq!(send(&transport, lost).await.unwrap(), Published::NobodyThere);
    assert!(start.elapsed() >= Duration::from_secs(1), "it is tried for a while: {:?}", start.elapsed());
    let long = message(Route::Reply { queue: "x".repeat(256) }, "42");
    assert!(matches!(send(&transport, long).await, Err(TransportError::Refused(_))));
    transport.close().await;
}

/// A reply's queue that comes back in time gets the reply, as after a broker's restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_waits_for_its_queue() {
    let broker = testkit::lend!("a_reply_waits_for_its_queue", broker());
    let transport = transport(&broker.url());
    let queue = unique("reply");
    let publish = message(Route::Reply { queue: queue.clone() }, "late");
    let (published, ()) = tokio::join!(send(&transport, publish), async {
        tokio::time::sleep(Duration::from_millis(600)).await;
        let channel = amqp(broker).await.create_channel().await.unwrap();
        channel.queue_declare(queue.into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        std::mem::forget(channel);
    });
    assert_eq!(published.unwrap(), Published::Taken);
    transport.close().await;
}

/// A connection of the library alone, to see what others see.
async fn amqp(broker: &RabbitMq) -> Connection {
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2f", broker.port());
    within(Connection::connect(&url, ConnectionProperties::default())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_has_the_properties_of_oslo_messaging() {
    let broker = testkit::lend!("what_is_sent_has_the_properties_of_oslo_messaging", broker());
    let queue = unique("reply");
    let connection = amqp(broker).await;
    let channel = connection.create_channel().await.unwrap();
    let name = || queue.clone().into();
    channel.queue_declare(name(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
    let consume = channel.basic_consume(name(), "t".into(), BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = consume.await.unwrap();

    let plain = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_content_encoding("utf-8".into())
        .with_headers(FieldTable::default())
        .with_delivery_mode(2)
        .with_priority(0);
    let transport1 = transport(&broker.url());
    let mut publish = message(Route::Reply { queue: queue.clone() }, "{}");
    send(&transport1, publish.clone()).await.unwrap();
    let received = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!((received.properties, &*received.data), (plain.clone(), &b"{}"[..]));
    publish.expiration = Some(Duration::from_mins(1));
    send(&transport1, publish.clone()).await.unwrap();
    let received = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(received.properties, plain.clone().with_expiration("60000".into()));

    for (option, header) in [("gzip", "application/x-gzip"), ("bz2", "application/x-bz2")] {
        let transport = transport(&format!("{}?kombu_compression={option}", broker.url()));
        send(&transport, message(Route::Reply { queue: queue.clone() }, "{}")).await.unwrap();
        let received = within(consumer.next()).await.unwrap().unwrap();
        let mut headers = FieldTable::default();
        headers.insert("compression".into(), AMQPValue::LongString(header.into()));
        assert_eq!(received.properties, plain.clone().with_headers(headers));
        assert_eq!(decompress(header, &received.data, 99).unwrap(), b"{}");
        transport.close().await;
    }

    // Who we are to the broker.
    let connections = rows(broker, &["list_connections", "client_properties", "auth_mechanism"]);
    let names: Vec<String> = connections.iter().map(|row| row["client_properties"].to_string()).collect();
    let own = format!(":{}:", std::process::id());
    let ours: Vec<_> = names.iter().filter(|name| name.contains(&own)).collect();
    assert!(!ours.is_empty(), "{names:?}");
    for capability in ["consumer_cancel_notify", "connection.blocked", "authentication_failure_close"] {
        assert!(ours.iter().all(|name| name.contains(capability)), "{ours:?}");
    }
    assert!(connections.iter().any(|row| row["auth_mechanism"] == "AMQPLAIN"), "{connections:?}");
    transport1.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_brings_its_properties() {
    let broker = testkit::lend!("what_arrives_brings_its_properties", broker());
    let transport = transport(&broker.url());
    let mut replies = within(transport.listen(Listen::Replies)).await.unwrap();
    let channel = amqp(broker).await.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("compression".into(), AMQPValue::LongString("application/x-gzip".into()));
    headers.insert("number".into(), AMQPValue::LongInt(7));
    let properties = BasicProperties::default().with_headers(headers).with_expiration("60000".into());
    let queue = replies.reply_queue().unwrap().into();
    channel.basic_publish("".into(), queue, BasicPublishOptions::default(), b"\xff", properties).await.unwrap();
    let delivery = next(&mut replies).await;
    assert_eq!((&*delivery.body, delivery.redelivered), (&b"\xff"[..], false));
    assert_eq!(delivery.properties.content_type, None);
    assert_eq!(delivery.properties.expiration.as_deref(), Some("60000"));
    let headers: Vec<_> = delivery.properties.headers.into_iter().collect();
    assert_eq!(headers, [("compression".to_owned(), "application/x-gzip".to_owned())]);
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_comes_again() {
    let broker = testkit::lend!("what_is_not_acknowledged_comes_again", broker());
    let transport1 = transport(&broker.url());
    let topic = unique("topic");
    let mut listener = serve(&transport1, &topic).await;
    for body in ["a", "b", "c", "d"] {
        send(&transport1, to_topic(&topic, body)).await.unwrap();
    }
    next(&mut listener).await.ack.ack().await.unwrap();
    next(&mut listener).await.ack.reject(false).await.unwrap();
    let c = next(&mut listener).await;
    c.ack.reject(true).await.unwrap();
    let mut rest: Vec<String> = Vec::new();
    while rest.len() < 2 {
        let delivery = next(&mut listener).await;
        assert_eq!(delivery.redelivered, text(&delivery) == "c");
        rest.push(text(&delivery));
    }
    rest.sort();
    assert_eq!(rest, ["c", "d"]);
    // After a stop there is nothing new, but what was handed out can still be acknowledged.
    send(&transport1, to_topic(&topic, "e")).await.unwrap();
    let e = next(&mut listener).await;
    listener.stop().await;
    send(&transport1, to_topic(&topic, "f")).await.unwrap();
    assert!(within(listener.next()).await.is_none());
    e.ack.ack().await.unwrap();
    drop(listener);
    transport1.close().await;

    let transport2 = transport(&broker.url());
    let mut listener = serve(&transport2, &topic).await;
    let mut rest: Vec<(String, bool)> = Vec::new();
    while rest.len() < 3 {
        let delivery = next(&mut listener).await;
        rest.push((text(&delivery), delivery.redelivered));
    }
    rest.sort();
    assert_eq!(rest, [("c".into(), true), ("d".into(), true), ("f".into(), false)]);
    transport2.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_message_is_dropped_and_the_consumer_lives_on() {
    let broker = testkit::lend!("an_oversized_message_is_dropped_and_the_consumer_lives_on", broker());
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let transport1 = transport_with(&broker.url(), "openstack", limits);
    let topic = unique("topic");
    let mut listener = serve(&transport1, &topic).await;
    for length in [1000, 1001, 500_000, 999] {
        send(&transport1, to_topic(&topic, &"x".repeat(length))).await.unwrap();
    }
    assert_eq!(next_text(&mut listener).await.len(), 1000);
    assert_eq!(next_text(&mut listener).await.len(), 999);
    listener.stop().await;
    transport1.close().await;
    let left = rows(broker, &["list_queues", "name", "messages"]);
    let left = left.iter().find(|row| row["name"] == *topic).unwrap();
    assert_eq!(left["messages"], 0, "they were rejected for good");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_at_a_time_are_all_confirmed() {
    let broker = testkit::lend!("many_messages_at_a_time_are_all_confirmed", broker());
    let transport = std::sync::Arc::new(transport(&broker.url()));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    let tasks: Vec<_> = (0..500)
        .map(|number| {
            let (transport, publish) = (std::sync::Arc::clone(&transport), to_topic(&topic, &number.to_string()));
            tokio::spawn(async move { send(&transport, publish).await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    while numbers.len() < tasks.len() {
        numbers.push(next_text(&mut listener).await.parse::<usize>().unwrap());
    }
    for task in tasks {
        assert_eq!(within(task).await.unwrap(), Published::Taken);
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..500).collect::<Vec<_>>());
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_there_is_told_in_time() {
    let [port] = testkit::servers::free_ports();
    let options = MessagingOptions::of_url(&format!("rabbit://u:s3cret@127.0.0.1:{port}/")).unwrap();
    let transport = RabbitTransport::new(&options, None).unwrap();
    let publish = Publish { give_up_after: Some(Duration::from_secs(2)), ..to_topic("nobody", "x") };
    let Err(TransportError::Unreachable { after, what }) = transport.publish(publish).await else { panic!() };
    assert_eq!(after, Duration::from_secs(2));
    assert!(what.contains("refused") && !what.contains("s3cret"), "{what}");
    let sender = transport.status().sender.unwrap();
    assert!(!sender.is_connected() && sender.last_error == Some(what));
    // Listening goes on until it is given up.
    let listen = tokio::time::timeout(Duration::from_secs(2), transport.listen(Listen::Replies)).await;
    assert!(listen.is_err(), "{listen:?}");
    tokio::time::timeout(LIMIT, transport.close()).await.unwrap();
    assert!(transport.status().listeners.is_empty());
}
