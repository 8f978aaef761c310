//! What goes over the wire, in which order, on which connection.

use std::sync::{Arc, Mutex};

use oslo::messaging::{Listen, Published, Route, Transport as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::kit::{broker, message, next_text, send, serve, to_topic, transport, unique, until, within};

/// Stands between us and the broker: notes the methods of the client, for each connection, and can cut all of them.
struct Tap {
    port: u16,
    connections: Arc<Mutex<Vec<Vec<String>>>>,
    cut: Arc<tokio::sync::Notify>,
}

impl Tap {
    async fn new(broker_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let cut = Arc::new(tokio::sync::Notify::new());
        let (noted, cuts) = (Arc::clone(&connections), Arc::clone(&cut));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let broker = TcpStream::connect(("127.0.0.1", broker_port)).await.unwrap();
                let number = {
                    let mut noted = noted.lock().unwrap();
                    noted.push(Vec::new());
                    noted.len() - 1
                };
                let (noted, cuts) = (Arc::clone(&noted), Arc::clone(&cuts));
                tokio::spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_broker, mut to_broker) = broker.into_split();
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_broker, &mut to_client) => {}
                        () = async {
                            let mut buffer = Vec::new();
                            let mut bytes = [0; 4096];
                            while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                                buffer.extend_from_slice(&bytes[..count]);
                                noted.lock().unwrap()[number].extend(methods(&mut buffer));
                                if to_broker.write_all(&bytes[..count]).await.is_err() {
                                    break;
                                }
                            }
                        } => {}
                        () = cuts.notified() => {}
                    }
                });
            }
        });
        Self { port, connections, cut }
    }

    fn url(&self) -> String {
        format!("rabbit://guest:guest@127.0.0.1:{}/", self.port)
    }

    fn connections(&self) -> Vec<Vec<String>> {
        self.connections.lock().unwrap().clone()
    }
}

