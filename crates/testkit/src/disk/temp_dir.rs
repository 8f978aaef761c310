//! A directory that goes away with everything in it, however deep, locked or oddly named.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, IFlags, Mode};
use rustix::io::Errno;

use super::say;
use crate::model::walker::{Walker, identity};

/// A fresh directory below the system's temporary one, removed on drop.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a directory of mode 0700 that nobody else has.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "it makes something on disk")]
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let base = std::env::temp_dir();
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("manila-data-test-{}-{count}", std::process::id()));
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Ok(()) => return Self { path },
                // Left by a killed run of the same process id.
                Err(Errno::EXIST) => {}
                Err(errno) => panic!("cannot make `{}`: {errno}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a directory in it and gives its path.
    #[track_caller]
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        rustix::fs::mkdir(&path, Mode::RWXU).unwrap();
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(errno) = remove_tree(&self.path) {
            say(&format!("cannot remove `{}`: {errno}", self.path.display()));
        }
    }
}

/// Removes a directory with everything in it, one name at a time by descriptors; what is mounted in it stays.
pub(super) fn remove_tree(root: &Path) -> Result<(), Errno> {
    let mut walker = Walker::open(root)?;
    let device = identity(walker.fd())?.0;
    let mut pending = vec![clear(&walker)?];
    loop {
        if let Some(name) = pending.last_mut().expect("the root's level is last").pop() {
            walker.down(&name)?;
            if identity(walker.fd())?.0 != device {
                return Err(Errno::BUSY);
            }
            pending.push(clear(&walker)?);
            continue;
        }
        pending.pop();
        if pending.is_empty() {
            break;
        }
        let name = walker.up()?;
        rustix::fs::unlinkat(walker.fd(), &*name, AtFlags::REMOVEDIR)?;
    }
    drop(walker);
    rustix::fs::rmdir(root)
}

/// Removes all but the directories of the walker's place, and names those.
fn clear(walker: &Walker) -> Result<Vec<Vec<u8>>, Errno> {
    // Without privileges, a directory's own mode can stand in the way; with them, its flags can.
    if let Ok(held) = walker.hold(b"") {
        let _ = rustix::fs::chmod(held.proc_path(), Mode::RWXU);
    }
    let mut dirs = Vec::new();
    for name in walker.names()? {
        match rustix::fs::unlinkat(walker.fd(), &*name, AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR) => dirs.push(name),
            Err(Errno::PERM) => {
                thaw(walker, b"");
                thaw(walker, &name);
                match rustix::fs::unlinkat(walker.fd(), &*name, AtFlags::empty()) {
                    Err(Errno::ISDIR | Errno::PERM) => dirs.push(name),
                    other => other?,
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    thaw(walker, b"");
    Ok(dirs)
}

/// Takes the immutable and append-only flags away, where there are any.
fn thaw(walker: &Walker, name: &[u8]) {
    let is_plain =
        name.is_empty() || walker.stat(name).is_ok_and(|s| matches!(s.st_mode & 0o170_000, 0o100_000 | 0o040_000));
    if is_plain
        && let Ok(fd) = walker.read(name)
        && let Ok(flags) = rustix::fs::ioctl_getflags(fd.as_fd())
    {
        let frozen = IFlags::IMMUTABLE | IFlags::APPEND;
        if flags.intersects(frozen) {
            let _ = rustix::fs::ioctl_setflags(fd.as_fd(), flags - frozen);
        }
    }
}
