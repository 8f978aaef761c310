//! Storage that stops answering, under a worker.

use std::time::{Duration, Instant};

use job::{Control, JobSpec, Kind, WorkEvent};
use testkit::fuse::{Answer, FuseFs, FuseOp, FuseOptions, Rule};
use testkit::lend;
use work::ProcessSettings;

use crate::bench::{Bench, LIMIT, directory, settings, wait_for, worker_processes};
use crate::ends::wait_until_gone;
use crate::runner::{Test, tests};
use crate::service::Service;

pub(crate) const TESTS: &[Test] = tests![
    a_stop_ends_a_worker_whose_storage_hangs,
    a_stop_ends_a_worker_whose_mount_hangs,
    a_killed_service_ends_a_worker_whose_storage_hangs,
    a_worker_that_cannot_be_killed_is_not_claimed_to_be_gone,
];

fn quick() -> ProcessSettings {
    ProcessSettings { grace: Duration::from_millis(500), ..settings() }
}

fn a_stop_ends_a_worker_whose_storage_hangs() {
    let fs = lend!("a_stop_ends_a_worker_whose_storage_hangs", FuseFs::mount(FuseOptions::default()));
    let bench = Bench::new();
    let (source, dest) = (fs.subdir("a"), bench.dir.subdir("b"));
    std::fs::write(source.join("file"), "x").unwrap();
    fs.set_rules([Rule::always(FuseOp::Read, Answer::Hang)]);
    let order = bench.order(directory(&source), directory(&dest));
    let mut running = bench.start(quick(), order, Control::default());
    let processes = running.wait_until_mounted();
    wait_for("the read that hangs", || !fs.fired().is_empty());
    let asked = Instant::now();
    running.stop();
    let ran = running.end();
    assert!(asked.elapsed() < LIMIT / 2, "{:?}", asked.elapsed());
    ran.stopped();
    assert!(
        ran.events.iter().any(|event| matches!(event, WorkEvent::Warning(text) if text.contains("ended by force"))),
        "{ran:?}"
    );
    wait_until_gone(&processes);
    bench.assert_released();
}

fn a_stop_ends_a_worker_whose_mount_hangs() {
    let fs = lend!("a_stop_ends_a_worker_whose_mount_hangs", FuseFs::mount(FuseOptions::default()));
    let bench = Bench::new();
    let (source, dest) = (fs.subdir("a"), bench.dir.subdir("b"));
    fs.set_rules([Rule::always(FuseOp::Lookup, Answer::Hang), Rule::always(FuseOp::GetAttr, Answer::Hang)]);
    let running = bench.start(quick(), bench.order(directory(&source), directory(&dest)), Control::default());
    wait_for("the look that hangs", || !fs.fired().is_empty());
    running.stop();
    running.end().stopped();
    wait_until_gone(&worker_processes(&bench.workspace()));
    bench.assert_released();
}

fn a_killed_service_ends_a_worker_whose_storage_hangs() {
    let fs = lend!("a_killed_service_ends_a_worker_whose_storage_hangs", FuseFs::mount(FuseOptions::default()));
    let bench = Bench::new();
    let (source, dest) = (fs.subdir("a"), bench.dir.subdir("b"));
    std::fs::write(source.join("file"), "x").unwrap();
    fs.set_rules([Rule::always(FuseOp::Read, Answer::Hang)]);
    let spec = JobSpec::new(Kind::Copy, directory(&source), directory(&dest));
    let mut service = Service::start(&bench, &spec);
    wait_for("the read that hangs", || !fs.fired().is_empty());
    let processes = worker_processes(&bench.workspace());
    assert_eq!(processes.len(), 3);
    service.kill();
    wait_until_gone(&processes);
    bench.assert_released();
}

/// The kernel itself holds the mover: nobody may start another one on the same trees.
fn a_worker_that_cannot_be_killed_is_not_claimed_to_be_gone() {
    let name = "a_worker_that_cannot_be_killed_is_not_claimed_to_be_gone";
    let fs = lend!(name, FuseFs::mount(FuseOptions::default()));
    let bench = Bench::new();
    let (source, dest) = (fs.subdir("a"), bench.dir.subdir("b"));
    std::fs::write(source.join("file"), "x").unwrap();
    fs.set_rules([Rule::always(FuseOp::Read, Answer::HangForGood)]);
    let running = bench.start(quick(), bench.order(directory(&source), directory(&dest)), Control::default());
    wait_for("the read that hangs", || !fs.fired().is_empty());
    running.stop();
    let ran = running.end();
    assert!(ran.lost().contains("its storage still holds it"), "{ran:?}");
    drop(fs);
    bench.assert_released();
}
