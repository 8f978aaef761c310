//! Every way in which a worker, or its service, can end before its work does.

use std::path::Path;

use job::{Control, Executor as _, JobSpec, Kind, StopReason, WorkError, WorkEvent};
use testkit::disk::need_root;
use testkit::lend;
use work::ProcessExecutor;

use crate::bench::{
    Bench, Running, children, directory, is_gone, kill, mounts, settings, slow, wait_for, worker_processes,
};
use crate::runner::{Test, tests};
use crate::service::Service;

pub(crate) const TESTS: &[Test] = tests![
    a_stop_ends_a_run_and_the_next_one_goes_on,
    a_stop_before_the_start_ends_at_once,
    limits_can_be_changed_while_it_works,
    a_killed_outer_process_takes_everything_with_it,
    a_killed_keeper_takes_everything_with_it,
    a_killed_mover_is_lost_and_its_mounts_are_taken_away,
    a_killed_service_ends_its_worker,
    a_run_that_is_dropped_ends_its_worker,
    a_release_ends_a_worker_that_still_works,
    a_second_worker_waits_for_the_first,
    signals_for_the_service_do_not_end_its_workers,
    a_worker_that_cannot_be_started_is_lost,
    nobody_else_can_call_a_worker,
];

/// A run that is at work, with its processes.
fn at_work(bench: &Bench) -> (Running<'_>, Vec<i32>) {
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    let mut running = bench.start(settings(), bench.order(directory(&source), directory(&dest)), slow());
    let processes = running.wait_until_mounted();
    (running, processes)
}

#[track_caller]
pub(crate) fn wait_until_gone(processes: &[i32]) {
    for process in processes {
        wait_for("the end of a process", || is_gone(*process));
    }
}

fn a_stop_ends_a_run_and_the_next_one_goes_on() {
    lend!("a_stop_ends_a_run_and_the_next_one_goes_on", need_root());
    let bench = Bench::new();
    let (running, processes) = at_work(&bench);
    running.stop();
    running.end().stopped();
    wait_until_gone(&processes);
    assert!(!bench.workspace().exists());
    let [a, b] = ["a", "b"].map(|name| bench.dir.path().join(name));
    bench.run(settings(), directory(&a), directory(&b)).completed();
    assert_eq!(std::fs::read(b.join("slow")).unwrap(), std::fs::read(a.join("slow")).unwrap());
    bench.assert_released();
}

