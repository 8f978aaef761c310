//! Open files and held inodes.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, Gid, IFlags, Mode, OFlags, SeekFrom, StatxFlags, Timespec, Timestamps, Uid,
};
use rustix::io::Errno;

use super::{stat_fd, stat_fd_mask, sys, xattr};
use crate::error::{Context as _, FsError, FsOp, FsResult};
use crate::meta::{InodeFlags, Metadata, Timestamp, Xattrs};
use crate::tree::{DestFile, DestNode, SourceFile};

/// A regular file that is open for reading or writing.
#[derive(Debug)]
pub(super) struct LocalFile {
    pub(super) fd: OwnedFd,
}

/// An inode that is held by `O_PATH`: its attributes can be set, its content is out of reach.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) fd: OwnedFd,
}

/// What tells one state of a file's content from another.
const CONTENT_STATE: StatxFlags =
    StatxFlags::TYPE.union(StatxFlags::INO).union(StatxFlags::SIZE).union(StatxFlags::MTIME).union(StatxFlags::CTIME);

fn inode(fd: &OwnedFd) -> sys::At<'_> {
    sys::At { fd: fd.as_fd(), name: c"", held: false }
}

fn held(fd: &OwnedFd) -> sys::At<'_> {
    sys::At { held: true, ..inode(fd) }
}

impl SourceFile for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> FsResult<usize> {
        rustix::io::pread(&self.fd, buffer, offset).op(FsOp::Read)
    }

    fn next_data(&self, from: u64) -> FsResult<Option<Range<u64>>> {
        // Beyond the largest signed offset there is nothing.
        if i64::try_from(from).is_err() {
            return Ok(None);
        }
        let start = match rustix::fs::seek(&self.fd, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(FsError::new(FsOp::SeekData, errno)),
        };
        match rustix::fs::seek(&self.fd, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some(start..end.max(start))),
            // The file shrank between the two calls.
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(FsError::new(FsOp::SeekData, errno)),
        }
    }

    fn metadata(&self) -> FsResult<Metadata> {
        stat_fd(&self.fd, FsOp::Stat)
    }

    fn content_state(&self) -> FsResult<Metadata> {
        stat_fd_mask(&self.fd, FsOp::Stat, CONTENT_STATE)
    }

    fn xattrs(&self) -> FsResult<Xattrs> {
        xattr::read_all(inode(&self.fd))
    }

    fn flags(&self) -> FsResult<Option<InodeFlags>> {
        get_flags(&self.fd)
    }

    fn unwritten(&self) -> FsResult<Vec<Range<u64>>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let found = sys::unwritten_extents(self.fd.as_fd(), |start, len| match ranges.last_mut() {
            Some(last) if last.end == start => last.end += len,
            _ => ranges.push(start..start + len),
        });
        match found {
            Ok(()) => Ok(ranges),
            Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL) => Ok(Vec::new()),
            Err(errno) => Err(FsError::new(FsOp::Allocate, errno)),
        }
    }

    fn will_read_all(&self) {
        let _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::Sequential);
    }

    fn bypass_cache(&self) {
        // Refused where direct reads are not possible; then the page cache is used as ever.
        if let Ok(flags) = rustix::fs::fcntl_getfl(&self.fd) {
            let _ = rustix::fs::fcntl_setfl(&self.fd, flags | OFlags::DIRECT);
        }
    }

    fn cached(&self) -> Option<f64> {
        let size = self.metadata().ok()?.size_bytes;
        let pages = size.div_ceil(rustix::param::page_size() as u64);
        if pages == 0 {
            return Some(0.0);
        }
        Some(sys::cached_pages(self.fd.as_fd(), size)? as f64 / pages as f64)
    }

    fn thaw(&self) -> FsResult<()> {
        match get_flags(&self.fd)? {
            Some(flags) if flags.freezes() => put_flags(&self.fd, flags.without_freezing()),
            _ => Ok(()),
        }
    }

    fn forget_cache(&self) {
        // Advice: whether it was followed is what `cached` tells.
        let _ = rustix::fs::fadvise(&self.fd, 0, None, Advice::DontNeed);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

/// Makes `dest` share all blocks of `source`.
pub(crate) fn clone_file(source: BorrowedFd<'_>, dest: BorrowedFd<'_>) -> FsResult<()> {
    rustix::fs::ioctl_ficlone(dest, source).op(FsOp::Clone)
}

/// Lets the kernel or the server copy; fewer bytes than asked for, or none, is an answer.
pub(crate) fn copy_range(source: BorrowedFd<'_>, dest: BorrowedFd<'_>, range: Range<u64>) -> FsResult<usize> {
    let (mut from, mut to) = (range.start, range.start);
    let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    rustix::fs::copy_file_range(source, Some(&mut from), dest, Some(&mut to), len).op(FsOp::CopyRange)
}

/// Flags by `ioctl`; `None` where the file system has none.
pub(super) fn get_flags(fd: &OwnedFd) -> FsResult<Option<InodeFlags>> {
    match rustix::fs::ioctl_getflags(fd) {
        Ok(flags) => Ok(Some(InodeFlags(flags.bits()))),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(None),
        Err(errno) => Err(FsError::new(FsOp::GetFlags, errno)),
    }
}

/// Sets the flags that a copy carries and leaves the others as the file system chose them.
pub(super) fn put_flags(fd: &OwnedFd, flags: InodeFlags) -> FsResult<()> {
    let now = InodeFlags(rustix::fs::ioctl_getflags(fd).op(FsOp::GetFlags)?.bits());
    let wanted = now.0 & !now.carried().0 | flags.carried().0;
    if wanted == now.0 {
        return Ok(());
    }
    rustix::fs::ioctl_setflags(fd, IFlags::from_bits_retain(wanted)).op(FsOp::SetFlags)
}

pub(super) fn timestamps(atime: Timestamp, mtime: Timestamp) -> Timestamps {
    let spec = |t: Timestamp| Timespec { tv_sec: t.seconds, tv_nsec: i64::from(t.nanos) };
    Timestamps { last_access: spec(atime), last_modification: spec(mtime) }
}

/// Owner and group for a call; every number is a real one, none means "leave it".
pub(super) fn owner(uid: u32, gid: u32) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// What open files and open directories have in common as inodes.
macro_rules! node_by_descriptor {
    ($type:ty, |$this:ident| $fd:expr) => {
        impl DestNode for $type {
            fn node_metadata(&self) -> FsResult<Metadata> {
                let $this = self;
                stat_fd(&*$fd, FsOp::Stat)
            }

            fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()> {
                let $this = self;
                let (uid, gid) = crate::local::file::owner(uid, gid);
                rustix::fs::fchown(&*$fd, uid, gid).op(FsOp::SetOwner)
            }

            fn set_mode(&self, mode: u32) -> FsResult<()> {
                let $this = self;
                rustix::fs::fchmod(&*$fd, Mode::from_raw_mode(mode)).op(FsOp::SetMode)
            }

            fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()> {
                let $this = self;
                rustix::fs::futimens(&*$fd, &crate::local::file::timestamps(atime, mtime)).op(FsOp::SetTimes)
            }

            fn node_xattrs(&self) -> FsResult<Xattrs> {
                let $this = self;
                xattr::read_all(sys::At { fd: (*$fd).as_fd(), name: c"", held: false })
            }

            fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()> {
                let $this = self;
                xattr::set(sys::At { fd: (*$fd).as_fd(), name: c"", held: false }, name, value)
            }

            fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
                let $this = self;
                xattr::remove(sys::At { fd: (*$fd).as_fd(), name: c"", held: false }, name)
            }

            fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
                let $this = self;
                crate::local::file::get_flags(&*$fd)
            }

            fn set_flags(&self, flags: InodeFlags) -> FsResult<()> {
                let $this = self;
                crate::local::file::put_flags(&*$fd, flags)
            }
        }
    };
}
pub(super) use node_by_descriptor;

