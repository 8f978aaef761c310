//! Mount commands and their helpers: which may run, for how long, and what becomes of those that do something else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use job::{Control, Endpoint, FailureCode, Sensitive};
use testkit::disk::need_root;
use testkit::lend;
use work::ProcessSettings;

use crate::bench::{Bench, LIMIT, command, directory, mount, settings, wait_for};
use crate::ends::wait_until_gone;
use crate::runner::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_helper_that_is_not_on_the_list_does_not_run,
    shell_characters_mean_nothing,
    a_helper_that_fails_is_quoted,
    a_helper_that_mounts_nothing_is_found_out,
    a_helper_that_mounts_elsewhere_is_found_out,
    a_helper_that_hangs_is_killed,
    a_stop_does_not_wait_for_a_helper_that_hangs,
    a_mount_of_a_helper_that_fails_is_taken_away,
    an_unmount_command_that_fails_is_told_and_made_good,
    an_unmount_command_that_hangs_is_killed_and_made_good,
    a_mount_that_stays_in_use_is_detached_and_told,
];

/// A program of the test's own that may be run.
pub(crate) fn helper(bench: &Bench, name: &str, script: &str) -> (PathBuf, ProcessSettings) {
    let path = bench.dir.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut settings = settings();
    settings.mount.helpers.push(path.to_str().unwrap().into());
    (path, settings)
}

pub(crate) fn calling(helper: &Path) -> Endpoint {
    command(&format!("{} %(path)s", helper.display()))
}

