//! A snapshot as a tree that the engine reads: restoring is a copy from it, verifying a comparison with it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use copy::tree::{ListCursor, NameBatch, SourceDir, SourceFile, SourceTree, TreeFacts};
use copy::{EntryKind, ErrorClass, FsError, FsOp, FsResult, InodeFlags, Metadata, RelPath, StopToken, Xattrs};

use super::blobs::{Blobs, Cache};
use super::error::{RepositoryError, Result};
use super::id::Id;
use super::index::Index;
use super::node::{Node, Tree};
use super::repository::Repository;
use super::snapshot::Snapshot;
use super::store::StoreErrorClass;

/// The tree of a snapshot. Runs of zeros are holes to it where they are whole pieces of a file; for those that are
/// shorter, copy with [`copy::Sparse::Detect`].
#[derive(Clone)]
pub struct SnapshotTree {
    shared: Arc<Shared>,
    root: Arc<Node>,
    facts: TreeFacts,
}

struct Shared {
    repository: Repository,
    index: Index,
    cache: Arc<Cache>,
    /// The piece of zeros that holes are made of.
    zeros: Id,
    zeros_bytes: u64,
}

impl fmt::Debug for SnapshotTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotTree")
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every handle shows it: no place for a whole index.
        f.write_str("snapshot")
    }
}

impl Repository {
    /// Opens the tree of a snapshot, or the directory at `subdir` in it.
    pub fn open_tree(&self, snapshot: &Snapshot, subdir: &RelPath, stop: &StopToken) -> Result<SnapshotTree> {
        let index = self.load_index(stop)?;
        let zeros_bytes = self.inner.chunker.bytes_min;
        let shared = Shared {
            repository: self.clone(),
            index,
            cache: Arc::new(Cache::new()),
            zeros: Id::of(&vec![0; zeros_bytes]),
            zeros_bytes: zeros_bytes as u64,
        };
        let root = {
            let blobs = shared.blobs();
            let top = blobs.find_dir(snapshot)?;
            blobs.find_below(&top, subdir.as_bytes(), false)?
        };
        let summary = snapshot.summary.unwrap_or_default();
        let facts = TreeFacts {
            location: format!("{}#{}", self.location(), snapshot.id).into_bytes(),
            used_bytes: summary.total_bytes_processed,
            used_entries: summary.total_files_processed + summary.total_dirs_processed,
            name_bytes_max: u32::MAX,
            read_only: true,
            // A snapshot's device numbers are those of the trees that it was made of; this is that of none.
            device: u64::MAX,
            ..TreeFacts::plain("restic")
        };
        Ok(SnapshotTree { shared: Arc::new(shared), root: Arc::new(root), facts })
    }
}

impl Shared {
    fn blobs(&self) -> Blobs<'_> {
        Blobs::with_cache(&self.repository, &self.index, self.cache.clone())
    }

    fn metadata(&self, node: &Node) -> FsResult<Metadata> {
        let mut meta = node.metadata().ok_or(FsError::found(FsOp::Stat, ErrorClass::Unsupported))?;
        if meta.kind == EntryKind::File {
            let holes = node.content.iter().flatten().filter(|id| **id == self.zeros).count() as u64;
            meta.allocated_bytes = meta.size_bytes.saturating_sub(holes * self.zeros_bytes);
        }
        // Without an inode number names cannot be told to be one file.
        if meta.id.inode == 0 {
            meta.links = 1;
        }
        Ok(meta)
    }
}

/// The engine's word for what went wrong with the repository.
fn fs_error(op: FsOp, error: &RepositoryError) -> FsError {
    let class = match error {
        RepositoryError::Store(error) => match error.class {
            StoreErrorClass::Transient => ErrorClass::Transient,
            StoreErrorClass::NotFound | StoreErrorClass::Damaged => ErrorClass::Corrupt,
            StoreErrorClass::Denied => ErrorClass::Denied,
            _ => ErrorClass::Io,
        },
        _ => ErrorClass::Corrupt,
    };
    FsError::found(op, class)
}

impl SourceTree for SnapshotTree {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        Ok(Arc::new(Dir::open(&self.shared, self.root.clone())?))
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }

    fn workers_max(&self, is_network: bool) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let waiting = is_network || self.shared.repository.inner.store.is_remote();
        if waiting { WORKERS_NETWORK.max(cores) } else { WORKERS_PER_CORE * cores }
    }
}

/// While one waits for storage another one unpacks.
const WORKERS_PER_CORE: usize = 2;
/// Enough for round trips of small files; each may hold a megabyte or two of a large one.
const WORKERS_NETWORK: usize = 32;

#[derive(Debug)]
struct Dir {
    shared: Arc<Shared>,
    own: Arc<Node>,
    tree: Arc<Tree>,
}

impl Dir {
    fn open(shared: &Arc<Shared>, own: Arc<Node>) -> FsResult<Self> {
        let tree = match &own.subtree {
            Some(id) => shared.blobs().tree(id).map_err(|error| fs_error(FsOp::Open, &error))?,
            None => return Err(FsError::found(FsOp::Open, ErrorClass::Changed)),
        };
        Ok(Self { shared: shared.clone(), own, tree: Arc::new(tree) })
    }

