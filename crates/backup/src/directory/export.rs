//! The directory that holds backups: every name in it is resolved alone, below a held descriptor, through no symlink.
//! Other programs write there, so that anything may stand under any name.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use copy::tree::DestTree;
use copy::{EntryKind, FileId, LocalTree};
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::error::Attempt as _;
use super::id::Part;
use super::{BackupId, DirectoryError};

/// A directory in which backups are kept: `<export>/<backup id>/…`.
///
/// Beside a backup there is `.<id>.manifest.zst`; while one is made, `.<id>.partial` and `.<id>.checksums`; and while one
/// is deleted, `.<id>.deleting`.
#[derive(Debug)]
pub struct Export {
    dir: OwnedFd,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: EntryKind,
    pub(super) id: FileId,
}

impl Export {
    /// Opens an existing directory. A symlink as the last component is followed: the caller named it.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| DirectoryError::Open {
            path: copy::escape(path.as_os_str().as_encoded_bytes()),
            source: errno.into(),
        })?;
        Ok(Self { dir })
    }

    /// The tree of a complete backup, to restore from. It is the same whoever wrote it.
    pub fn tree(&self, id: &BackupId) -> Result<LocalTree, DirectoryError> {
        let Some(dir) = self.dir_at(&Part::Published.name(id))? else { return Err(self.why_missing(id)?) };
        LocalTree::from_dir(dir.as_fd()).map_err(DirectoryError::Tree)
    }

    pub(super) fn why_missing(&self, id: &BackupId) -> Result<DirectoryError, DirectoryError> {
        Ok(if self.look(&Part::Deleting.name(id))?.is_some() {
            DirectoryError::BeingDeleted(id.clone())
        } else if self.look(&Part::Partial.name(id))?.is_some() {
            DirectoryError::Partial(id.clone())
        } else {
            DirectoryError::NotFound(id.clone())
        })
    }

    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    pub(super) fn device(&self) -> Result<u64, DirectoryError> {
        Ok(identity(&self.dir)?.id.device)
    }

    /// What stands under a name, without following or opening it.
    pub(super) fn look(&self, name: &str) -> Result<Option<Found>, DirectoryError> {
        match rustix::fs::statx(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(stat) => Ok(Some(found(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).attempt(|| format!("look at `{name}` in the export")),
        }
    }

    /// Opens a directory; anything else under the name is an error that says so.
    pub(super) fn dir_at(&self, name: &str) -> Result<Option<OwnedFd>, DirectoryError> {
        match self.open_at(name, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(self.planted(name)?),
            Err(errno) => Err(errno).attempt(|| format!("open `{name}` in the export")),
        }
    }

    /// Opens a regular file for reading.
    pub(super) fn file_at(&self, name: &str, flags: OFlags) -> Result<Option<File>, DirectoryError> {
        let file = match self.open_at(name, flags | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => return Err(self.planted(name)?),
            Err(errno) => return Err(errno).attempt(|| format!("open `{name}` in the export")),
        };
        if identity(&file)?.kind != EntryKind::File {
            return Err(self.planted(name)?);
        }
        Ok(Some(File::from(file)))
    }

    /// Makes a new file that only we may read. What is ours and in the way is removed.
    pub(super) fn create_file(&self, name: &str) -> Result<File, DirectoryError> {
        self.remove(name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
            .attempt(|| format!("make `{name}` in the export"))?;
        Ok(File::from(file))
    }

    /// Makes a directory for us alone, or opens the one that is there.
    pub(super) fn make_dir(&self, name: &str) -> Result<OwnedFd, DirectoryError> {
        if self.look(name)?.is_some_and(|found| found.kind != EntryKind::Dir) {
            self.remove(name)?;
        }
        match rustix::fs::mkdirat(&self.dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).attempt(|| format!("make `{name}` in the export")),
        }
        let dir = self.dir_at(name)?.ok_or_else(|| DirectoryError::Swapped { name: name.into() })?;
        // Where somebody else made it, nobody else may look into it from now on. A server that knows no root keeps
        // owners to itself, and then the export is all the protection there is.
        let _ = rustix::fs::fchown(&dir, Some(rustix::process::geteuid()), None);
        let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
        Ok(dir)
    }

    fn open_at(&self, name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(
                &self.dir,
                name,
                flags | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
                beneath,
            ) {
                // A rename raced with the look-up.
                Err(Errno::AGAIN) if tries < 64 => tries += 1,
                Err(Errno::INTR) => {}
                answer => return answer,
            }
        }
    }

    /// Removes a file, a symlink or an empty directory. Nothing there is fine.
    pub(super) fn remove(&self, name: &str) -> Result<(), DirectoryError> {
        let answer = match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            // The two numbers are Linux's and POSIX's for a directory.
            Err(Errno::ISDIR | Errno::PERM) => rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR),
            answer => answer,
        };
        match answer {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(DirectoryError::Planted { name: name.into(), found: "a directory with something in it" })
            }
            Err(errno) => Err(errno).attempt(|| format!("remove `{name}` from the export")),
        }
    }

    /// Gives a directory another name that is free, and makes sure that it was this directory. `false`: the name is
    /// taken.
    pub(super) fn rename_dir(&self, dir: &OwnedFd, from: &str, to: &str) -> Result<bool, DirectoryError> {
        let frozen = thaw(dir)?;
        let renamed = match rustix::fs::renameat_with(&self.dir, from, &self.dir, to, RenameFlags::NOREPLACE) {
            // File systems that do not know the flag, NFS among them. A plain rename of a directory replaces at most an
            // empty directory, since anything else in its place is an error.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match self.look(to)? {
                Some(_) => Err(Errno::EXIST),
                None => rustix::fs::renameat(&self.dir, from, &self.dir, to),
            },
            answer => answer,
        };
        if let Some((tree, flags)) = frozen {
            DestTree::root(&tree).and_then(|root| root.set_flags(flags)).map_err(DirectoryError::Tree)?;
        }
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR | Errno::ISDIR) => return Ok(false),
            Err(errno) => return Err(errno).attempt(|| format!("rename `{from}` to `{to}` in the export")),
        }
        if self.look(to)?.map(|found| found.id) != Some(identity(dir)?.id) {
            return Err(DirectoryError::Swapped { name: to.into() });
        }
        Ok(true)
    }

    /// Makes names durable.
    pub(super) fn sync(&self) -> Result<(), DirectoryError> {
        match rustix::fs::fsync(&self.dir) {
            // Directories of some user-space file systems take no such call.
            Ok(()) | Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno).attempt(|| "make the names in the export durable".into()),
        }
    }

    /// Locks a directory for this process, as far as its file system can, and makes sure that it still has its name.
    pub(super) fn lock(&self, id: &BackupId, dir: &OwnedFd, name: &str) -> Result<(), DirectoryError> {
        for last in (1..=LOCK_TRIES).map(|number| number == LOCK_TRIES) {
            if rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK) {
                break;
            }
            if last {
                return Err(DirectoryError::Busy(id.clone()));
            }
            // A child that is just being started has a copy of a descriptor that was closed here.
            std::thread::sleep(LOCK_PAUSE);
        }
        if self.look(name)?.map(|found| found.id) != Some(identity(dir)?.id) {
            return Err(DirectoryError::Busy(id.clone()));
        }
        Ok(())
    }

    pub(super) fn planted(&self, name: &str) -> Result<DirectoryError, DirectoryError> {
        let found = match self.look(name)?.map(|found| found.kind) {
            Some(EntryKind::Symlink) => "a symlink",
            Some(EntryKind::Dir) => "a directory",
            Some(EntryKind::File) => "a file",
            Some(_) => "a special file",
            None => return Ok(DirectoryError::Swapped { name: name.into() }),
        };
        Ok(DirectoryError::Planted { name: name.into(), found })
    }
}

