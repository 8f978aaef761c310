//! The configuration: where values come from, and what is wrong with them.

use std::fs;

use serde_json::Value;

use crate::support::{Outcome, Sandbox, check_snapshot};

fn shown(sandbox: &Sandbox, environment: &[(&str, &str)], options: &str) -> Vec<Value> {
    let words = "config show --json --config-file conf".split(' ').chain(options.split_whitespace());
    let mut command = sandbox.command(words);
    command.envs(environment.iter().copied());
    Outcome::of(command).expect(0).events()
}

#[track_caller]
fn check(options: &[Value], group: &str, name: &str, value: &str, origin: &str) {
    let found = options.iter().find(|option| option["group"] == group && option["option"] == name);
    let found = found.unwrap_or_else(|| panic!("[{group}] {name} is not there"));
    assert_eq!(found["value"], value, "{found}");
    let shown = found["origin"].as_str().unwrap();
    assert!(shown.starts_with(origin), "{found}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_files() {
    let sandbox = Sandbox::new("config-order");
    sandbox.write("conf", b"[data_service]\njobs_max = 2\nqueue_max = 20\nlease_seconds = 40\n");
    let environment = [("OS_DATA_SERVICE__JOBS_MAX", "3"), ("OS_DATA_SERVICE__QUEUE_MAX", "30")];
    let options = shown(&sandbox, &environment, "--option jobs_max=4 --debug --state-path /x/y");
    check(&options, "data_service", "jobs_max", "4", "command line --option");
    check(&options, "data_service", "queue_max", "30", "environment OS_DATA_SERVICE__QUEUE_MAX");
    check(&options, "data_service", "lease_seconds", "40", "conf:4");
    check(&options, "data_service", "sandbox", "auto", "default");
    check(&options, "DEFAULT", "debug", "true", "command line --debug");
    // What names another option follows it.
    check(&options, "data_service", "job_store", "/x/y/jobs.sqlite", "default");
}

#[test]
fn files_of_a_directory_come_after_single_ones_in_the_order_of_their_names() {
    let sandbox = Sandbox::new("config-dir");
    sandbox.write("conf", b"[data_service]\njobs_max = 2\n");
    sandbox.write("conf.d/20.conf", b"[data_service]\njobs_max = 4\n");
    sandbox.write("conf.d/10.conf", b"[data_service]\njobs_max = 3\nqueue_max = 7\n");
    let options = shown(&sandbox, &[], "--config-dir conf.d");
    check(&options, "data_service", "jobs_max", "4", "conf.d/20.conf:2");
    check(&options, "data_service", "queue_max", "7", "conf.d/10.conf:3");
}

#[test]
fn secrets_are_masked_wherever_they_come_from() {
    let sandbox = Sandbox::new("config-secret");
    sandbox.write("conf", b"[api]\nwebhook_secret = geheim\n");
    for environment in [&[][..], &[("OS_API__WEBHOOK_SECRET", "geheim")]] {
        let options = shown(&sandbox, environment, "");
        check(&options, "api", "webhook_secret", "***", "");
        assert!(!format!("{options:?}").contains("geheim"));
    }
    let outcome = sandbox.run("config show --config-file conf --option webhook_secret=geheim").expect(2);
    assert!(!outcome.stderr.contains("geheim`"), "{outcome:#?}");
}

#[test]
fn repositories_have_names_and_never_show_what_is_secret() {
    let sandbox = Sandbox::new("config-repository");
    let conf = "[repository:nightly]\nlocation = /srv/backup\npassword_file = /k\nretention = last:3, daily:7\n\
                [repository:nas]\nformat = directory\nmount_type = cifs\nmount_source = //h/s\n\
                mount_options = user=a,password=geheim\n\
                [repository:offsite]\nlocation = s3:https://h/b\npassword_file = /k\ncredentials_file = /c\n";
    sandbox.write("conf", conf.as_bytes());
    let options = shown(&sandbox, &[], "-o repository:nightly.location=/other");
    check(&options, "repository:nightly", "location", "/other", "command line --option");
    check(&options, "repository:nas", "mount_options", "***", "conf:9");
    check(&options, "repository:offsite", "format", "restic", "default");
    assert!(!format!("{options:?}").contains("geheim"));
}

#[test]
fn unknown_options_are_warned_of_with_the_nearest_name() {
    let sandbox = Sandbox::new("config-unknown");
    sandbox.write("conf", b"[data_service]\njob_max = 3\n[hook:freeze]\ncommand = /bin/true\ntimout_seconds = 3\n");
    let outcome = sandbox.run("config show --config-file conf").expect(0);
    let warning = "warning: conf:2: there is no option `job_max` in [data_service]; is `jobs_max` meant?";
    assert!(outcome.stderr.contains(warning), "{outcome:#?}");
    assert!(outcome.stderr.contains("conf:5: there is no option `timout_seconds` in [hook:freeze]"), "{outcome:#?}");
    assert!(outcome.stdout.contains("[hook:freeze] command"), "{outcome:#?}");
    // What other programs read from a shared file is none of our business.
    sandbox.write("conf", b"[DEFAULT]\ntransport_url = x\n[database]\nconnection = y\n");
    assert_eq!(sandbox.run("config show --config-file conf").expect(0).stderr, "");
}

#[test]
fn a_wrong_value_is_named_with_its_place_and_ends_with_2() {
    let sandbox = Sandbox::new("config-wrong");
    for (line, problem) in [
        ("jobs_max = 0", "must be at least 1"),
        ("jobs_max = many", "must be a whole decimal number"),
        ("jobs_max =", "must be a number"),
        ("sandbox = perhaps", "must be auto, required or off"),
        ("bandwidth_limit = 1Mb", "bits"),
        ("report_keep_bytes = large", "expected a number"),
        ("allowed_roots = srv", "must be absolute paths"),
        ("job_store = $nowhere/x", "refers to `$nowhere`"),
    ] {
        sandbox.write("conf", format!("[data_service]\n{line}\n").as_bytes());
        for command in ["config show", "serve", "doctor"] {
            let outcome = sandbox.run(&format!("{command} --config-file conf")).expect(2);
            assert!(outcome.stderr.contains("conf:2"), "{line}: {outcome:#?}");
            assert!(outcome.stderr.contains(problem), "{line}: {outcome:#?}");
        }
    }
    for (text, place) in [
        ("[api]\nlisten = here", "conf:2"),
        ("[api]\ntls_cert = /x", "`tls_key`"),
        ("[api]\nsocket =", "`socket`"),
        ("[hook:x]\ncommand = relative", "conf:2"),
        ("[hook:x]\ntimeout_seconds = 3", "`command`"),
        ("[repository:x]\nformat = directory", "`location`"),
        ("[repository:x]\nlocation = /a", "`password_file`"),
        ("[repository:x]\nlocation = a\npassword_file = /k", "conf:2"),
        ("[repository:x]\nlocation = sftp:h:/a\npassword_file = /k", "conf:2"),
        ("[repository:x]\nlocation = /a\npassword_file = k", "conf:3"),
        ("[repository:x]\nlocation = /a\nmount_source = h:/b\npassword_file = /k", "in one place"),
        ("[repository:x]\nlocation = /a\nformat = tar", "conf:3"),
        ("[repository:x]\nlocation = /a\nformat = directory\npassword_file = /k", "encrypts nothing"),
        ("[repository:x]\nlocation = /a\nformat = directory\nretention = last:1", "for the format restic"),
        ("[repository:x]\nlocation = /a\npassword_file = /k\nretention = often:1", "`often`"),
        ("[repository:x]\nlocation = /a\npassword_file = /k\nretention = last:0", "above 0"),
        ("[repository:x]\nlocation = /a\npassword_file = /k\ncredentials_file = /c", "over the network"),
        ("[repository:x]\nlocation = s3:https://h/b\nformat = directory", "conf:2"),
        ("[repository:x]\nlocation = rest:https://u:geheim@h/b\npassword_file = /k", "`credentials_file`"),
        ("[repository:]\nlocation = /a\npassword_file = /k", "with a name"),
        ("jobs_max = 3", "conf:1"),
        ("[data_service\n", "conf:1"),
    ] {
        sandbox.write("conf", text.as_bytes());
        let outcome = sandbox.run("config show --config-file conf").expect(2);
        assert!(outcome.stderr.contains(place), "{text}: {outcome:#?}");
        assert!(!outcome.stderr.contains("geheim"), "{text}: {outcome:#?}");
    }
    let outcome = sandbox.run("config show --config-file missing").expect(2);
    assert!(outcome.stderr.contains("cannot read the configuration `missing`"), "{outcome:#?}");
}

#[test]
fn the_sample_is_a_file_that_changes_nothing() {
    let sandbox = Sandbox::new("config-sample");
    let sample = sandbox.run("config sample").expect(0).stdout;
    check_snapshot("sample.conf", &sample);
    sandbox.write("conf", b"");
    let before = shown(&sandbox, &[], "");
    fs::write(sandbox.path("conf"), sample).unwrap();
    assert_eq!(shown(&sandbox, &[], ""), before);
}
