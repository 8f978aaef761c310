//! The port between the engine and storage: trees are walked by directory handles, one name at a time.
//!
//! An implementation must not resolve anything but a single plain name below the handle it was called on, must not
//! follow symlinks, and must not open special files. The engine checks names before it passes them.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::error::FsResult;
use crate::meta::{EntryKind, InodeFlags, Metadata, Timestamp, Xattrs};

/// What is known of a whole tree before it is walked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFacts {
    /// Where the tree is: for people, and to find what is remembered of it.
    pub location: Vec<u8>,
    /// The file system's type, for people: `ext4`, `nfs`, `fuse`.
    pub fs_type: String,
    /// Every operation is a round trip: many should be in flight.
    pub is_network: bool,
    /// Bytes and inodes in use on the whole file system; the estimate of the tree's size until the scan ends.
    pub used_bytes: u64,
    pub used_entries: u64,
    pub free_bytes: u64,
    /// `None` where the file system makes inodes as it needs them.
    pub free_entries: Option<u64>,
    pub name_bytes_max: u32,
    pub case_insensitive: bool,
    pub xattrs: bool,
    pub acls: bool,
    pub inode_flags: bool,
    /// `SEEK_DATA` finds holes. False for file systems that call everything data (`CephFS`).
    pub reports_holes: bool,
    /// Device number of the root, to see whether two trees share a file system.
    pub device: u64,
    pub read_only: bool,
    /// Mode bits that the process's umask takes from what it creates.
    pub umask: u32,
}

impl TreeFacts {
    /// Facts of a small, capable, local tree; memory trees start from it.
    pub fn plain(fs_type: &str) -> Self {
        Self {
            location: fs_type.into(),
            fs_type: fs_type.into(),
            is_network: false,
            used_bytes: 0,
            used_entries: 0,
            free_bytes: u64::MAX,
            free_entries: None,
            name_bytes_max: 255,
            case_insensitive: false,
            xattrs: true,
            acls: true,
            inode_flags: false,
            reports_holes: true,
            device: 0,
            read_only: false,
            umask: 0,
        }
    }
}

/// Names of one stretch of a directory, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct NameBatch {
    bytes: Vec<u8>,
    items: Vec<NameItem>,
}

#[derive(Clone, Copy, Debug)]
struct NameItem {
    start: u32,
    len: u16,
    kind: Option<EntryKind>,
}

impl NameBatch {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a name; `kind` is what the directory says, which may be nothing.
    pub fn push(&mut self, name: &[u8], kind: Option<EntryKind>) {
        self.items.push(NameItem { start: self.bytes.len() as u32, len: name.len() as u16, kind });
        self.bytes.extend_from_slice(name);
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<EntryKind>)> {
        self.items.iter().map(|item| {
            let start = item.start as usize;
            (&self.bytes[start..start + usize::from(item.len)], item.kind)
        })
    }
}

/// A place in a directory's listing; zero is its beginning. Opaque to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ListCursor(pub u64);

/// A tree that is read.
pub trait SourceTree: Send + Sync + Debug {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>>;
    fn facts(&self) -> &TreeFacts;
    /// More threads at once than this only cost memory: for trees of which reading is work for the processor.
    /// `is_network`: one of the two sides is behind a network, and threads wait most of the time.
    fn workers_max(&self, is_network: bool) -> usize {
        let _ = is_network;
        usize::MAX
    }
}

/// A held directory of a tree.
pub trait SourceDir: Send + Sync + Debug {
    /// The directory's own attributes, now.
    fn metadata(&self) -> FsResult<Metadata>;
    fn own_xattrs(&self) -> FsResult<Xattrs>;
    /// `None` where the file system has no inode flags.
    fn own_flags(&self) -> FsResult<Option<InodeFlags>>;
    /// Appends about `limit` names from `cursor` on and moves it; `true` when there are no more.
    ///
    /// `.` and `..` are left out. Names that are not plain are passed on: the engine reports them.
    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool>;
    fn stat(&self, name: &[u8]) -> FsResult<Metadata>;
    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>>;
    /// Opens a regular file for reading and tells its attributes as they are after the opening.
    ///
    /// Anything that is not a regular file gives [`ErrorClass::Changed`](crate::ErrorClass::Changed).
    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)>;
    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>>;
    /// Extended attributes of an entry of any kind, without opening or following it.
    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs>;
    /// A hint that only subdirectories are being worked on: the implementation may give its descriptor back and take
    /// it again later.
    fn park(&self) {}
    /// A hint that this directory is done and its parent is used next.
    fn leave(&self) {}
}

