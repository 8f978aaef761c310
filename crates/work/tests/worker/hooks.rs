//! Hooks of migrations: when they are asked for, what they are told, and what becomes of those that fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use job::{AccessError, Hold, Job, JobId, JobSpec, Kind, Origin, PassKind, Sensitive, ShareAccess as _, Side};
use work::{Hook, HookAccess};

use crate::bench::{Bench, directory, is_gone, wait_for};
use crate::runner::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_hook_is_needed_for_the_last_pass_alone,
    a_hook_is_told_what_to_do_with_what,
    a_hook_that_fails_is_quoted_without_secrets,
    a_hook_that_hangs_is_killed_with_its_children,
    a_hook_that_leaves_something_running_is_not_waited_for,
    a_hook_that_is_not_configured_or_cannot_run_is_an_error,
];

fn job() -> Job {
    let mut spec = JobSpec::new(Kind::Migrate, directory("/srv/a b".as_ref()), directory("/srv/new".as_ref()));
    spec.name = Some("weekly".into());
    spec.migrate.hook = Some("freeze".into());
    spec.dest = job::Endpoint::Mount {
        fs_type: "cifs".into(),
        source: "//host/share".into(),
        options: vec![Sensitive::new("pass=geheim")],
        subdir: Some("x".into()),
    };
    Job::new(JobId::from_u128(5), spec, Origin::default(), "2026-01-02T03:04:05Z".parse().unwrap())
}

fn access(command: &[&str], timeout: Duration) -> HookAccess {
    let command = command.iter().map(|word| (*word).into()).collect();
    HookAccess::new(BTreeMap::from([("freeze".to_owned(), Hook { command, timeout })]))
}

fn hold() -> Hold {
    Hold::ReadOnly { hook: "freeze".into() }
}

fn take(bench: &Bench, access: &HookAccess) -> Result<Hold, AccessError> {
    bench.runtime.block_on(access.take(&job(), &hold()))
}

fn a_hook_is_needed_for_the_last_pass_alone() {
    let access = HookAccess::default();
    let mut job = job();
    assert_eq!(access.needed(&job, PassKind::Final), [hold()]);
    for pass in [PassKind::Baseline, PassKind::Incremental, PassKind::Single] {
        assert_eq!(access.needed(&job, pass), []);
    }
    Arc::make_mut(&mut job.spec).migrate.hook = None;
    assert_eq!(access.needed(&job, PassKind::Final), []);
}

fn a_hook_is_told_what_to_do_with_what() {
    let bench = Bench::new();
    let said = bench.dir.path().join("said");
    let script = "env | grep ^MANILA_DATA_ | grep -v ^MANILA_DATA_TEST_ | sort > \"$1\"; echo \"$2\" >> \"$1\"";
    let access = access(&["/bin/sh", "-c", script, "hook", said.to_str().unwrap(), "$(id) *"], Duration::from_secs(30));
    assert_eq!(take(&bench, &access).unwrap(), hold());
    let expected = |action: &str| {
        format!(
            "MANILA_DATA_ACTION={action}\nMANILA_DATA_DEST=//host/share x\nMANILA_DATA_HOOK=freeze\n\
             MANILA_DATA_JOB_ID={}\nMANILA_DATA_JOB_NAME=weekly\nMANILA_DATA_SOURCE=/srv/a b\n$(id) *\n",
            JobId::from_u128(5)
        )
    };
    assert_eq!(std::fs::read_to_string(&said).unwrap(), expected("read-only"));
    for _ in 0..2 {
        bench.runtime.block_on(access.give_back(&job(), &hold())).unwrap();
        assert_eq!(std::fs::read_to_string(&said).unwrap(), expected("read-write"));
    }
    // Holds of others are no business of hooks.
    std::fs::remove_file(&said).unwrap();
    bench.runtime.block_on(access.give_back(&job(), &Hold::Workspace { path: "/x".into() })).unwrap();
    assert!(!said.exists());
}

fn a_hook_that_fails_is_quoted_without_secrets() {
    let bench = Bench::new();
    let script = "echo 'cannot freeze with geheim' >&2; exit 3";
    let error = take(&bench, &access(&["/bin/sh", "-c", script], Duration::from_secs(30))).unwrap_err();
    assert_eq!(error.side, Some(Side::Source));
    assert_eq!(error.message, "the hook `freeze` failed (exit status: 3): cannot freeze with ***");
}

fn a_hook_that_hangs_is_killed_with_its_children() {
    let bench = Bench::new();
    let numbers = bench.dir.path().join("numbers");
    let script = format!("sleep 600 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", numbers.display());
    let error = take(&bench, &access(&["/bin/sh", "-c", &script], Duration::from_millis(500))).unwrap_err();
    assert_eq!(error.message, "the hook `freeze` did not end within 0.5 s and was killed");
    // A machine that is too busy for the hook to begin has nothing to be killed.
    for number in std::fs::read_to_string(numbers).unwrap_or_default().split_whitespace() {
        let number = number.parse().unwrap();
        wait_for("the end of the hook", || is_gone(number));
    }
}

fn a_hook_that_leaves_something_running_is_not_waited_for() {
    let bench = Bench::new();
    let number = bench.dir.path().join("number");
    let script = format!("sleep 600 & echo $! > {}", number.display());
    take(&bench, &access(&["/bin/sh", "-c", &script], Duration::from_secs(30))).unwrap();
    let number = std::fs::read_to_string(number).unwrap().trim().parse().unwrap();
    assert!(!is_gone(number), "it is the hook's own");
    crate::bench::kill(number);
}

fn a_hook_that_is_not_configured_or_cannot_run_is_an_error() {
    let bench = Bench::new();
    let check = |access: &HookAccess, part: &str| {
        let error = take(&bench, access).unwrap_err();
        assert!(error.message.contains(part), "{error}");
    };
    check(&HookAccess::default(), "is not configured");
    check(&access(&[], Duration::from_secs(1)), "has no command");
    check(&access(&["/nowhere/hook"], Duration::from_secs(1)), "cannot be run");
}
