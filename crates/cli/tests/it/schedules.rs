//! Schedules of the configuration: refused with a reason, listed, fired, and taken over by SIGHUP.

use std::fs;

use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, PATIENCE};
use crate::support::{Outcome, Sandbox, entries, wait_for};

/// A file with a copy from `source` to `dest`.
fn job_file(sandbox: &Sandbox) -> String {
    let dir = |name: &str| json!({ "type": "directory", "path": sandbox.path(name) });
    let spec = json!({ "kind": "copy", "source": dir("source"), "dest": dir("dest") });
    sandbox.write("job.json", spec.to_string().as_bytes());
    sandbox.path("job.json").display().to_string()
}

fn configure(sandbox: &Sandbox, lines: &str) {
    let job = job_file(sandbox);
    sandbox.write("conf", format!("[schedule:nightly]\njob = {job}\n{lines}\n").as_bytes());
}

fn schedules(daemon: &Daemon<'_>, line: &str) -> Outcome {
    Outcome::of(daemon.command(std::iter::once("schedules").chain(line.split_whitespace()))).expect(0)
}

#[test]
fn what_is_wrong_with_a_schedule_is_named_with_its_place() {
    let sandbox = Sandbox::new("schedule-wrong");
    for (lines, problem) in [
        ("", "`cron` in [schedule:nightly] must not be empty"),
        ("cron = 0 3 * *", "conf:3: `cron` in [schedule:nightly] has 4 fields and not 5"),
        ("cron = 61 3 * * *", "cannot be understood"),
        ("cron = 0 0 31 2 *", "names no day that there is"),
        ("cron = @daily\ntime_zone = Europe/Wien", "conf:4: `time_zone` in [schedule:nightly] is not known here"),
        ("cron = @daily\nmissed = perhaps", "must be run or skip"),
        ("cron = @daily\njitter_seconds = 86401", "jitter_seconds"),
        ("cron = @daily\nenabled = perhaps", "enabled"),
        ("cron = @daily\njob = job.json", "must be an absolute path"),
        ("cron = @daily\njob = /nowhere/job.json", "names `/nowhere/job.json`, which cannot be read: No such file"),
    ] {
        configure(&sandbox, lines);
        for command in ["config show", "serve"] {
            let outcome = sandbox.run(&format!("{command} --config-file conf")).expect(2);
            assert!(outcome.stderr.contains(problem), "{lines}: {outcome:#?}");
        }
    }
    for (spec, problem) in [
        ("{", "which is not the specification of a job: EOF"),
        (r#"{"kind":"copy","sorce":1}"#, "unknown field `sorce`"),
        (r#"{"kind":"copy"}"#, "which cannot be carried out as asked: source is not given; dest is not given"),
        (
            r#"{"kind":"backup","source":{"type":"directory","path":"/a"},"dest":{"type":"repository","name":"vault"},
                "backup":{}}"#,
            "the repository `vault`, which is not configured here",
        ),
    ] {
        configure(&sandbox, "cron = @daily");
        sandbox.write("job.json", spec.as_bytes());
        let outcome = sandbox.run("config show --config-file conf").expect(2);
        assert!(outcome.stderr.contains("conf:2: `job` in [schedule:nightly] names"), "{spec}: {outcome:#?}");
        assert!(outcome.stderr.contains(problem), "{spec}: {outcome:#?}");
    }
    let job = job_file(&sandbox);
    sandbox.write("conf", format!("[schedule:a/b]\ncron = @daily\njob = {job}\n").as_bytes());
    let outcome = sandbox.run("config show --config-file conf").expect(2);
    assert!(outcome.stderr.contains("letters, digits"), "{outcome:#?}");
    configure(&sandbox, "cron = @daily\njiter_seconds = 5");
    let outcome = sandbox.run("config show --config-file conf").expect(0);
    assert!(outcome.stderr.contains("is `jitter_seconds` meant?"), "{outcome:#?}");
}

#[test]
fn schedules_are_listed_and_taken_over_by_sighup() {
    let sandbox = Sandbox::new("schedule-list");
    configure(&sandbox, "cron = 0 3 1 1 *\ntime_zone = Asia/Kathmandu\nenabled = no");
    let daemon = Daemon::new(&sandbox).started();
    let text = schedules(&daemon, "").stdout;
    assert!(text.starts_with("SCHEDULE"), "{text}");
    for words in ["nightly", "copy", "0 3 1 1 *", "Asia/Kathmandu", "not enabled"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    configure(&sandbox, "cron = 0 4 1 1 *\ntime_zone = Asia/Kathmandu");
    daemon.signal(Signal::HUP);
    wait_for("the other time", PATIENCE, || schedules(&daemon, "").stdout.contains("-01-01 04:00"));
    let shown = schedules(&daemon, "--json").events().remove(0);
    assert_eq!((&shown["event"], &shown["name"]), (&"schedule".into(), &"nightly".into()));
    assert_eq!((&shown["enabled"], shown["next"].as_array().unwrap().len()), (&true.into(), 5));
    // What is wrong changes nothing.
    configure(&sandbox, "cron = never");
    daemon.signal(Signal::HUP);
    wait_for("a word about it", PATIENCE, || daemon.log().contains("has 1 fields and not 5"));
    assert!(schedules(&daemon, "").stdout.contains("-01-01 04:00"));
    sandbox.write("conf", b"");
    daemon.signal(Signal::HUP);
    wait_for("no schedule", PATIENCE, || schedules(&daemon, "").stdout.is_empty());
}

#[test]
fn a_schedule_makes_its_job() {
    let sandbox = Sandbox::new("schedule-fires");
    sandbox.small_tree();
    configure(&sandbox, "cron = * * * * *\ntime_zone = UTC");
    let daemon = Daemon::new(&sandbox).started();
    let job = || daemon.jobs("list --name nightly --state completed --json").expect(0).events().into_iter().next();
    wait_for("the job of the next minute", 2 * PATIENCE, || job().is_some());
    let job = job().unwrap();
    assert_eq!(job["requester"], "schedule:nightly");
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    let shown = schedules(&daemon, "--json").events().remove(0);
    assert!(shown["fired"].as_u64().unwrap() >= 1, "{shown}");
    assert_eq!((&shown["missed"], &shown["trouble"]), (&0.into(), &json!(null)));
    let log = fs::read_to_string(sandbox.path("log")).unwrap();
    assert!(log.contains("a schedule made its job"), "{log}");
}
