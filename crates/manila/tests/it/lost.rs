//! Backups whose jobs were lost with their store.

use std::time::Duration;

use manila::database::{AccessRule, Mapping, ServiceId, ServiceRow};
use oslo::messaging::memory::MemoryTransport;
use tokio::time::sleep;

use crate::fake::{BACKUP, SHARE, SOURCE, Script, StoredRule, Trouble, World, ask, backup_args};
use crate::startup::start;

/// As an earlier service of this host left it.
fn left(status: &str, share_status: &str, task_state: Option<&str>) -> World {
    let world = World::with_backup(status, share_status);
    world.database.with(|tables| {
        let backup = tables.backups.get_mut(BACKUP).expect("is there");
        (backup.host, backup.progress, backup.restore_progress) =
            (Some("here".into()), Some("37".into()), Some("41".into()));
        tables.shares.get_mut(SHARE).expect("is there").task_state = task_state.map(Into::into);
    });
    world
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
async fn it_ends_as_upstream_ends_it() {
    let world = left("creating", "backup_creating", Some("data_copying_in_progress"));
    let expected = ["task_state data_copying_error", "task_state NULL, share available", "backup error, progress 0"];
    assert_eq!(first_hour(&world).await, expected);
    assert!(world.database.with(|tables| tables.reasons[BACKUP].contains("lost its record")));
    let world = left("restoring", "backup_restoring", None);
    let expected = ["task_state NULL, share backup_restoring_error", "backup available, restore_progress 0"];
    assert_eq!(first_hour(&world).await, expected);
    let world = left("deleting", "available", None);
    assert_eq!(first_hour(&world).await, ["backup error_deleting"]);
}

#[tokio::test(start_paused = true)]
async fn its_access_is_taken_back() {
    let world = left("creating", "backup_creating", Some("data_copying_in_progress"));
    world.database.with(|tables| {
        let mapping = Mapping { id: "m1".into(), instance_id: SOURCE.into(), state: Some("active".into()) };
        tables.rules.push(StoredRule {
            share_id: SHARE.into(),
            access_type: "ip".into(),
            access_to: "10.0.0.5".into(),
            rule: AccessRule { id: "r1".into(), access_level: Some("rw".into()), mappings: vec![mapping] },
        });
    });
    let written = first_hour(&world).await;
    let expected = [format!("deny 1 on {SOURCE}"), format!("cast update_access {SOURCE} to a@alpha#pool")];
    assert_eq!(written[..2], expected);
    assert!(world.database.with(|tables| tables.rules.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn others_are_left_alone() {
    let service = |host: &str| ServiceRow {
        id: ServiceId(9),
        host: host.into(),
        is_disabled: false,
        state: Some("up".into()),
        age: Duration::from_secs(5),
    };
    // Another host's, nobody's, and what is at rest.
    for (host, status) in [
        (Some("there"), "creating"),
        (None, "creating"),
        (None, "restoring"),
        (Some("here"), "available"),
        (Some("here"), "error"),
    ] {
        let world = left(status, "backup_creating", None);
        world.database.with(|tables| tables.backups.get_mut(BACKUP).expect("is there").host = host.map(Into::into));
        assert_eq!(first_hour(&world).await, [""; 0], "{host:?} {status}");
    }
    // Made here, and perhaps restored or deleted by the other one.
    for (status, share_status, is_left) in [
        ("creating", "backup_creating", false),
        ("restoring", "backup_restoring", true),
        ("deleting", "available", true),
    ] {
        let world = left(status, share_status, None);
        world.database.with(|tables| tables.services.push(service("there")));
        assert_eq!(first_hour(&world).await.is_empty(), is_left, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_with_a_job_goes_on() {
    let world = World::with_backup("creating", "backup_creating");
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    jobs.shut_down(Duration::from_mins(1)).await;
    world.journal.take();
    let written = first_hour(&world).await;
    assert!(!written.iter().any(|line| line.contains("error")), "{written:?}");
    assert_eq!(world.backup_row().status.as_deref(), Some("creating"));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waited_at_the_broker_is_not_lost() {
    let world = left("deleting", "available", None);
    let (jobs, transport) = (world.jobs().await, MemoryTransport::new());
    let service = start(&world, &jobs, &transport);
    world.until("listens", || service.is_serving()).await;
    ask(&world.endpoint(&jobs), "delete_backup", backup_args()).await.expect("is taken");
    sleep(Duration::from_hours(1)).await;
    assert!(world.database.with(|tables| tables.backups.is_empty()));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn old_releases_have_none_and_what_is_away_is_waited_for() {
    let world = left("creating", "backup_creating", None);
    world.database.with(|tables| tables.has_no_backups = true);
    assert_eq!(first_hour(&world).await, [""; 0]);

    let world = left("deleting", "available", None);
    let (jobs, transport) = (world.jobs().await, MemoryTransport::new());
    let service = start(&world, &jobs, &transport);
    world.until("listens", || service.is_serving()).await;
    world.database.set_trouble(Trouble::Away);
    sleep(Duration::from_mins(10)).await;
    assert_eq!(world.backup_row().status.as_deref(), Some("deleting"));
    world.database.set_trouble(Trouble::None);
    world.until("ended", || world.backup_row().status.as_deref() == Some("error_deleting")).await;
    service.stop().await;
}
