//! `copy` as a user sees it.

use std::fs;

use serde_json::json;

use crate::support::{Outcome, Sandbox, entries};

#[test]
fn a_small_tree_arrives_whole() {
    let sandbox = Sandbox::new("copy");
    sandbox.small_tree();
    let outcome = sandbox.run("copy source dest").expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    assert_eq!(outcome.stdout, "", "no data was asked for");
    assert!(outcome.stderr.starts_with("done: copied "), "{outcome:#?}");
    assert!(outcome.stderr.contains("durable   yes"), "{outcome:#?}");
    assert!(!outcome.stderr.contains('\x1b'), "{outcome:#?}");
    sandbox.run("verify source dest").expect(0);
}

#[test]
fn a_second_run_finds_nothing_to_do() {
    let sandbox = Sandbox::new("again");
    sandbox.small_tree();
    sandbox.run("copy source dest").expect(0);
    let summary = summary(&sandbox.run("copy source dest --json").expect(0));
    assert_eq!(summary["counts"]["copied_files"], 0);
    assert_eq!(summary["counts"]["opened_files"], 0);
    assert_eq!(summary["actions"]["created"], 0);
}

#[test]
fn quiet_means_quiet() {
    let sandbox = Sandbox::new("quiet");
    sandbox.small_tree();
    let outcome = sandbox.run("copy --quiet source dest").expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let outcome = sandbox.run("copy -q --dry-run source dest2").expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn programs_read_json_lines() {
    let sandbox = Sandbox::new("json");
    sandbox.small_tree();
    // Slow enough for a second event.
    sandbox.write("source/large", &vec![1; 3_000_000]);
    let outcome = sandbox.run("copy --json --bandwidth-limit 2M source dest").expect(0);
    let events = outcome.events();
    assert!(events.iter().all(|event| event["schema_version"] == 1), "{outcome:#?}");
    let progress: Vec<_> = events.iter().filter(|event| event["event"] == "progress").collect();
    assert!(!progress.is_empty(), "{outcome:#?}");
    let percents: Vec<_> = progress.iter().map(|event| event["percent"].as_f64().unwrap()).collect();
    assert!(percents.is_sorted(), "percent never falls: {percents:?}");
    let summary = summary(&outcome);
    assert_eq!(summary["command"], "copy");
    assert_eq!(summary["ending"], "complete");
    assert_eq!(summary["exit_code"], 0);
    assert_eq!(summary["durable"], true);
    assert_eq!(summary["counts"]["faults"], 0);
    assert_eq!(summary["actions"]["linked"], 1);
    assert_eq!(outcome.stderr, "");
}

#[test]
fn without_progress_there_are_no_progress_events() {
    let sandbox = Sandbox::new("no-progress");
    sandbox.small_tree();
    let outcome = sandbox.run("copy --json --no-progress source dest").expect(0);
    assert!(outcome.events().iter().all(|event| event["event"] != "progress"), "{outcome:#?}");
}

#[test]
fn a_dry_run_lists_and_changes_nothing() {
    let sandbox = Sandbox::new("dry-run");
    sandbox.small_tree();
    sandbox.write("dest/extra", b"extra");
    let before = entries(&sandbox.path("dest"));
    let outcome = sandbox.run("copy --dry-run --delete source dest").expect(0);
    assert_eq!(entries(&sandbox.path("dest")), before);
    assert!(!sandbox.path("state").exists());
    let lines: Vec<_> = outcome.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    assert!(lines.contains(&vec!["created", "file", "dir/sub/deep"]), "{outcome:#?}");
    assert!(lines.contains(&vec!["deleted", "file", "extra"]), "{outcome:#?}");
    assert!(outcome.stdout.contains("odd\\xff\\x0aname"), "{outcome:#?}");
    assert!(outcome.stderr.contains("dry run, nothing was changed"), "{outcome:#?}");
}

#[test]
fn a_dry_run_does_not_make_the_destination() {
    let sandbox = Sandbox::new("dry-new");
    sandbox.small_tree();
    let outcome = sandbox.run("copy --dry-run source dest").expect(0);
    assert!(!sandbox.path("dest").exists());
    assert!(outcome.stderr.contains("DEST `dest` would be made"), "{outcome:#?}");
    assert!(outcome.stdout.contains("dir/sub/deep"), "{outcome:#?}");
    let outcome = sandbox.run("copy --dry-run --json source dest").expect(0);
    let created = |event: &&serde_json::Value| event["event"] == "entry" && event["action"] == "created";
    assert!(outcome.events().iter().filter(created).count() > 5, "{outcome:#?}");
}

#[test]
fn deletion_is_asked_for_and_bounded() {
    let sandbox = Sandbox::new("delete");
    sandbox.small_tree();
    for name in ["a", "b", "c"] {
        sandbox.write(&format!("dest/extra-{name}"), b"");
    }
    let extra = || entries(&sandbox.path("dest")).keys().filter(|name| name.starts_with(b"extra")).count();
    sandbox.run("copy source dest").expect(0);
    assert_eq!(extra(), 3);
    sandbox.run("copy --delete --max-delete 1 source dest").expect(3);
    assert!(extra() >= 2);
    sandbox.run("copy --delete source dest").expect(0);
    assert_eq!(extra(), 0);
}

#[test]
fn ignored_names_are_exact_bytes_at_any_depth() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let sandbox = Sandbox::new("ignore");
    sandbox.small_tree();
    sandbox.write("source/dir/.snapshot/x", b"x");
    let words: [&[u8]; 7] = [b"copy", b"source", b"dest", b"--ignore", b".snapshot", b"--ignore", b"odd\xff\nname"];
    Outcome::of(sandbox.command(words.map(OsStr::from_bytes))).expect(0);
    let mut expected = entries(&sandbox.path("source"));
    expected.retain(|path, _| !path.starts_with(b"odd") && !path.starts_with(b"dir/.snapshot"));
    assert_eq!(expected, entries(&sandbox.path("dest")));
}

