//! Cancel, pause, resume, deadline and shutdown, in every state.

use std::time::Duration;

use job::{DataService as _, DoorError, FailureCode, Intent, Kind, Outcome, State, StateName, StopReason};

use crate::fake::{Script, World, ended, lock, soon, spec, until};

#[test]
fn a_cancel_before_the_slot_ends_at_once() {
    let world = World::new();
    world.run(async |service| {
        let mut later = spec(Kind::Copy, "later");
        later.schedule.start_after = Some("2027-01-01T00:00:00Z".parse().expect("a time"));
        let id = soon(service, later).await;
        let view = service.cancel(id).await.expect("is accepted");
        assert_eq!(view.job.outcome(), Some(&Outcome::Cancelled));
    });
    assert_eq!(world.executor.began().len(), 0);
}

#[test]
fn a_cancel_while_access_is_given_gives_it_back() {
    let world = World::new();
    *lock(&world.access.delay) = Duration::from_secs(30);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "c")).await;
        until(service, id, |view| view.job.state.name() == StateName::Granting).await;
        let view = service.cancel(id).await.expect("is accepted");
        assert_eq!(view.job.state.name(), StateName::Releasing);
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled));
    });
    assert_eq!(world.executor.began().len(), 0);
    world.check_nothing_left();
}

#[test]
fn a_cancel_while_it_works_stops_the_worker_also_one_that_does_not_listen() {
    for script in [Script::Endless, Script::Hangs] {
        let world = World::new();
        world.executor.script("c", [script]);
        world.run(async |service| {
            let id = soon(service, spec(Kind::Copy, "c")).await;
            until(service, id, |view| view.job.state.name() == StateName::Working).await;
            let view = service.cancel(id).await.expect("is accepted");
            assert_eq!(view.job.intent, Intent::Stop(StopReason::Cancel), "durable before it is acted on");
            assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled));
            assert_eq!(service.cancel(id).await.expect("changes nothing").job.outcome(), Some(&Outcome::Cancelled));
        });
        world.check_nothing_left();
    }
}

#[test]
fn a_paused_job_holds_nothing_until_it_goes_on() {
    let world = World::new();
    world.executor.script("p", [Script::Endless, Script::complete(1)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "p")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        service.pause(id).await.expect("is accepted");
        let view = until(service, id, |view| view.job.state == State::Accepted).await;
        assert_eq!((view.waits_for, view.queue_position), (Some(job::WaitsFor::Resume), None));
        assert!(view.job.holds.is_empty() && world.access.taken().is_empty());
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(world.store.job(id).state, State::Accepted);
        service.resume(id).await.expect("is accepted");
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        assert!(matches!(service.resume(id).await, Err(DoorError::NotNow(_))));
    });
    world.check_nothing_left();
}

#[test]
fn a_resume_while_everything_is_still_given_back_is_accepted() {
    let world = World::new();
    world.executor.script("p", [Script::Endless, Script::complete(1)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "p")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        *lock(&world.access.delay) = Duration::from_secs(10);
        service.pause(id).await.expect("is accepted");
        until(service, id, |view| view.job.state.name() == StateName::Releasing).await;
        service.resume(id).await.expect("is accepted");
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
    });
    world.check_nothing_left();
}

#[test]
fn a_deadline_ends_jobs_that_wait_and_jobs_that_work() {
    let world = World::new();
    world.executor.script("works", [Script::Endless]);
    world.run(async |service| {
        let deadline: jiff::Timestamp = "2026-11-02T09:00:00Z".parse().expect("a time");
        let mut works = spec(Kind::Copy, "works");
        works.schedule.deadline = Some(deadline);
        let mut waits = spec(Kind::Copy, "waits");
        waits.schedule.deadline = Some(deadline);
        let (works, waits) = (soon(service, works).await, soon(service, waits).await);
        service.pause(waits).await.expect("is accepted");
        for id in [works, waits] {
            let job = ended(service, id).await;
            let Some(Outcome::Failed { failure }) = job.outcome() else { panic!("{job:?}") };
            assert_eq!(failure.code, FailureCode::DeadlinePassed);
            let late = job.ended_at.expect("an end").duration_since(deadline);
            assert!(late.as_secs() < 10 && !late.is_negative(), "{late}");
        }
    });
    world.check_nothing_left();
}

#[test]
fn a_shutdown_parks_every_job_and_the_next_start_goes_on_with_it() {
    let world = World::new();
    world.executor.script("works", [Script::Endless, Script::complete(1)]);
    *lock(&world.access.delay) = Duration::from_secs(1);
    let ids = world.run(async |service| {
        let works = soon(service, spec(Kind::Copy, "works")).await;
        until(service, works, |view| view.job.state.name() == StateName::Working).await;
        let grants = soon(service, spec(Kind::Copy, "grants")).await;
        until(service, grants, |view| view.job.state.name() == StateName::Granting).await;
        assert_eq!(service.shut_down(Duration::from_mins(1)).await, 0);
        assert!(matches!(
            service.submit(spec(Kind::Copy, "late"), job::Origin::default(), None).await,
            Err(DoorError::ShuttingDown)
        ));
        [works, grants]
    });
    for id in ids {
        let job = world.store.job(id);
        assert_eq!((job.state, job.intent, job.owner), (State::Accepted, Intent::Run, None));
    }
    assert!(world.executor.leftovers().is_empty() && world.access.taken().is_empty());
    world.run(async |service| {
        for id in ids {
            assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        }
    });
    world.check_nothing_left();
}

#[test]
fn a_shutdown_does_not_wait_for_ever_and_what_it_broke_off_is_taken_up_again() {
    let world = World::new();
    world.executor.script("hangs", [Script::Hangs, Script::complete(1)]);
    let id = world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "hangs")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(service.shut_down(Duration::from_secs(3)).await, 1);
        assert!(begun.elapsed() < Duration::from_secs(5));
        id
    });
    assert_eq!(world.store.job(id).state.name(), StateName::Working);
    world.run(async |service| {
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
    });
    world.check_nothing_left();
}

#[test]
fn a_shutdown_does_not_wait_for_what_cannot_be_given_back_and_the_next_start_goes_on_with_it() {
    let world = World::new();
    world.executor.fail_releases(4);
    let id = world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.release_trouble.is_some()).await;
        assert_eq!(service.shut_down(Duration::from_mins(1)).await, 0);
        id
    });
    assert_eq!(world.store.job(id).state.name(), StateName::Releasing);
    world.run(async |service| {
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
    });
    assert_eq!(world.executor.began().len(), 1, "the work was done");
    world.check_nothing_left();
}
