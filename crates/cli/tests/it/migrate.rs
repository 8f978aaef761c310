//! `migrate`: the whole migration without a service, also across a crash.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::daemon::{PATIENCE, has_content, large_tree};
use crate::support::{Outcome, Sandbox, entries, wait_for};

fn summary(outcome: &Outcome) -> Value {
    let last = outcome.events().pop().expect("at least a summary");
    assert_eq!(last["event"], "summary", "{outcome:#?}");
    last
}

/// A migration that would take a while, with its first files there.
fn begun(sandbox: &Sandbox) -> Child {
    large_tree(sandbox, 60, 50_000);
    let mut command = sandbox.command(["migrate", "source", "dest", "--bandwidth-limit", "500k"]);
    command.stderr(fs::File::create(sandbox.path("stderr")).unwrap());
    let child = command.spawn().unwrap();
    wait_for("the first files", PATIENCE, || has_content(&sandbox.path("dest")));
    child
}

fn check_goes_on(sandbox: &Sandbox, signal: Signal) -> Option<i32> {
    let mut child = begun(sandbox);
    kill_process(Pid::from_child(&child), signal).unwrap();
    wait_for("the end of the command", PATIENCE, || child.try_wait().unwrap().is_some());
    let status = child.wait().unwrap();
    assert_ne!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")), "it was still under way");
    let outcome = sandbox.run("migrate source dest --json").expect(0);
    let summary = summary(&outcome);
    let passes = summary["job"]["passes"].as_array().unwrap();
    let copied: u64 = passes.iter().map(|pass| pass["figures"]["copied_bytes"].as_u64().unwrap()).sum();
    assert!(copied < 60 * 50_000, "only the rest was copied: {passes:?}");
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    assert_eq!(fs::read_dir(sandbox.path("state/migrations")).unwrap().count(), 1);
    status.signal()
}

#[test]
fn a_tree_is_migrated_verified_and_reported() {
    let sandbox = Sandbox::new("migrate");
    sandbox.small_tree();
    // What DEST has and SOURCE has not goes with the last pass.
    sandbox.write("dest/extra", b"extra");
    let outcome = sandbox.run("migrate source dest").expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    assert_eq!(outcome.stdout, "");
    for words in ["pass 1 (first pass)", "cutting over", "pass 2 (last pass)", "migrated: copied", "no differences"] {
        assert!(outcome.stderr.contains(words), "{words}: {outcome:#?}");
    }
    let report = outcome.stderr.lines().find_map(|line| line.trim_start().strip_prefix("report")).unwrap();
    let report = PathBuf::from(report.trim());
    for file in ["summary.json", "manifest.zst", "entries.jsonl.zst"] {
        assert!(report.join(file).is_file(), "{}", report.display());
    }
    let text = fs::read_to_string(report.join("summary.json")).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["spec"]["options"]["hash"], "blake3", "{text}");
    let outcome = sandbox.run("migrate source dest --quiet").expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn programs_read_how_it_went() {
    let sandbox = Sandbox::new("migrate-json");
    sandbox.small_tree();
    let outcome = sandbox.run("migrate source dest --json").expect(0);
    let summary = summary(&outcome);
    assert_eq!((&summary["command"], &summary["exit_code"]), (&"migrate".into(), &0.into()));
    assert_eq!(summary["job"]["outcome"], "completed");
    assert_eq!(summary["summary"]["verification"]["same"], true);
    let kinds: Vec<_> = outcome.events().iter().map(|event| event["kind"].clone()).collect();
    assert!(kinds.contains(&"pass_ended".into()) && kinds.contains(&"cutover_asked".into()), "{outcome:#?}");
    assert_eq!(outcome.stderr, "");
}

#[test]
fn a_killed_migration_goes_on_with_the_rest() {
    let sandbox = Sandbox::new("migrate-kill");
    assert_eq!(check_goes_on(&sandbox, Signal::KILL), Some(9));
}

#[test]
fn ctrl_c_parks_a_migration() {
    let sandbox = Sandbox::new("migrate-int");
    assert_eq!(check_goes_on(&sandbox, Signal::INT), Some(2));
    let told = fs::read_to_string(sandbox.path("stderr")).unwrap();
    assert!(told.contains("press again to exit at once"), "{told}");
    assert!(told.contains("the same command goes on from here"), "{told}");
}

#[test]
fn an_automatic_cutover_comes_after_the_last_pass() {
    let sandbox = Sandbox::new("migrate-auto");
    sandbox.small_tree();
    let outcome = sandbox.run("migrate source dest --passes 3 --interval 0 --json").expect(0);
    let summary = summary(&outcome);
    let kinds: Vec<_> = summary["job"]["passes"].as_array().unwrap().iter().map(|pass| &pass["kind"]).collect();
    assert_eq!(kinds.last().unwrap(), &"final", "{kinds:?}");
    assert!((2..=4).contains(&kinds.len()), "{kinds:?}");
}

#[test]
fn a_migration_that_goes_on_already_is_not_begun_twice() {
    let sandbox = Sandbox::new("migrate-twice");
    let mut child = begun(&sandbox);
    let outcome = sandbox.run("migrate source dest").expect(1);
    assert!(outcome.stderr.contains("going on already") && outcome.stderr.contains("hint: "), "{outcome:#?}");
    // Another one may go on beside it.
    sandbox.write("other/file", b"x");
    sandbox.run("migrate other dest2").expect(0);
    child.kill().unwrap();
    child.wait().unwrap();
    // What was asked for then holds, unless it is to begin anew.
    let outcome = sandbox.run("migrate source dest --checksum").expect(0);
    assert!(outcome.stderr.contains("--restart"), "{outcome:#?}");
}

#[test]
fn restarting_forgets_what_was_begun_but_copies_nothing_twice() {
    let sandbox = Sandbox::new("migrate-anew");
    let mut child = begun(&sandbox);
    child.kill().unwrap();
    child.wait().unwrap();
    let outcome = sandbox.run("migrate source dest --restart --json").expect(0);
    let summary = summary(&outcome);
    let copied = summary["job"]["passes"][0]["figures"]["copied_bytes"].as_u64().unwrap();
    assert!(copied < 60 * 50_000, "{copied}");
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
}

#[test]
fn what_cannot_be_right_is_refused_before_anything_is_made() {
    let sandbox = Sandbox::new("migrate-refuse");
    sandbox.small_tree();
    let check = |line: &str, code: i32, text: &str| {
        let outcome = sandbox.run(line).expect(code);
        assert!(outcome.stderr.contains(text), "{line}: {outcome:#?}");
    };
    check("migrate missing dest", 1, "cannot open SOURCE");
    check("migrate source source/dir/new", 2, "lies inside SOURCE");
    check("migrate source dest --state-dir source/s", 2, "lies inside SOURCE");
    check("migrate source dest --cutover ask", 2, "needs a terminal");
    check("migrate source dest --exclude a[", 2, "cannot be carried out");
    assert!(!sandbox.path("dest").exists());
}
