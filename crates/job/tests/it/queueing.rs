//! The queue with a service behind it: limits, order, changes while it runs.

use job::spec::{BandwidthWindow, RateLimits};
use job::{DataService as _, DoorError, Endpoint, Kind, Origin, Outcome, StateName, WaitsFor};

use crate::fake::{Script, World, ended, soon, spec, until};

#[test]
fn two_hundred_jobs_never_exceed_the_limit_and_begin_in_their_order() {
    let world = World::new();
    let names = world.run(async |service| {
        // Nothing begins before all are there.
        let mut none = world.settings().scheduling;
        none.jobs_max = 0;
        service.reload(none.clone(), world.settings().retention);
        let mut ids = Vec::new();
        for number in 0..200 {
            let mut spec = spec(Kind::Copy, &format!("{number:03}"));
            spec.schedule.priority = number % 3;
            ids.push((spec.schedule.priority, number, soon(service, spec).await));
        }
        let queued = service.figures().await.expect("figures");
        assert_eq!((queued.queued_jobs, queued.running_jobs), (200, 0));
        ids.sort_by_key(|(priority, number, _)| (-priority, *number));
        for (position, (_, _, id)) in (1..).zip(&ids) {
            assert_eq!(service.get(*id).await.expect("is there").queue_position, Some(position));
        }
        none.jobs_max = 4;
        service.reload(none, world.settings().retention);
        for (_, _, id) in &ids {
            assert_eq!(ended(service, *id).await.outcome(), Some(&Outcome::Completed));
        }
        let mut ends: Vec<_> = ids.iter().map(|(_, _, id)| world.store.job(*id).ended_at).collect();
        assert!(ends.is_sorted(), "the order of the ends");
        ends.dedup();
        ids.iter().map(|(_, number, _)| format!("{number:03}")).collect::<Vec<_>>()
    });
    assert_eq!(world.executor.names_began(), names);
    assert_eq!(world.executor.running_max(), 4);
    world.check_nothing_left();
}

#[test]
fn a_full_queue_takes_no_more_jobs() {
    let world = World::new();
    world.run(async |service| {
        let mut scheduling = world.settings().scheduling;
        (scheduling.jobs_max, scheduling.queue_max) = (0, 2);
        service.reload(scheduling, world.settings().retention);
        soon(service, spec(Kind::Copy, "1")).await;
        soon(service, spec(Kind::Copy, "2")).await;
        let refused = service.submit(spec(Kind::Copy, "3"), Origin::default(), None).await;
        assert!(matches!(refused, Err(DoorError::QueueFull(2))), "{refused:?}");
    });
}

#[test]
fn two_jobs_with_one_destination_run_one_after_the_other() {
    let world = World::new();
    world.executor.script("a", [Script::complete(100)]);
    world.run(async |service| {
        let first = soon(service, spec(Kind::Copy, "a")).await;
        until(service, first, |view| view.job.state.name() == StateName::Working).await;
        let mut nested = spec(Kind::Copy, "b");
        nested.dest = Endpoint::Directory { path: "/to/a/below".into() };
        let second = soon(service, nested).await;
        let view = service.get(second).await.expect("is there");
        assert_eq!((view.waits_for, view.queue_position), (Some(WaitsFor::Destination), None));
        assert_eq!(ended(service, second).await.outcome(), Some(&Outcome::Completed));
        assert!(world.store.job(first).ended_at <= world.store.job(second).started_at);
    });
    world.check_nothing_left();
}

#[test]
fn bandwidth_changes_while_a_job_runs_by_hand_by_the_hour_and_by_configuration() {
    let world = World::new();
    world.executor.script("s", [Script::Endless]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        let told =
            |bandwidth| world.executor.controls().iter().any(|told| told.bandwidth_bytes_per_second == bandwidth);
        until(service, id, |_| told(None)).await;
        let mut scheduling = world.settings().scheduling;
        scheduling.bandwidth_bytes_per_second = Some(7);
        service.reload(scheduling, world.settings().retention);
        until(service, id, |_| told(Some(7))).await;
        let window = BandwidthWindow {
            days: Vec::new(),
            from: "08:30".into(),
            to: "09:00".into(),
            bandwidth_bytes_per_second: Some(3),
        };
        let limits = RateLimits {
            bandwidth_bytes_per_second: Some(5),
            windows: vec![window],
            time_zone: Some("UTC".into()),
            ..RateLimits::default()
        };
        service.set_limits(id, limits).await.expect("is accepted");
        until(service, id, |_| told(Some(5))).await;
        assert!(!told(Some(3)));
        until(service, id, |_| told(Some(3))).await;
        service.cancel(id).await.expect("is accepted");
        ended(service, id).await;
        assert!(matches!(service.set_limits(id, RateLimits::default()).await, Err(DoorError::NotNow(_))));
        let bad = RateLimits { operations_per_second: Some(0), ..RateLimits::default() };
        assert!(matches!(service.set_limits(id, bad).await, Err(DoorError::BadSpec(_))));
    });
}

#[test]
fn a_job_begins_at_its_time() {
    let world = World::new();
    world.run(async |service| {
        let mut later = spec(Kind::Copy, "later");
        let start = "2026-11-02T08:45:00Z".parse().expect("a time");
        later.schedule.start_after = Some(start);
        let id = soon(service, later).await;
        assert_eq!(service.get(id).await.expect("is there").waits_for, Some(WaitsFor::Time));
        let started = ended(service, id).await.started_at.expect("a start");
        let late = started.duration_since(start);
        assert!(!late.is_negative() && late.as_secs() < 1, "{late}");
    });
}
