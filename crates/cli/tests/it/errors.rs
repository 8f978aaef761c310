//! Errors that end a command before a byte is moved: what failed, why, what to do, and the exit code.

use std::fs;

use crate::support::{Outcome, Sandbox};

#[track_caller]
fn check_error(outcome: &Outcome, headline: &str, hint: &str) {
    let lines: Vec<_> = outcome.stderr.lines().collect();
    assert!(lines[0].starts_with(&format!("error: {headline}")), "{outcome:#?}");
    let hint_line = lines.last().unwrap();
    assert!(hint_line.starts_with("hint: ") && hint_line.contains(hint), "{outcome:#?}");
    assert_eq!(lines[lines.len() - 2], "", "a blank line before the hint: {outcome:#?}");
    assert_eq!(outcome.stdout, "", "{outcome:#?}");
    assert!(!outcome.stderr.contains('\x1b'), "no colour without a terminal");
}

#[test]
fn a_wrong_command_line_is_code_2() {
    let sandbox = Sandbox::new("usage");
    sandbox.small_tree();
    for line in [
        "",
        "frobnicate",
        "copy source",
        "copy source dest --frobnicate",
        "copy source dest --max-delete 3",
        "copy source dest --workers 0",
        "copy source dest --bandwidth-limit 1Mb",
        "copy source dest --verify everything",
        "copy source dest --mover sparse --no-mover ranges",
        "copy source dest --ignore a/b",
        "copy source dest --exclude a[",
        "copy source dest --report-entries all",
        "verify source dest --delete",
        "completions tcsh",
    ] {
        let outcome = sandbox.run(line).expect(2);
        assert_eq!(outcome.stdout, "", "{line}");
        assert_ne!(outcome.stderr, "", "{line}");
    }
    assert!(!sandbox.path("dest").exists(), "a wrong command line touches nothing");
}

#[test]
fn a_missing_source_has_a_hint() {
    let sandbox = Sandbox::new("missing-source");
    for command in ["copy", "verify"] {
        let outcome = sandbox.run(&format!("{command} nowhere dest")).expect(1);
        check_error(&outcome, "cannot open SOURCE `nowhere`", "spelling");
        assert!(outcome.stderr.contains("caused by: no such file or directory"), "{outcome:#?}");
    }
    assert!(!sandbox.path("dest").exists());
}

#[test]
fn a_source_that_is_a_file_has_a_hint() {
    let sandbox = Sandbox::new("file-source");
    sandbox.write("file", b"");
    check_error(&sandbox.run("copy file dest").expect(1), "cannot open SOURCE `file`", "must be a directory");
}

#[test]
fn missing_parents_of_the_destination_are_not_made() {
    let sandbox = Sandbox::new("missing-parents");
    sandbox.small_tree();
    for options in ["", "--dry-run"] {
        let outcome = sandbox.run(&format!("copy source a/b {options}")).expect(1);
        check_error(&outcome, "cannot open DEST `a/b`", "not the directories above it");
    }
    assert!(!sandbox.path("a").exists());
}

#[test]
fn a_destination_to_verify_must_be_there() {
    let sandbox = Sandbox::new("verify-missing");
    sandbox.small_tree();
    assert!(sandbox.run("verify source dest").expect(1).stderr.contains("cannot open DEST `dest`"));
    assert!(!sandbox.path("dest").exists(), "a comparison makes nothing");
}

#[test]
fn a_new_destination_inside_the_source_is_refused_and_not_made() {
    let sandbox = Sandbox::new("nested");
    sandbox.small_tree();
    let outcome = sandbox.run("copy source source/dir/new").expect(2);
    check_error(&outcome, "DEST `source/dir/new` lies inside SOURCE", "never ends");
    assert!(!sandbox.path("source/dir/new").exists());
}

#[test]
fn reports_and_state_stay_out_of_both_trees() {
    let sandbox = Sandbox::new("inside");
    sandbox.small_tree();
    fs::create_dir(sandbox.path("dest")).unwrap();
    std::os::unix::fs::symlink("dest", sandbox.path("other-name")).unwrap();
    for file in ["source/r", "dest/r", "other-name/r", "source/../dest/r"] {
        check_error(&sandbox.run(&format!("copy source dest --report {file}")).expect(2), "the report `", "outside");
        check_error(&sandbox.run(&format!("verify source dest --report {file}")).expect(2), "the report `", "outside");
    }
    for dir in ["source/s", "dest/s"] {
        let outcome = sandbox.run(&format!("copy source dest --state-dir {dir}")).expect(2);
        check_error(&outcome, "the state directory `", "--no-state");
    }
    // Where the destination does not exist yet, too.
    check_error(&sandbox.run("copy source new --report new/r").expect(2), "the report `", "outside");
    assert!(fs::read_dir(sandbox.path("dest")).unwrap().next().is_none());
    assert!(!sandbox.path("new").exists());
}

#[test]
fn a_report_that_cannot_be_made_stops_the_command_at_once() {
    let sandbox = Sandbox::new("no-report");
    sandbox.small_tree();
    check_error(&sandbox.run("copy source dest --report a/r").expect(1), "cannot create the report `a/r`", "exist");
    check_error(&sandbox.run("copy source dest --report /dev/null").expect(1), "cannot create the report", "--json");
    assert!(!sandbox.path("dest").exists());
}

#[test]
fn a_state_directory_that_cannot_be_made_has_a_hint() {
    let sandbox = Sandbox::new("no-state");
    sandbox.small_tree();
    sandbox.write("file", b"");
    let outcome = sandbox.run("copy source dest --state-dir file/state").expect(1);
    check_error(&outcome, "cannot make the state directory `file/state`", "--no-state");
}

#[test]
fn names_in_errors_move_no_cursor() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let sandbox = Sandbox::new("escaped");
    let name = OsStr::from_bytes(b"\x1b[2J\xff");
    let outcome = Outcome::of(sandbox.command([OsStr::new("copy"), name, OsStr::new("dest")])).expect(1);
    assert!(outcome.stderr.contains("\\x1b[2J\\xff"), "{outcome:#?}");
}

#[test]
fn programs_get_errors_as_json_too() {
    let sandbox = Sandbox::new("json-error");
    let outcome = sandbox.run("copy nowhere dest --json").expect(1);
    let events = outcome.events();
    assert_eq!(events.len(), 1, "{outcome:#?}");
    assert_eq!(events[0]["event"], "error");
    assert_eq!(events[0]["exit_code"], 1);
    assert!(events[0]["hint"].as_str().unwrap().contains("spelling"));
}

#[test]
fn colour_only_where_it_is_asked_for() {
    let sandbox = Sandbox::new("colour");
    assert!(sandbox.run("copy nowhere dest --color always").stderr.contains("\x1b["));
    assert!(!sandbox.run("copy nowhere dest --color never").stderr.contains('\x1b'));
    assert!(!sandbox.run("copy nowhere dest").stderr.contains('\x1b'));
}
