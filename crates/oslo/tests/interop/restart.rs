//! The broker is killed and comes back while requests are under way.

use std::time::Duration;

use oslo::messaging::{Context, RpcVersion, Target};
use serde_json::{Map, json};
use testkit::disk::SkipReason;
use testkit::servers::rabbitmq::{BrokerOptions, RabbitMq};

use crate::kit::{Release, Shop, client, topic, transport, within};
use crate::with_both_releases;

with_both_releases! {
    no_request_is_lost_and_none_is_handled_twice,
}

const CASTS: usize = 2000;

async fn no_request_is_lost_and_none_is_handled_twice(release: Release) -> Result<(), SkipReason> {
    let mut broker = tokio::task::block_in_place(|| RabbitMq::start(&BrokerOptions::default()))?;
    // What lives in the broker's memory alone dies with it, whoever the clients are.
    let url = format!("{}?amqp_durable_queues=true", broker.url());
    let peer = tokio::task::block_in_place(|| release.peer(&url))?;
    let topic = topic();
    let transport = transport(&url);
    let (server, shop) = Shop::open(transport, &topic).await;

    let casts = peer.order("many_casts", json!({"topic": topic, "count": CASTS, "pause": 0.003}));
    let call = peer.order("call", json!({"topic": topic, "method": "wait"}));
    within(shop.begun.acquire()).await.unwrap().forget();
    for noted in [100, 600] {
        shop.has_noted(noted).await;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.restart();
        });
    }
    // The call began two brokers ago, and its request was delivered again by each.
    shop.gate.add_permits(1);
    assert_eq!(within(call).await["returned"], "waited");
    assert!(within(casts).await.get("raised").is_none());
    shop.has_noted(CASTS).await;

    // Whatever was delivered before this call has been handled when it is answered.
    let late = peer.does("call", json!({"topic": topic, "method": "echo", "args": {"v": 1}})).await;
    assert_eq!(late, json!({"v": 1}));
    let mut noted = shop.noted.lock().unwrap().clone();
    noted.sort_unstable();
    assert_eq!(noted, (0..CASTS as u64).collect::<Vec<_>>());
    assert!(shop.begun.try_acquire().is_err(), "the call was handled once");
    within(server.stop()).await;

    // And the other way round: our client keeps its reply queue over a restart.
    let topic = format!("{topic}-python");
    peer.does("serve", json!({"topic": topic, "server": "host1"})).await;
    let (client, target) = (client(&url), Target::topic(&topic));
    let ask = async || {
        let (limit, version) = (Duration::from_mins(5), RpcVersion::new(1, 0));
        within(client.call(&Context::admin(), &target, "echo", Map::new(), version, limit)).await.unwrap()
    };
    assert_eq!(ask().await, json!({}));
    tokio::task::block_in_place(|| {
        broker.kill();
        broker.restart();
    });
    assert_eq!(ask().await, json!({}));
    Ok(())
}
