//! Whole backups, restores and deletions, from the request to the last row: what is written, in its order.

use std::sync::Arc;
use std::time::Duration;

use job::{
    DataService as _, Failure, FailureCode, JobId, Notifier as _, Outcome, Scheduling, Service, State, StateName, Step,
};
use manila::{ManilaNotifier, ManilaService};
use oslo::messaging::memory::MemoryTransport;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fake::{BACKUP, SHARE, SOURCE, Script, Trouble, World, ask, backup_args, restore_args};
use crate::startup::start;

fn creating() -> World {
    World::with_backup("creating", "backup_creating")
}

fn restoring() -> World {
    World::with_backup("restoring", "backup_restoring")
}

fn deleting() -> World {
    World::with_backup("deleting", "available")
}

/// Carries out a request by a script, to its end.
async fn carry_out(world: &World, method: &str, args: Value) -> Vec<String> {
    let jobs = world.jobs().await;
    assert_eq!(ask(&world.endpoint(&jobs), method, args).await, Ok(Value::Null));
    world.until_told().await;
    world.journal.take()
}

fn reason(world: &World) -> String {
    world.database.with(|tables| tables.reasons[BACKUP].clone())
}

fn set_status(world: &World, status: &str) {
    world.database.with(|tables| {
        tables.backups.get_mut(BACKUP).expect("is there").status = Some(status.into());
    });
}

fn set_share_status(world: &World, status: &str) {
    world.database.with(|tables| {
        tables.instances.get_mut(SOURCE).expect("is there").status = Some(status.into());
    });
}

