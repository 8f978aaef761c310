//! What the command says about itself.

use std::fs;

use crate::support::{Sandbox, check_snapshot};

#[test]
fn help_texts() {
    let sandbox = Sandbox::new("help");
    for (name, line) in [
        ("help.txt", "--help"),
        ("copy-short.txt", "copy -h"),
        ("copy.txt", "copy --help"),
        ("verify-short.txt", "verify -h"),
        ("verify.txt", "verify --help"),
        ("migrate.txt", "migrate --help"),
        ("backup.txt", "backup --help"),
        ("backup-create-short.txt", "backup create -h"),
        ("backup-create.txt", "backup create --help"),
        ("backup-restore.txt", "backup restore --help"),
        ("backup-prune.txt", "backup prune --help"),
        ("jobs.txt", "jobs --help"),
        ("jobs-create.txt", "jobs create --help"),
        ("serve.txt", "serve --help"),
    ] {
        let outcome = sandbox.run(line).expect(0);
        check_snapshot(name, &outcome.stdout);
        assert_eq!(outcome.stderr, "");
        assert!(outcome.stdout.lines().all(|line| line.chars().count() <= 100), "{name}");
    }
}

#[test]
fn the_short_help_is_shorter() {
    let sandbox = Sandbox::new("short-help");
    for command in ["copy", "verify"] {
        let short = sandbox.run(&format!("{command} -h")).stdout;
        let long = sandbox.run(&format!("{command} --help")).stdout;
        assert!(short.lines().count() * 3 < long.lines().count() * 2, "{command}");
        assert!(!short.contains("--color") && long.contains("Examples:"), "{command}");
    }
}

#[test]
fn every_shell_gets_completions() {
    let sandbox = Sandbox::new("completions");
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&format!("completions {shell}")).expect(0).stdout;
        for word in ["bandwidth-limit", "verify", "manila-data", "retry-failed", "doctor"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_are_written() {
    let sandbox = Sandbox::new("man");
    assert!(sandbox.run("man").expect(0).stdout.contains(".TH manila-data 1"));
    fs::create_dir(sandbox.path("pages")).unwrap();
    assert_eq!(sandbox.run("man pages").expect(0).stdout, "");
    let copy = fs::read_to_string(sandbox.path("pages/manila-data-copy.1")).unwrap();
    assert!(copy.contains("max\\-delete") && copy.contains("Exit codes"), "{copy}");
    for page in [
        "serve",
        "migrate",
        "backup",
        "backup-create",
        "doctor",
        "jobs",
        "jobs-create",
        "jobs-retry-failed",
        "token-create",
        "config-show",
    ] {
        assert!(sandbox.path(format!("pages/manila-data-{page}.1")).exists(), "{page}");
    }
    let outcome = sandbox.run("man missing").expect(1);
    assert!(outcome.stderr.contains("hint:"), "{outcome:?}");
}

#[test]
fn the_version_is_that_of_the_package() {
    let outcome = Sandbox::new("version").run("--version").expect(0);
    assert_eq!(outcome.stdout, format!("manila-data {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn workers_are_started_by_the_service_alone() {
    let sandbox = Sandbox::new("worker");
    assert!(!sandbox.run("--help").stdout.contains("worker"));
    let outcome = sandbox.run("worker nonsense").expect(1);
    assert!(outcome.stderr.contains("for workers of the service alone"), "{outcome:?}");
}