/// Takes whole frames from the buffer, and names the methods among them with the words that tell them apart.
fn methods(buffer: &mut Vec<u8>) -> Vec<String> {
    if buffer.starts_with(b"AMQP") {
        if buffer.len() < 8 {
            return Vec::new();
        }
        buffer.drain(..8);
    }
    let mut names = Vec::new();
    while buffer.len() >= 8 {
        let size = u32::from_be_bytes(buffer[3..7].try_into().unwrap()) as usize;
        if buffer.len() < size + 8 {
            break;
        }
        let frame: Vec<u8> = buffer.drain(..size + 8).collect();
        if frame[0] != 1 {
            continue;
        }
        let payload = &frame[7..7 + size];
        let [class, method] = [0, 2].map(|at| u16::from_be_bytes(payload[at..at + 2].try_into().unwrap()));
        // Short strings from a place on.
        let words = |mut at: usize, count: usize| -> String {
            let mut words = String::new();
            for _ in 0..count {
                let end = at + 1 + usize::from(payload[at]);
                words.push(' ');
                words += &String::from_utf8_lossy(&payload[at + 1..end]);
                at = end;
            }
            words
        };
        names.push(match (class, method) {
            (40, 10) => format!("exchange.declare{}", words(6, 2)),
            (50, 10) => format!("queue.declare{}", words(6, 1)),
            (50, 20) => format!("queue.bind{}", words(6, 3)),
            (50, 40) => format!("queue.delete{}", words(6, 1)),
            (60, 10) => format!("basic.qos {}", u16::from_be_bytes(payload[8..10].try_into().unwrap())),
            (60, 20) => format!("basic.consume{}", words(6, 2)),
            (60, 30) => format!("basic.cancel{}", words(4, 1)),
            (60, 40) => {
                let routed = words(6, 2);
                // Both names, with their lengths before them, and the one space before each.
                let bits = payload[6 + routed.len()];
                format!("basic.publish{routed}{}", if bits & 1 == 0 { "" } else { " mandatory" })
            }
            (60, 80) => "basic.ack".into(),
            (85, 10) => "confirm.select".into(),
            // Connections and channels come and go as the library does it.
            (10 | 20, _) => continue,
            other => format!("{other:?}"),
        });
    }
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_declared_in_order_and_nothing_is_sent_where_we_listen() {
    let name = "everything_is_declared_in_order_and_nothing_is_sent_where_we_listen";
    let broker = testkit::lend!(name, broker());
    let tap = Tap::new(broker.port()).await;
    let transport = transport(&format!("{}?rabbit_qos_prefetch_count=7", tap.url()));
    let topic = unique("t");
    let mut listener = serve(&transport, &topic).await;
    for _ in 0..2 {
        send(&transport, to_topic(&topic, "x")).await.unwrap();
        next_text(&mut listener).await;
    }
    let mut replies = within(transport.listen(Listen::Replies)).await.unwrap();
    let queue = replies.reply_queue().unwrap().to_owned();
    send(&transport, message(Route::Reply { queue: queue.clone() }, "x")).await.unwrap();
    next_text(&mut replies).await;
    send(&transport, message(Route::Fanout { topic: topic.clone() }, "x")).await.unwrap();
    next_text(&mut listener).await;
    listener.stop().await;
    transport.close().await;

    let [serving, sending, replying] = &tap.connections()[..] else { panic!("{:?}", tap.connections()) };
    let fanout = serving.iter().find_map(|line| line.strip_prefix(&format!("queue.declare {topic}_fanout_")));
    let fanout = format!("{topic}_fanout_{}", fanout.unwrap());
    let expected = [
        "basic.qos 7".into(),
        "exchange.declare openstack topic".into(),
        format!("queue.declare {topic}"),
        format!("queue.bind {topic} openstack {topic}"),
        "exchange.declare openstack topic".into(),
        format!("queue.declare {topic}.host1"),
        format!("queue.bind {topic}.host1 openstack {topic}.host1"),
        format!("exchange.declare {topic}_fanout fanout"),
        format!("queue.declare {fanout}"),
        format!("queue.bind {fanout} {topic}_fanout {topic}"),
        format!("basic.consume {topic} 1"),
        format!("basic.consume {topic}.host1 2"),
        format!("basic.consume {fanout} 3"),
        "basic.ack".into(),
        "basic.ack".into(),
        "basic.ack".into(),
        "basic.cancel 1".into(),
        "basic.cancel 2".into(),
        "basic.cancel 3".into(),
        format!("queue.delete {fanout}"),
    ];
    assert_eq!(serving[..], expected);
    let expected = [
        "basic.qos 7".into(),
        format!("queue.declare {queue}"),
        format!("basic.consume {queue} 1"),
        "basic.ack".to_owned(),
    ];
    assert_eq!(replying[..], expected);
    let expected = [
        "confirm.select".into(),
        "confirm.select".into(),
        // Once, however much is sent.
        "exchange.declare openstack topic".into(),
        format!("basic.publish openstack {topic}"),
        format!("basic.publish openstack {topic}"),
        format!("basic.publish  {queue} mandatory"),
        format!("exchange.declare {topic}_fanout fanout"),
        format!("basic.publish {topic}_fanout "),
    ];
    assert_eq!(sending[..], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_queue_that_is_gone_is_not_asked_for_again() {
    let broker = testkit::lend!("a_reply_queue_that_is_gone_is_not_asked_for_again", broker());
    let tap = Tap::new(broker.port()).await;
    let transport = transport(&format!("{}?kombu_missing_consumer_retry_timeout=1", tap.url()));
    let lost = || message(Route::Reply { queue: "reply_gone".into() }, "x");
    assert_eq!(send(&transport, lost()).await.unwrap(), Published::NobodyThere);
    let before = tap.connections();
    assert!(before[0].len() > 3, "it is tried for a while: {before:?}");
    assert_eq!(send(&transport, lost()).await.unwrap(), Published::NobodyThere);
    assert_eq!(tap.connections(), before);
    transport.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_network_is_mended_with_the_same_queues() {
    let broker = testkit::lend!("a_cut_network_is_mended_with_the_same_queues", broker());
    let tap = Tap::new(broker.port()).await;
    let transport = transport(&tap.url());
    let topic = unique("t");
    let mut listener = serve(&transport, &topic).await;
    let mut replies = within(transport.listen(Listen::Replies)).await.unwrap();
    send(&transport, to_topic(&topic, "before")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "before");
    let since: Vec<_> = transport.status().listeners.iter().map(|listener| listener.since).collect();
    tap.cut.notify_waiters();
    until(&transport, "all are connected anew", |status| {
        let anew = status.listeners.iter().zip(&since).all(|(listener, since)| listener.since != *since);
        anew && status.is_listening()
    })
    .await;
    send(&transport, message(Route::Fanout { topic: topic.clone() }, "after")).await.unwrap();
    assert_eq!(next_text(&mut listener).await, "after");
    let queue = replies.reply_queue().unwrap().to_owned();
    send(&transport, message(Route::Reply { queue }, "after")).await.unwrap();
    assert_eq!(next_text(&mut replies).await, "after");
    transport.close().await;

    // The queues of the process keep their names, so that nothing that waits in them is lost.
    let connections = tap.connections();
    let declared = |connection: &[String]| -> Vec<String> {
        connection.iter().filter(|line| line.starts_with("queue.declare")).cloned().collect()
    };
    let mut declared: Vec<_> = connections.iter().map(|it| declared(it)).filter(|it| !it.is_empty()).collect();
    declared.sort();
    assert_eq!(declared.len(), 4, "{connections:?}");
    assert_eq!((&declared[0], &declared[2]), (&declared[1], &declared[3]));
}
