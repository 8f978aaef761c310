//! The lock of a job's workspace: whoever holds it is the only worker of the job, and who waits for it knows that the
//! one before is gone, to the last thread that may still write.
//!
//! It lies beside the workspace, holds the number of the worker, and is inherited by the mover: the kernel gives it up
//! when the last process that has it is gone, and not before.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between two looks at a lock that is taken.
const PAUSE: Duration = Duration::from_millis(20);

/// A process, told apart from a later one of the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProcessId {
    pub(super) number: i32,
    /// Since the start of the machine, in its own ticks.
    pub(super) started_ticks: u64,
    boot: String,
}

impl ProcessId {
    #[expect(clippy::disallowed_methods, reason = "the kernel's own files, named here")]
    pub(super) fn new(number: i32, started_ticks: u64) -> std::io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Self { number, started_ticks, boot })
    }

    pub(super) fn of_this_process() -> std::io::Result<Self> {
        let number = rustix::process::getpid().as_raw_nonzero().get();
        let started = started_ticks(number).ok_or(std::io::ErrorKind::NotFound)?;
        Self::new(number, started)
    }

    /// Ends the process, if it is still the same one.
    fn kill(&self) -> Result<(), Errno> {
        let is_same =
            || Self::new(self.number, started_ticks(self.number).unwrap_or_default()).ok().as_ref() == Some(self);
        let Some(pid) = Pid::from_raw(self.number).filter(|_| is_same()) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(()),
            answer => answer?,
        };
        // Asked once more: the number may have changed hands before it was held.
        if is_same() { pidfd_send_signal(process, Signal::KILL) } else { Ok(()) }
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.number, self.started_ticks, self.boot)
    }
}

impl FromStr for ProcessId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split_whitespace();
        let mut next = || words.next().ok_or(());
        let number = next()?.parse().map_err(drop)?;
        let started_ticks = next()?.parse().map_err(drop)?;
        Ok(Self { number, started_ticks, boot: next()?.into() })
    }
}

/// Field 22 of `/proc/<number>/stat`. The name of the program, before it, may have blanks and brackets.
#[expect(clippy::disallowed_methods, reason = "the kernel's own files, named here")]
fn started_ticks(number: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{number}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    str::from_utf8(&stat[after_name..]).ok()?.split_whitespace().nth(19)?.parse().ok()
}

/// Held as long as the value, or a process that inherited it, lives.
#[derive(Debug)]
pub(super) struct JobLock {
    file: std::fs::File,
}

impl JobLock {
    /// Takes the lock, if nobody has it within that time.
    pub(super) fn take(workspace: &Path, timeout: Duration) -> Result<Option<Self>, Errno> {
        let start = Instant::now();
        loop {
            match Self::try_take(workspace)? {
                Some(lock) => return Ok(Some(lock)),
                None if start.elapsed() >= timeout => return Ok(None),
                None => std::thread::sleep(PAUSE),
            }
        }
    }

    pub(super) fn try_take(workspace: &Path) -> Result<Option<Self>, Errno> {
        let (dir, name) = place(workspace)?;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = rustix::fs::openat(&dir, &name, flags, Mode::RUSR | Mode::WUSR)?;
            match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Ok(None),
                answer => answer?,
            }
            // Whoever had it may have removed it: then this one is not what others look at.
            let held = rustix::fs::fstat(&fd)?;
            match rustix::fs::statat(&dir, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(named) if (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino) => {
                    return Ok(Some(Self { file: fd.into() }));
                }
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Says who has it, for those that have to end him.
    pub(super) fn record(&mut self, worker: &ProcessId) -> std::io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.set_len(0)?;
        self.file.write_all(format!("{worker}\n").as_bytes())
    }

    /// For a child that is to have it too.
    pub(super) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Gives it up together with its file, in this order: who waits for it looks whether the file is still there.
    pub(super) fn remove(self, workspace: &Path) -> Result<(), Errno> {
        let (dir, name) = place(workspace)?;
        let removed = match rustix::fs::unlinkat(dir, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        };
        drop(self);
        removed
    }
}

/// Ends whoever holds the lock, as far as its file says who that is. Nobody is fine.
pub(super) fn kill_holder(workspace: &Path) -> Result<(), Errno> {
    let (dir, name) = place(workspace)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        answer => answer?,
    };
    let mut text = String::new();
    // It says nothing useful: then there is only waiting.
    let _ = std::fs::File::from(fd).take(4096).read_to_string(&mut text);
    text.parse::<ProcessId>().map_or(Ok(()), |holder| holder.kill())
}

/// The directory that workspaces lie in, and the name of this one's lock in it.
fn place(workspace: &Path) -> Result<(OwnedFd, OsString), Errno> {
    let (dir, name) = super::workspace::parent(workspace)?;
    let name = [name, OsStr::new(".lock")].into_iter().collect();
    Ok((rustix::fs::openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?, name))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own their temporary directory")]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("work-lock-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn one_holds_it_at_a_time() {
        let dir = scratch("one");
        let workspace = dir.join("job");
        let lock = JobLock::try_take(&workspace).unwrap().expect("it is free");
        assert!(JobLock::take(&workspace, Duration::ZERO).unwrap().is_none());
        drop(lock);
        let lock = JobLock::try_take(&workspace).unwrap().expect("it is free again");
        lock.remove(&workspace).unwrap();
        assert!(!dir.join("job.lock").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_holder_is_ended_only_if_it_is_still_the_same_process() {
        let dir = scratch("holder");
        let workspace = dir.join("job");
        kill_holder(&workspace).unwrap();
        let mut child = std::process::Command::new("/bin/sleep").arg("600").spawn().unwrap();
        let number = Pid::from_child(&child).as_raw_nonzero().get();
        let id = ProcessId::new(number, started_ticks(number).unwrap()).unwrap();
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        let mut lock = JobLock::try_take(&workspace).unwrap().unwrap();
        lock.record(&ProcessId { started_ticks: id.started_ticks + 1, ..id.clone() }).unwrap();
        kill_holder(&workspace).unwrap();
        lock.record(&ProcessId { boot: "another".into(), ..id.clone() }).unwrap();
        kill_holder(&workspace).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "another process was meant");
        lock.record(&id).unwrap();
        kill_holder(&workspace).unwrap();
        assert!(!child.wait().unwrap().success());
        kill_holder(&workspace).unwrap();
        std::fs::write(dir.join("job.lock"), "nonsense").unwrap();
        kill_holder(&workspace).unwrap();
        std::fs::remove_dir_all(dir).unwrap();
    }
}
