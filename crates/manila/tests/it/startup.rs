//! What the service does at its start about shares that were left in the middle of a copy.

use std::sync::Arc;
use std::time::Duration;

use job::Service;
use manila::database::{AccessRule, Mapping, ServiceId, ServiceRow};
use manila::heartbeat::JobStore;
use manila::{BrokerHealth, ManilaService, Parts};
use oslo::messaging::ServerOptions;
use oslo::messaging::memory::MemoryTransport;
use tokio::time::sleep;

use crate::fake::{DEST, Manner, SHARE, SOURCE, Script, StoredRule, Trouble, World, ask, share, start_args};

#[derive(Debug)]
pub(crate) struct Well;

impl BrokerHealth for Well {
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }
}

pub(crate) fn start(world: &World, jobs: &Service, transport: &MemoryTransport) -> ManilaService {
    ManilaService::start(Parts {
        peers: world.peers(),
        jobs: Arc::new(jobs.clone()),
        transport: Arc::new(transport.clone()),
        broker: Arc::new(Well),
        server: ServerOptions::default(),
        job_store: JobStore::OfThisHost,
    })
}

fn cast() -> String {
    format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool")
}

/// A share as an earlier service left it, with its rule on both instances.
fn leave_behind(world: &World, task_state: &str) {
    let mapping = |id: &str, instance: &str| Mapping {
        id: id.into(),
        instance_id: instance.into(),
        state: Some("active".into()),
    };
    world.database.with(|tables| {
        tables.shares.insert(SHARE.into(), share(Some(task_state)));
        let mappings = vec![mapping("m1", SOURCE), mapping("m2", DEST)];
        tables.rules.push(StoredRule {
            share_id: SHARE.into(),
            access_type: "ip".into(),
            access_to: "10.0.0.5".into(),
            rule: AccessRule { id: "r1".into(), access_level: Some("rw".into()), mappings },
        });
        tables.rules.push(StoredRule {
            share_id: SHARE.into(),
            access_type: "ip".into(),
            access_to: "10.1.2.3".into(),
            rule: AccessRule {
                id: "r2".into(),
                access_level: Some("rw".into()),
                mappings: vec![mapping("m3", SOURCE)],
            },
        });
    });
}

fn row(host: &str, state: Option<&str>, age: Duration) -> ServiceRow {
    ServiceRow { id: ServiceId(9), host: host.into(), is_disabled: false, state: state.map(Into::into), age }
}

/// What the service wrote and said in its first hour.
async fn first_hour(world: &World) -> Vec<String> {
    let (jobs, transport) = (world.jobs().await, MemoryTransport::new());
    let service = start(world, &jobs, &transport);
    sleep(Duration::from_hours(1)).await;
    assert!(service.is_serving() && service.troubles().is_empty(), "{:?}", service.troubles());
    service.stop().await;
    let mut written = world.journal.take();
    assert_eq!((written.remove(0), written.pop()), ("register here".into(), Some("stopped".into())));
    written
}

#[tokio::test(start_paused = true)]
async fn a_share_without_a_job_is_given_up_and_cleaned_up() {
    for task_state in ["data_copying_starting", "data_copying_in_progress", "data_copying_completing"] {
        let world = World::new();
        leave_behind(&world, task_state);
        let expected = [
            format!("deny 1 on {SOURCE}"),
            format!("cast update_access {SOURCE} to a@alpha#pool"),
            format!("deny 1 on {DEST}"),
            format!("cast update_access {DEST} to b@beta#pool"),
            "task_state data_copying_error".into(),
            "message".into(),
            cast(),
        ];
        assert_eq!(first_hour(&world).await, expected, "{task_state}");
        // The tenant's own rule stays.
        assert_eq!(world.database.with(|tables| tables.rules.len()), 1);
        let context = world.share_manager.contexts().pop().expect("a cast");
        assert_eq!(context.is_admin(), Some(true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_manager_that_does_nothing_does_not_keep_the_share() {
    for manner in [Manner::Silent, Manner::Fails] {
        let world = World::new();
        leave_behind(&world, "data_copying_in_progress");
        world.share_manager.behave(manner);
        let written = first_hour(&world).await;
        assert_eq!(
            written[written.len() - 3..],
            ["task_state data_copying_error".to_owned(), "message".into(), cast()]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_away_is_waited_for() {
    let world = World::new();
    leave_behind(&world, "data_copying_in_progress");
    world.share_manager.behave(Manner::Unreachable);
    world.database.set_trouble(Trouble::Away);
    let (jobs, transport) = (world.jobs().await, MemoryTransport::new());
    let service = start(&world, &jobs, &transport);
    sleep(Duration::from_mins(10)).await;
    assert!(!service.is_serving() && service.troubles()[0].contains("Manila's database"), "{:?}", service.troubles());
    assert_eq!(world.journal.take(), [""; 0]);
    world.database.set_trouble(Trouble::None);
    sleep(Duration::from_mins(10)).await;
    assert!(service.is_serving());
    assert!(!world.journal.take().iter().any(|line| line.starts_with("task_state")));
    world.share_manager.behave(Manner::Prompt);
    world.until_task_state("data_copying_error").await;
    sleep(Duration::from_mins(1)).await;
    assert_eq!(world.journal.take().last(), Some(&cast()));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_host_may_be_at_work() {
    const DAY: Duration = Duration::from_hours(24);
    for (other, is_left_alone) in [
        (row("there", Some("up"), Duration::from_secs(5)), true),
        (row("there", Some("down"), DAY / 2), true),
        (row("there", None, Duration::from_secs(5)), true),
        (row("there", Some("up"), 2 * DAY), false),
        (row("there", Some("stopped"), Duration::from_secs(5)), false),
        (row("here", Some("up"), Duration::from_secs(5)), false),
    ] {
        let world = World::new();
        leave_behind(&world, "data_copying_in_progress");
        world.database.with(|tables| tables.services.push(other.clone()));
        assert_eq!(first_hour(&world).await.is_empty(), is_left_alone, "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_share_with_a_job_is_left_to_it() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    jobs.shut_down(Duration::from_mins(1)).await;
    world.journal.take();
    world.executor.play(Script::Completes);
    let written = first_hour(&world).await;
    assert_eq!(written.last().map(String::as_str), Some("task_state data_copying_completed"));
    assert!(!written.iter().any(|line| line.contains("error") || line.starts_with("cast")), "{written:?}");
}

#[tokio::test(start_paused = true)]
async fn only_what_is_in_the_middle_is_touched() {
    for (task_state, status) in [
        ("migration_in_progress", "migrating_to"),
        ("data_copying_completed", "migrating_to"),
        // A backup that failed, or a migration that was cleaned up.
        ("data_copying_error", "available"),
    ] {
        let world = World::new();
        leave_behind(&world, task_state);
        world.database.with(|tables| tables.instances.get_mut(DEST).expect("is there").status = Some(status.into()));
        assert_eq!(first_hour(&world).await, [""; 0], "{task_state}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_failed_with_nobody_told_is_finished() {
    let world = World::new();
    leave_behind(&world, "data_copying_error");
    assert_eq!(first_hour(&world).await.last(), Some(&cast()));
}

#[tokio::test(start_paused = true)]
async fn without_the_pair_of_instances_nobody_is_told() {
    let world = World::new();
    leave_behind(&world, "data_copying_starting");
    world.database.with(|tables| drop(tables.instances.remove(DEST)));
    assert_eq!(first_hour(&world).await.last().map(String::as_str), Some("task_state data_copying_error"));
}