#[test]
fn output_that_nobody_takes_fails_the_command_but_not_the_copy() {
    let sandbox = Sandbox::new("full-stdout");
    sandbox.small_tree();
    let mut command = sandbox.command(["copy", "--json", "source", "dest"]);
    // Every write to this device answers that there is no space.
    command.stdout(fs::File::options().write(true).open("/dev/full").unwrap());
    let outcome = Outcome::of(command).expect(1);
    assert!(outcome.stderr.contains("error: cannot write to standard output"), "{outcome:#?}");
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
}

#[test]
fn verification_at_the_end_is_told() {
    let sandbox = Sandbox::new("copy-verify");
    sandbox.small_tree();
    let outcome = sandbox.run("copy --verify content --json source dest").expect(0);
    let summary = summary(&outcome);
    assert_eq!(summary["verification"]["same"], true);
    assert_ne!(summary["verification"]["counts"]["verified_files"], json!(0));
}

#[test]
fn state_lies_where_it_is_asked_for() {
    let sandbox = Sandbox::new("state");
    sandbox.small_tree();
    sandbox.run("copy --no-state source dest").expect(0);
    assert!(!sandbox.path("state").exists());
    sandbox.run("copy --state-dir named source dest").expect(0);
    assert!(sandbox.path("named").is_dir() && !sandbox.path("state").exists());
    sandbox.run("copy source dest").expect(0);
    assert!(sandbox.path("state").is_dir());
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(sandbox.path("state")).unwrap());
    assert_eq!(mode & 0o777, 0o700);
}

#[track_caller]
fn summary(outcome: &Outcome) -> serde_json::Value {
    let last = outcome.events().pop().expect("at least a summary");
    assert_eq!(last["event"], "summary", "{outcome:#?}");
    last
}
