//! Passes, cutover by hand and by itself, and the hook that makes the source read-only.

use std::time::Duration;

use job::spec::Cutover;
use job::{
    CutoverState, DataService as _, DoorError, JobSpec, Kind, Outcome, PassKind, StateName, WaitsFor, WorkEnding,
};

use crate::fake::{Script, World, ended, figures, soon, spec, until};

fn migration(name: &str) -> JobSpec {
    let mut spec = spec(Kind::Migrate, name);
    spec.migrate.interval_seconds = 60;
    spec.migrate.hook = Some("freeze".into());
    spec
}

fn pass(changed: u64, faults: u64) -> Script {
    let ending = if faults > 0 { WorkEnding::WithFaults } else { WorkEnding::Complete };
    Script::End(10, ending, figures(changed, faults))
}

fn kinds(world: &World) -> Vec<PassKind> {
    world.executor.began().iter().map(|(_, order)| order.pass_kind).collect()
}

#[test]
fn a_migration_brings_itself_up_to_date_until_somebody_asks_for_the_cutover() {
    let world = World::new();
    world.executor.script("m", [pass(1000, 3), pass(100, 0), pass(50, 0), pass(10, 0)]);
    world.run(async |service| {
        let id = soon(service, migration("m")).await;
        let view = until(service, id, |view| view.job.passes_done == 2).await;
        assert!(view.prediction.is_some_and(|prediction| prediction.seconds > 0.0));
        let view = until(service, id, |view| view.job.passes_done == 3 && view.job.holds.is_empty()).await;
        assert_eq!(view.waits_for, Some(WaitsFor::Time));
        let view = service.cutover(id).await.expect("is accepted");
        assert_eq!((view.job.cutover, view.job.not_before), (CutoverState::Asked, None));
        service.cutover(id).await.expect("asked for again, it changes nothing");
        let job = ended(service, id).await;
        assert_eq!(job.outcome(), Some(&Outcome::Completed));
        assert!(matches!(service.cutover(id).await, Err(DoorError::NotNow(_))));
        assert_eq!(world.access.taken(), [format!("the read-only source of {id}")]);
    });
    use PassKind::{Baseline, Final, Incremental};
    assert_eq!(kinds(&world), [Baseline, Incremental, Incremental, Final]);
    let numbers: Vec<_> = world.executor.began().iter().map(|(_, order)| order.pass).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

#[test]
fn a_cutover_asked_for_while_a_pass_runs_lets_it_finish_and_follows_at_once() {
    let world = World::new();
    world.executor.script("m", [pass(1000, 0), Script::complete(100)]);
    world.run(async |service| {
        let mut spec = migration("m");
        spec.migrate.interval_seconds = 50_000;
        let id = soon(service, spec).await;
        until(service, id, |view| view.job.state.name() == StateName::Working).await;
        service.cutover(id).await.expect("is accepted");
        assert_eq!(ended(service, id).await.passes_done, 2);
    });
    assert_eq!(kinds(&world), [PassKind::Baseline, PassKind::Final]);
}

#[test]
fn faults_of_the_last_pass_fail_the_migration_and_the_source_becomes_writable_again() {
    let world = World::new();
    world.executor.script("m", [pass(10, 0), pass(10, 1)]);
    world.run(async |service| {
        let id = soon(service, migration("m")).await;
        until(service, id, |view| view.job.passes_done == 1).await;
        service.cutover(id).await.expect("is accepted");
        assert!(matches!(ended(service, id).await.outcome(), Some(Outcome::Failed { .. })));
    });
    world.check_nothing_left();
}

#[test]
fn after_its_last_pass_a_migration_waits_for_the_cutover() {
    let world = World::new();
    world.run(async |service| {
        let mut spec = migration("m");
        spec.migrate.passes_max = Some(2);
        let id = soon(service, spec).await;
        until(service, id, |view| view.waits_for == Some(WaitsFor::Cutover)).await;
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(world.store.job(id).passes_done, 2);
        service.cutover(id).await.expect("is accepted");
        assert_eq!(ended(service, id).await.passes_done, 3);
    });
}

#[test]
fn an_automatic_migration_cuts_over_when_its_plan_says_so() {
    let check = |passes: &[u64], passes_max, seconds_max, expected: usize| {
        let world = World::new();
        let scripts: Vec<_> = passes.iter().map(|changed| pass(*changed, 0)).collect();
        world.executor.script("m", scripts);
        world.run(async |service| {
            let mut spec = migration("m");
            spec.migrate.cutover = Cutover::Automatic;
            spec.migrate.passes_max = passes_max;
            spec.migrate.cutover_seconds_max = seconds_max;
            spec.options.verify = Some(job::spec::Verify::None);
            let id = soon(service, spec).await;
            assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Completed));
        });
        let kinds = kinds(&world);
        assert_eq!((kinds.len(), kinds.last()), (expected, Some(&PassKind::Final)), "{passes:?}");
    };
    // After so many passes, whatever is predicted.
    check(&[1000, 900, 900], Some(2), None, 3);
    check(&[1000], Some(1), None, 2);
    // The prediction is the ten seconds of a pass, less what its copying took.
    check(&[1000, 900, 900, 900], None, Some(60), 3);
    check(&[1000, 900, 900, 900], Some(4), Some(1), 5);
    // Neither is given: when a pass gains little over the one before.
    check(&[1000, 900, 890, 880, 870], None, None, 4);
}

#[test]
fn a_lost_worker_costs_a_migration_one_try_and_no_pass() {
    let world = World::new();
    world.executor.script("m", [pass(100, 0), Script::Lost(0), pass(10, 0), Script::Lost(0), pass(1, 0)]);
    world.run(async |service| {
        let mut spec = migration("m");
        spec.migrate.cutover = Cutover::Automatic;
        spec.migrate.passes_max = Some(2);
        let id = soon(service, spec).await;
        let job = ended(service, id).await;
        assert_eq!((job.outcome(), job.passes_done, job.workers_lost), (Some(&Outcome::Completed), 3, 0));
    });
    let numbers: Vec<_> = world.executor.began().iter().map(|(_, order)| order.pass).collect();
    assert_eq!(numbers, [1, 2, 2, 3, 3]);
}
