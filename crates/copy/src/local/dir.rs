//! Held directories: one descriptor each, given back and taken again where trees are deeper than the process may hold
//! open.

use std::any::Any;
use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::file::{Held, LocalFile, get_flags, node_by_descriptor};
use super::weakness::{self, Weakness};
use super::{LANE, Shared, no_follow, non_block, open_at, stat_at, stat_fd, sys, xattr};
use crate::error::{Context as _, ErrorClass, FsError, FsOp, FsResult};
use crate::meta::{EntryKind, FileId, InodeFlags, Metadata, Timestamp, Xattrs};
use crate::tree::{DestDir, DestFile, DestNode, ListCursor, NameBatch, SourceDir, SourceFile};

pub(super) type DirFd = OwnedFd;

/// One directory of a tree. It knows its parent and name, so that its descriptor can be had again.
#[derive(Debug)]
pub(super) struct LocalDir {
    shared: Arc<Shared>,
    parent: Option<Arc<Self>>,
    name: Box<[u8]>,
    id: FileId,
    /// One for each mount of the share; the first is always used for what concerns the directory itself.
    lanes: Box<[Mutex<Option<Arc<DirFd>>>]>,
}

const OPEN_DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl LocalDir {
    pub(super) fn root(shared: Arc<Shared>, fd: DirFd) -> FsResult<Self> {
        let id = stat_fd(&fd, FsOp::Stat)?.id;
        // The first `openat2` of the run: a kernel without it must not copy hostile trees.
        open_at(&fd, b".", OPEN_DIR | no_follow(), Mode::empty()).op(FsOp::Open)?;
        shared.open_dirs.fetch_add(1, Ordering::Relaxed);
        Ok(Self { shared, parent: None, name: Box::default(), id, lanes: Box::new([Mutex::new(Some(Arc::new(fd)))]) })
    }

    /// Adds another mount's descriptor of the same root.
    pub(super) fn add_lane(&mut self, fd: DirFd) -> FsResult<()> {
        if stat_fd(&fd, FsOp::Stat)?.id.inode != self.id.inode {
            return Err(FsError::found(FsOp::Open, ErrorClass::Changed));
        }
        let mut lanes = std::mem::take(&mut self.lanes).into_vec();
        lanes.push(Mutex::new(Some(Arc::new(fd))));
        self.lanes = lanes.into_boxed_slice();
        Ok(())
    }

    /// Every mount has write errors of its own to tell.
    pub(super) fn sync(&self) -> FsResult<()> {
        (0..self.lanes.len()).try_for_each(|lane| rustix::fs::syncfs(&*self.lane(lane)?).op(FsOp::Sync))
    }

    fn child(self: &Arc<Self>, name: &[u8], fd: DirFd, id: FileId) -> Arc<Self> {
        self.shared.open_dirs.fetch_add(1, Ordering::Relaxed);
        let mut lanes: Vec<_> = (0..self.lanes.len()).map(|_| Mutex::new(None)).collect();
        lanes[0] = Mutex::new(Some(Arc::new(fd)));
        Arc::new(Self {
            shared: self.shared.clone(),
            parent: Some(self.clone()),
            name: name.into(),
            id,
            lanes: lanes.into_boxed_slice(),
        })
    }

    /// The descriptor for what concerns the directory itself.
    fn fd(&self) -> FsResult<Arc<DirFd>> {
        self.lane(0)
    }

    /// The descriptor that the calling thread uses for entries.
    fn my(&self) -> FsResult<Arc<DirFd>> {
        if self.lanes.len() == 1 { self.lane(0) } else { self.lane(LANE.get() % self.lanes.len()) }
    }

    fn slot(&self, lane: usize) -> std::sync::MutexGuard<'_, Option<Arc<DirFd>>> {
        self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lane(&self, lane: usize) -> FsResult<Arc<DirFd>> {
        if let Some(fd) = &*self.slot(lane) {
            return Ok(fd.clone());
        }
        self.reopen(lane)
    }

    /// Opens the directory again from the nearest ancestor that is open, one component at a time, and makes sure that
    /// it is the same one: somebody may have put another in its place.
    fn reopen(&self, lane: usize) -> FsResult<Arc<DirFd>> {
        let mut missing: Vec<&Self> = vec![self];
        let mut base = None;
        while base.is_none() {
            let parent = missing[missing.len() - 1].parent.as_deref().expect("a root is never closed");
            base.clone_from(&parent.slot(lane));
            if base.is_none() {
                missing.push(parent);
            }
        }
        let mut fd = base.expect("the loop ends with one");
        while let Some(dir) = missing.pop() {
            let next = open_at(&fd, &dir.name, OPEN_DIR | no_follow(), Mode::empty()).op(FsOp::Open)?;
            fd = Arc::new(dir.checked(next)?);
        }
        Ok(self.keep(lane, fd))
    }

    fn checked(&self, fd: DirFd) -> FsResult<DirFd> {
        let id = stat_fd(&fd, FsOp::Open)?.id;
        // Further mounts of a share have device numbers of their own; a changed mount is told by the inode well enough.
        if id.inode != self.id.inode && !weakness::has(Weakness::TrustInode) {
            return Err(FsError::found(FsOp::Open, ErrorClass::Changed));
        }
        Ok(fd)
    }

    fn keep(&self, lane: usize, fd: Arc<DirFd>) -> Arc<DirFd> {
        let mut slot = self.slot(lane);
        if let Some(first) = &*slot {
            return first.clone();
        }
        self.shared.open_dirs.fetch_add(1, Ordering::Relaxed);
        *slot = Some(fd.clone());
        fd
    }

    /// Opens the parent by its child where the parent gave its descriptor back: one call instead of the whole way down.
    fn wake_parent(&self) {
        let Some(parent) = &self.parent else { return };
        if parent.slot(0).is_some() {
            return;
        }
        let Some(fd) = self.slot(0).clone() else { return };
        // `..` is safe here only because `checked` compares the inode; what fails is opened from above when needed.
        let open = OPEN_DIR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(fd) = rustix::fs::openat(&fd, "..", open, Mode::empty())
            && let Ok(fd) = parent.checked(fd)
        {
            parent.keep(0, Arc::new(fd));
        }
    }

    /// Flags for reading without leaving a trace in the access times, where that is allowed.
    fn quiet(&self) -> OFlags {
        if self.shared.no_atime.load(Ordering::Relaxed) { OFlags::NOATIME } else { OFlags::empty() }
    }

    fn open_quietly(&self, name: &[u8], flags: OFlags) -> Result<DirFd, Errno> {
        let fd = self.my().map_err(|e| Errno::from_raw_os_error(e.errno.max(1)))?;
        let quiet = self.quiet();
        match open_at(&fd, name, flags | quiet, Mode::empty()) {
            Err(Errno::PERM) if !quiet.is_empty() => {
                self.shared.no_atime.store(false, Ordering::Relaxed);
                open_at(&fd, name, flags, Mode::empty())
            }
            answer => answer,
        }
    }

    fn open_child(self: &Arc<Self>, name: &[u8]) -> FsResult<Arc<Self>> {
        self.open_and_look(name).map(|(dir, _)| dir)
    }

    fn open_and_look(self: &Arc<Self>, name: &[u8]) -> FsResult<(Arc<Self>, Metadata)> {
        let fd = self.open_quietly(name, OPEN_DIR | no_follow() | OFlags::NONBLOCK).op(FsOp::Open)?;
        let meta = stat_fd(&fd, FsOp::Stat)?;
        Ok((self.child(name, fd, meta.id), meta))
    }
}

