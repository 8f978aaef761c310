//! Clients of ours, and servers in Python.

use std::time::Duration;

use oslo::messaging::{CallError, Client, ClientOptions, Context, RpcVersion, Target};
use serde_json::{Map, Value, json};
use testkit::disk::SkipReason;

use crate::kit::{Peer, Release, broker, client, topic, transport, values, within};
use crate::with_both_releases;

with_both_releases! {
    calls_return_what_the_method_returns,
    exceptions_come_back,
    casts_arrive_at_one_or_at_all,
    slow_methods_time_out_unless_they_are_monitored,
}

const LONG: Duration = Duration::from_mins(5);

struct Room {
    peer: Peer,
    topic: String,
    url: String,
    client: Client,
}

async fn room(release: Release) -> Result<Room, SkipReason> {
    let (url, topic) = (tokio::task::block_in_place(broker)?.url(), topic());
    let peer = tokio::task::block_in_place(|| release.peer(&url))?;
    peer.does("serve", json!({"topic": topic, "server": "host1"})).await;
    Ok(Room { peer, topic, client: client(&url), url })
}

impl Room {
    async fn call(&self, method: &str, args: Value) -> Result<Value, CallError> {
        self.call_as(&Context::admin(), method, args, "1.3").await
    }

    async fn call_as(&self, context: &Context, method: &str, args: Value, version: &str) -> Result<Value, CallError> {
        let (target, version) = (Target::topic(&self.topic), version.parse().unwrap());
        within(self.client.call(context, &target, method, map(args), version, LONG)).await
    }
}

fn map(args: Value) -> Map<String, Value> {
    let Value::Object(args) = args else { panic!("arguments are an object, not {args}") };
    args
}

async fn calls_return_what_the_method_returns(release: Release) -> Result<(), SkipReason> {
    let room = room(release).await?;
    for value in values() {
        let args = json!({"v": value});
        assert_eq!(room.call("echo", args.clone()).await.unwrap().to_string(), args.to_string());
    }
    let large = json!({"v": "0123456789abcdé\u{1F600}".repeat(300_000)});
    assert_eq!(room.call("echo", large.clone()).await.unwrap(), large);

    let pairs = json!({"user_id": "u", "z": {"b": [1.0], "a": null}, "is_admin": true, "auth_token": "\u{1F600}"});
    let context: Context = serde_json::from_value(pairs.clone()).unwrap();
    let seen = room.call_as(&context, "context", json!({}), "1.0").await.unwrap();
    assert_eq!(seen.to_string(), pairs.to_string());
    Ok(())
}

async fn exceptions_come_back(release: Release) -> Result<(), SkipReason> {
    let room = room(release).await?;
    let error = room.call("fail", json!({"how": "sold out"})).await.unwrap_err();
    let failure = error.remote().unwrap();
    assert_eq!((failure.module.as_str(), failure.class.as_str()), ("interop_errors", "SoldOut"));
    // Its constructor takes one of two dots.
    assert_eq!(failure.message, "Sold out: no “tea” left.");
    assert_eq!(Value::from(failure.kwargs.clone()), json!({"reason": "no “tea” left.", "code": 409}));
    assert!(failure.tb.concat().contains("in fail"), "{failure:?}");

    for (method, args, version, module, class) in [
        ("fail", json!({"how": "key"}), "1.0", "builtins", "KeyError"),
        ("fail", json!({}), "1.0", "builtins", "TypeError"),
        ("nothing", json!({}), "1.0", "oslo_messaging.rpc.dispatcher", "NoSuchMethod"),
        ("echo", json!({}), "1.4", "oslo_messaging.rpc.dispatcher", "UnsupportedVersion"),
    ] {
        let error = room.call_as(&Context::admin(), method, args, version).await.unwrap_err();
        let failure = error.remote().unwrap();
        assert_eq!((failure.module.as_str(), failure.class.as_str()), (module, class));
    }
    Ok(())
}

async fn casts_arrive_at_one_or_at_all(release: Release) -> Result<(), SkipReason> {
    let room = room(release).await?;
    let other = release.peer(&room.url)?;
    other.does("serve", json!({"topic": room.topic, "server": "host2@backend"})).await;
    for (number, target) in
        [Target::fanout(&room.topic), Target::server(&room.topic, "host2@backend")].into_iter().enumerate()
    {
        let args = map(json!({"number": number}));
        within(room.client.cast(&Context::admin(), &target, "note", args, RpcVersion::new(1, 0))).await.unwrap();
    }
    for (peer, expected) in [(&room.peer, json!([{"number": 0}])), (&other, json!([{"number": 0}, {"number": 1}]))] {
        within(async {
            loop {
                let mut received = peer.does("what_was_received", json!({})).await;
                // They come by different queues.
                received.as_array_mut().unwrap().sort_by_key(|note| note["number"].as_u64());
                if received == expected {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    Ok(())
}

async fn slow_methods_time_out_unless_they_are_monitored(release: Release) -> Result<(), SkipReason> {
    let room = room(release).await?;
    let target = Target::topic(&room.topic);
    let (admin, version, short) = (Context::admin(), RpcVersion::new(1, 0), Duration::from_secs(3));
    let args = map(json!({"seconds": 60}));
    let asked = within(room.client.call(&admin, &target, "slow", args, version, short)).await;
    assert!(matches!(asked, Err(CallError::Timeout { after, .. }) if after == short), "{asked:?}");

    let options = ClientOptions { call_monitor: Some(Duration::from_secs(10)), ..ClientOptions::default() };
    let monitoring = Client::with_options(transport(&room.url), options);
    let args = map(json!({"seconds": 14}));
    assert_eq!(within(monitoring.call(&admin, &target, "slow", args, version, LONG)).await.unwrap(), "done");
    Ok(())
}
