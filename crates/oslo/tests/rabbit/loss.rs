//! Brokers that die, freeze, run out of memory, or take things away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oslo::messaging::rabbit::{Limits, LinkState, RabbitStatus};
use oslo::messaging::{AckError, Publish, Published, Route, Transport as _, TransportError};

use crate::kit::{
    LIMIT, broker_of, ctl, message, next, next_text, pair, send, serve, text, to_topic, transport, transport_with,
    unique, until, within,
};

/// Short bounds, for tests that make them run out.
fn impatient() -> Limits {
    let short = Duration::from_secs(3);
    Limits { connect: short, command: short, confirm: short, close: short, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_broker_is_killed_again_and_again() {
    let mut pair = testkit::lend!("nothing_is_lost_when_the_broker_is_killed_again_and_again", pair().await);
    let broker = &mut pair.0[0];
    let transport = Arc::new(transport_with(
        &format!("{}?amqp_durable_queues=true", broker.url()),
        &unique("control"),
        Limits::default(),
    ));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    let is_enough = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn({
        let (transport, topic, is_enough) = (Arc::clone(&transport), topic.clone(), Arc::clone(&is_enough));
        async move {
            let mut sent = 0_u32;
            while !is_enough.load(Ordering::Relaxed) {
                let publish = Publish { give_up_after: None, ..to_topic(&topic, &sent.to_string()) };
                assert_eq!(send(&transport, publish).await.unwrap(), Published::Taken);
                sent += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            sent
        }
    });
    let receiving = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while let Some(delivery) = within(listener.next()).await {
            // It does not count before the broker has been told.
            if delivery.ack.ack().await.is_ok() {
                let body = text(&delivery);
                if body == "end" {
                    break;
                }
                seen.insert(body.parse::<u32>().unwrap());
            }
        }
        seen
    });
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        broker.kill();
        until(&transport, "the loss is noticed", |status| !status.is_listening()).await;
        tokio::task::block_in_place(|| broker.restart());
        until(&transport, "it listens again", RabbitStatus::is_listening).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    is_enough.store(true, Ordering::Relaxed);
    let sent = within(sending).await.unwrap();
    send(&transport, to_topic(&topic, "end")).await.unwrap();
    let seen = within(receiving).await.unwrap();
    assert!(sent > 100, "{sent}");
    assert_eq!(seen, (0..sent).collect(), "each message that was confirmed has arrived");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_broker_takes_over_from_a_dead_one() {
    let mut pair = testkit::lend!("the_other_broker_takes_over_from_a_dead_one", pair().await);
    let transport = transport(&pair.url());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    send(&transport, to_topic("nobody", "opens the other connection")).await.unwrap();
    let first = broker_of(&transport.status()).unwrap();
    let of_first = pair.0.iter().position(|broker| first.ends_with(&format!(":{}", broker.port()))).unwrap();
    pair.0[of_first].kill();
    until(&transport, "the other one is taken", |status| broker_of(status).is_some_and(|now| now != first)).await;
    send(&transport, to_topic(&topic, "here")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "here");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_noticed_and_left() {
    let pair = testkit::lend!("a_frozen_broker_is_noticed_and_left", pair().await);
    let url = format!("{}?heartbeat_timeout_threshold=2", pair.url());
    let transport = transport_with(&url, "openstack", impatient());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    let first = broker_of(&transport.status()).unwrap();
    let frozen = pair.0.iter().find(|broker| first.ends_with(&format!(":{}", broker.port()))).unwrap();
    frozen.freeze();
    until(&transport, "the other one is taken", |status| broker_of(status).is_some_and(|now| now != first)).await;
    send(&transport, to_topic(&topic, "here")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "here");
    frozen.thaw();
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_limits_hold_while_the_only_broker_is_frozen() {
    let pair = testkit::lend!("time_limits_hold_while_the_only_broker_is_frozen", pair().await);
    let broker = &pair.0[0];
    let transport = Arc::new(transport_with(&broker.url(), "openstack", impatient()));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    send(&transport, to_topic("nobody", "opens the connection")).await.unwrap();
    broker.freeze();
    let publish = Publish { give_up_after: Some(Duration::from_secs(1)), ..to_topic(&topic, "given up") };
    let given_up = transport.publish(publish.clone()).await;
    assert!(matches!(given_up, Err(TransportError::Unreachable { .. })), "{given_up:?}");
    let patient = tokio::spawn({
        let (transport, publish) = (Arc::clone(&transport), to_topic(&topic, "waits"));
        async move { send(&transport, publish).await }
    });
    // Also those who give up soon find out that the broker is silent, and say so.
    let end = std::time::Instant::now() + LIMIT;
    loop {
        let given_up = transport.publish(publish.clone()).await;
        let Err(TransportError::Unreachable { what, .. }) = given_up else { panic!("{given_up:?}") };
        if what.contains("no answer within 3 s") {
            break;
        }
        assert!(std::time::Instant::now() < end, "{what}");
    }
    assert!(!transport.status().sender.unwrap().is_connected());
    broker.thaw();
    assert_eq!(within(patient).await.unwrap().unwrap(), Published::Taken);
    // What was given up may arrive, too.
    while next_text(&mut listener).await != "waits" {}
    within(transport.close()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_after_a_loss_is_refused_and_the_message_comes_again() {
    let name = "an_acknowledgement_after_a_loss_is_refused_and_the_message_comes_again";
    let pair = testkit::lend!(name, pair().await);
    let broker = &pair.0[0];
    let transport = transport(&broker.url());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    for body in ["a", "b", "c"] {
        send(&transport, to_topic(&topic, body)).await.unwrap();
    }
    let first = next(&mut listener).await;
    assert_eq!((text(&first).as_str(), first.redelivered), ("a", false));
    let since = transport.status().listeners[0].since;
    ctl(broker, &["close_all_connections", "test"]);
    until(&transport, "it is connected anew", |status| status.is_listening() && status.listeners[0].since != since)
        .await;
    assert_eq!(first.ack.ack().await, Err(AckError));
    assert_eq!(first.ack.reject(false).await, Err(AckError));
    // Those that had arrived here, but that nobody had taken, are not handed out twice.
    for body in ["a", "b", "c"] {
        let again = next(&mut listener).await;
        assert_eq!((text(&again).as_str(), again.redelivered), (body, true));
        again.ack.ack().await.unwrap();
    }
    send(&transport, to_topic(&topic, "d")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "d");
    transport.close().await;
}

/// A fanout stream goes on after what was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_it_was_read_to() {
    let pair = testkit::lend!("a_stream_goes_on_where_it_was_read_to", pair().await);
    let broker = &pair.0[0];
    let query = "rabbit_stream_fanout=true&rabbit_transient_quorum_queue=true&rabbit_qos_prefetch_count=5";
    let transport = transport(&format!("{}?{query}", broker.url()));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    let all = |body: &str| message(Route::Fanout { topic: topic.clone() }, body);
    send(&transport, all("1")).await.unwrap();
    send(&transport, all("2")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "1");
    assert_eq!(text(&next(&mut listener).await), "2", "and it is not acknowledged");
    ctl(broker, &["close_all_connections", "test"]);
    send(&transport, all("3")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "2");
    assert_eq!(next_text(&mut listener).await, "3");
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_made_again() {
    let pair = testkit::lend!("a_queue_that_is_deleted_is_made_again", pair().await);
    let broker = &pair.0[0];
    let transport = transport(&broker.url());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    // What came by another queue of the same connection can be acknowledged still.
    send(&transport, to_topic(&format!("{topic}.host1"), "kept")).await.unwrap();
    let kept = next(&mut listener).await;
    ctl(broker, &["delete_queue", &topic]);
    let end = std::time::Instant::now() + LIMIT;
    let queues = || ctl(broker, &["list_consumers", "queue_name"]);
    while !queues().lines().any(|line| line == topic) {
        assert!(std::time::Instant::now() < end, "{}", queues());
    }
    send(&transport, to_topic(&topic, "here")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "here");
    kept.ack.ack().await.unwrap();
    transport.close().await;
}

/// A broker closes the channel of who keeps a message for too long without a word.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_broker_closes_is_opened_again() {
    let mut pair = testkit::lend!("a_channel_that_the_broker_closes_is_opened_again", pair().await);
    let broker = &mut pair.0[1];
    ctl(
        broker,
        &[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 1000).",
        ],
    );
    let transport = transport(&broker.url());
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    send(&transport, to_topic(&topic, "slow")).await.unwrap();
    let slow = next(&mut listener).await;
    let again = next(&mut listener).await;
    assert_eq!((text(&again).as_str(), again.redelivered), ("slow", true));
    again.ack.ack().await.unwrap();
    assert_eq!(slow.ack.ack().await, Err(AckError));
    transport.close().await;
    ctl(
        broker,
        &[
            "eval",
            "application:set_env(rabbit, consumer_timeout, 1800000), application:set_env(rabbit, channel_tick_interval, 60000).",
        ],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_memory_is_waited_for() {
    let pair = testkit::lend!("a_broker_without_memory_is_waited_for", pair().await);
    let broker = &pair.0[0];
    let transport = Arc::new(transport_with(&broker.url(), "openstack", impatient()));
    let topic = unique("topic");
    let mut listener = serve(&transport, &topic).await;
    send(&transport, to_topic(&topic, "before")).await.unwrap();
    let before = next(&mut listener).await;
    ctl(broker, &["set_vm_memory_high_watermark", "absolute", "1"]);
    let waiting = tokio::spawn({
        let (transport, publish) = (Arc::clone(&transport), to_topic(&topic, "waits"));
        async move { send(&transport, publish).await }
    });
    until(&transport, "the broker says so", |status| {
        status.sender.as_ref().is_some_and(|sender| matches!(sender.state, LinkState::Blocked { .. }))
    })
    .await;
    // Longer than an answer may take else; the connection stays.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!waiting.is_finished());
    assert!(matches!(transport.status().sender.unwrap().state, LinkState::Blocked { .. }));
    // Who only consumes is not held up.
    before.ack.ack().await.unwrap();
    ctl(broker, &["set_vm_memory_high_watermark", "absolute", "2GB"]);
    assert_eq!(within(waiting).await.unwrap().unwrap(), Published::Taken);
    assert_eq!(next_text(&mut listener).await, "waits");
    assert!(matches!(transport.status().sender.unwrap().state, LinkState::Connected { .. }));
    transport.close().await;
}
