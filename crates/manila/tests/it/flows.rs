//! Whole migrations, from the request to the word to the share manager: what is written and said, in its order.

use job::{DataService as _, Scheduling, StateName};
use serde_json::{Value, json};
use std::time::Duration;

use crate::fake::{DEST, Manner, SHARE, SOURCE, Script, Trouble, World, ask, start_args};

fn cast() -> String {
    format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool")
}

/// Carries out a migration by a script, to its end.
async fn migrate(world: &World) -> Vec<String> {
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    world.until_told().await;
    world.journal.take()
}

const BEGIN: [&str; 5] = [
    "task_state data_copying_starting",
    "take access to the source",
    "take access to the destination",
    "mount",
    "task_state data_copying_in_progress",
];
const LET_GO: [&str; 2] = ["give back access to the source", "give back access to the destination"];

fn lines(parts: &[&[&str]], more: &[String]) -> Vec<String> {
    parts.iter().flat_map(|part| part.iter().map(|line| (*line).to_owned())).chain(more.iter().cloned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_succeeds_waits_for_the_administrator() {
    let world = World::new();
    let copied = ["unmount", "task_state data_copying_completing"];
    let expected = lines(&[&BEGIN, &copied, &LET_GO, &["task_state data_copying_completed"]], &[]);
    assert_eq!(migrate(&world).await, expected);
}

#[tokio::test(start_paused = true)]
async fn the_share_manager_is_told_of_success_where_that_is_wanted() {
    let mut world = World::new();
    world.settings.notify_on_success = true;
    let written = migrate(&world).await;
    assert_eq!(written[written.len() - 2..], ["task_state data_copying_completed".to_owned(), cast()]);
}

#[tokio::test(start_paused = true)]
async fn a_mount_that_fails() {
    let world = World::new();
    world.executor.play(Script::MountFails);
    let failed = ["task_state data_copying_error", "message"];
    assert_eq!(migrate(&world).await, lines(&[&BEGIN[..4], &LET_GO, &failed], &[cast()]));
    let message = world.database.with(|tables| tables.messages.values().next().cloned()).expect("a message");
    assert_eq!(message.id, world.only_job().id.to_string());
    assert_eq!((message.project_id.as_str(), message.request_id.as_deref()), ("p1project", Some("req-1")));
    assert_eq!((message.resource_type.as_str(), message.resource_id.as_str()), ("SHARE", SHARE));
    assert_eq!(
        (message.action_id.as_str(), message.detail_id.as_str(), message.level.as_str()),
        ("005", "001", "ERROR")
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_written() {
    let world = World::new();
    world.executor.play(Script::StopsByFault);
    let failed = ["task_state data_copying_error", "message"];
    assert_eq!(migrate(&world).await, lines(&[&BEGIN, &["unmount"], &LET_GO, &failed], &[cast()]));
}

#[tokio::test(start_paused = true)]
async fn access_that_is_not_given() {
    let world = World::new();
    world.executor.play(Script::AccessFails);
    let failed = ["task_state data_copying_error", "message"];
    assert_eq!(migrate(&world).await, lines(&[&BEGIN[..1], &LET_GO, &failed], &[cast()]));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_cancelled() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    assert_eq!(ask(&endpoint, "data_copy_cancel", json!({"share_id": SHARE})).await, Ok(Value::Null));
    world.until_told().await;
    let stopped = ["unmount", "task_state data_copying_completing"];
    let expected = lines(&[&BEGIN, &stopped, &LET_GO, &["task_state data_copying_cancelled"]], &[cast()]);
    assert_eq!(world.journal.take(), expected);
    // The casts are made in the request's context, without its token.
    let context = world.share_manager.contexts().pop().expect("a cast");
    assert_eq!((context.request_id(), context.get("auth_token")), (Some("req-1"), Some(&Value::Null)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_cancelled_in_the_queue() {
    let world = World::new();
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    assert_eq!(ask(&endpoint, "data_copy_cancel", json!({"share_id": SHARE})).await, Ok(Value::Null));
    world.until_told().await;
    assert_eq!(world.journal.take(), ["task_state data_copying_cancelled".to_owned(), cast()]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_without_going_back() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    assert_eq!(jobs.shut_down(Duration::from_mins(1)).await, 0);
    assert_eq!(world.database.task_state(SHARE).as_deref(), Some("data_copying_in_progress"));
    world.journal.take();
    world.executor.play(Script::Completes);
    let _jobs = world.jobs().await;
    world.until_told().await;
    let written = world.journal.take();
    let states: Vec<_> = written.iter().filter(|line| line.starts_with("task_state")).collect();
    assert_eq!(states, ["task_state data_copying_completing", "task_state data_copying_completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_share_that_was_reset_is_left_alone() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    world.database.with(|tables| tables.shares.get_mut(SHARE).expect("is there").task_state = None);
    world.journal.take();
    jobs.cancel(world.only_job().id).await.expect("is taken");
    world.until_told().await;
    assert_eq!(world.journal.take(), lines(&[&["unmount"], &LET_GO], &[]));
    assert_eq!(world.database.task_state(SHARE), None);
}

#[tokio::test(start_paused = true)]
async fn a_share_that_was_reset_before_the_job_began_stops_it() {
    let world = World::new();
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    world.database.with(|tables| tables.shares.get_mut(SHARE).expect("is there").task_state = None);
    jobs.reload(Scheduling::default(), job::Settings::new(job::NodeName::new("x"), "/x").retention);
    world.until_told().await;
    assert_eq!(world.only_job().state.name(), StateName::Failed);
    assert_eq!(world.journal.take(), LET_GO);
    assert_eq!(world.database.task_state(SHARE), None);
}

#[tokio::test(start_paused = true)]
async fn database_and_broker_may_be_away_at_the_end() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    world.journal.take();
    world.database.set_trouble(Trouble::Away);
    world.share_manager.behave(Manner::Unreachable);
    jobs.cancel(world.only_job().id).await.expect("is taken");
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(world.journal.take(), ["unmount"]);
    world.database.set_trouble(Trouble::None);
    world.until_task_state("data_copying_cancelled").await;
    tokio::time::sleep(Duration::from_mins(10)).await;
    let shown = ["task_state data_copying_completing"];
    assert_eq!(world.journal.take(), lines(&[&shown, &LET_GO, &["task_state data_copying_cancelled"]], &[]));
    world.share_manager.behave(Manner::Prompt);
    world.until_told().await;
    assert_eq!(world.journal.take(), [cast()]);
}
