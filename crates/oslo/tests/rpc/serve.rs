//! What a server does with requests, and what it answers.

use std::time::Duration;

use oslo::messaging::{Context, Published, Route, ServerOptions};
use serde_json::{Value, json};

use crate::kit::{Room, TOPIC, limits, within, without_waiting};

#[tokio::test]
async fn a_call_is_answered_and_a_cast_is_not() {
    within(async {
        let mut room = Room::new().await;
        room.cast("u1", "echo", json!({"a": 1}));
        room.cast("u2", "fail", json!({}));
        room.cast("u3", "no_such", json!({}));
        room.cast("u4", "panic", json!({}));
        room.call("u5", "echo", json!({"a": [1, 2.5, null, "é"]}));
        let reply = room.reply().await;
        assert_eq!(reply.keys().collect::<Vec<_>>(), ["result", "failure", "ending", "_msg_id", "_unique_id"]);
        assert_eq!(reply["result"], json!({"a": [1, 2.5, null, "é"]}));
        assert_eq!(
            (&reply["failure"], &reply["ending"], &reply["_msg_id"]),
            (&Value::Null, &json!(true), &json!("u5"))
        );
        assert_eq!(reply["_unique_id"].as_str().unwrap().len(), 32);
        room.idle().await;
        assert_eq!(room.transport.sent().len(), 1, "only the call was answered");
        // Five requests, and the reply.
        assert_eq!(room.transport.settled().acknowledged, 6);
        assert_eq!(room.transport.settled().dropped, 0);
    })
    .await;
}

#[tokio::test]
async fn replies_go_to_the_queue_that_was_named_without_expiring() {
    within(async {
        let mut room = Room::new().await;
        room.call("u1", "echo", json!({}));
        room.reply().await;
        let sent = &room.transport.sent()[0];
        assert_eq!(sent.route, Route::Reply { queue: room.reply_queue().into() });
        assert_eq!((sent.expiration, sent.published), (None, Published::Taken));
    })
    .await;
}

#[tokio::test]
async fn the_context_comes_in_and_goes_out_untouched() {
    within(async {
        let mut room = Room::new().await;
        let pairs = json!({"_context_z": {"b": [1, 1.0, null], "a": "\u{1F600}"}, "_context_auth_token": "T",
            "_context_a": false, "_context_n": 9_007_199_254_740_993_u64, "_context_f": 0.1});
        room.call_with("u1", "context", json!({}), pairs.clone());
        let found = room.reply().await["result"].to_string();
        assert_eq!(found, pairs.to_string().replace("_context_", ""));
        let request = room.tool.requests().remove(0);
        assert!(request.is_call && !request.redelivered && request.unique_id.as_deref() == Some("u1"));
        assert_eq!(request.context.get("n"), Some(&json!(9_007_199_254_740_993_u64)));
        assert_ne!(request.context, Context::default());
    })
    .await;
}

#[tokio::test]
async fn failures_are_those_of_upstream() {
    within(async {
        let mut room = Room::new().await;
        room.call("u1", "fail", json!({}));
        let expected = json!({"class": "SoldOut", "module": "shop.exception", "message": "No tea left.", "tb": [],
            "args": ["No tea left."], "kwargs": {"code": 409}});
        let found = room.failure().await;
        assert_eq!(found.to_string(), expected.to_string());

        let dispatcher = "oslo_messaging.rpc.dispatcher";
        for (method, more, class, module, message) in [
            ("frobnicate", json!({}), "NoSuchMethod", dispatcher, "Endpoint does not support RPC method frobnicate"),
            ("_private", json!({}), "NoSuchMethod", dispatcher, "Endpoint does not support RPC method _private"),
            (
                "oslo_rpc_server_ping",
                json!({}),
                "NoSuchMethod",
                dispatcher,
                "Endpoint does not support RPC method oslo_rpc_server_ping",
            ),
            (
                "echo",
                json!({"version": "1.2"}),
                "UnsupportedVersion",
                dispatcher,
                "Endpoint does not support RPC version 1.2. Attempted method: echo",
            ),
            (
                "echo",
                json!({"namespace": "x"}),
                "UnsupportedVersion",
                dispatcher,
                "Endpoint does not support RPC version 1.0. Attempted method: echo",
            ),
        ] {
            room.call_with(&format!("u-{method}-{more}"), method, json!({}), more);
            let found = room.failure().await;
            assert_eq!((&found["class"], &found["module"]), (&json!(class), &json!(module)));
            assert_eq!((&found["message"], &found["args"]), (&json!(message), &json!([message])));
        }
        assert_eq!(room.tool.methods(), ["fail", "frobnicate"], "the others did not reach the handler");
    })
    .await;
}

