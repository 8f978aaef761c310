//! One service for one embedded store: an exclusive lock on a file beside it.
//!
//! SQLite itself would let several in. But the workers, mounts and directories that go with the jobs are this service's.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Held for as long as the store is open. The kernel gives it back, whatever ends the process.
#[derive(Debug)]
pub(crate) struct OwnerLock {
    file: File,
}

#[derive(Debug)]
pub(crate) enum LockError {
    /// The process that has it, if it wrote its number.
    Held {
        pid: Option<u32>,
    },
    Io(io::Error),
}

impl OwnerLock {
    /// The file stays when the lock is given back: who removes it could remove the one that another has just locked.
    pub(crate) fn take(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held { pid: written_pid(&mut file) }),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        write_pid(&mut file).map_err(LockError::Io)?;
        Ok(Self { file })
    }
}

impl Drop for OwnerLock {
    /// Closing alone would not give it back while a child that is just being started has a copy of the descriptor.
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = self.file.unlock();
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn written_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
