//! Each call of the ports goes wrong once; the store goes away; things cannot be given back.

use std::time::Duration;

use job::{DataService as _, DoorError, FailureCode, Kind, Outcome, StateName, StoreError};

use crate::fake::{Script, When, World, ended, lock, soon, spec, until};

fn failure_code(job: &job::Job) -> Option<FailureCode> {
    match job.outcome() {
        Some(Outcome::Failed { failure }) => Some(failure.code),
        _ => None,
    }
}

/// A copy that is paused and goes on, asked for by somebody who tries again what the store did not answer.
fn story(world: &World) {
    world.executor.script("s", [Script::Endless, Script::complete(5)]);
    world.run(async |service| {
        let id = loop {
            let key = job::IdempotencyKey { requester: "r".into(), key: "k".into(), fingerprint: "f".into() };
            match service.submit(spec(Kind::Copy, "s"), job::Origin::default(), Some(key)).await {
                Ok(submitted) => break submitted.view.job.id,
                Err(DoorError::Store(_)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        while matches!(service.pause(id).await, Err(DoorError::Store(_))) {}
        until(service, id, |view| view.job.state.name() == StateName::Accepted).await;
        while matches!(service.resume(id).await, Err(DoorError::Store(_))) {}
        let job = ended(service, id).await;
        assert_eq!(job.outcome(), Some(&Outcome::Completed));
        assert_eq!(service.shut_down(Duration::from_mins(1)).await, 0);
    });
    world.check_nothing_left();
    assert_eq!(world.store.jobs().len(), 1);
}

#[test]
fn each_store_call_may_go_unanswered_once_whether_or_not_it_took_effect() {
    let sound = World::new();
    story(&sound);
    let calls = sound.store.calls();
    // The first calls are those of the start, which fails if the store does.
    for number in 3..=calls {
        for when in [When::Before, When::After] {
            let world = World::new();
            world.store.fail_call(number, when);
            story(&world);
        }
    }
}

#[test]
fn a_service_does_not_start_on_a_store_that_does_not_answer() {
    for number in 1..=2 {
        let world = World::new();
        world.store.fail_call(number, When::Before);
        world.live(async || {
            let started = job::Service::start(world.ports(), world.settings()).await;
            assert!(matches!(started, Err(StoreError::Unavailable(_))), "{number}");
        });
    }
}

#[test]
fn work_goes_on_while_the_store_is_away_and_nothing_is_acknowledged_meanwhile() {
    let world = World::new();
    world.executor.script("s", [Script::complete(20)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        world.store.be_away(true);
        assert!(matches!(service.cancel(id).await, Err(DoorError::Store(StoreError::Unavailable(_)))));
        assert!(!service.troubles().await.is_empty());
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(world.executor.running(), 0, "the worker went on to its end");
        world.store.be_away(false);
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        assert_eq!(service.troubles().await, [""; 0]);
    });
    assert_eq!(world.executor.began().len(), 1, "nothing was done twice");
    world.check_nothing_left();
}

#[test]
fn a_worker_stops_before_its_lease_ends_when_the_store_stays_away() {
    let world = World::new();
    world.executor.script("s", [Script::Endless, Script::complete(1)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        world.store.be_away(true);
        tokio::time::sleep(world.settings().lease).await;
        assert_eq!(world.executor.running(), 0, "another node may begin now");
        world.store.be_away(false);
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
    });
    world.check_nothing_left();
}

#[test]
fn what_the_executor_cannot_do_fails_the_job_and_a_lost_worker_is_replaced() {
    let check = |script: Script, passes: usize, expected: Option<FailureCode>| {
        let world = World::new();
        world.executor.script("s", [script]);
        world.run(async |service| {
            let id = soon(service, spec(Kind::Copy, "s")).await;
            assert_eq!(failure_code(&ended(service, id).await), expected);
        });
        assert_eq!(world.executor.began().len(), passes);
        world.check_nothing_left();
    };
    check(Script::Fail, 1, Some(FailureCode::MountFailed));
    check(Script::Lost(0), 2, None);
    check(Script::Lost(3), 2, None);
    check(Script::Panics, 2, None);
}

#[test]
fn a_job_whose_workers_all_die_fails_in_the_end() {
    let world = World::new();
    world.executor.script("s", vec![Script::Lost(0); 100]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        assert_eq!(failure_code(&ended(service, id).await), Some(FailureCode::WorkerLost));
        let figures = service.figures().await.expect("figures");
        assert_eq!(figures.workers_lost, u64::from(job::LIMITS.workers_lost_max) + 1);
    });
    world.check_nothing_left();
}

#[test]
fn access_that_is_not_given_fails_the_job_and_nothing_is_left() {
    let world = World::new();
    *lock(&world.access.take_failures) = 1;
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        assert_eq!(failure_code(&ended(service, id).await), Some(FailureCode::AccessDenied));
    });
    assert_eq!(world.executor.began().len(), 0);
    world.check_nothing_left();
}

