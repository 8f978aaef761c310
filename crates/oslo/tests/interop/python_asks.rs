//! Clients in Python, and a server of ours.

use serde_json::{Value, json};
use testkit::disk::SkipReason;

use crate::kit::{Peer, Release, Shop, broker, topic, transport, values, within};
use crate::with_both_releases;

with_both_releases! {
    calls_return_what_the_handler_returns,
    failures_are_raised_again,
    a_call_times_out_and_its_late_answer_harms_nobody,
    a_monitored_call_is_kept_alive,
    compressed_requests_are_read,
    large_requests_and_results_go_through,
    several_clients_ask_at_once,
    casts_arrive_wherever_they_are_sent_to,
}

struct Room {
    peer: Peer,
    topic: String,
    url: String,
    shop: std::sync::Arc<Shop>,
    _server: oslo::messaging::Server,
}

async fn room(release: Release, query: &str) -> Result<Room, SkipReason> {
    let (broker, topic) = (tokio::task::block_in_place(broker)?, topic());
    let url = broker.url();
    let peer = tokio::task::block_in_place(|| release.peer(&format!("{url}{query}")))?;
    let (server, shop) = Shop::open(transport(&url), &topic).await;
    Ok(Room { peer, topic, url, shop, _server: server })
}

impl Room {
    fn order(&self, method: &str, args: Value) -> Value {
        self.order_with(method, args, Value::Null)
    }

    fn order_with(&self, method: &str, args: Value, more: Value) -> Value {
        let mut order = json!({"topic": self.topic, "method": method});
        order["args"] = args;
        if let (Value::Object(more), Some(order)) = (more, order.as_object_mut()) {
            order.extend(more);
        }
        order
    }

    async fn call(&self, method: &str, args: Value) -> Value {
        self.peer.does("call", self.order(method, args)).await
    }

    async fn failing_call(&self, method: &str, args: Value, more: Value) -> Value {
        self.peer.fails("call", self.order_with(method, args, more)).await
    }
}

async fn calls_return_what_the_handler_returns(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    for value in values() {
        let args = json!({"v": value});
        assert_eq!(room.call("echo", args.clone()).await.to_string(), args.to_string());
    }
    let context = json!({"user_id": "u", "roles": ["admin"], "auth_token": null, "timestamp": "\u{1F600}", "n": 1.5});
    let order = room.order_with("context", json!({}), json!({"context": context}));
    assert_eq!(room.peer.does("call", order).await.to_string(), context.to_string());
    assert_eq!(room.call("oslo_rpc_server_ping", json!({})).await, "pong");
    // Half a character is none.
    let mended = json!({"v": "\u{fffd} x \u{fffd} \u{1F600}"});
    assert_eq!(room.peer.does("surrogates", json!({"topic": room.topic})).await, mended);
    Ok(())
}