fn a_helper_that_is_not_on_the_list_does_not_run() {
    lend!("a_helper_that_is_not_on_the_list_does_not_run", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let witness = bench.dir.path().join("witness");
    let (path, _) = helper(&bench, "helper", &format!("touch {}", witness.display()));
    let run = |endpoint: Endpoint, code: FailureCode, part: &str| {
        bench.run(settings(), endpoint, directory(&dest)).failed(code, part);
        assert!(!witness.exists());
    };
    run(calling(&path), FailureCode::BadSpec, "is not one of the mount helpers");
    run(command(&format!("touch {} %(path)s", witness.display())), FailureCode::BadSpec, "`touch` is not one of");
    run(command("/usr/bin/mount -t tmpfs none %(path)s"), FailureCode::BadSpec, "is not one of the mount helpers");
    run(mount("fuse.touch", witness.to_str().unwrap(), &[]), FailureCode::BadSpec, "would run `touch`");
    run(command("mount --bind /etc %(path)s"), FailureCode::BadSpec, "`--bind` of `mount` is not allowed");
    run(mount("none", "/etc", &["bind"]), FailureCode::BadSpec, "`bind` is not allowed");
    let unmount = Endpoint::Command {
        mount: Sensitive::new("mount -t tmpfs none %(path)s"),
        unmount: Some(Sensitive::new(format!("touch {} %(path)s", witness.display()))),
        options: None,
    };
    run(unmount, FailureCode::BadSpec, "`touch` is not one of");
    bench.assert_released();
}

fn shell_characters_mean_nothing() {
    lend!("shell_characters_mean_nothing", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let witness = bench.dir.path().join("witness");
    let said = bench.dir.path().join("said");
    // One word a line, so that each can be told from its neighbours.
    let (path, settings) = helper(&bench, "helper", &format!("printf '%s\\n' \"$@\" > {}; exit 1", said.display()));
    let odd = format!("$(touch${{IFS}}{0});`touch`&|>{0}", witness.display());
    let endpoint = Endpoint::Command {
        mount: Sensitive::new(format!("{} %(options)s --at=%(path)s '{odd}' 'a b'", path.display())),
        unmount: None,
        options: Some(Sensitive::new("-o 'x y' %(path)s *")),
    };
    bench.run(settings, endpoint, directory(&dest)).failed(FailureCode::MountFailed, "failed with exit code 1");
    let at = bench.workspace().join("source");
    let expected = ["-o", "x y", "%(path)s", "*", &format!("--at={}", at.display()), &odd, "a b"];
    assert_eq!(std::fs::read_to_string(said).unwrap().lines().collect::<Vec<_>>(), expected);
    assert!(!witness.exists());
}

fn a_helper_that_fails_is_quoted() {
    lend!("a_helper_that_fails_is_quoted", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let script = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo; echo 'no such export' >&2; kill -TERM $$";
    let (path, settings) = helper(&bench, "helper", script);
    let ran = bench.run(settings, calling(&path), directory(&dest));
    ran.failed(FailureCode::MountFailed, "the mount command of the source was ended by signal 15: ");
    ran.failed(FailureCode::MountFailed, "; no such export");
    assert!(format!("{ran:?}").len() < 10_000, "a helper cannot fill our memory");
    let missing = bench.run(self::settings(), command("ceph-fuse %(path)s"), directory(&dest));
    missing.failed(FailureCode::MountFailed, "the mount helper `ceph-fuse` is not installed");
    bench.assert_released();
}

fn a_helper_that_mounts_nothing_is_found_out() {
    lend!("a_helper_that_mounts_nothing_is_found_out", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, settings) = helper(&bench, "helper", "exit 0");
    let ran = bench.run(settings, calling(&path), directory(&dest));
    ran.failed(FailureCode::MountUnsafe, "mounted nothing");
    bench.assert_released();
}

fn a_helper_that_mounts_elsewhere_is_found_out() {
    lend!("a_helper_that_mounts_elsewhere_is_found_out", need_root());
    let bench = Bench::new();
    let (dest, elsewhere) = (bench.dir.subdir("b"), bench.dir.subdir("elsewhere"));
    let witness = bench.dir.path().join("witness");
    let script = format!("mount -t tmpfs none $1 && mount -t tmpfs none {}", elsewhere.display());
    let (path, mut settings) = helper(&bench, "helper", &script);
    let (unmount, _) = helper(&bench, "unmount", &format!("touch {}", witness.display()));
    settings.mount.helpers.push(unmount.to_str().unwrap().into());
    let endpoint = Endpoint::Command {
        mount: Sensitive::new(format!("{} %(path)s", path.display())),
        unmount: Some(Sensitive::new(format!("{} %(path)s", unmount.display()))),
        options: None,
    };
    let ran = bench.run(settings, endpoint, directory(&dest));
    ran.failed(FailureCode::MountUnsafe, "which is not its mount point");
    assert!(!witness.exists(), "a program was run among mounts that cannot be trusted");
    bench.assert_released();
}

/// Writes its number to a file, mounts, and stays; so does a child that it leaves behind.
fn hanging(bench: &Bench) -> (PathBuf, ProcessSettings, PathBuf) {
    let number = bench.dir.path().join("number");
    let script = format!(
        "echo working on it >&2; sleep 600 & read -r own rest < /proc/self/stat; echo $own > {0}.new; \
         mv {0}.new {0}; wait",
        number.display()
    );
    let (path, settings) = helper(bench, "helper", &script);
    (path, settings, number)
}

fn number_in(path: &Path) -> i32 {
    let mut number = None;
    wait_for("the helper", || {
        number = std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        number.is_some()
    });
    number.unwrap()
}

fn a_helper_that_hangs_is_killed() {
    lend!("a_helper_that_hangs_is_killed", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, mut settings, number) = hanging(&bench);
    settings.mount.timeout = Duration::from_millis(500);
    let ran = bench.run(settings, calling(&path), directory(&dest));
    ran.failed(FailureCode::MountFailed, "did not end within 0.5 s and was killed: working on it");
    wait_until_gone(&[number_in(&number)]);
    bench.assert_released();
}

fn a_stop_does_not_wait_for_a_helper_that_hangs() {
    lend!("a_stop_does_not_wait_for_a_helper_that_hangs", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, settings, number) = hanging(&bench);
    let running = bench.start(settings, bench.order(calling(&path), directory(&dest)), Control::default());
    let number = number_in(&number);
    let asked = Instant::now();
    running.stop();
    running.end().stopped();
    // The time-out of the helper would be a minute.
    assert!(asked.elapsed() < LIMIT);
    wait_until_gone(&[number]);
    bench.assert_released();
}

fn a_mount_of_a_helper_that_fails_is_taken_away() {
    lend!("a_mount_of_a_helper_that_fails_is_taken_away", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, settings) = helper(&bench, "helper", "mount -t tmpfs none $1; exit 3");
    let ran = bench.run(settings, calling(&path), directory(&dest));
    ran.failed(FailureCode::MountFailed, "failed with exit code 3");
    assert!(!bench.workspace().exists(), "the worker removes its mount points");
    bench.assert_released();
}

fn an_unmount_command_that_fails_is_told_and_made_good() {
    lend!("an_unmount_command_that_fails_is_told_and_made_good", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, settings) = helper(&bench, "unmount", "echo 'no wish to' >&2; exit 4");
    let endpoint = Endpoint::Command {
        mount: Sensitive::new("mount -t tmpfs none %(path)s"),
        unmount: Some(Sensitive::new(format!("{} %(path)s", path.display()))),
        options: None,
    };
    let ran = bench.run(settings, endpoint, directory(&dest));
    assert!(matches!(&ran.ended, Ok(result) if result.ending == job::WorkEnding::Complete), "{ran:?}");
    assert!(format!("{:?}", ran.events).contains("unmount command failed with exit code 4: no wish to"), "{ran:?}");
    assert!(!bench.workspace().exists());
    bench.assert_released();
}

fn an_unmount_command_that_hangs_is_killed_and_made_good() {
    lend!("an_unmount_command_that_hangs_is_killed_and_made_good", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, mut settings, number) = hanging(&bench);
    settings.mount.timeout = Duration::from_secs(2);
    let endpoint = Endpoint::Command {
        mount: Sensitive::new("mount -t tmpfs none %(path)s"),
        unmount: Some(Sensitive::new(format!("{} %(path)s", path.display()))),
        options: None,
    };
    let ran = bench.run(settings, endpoint, directory(&dest));
    assert!(matches!(&ran.ended, Ok(result) if result.ending == job::WorkEnding::Complete), "{ran:?}");
    assert!(format!("{:?}", ran.events).contains("unmount command did not end within 2 s and was killed"), "{ran:?}");
    wait_until_gone(&[number_in(&number)]);
    bench.assert_released();
}

fn a_mount_that_stays_in_use_is_detached_and_told() {
    lend!("a_mount_that_stays_in_use_is_detached_and_told", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let number = bench.dir.path().join("number");
    // What it leaves behind works in the mount, and tells its number as it is outside of its process namespace.
    let script = format!(
        "mount -t tmpfs none $1; cd $1; sh -c 'read -r own rest < /proc/self/stat; echo $own > {}; exec sleep 600' &",
        number.display()
    );
    let (path, mut settings) = helper(&bench, "helper", &script);
    settings.mount.busy_timeout = Duration::from_millis(300);
    let ran = bench.run(settings, calling(&path), directory(&dest));
    assert!(matches!(&ran.ended, Ok(result) if result.ending == job::WorkEnding::Complete), "{ran:?}");
    let said = format!("{:?}", ran.events);
    assert!(said.contains("could not be unmounted cleanly (device or resource busy) and was detached"), "{said}");
    wait_until_gone(&[number_in(&number)]);
    bench.assert_released();
}