fn share_status(world: &World) -> String {
    world.database.with(|tables| tables.instances[SOURCE].status.clone()).expect("is set")
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_made() {
    let world = creating();
    let expected = [
        "backup host here",
        "task_state data_copying_starting",
        "take access to the source",
        "mount",
        "task_state data_copying_in_progress",
        "unmount",
        "task_state data_copying_completing",
        "give back access to the source",
        "task_state data_copying_completed",
        "backup available, progress 100",
        "task_state NULL, share available",
    ];
    assert_eq!(carry_out(&world, "create_backup", backup_args()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_restored() {
    let world = restoring();
    world
        .database
        .with(|tables| tables.backups.get_mut(BACKUP).expect("is there").restore_progress = Some("100".into()));
    let expected = [
        "task_state data_copying_starting",
        "take access to the destination",
        "mount",
        "task_state data_copying_in_progress",
        "unmount",
        "task_state data_copying_completing",
        "give back access to the destination",
        "task_state data_copying_completed",
        "backup available, restore_progress 100",
        "task_state NULL, share available",
    ];
    assert_eq!(carry_out(&world, "restore_backup", restore_args()).await, expected);
    assert_eq!(world.backup_row().host, None, "it is still whose it was");
}

#[tokio::test(start_paused = true)]
async fn a_backup_is_deleted() {
    let world = deleting();
    assert_eq!(carry_out(&world, "delete_backup", backup_args()).await, ["mount", "unmount", "backup deleted"]);
    assert_eq!(world.database.task_state(SHARE), None);
}

#[tokio::test(start_paused = true)]
async fn each_way_to_fail_ends_in_the_rows() {
    let check = async |world: World, method: &str, script: Script, why: &str, ending: &[&str]| {
        world.executor.play(script);
        let args = if method == "restore_backup" { restore_args() } else { backup_args() };
        let written = carry_out(&world, method, args).await;
        assert_eq!(written[written.len() - ending.len()..], *ending, "{method} {script:?}");
        assert!(reason(&world).contains(why), "{}", reason(&world));
        assert_eq!((world.database.task_state(SHARE), world.database.with(|tables| tables.messages.len())), (None, 0));
    };
    let failures = [
        (Script::AccessFails, "the driver failed"),
        (Script::MountFails, "Share Data copy failed: mount: no route to host"),
        (Script::StopsByFault, "Share Data copy failed: copy: stopped at the first fault"),
    ];
    for (script, why) in failures {
        let of_share = "task_state data_copying_error";
        let create = [of_share, "backup error, progress 0", "task_state NULL, share available"];
        check(creating(), "create_backup", script, why, &create).await;
        let ending =
            [of_share, "backup available, restore_progress 0", "task_state NULL, share backup_restoring_error"];
        check(restoring(), "restore_backup", script, why, &ending).await;
        if script != Script::AccessFails {
            check(deleting(), "delete_backup", script, why, &["backup error_deleting"]).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_cancelled_here_alone() {
    for (world, method, args, share, backup) in [
        (creating(), "create_backup", backup_args(), "available", "error"),
        (restoring(), "restore_backup", restore_args(), "backup_restoring_error", "available"),
        (deleting(), "delete_backup", backup_args(), "available", "error_deleting"),
    ] {
        world.executor.play(Script::Endless);
        let jobs = world.jobs().await;
        ask(&world.endpoint(&jobs), method, args).await.expect("is taken");
        world.until("works", || world.only_job().state == State::Working).await;
        jobs.cancel(world.only_job().id).await.expect("is taken");
        world.until_told().await;
        assert_eq!((share_status(&world).as_str(), reason(&world).as_str()), (share, "cancelled"));
        assert_eq!(world.backup_row().status.as_deref(), Some(backup));
        assert_eq!(world.database.task_state(SHARE), None);
    }
}

#[tokio::test(start_paused = true)]
async fn progress_and_cancel_by_the_share_work_as_upstreams() {
    for (world, method, args, path) in [
        (creating(), "create_backup", backup_args(), format!("/mnt-b/{BACKUP}/{BACKUP}/d1/f 2")),
        (restoring(), "restore_backup", restore_args(), format!("/tmp/{SOURCE}/d1/f 2")),
    ] {
        world.executor.play(Script::Endless);
        let jobs = world.jobs().await;
        let endpoint = world.endpoint(&jobs);
        ask(&endpoint, method, args).await.expect("is taken");
        world.until_task_state("data_copying_in_progress").await;
        sleep(Duration::from_secs(5)).await;
        let progress = ask(&endpoint, "data_copy_get_progress", json!({"share_id": SHARE})).await.expect("is told");
        assert_eq!((&progress["total_progress"], &progress["current_file_path"]), (&json!(50), &json!(path)));
        assert_eq!(ask(&endpoint, "data_copy_cancel", json!({"share_id": SHARE})).await, Ok(Value::Null));
        world.until_told().await;
        assert_eq!(world.only_job().state.name(), StateName::Cancelled);
    }
}

/// The service as a whole, which shows progress by itself.
async fn serve(world: &World, jobs: &Service) -> ManilaService {
    let service = start(world, jobs, &MemoryTransport::new());
    world.until("listens", || service.is_serving()).await;
    service
}

#[tokio::test(start_paused = true)]
async fn progress_is_shown_while_it_goes_on() {
    for (world, method, args) in
        [(creating(), "create_backup", backup_args()), (restoring(), "restore_backup", restore_args())]
    {
        world.executor.play(Script::Endless);
        let jobs = world.jobs().await;
        let service = serve(&world, &jobs).await;
        world.journal.take();
        ask(&world.endpoint(&jobs), method, args).await.expect("is taken");
        sleep(Duration::from_mins(10)).await;
        let written = world.journal.take();
        assert_eq!(written.iter().filter(|line| line.starts_with("progress")).collect::<Vec<_>>(), ["progress 50"]);
        assert!(!written.iter().any(|line| line.contains("error") || line.contains("available")), "{written:?}");
        service.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_does_not_keep_the_bytes() {
    let world = creating();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    world.journal.take();
    for trouble in [Trouble::Away, Trouble::Refuses] {
        world.database.set_trouble(trouble);
        jobs.cancel(world.only_job().id).await.expect("is taken");
        sleep(Duration::from_mins(10)).await;
    }
    assert_eq!(world.journal.take(), ["unmount"]);
    world.database.set_trouble(Trouble::None);
    world.until_told().await;
    let expected = [
        "task_state data_copying_completing",
        "give back access to the source",
        "task_state data_copying_error",
        "backup error, progress 0",
        "task_state NULL, share available",
    ];
    assert_eq!(world.journal.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_without_going_back() {
    let world = creating();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    assert_eq!(jobs.shut_down(Duration::from_mins(1)).await, 0);
    world.journal.take();
    world.executor.play(Script::Completes);
    let jobs = world.jobs().await;
    let service = serve(&world, &jobs).await;
    world.until_told().await;
    let written = world.journal.take();
    let states: Vec<_> = written.iter().filter(|line| line.contains("task_state") || line.contains("backup")).collect();
    let expected = [
        "task_state data_copying_completing",
        "task_state data_copying_completed",
        "backup available, progress 100",
        "task_state NULL, share available",
    ];
    assert_eq!(states, expected);
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn somebody_who_resets_the_backup_ends_it() {
    let world = creating();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let service = serve(&world, &jobs).await;
    ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    set_status(&world, "error");
    world.until_told().await;
    assert_eq!(world.only_job().state.name(), StateName::Cancelled);
    assert_eq!(share_status(&world), "available");
    assert_eq!((world.database.task_state(SHARE), world.backup_row().status.as_deref()), (None, Some("error")));
    service.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_share_that_was_reset_is_left_alone() {
    let world = creating();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    world.database.with(|tables| {
        tables.shares.get_mut(SHARE).expect("is there").task_state = Some("migration_in_progress".into());
        tables.instances.get_mut(SOURCE).expect("is there").status = Some("migrating".into());
    });
    world.journal.take();
    jobs.cancel(world.only_job().id).await.expect("is taken");
    world.until_told().await;
    assert_eq!(world.journal.take(), ["unmount", "give back access to the source", "backup error, progress 0"]);
    assert_eq!(world.database.task_state(SHARE).as_deref(), Some("migration_in_progress"));
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_reset_before_it_began_is_not_made() {
    let reset: fn(&World) = |world| set_status(world, "error");
    let remove: fn(&World) = |world| world.database.with(|tables| drop(tables.backups.remove(BACKUP)));
    let free: fn(&World) = |world| set_share_status(world, "available");
    for change in [reset, remove, free] {
        let world = creating();
        let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
        ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
        change(&world);
        jobs.reload(Scheduling::default(), job::Settings::new(job::NodeName::new("x"), "/x").retention);
        world.until_told().await;
        assert_eq!(world.only_job().state.name(), StateName::Failed);
        assert!(!world.journal.take().iter().any(|line| line == "mount" || line.starts_with("task_state data")));
        assert_eq!(share_status(&world), "available");
        let status = world.database.with(|tables| tables.backups.get(BACKUP).and_then(|backup| backup.status.clone()));
        assert!(status.is_none_or(|status| status == "error"));
    }
}

#[tokio::test(start_paused = true)]
async fn told_again_it_writes_nothing() {
    for (world, method, args, outcome) in [
        (creating(), "create_backup", backup_args(), Outcome::Completed),
        (creating(), "create_backup", backup_args(), Outcome::Cancelled),
        (restoring(), "restore_backup", restore_args(), failed()),
        (deleting(), "delete_backup", backup_args(), Outcome::Completed),
        (deleting(), "delete_backup", backup_args(), failed()),
    ] {
        let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
        ask(&world.endpoint(&jobs), method, args).await.expect("is taken");
        let mut job = world.only_job();
        job.id = JobId::from_u128(7);
        job.state = State::Ended { outcome };
        let notifier = ManilaNotifier::new(world.peers());
        assert!(notifier.wants(&job));
        world.database.set_trouble(Trouble::Away);
        let error = notifier.tell(&job).await.expect_err("cannot be told");
        assert_eq!((error.is_final, error.retry_after), (false, Some(Duration::from_secs(3))));
        world.database.set_trouble(Trouble::None);
        world.journal.take();
        notifier.tell(&job).await.expect("is told");
        assert!(!world.journal.take().is_empty());
        notifier.tell(&job).await.expect("is told");
        assert_eq!(world.journal.take(), [""; 0]);
    }
}

fn failed() -> Outcome {
    Outcome::Failed { failure: Failure::new(Step::Copy, FailureCode::EngineFailed, "no space") }
}

#[tokio::test(start_paused = true)]
async fn another_backup_of_the_share_may_follow_at_once() {
    let world = creating();
    let jobs = Arc::new(world.jobs().await);
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "create_backup", backup_args()).await.expect("is taken");
    world.until_told().await;
    world.database.with(|tables| {
        tables.backups.get_mut(BACKUP).expect("is there").status = Some("restoring".into());
        tables.instances.get_mut(SOURCE).expect("is there").status = Some("backup_restoring".into());
    });
    let mut request = crate::fake::request("restore_backup", &restore_args());
    request.unique_id = Some("another".into());
    oslo::messaging::Handler::handle(&endpoint, request).await.expect("is taken");
    world.until("restored", || world.backup_row().restore_progress.as_deref() == Some("100")).await;
    world.until("a free share", || share_status(&world) == "available").await;
}
