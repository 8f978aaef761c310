//! An owner who is shown the states of a job: in order, before what belongs to each begins, and never in its way for long.

use std::time::Duration;

use job::{DataService as _, FailureCode, Kind, Outcome, StateName};

use crate::fake::{Script, World, ended, soon, spec, until};

const ALL: [StateName; 3] = [StateName::Granting, StateName::Working, StateName::Releasing];

#[test]
fn each_state_is_shown_in_its_order() {
    let world = World::new();
    world.executor.script("f", [Script::complete(1)]);
    let id = world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        id
    });
    assert_eq!(world.follower.shown(id), ALL);
}

#[test]
fn nothing_is_taken_before_the_owner_was_reached_and_work_does_not_wait_for_him() {
    let world = World::new();
    world.executor.script("f", [Script::complete(1)]);
    world.follower.away(StateName::Granting, 3);
    world.follower.away(StateName::Working, 2);
    world.follower.away(StateName::Releasing, 4);
    let id = world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        let view = until(service, id, |view| view.job.state.name() == StateName::Granting).await;
        assert!(world.access.taken().is_empty(), "{:?}", view.job);
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        id
    });
    assert_eq!(world.follower.shown(id), ALL);
    world.check_nothing_left();
}

#[test]
fn a_job_that_is_refused_at_its_beginning_takes_nothing_and_fails() {
    let world = World::new();
    world.follower.refuse(StateName::Granting);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        let job = ended(service, id).await;
        let Some(Outcome::Failed { failure }) = job.outcome() else { panic!("{job:?}") };
        assert_eq!(failure.code, FailureCode::NotWanted);
        assert!(failure.message.contains("thought better"), "{failure}");
    });
    assert_eq!(world.executor.began().len(), 0);
    world.check_nothing_left();
}

#[test]
fn work_that_is_refused_is_stopped() {
    let world = World::new();
    world.executor.script("f", [Script::Endless]);
    world.follower.refuse(StateName::Working);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled));
    });
    world.check_nothing_left();
}

#[test]
fn a_stop_is_heard_while_the_owner_is_away() {
    let world = World::new();
    world.follower.away(StateName::Granting, 10_000);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        until(service, id, |view| view.job.state.name() == StateName::Granting).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        service.cancel(id).await.expect("is accepted");
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled));
    });
    assert_eq!(world.executor.began().len(), 0);
    world.check_nothing_left();
}

#[test]
fn the_end_of_the_service_does_not_wait_for_an_owner_who_is_away() {
    let world = World::new();
    world.executor.script("f", [Script::Endless, Script::complete(1)]);
    world.follower.away(StateName::Releasing, 10_000);
    let id = world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "f")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        assert_eq!(service.shut_down(Duration::from_mins(5)).await, 0, "it came to rest");
        id
    });
    assert!(!world.store.job(id).state.is_ended());
    world.follower.answers.lock().expect("nobody panicked").clear();
    world.run(async |service| assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed)));
    world.check_nothing_left();
}
