//! Nothing is lost, nothing is done twice.

use std::time::Duration;

use oslo::messaging::memory::Settled;
use oslo::messaging::{Acknowledge, ServerOptions};
use serde_json::json;

use crate::kit::{Room, TOPIC, limits, serve, within, without_waiting};

#[tokio::test]
async fn a_request_is_acknowledged_after_it_was_handled_and_answered() {
    within(async {
        let mut room = Room::new().await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        assert_eq!((room.transport.held(), room.transport.settled()), (1, Settled::default()));
        room.tool.gate.add_permits(1);
        room.reply().await;
        room.idle().await;
        assert_eq!(room.transport.settled().acknowledged, 2);
    })
    .await;
}

#[tokio::test]
async fn or_before_if_that_is_wanted() {
    within(async {
        let options = ServerOptions { acknowledge: Acknowledge::BeforeHandling, ..ServerOptions::default() };
        let mut room = Room::with(options).await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        assert_eq!((room.transport.held(), room.transport.settled().acknowledged), (0, 1));
        // The same message a second time is neither handled nor answered.
        room.call("u1", "wait", json!({}));
        room.transport.until(|transport| transport.settled().acknowledged == 2).await;
        room.tool.gate.add_permits(2);
        assert_eq!(room.reply().await["_msg_id"], "u1");
        assert_eq!((room.tool.requests().len(), room.transport.sent().len()), (1, 1));
    })
    .await;
}

#[tokio::test]
async fn what_comes_again_while_it_is_handled_joins_the_first() {
    within(async {
        let mut room = Room::new().await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        // Once because the connection broke, and once because the sender did not know whether it had sent it.
        room.transport.cut_connections();
        room.call("u1", "wait", json!({}));
        room.transport.until(|transport| transport.held() == 2 && transport.ready(TOPIC) == 0).await;
        room.tool.gate.add_permits(3);
        room.reply().await;
        room.idle().await;
        assert_eq!(room.tool.requests().len(), 1);
        assert_eq!(room.transport.sent().len(), 1, "one reply");
        assert_eq!(room.transport.settled().acknowledged, 3, "both deliveries, and the reply");
    })
    .await;
}

#[tokio::test]
async fn what_comes_again_after_it_was_handled_is_dropped() {
    within(async {
        let mut room = Room::new().await;
        room.cast("u1", "echo", json!({}));
        room.idle().await;
        room.cast("u1", "echo", json!({}));
        room.cast("u2", "fail", json!({}));
        room.idle().await;
        room.cast("u2", "fail", json!({}));
        room.idle().await;
        assert_eq!(room.tool.methods(), ["echo", "fail"]);
        assert_eq!(room.transport.settled(), Settled { acknowledged: 4, ..Settled::default() });
        // A caller gets the very same reply once more: the first may have been lost with the broker.
        room.call("u3", "echo", json!({}));
        let first = room.reply().await;
        room.idle().await;
        room.call("u3", "echo", json!({}));
        assert_eq!(room.reply().await, first);
        assert_eq!(room.tool.requests().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn messages_without_an_identifier_are_each_one_of_their_own() {
    within(async {
        let room = Room::new().await;
        for _ in 0..3 {
            room.transport.put_message(TOPIC, json!({"method": "echo"}));
        }
        room.transport.put_message(TOPIC, json!({"method": "echo", "_unique_id": "x".repeat(256)}));
        room.transport.put_message(TOPIC, json!({"method": "echo", "_unique_id": 5}));
        room.tool.handed_in(5).await;
        room.idle().await;
        let ids: Vec<_> = room.tool.requests().into_iter().filter_map(|request| request.unique_id).collect();
        assert_eq!(ids, ["5"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_is_tried_again_with_growing_pauses() {
    without_waiting(async {
        let mut room = Room::new().await;
        let began = tokio::time::Instant::now();
        room.call("u1", "later", json!({"times": 7}));
        assert_eq!(room.reply().await["result"], 8);
        // 1 + 2 + 4 + 8 + 16 + 30 + 30
        assert_eq!(began.elapsed(), Duration::from_secs(91));
        room.idle().await;
        assert_eq!(room.transport.settled().acknowledged, 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn others_are_handled_meanwhile() {
    without_waiting(async {
        let mut room = Room::with(limits(|limits| limits.handlers_max = 1)).await;
        for number in 0..20 {
            room.cast(&format!("u{number}"), "later", json!({"times": 3}));
        }
        room.call("call", "echo", json!({}));
        assert_eq!(room.reply().await["_msg_id"], "call");
        assert_eq!(room.transport.held(), 20, "none of them is acknowledged yet");
        room.idle().await;
        assert_eq!(room.tool.requests().len(), 20 * 4 + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_wait_in_memory_than_allowed() {
    without_waiting(async {
        let room = Room::with(limits(|limits| limits.deliveries_max = 3)).await;
        for number in 0..10 {
            room.cast(&format!("u{number}"), "later", json!({"times": 1}));
        }
        room.tool.handed_in(3).await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!((room.transport.held(), room.transport.ready(TOPIC)), (3, 7));
        room.idle().await;
        assert_eq!(room.tool.requests().len(), 20);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_redelivery_of_what_was_not_handled_is_handled() {
    without_waiting(async {
        let room = Room::new().await;
        room.cast("u1", "later", json!({"times": 1}));
        room.tool.handed_in(1).await;
        // The process stops while the request pauses; the next one gets it.
        let Room { transport, tool, server, .. } = room;
        server.stop().await;
        assert_eq!((transport.held(), transport.ready(TOPIC)), (0, 1));
        let server = serve(&transport.another_process(), &tool, ServerOptions::default()).await;
        transport.until(|transport| transport.settled().acknowledged == 1).await;
        let requests = tool.requests();
        assert_eq!(requests.iter().map(|request| request.redelivered).collect::<Vec<_>>(), [false, true]);
        server.stop().await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_acknowledgement_is_no_second_handling() {
    without_waiting(async {
        let mut room = Room::new().await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        // The reply cannot be sent, so nothing is acknowledged, and then the connection is lost.
        room.transport.set_away(true);
        room.tool.gate.add_permits(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        room.transport.cut_connections();
        room.transport.set_away(false);
        assert_eq!(room.reply().await["_msg_id"], "u1");
        room.idle().await;
        assert_eq!(room.tool.requests().len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_lets_handlers_end() {
    without_waiting(async {
        let room = Room::new().await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        let Room { server, ref tool, ref transport, .. } = room;
        let stopping = tokio::spawn(server.stop());
        tokio::time::sleep(Duration::from_secs(5)).await;
        transport.put_message(TOPIC, json!({"method": "echo"}));
        tool.gate.add_permits(1);
        stopping.await.unwrap();
        assert_eq!(transport.settled().acknowledged, 1);
        assert_eq!(transport.ready(TOPIC), 1, "new requests are for somebody else");
        assert_eq!(transport.sent()[0].message["result"], "waited");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn but_not_for_ever() {
    without_waiting(async {
        let room = Room::new().await;
        room.cast("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        let began = tokio::time::Instant::now();
        room.server.stop().await;
        assert_eq!(began.elapsed(), Duration::from_secs(30));
        assert_eq!((room.transport.held(), room.transport.ready(TOPIC)), (0, 1));
    })
    .await;
}

#[tokio::test]
async fn a_closed_transport_ends_the_server() {
    within(async {
        let room = Room::new().await;
        assert!(room.server.is_running());
        oslo::messaging::Transport::close(&room.transport).await;
        while room.server.is_running() {
            tokio::task::yield_now().await;
        }
        room.server.stop().await;
    })
    .await;
}
