//! `jobs`: what people see of the service.

use std::fs;

use serde_json::Value;

use crate::daemon::{Daemon, large_tree};
use crate::support::{Outcome, Sandbox, entries, json_lines};

#[test]
fn a_copy_is_made_watched_and_reported() {
    let sandbox = Sandbox::new("jobs-copy");
    sandbox.small_tree();
    let daemon = Daemon::new(&sandbox).started();
    let outcome = daemon.jobs("create copy source dest --verify content --name home --watch").expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    let job = outcome.stdout.trim_end();
    assert_eq!(job.len(), 36, "the identifier alone: {outcome:#?}");
    assert!(outcome.stderr.contains("done: copied "), "{outcome:#?}");
    assert!(outcome.stderr.contains("no differences"), "{outcome:#?}");
    let list = daemon.jobs("list --state completed --kind copy --name home").expect(0).stdout;
    assert!(list.starts_with("JOB") && list.contains(job) && list.contains("completed"), "{list}");
    assert_eq!(daemon.jobs("list --state working").expect(0).stdout, "");
    let show = daemon.jobs(&format!("show {job}")).expect(0).stdout;
    for words in ["copy ", "completed", "source", "pass", "by uid:"] {
        assert!(show.contains(words), "{words}: {show}");
    }
    let report = daemon.jobs(&format!("report {job}")).expect(0).stdout;
    assert!(report.contains("done: copied ") && report.contains("manifest"), "{report}");
    let lines = json_lines(&daemon.jobs(&format!("entries {job}")).expect(0).stdout);
    assert!(lines.iter().any(|line| line["path"] == "dir/sub/deep"), "{lines:?}");
    daemon.jobs(&format!("entries {job} --output lines")).expect(0);
    assert_eq!(json_lines(&fs::read_to_string(sandbox.path("lines")).unwrap()), lines);
    let events = daemon.jobs(&format!("events {job}")).expect(0).stdout;
    assert!(events.lines().next().unwrap().contains("created"), "{events}");
    assert!(events.lines().last().unwrap().contains("ended"), "{events}");
    daemon.jobs(&format!("remove {job}")).expect(0);
    daemon.jobs(&format!("show {job}")).expect(1);
}

#[test]
fn programs_get_json_from_every_command() {
    let sandbox = Sandbox::new("jobs-json");
    sandbox.small_tree();
    let daemon = Daemon::new(&sandbox).started();
    let events = daemon.jobs("create copy source dest --watch --json").expect(0).events();
    assert_eq!((&events[0]["event"], &events[0]["schema_version"]), (&"job".into(), &1.into()));
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["outcome"]), (&"job".into(), &"completed".into()));
    let job = last["id"].as_str().unwrap();
    for (line, event) in [
        ("list", "job"),
        (&*format!("show {job}"), "job"),
        (&format!("wait {job}"), "job"),
        (&format!("watch {job}"), "job"),
        (&format!("report {job}"), "report"),
        (&format!("events {job}"), "stored"),
        (&format!("cancel {job}"), "job"),
        (&format!("remove {job}"), "removed"),
    ] {
        let outcome = daemon.jobs(&format!("{line} --json")).expect(0);
        assert!(outcome.events().iter().all(|value| value["event"] == event), "{line}: {outcome:#?}");
        assert!(!outcome.stdout.is_empty(), "{line}");
        assert_eq!(outcome.stderr, "", "{line}");
    }
    let error = daemon.jobs(&format!("show {job} --json")).expect(1).events().remove(0);
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &1.into()));
}

#[test]
fn a_job_is_paused_resumed_limited_and_cancelled() {
    let sandbox = Sandbox::new("jobs-steer");
    large_tree(&sandbox, 20, 100_000);
    let daemon = Daemon::new(&sandbox).started();
    let job = daemon.create("copy source dest --bandwidth-limit 100k");
    daemon.wait_for_state(&job, "working");
    daemon.jobs(&format!("pause {job}")).expect(0);
    daemon.wait_for_state(&job, "accepted");
    assert!(daemon.jobs("list").stdout.contains("paused"));
    daemon.jobs(&format!("resume {job}")).expect(0);
    daemon.wait_for_state(&job, "working");
    daemon.jobs(&format!("limits {job} --ops-limit 100000 --bandwidth-window 00:00-00:01=1k")).expect(0);
    let limits = &daemon.show(&job)["limits"];
    assert_eq!(
        (&limits["bandwidth_bytes_per_second"], &limits["operations_per_second"]),
        (&100_000.into(), &100_000.into())
    );
    assert_eq!(limits["windows"].as_array().unwrap().len(), 1);
    let outcome = daemon.jobs(&format!("cutover {job}")).expect(1);
    assert!(outcome.stderr.starts_with("error: "), "{outcome:#?}");
    assert_eq!(daemon.jobs(&format!("wait {job} --timeout 0")).expect(4).stdout, "");
    daemon.jobs(&format!("cancel {job}")).expect(0);
    let outcome = daemon.jobs(&format!("watch {job}")).expect(4);
    assert!(outcome.stderr.contains("cancelled"), "{outcome:#?}");
}

#[test]
fn the_end_of_a_job_is_the_end_of_the_command_that_waits() {
    let sandbox = Sandbox::new("jobs-exit");
    sandbox.small_tree();
    let daemon = Daemon::new(&sandbox).started();
    sandbox.write("dest/extra", b"");
    let outcome = daemon.jobs("create verify source dest --watch").expect(3);
    assert!(outcome.stderr.contains("differences"), "{outcome:#?}");
    daemon.jobs("create copy source/missing dest2 --watch").expect(1);
    let job = daemon.create("copy source dest --delete --max-delete 0");
    daemon.jobs(&format!("wait {job}")).expect(3);
    // Of a job that completed nothing can be tried again.
    let job = daemon.create("copy source dest3");
    daemon.jobs(&format!("wait {job}")).expect(0);
    let outcome = daemon.jobs(&format!("retry-failed {job}")).expect(1);
    assert!(outcome.stderr.contains("nothing failed"), "{outcome:#?}");
}