/// An open regular file of a tree that is read.
pub trait SourceFile: Send + Sync + Debug {
    /// Reads at `offset`; zero bytes means the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> FsResult<usize>;
    /// The next stretch of data at or after `from`; `None` when only a hole follows.
    fn next_data(&self, from: u64) -> FsResult<Option<Range<u64>>>;
    fn metadata(&self) -> FsResult<Metadata>;
    /// Attributes of which only size, times of change and identity must be of now. Reading moves the access time, and
    /// asking a server for that again would cost a round trip a file.
    fn content_state(&self) -> FsResult<Metadata> {
        self.metadata()
    }
    fn xattrs(&self) -> FsResult<Xattrs>;
    fn flags(&self) -> FsResult<Option<InodeFlags>>;
    /// Stretches that are allocated but were never written, also beyond the end of the file; empty where unknown.
    fn unwritten(&self) -> FsResult<Vec<Range<u64>>> {
        Ok(Vec::new())
    }
    /// A hint that the file is read from its beginning to its end.
    fn will_read_all(&self) {}
    /// Fraction of the file that is in memory already, where the kernel tells.
    fn cached(&self) -> Option<f64> {
        None
    }
    /// Forgets what of the file is in memory, so that the next read comes from storage. Best effort.
    fn forget_cache(&self) {}
    /// A hint that every byte is read once, in large stretches: the page cache would only cost.
    fn bypass_cache(&self) {}
    /// Takes off the inode flags that forbid changes. For files of a destination, which can be read, too.
    fn thaw(&self) -> FsResult<()> {
        Ok(())
    }
    /// A descriptor opens the kernel's own movers: reflink and `copy_file_range`.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Setting attributes on one inode that is held, whatever its name is by now.
pub trait DestNode: Send + Sync + Debug {
    fn node_metadata(&self) -> FsResult<Metadata>;
    fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()>;
    fn set_mode(&self, mode: u32) -> FsResult<()>;
    fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()>;
    fn node_xattrs(&self) -> FsResult<Xattrs>;
    fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()>;
    fn remove_xattr(&self, name: &[u8]) -> FsResult<()>;
    fn node_flags(&self) -> FsResult<Option<InodeFlags>>;
    fn set_flags(&self, flags: InodeFlags) -> FsResult<()>;
}

/// A tree that is written.
pub trait DestTree: Send + Sync + Debug {
    fn root(&self) -> FsResult<Arc<dyn DestDir>>;
    fn facts(&self) -> &TreeFacts;
    /// Makes everything written so far durable, and tells of writes that storage lost since the last call.
    fn sync(&self) -> FsResult<()>;
}

/// A held directory of a tree that is written. It can be read as a source can: comparing and resuming need that.
pub trait DestDir: SourceDir + DestNode {
    /// Makes a directory for the owner alone (0700) and opens it.
    fn create_dir(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>>;
    fn descend(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>>;
    /// Makes a new regular file with at most `mode`; an entry of that name is an error.
    fn create_file(&self, name: &[u8], mode: u32) -> FsResult<Box<dyn DestFile>>;
    /// Opens an existing regular file for writing, without truncating it.
    fn open_existing(&self, name: &[u8]) -> FsResult<Box<dyn DestFile>>;
    /// Holds an entry of any kind, without opening it, to set its attributes.
    fn hold(&self, name: &[u8]) -> FsResult<Box<dyn DestNode>>;
    fn create_symlink(&self, target: &[u8], name: &[u8]) -> FsResult<()>;
    /// Makes a FIFO, socket or device, accessible to the owner alone.
    fn create_node(&self, name: &[u8], kind: EntryKind, rdev: u64) -> FsResult<()>;
    /// Gives the entry `from_name` of `from`, a directory of the same tree, a second name here.
    fn link_from(&self, from: &dyn DestDir, from_name: &[u8], name: &[u8]) -> FsResult<()>;
    /// Removes an entry that is not a directory.
    fn remove_file(&self, name: &[u8]) -> FsResult<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, name: &[u8]) -> FsResult<()>;
    /// The concrete directory, for implementations that must recognise their own in [`DestDir::link_from`].
    fn as_any(&self) -> &dyn Any;
}

/// An open regular file of a tree that is written.
pub trait DestFile: DestNode {
    /// Writes at `offset`; fewer bytes than given is an answer, zero is too.
    fn write_at(&self, buffer: &[u8], offset: u64) -> FsResult<usize>;
    fn set_len(&self, size_bytes: u64) -> FsResult<()>;
    /// Allocates space without writing it; the size stays.
    fn allocate(&self, range: Range<u64>) -> FsResult<()>;
    /// Asks storage to begin writing the range out. Best effort.
    fn start_writeback(&self, range: Range<u64>);
    /// Closes the file and tells of writes that failed on the way.
    fn close(self: Box<Self>) -> FsResult<()>;
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
