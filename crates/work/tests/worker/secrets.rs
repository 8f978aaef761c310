//! Secrets of mount options: where they can be seen, and where not.

use job::{Control, Endpoint, FailureCode, Sensitive};
use testkit::disk::need_root;
use testkit::lend;

use crate::bench::{Bench, Ran, directory, numbers, settings, wait_for};
use crate::commands::helper;
use crate::runner::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_password_of_cifs_is_in_no_argument_vector,
    a_secret_of_ceph_is_in_no_argument_vector,
    a_helper_that_repeats_a_secret_is_not_quoted,
    a_secret_that_was_lost_is_not_mounted_with,
];

const SECRET: &str = "aVerySecretWord";

/// Argument vectors of all processes that hold the secret.
fn seen_in_arguments() -> Vec<String> {
    let lines = numbers().filter_map(|number| std::fs::read(format!("/proc/{number}/cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(SECRET)).collect()
}

#[track_caller]
fn assert_hidden(bench: &Bench, ran: &Ran) {
    assert!(!format!("{ran:?}").contains(SECRET), "{ran:?}");
    // Nor in anything that was written below the state directory.
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["-r", "-l", SECRET]).arg(bench.dir.path().join("state")).output().unwrap();
    assert!(found.stdout.is_empty(), "{found:?}");
}

/// Runs a helper of that name that waits to be looked at, then says everything it knows, and fails.
#[track_caller]
fn check(name: &str, options: &str, expected: &str) {
    let bench = Bench::new();
    let (dest, here, go) = (bench.dir.subdir("b"), bench.dir.path().join("here"), bench.dir.path().join("go"));
    let script = format!(
        "touch {}; while ! [ -e {} ]; do sleep 0.02; done\n\
         for word in \"$@\"; do case $word in *secretfile=*) file=${{word##*secretfile=}}; file=${{file%%,*}};; esac; done\n\
         echo \"words: $*\" >&2; echo \"environment: $PASSWD\" >&2; if [ \"$file\" ]; then cat $file > $0.read; fi\n\
         echo \"$PASSWD\" >> $0.read; exit 1",
        here.display(),
        go.display()
    );
    let (path, settings) = helper(&bench, name, &script);
    let endpoint = Endpoint::Command {
        mount: Sensitive::new(format!("{} %(options)s //host/share %(path)s", path.display())),
        unmount: None,
        options: Some(Sensitive::new(options)),
    };
    let running = bench.start(settings, bench.order(endpoint, directory(&dest)), Control::default());
    wait_for("the helper", || here.exists());
    assert_eq!(seen_in_arguments(), Vec::<String>::new());
    std::fs::write(go, "").unwrap();
    let ran = running.end();
    ran.failed(FailureCode::MountFailed, expected);
    assert_hidden(&bench, &ran);
    let read = std::fs::read_to_string(format!("{}.read", path.display())).unwrap();
    assert_eq!(read.trim(), SECRET, "the helper gets it");
    bench.assert_released();
}

/// Two at once would see each other's words.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn a_password_of_cifs_is_in_no_argument_vector() {
    lend!("a_password_of_cifs_is_in_no_argument_vector", need_root());
    let _alone = alone();
    check("mount.cifs", &format!("-o user=a,pass={SECRET},vers=3"), "words: -o user=a,vers=3 //host/share");
    check("mount.cifs", &format!("-o password={SECRET}"), "environment: ***");
}

fn a_secret_of_ceph_is_in_no_argument_vector() {
    lend!("a_secret_of_ceph_is_in_no_argument_vector", need_root());
    let _alone = alone();
    check("mount.ceph", &format!("-o name=a,secret={SECRET}"), "words: -o name=a,secretfile=/proc/");
}

fn a_helper_that_repeats_a_secret_is_not_quoted() {
    lend!("a_helper_that_repeats_a_secret_is_not_quoted", need_root());
    let _alone = alone();
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let (path, settings) = helper(&bench, "mount.other", &format!("echo \"bad login with <{SECRET}>\" >&2; exit 1"));
    let endpoint = Endpoint::Command {
        mount: Sensitive::new(format!("{} -o key={SECRET} %(path)s", path.display())),
        unmount: None,
        options: None,
    };
    let ran = bench.run(settings, endpoint, directory(&dest));
    ran.failed(FailureCode::MountFailed, "bad login with <***>");
    assert_hidden(&bench, &ran);
    bench.assert_released();
}

fn a_secret_that_was_lost_is_not_mounted_with() {
    lend!("a_secret_that_was_lost_is_not_mounted_with", need_root());
    let bench = Bench::new();
    let dest = bench.dir.subdir("b");
    let endpoint = crate::bench::mount("cifs", "//host/share", &["user=a", "password=***"]);
    let ran = bench.run(settings(), endpoint, directory(&dest));
    ran.failed(FailureCode::BadSpec, "not known any more");
}
