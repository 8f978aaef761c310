//! Trees on file systems, by descriptors only: every name is resolved alone, below a held directory, never through a
//! symlink. Paths appear once, where the caller names the two roots.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::error::{Context as _, CopyError, ErrorClass, FsError, FsOp, FsResult};
use crate::meta::{EntryKind, FileId, Metadata, Timestamp};
use crate::tree::{DestDir, DestTree, SourceDir, SourceTree, TreeFacts};

mod dir;
mod facts;
mod file;
mod sys;
mod weakness;
mod xattr;

use dir::{DirFd, LocalDir};
pub(crate) use file::{clone_file, copy_range};
pub(crate) use sys::{cpu_seconds, raise_open_files_limit};
pub(crate) use weakness::has as has_weakness;
pub use weakness::{Weakness, weaken};

/// A directory tree of a mounted file system.
#[derive(Debug)]
pub struct LocalTree {
    facts: TreeFacts,
    root: Arc<LocalDir>,
}

/// What the directories of one tree share.
#[derive(Debug)]
struct Shared {
    /// Directories whose descriptors are open.
    open_dirs: AtomicUsize,
    /// Above it directories that only wait for their subdirectories give their descriptors back.
    open_dirs_max: usize,
    /// Whether reading leaves the access times alone. Only the owner and root may ask for it.
    no_atime: AtomicBool,
}

/// Descriptors that a tree may hold for directories, whatever the limit of the process; deeper trees are reopened
/// step by step on the way back.
const OPEN_DIRS_MAX: u64 = 12_000;

impl LocalTree {
    /// Opens an existing directory for reading. A symlink as the last component is followed: the caller named it.
    pub fn open_source(path: &Path) -> Result<Self, CopyError> {
        let fd = open_root(path).map_err(CopyError::OpenSource)?;
        Self::from_root(fd).map_err(CopyError::OpenSource)
    }

    /// Opens a directory for writing; makes it (not its parents) where it is missing.
    pub fn open_dest(path: &Path) -> Result<Self, CopyError> {
        let fd = match open_root(path) {
            Err(error) if error.class == ErrorClass::NotFound => {
                rustix::fs::mkdirat(CWD, path, Mode::RWXU).op(FsOp::MakeDir).and_then(|()| open_root(path))
            }
            answer => answer,
        };
        Self::from_root(fd.map_err(CopyError::OpenDest)?).map_err(CopyError::OpenDest)
    }

    /// A tree whose root is a directory that the caller holds already, for reading and for writing.
    pub fn from_dir(dir: std::os::fd::BorrowedFd<'_>) -> FsResult<Self> {
        // A root is listed from its beginning, whatever the caller did with the descriptor; one that was opened for its
        // place alone cannot be.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self::from_root(rustix::fs::openat(dir, ".", flags, Mode::empty()).op(FsOp::Open)?)
    }

    /// Adds a further mount of the same share, with a superblock of its own: creates in one directory, which a client
    /// sends one after another per superblock, then run side by side.
    pub fn add_lane(&mut self, path: &Path) -> Result<(), CopyError> {
        let add = || {
            let fd = open_root(path)?;
            let root = Arc::get_mut(&mut self.root).ok_or(FsError::found(FsOp::Open, ErrorClass::Other))?;
            root.add_lane(fd)
        };
        let mut add = add;
        add().map_err(CopyError::OpenDest)
    }

    fn from_root(fd: DirFd) -> FsResult<Self> {
        use std::os::fd::AsFd as _;
        let facts = facts::read(fd.as_fd())?;
        let limit = raise_open_files_limit();
        let shared = Shared {
            open_dirs: AtomicUsize::new(0),
            // Two trees, and a part left for files and for the rest of the process.
            open_dirs_max: (limit / 3).min(OPEN_DIRS_MAX) as usize,
            no_atime: AtomicBool::new(true),
        };
        Ok(Self { facts, root: Arc::new(LocalDir::root(Arc::new(shared), fd)?) })
    }
}

