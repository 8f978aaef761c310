//! The service on a broker: its order at start and stop, and requests as they travel.

use std::sync::Arc;
use std::time::Duration;

use oslo::messaging::memory::MemoryTransport;
use oslo::messaging::{CallError, Client, Context, RpcVersion, Target};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::fake::{SHARE, Trouble, World, start_args};
use crate::startup::start;

const TIMEOUT: Duration = Duration::from_mins(1);

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

async fn call(client: &Client, method: &str, args: Value, version: RpcVersion) -> Result<Value, CallError> {
    client.call(&Context::admin(), &Target::topic("manila-data"), method, object(&args), version, TIMEOUT).await
}

#[tokio::test(start_paused = true)]
async fn a_migration_comes_by_cast_and_is_acknowledged_when_it_is_durable() {
    let (world, transport) = (World::new(), MemoryTransport::new());
    let jobs = world.jobs().await;
    let service = start(&world, &jobs, &transport);
    let client = Client::new(Arc::new(transport.another_process()));
    world.until("listens", || service.is_serving()).await;
    world.store.be_away(true);
    let target = Target::topic("manila-data");
    let (context, version) = (Context::admin(), RpcVersion::new(1, 0));
    client.cast(&context, &target, "migration_start", object(&start_args()), version).await.expect("is sent");
    sleep(Duration::from_mins(5)).await;
    assert_eq!(transport.settled().acknowledged, 0);
    world.store.be_away(false);
    world.until_task_state("data_copying_completed").await;
    assert_eq!((transport.settled().acknowledged, world.store.jobs().len()), (1, 1));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn calls_are_answered() {
    let (world, transport) = (World::new(), MemoryTransport::new());
    let jobs = world.jobs().await;
    let service = start(&world, &jobs, &transport);
    let client = Client::new(Arc::new(transport.another_process()));
    world.until("listens", || service.is_serving()).await;
    let version = call(&client, "service_version", json!({}), RpcVersion::new(1, 1)).await.expect("is answered");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    for (version, class) in [(RpcVersion::new(1, 0), "InvalidShare"), (RpcVersion::new(1, 2), "UnsupportedVersion")] {
        let error = call(&client, "data_copy_cancel", json!({"share_id": SHARE}), version).await.expect_err("fails");
        assert_eq!(error.remote().map(|failure| failure.class.as_str()), Some(class));
    }
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_starts_and_stops_in_upstreams_order() {
    let (world, transport) = (World::new(), MemoryTransport::new());
    transport.set_away(true);
    let jobs = world.jobs().await;
    let service = start(&world, &jobs, &transport);
    sleep(Duration::from_mins(2)).await;
    // Registered, and shown down as long as requests are not taken.
    assert_eq!(world.journal.take(), ["register here"]);
    assert_eq!(world.database.with(|tables| tables.beats), 0);
    assert!(service.troubles()[0].contains("a message broker"), "{:?}", service.troubles());
    transport.set_away(false);
    sleep(Duration::from_mins(2)).await;
    assert!(service.is_serving() && service.troubles().is_empty(), "{:?}", service.troubles());
    assert!(world.database.with(|tables| tables.beats) > 5);
    world.database.set_trouble(Trouble::Away);
    sleep(Duration::from_mins(2)).await;
    assert!(service.troubles()[0].contains("no heartbeat"), "{:?}", service.troubles());
    world.database.set_trouble(Trouble::None);
    service.stop().await;
    assert_eq!(world.journal.take(), ["stopped"]);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_stopped_while_it_waits() {
    for (database, broker) in [(Trouble::Away, false), (Trouble::None, true)] {
        let (world, transport) = (World::new(), MemoryTransport::new());
        world.database.set_trouble(database);
        transport.set_away(broker);
        let jobs = world.jobs().await;
        let service = start(&world, &jobs, &transport);
        sleep(Duration::from_mins(1)).await;
        service.stop().await;
        let stopped =
            world.database.with(|tables| tables.services.iter().all(|row| row.state.as_deref() == Some("stopped")));
        assert!(stopped);
    }
}
