//! Ctrl-C and SIGTERM in the middle of a large file.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Outcome, Sandbox, entries, wait_for};

const SIZE_BYTES: u64 = 48 << 20;

/// A copy that takes ten seconds, caught in its first half.
fn caught_in_the_middle(sandbox: &Sandbox, options: &[&str]) -> Child {
    // No two blocks alike, no zeros: nothing that a file system could make shorter work of.
    let mut state = 1_u64;
    let content: Vec<u8> = (0..SIZE_BYTES / 8)
        .flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_le_bytes()
        })
        .collect();
    sandbox.write("source/large", &content);
    let args = ["copy", "source", "dest", "--bandwidth-limit", "5M"];
    let child = sandbox.command(args.iter().chain(options)).spawn().unwrap();
    // Whatever name the engine gives to what it has not finished.
    let begun = || {
        let meta = fs::read_dir(sandbox.path("dest")).ok().and_then(|mut dir| dir.next()?.ok()?.metadata().ok());
        meta.is_some_and(|meta| meta.blocks() > 0)
    };
    wait_for("the first bytes of the copy", Duration::from_secs(10), begun);
    child
}

fn check(name: &str, signal: Signal, reason: &str) {
    let sandbox = Sandbox::new(name);
    let child = caught_in_the_middle(&sandbox, &["--json"]);
    let start = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(outcome.status.signal(), Some(signal.as_raw()), "{outcome:#?}");
    let summary = outcome.events().pop().unwrap();
    assert_eq!((&summary["ending"], &summary["stop_reason"]), (&"stopped".into(), &reason.into()), "{outcome:#?}");
    assert_eq!(summary["exit_code"], 128 + signal.as_raw());

    let source = entries(&sandbox.path("source"));
    assert_ne!(source, entries(&sandbox.path("dest")));
    if let Ok(partial) = fs::metadata(sandbox.path("dest/large")) {
        let whole = fs::metadata(sandbox.path("source/large")).unwrap();
        assert_ne!(
            (partial.len(), partial.mtime(), partial.mtime_nsec()),
            (whole.len(), whole.mtime(), whole.mtime_nsec()),
            "a partial file must not look finished"
        );
    }
    sandbox.run("copy --delete source dest").expect(0);
    assert_eq!(source, entries(&sandbox.path("dest")));
}

#[test]
fn ctrl_c_stops_a_copy_and_the_next_run_completes_it() {
    check("sigint", Signal::INT, "cancel");
}

#[test]
fn sigterm_stops_a_copy_and_the_next_run_completes_it() {
    check("sigterm", Signal::TERM, "shutdown");
}

#[test]
fn a_person_is_told_how_to_end_at_once() {
    let sandbox = Sandbox::new("told");
    let child = caught_in_the_middle(&sandbox, &[]);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let outcome = Outcome::from(child.wait_with_output().unwrap());
    assert!(outcome.stderr.contains("stopping ... (press again to exit at once)"), "{outcome:#?}");
    assert!(outcome.stderr.contains("the same command goes on from here"), "{outcome:#?}");
}