async fn failures_are_raised_again(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    let raised = room.failing_call("fail", json!({"how": "sold out"}), json!({})).await;
    assert_eq!(raised["class"], "SoldOut_Remote");
    assert!(raised["classes"].as_array().unwrap().contains(&json!("ShopException")), "{raised}");
    assert_eq!(raised["text"].as_str().unwrap().trim_end(), "Sold out: no “tea” left.");
    assert_eq!(raised["msg"], "Sold out: no “tea” left.");
    assert_eq!(raised["kwargs"], json!({"reason": "no “tea” left.", "code": 409}));

    let raised = room.failing_call("fail", json!({"how": "closed"}), json!({})).await;
    assert_eq!((&raised["class"], &raised["msg"]), (&json!("Closed_Remote"), &json!("The shop is closed.")));

    let raised = room.failing_call("needs", json!({}), json!({})).await;
    assert_eq!(raised["class"], "TypeError");
    assert!(
        raised["text"].as_str().unwrap().starts_with("Shop.needs() missing 1 required positional argument: 'what'")
    );
    let raised = room.failing_call("needs", json!({"what": 1, "more": 2}), json!({})).await;
    assert!(raised["text"].as_str().unwrap().starts_with("Shop.needs() got an unexpected keyword argument 'more'"));

    for (method, args, more, class, text) in [
        ("fail", json!({"how": "elsewhere"}), json!({}), "Odd", "Not to be trusted."),
        ("nothing", json!({}), json!({}), "NoSuchMethod", "Endpoint does not support RPC method nothing"),
        ("_echo", json!({}), json!({}), "NoSuchMethod", "Endpoint does not support RPC method _echo"),
        (
            "echo",
            json!({}),
            json!({"version": "1.9"}),
            "UnsupportedVersion",
            "Endpoint does not support RPC version 1.9. Attempted method: echo",
        ),
        (
            "echo",
            json!({}),
            json!({"namespace": "x"}),
            "UnsupportedVersion",
            "Endpoint does not support RPC version 1.0. Attempted method: echo",
        ),
    ] {
        let raised = room.failing_call(method, args, more).await;
        assert_eq!((&raised["class"], &raised["exc_type"]), (&json!("RemoteError"), &json!(class)));
        assert!(raised["text"].as_str().unwrap().starts_with(&format!("Remote error: {class} {text}")), "{raised}");
    }
    Ok(())
}

async fn a_call_times_out_and_its_late_answer_harms_nobody(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    let raised = room.failing_call("wait", json!({}), json!({"timeout": 5})).await;
    assert_eq!(raised["class"], "MessagingTimeout");
    room.shop.gate.add_permits(1);
    assert_eq!(room.call("echo", json!({"v": 1})).await, json!({"v": 1}));
    Ok(())
}

async fn a_monitored_call_is_kept_alive(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    // Without a sign of life the client would give up after ten seconds.
    let order = room.order_with("slow", json!({"seconds": 14}), json!({"monitor": 10}));
    assert_eq!(room.peer.does("call", order).await, "done");
    Ok(())
}

async fn compressed_requests_are_read(release: Release) -> Result<(), SkipReason> {
    for method in ["gzip", "bzip2"] {
        let room = room(release, &format!("?kombu_compression={method}")).await?;
        let args = json!({"v": "abc ".repeat(100_000)});
        assert_eq!(room.call("echo", args.clone()).await, args, "{method}");
    }
    Ok(())
}

async fn large_requests_and_results_go_through(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    let args = json!({"v": "0123456789abcdé\u{1F600}".repeat(300_000)});
    assert!(args.to_string().len() > 5 << 20);
    assert_eq!(room.call("echo", args.clone()).await, args);
    Ok(())
}

async fn several_clients_ask_at_once(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    let others = [tokio::task::block_in_place(|| release.peer(&room.url))?, release.peer(&room.url)?];
    let order = json!({"topic": room.topic, "threads": 8, "count": 100});
    let asked: Vec<_> = others.iter().chain([&room.peer]).map(|peer| peer.order("many_calls", order.clone())).collect();
    for asked in asked {
        assert_eq!(asked.await["returned"], json!(100));
    }
    Ok(())
}

async fn casts_arrive_wherever_they_are_sent_to(release: Release) -> Result<(), SkipReason> {
    let room = room(release, "").await?;
    let (_another_server, another_shop) = within(Shop::open(transport(&room.url), &room.topic)).await;
    let more = [json!({"server": "host1"}), json!({}), json!({"fanout": true})];
    for (number, more) in more.into_iter().enumerate() {
        room.peer.does("cast", room.order_with("note", json!({"number": number}), more)).await;
    }
    let noted = || {
        let mut noted = [&room.shop, &another_shop].map(|shop| shop.noted.lock().unwrap().clone()).concat();
        noted.sort_unstable();
        noted
    };
    // The last one is for both.
    within(async {
        while noted() != [0, 1, 2, 2] {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    Ok(())
}
