//! The wrappers around trees, directories, files and nodes.

use std::any::Any;
use std::fmt::Debug;
use std::ops::{Deref, Range};
use std::sync::Arc;

use copy::tree::{
    DestDir, DestFile, DestNode, DestTree, ListCursor, NameBatch, SourceDir, SourceFile, SourceTree, TreeFacts,
};
use copy::{EntryKind, FsResult, InodeFlags, Metadata, Timestamp, Xattrs};

use super::{Faults, Verdict};
use crate::model::join;
use crate::{Call, Side};

/// A tree whose operations are numbered and fail by rule. Source and destination of one copy share their [`Faults`].
#[derive(Clone, Debug)]
pub struct FaultyTree<T> {
    inner: T,
    faults: Faults,
}

impl<T> FaultyTree<T> {
    pub fn new(inner: T, faults: &Faults) -> Self {
        Self { inner, faults: faults.clone() }
    }

    pub fn inner(&self) -> &T {
        &self.inner
    }
}

impl<T: SourceTree> SourceTree for FaultyTree<T> {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        let verdict = self.faults.enter(Side::Source, Call::Root, Vec::new());
        let inner = verdict.run(|| self.inner.root())?;
        Ok(Arc::new(Faulty { inner, faults: self.faults.clone(), side: Side::Source, path: Vec::new() }))
    }

    fn facts(&self) -> &TreeFacts {
        self.inner.facts()
    }
}

impl<T: DestTree> DestTree for FaultyTree<T> {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        let verdict = self.faults.enter(Side::Dest, Call::Root, Vec::new());
        let inner = verdict.run(|| self.inner.root())?;
        Ok(Arc::new(Faulty { inner, faults: self.faults.clone(), side: Side::Dest, path: Vec::new() }))
    }

    fn facts(&self) -> &TreeFacts {
        self.inner.facts()
    }

    fn sync(&self) -> FsResult<()> {
        self.faults.enter(Side::Dest, Call::Sync, Vec::new()).run(|| self.inner.sync())
    }
}

/// A handle of any kind with the path it was reached by.
#[derive(Debug)]
struct Faulty<I> {
    inner: I,
    faults: Faults,
    side: Side,
    path: Vec<u8>,
}

impl<I> Faulty<I> {
    /// An operation on the handle itself.
    fn own(&self, call: Call) -> Verdict {
        self.faults.enter(self.side, call, self.path.clone())
    }

    /// An operation on a name below.
    fn named(&self, call: Call, name: &[u8]) -> Verdict {
        self.faults.enter(self.side, call, join(&self.path, name))
    }

    fn below<J>(&self, name: &[u8], inner: J) -> Faulty<J> {
        Faulty { inner, faults: self.faults.clone(), side: self.side, path: join(&self.path, name) }
    }
}

impl<I> SourceDir for Faulty<I>
where
    I: Deref<Target: SourceDir> + Send + Sync + Debug,
{
    fn metadata(&self) -> FsResult<Metadata> {
        self.own(Call::DirMetadata).run(|| self.inner.metadata())
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        self.own(Call::OwnXattrs).run(|| self.inner.own_xattrs())
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        self.own(Call::OwnFlags).run(|| self.inner.own_flags())
    }

    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool> {
        let verdict = self.own(Call::List);
        // A listing of no names and no end would never end.
        let limit = verdict.short.map_or(limit, |short| limit.min(short.max(1)));
        verdict.run(|| self.inner.list(cursor, limit, names))
    }

    fn stat(&self, name: &[u8]) -> FsResult<Metadata> {
        self.named(Call::Stat, name).run(|| self.inner.stat(name))
    }

    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        let inner = self.named(Call::OpenDir, name).run(|| self.inner.open_dir(name))?;
        Ok(Arc::new(self.below(name, inner)))
    }

    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        let (inner, metadata) = self.named(Call::OpenFile, name).run(|| self.inner.open_file(name))?;
        Ok((Box::new(self.below(name, inner)), metadata))
    }

    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        self.named(Call::ReadLink, name).run(|| self.inner.read_link(name))
    }

    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs> {
        self.named(Call::Xattrs, name).run(|| self.inner.xattrs(name))
    }

    fn park(&self) {
        self.inner.park();
    }

    fn leave(&self) {
        self.inner.leave();
    }
}

impl SourceFile for Faulty<Box<dyn SourceFile>> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> FsResult<usize> {
        let verdict = self.own(Call::Read);
        let len = verdict.short.unwrap_or(usize::MAX).min(buffer.len());
        verdict.run(|| if len == 0 { Ok(0) } else { self.inner.read_at(&mut buffer[..len], offset) })
    }

    fn next_data(&self, from: u64) -> FsResult<Option<Range<u64>>> {
        self.own(Call::NextData).run(|| self.inner.next_data(from))
    }

    fn metadata(&self) -> FsResult<Metadata> {
        self.own(Call::FileMetadata).run(|| self.inner.metadata())
    }

    fn xattrs(&self) -> FsResult<Xattrs> {
        self.own(Call::FileXattrs).run(|| self.inner.xattrs())
    }

    fn flags(&self) -> FsResult<Option<InodeFlags>> {
        self.own(Call::FileFlags).run(|| self.inner.flags())
    }

    fn unwritten(&self) -> FsResult<Vec<Range<u64>>> {
        self.own(Call::Unwritten).run(|| self.inner.unwritten())
    }

    fn thaw(&self) -> FsResult<()> {
        self.own(Call::Thaw).run(|| self.inner.thaw())
    }

    fn will_read_all(&self) {
        self.inner.will_read_all();
    }

    fn cached(&self) -> Option<f64> {
        self.inner.cached()
    }

    fn forget_cache(&self) {
        self.inner.forget_cache();
    }
}

