//! Storage that does not answer, or late.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::fuse::{Answer, FuseOp, FuseOptions, Rule};
use testkit::lend;

use crate::harness::{Bench, Met, Side, summary, words};

const LIMIT: Duration = Duration::from_secs(20);

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Kills what is left of a process when the test fails.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn check(name: &str, side: Side, op: FuseOp) {
    let mut bench = lend!(name, Bench::new(side, FuseOptions::default()));
    bench.anew();
    bench.fs.set_rules([Rule::always(op, Answer::Hang).named(b"owned")]);
    let mut child = Guard(bench.command(&[]).spawn().unwrap());
    wait_for("the file that hangs", || !bench.fs.fired().is_empty());
    let pid = Pid::from_child(&child.0);
    // Entries that do not hang are copied meanwhile.
    wait_for("the others", || std::fs::metadata(bench.dest().join("dir/sub/file")).is_ok_and(|meta| meta.len() > 0));
    kill_process(pid, Signal::INT).unwrap();
    // The first signal asks; storage that does not answer cannot be left that way.
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_millis(300) {
        assert!(child.0.try_wait().unwrap().is_none(), "the hanging call came back");
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = Instant::now();
    kill_process(pid, Signal::INT).unwrap();
    wait_for("the end", || child.0.try_wait().unwrap().is_some());
    assert!(second.elapsed() < Duration::from_secs(1), "{:?}", second.elapsed());
    assert_eq!(child.0.wait().unwrap().signal(), Some(Signal::INT.as_raw()));
    bench.fs.clear_rules();
    let output = bench.run();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert_eq!(bench.differences(), Vec::<String>::new());
}

#[test]
fn a_second_signal_ends_a_copy_whose_source_hangs() {
    check("a_second_signal_ends_a_copy_whose_source_hangs", Side::Source, FuseOp::Read);
}

#[test]
fn a_second_signal_ends_a_copy_whose_destination_hangs() {
    check("a_second_signal_ends_a_copy_whose_destination_hangs", Side::Dest, FuseOp::Write);
}

/// Each answer takes 10 ms: more is kept in flight, and a signal ends it before everything is copied.
#[test]
fn slow_storage_is_copied_right_and_can_be_stopped() {
    let name = "slow_storage_is_copied_right_and_can_be_stopped";
    let mut bench = lend!(name, Bench::new(Side::Dest, FuseOptions::default()));
    let ops = [FuseOp::Create, FuseOp::Write, FuseOp::Flush, FuseOp::SetAttr, FuseOp::Lookup, FuseOp::GetAttr];
    let slow = ops.map(|op| Rule::always(op, Answer::Late(Duration::from_millis(10))));
    assert!(matches!(bench.check(&slow), Met::Passed));
    bench.anew();
    bench.fs.set_rules(slow.map(|rule| Rule { answer: Answer::Late(Duration::from_millis(100)), ..rule }));
    let mut child = Guard(bench.command(&[]).spawn().unwrap());
    wait_for("the first file", || bench.fs.count(FuseOp::Write) > 0);
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    let mut status = None;
    wait_for("the end", || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.is_some_and(|status| !status.success()), "it went on to its end");
    bench.fs.clear_rules();
    let output = bench.run();
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
    assert!(summary(&output).is_some_and(|summary| summary["durable"] == true));
    assert_eq!(bench.differences(), Vec::<String>::new());
}
