//! A tree on a server that lies: its root's listing names what cannot be the name of an entry.

use std::any::Any;
use std::sync::Arc;

use copy::tree::{
    DestDir, DestFile, DestNode, DestTree, ListCursor, NameBatch, SourceDir, SourceFile, SourceTree, TreeFacts,
};
use copy::{EntryKind, FsResult, InodeFlags, LocalTree, Metadata, Timestamp, Xattrs};

/// What is listed, what answers for it when it is asked for by that name, and the kind that is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lie {
    pub(crate) listed: &'static [u8],
    pub(crate) answers: &'static [u8],
    pub(crate) kind: Option<EntryKind>,
}

/// A real tree with lies in the listing of its root.
#[derive(Debug)]
pub(crate) struct LyingTree {
    pub(crate) inner: LocalTree,
    pub(crate) lies: Arc<[Lie]>,
}

#[derive(Debug)]
struct Liar<D: ?Sized> {
    inner: Arc<D>,
    lies: Arc<[Lie]>,
}

impl<D: ?Sized> Liar<D> {
    /// As a source, the server answers for the name that it invented.
    fn answers<'n>(&self, name: &'n [u8]) -> &'n [u8] {
        self.lies.iter().find(|lie| lie.listed == name && !lie.answers.is_empty()).map_or(name, |lie| lie.answers)
    }
}

impl SourceTree for LyingTree {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        Ok(Arc::new(Liar { inner: SourceTree::root(&self.inner)?, lies: self.lies.clone() }))
    }

    fn facts(&self) -> &TreeFacts {
        SourceTree::facts(&self.inner)
    }
}

impl DestTree for LyingTree {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        Ok(Arc::new(Liar { inner: DestTree::root(&self.inner)?, lies: self.lies.clone() }))
    }

    fn facts(&self) -> &TreeFacts {
        DestTree::facts(&self.inner)
    }

    fn sync(&self) -> FsResult<()> {
        self.inner.sync()
    }
}

impl<D: SourceDir + ?Sized> SourceDir for Liar<D> {
    fn metadata(&self) -> FsResult<Metadata> {
        self.inner.metadata()
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        self.inner.own_xattrs()
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        self.inner.own_flags()
    }

    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool> {
        if *cursor == ListCursor::default() {
            for lie in &*self.lies {
                names.push(lie.listed, lie.kind);
            }
        }
        self.inner.list(cursor, limit, names)
    }

    fn stat(&self, name: &[u8]) -> FsResult<Metadata> {
        self.inner.stat(self.answers(name))
    }

    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        self.inner.open_dir(self.answers(name))
    }

    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        self.inner.open_file(self.answers(name))
    }

    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        self.inner.read_link(self.answers(name))
    }

    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs> {
        self.inner.xattrs(self.answers(name))
    }
}

impl<D: DestNode + ?Sized> DestNode for Liar<D> {
    fn node_metadata(&self) -> FsResult<Metadata> {
        self.inner.node_metadata()
    }

    fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()> {
        self.inner.set_owner(uid, gid)
    }

    fn set_mode(&self, mode: u32) -> FsResult<()> {
        self.inner.set_mode(mode)
    }

    fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()> {
        self.inner.set_times(atime, mtime)
    }

    fn node_xattrs(&self) -> FsResult<Xattrs> {
        self.inner.node_xattrs()
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()> {
        self.inner.set_xattr(name, value)
    }

    fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
        self.inner.remove_xattr(name)
    }

    fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
        self.inner.node_flags()
    }

    fn set_flags(&self, flags: InodeFlags) -> FsResult<()> {
        self.inner.set_flags(flags)
    }
}

/// As a destination, names are passed on as they are: what the kernel makes of them is what is shown.
impl<D: DestDir + ?Sized> DestDir for Liar<D> {
    fn create_dir(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        self.inner.create_dir(name)
    }

    fn descend(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        self.inner.descend(name)
    }

    fn create_file(&self, name: &[u8], mode: u32) -> FsResult<Box<dyn DestFile>> {
        self.inner.create_file(name, mode)
    }

    fn open_existing(&self, name: &[u8]) -> FsResult<Box<dyn DestFile>> {
        self.inner.open_existing(name)
    }

    fn hold(&self, name: &[u8]) -> FsResult<Box<dyn DestNode>> {
        self.inner.hold(name)
    }

    fn create_symlink(&self, target: &[u8], name: &[u8]) -> FsResult<()> {
        self.inner.create_symlink(target, name)
    }

    fn create_node(&self, name: &[u8], kind: EntryKind, rdev: u64) -> FsResult<()> {
        self.inner.create_node(name, kind, rdev)
    }

    fn link_from(&self, from: &dyn DestDir, from_name: &[u8], name: &[u8]) -> FsResult<()> {
        self.inner.link_from(from, from_name, name)
    }

    fn remove_file(&self, name: &[u8]) -> FsResult<()> {
        self.inner.remove_file(name)
    }

    fn remove_dir(&self, name: &[u8]) -> FsResult<()> {
        self.inner.remove_dir(name)
    }

    fn as_any(&self) -> &dyn Any {
        self.inner.as_any()
    }
}
