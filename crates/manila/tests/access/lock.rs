//! The lock of an instance, between tasks of this process and against `fcntl.lockf` of Python, which oslo.concurrency
//! takes it with.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manila::InstanceLocks;
use manila::lock::LockError;
use tokio::time::Instant;

const NAME: &str = "manila-locked_access_rules_operation_by_share_instance_";

/// Opens as fasteners does, and locks; prints `held` or `busy`, and lets go when its input ends.
const PYTHON: &str = "\
import fcntl, sys
with open(sys.argv[1], 'a') as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print('busy', flush=True)
    else:
        print('held', flush=True)
        sys.stdin.read()
        fcntl.lockf(file, fcntl.LOCK_UN)
";

/// Another process that wants the lock.
struct Python(Child);

impl Python {
    fn start(path: &Path) -> (Self, String) {
        let mut child = Command::new("python3")
            .args(["-c", PYTHON])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there; `scripts/test` installs it");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        (Self(child), line.trim().to_owned())
    }

    fn let_go(mut self) {
        let mut input = self.0.stdin.take().unwrap();
        input.flush().unwrap();
        drop(input);
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("manila-lock-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, id: &str) -> PathBuf {
        self.0.join(format!("{NAME}{id}"))
    }

    fn locks(&self) -> InstanceLocks {
        InstanceLocks::new(Some(self.0.clone()))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(200)
}

fn late() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

#[tokio::test]
async fn python_waits_for_us() {
    let dir = Dir::new("ours");
    let held = dir.locks().lock("1-a", late()).await.unwrap();
    assert_eq!(Python::start(&dir.file("1-a")).1, "busy");
    assert_eq!(Python::start(&dir.file("1-b")).1, "held");
    drop(held);
    assert_eq!(Python::start(&dir.file("1-a")).1, "held");
    // It is left behind, as upstream does.
    assert_eq!(std::fs::metadata(dir.file("1-a")).unwrap().permissions().mode() & 0o7777, 0o644);
}

#[tokio::test]
async fn we_wait_for_python() {
    let dir = Dir::new("pythons");
    let (python, answer) = Python::start(&dir.file("2-a"));
    assert_eq!(answer, "held");
    let locks = dir.locks();
    let error = locks.lock("2-a", soon()).await.unwrap_err();
    assert!(matches!(error, LockError::Late { .. }), "{error}");
    assert!(error.to_string().contains(&format!("{NAME}2-a")), "{error}");
    locks.lock("2-b", soon()).await.unwrap();
    let waiting = tokio::spawn(async move { locks.lock("2-a", late()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    python.let_go();
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_python_that_is_killed_holds_nothing() {
    let dir = Dir::new("killed");
    let (python, _) = Python::start(&dir.file("3-a"));
    drop(python);
    dir.locks().lock("3-a", late()).await.unwrap();
}

#[tokio::test]
async fn tasks_of_this_process_wait_for_each_other() {
    let dir = Dir::new("tasks");
    let held = dir.locks().lock("4-a", late()).await.unwrap();
    // Other locks of the same directory are the same locks; and a try that fails does not give up the one that is held.
    let error = dir.locks().lock("4-a", soon()).await.unwrap_err();
    assert!(matches!(error, LockError::Late { .. }), "{error}");
    assert_eq!(Python::start(&dir.file("4-a")).1, "busy");
    drop(held);
    dir.locks().lock("4-a", late()).await.unwrap();

    let within = InstanceLocks::new(None);
    let held = within.lock("4-a", late()).await.unwrap();
    assert!(within.lock("4-a", soon()).await.is_err());
    drop(held);
    within.lock("4-a", soon()).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_is_missing_is_made() {
    let dir = Dir::new("missing");
    let inner = dir.0.join("a/b");
    InstanceLocks::new(Some(inner.clone())).lock("5-a", late()).await.unwrap();
    assert!(inner.join(format!("{NAME}5-a")).is_file());
}

/// The share manager runs as another user than root, and must be able to open what we made.
#[tokio::test]
async fn files_belong_to_whom_the_directory_belongs() {
    let dir = Dir::new("owner");
    if let Err(error) = std::os::unix::fs::chown(&dir.0, Some(4242), Some(4243)) {
        testkit::disk::skip("files_belong_to_whom_the_directory_belongs", &error);
        return;
    }
    dir.locks().lock("6-a", late()).await.unwrap();
    let inner = dir.0.join("inner");
    InstanceLocks::new(Some(inner.clone())).lock("6-b", late()).await.unwrap();
    for path in [dir.file("6-a"), inner.clone(), inner.join(format!("{NAME}6-b"))] {
        let stat = std::fs::metadata(&path).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (4242, 4243), "{}", path.display());
    }
}

#[tokio::test]
async fn links_and_names_that_are_none_are_refused() {
    let dir = Dir::new("links");
    let target = dir.0.join("target");
    symlink(&target, dir.file("7-a")).unwrap();
    let error = dir.locks().lock("7-a", soon()).await.unwrap_err();
    assert!(matches!(error, LockError::Open { .. }), "{error}");
    assert!(!target.exists());
    std::fs::write(&target, "x").unwrap();
    assert!(dir.locks().lock("7-a", soon()).await.is_err());
    for id in ["", ".", "../x", "a/b", "a\0b", "a\nb"] {
        let error = dir.locks().lock(id, soon()).await.unwrap_err();
        assert!(matches!(error, LockError::BadId(_)), "{id:?} {error}");
    }
}

#[tokio::test]
async fn a_file_that_is_removed_and_made_anew_is_locked_anew() {
    let dir = Dir::new("removed");
    let (python, _) = Python::start(&dir.file("8-a"));
    let locks = dir.locks();
    let waiting = tokio::spawn(async move { locks.lock("8-a", late()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::remove_file(dir.file("8-a")).unwrap();
    python.let_go();
    let held = waiting.await.unwrap().unwrap();
    assert_eq!(Python::start(&dir.file("8-a")).1, "busy");
    drop(held);
}