#[test]
fn what_cannot_be_given_back_keeps_the_job_from_ending_and_is_seen() {
    let world = World::new();
    world.executor.fail_releases(5);
    *lock(&world.access.give_back_failures) = 3;
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        let stuck = until(service, id, |view| view.job.release_trouble.is_some()).await;
        assert_eq!(stuck.job.state.name(), StateName::Releasing);
        assert!(service.troubles().await.iter().any(|trouble| trouble.contains("the mount is busy")));
        let refused = until(service, id, |view| {
            view.job.release_trouble.as_ref().is_some_and(|trouble| trouble.contains("the share service said no"))
        });
        refused.await;
        let job = ended(service, id).await;
        assert_eq!((job.outcome(), &job.release_trouble), (Some(&Outcome::Completed), &None));
        assert_eq!(service.troubles().await, [""; 0]);
    });
    world.check_nothing_left();
}

#[test]
fn a_job_that_cannot_give_back_leaves_its_slot_to_others() {
    let world = World::new();
    world.executor.fail_releases(8);
    world.run(async |service| {
        let mut settings = world.settings().scheduling;
        settings.jobs_max = 1;
        service.reload(settings, world.settings().retention);
        let stuck = soon(service, spec(Kind::Copy, "stuck")).await;
        let other = soon(service, spec(Kind::Copy, "other")).await;
        until(service, other, |view| view.job.state.name() == StateName::Working).await;
        assert_eq!(world.store.job(stuck).state.name(), StateName::Releasing);
        ended(service, stuck).await;
        ended(service, other).await;
    });
    world.check_nothing_left();
}

#[test]
fn an_answer_is_tried_until_it_is_taken_or_refused_for_good() {
    let hooked = || {
        let mut spec = spec(Kind::Copy, "s");
        spec.webhook = Some(job::spec::Webhook { url: "https://h.example/".into(), secret: None });
        spec
    };
    let world = World::new();
    *lock(&world.notifier.failures) = 4;
    world.run(async |service| {
        let id = soon(service, hooked()).await;
        ended(service, id).await;
        until(service, id, |_| !world.notifier.told().is_empty()).await;
        assert_eq!(world.notifier.told(), [(id, StateName::Completed)]);
        until(service, id, |_| world.store.delivery(id).next_try_at.is_none()).await;
        assert_eq!(world.store.delivery(id).tries, 5);
        assert_eq!(service.figures().await.expect("figures").notify_failures, 4);
    });
    let world = World::new();
    *lock(&world.notifier.fails_for_good) = true;
    world.run(async |service| {
        let id = soon(service, hooked()).await;
        ended(service, id).await;
        until(service, id, |_| world.store.delivery(id).last_error.is_some()).await;
        assert_eq!((world.store.delivery(id).tries, world.store.delivery(id).next_try_at), (1, None));
    });
}
