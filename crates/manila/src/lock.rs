//! The lock under which access rules of an instance are changed, as every service of Manila on this machine takes it:
//! a POSIX record lock on a file in `[oslo_concurrency] lock_path`, by the name that oslo.concurrency gives it.
//!
//! Such locks belong to processes: a second descriptor of the same file does not wait for the first, and closing either
//! gives up the lock of both. So each name is locked within the process first.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

/// What oslo.concurrency makes of the name `access_rules_operation_by_share_instance` under Manila's prefix.
const FILE_PREFIX: &str = "manila-locked_access_rules_operation_by_share_instance_";

/// The column that such an identifier comes from holds no more.
const ID_BYTES_MAX: usize = 36;

/// Between two tries while somebody else has the lock. It is held for one transaction.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Locks of instances, by their identifiers.
#[derive(Clone, Debug)]
pub struct InstanceLocks {
    directory: Option<PathBuf>,
}

/// The lock is held as long as this lives.
#[derive(Debug)]
pub struct InstanceLock {
    /// Goes first: whoever is next in this process must not find its own lock given up.
    _file: Option<OwnedFd>,
    _in_process: OwnedMutexGuard<()>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    #[error("`{}` is no identifier of a share instance", .0.escape_debug())]
    BadId(String),
    #[error("cannot open the lock file `{}`; is [oslo_concurrency] lock_path right?", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("cannot lock `{}`", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("`{what}` is locked for {} s now, by another service on this machine or a job of this one", after.as_secs())]
    Late { what: String, after: Duration },
}

impl InstanceLocks {
    /// Without a directory only this process is kept out, which is said once.
    pub fn new(directory: Option<PathBuf>) -> Self {
        static SAID: Once = Once::new();
        if directory.is_none() {
            SAID.call_once(|| {
                warn!(
                    "[oslo_concurrency] lock_path is not set, or process locking is disabled: changes of access rules are \
                     not kept apart from those of other services on this machine"
                );
            });
        }
        Self { directory }
    }

    /// Waits until nobody changes the rules of this instance, without keeping a thread busy; no longer than until
    /// `deadline`, but one try is always made.
    pub async fn lock(&self, instance_id: &str, deadline: Instant) -> Result<InstanceLock, LockError> {
        if !is_plain_id(instance_id) {
            return Err(LockError::BadId(instance_id.into()));
        }
        let name = format!("{FILE_PREFIX}{instance_id}");
        let begun = Instant::now();
        let late = || LockError::Late { what: name.clone(), after: begun.elapsed() };
        let path = self.directory.as_ref().map(|directory| directory.join(&name));
        let in_process = in_process(path.as_deref().unwrap_or(Path::new(&name))).lock_owned();
        let in_process = timeout_at(deadline, in_process).await.map_err(|_| late())?;
        let (Some(directory), Some(path)) = (&self.directory, path) else {
            return Ok(InstanceLock { _file: None, _in_process: in_process });
        };
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(file) = try_lock(directory, &path)? {
                return Ok(InstanceLock { _file: Some(file), _in_process: in_process });
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
            sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Identifiers come in messages, and become names of files.
pub(crate) fn is_plain_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The lock of a name among the tasks of this process: one table for all, because record locks know only processes.
fn in_process(path: &Path) -> Arc<tokio::sync::Mutex<()>> {
    static HELD: Mutex<BTreeMap<PathBuf, Weak<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(lock) = held.get(path).and_then(Weak::upgrade) {
        return lock;
    }
    held.retain(|_, lock| lock.strong_count() > 0);
    let lock = Arc::default();
    held.insert(path.into(), Arc::downgrade(&lock));
    lock
}

/// `None`: another process has it.
fn try_lock(directory: &Path, path: &Path) -> Result<Option<OwnedFd>, LockError> {
    let open = |source| LockError::Open { path: path.into(), source };
    let lock = |source| LockError::Lock { path: path.into(), source };
    let file = match open_file(path) {
        Err(Errno::NOENT) => {
            make_directory(directory).map_err(open)?;
            open_file(path)
        }
        opened => opened,
    };
    let file = file.map_err(|errno| open(errno.into()))?;
    match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => return Ok(None),
        Err(errno) => return Err(lock(errno.into())),
    }
    // Somebody may have tidied up between the opening and the locking: then the others lock another file.
    let locked = rustix::fs::fstat(&file).map_err(|errno| lock(errno.into()))?;
    Ok((locked.st_nlink > 0).then_some(file))
}

/// A file that is made here belongs to whom the directory belongs to: other services of Manila, which may not be root
/// as we may be, must be able to open it for writing.
fn open_file(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => {}
        opened => return opened,
    }
    let mode = Mode::from_raw_mode(0o644);
    match rustix::fs::open(path, flags | OFlags::CREATE | OFlags::EXCL, mode) {
        Ok(file) => {
            // Whatever the process's umask says.
            rustix::fs::fchmod(&file, mode)?;
            if let Some((user, group)) = owner_to_give(path.parent())? {
                rustix::fs::fchown(&file, Some(user), Some(group))?;
            }
            Ok(file)
        }
        // Somebody else was faster.
        Err(Errno::EXIST) => rustix::fs::open(path, flags, Mode::empty()),
        Err(errno) => Err(errno),
    }
}

fn make_directory(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        directory.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            made => made?,
        }
        if let Some((user, group)) = owner_to_give(dir.parent())? {
            rustix::fs::chownat(CWD, dir, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

/// Whom `directory` belongs to, where that is somebody else and we may give files away.
fn owner_to_give(directory: Option<&Path>) -> Result<Option<(Uid, Gid)>, Errno> {
    let directory = directory.filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let stat = rustix::fs::stat(directory)?;
    let is_other = rustix::process::geteuid().is_root() && stat.st_uid != 0;
    Ok(is_other.then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_identifiers_become_names_of_files() {
        for id in ["8a1b4c5e-0000-4000-8000-00000000000f", "a", "A9-"] {
            assert!(is_plain_id(id), "{id}");
        }
        for id in ["", "..", "../../etc/passwd", "a/b", "a\0", "a.b", "a b", "ä", &"a".repeat(37)] {
            assert!(!is_plain_id(id), "{id}");
        }
    }
}