fn a_stop_before_the_start_ends_at_once() {
    lend!("a_stop_before_the_start_ends_at_once", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    let control = Control { stop: Some(StopReason::Pause), ..slow() };
    let ran = bench.start(settings(), bench.order(directory(&source), directory(&dest)), control).end();
    ran.stopped();
    bench.assert_released();
}

fn limits_can_be_changed_while_it_works() {
    lend!("limits_can_be_changed_while_it_works", need_root());
    let bench = Bench::new();
    let (running, _) = at_work(&bench);
    // At its first speed it would take more than three minutes.
    running.control.send_replace(Control::default());
    running.end().completed();
    bench.assert_released();
}

#[track_caller]
fn check_killed(index: usize, part: &str) {
    let bench = Bench::new();
    let (running, processes) = at_work(&bench);
    kill(processes[index]);
    let ran = running.end();
    assert!(ran.lost().contains(part), "{ran:?}");
    // What has given up its files may take a moment more to leave the list of processes.
    wait_until_gone(&processes);
    assert_eq!(mounts("self", &bench.workspace()), []);
    bench.assert_released();
}

fn a_killed_outer_process_takes_everything_with_it() {
    lend!("a_killed_outer_process_takes_everything_with_it", need_root());
    check_killed(0, "signal: 9");
}

fn a_killed_keeper_takes_everything_with_it() {
    lend!("a_killed_keeper_takes_everything_with_it", need_root());
    check_killed(1, "the keeper was ended by signal 9");
}

fn a_killed_mover_is_lost_and_its_mounts_are_taken_away() {
    lend!("a_killed_mover_is_lost_and_its_mounts_are_taken_away", need_root());
    check_killed(2, "the mover was ended by signal 9");
}

fn spec(bench: &Bench) -> JobSpec {
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    JobSpec::new(Kind::Copy, directory(&source), directory(&dest))
}

#[track_caller]
fn wait_for_worker(workspace: &Path) -> Vec<i32> {
    let mut processes = Vec::new();
    wait_for("the worker", || {
        processes = worker_processes(workspace);
        processes.len() == 3
    });
    processes
}

fn a_killed_service_ends_its_worker() {
    lend!("a_killed_service_ends_its_worker", need_root());
    let bench = Bench::new();
    let mut service = Service::start(&bench, &spec(&bench));
    let processes = wait_for_worker(&bench.workspace());
    service.kill();
    wait_until_gone(&processes);
    bench.assert_released();
    let [a, b] = ["a", "b"].map(|name| bench.dir.path().join(name));
    bench.run(settings(), directory(&a), directory(&b)).completed();
}

fn a_run_that_is_dropped_ends_its_worker() {
    lend!("a_run_that_is_dropped_ends_its_worker", need_root());
    let bench = Bench::new();
    let (running, processes) = at_work(&bench);
    running.abort();
    wait_until_gone(&processes);
    bench.assert_released();
}

fn a_release_ends_a_worker_that_still_works() {
    lend!("a_release_ends_a_worker_that_still_works", need_root());
    let bench = Bench::new();
    let _service = Service::start(&bench, &spec(&bench));
    let processes = wait_for_worker(&bench.workspace());
    bench.release();
    wait_until_gone(&processes);
    bench.assert_released();
}

fn a_second_worker_waits_for_the_first() {
    lend!("a_second_worker_waits_for_the_first", need_root());
    let bench = Bench::new();
    let (first, processes) = at_work(&bench);
    let (source, dest) = (bench.dir.path().join("a"), bench.dir.subdir("c"));
    let order = bench.order(directory(&source), directory(&dest));
    let executor = ProcessExecutor::new(settings());
    let (_control, receiver) = tokio::sync::watch::channel(Control::default());
    let (sender, mut events) = tokio::sync::mpsc::channel(1024);
    let second = bench.runtime.spawn(async move { executor.run(order, receiver, sender).await });
    // There is a second outer process, and its keeper neither mounts nor fails.
    let own = std::process::id() as i32;
    wait_for("the second worker", || {
        let outer =
            children(own).into_iter().find(|child| !processes.contains(child) && is_worker_of(*child, "data-worker"));
        outer.is_some_and(|outer| children(outer).into_iter().any(|keeper| is_worker_of(keeper, "data-keeper")))
    });
    assert!(events.try_recv().is_err() && !second.is_finished());
    first.stop();
    first.end().stopped();
    let ended: Result<_, WorkError> = bench.runtime.block_on(second).unwrap();
    assert!(matches!(ended, Ok(result) if result.ending == job::WorkEnding::Complete));
    assert!(std::iter::from_fn(|| events.try_recv().ok()).any(|event| event == WorkEvent::Mounted));
    bench.assert_released();
}

fn is_worker_of(number: i32, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{number}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// A service manager sends its signal to every process of the service; the service alone decides.
fn signals_for_the_service_do_not_end_its_workers() {
    use rustix::process::{Pid, Signal, kill_process};
    lend!("signals_for_the_service_do_not_end_its_workers", need_root());
    let bench = Bench::new();
    let (running, processes) = at_work(&bench);
    for process in &processes {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            kill_process(Pid::from_raw(*process).unwrap(), signal).unwrap();
        }
    }
    running.control.send_replace(Control::default());
    running.end().completed();
    bench.assert_released();
}

fn a_worker_that_cannot_be_started_is_lost() {
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    let run = |exe: &str, args: &[&str]| {
        let args = args.iter().map(Into::into).collect();
        let settings = work::ProcessSettings { exe: exe.into(), args, ..settings() };
        bench.run(settings, directory(&source), directory(&dest))
    };
    assert!(run("/nowhere/manila-data", &[]).lost().contains("cannot start it"));
    let ran = run("/bin/sh", &["-c", "echo 'bad luck' >&2; exit 7"]);
    assert!(ran.lost().contains("exit status: 7: bad luck"), "{ran:?}");
    let ran = run("/bin/sh", &["-c", "echo '{\"v\":9}'; sleep 600"]);
    assert!(ran.lost().contains("speaks version 9"), "{ran:?}");
    bench.assert_released();
    let executor = ProcessExecutor::new(settings());
    bench.runtime.block_on(executor.release(&bench.dir.path().join("none/at/all"))).unwrap();
}

fn nobody_else_can_call_a_worker() {
    let call = |args: &[&str]| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.arg("worker").args(args).stdin(std::process::Stdio::null()).output().unwrap()
    };
    let output = call(&["steal"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("for workers of the service alone"), "{output:?}");
    let output = call(&["mover"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("was not told what to move"), "{output:?}");
    let output = call(&[]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("was not told what to do"), "{output:?}");
}