node_by_descriptor!(LocalFile, |this| &this.fd);

impl DestFile for LocalFile {
    fn write_at(&self, buffer: &[u8], offset: u64) -> FsResult<usize> {
        rustix::io::pwrite(&self.fd, buffer, offset).op(FsOp::Write)
    }

    fn set_len(&self, size_bytes: u64) -> FsResult<()> {
        rustix::fs::ftruncate(&self.fd, size_bytes).op(FsOp::Truncate)
    }

    fn allocate(&self, range: Range<u64>) -> FsResult<()> {
        rustix::fs::fallocate(&self.fd, FallocateFlags::KEEP_SIZE, range.start, range.end - range.start)
            .op(FsOp::Allocate)
    }

    fn start_writeback(&self, range: Range<u64>) {
        sys::start_writeback(self.fd.as_fd(), range.start, range.end - range.start);
    }

    fn close(self: Box<Self>) -> FsResult<()> {
        sys::close(self.fd).op(FsOp::Close)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

impl DestNode for Held {
    fn node_metadata(&self) -> FsResult<Metadata> {
        stat_fd(&self.fd, FsOp::Stat)
    }

    fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()> {
        let (uid, gid) = owner(uid, gid);
        rustix::fs::chownat(&self.fd, "", uid, gid, AtFlags::EMPTY_PATH).op(FsOp::SetOwner)
    }

    fn set_mode(&self, mode: u32) -> FsResult<()> {
        sys::chmod_held(self.fd.as_fd(), mode).op(FsOp::SetMode)
    }

    fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()> {
        rustix::fs::utimensat(&self.fd, "", &timestamps(atime, mtime), AtFlags::EMPTY_PATH).op(FsOp::SetTimes)
    }

    fn node_xattrs(&self) -> FsResult<Xattrs> {
        xattr::read_all(held(&self.fd))
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()> {
        xattr::set(held(&self.fd), name, value)
    }

    fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
        xattr::remove(held(&self.fd), name)
    }

    /// Flags need an open file, which a special file must not become.
    fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
        Ok(None)
    }

    fn set_flags(&self, _flags: InodeFlags) -> FsResult<()> {
        Err(FsError::new(FsOp::SetFlags, Errno::OPNOTSUPP))
    }
}