#[test]
fn a_specification_comes_from_a_file_or_from_standard_input() {
    let sandbox = Sandbox::new("jobs-spec");
    sandbox.small_tree();
    let daemon = Daemon::new(&sandbox).started();
    let path = |name: &str| sandbox.path(name).display().to_string();
    let spec = serde_json::json!({
        "kind": "copy",
        "source": { "type": "directory", "path": path("source") },
        "dest": { "type": "directory", "path": path("dest") },
    });
    sandbox.write("spec.json", spec.to_string().as_bytes());
    daemon.jobs("create --spec spec.json --watch").expect(0);
    let mut command = daemon.command(["jobs", "create", "--spec", "-"]);
    command.stdin(fs::File::open(sandbox.path("spec.json")).unwrap());
    Outcome::of(command).expect(0);
    sandbox.write("spec.json", b"{\"kind\":\"copy\"}");
    let outcome = daemon.jobs("create --spec spec.json").expect(2);
    assert!(outcome.stderr.contains("source is not given"), "{outcome:#?}");
    // The same key makes one job.
    let job = |key: &str| daemon.create(&format!("copy source dest4 --idempotency-key {key}"));
    let first = job("a");
    assert_eq!(first, job("a"));
    assert_ne!(first, job("b"));
    let outcome = daemon.jobs("create copy source source/dir").expect(2);
    assert!(outcome.stderr.contains("cannot be carried out"), "{outcome:#?}");
}

#[test]
fn a_migration_cuts_over_when_it_is_told_to() {
    let sandbox = Sandbox::new("jobs-migrate");
    sandbox.small_tree();
    let daemon = Daemon::new(&sandbox).started();
    let job = daemon.create("migrate source dest --interval 1h");
    crate::support::wait_for("the first pass", crate::daemon::PATIENCE, || {
        let shown = daemon.show(&job);
        shown["passes_done"] == 1 && shown["state"] == "accepted"
    });
    assert!(daemon.jobs("list").stdout.contains("waits for the next pass"));
    sandbox.write("source/late", b"late");
    daemon.jobs(&format!("cutover {job}")).expect(0);
    daemon.jobs(&format!("watch {job}")).expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    let passes: Vec<Value> = daemon.show(&job)["passes"].as_array().unwrap().clone();
    assert_eq!(passes.iter().map(|pass| pass["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["baseline", "final"]);
}

#[test]
fn without_a_service_the_exit_code_is_5_and_a_hint_says_what_to_do() {
    let sandbox = Sandbox::new("jobs-nobody");
    let id = "0197c3a2-6f00-7000-8000-000000000000";
    for line in
        ["list", &format!("show {id}"), &format!("cancel {id}"), "create copy a b", &format!("watch {id}"), "events"]
    {
        let outcome = sandbox.run(&format!("jobs {line} --socket nowhere.sock")).expect(5);
        assert!(outcome.stderr.starts_with("error: cannot reach the data service"), "{line}: {outcome:#?}");
        assert!(outcome.stderr.contains("hint: is the service running"), "{line}: {outcome:#?}");
    }
    for line in
        ["show not-an-id", "limits", "create copy a", "create copy a b --source-option x", "list --token-file x"]
    {
        let outcome = sandbox.run(&format!("jobs {line} --socket nowhere.sock")).expect(2);
        assert_eq!(outcome.stdout, "", "{line}");
    }
    let secret = "create copy //h/s b --source-type cifs --source-option password=geheim --socket nowhere.sock";
    let outcome = sandbox.run(&format!("jobs {secret}")).expect(2);
    assert!(outcome.stderr.contains("--source-option-file") && !outcome.stderr.contains("geheim"), "{outcome:#?}");
}

#[test]
fn a_configured_repository_takes_backups_and_gives_them_back() {
    let sandbox = Sandbox::new("jobs-backup");
    sandbox.small_tree();
    fs::create_dir(sandbox.path("export")).unwrap();
    let conf = format!("[repository:nas]\nformat = directory\nlocation = {}\n", sandbox.path("export").display());
    sandbox.write("conf", conf.as_bytes());
    let daemon = Daemon::new(&sandbox).started();
    let outcome = daemon.jobs("create backup source --repository nas --id b1 --watch").expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("export/b1")));
    let job = outcome.stdout.trim_end();
    let show = daemon.jobs(&format!("show {job}")).expect(0).stdout;
    assert!(show.contains("repository nas") && show.contains("backup    b1"), "{show}");
    let list = daemon.jobs("list --kind backup").expect(0).stdout;
    assert!(list.contains(job) && list.contains("repository nas"), "{list}");
    daemon.jobs("create restore dest --repository nas --id b1 --watch").expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    daemon.jobs("create check --repository nas --read-data 100 --watch").expect(0);
    daemon.jobs("create delete --repository nas --id b1 --watch").expect(0);
    assert!(!sandbox.path("export/b1").exists());
    for (line, words) in [
        ("create backup source --repository other --id b1", "there are: nas"),
        ("create restore dest --repository nas", "backup.id is not given"),
        ("create check --repository nas --id a/b", "a slash"),
        ("create backup source", "--repository"),
        ("create copy source dest --repository nas", "not for a job of kind copy"),
    ] {
        let outcome = daemon.jobs(line).expect(2);
        assert!(outcome.stderr.contains(words), "{line}: {outcome:#?}");
    }
}