#[tokio::test]
async fn pings_are_answered_where_that_is_wanted() {
    within(async {
        let mut room = Room::with(ServerOptions { answers_pings: true, ..ServerOptions::default() }).await;
        room.call("u1", "oslo_rpc_server_ping", json!({}));
        assert_eq!(room.reply().await["result"], "pong");
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_a_failure_and_the_server_lives() {
    within(async {
        let mut room = Room::new().await;
        room.call("u1", "panic", json!({}));
        let failure = room.failure().await;
        assert_eq!((&failure["class"], &failure["module"]), (&json!("RuntimeError"), &json!("builtins")));
        assert!(!failure.to_string().contains("as told"), "what went wrong is for the log: {failure}");
        room.call("u2", "echo", json!({}));
        assert_eq!(room.reply().await["_msg_id"], "u2");
        room.idle().await;
    })
    .await;
}

#[tokio::test]
async fn a_result_that_is_too_large_is_a_failure() {
    within(async {
        let mut room = Room::with(limits(|limits| limits.reply_bytes_max = 1000)).await;
        room.call("u1", "big", json!({"bytes": 2000}));
        assert!(room.failure().await["message"].as_str().unwrap().contains("the limit is 1000"));
    })
    .await;
}

#[tokio::test]
async fn all_three_queues_are_served() {
    within(async {
        let mut room = Room::new().await;
        let fanout = room.transport.queues().into_iter().find(|name| name.starts_with("things_fanout_")).unwrap();
        for (number, queue) in [TOPIC, "things.host1", &fanout].into_iter().enumerate() {
            let id = format!("u{number}");
            let message = json!({"method": "echo", "_msg_id": id, "_reply_q": room.reply_queue(), "_unique_id": id});
            room.transport.put_message(queue, message);
            assert_eq!(room.reply().await["_msg_id"], json!(id), "{queue}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_monitored_call_is_told_that_it_is_being_handled() {
    without_waiting(async {
        let mut room = Room::new().await;
        room.call_with("u1", "wait", json!({}), json!({"_timeout": 4}));
        let began = tokio::time::Instant::now();
        for beat in 1..=3 {
            let reply = room.reply().await;
            assert_eq!(began.elapsed(), Duration::from_secs(2) * beat);
            assert_eq!(reply["ending"], json!(false));
            assert_eq!((&reply["result"], &reply["failure"]), (&Value::Null, &Value::Null));
        }
        room.tool.gate.add_permits(1);
        let reply = room.reply().await;
        assert_eq!((&reply["ending"], &reply["result"]), (&json!(true), &json!("waited")));
        // Others are not: their callers would not know what to make of it.
        room.call_with("u2", "wait", json!({}), json!({"_timeout": 1}));
        room.call("u3", "wait", json!({}));
        tokio::time::sleep(Duration::from_mins(1)).await;
        room.tool.gate.add_permits(2);
        assert_eq!(room.reply().await["ending"], json!(true));
        assert_eq!(room.reply().await["ending"], json!(true));
    })
    .await;
}

#[tokio::test]
async fn no_more_requests_are_handled_at_once_than_allowed() {
    within(async {
        let mut room = Room::with(limits(|limits| limits.handlers_max = 2)).await;
        for number in 0..5 {
            room.call(&format!("u{number}"), "wait", json!({}));
        }
        room.tool.handed_in(2).await;
        room.transport.until(|transport| transport.held() == 3).await;
        assert_eq!(room.transport.ready(TOPIC), 2, "all but the next one wait at the broker");
        for ended in 1..=5_usize {
            room.tool.gate.add_permits(1);
            assert_eq!(room.reply().await["result"], "waited");
            room.tool.handed_in((ended + 2).min(5)).await;
        }
        room.idle().await;
        let order: Vec<_> = room.tool.requests().into_iter().filter_map(|request| request.unique_id).collect();
        assert_eq!(order, ["u0", "u1", "u2", "u3", "u4"]);
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_nobody_waits_for_holds_up_nothing() {
    within(async {
        let mut room = Room::new().await;
        for (id, queue) in [("u1", json!("reply_gone")), ("u2", json!(null)), ("u3", json!("q".repeat(300)))] {
            room.call_with(id, "echo", json!({}), json!({"_reply_q": queue}));
        }
        room.call("u4", "echo", json!({}));
        assert_eq!(room.reply().await["_msg_id"], "u4");
        room.idle().await;
        assert_eq!(room.tool.requests().len(), 4);
        let published: Vec<_> = room.transport.sent().into_iter().map(|sent| sent.published).collect();
        assert_eq!(published.len(), 2, "a queue without a name, and one that none can have, are not tried");
        assert!(published.contains(&Published::NobodyThere));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replies_wait_for_a_broker_that_is_away() {
    without_waiting(async {
        let mut room = Room::new().await;
        room.call("u1", "wait", json!({}));
        room.tool.handed_in(1).await;
        room.transport.set_away(true);
        room.tool.gate.add_permits(1);
        tokio::time::sleep(Duration::from_secs(100)).await;
        room.transport.set_away(false);
        assert_eq!(room.reply().await["_msg_id"], "u1");
    })
    .await;
}