impl SourceTree for LocalTree {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        Ok(Arc::new(self.root.clone()))
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }
}

impl DestTree for LocalTree {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        Ok(Arc::new(self.root.clone()))
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }

    fn sync(&self) -> FsResult<()> {
        self.root.sync()
    }
}

fn open_root(path: &Path) -> FsResult<DirFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // Listing a root must not change its access time either; only its owner and root may ask for that.
    match rustix::fs::openat(CWD, path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(CWD, path, flags, Mode::empty()),
        answer => answer,
    }
    .op(FsOp::Open)
}

/// The path as the kernel knows it, whatever way the caller took; for people, and to find what is remembered.
fn location(root: std::os::fd::BorrowedFd<'_>) -> FsResult<Vec<u8>> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(rustix::fs::readlinkat(CWD, link, Vec::new()).op(FsOp::Open)?.into_bytes())
}

/// How every name is resolved: below the held directory, through no symlink of any kind.
fn beneath() -> ResolveFlags {
    if follows_symlinks() {
        return ResolveFlags::empty();
    }
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

fn no_follow() -> OFlags {
    if follows_symlinks() { OFlags::empty() } else { OFlags::NOFOLLOW }
}

fn follows_symlinks() -> bool {
    weakness::has(Weakness::FollowSymlinks) || weakness::has(Weakness::RemoveByName)
}

fn non_block() -> OFlags {
    if weakness::has(Weakness::BlockOnOpen) { OFlags::empty() } else { OFlags::NONBLOCK }
}

/// `openat2` tells a resolution that raced with a rename by EAGAIN; the next look most often succeeds.
const RESOLVE_TRIES: u32 = 64;

fn open_at(dir: &DirFd, name: &[u8], flags: OFlags, mode: Mode) -> Result<DirFd, Errno> {
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(dir, name, flags | OFlags::CLOEXEC, mode, beneath()) {
            Err(Errno::AGAIN) if tries < RESOLVE_TRIES => tries += 1,
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}

fn stat_fd(fd: &DirFd, op: FsOp) -> FsResult<Metadata> {
    stat_fd_mask(fd, op, StatxFlags::BASIC_STATS)
}

/// Asks for some attributes only; the others may be of an earlier time.
fn stat_fd_mask(fd: &DirFd, op: FsOp, mask: StatxFlags) -> FsResult<Metadata> {
    let stat = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, mask).op(op)?;
    metadata(&stat)
}

fn stat_at(dir: &DirFd, name: &[u8]) -> FsResult<Metadata> {
    let flags = if weakness::has(Weakness::FollowSymlinks) { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS).op(FsOp::Stat)?;
    metadata(&stat)
}

fn metadata(stat: &Statx) -> FsResult<Metadata> {
    let mode = u32::from(stat.stx_mode);
    let kind = EntryKind::from_mode(mode).ok_or(FsError::found(FsOp::Stat, ErrorClass::Unsupported))?;
    let time = |t: rustix::fs::StatxTimestamp| Timestamp { seconds: t.tv_sec, nanos: t.tv_nsec };
    Ok(Metadata {
        kind,
        mode: mode & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size_bytes: stat.stx_size,
        allocated_bytes: stat.stx_blocks * 512,
        atime: time(stat.stx_atime),
        mtime: time(stat.stx_mtime),
        ctime: time(stat.stx_ctime),
        rdev: rustix::fs::makedev(stat.stx_rdev_major, stat.stx_rdev_minor),
        links: stat.stx_nlink,
        id: FileId { device: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), inode: stat.stx_ino },
        attributes: stat.stx_attributes.bits() & stat.stx_attributes_mask.bits(),
    })
}

thread_local! {
    /// Which of a tree's mounts this thread uses.
    static LANE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Gives the calling thread a mount of its own where a tree has several.
pub(crate) fn set_lane(lane: usize) {
    LANE.set(lane);
}
