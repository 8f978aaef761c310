//! The directory of a job with its mount points: made, and taken away again, by names that are known.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use job::{Failure, FailureCode, Step};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;

use super::lock::{self, JobLock};
use crate::mount::detach_below;

pub(super) const SOURCE: &str = "source";
pub(super) const DEST: &str = "dest";

/// How long a worker that was killed may take to be gone. Longer: its storage holds it in the kernel.
pub(super) const GONE_TIMEOUT: Duration = Duration::from_secs(10);

const HOLD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory that a workspace lies in, and its name.
pub(super) fn parent(workspace: &Path) -> Result<(&Path, &OsStr), Errno> {
    let name = workspace.file_name().ok_or(Errno::INVAL)?;
    Ok((workspace.parent().filter(|parent| !parent.as_os_str().is_empty()).ok_or(Errno::INVAL)?, name))
}

/// Makes what is missing of it.
pub(super) fn make(workspace: &Path) -> Result<(), Errno> {
    let make = |dir: &OwnedFd, name: &OsStr| match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(dir, name, HOLD, Mode::empty()),
        Err(errno) => Err(errno),
    };
    let (parent, name) = parent(workspace)?;
    let parent = rustix::fs::openat(CWD, parent, HOLD, Mode::empty())?;
    let held = make(&parent, name)?;
    for name in [SOURCE, DEST] {
        make(&held, OsStr::new(name))?;
    }
    Ok(())
}

/// Removes it; nothing there is fine. Only empty directories go, so that nothing that is mounted or was left there is
/// ever deleted.
pub(super) fn remove(workspace: &Path) -> Result<(), Errno> {
    let (parent, name) = parent(workspace)?;
    let parent = match rustix::fs::openat(CWD, parent, HOLD, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        answer => answer?,
    };
    let held = match rustix::fs::openat(&parent, name, HOLD, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        answer => answer?,
    };
    if mount_id(&held, "")? != mount_id(&parent, "")? {
        return Err(Errno::BUSY);
    }
    for name in [SOURCE, DEST] {
        remove_dir(&held, OsStr::new(name))?;
    }
    remove_dir(&parent, name)
}

fn remove_dir(dir: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn mount_id(dir: &OwnedFd, name: &str) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statx(dir, name, flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Ends what an earlier life left behind: its worker, what it mounted where we can see it, its directories, its lock.
pub(super) fn release(workspace: &Path) -> Result<(), Failure> {
    let failure = |what: &str, errno: Errno| {
        Failure::new(
            Step::Release,
            FailureCode::Internal,
            format!("cannot {what} `{}`: {errno}", crate::shown(workspace)),
        )
    };
    let lock = match JobLock::try_take(workspace) {
        // There is not even a directory of workspaces.
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failure("lock the workspace", errno)),
        Ok(Some(lock)) => lock,
        Ok(None) => {
            lock::kill_holder(workspace).map_err(|errno| failure("end the worker of", errno))?;
            let lock = JobLock::take(workspace, GONE_TIMEOUT).map_err(|errno| failure("lock the workspace", errno))?;
            lock.ok_or_else(|| {
                let message = format!(
                    "a worker still has the workspace `{}` {} s after it was ended; its storage may not answer",
                    crate::shown(workspace),
                    GONE_TIMEOUT.as_secs()
                );
                Failure::new(Step::Release, FailureCode::WorkerLost, message)
            })?
        }
    };
    detach_below(workspace).map_err(|errno| failure("unmount what is below", errno))?;
    remove(workspace).map_err(|errno| failure("remove the workspace", errno))?;
    lock.remove(workspace).map_err(|errno| failure("remove the lock of", errno))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own their temporary directory")]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("work-space-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_workspace_is_made_and_released_however_often() {
        let dir = scratch("often");
        let workspace = dir.join("job");
        make(&workspace).unwrap();
        make(&workspace).unwrap();
        release(&workspace).unwrap();
        release(&workspace).unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
        release(&dir.join("none/job")).unwrap();
        std::fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn nothing_but_empty_directories_of_known_names_is_removed() {
        let dir = scratch("known");
        let workspace = dir.join("job");
        make(&workspace).unwrap();
        std::fs::write(workspace.join("dest/kept"), "x").unwrap();
        assert_eq!(release(&workspace).unwrap_err().step, Step::Release);
        assert!(workspace.join("dest/kept").exists());
        std::fs::remove_dir_all(&workspace).unwrap();
        std::fs::create_dir(dir.join("elsewhere")).unwrap();
        std::fs::create_dir(dir.join("elsewhere/source")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &workspace).unwrap();
        assert!(release(&workspace).is_err());
        assert!(dir.join("elsewhere/source").exists(), "a symlink was followed");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
