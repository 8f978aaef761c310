//! Several nodes on one store: leases, jobs that others left behind, and changes behind this node's back.

use std::time::Duration;

use job::JobStore as _;
use job::{
    DataService as _, Generation, Hold, Intent, Job, JobId, Kind, NodeName, Origin, Outcome, State, StateName,
    StopReason,
};

use crate::fake::{Script, World, ended, soon, spec, until};

/// A job that a node which is gone was working on.
async fn left_by(world: &World, owner: &str) -> JobId {
    let id = JobId::generate();
    let job =
        Job::new(id, spec(Kind::Copy, "left"), Origin::default(), "2026-11-02T07:00:00Z".parse().expect("a time"));
    world.store.create(&job, None).await.expect("is kept");
    world.store.change(id, |job| {
        job.state = State::Working;
        job.holds = vec![Hold::Workspace { path: "/elsewhere/workspace/1".into() }];
        job.owner = Some(NodeName::new(owner));
        job.generation = Generation(3);
    });
    id
}

#[test]
fn a_job_of_another_node_is_taken_over_when_its_lease_has_run_out_and_not_before() {
    let world = World::new();
    world.live(async || {
        let id = left_by(&world, "there").await;
        world.store.steal(id);
        let service = job::Service::start(world.ports(), world.settings()).await.expect("starts");
        tokio::time::sleep(Duration::from_mins(10)).await;
        assert_eq!(world.store.job(id).state, State::Working, "its owner is alive");
        world.store.end_lease(id);
        let job = ended(&service, id).await;
        assert_eq!(job.outcome(), Some(&Outcome::Completed));
    });
    world.check_nothing_left();
}

#[test]
fn a_job_of_this_node_is_taken_up_at_the_start() {
    let world = World::new();
    world.live(async || {
        let id = left_by(&world, "here").await;
        world.store.change(id, |job| job.intent = Intent::Stop(StopReason::Cancel));
        let service = job::Service::start(world.ports(), world.settings()).await.expect("starts");
        assert_eq!(ended(&service, id).await.outcome(), Some(&Outcome::Cancelled));
        assert_eq!(world.executor.began().len(), 0);
    });
    world.check_nothing_left();
}

#[test]
fn a_worker_whose_lease_is_lost_stops_and_nothing_more_is_saved() {
    let world = World::new();
    world.executor.script("s", [Script::Endless]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        world.store.steal(id);
        let stolen = world.store.job(id);
        until(service, id, |_| world.executor.running() == 0).await;
        tokio::time::sleep(Duration::from_mins(5)).await;
        assert_eq!(world.store.job(id), stolen);
        assert!(world.executor.controls().iter().any(|told| told.stop == Some(StopReason::LostLease)));
    });
}

#[test]
fn a_pass_that_ends_after_its_lease_was_lost_is_not_saved() {
    for seconds in [3, 8, 12] {
        let world = World::new();
        world.executor.script("s", [Script::complete(seconds)]);
        world.run(async |service| {
            let id = soon(service, spec(Kind::Copy, "s")).await;
            until(service, id, |view| view.job.state.name() == StateName::Working).await;
            world.store.steal(id);
            let stolen = world.store.job(id);
            tokio::time::sleep(Duration::from_mins(1)).await;
            assert_eq!(world.store.job(id), stolen, "after {seconds} s");
        });
    }
}

#[test]
fn a_lease_that_is_lost_while_a_cancel_takes_its_time_harms_nothing() {
    let world = World::new();
    world.executor.script("s", [Script::Hangs]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        service.cancel(id).await.expect("is accepted");
        until(service, id, |_| world.executor.controls().iter().any(|told| told.stop.is_some())).await;
        world.store.steal(id);
        let stolen = world.store.job(id);
        until(service, id, |_| world.executor.running() == 0).await;
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(world.store.job(id), stolen);
    });
}

#[test]
fn a_cancel_at_another_node_reaches_the_worker() {
    let world = World::new();
    world.executor.script("s", [Script::Endless]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        world.store.change(id, |job| job.intent = Intent::Stop(StopReason::Cancel));
        assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled));
    });
    world.check_nothing_left();
}

#[test]
fn a_job_that_another_node_took_is_waited_for_there() {
    let world = World::new();
    world.run(async |service| {
        let mut later = spec(Kind::Copy, "s");
        later.schedule.start_after = Some("2027-01-01T00:00:00Z".parse().expect("a time"));
        let id = soon(service, later).await;
        world.store.steal(id);
        let waiting = service.wait(id, Duration::from_mins(1));
        let ending = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            world.store.change(id, |job| job.state = State::Ended { outcome: Outcome::Completed });
        };
        let (view, ()) = tokio::join!(waiting, ending);
        assert_eq!(view.expect("is there").job.outcome(), Some(&Outcome::Completed));
    });
}
