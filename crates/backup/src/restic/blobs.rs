//! Reads blobs: stretches of packs and unpacked pieces stay in memory for a while, within limits.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use bytes::Bytes;

use super::error::{RepositoryError, Result};
use super::id::Id;
use super::index::{BlobKind, Index};
use super::node::{Node, Tree};
use super::repository::Repository;
use super::snapshot::Snapshot;
use super::store::FileKind;

/// Small blobs lie in packs in the order in which they were read, which is the order in which they are wanted again:
/// one read fetches many.
const WINDOW_BYTES_LOCAL: u64 = 256 << 10;
/// The same where a read is a round trip.
const WINDOW_BYTES_REMOTE: u64 = 2 << 20;
/// Stretches of packs in memory. Two directories in work at once per thread would fit.
const WINDOWS_BYTES_MAX: usize = 8 << 20;
/// Unpacked pieces of large files in memory: readers ask for a small part of a piece at a time.
const PIECES_BYTES_MAX: usize = 24 << 20;
/// Large blobs that are unpacked at once: each takes its size two times, and processors are few.
const UNPACKING_MAX: usize = 4;
/// Trees are unpacked as a whole. A directory of a million entries has about 400 MB.
const BLOB_BYTES_MAX: u64 = 2 << 30;

/// Blobs of one repository as its index was at one time.
#[derive(Debug)]
pub(super) struct Blobs<'a> {
    repository: &'a Repository,
    index: &'a Index,
    cache: Arc<Cache>,
}

/// What is kept in memory; outlives the borrowed view.
#[derive(Debug)]
pub(super) struct Cache {
    windows: Lru<(Id, u64), Bytes>,
    pieces: Lru<Id, Arc<Vec<u8>>>,
    /// Large blobs that are unpacked at this moment.
    unpacking: Mutex<usize>,
    unpacked: Condvar,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            windows: Lru::new(WINDOWS_BYTES_MAX),
            pieces: Lru::new(PIECES_BYTES_MAX),
            unpacking: Mutex::new(0),
            unpacked: Condvar::new(),
        }
    }

    /// Runs something that needs the memory of a large blob or two, when there are not too many at it.
    fn with_room<T>(&self, work: impl FnOnce() -> T) -> T {
        let lock = || self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut unpacking = lock();
            while *unpacking >= UNPACKING_MAX {
                unpacking = self.unpacked.wait(unpacking).unwrap_or_else(PoisonError::into_inner);
            }
            *unpacking += 1;
        }
        let _room = Room(self);
        work()
    }
}

/// Gives the room back, also after a panic.
struct Room<'a>(&'a Cache);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        *self.0.unpacking.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.unpacked.notify_one();
    }
}

impl<'a> Blobs<'a> {
    pub(super) fn new(repository: &'a Repository, index: &'a Index) -> Self {
        Self::with_cache(repository, index, Arc::new(Cache::new()))
    }

    pub(super) fn with_cache(repository: &'a Repository, index: &'a Index, cache: Arc<Cache>) -> Self {
        Self { repository, index, cache }
    }

    /// Bytes of a data blob's content, where the repository has it.
    pub(super) fn plain_bytes(&self, id: &Id) -> Option<u64> {
        self.index.find(BlobKind::Data, id).map(|location| location.plain_bytes())
    }

    /// Reads a blob, unpacks it, and checks that it is the one with this name.
    pub(super) fn read(&self, kind: BlobKind, id: &Id) -> Result<Vec<u8>> {
        let location = self
            .index
            .find(kind, id)
            .ok_or_else(|| self.repository.damaged(format!("no index tells where the blob {} is", id.short())))?;
        let damaged =
            || self.repository.damaged(format!("the pack {} does not hold the blob {}", location.pack, id.short()));
        if location.plain_bytes() > BLOB_BYTES_MAX {
            return Err(damaged());
        }
        let store = &*self.repository.inner.store;
        let window_bytes = if store.is_remote() { WINDOW_BYTES_REMOTE } else { WINDOW_BYTES_LOCAL };
        let (start, length) = (u64::from(location.offset), location.length as usize);
        let first = start / window_bytes;
        let sealed = if first == (start + length as u64 - 1) / window_bytes && length as u64 <= window_bytes / 2 {
            let from = first * window_bytes;
            let window =
                self.cache.windows.get((location.pack, first), || self.window(&location.pack, from, window_bytes))?;
            let at = (start - from) as usize;
            if window.len() < at + length {
                return Err(damaged());
            }
            window.slice(at..at + length)
        } else {
            return self.cache.with_room(|| {
                let sealed = store.read_range(FileKind::Pack, &location.pack, start, length)?;
                self.repository.open_blob(id, &location, sealed).ok_or_else(damaged)
            });
        };
        self.repository.open_blob(id, &location, sealed).ok_or_else(damaged)
    }