impl<I> DestNode for Faulty<I>
where
    I: Deref<Target: DestNode> + Send + Sync + Debug,
{
    fn node_metadata(&self) -> FsResult<Metadata> {
        self.own(Call::NodeMetadata).run(|| self.inner.node_metadata())
    }

    fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()> {
        self.own(Call::SetOwner).run(|| self.inner.set_owner(uid, gid))
    }

    fn set_mode(&self, mode: u32) -> FsResult<()> {
        self.own(Call::SetMode).run(|| self.inner.set_mode(mode))
    }

    fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()> {
        self.own(Call::SetTimes).run(|| self.inner.set_times(atime, mtime))
    }

    fn node_xattrs(&self) -> FsResult<Xattrs> {
        self.own(Call::NodeXattrs).run(|| self.inner.node_xattrs())
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()> {
        self.own(Call::SetXattr).run(|| self.inner.set_xattr(name, value))
    }

    fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
        self.own(Call::RemoveXattr).run(|| self.inner.remove_xattr(name))
    }

    fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
        self.own(Call::NodeFlags).run(|| self.inner.node_flags())
    }

    fn set_flags(&self, flags: InodeFlags) -> FsResult<()> {
        self.own(Call::SetFlags).run(|| self.inner.set_flags(flags))
    }
}

impl DestDir for Faulty<Arc<dyn DestDir>> {
    fn create_dir(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        let inner = self.named(Call::CreateDir, name).run(|| self.inner.create_dir(name))?;
        Ok(Arc::new(self.below(name, inner)))
    }

    fn descend(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        let inner = self.named(Call::Descend, name).run(|| self.inner.descend(name))?;
        Ok(Arc::new(self.below(name, inner)))
    }

    fn create_file(&self, name: &[u8], mode: u32) -> FsResult<Box<dyn DestFile>> {
        let inner = self.named(Call::CreateFile, name).run(|| self.inner.create_file(name, mode))?;
        Ok(Box::new(self.below(name, inner)))
    }

    fn open_existing(&self, name: &[u8]) -> FsResult<Box<dyn DestFile>> {
        let inner = self.named(Call::OpenExisting, name).run(|| self.inner.open_existing(name))?;
        Ok(Box::new(self.below(name, inner)))
    }

    fn hold(&self, name: &[u8]) -> FsResult<Box<dyn DestNode>> {
        let inner = self.named(Call::Hold, name).run(|| self.inner.hold(name))?;
        Ok(Box::new(self.below(name, inner)))
    }

    fn create_symlink(&self, target: &[u8], name: &[u8]) -> FsResult<()> {
        self.named(Call::CreateSymlink, name).run(|| self.inner.create_symlink(target, name))
    }

    fn create_node(&self, name: &[u8], kind: EntryKind, rdev: u64) -> FsResult<()> {
        self.named(Call::CreateNode, name).run(|| self.inner.create_node(name, kind, rdev))
    }

    fn link_from(&self, from: &dyn DestDir, from_name: &[u8], name: &[u8]) -> FsResult<()> {
        let from = from.as_any().downcast_ref::<Self>().expect("a link joins two directories of one tree");
        self.named(Call::LinkFrom, name).run(|| self.inner.link_from(&*from.inner, from_name, name))
    }

    fn remove_file(&self, name: &[u8]) -> FsResult<()> {
        self.named(Call::RemoveFile, name).run(|| self.inner.remove_file(name))
    }

    fn remove_dir(&self, name: &[u8]) -> FsResult<()> {
        self.named(Call::RemoveDir, name).run(|| self.inner.remove_dir(name))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl DestFile for Faulty<Box<dyn DestFile>> {
    fn write_at(&self, buffer: &[u8], offset: u64) -> FsResult<usize> {
        let verdict = self.own(Call::Write);
        let len = verdict.short.unwrap_or(usize::MAX).min(buffer.len());
        verdict.run(|| if len == 0 { Ok(0) } else { self.inner.write_at(&buffer[..len], offset) })
    }

    fn set_len(&self, size_bytes: u64) -> FsResult<()> {
        self.own(Call::SetLen).run(|| self.inner.set_len(size_bytes))
    }

    fn allocate(&self, range: Range<u64>) -> FsResult<()> {
        self.own(Call::Allocate).run(|| self.inner.allocate(range))
    }

    fn start_writeback(&self, range: Range<u64>) {
        self.own(Call::StartWriteback);
        self.inner.start_writeback(range);
    }

    fn close(self: Box<Self>) -> FsResult<()> {
        let verdict = self.own(Call::Close);
        // A close that fails closes nevertheless.
        let closed = self.inner.close();
        verdict.run(|| closed)
    }
}