    fn find(&self, op: FsOp, name: &[u8]) -> FsResult<&Node> {
        self.tree.find(name).ok_or(FsError::found(op, ErrorClass::NotFound))
    }
}

impl SourceDir for Dir {
    fn metadata(&self) -> FsResult<Metadata> {
        self.shared.metadata(&self.own)
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        Ok(self.own.xattrs())
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        Ok(None)
    }

    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool> {
        let start = usize::try_from(cursor.0).unwrap_or(usize::MAX).min(self.tree.nodes.len());
        let end = self.tree.nodes.len().min(start.saturating_add(limit.max(1)));
        for node in &self.tree.nodes[start..end] {
            names.push(&node.name.0, node.kind.entry_kind());
        }
        cursor.0 = end as u64;
        Ok(end == self.tree.nodes.len())
    }

    fn stat(&self, name: &[u8]) -> FsResult<Metadata> {
        self.shared.metadata(self.find(FsOp::Stat, name)?)
    }

    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        let node = self.find(FsOp::Open, name)?;
        Ok(Arc::new(Self::open(&self.shared, Arc::new(node.clone()))?))
    }

    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        let node = self.find(FsOp::Open, name)?;
        let meta = self.shared.metadata(node)?;
        if meta.kind != EntryKind::File {
            return Err(FsError::found(FsOp::Open, ErrorClass::Changed));
        }
        let corrupt = FsError::found(FsOp::Open, ErrorClass::Corrupt);
        let blobs = self.shared.blobs();
        let content = node.content.as_deref().unwrap_or_default();
        let (mut ends, mut end) = (Vec::with_capacity(content.len()), 0_u64);
        for id in content {
            // Many pieces of a sparse file are the same.
            end += if *id == self.shared.zeros {
                self.shared.zeros_bytes
            } else {
                blobs.plain_bytes(id).ok_or(corrupt)?
            };
            ends.push(end);
        }
        if end != meta.size_bytes {
            return Err(corrupt);
        }
        let file = File { shared: self.shared.clone(), tree: self.tree.clone(), name: name.into(), meta, ends };
        Ok((Box::new(file), meta))
    }

    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        Ok(self.find(FsOp::ReadLink, name)?.link_target().to_vec())
    }

    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs> {
        Ok(self.find(FsOp::ListXattrs, name)?.xattrs())
    }
}

#[derive(Debug)]
struct File {
    shared: Arc<Shared>,
    tree: Arc<Tree>,
    name: Box<[u8]>,
    meta: Metadata,
    /// Where each piece of the content ends.
    ends: Vec<u64>,
}

impl File {
    fn node(&self) -> &Node {
        self.tree.find(&self.name).expect("was found when it was opened")
    }

    /// The piece at an offset within the file: its number, its name and its bytes in the file.
    fn piece_at(&self, offset: u64) -> Option<(usize, Id, Range<u64>)> {
        let number = self.ends.partition_point(|end| *end <= offset);
        let end = *self.ends.get(number)?;
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        let id = self.node().content.as_ref()?[number];
        Some((number, id, start..end))
    }
}

impl SourceFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> FsResult<usize> {
        let Some((_, id, range)) = self.piece_at(offset) else { return Ok(0) };
        let len = buffer.len().min((range.end - offset) as usize);
        if id == self.shared.zeros {
            buffer[..len].fill(0);
            return Ok(len);
        }
        let blobs = self.shared.blobs();
        let error = |error| fs_error(FsOp::Read, &error);
        let at = (offset - range.start) as usize;
        let copy = |data: &[u8], buffer: &mut [u8]| match data.get(at..at + len) {
            Some(part) => {
                buffer[..len].copy_from_slice(part);
                Ok(len)
            }
            None => Err(FsError::found(FsOp::Read, ErrorClass::Corrupt)),
        };
        if at == 0 && len as u64 == range.end - range.start {
            return copy(&blobs.read(super::index::BlobKind::Data, &id).map_err(error)?, buffer);
        }
        copy(&blobs.piece(&id).map_err(error)?, buffer)
    }

    fn next_data(&self, from: u64) -> FsResult<Option<Range<u64>>> {
        let mut start = from;
        loop {
            match self.piece_at(start) {
                None => return Ok(None),
                Some((_, id, range)) if id == self.shared.zeros => start = range.end,
                Some((mut number, ..)) => {
                    let content = self.node().content.as_deref().unwrap_or_default();
                    while content.get(number + 1).is_some_and(|id| *id != self.shared.zeros) {
                        number += 1;
                    }
                    return Ok(Some(start..self.ends[number]));
                }
            }
        }
    }

    fn metadata(&self) -> FsResult<Metadata> {
        Ok(self.meta)
    }

    fn xattrs(&self) -> FsResult<Xattrs> {
        Ok(self.node().xattrs())
    }

    fn flags(&self) -> FsResult<Option<InodeFlags>> {
        Ok(None)
    }
}
