//! A destination that is not there yet, for dry runs: an empty directory that nobody made and nothing can be put into.

use std::any::Any;
use std::sync::Arc;

use copy::tree::{DestDir, DestFile, DestNode, DestTree, ListCursor, NameBatch, SourceDir, SourceFile, TreeFacts};
use copy::{EntryKind, ErrorClass, FileId, FsError, FsOp, FsResult, InodeFlags, Metadata, Timestamp, Xattrs};
use rustix::io::Errno;

/// Has the facts of the file system that it would be made on.
#[derive(Debug)]
pub struct EmptyDest {
    facts: TreeFacts,
    root: Arc<EmptyDir>,
}

#[derive(Debug)]
struct EmptyDir {
    metadata: Metadata,
}

impl EmptyDest {
    pub fn new(facts: TreeFacts) -> Self {
        let metadata = Metadata {
            kind: EntryKind::Dir,
            mode: 0o700,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            size_bytes: 0,
            allocated_bytes: 0,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            rdev: 0,
            links: 2,
            // No file system numbers an inode so: it is nobody's.
            id: FileId { device: facts.device, inode: u64::MAX },
            attributes: 0,
        };
        Self { facts, root: Arc::new(EmptyDir { metadata }) }
    }
}

impl DestTree for EmptyDest {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        Ok(Arc::clone(&self.root) as Arc<dyn DestDir>)
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }

    fn sync(&self) -> FsResult<()> {
        Ok(())
    }
}

fn missing<T>(op: FsOp) -> FsResult<T> {
    Err(FsError::new(op, Errno::NOENT))
}

/// A dry run never gets here.
fn refused<T>(op: FsOp) -> FsResult<T> {
    Err(FsError::found(op, ErrorClass::ReadOnly))
}

impl SourceDir for EmptyDir {
    fn metadata(&self) -> FsResult<Metadata> {
        Ok(self.metadata)
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        Ok(Xattrs::default())
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        Ok(None)
    }

    fn list(&self, _cursor: &mut ListCursor, _limit: usize, _names: &mut NameBatch) -> FsResult<bool> {
        Ok(true)
    }

    fn stat(&self, _name: &[u8]) -> FsResult<Metadata> {
        missing(FsOp::Stat)
    }

    fn open_dir(&self, _name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        missing(FsOp::Open)
    }

    fn open_file(&self, _name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        missing(FsOp::Open)
    }

    fn read_link(&self, _name: &[u8]) -> FsResult<Vec<u8>> {
        missing(FsOp::ReadLink)
    }

    fn xattrs(&self, _name: &[u8]) -> FsResult<Xattrs> {
        missing(FsOp::ListXattrs)
    }
}

impl DestNode for EmptyDir {
    fn node_metadata(&self) -> FsResult<Metadata> {
        Ok(self.metadata)
    }

    fn set_owner(&self, _uid: u32, _gid: u32) -> FsResult<()> {
        refused(FsOp::SetOwner)
    }

    fn set_mode(&self, _mode: u32) -> FsResult<()> {
        refused(FsOp::SetMode)
    }

    fn set_times(&self, _atime: Timestamp, _mtime: Timestamp) -> FsResult<()> {
        refused(FsOp::SetTimes)
    }

    fn node_xattrs(&self) -> FsResult<Xattrs> {
        Ok(Xattrs::default())
    }

    fn set_xattr(&self, _name: &[u8], _value: &[u8]) -> FsResult<()> {
        refused(FsOp::SetXattr)
    }

    fn remove_xattr(&self, _name: &[u8]) -> FsResult<()> {
        refused(FsOp::RemoveXattr)
    }

    fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
        Ok(None)
    }

    fn set_flags(&self, _flags: InodeFlags) -> FsResult<()> {
        refused(FsOp::SetFlags)
    }
}

impl DestDir for EmptyDir {
    fn create_dir(&self, _name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        refused(FsOp::MakeDir)
    }

    fn descend(&self, _name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        missing(FsOp::Open)
    }

    fn create_file(&self, _name: &[u8], _mode: u32) -> FsResult<Box<dyn DestFile>> {
        refused(FsOp::Create)
    }

    fn open_existing(&self, _name: &[u8]) -> FsResult<Box<dyn DestFile>> {
        missing(FsOp::Open)
    }

    fn hold(&self, _name: &[u8]) -> FsResult<Box<dyn DestNode>> {
        missing(FsOp::Open)
    }

    fn create_symlink(&self, _target: &[u8], _name: &[u8]) -> FsResult<()> {
        refused(FsOp::MakeSymlink)
    }

    fn create_node(&self, _name: &[u8], _kind: EntryKind, _rdev: u64) -> FsResult<()> {
        refused(FsOp::MakeNode)
    }

    fn link_from(&self, _from: &dyn DestDir, _from_name: &[u8], _name: &[u8]) -> FsResult<()> {
        refused(FsOp::Link)
    }

    fn remove_file(&self, _name: &[u8]) -> FsResult<()> {
        missing(FsOp::Remove)
    }

    fn remove_dir(&self, _name: &[u8]) -> FsResult<()> {
        missing(FsOp::Remove)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