impl Drop for LocalDir {
    /// Lets go of the ancestors one after another: a chain of a million must not become a million stack frames.
    fn drop(&mut self) {
        let open: usize = self.lanes.iter_mut().map(|l| usize::from(l.get_mut().is_ok_and(|fd| fd.is_some()))).sum();
        self.shared.open_dirs.fetch_sub(open, Ordering::Relaxed);
        let mut next = self.parent.take();
        while let Some(dir) = next {
            next = Arc::into_inner(dir).and_then(|mut dir| dir.parent.take());
        }
    }
}

thread_local! {
    static LISTING: RefCell<Vec<MaybeUninit<u8>>> = RefCell::new(vec![MaybeUninit::uninit(); 32 << 10]);
}

fn kind_of(file_type: FileType) -> Option<EntryKind> {
    Some(match file_type {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Dir,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Unknown => return None,
    })
}

impl SourceDir for Arc<LocalDir> {
    fn metadata(&self) -> FsResult<Metadata> {
        stat_fd(&*self.fd()?, FsOp::Stat)
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        self.node_xattrs()
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        get_flags(&*self.fd()?)
    }

    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool> {
        let fd = self.fd()?;
        // A paused listing holds no buffer: it goes on from the cookie of the last name that was taken.
        rustix::fs::seek(&*fd, SeekFrom::Start(cursor.0)).op(FsOp::List)?;
        let full = names.len() + limit;
        LISTING.with_borrow_mut(|buffer| {
            let mut entries = RawDir::new(&*fd, buffer);
            while let Some(entry) = entries.next() {
                let entry = entry.op(FsOp::List)?;
                let name = entry.file_name().to_bytes();
                if name != b"." && name != b".." {
                    names.push(name, kind_of(entry.file_type()));
                }
                cursor.0 = entry.next_entry_cookie();
                if names.len() >= full {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn stat(&self, name: &[u8]) -> FsResult<Metadata> {
        stat_at(&*self.my()?, name)
    }

    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        Ok(Arc::new(self.open_child(name)?))
    }

    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        let flags = OFlags::RDONLY | no_follow() | non_block() | OFlags::NOCTTY;
        let fd = self.open_quietly(name, flags).map_err(|errno| match errno {
            // A symlink or a socket now stands where a file was listed.
            Errno::LOOP | Errno::NXIO | Errno::NODEV => FsError::found(FsOp::Open, ErrorClass::Changed),
            errno => FsError::new(FsOp::Open, errno),
        })?;
        let meta = stat_fd(&fd, FsOp::Stat)?;
        if meta.kind != EntryKind::File && !weakness::has(Weakness::TrustListing) {
            return Err(FsError::found(FsOp::Open, ErrorClass::Changed));
        }
        Ok((Box::new(LocalFile { fd }), meta))
    }

    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        rustix::fs::readlinkat(&*self.my()?, name, Vec::new()).op(FsOp::ReadLink).map(std::ffi::CString::into_bytes)
    }

    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs> {
        let fd = self.my()?;
        let name = xattr::c_name(name, FsOp::ListXattrs)?;
        xattr::read_all(sys::At { fd: fd.as_fd(), name: &name, held: false })
    }

    fn park(&self) {
        if self.parent.is_some() && self.shared.open_dirs.load(Ordering::Relaxed) > self.shared.open_dirs_max {
            for lane in 0..self.lanes.len() {
                if self.slot(lane).take().is_some() {
                    self.shared.open_dirs.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn leave(&self) {
        self.wake_parent();
        // Somebody may hold this handle still, for a name to show; the way up must not open what is closed below.
        self.park();
    }
}

node_by_descriptor!(Arc<LocalDir>, |this| this.fd()?);

impl DestDir for Arc<LocalDir> {
    fn create_dir(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        rustix::fs::mkdirat(&*self.my()?, name, Mode::RWXU).op(FsOp::MakeDir)?;
        weakness::pause(Weakness::InheritRights);
        let (dir, meta) = self.open_and_look(name)?;
        // Between the two calls somebody may have put a directory of his own here, whose group and ACL new entries
        // would inherit. Then it was there before us, and is treated so.
        let is_ours = meta.uid == rustix::process::geteuid().as_raw() && meta.mode.trailing_zeros() >= 6;
        if !is_ours && !weakness::has(Weakness::InheritRights) {
            return Err(FsError::found(FsOp::MakeDir, ErrorClass::Exists));
        }
        Ok(Arc::new(dir))
    }

    fn descend(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        Ok(Arc::new(self.open_child(name)?))
    }

    fn create_file(&self, name: &[u8], mode: u32) -> FsResult<Box<dyn DestFile>> {
        let exclusive = if weakness::has(Weakness::FollowSymlinks) { OFlags::empty() } else { OFlags::EXCL };
        let flags = OFlags::RDWR | OFlags::CREATE | exclusive | no_follow() | OFlags::NOCTTY;
        let fd = open_at(&*self.my()?, name, flags, Mode::from_raw_mode(mode)).op(FsOp::Create)?;
        Ok(Box::new(LocalFile { fd }))
    }

    fn open_existing(&self, name: &[u8]) -> FsResult<Box<dyn DestFile>> {
        let flags = OFlags::RDWR | no_follow() | non_block() | OFlags::NOCTTY;
        let fd = open_at(&*self.my()?, name, flags, Mode::empty()).op(FsOp::Open)?;
        if stat_fd(&fd, FsOp::Stat)?.kind != EntryKind::File {
            return Err(FsError::found(FsOp::Open, ErrorClass::Changed));
        }
        Ok(Box::new(LocalFile { fd }))
    }

    fn hold(&self, name: &[u8]) -> FsResult<Box<dyn DestNode>> {
        let follow = if weakness::has(Weakness::AttributesByName) { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::CLOEXEC | follow;
        // Not `open_at`: NO_SYMLINKS refuses to hold a symlink itself, and a single name cannot lead anywhere else.
        let fd = rustix::fs::openat(&*self.my()?, name, flags, Mode::empty()).op(FsOp::Open)?;
        Ok(Box::new(Held { fd }))
    }

    fn create_symlink(&self, target: &[u8], name: &[u8]) -> FsResult<()> {
        rustix::fs::symlinkat(target, &*self.my()?, name).op(FsOp::MakeSymlink)
    }

    fn create_node(&self, name: &[u8], kind: EntryKind, rdev: u64) -> FsResult<()> {
        let file_type = FileType::from_raw_mode(kind.mode_bits());
        rustix::fs::mknodat(&*self.my()?, name, file_type, Mode::RUSR | Mode::WUSR, rdev).op(FsOp::MakeNode)
    }

    fn link_from(&self, from: &dyn DestDir, from_name: &[u8], name: &[u8]) -> FsResult<()> {
        let from = from.as_any().downcast_ref::<Self>().expect("both directories belong to one tree");
        // Both on the calling thread's mount: a link cannot lead from one mount to another.
        rustix::fs::linkat(&*from.my()?, from_name, &*self.my()?, name, AtFlags::empty()).op(FsOp::Link)
    }

    fn remove_file(&self, name: &[u8]) -> FsResult<()> {
        rustix::fs::unlinkat(&*self.my()?, name, AtFlags::empty()).op(FsOp::Remove)
    }

    fn remove_dir(&self, name: &[u8]) -> FsResult<()> {
        rustix::fs::unlinkat(&*self.my()?, name, AtFlags::REMOVEDIR).op(FsOp::Remove)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