/// How often a lock is tried, and what lies between two tries.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Takes off the flags that forbid a directory to be renamed, which a share's root may have had, and tells them.
fn thaw(dir: &OwnedFd) -> Result<Option<(LocalTree, copy::InodeFlags)>, DirectoryError> {
    let stat = rustix::fs::statx(dir, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .attempt(|| "look at the backup's directory".into())?;
    let frozen = rustix::fs::StatxAttributes::IMMUTABLE | rustix::fs::StatxAttributes::APPEND;
    if !stat.stx_attributes.intersects(frozen) {
        return Ok(None);
    }
    let open = || {
        let tree = LocalTree::from_dir(dir.as_fd())?;
        let root = DestTree::root(&tree)?;
        let flags = root.node_flags()?.unwrap_or_default();
        root.set_flags(flags.without_freezing())?;
        Ok((tree, flags))
    };
    open().map(Some).map_err(DirectoryError::Tree)
}

/// What a descriptor holds.
pub(super) fn identity(fd: &OwnedFd) -> Result<Found, DirectoryError> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .attempt(|| "look at what was opened in the export".into())?;
    Ok(found(&stat))
}

fn found(stat: &rustix::fs::Statx) -> Found {
    let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
    Found {
        // What POSIX does not know is treated as a special file: never opened.
        kind: EntryKind::from_mode(u32::from(stat.stx_mode)).unwrap_or(EntryKind::Socket),
        id: FileId { device, inode: stat.stx_ino },
    }
}
