//! The word that a migration has ended, told again after a crash, or when the share is somebody else's by now.

use std::time::Duration;

use job::{Failure, FailureCode, Job, JobId, Notifier as _, Outcome, State, Step};
use manila::ManilaNotifier;

use crate::fake::{DEST, Manner, SHARE, SOURCE, Trouble, World, ask, instance, start_args};

fn failed(code: FailureCode) -> Outcome {
    Outcome::Failed { failure: Failure::new(Step::Copy, code, "no space") }
}

/// A job of Manila's that has ended so, with nobody told of it.
async fn ended(world: &World, outcome: Outcome) -> Job {
    let jobs = world.jobs_with(job::Scheduling { jobs_max: 0, ..job::Scheduling::default() }).await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    let mut job = world.only_job();
    job.id = JobId::from_u128(7);
    job.state = State::Ended { outcome };
    job
}

fn set_task_state(world: &World, task_state: &str) {
    world.database.with(|tables| tables.shares.get_mut(SHARE).expect("is there").task_state = Some(task_state.into()));
}

fn cast() -> String {
    format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool")
}

#[tokio::test(start_paused = true)]
async fn told_again_it_says_the_same_and_writes_nothing() {
    let world = World::new();
    let job = ended(&world, failed(FailureCode::EngineFailed)).await;
    let notifier = ManilaNotifier::new(world.peers());
    set_task_state(&world, "data_copying_in_progress");
    assert!(notifier.wants(&job));
    notifier.tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), ["task_state data_copying_error".to_owned(), "message".into(), cast()]);
    notifier.tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), [cast()]);
    // The share manager has begun to clean up: it must not begin again.
    world.database.with(|tables| tables.instances.get_mut(DEST).expect("is there").status = Some("deleting".into()));
    notifier.tell(&job).await.expect("is told");
    set_task_state(&world, "migration_error");
    notifier.tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_state_is_written_before_the_word_and_both_are_tried_again() {
    let world = World::new();
    let job = ended(&world, failed(FailureCode::EngineFailed)).await;
    let notifier = ManilaNotifier::new(world.peers());
    set_task_state(&world, "data_copying_starting");
    for (trouble, seconds) in [(Trouble::Away, 3), (Trouble::Refuses, 60)] {
        world.database.set_trouble(trouble);
        let error = notifier.tell(&job).await.expect_err("cannot be told");
        assert_eq!((error.is_final, error.retry_after), (false, Some(Duration::from_secs(seconds))));
    }
    world.database.set_trouble(Trouble::None);
    world.share_manager.behave(Manner::Unreachable);
    let error = notifier.tell(&job).await.expect_err("cannot be told");
    assert_eq!((error.is_final, error.retry_after), (false, Some(Duration::from_secs(3))));
    assert_eq!(world.journal.take(), ["task_state data_copying_error", "message"]);
    world.share_manager.behave(Manner::Prompt);
    notifier.tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), [cast()]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_refused_keeps_nobody_from_being_told() {
    let world = World::new();
    let job = ended(&world, failed(FailureCode::EngineFailed)).await;
    set_task_state(&world, "data_copying_in_progress");
    world.database.with(|tables| tables.refuses_messages = true);
    ManilaNotifier::new(world.peers()).tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), ["task_state data_copying_error".to_owned(), cast()]);
}

#[tokio::test(start_paused = true)]
async fn shares_of_others_are_left_alone() {
    let check = async |outcome: Outcome, change: &dyn Fn(&World)| {
        let world = World::new();
        let job = ended(&world, outcome.clone()).await;
        set_task_state(&world, "data_copying_in_progress");
        change(&world);
        ManilaNotifier::new(world.peers()).tell(&job).await.expect("nothing to tell");
        assert_eq!(world.journal.take(), [""; 0], "{outcome:?}");
    };
    // Somebody has reset it, or it is gone.
    check(Outcome::Cancelled, &|world| set_task_state(world, "migration_error")).await;
    check(Outcome::Completed, &|world| set_task_state(world, "migration_in_progress")).await;
    check(Outcome::Cancelled, &|world| world.database.with(|tables| tables.shares.clear())).await;
    check(failed(FailureCode::NotWanted), &|_| ()).await;
    // It is on its way to elsewhere by now.
    let other = |world: &World| {
        let newer = instance("newer", "c@gamma#pool", "migrating_to");
        world.database.with(|tables| drop(tables.instances.insert("newer".into(), newer)));
    };
    for outcome in [Outcome::Completed, Outcome::Cancelled, failed(FailureCode::EngineFailed)] {
        check(outcome, &other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_source_nobody_can_be_told() {
    let world = World::new();
    let job = ended(&world, Outcome::Cancelled).await;
    set_task_state(&world, "data_copying_completing");
    world.database.with(|tables| drop(tables.instances.remove(SOURCE)));
    ManilaNotifier::new(world.peers()).tell(&job).await.expect("is told");
    assert_eq!(world.journal.take(), ["task_state data_copying_cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_cannot_be_read_is_given_up() {
    let world = World::new();
    let mut job = ended(&world, Outcome::Cancelled).await;
    job.origin.on_behalf.as_mut().expect("is Manila's").request = serde_json::json!({"version": 9});
    let error = ManilaNotifier::new(world.peers()).tell(&job).await.expect_err("cannot be told");
    assert!(error.is_final && error.message.contains("reset-task-state"), "{error}");
    assert_eq!(world.journal.take(), [""; 0]);
}