    /// A stretch of a pack; shorter at its end.
    fn window(&self, pack: &Id, from: u64, window_bytes: u64) -> Result<(Bytes, usize)> {
        let window = self.repository.inner.store.read_up_to(FileKind::Pack, pack, from, window_bytes as usize)?;
        let bytes = window.len();
        Ok((window, bytes))
    }

    /// A data blob of a large file, of which a part is wanted at a time.
    pub(super) fn piece(&self, id: &Id) -> Result<Arc<Vec<u8>>> {
        self.cache.pieces.get(*id, || {
            let data = self.read(BlobKind::Data, id)?;
            let bytes = data.len();
            Ok((Arc::new(data), bytes))
        })
    }

    pub(super) fn tree(&self, id: &Id) -> Result<Tree> {
        let json = self.read(BlobKind::Tree, id)?;
        Tree::parse(&json).map_err(|error| self.repository.damaged(format!("the tree {} {error}", id.short())))
    }

    /// The directory that a snapshot is of: the one at its path, or all where there are several.
    pub(super) fn find_dir(&self, snapshot: &Snapshot) -> Result<Node> {
        let mut node = Node { kind: super::node::NodeKind::Dir, mode: 0o755, links: 1, ..Node::default() };
        node.subtree = Some(snapshot.tree);
        let mut paths = snapshot.paths.iter();
        let (Some(path), None) = (paths.next(), paths.next()) else { return Ok(node) };
        match self.find_below(&node, path.as_bytes(), true) {
            Ok(found) => Ok(found),
            // Programs that keep only the last name, or a path that does not tell where the tree is.
            Err(RepositoryError::NoSuchPath { .. }) => Ok(node),
            Err(error) => Err(error),
        }
    }

    /// The directory at a path below another; names are quoted as in snapshots where `quoted`.
    pub(super) fn find_below(&self, from: &Node, path: &[u8], quoted: bool) -> Result<Node> {
        let missing = || RepositoryError::NoSuchPath { path: copy::escape(path) };
        let mut node = from.clone();
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let tree = self.tree(&node.subtree.ok_or_else(missing)?)?;
            let fits = |node: &&Node| {
                if quoted { super::node::quote(&node.name.0).as_bytes() == name } else { *node.name.0 == *name }
            };
            let found = tree.nodes.iter().find(fits).or_else(|| tree.find(name)).cloned();
            node = found.filter(|node| node.subtree.is_some()).ok_or_else(missing)?;
        }
        Ok(node)
    }
}

/// Values by key, the least recently used of which is forgotten when they are too many bytes. Who wants a value that
/// somebody else is getting already waits for it.
#[derive(Debug)]
struct Lru<K, V> {
    inner: Mutex<LruInner<K, V>>,
    bytes_max: usize,
}

type Place<V> = Arc<Mutex<Option<V>>>;

#[derive(Debug)]
struct LruInner<K, V> {
    places: HashMap<K, (Place<V>, u64, usize)>,
    clock: u64,
    bytes: usize,
}

impl<K: Copy + Eq + Hash, V: Clone> Lru<K, V> {
    fn new(bytes_max: usize) -> Self {
        Self { inner: Mutex::new(LruInner { places: HashMap::new(), clock: 0, bytes: 0 }), bytes_max }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruInner<K, V>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of the key; `make` tells its bytes too.
    fn get(&self, key: K, make: impl FnOnce() -> Result<(V, usize)>) -> Result<V> {
        let place = {
            let mut inner = self.lock();
            inner.clock += 1;
            let now = inner.clock;
            let entry = inner.places.entry(key).or_insert_with(|| (Place::default(), now, 0));
            entry.1 = now;
            entry.0.clone()
        };
        let mut value = place.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let made = make();
        let mut inner = self.lock();
        match made {
            Ok((new, bytes)) => {
                *value = Some(new.clone());
                if let Some(entry) = inner.places.get_mut(&key) {
                    entry.2 = bytes;
                    inner.bytes += bytes;
                }
                inner.shrink(self.bytes_max);
                Ok(new)
            }
            Err(error) => {
                inner.places.remove(&key);
                Err(error)
            }
        }
    }
}

impl<K: Copy + Eq + Hash, V> LruInner<K, V> {
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            // Few are kept, so looking through all of them costs less than keeping them in order.
            let oldest = self.places.iter().filter(|(_, (.., bytes))| *bytes > 0).min_by_key(|(_, (_, used, _))| *used);
            let Some((&key, &(.., bytes))) = oldest else { break };
            self.places.remove(&key);
            self.bytes -= bytes;
        }
    }
}
