//! Writes blobs: collects them in packs, and tells in index files which pack holds what.
//!
//! A pack is durable before an index names it, so that whatever ends the process leaves a sound repository: packs that
//! no index names are only unused space.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::crypto::{self, Key};
use super::error::Result;
use super::id::Id;
use super::index::{BlobKind, Index, IndexBlob, IndexFile, IndexPack};
use super::store::{FileKind, Store, StoreError, StoreErrorClass};

/// Bytes of a pack of file content: restic's default. Twice as large ones cost twice the memory.
const DATA_PACK_BYTES: usize = 16 << 20;
/// Bytes of a pack of trees, which are read in small parts.
const TREE_PACK_BYTES: usize = 4 << 20;
/// Entries of one index file, as restic has it: a larger one costs memory in every program that reads it.
const INDEX_BLOBS_MAX: usize = 50_000;
/// What a killed backup may have to store again: packs that no index names yet.
const INDEX_INTERVAL: Duration = Duration::from_secs(20);
/// Threads that write packs, so that others can read and compress while storage is waited for.
pub(super) const WRITERS: usize = 2;
/// Packs that are on their way to storage. Each is held in memory until then.
const WRITES_MAX: usize = WRITERS + 1;

/// Takes blobs from many threads.
#[derive(Debug)]
pub(super) struct Packer<'a> {
    store: &'a dyn Store,
    key: &'a Key,
    index: &'a Index,
    /// The level of compression; `None` in repositories of version 1, which know none.
    level: Option<i32>,
    refused: AtomicBool,
    seen: [Mutex<HashSet<Id>>; SHARDS],
    open: [Mutex<OpenPack>; 2],
    writes: Mutex<Writes>,
    writes_changed: Condvar,
    unindexed: Mutex<Unindexed>,
    added: Added,
}

const SHARDS: usize = 16;

/// What a backup added to the repository.
#[derive(Debug, Default)]
struct Added {
    data_blobs: AtomicU64,
    tree_blobs: AtomicU64,
    plain_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

/// What was added to a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddedBlobs {
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Before compression.
    pub plain_bytes: u64,
    /// As it lies in packs.
    pub stored_bytes: u64,
}

#[derive(Debug)]
struct OpenPack {
    parts: Vec<Bytes>,
    bytes: usize,
    blobs: Vec<IndexBlob>,
}

/// Full packs on their way to storage.
#[derive(Debug, Default)]
struct Writes {
    waiting: VecDeque<OpenPack>,
    running: usize,
    /// Nobody takes packs any more: who fills one writes it.
    ended: bool,
}

impl Writes {
    fn has_room(&self) -> bool {
        self.ended || self.waiting.len() + self.running < WRITES_MAX
    }
}

#[derive(Debug)]
struct Unindexed {
    packs: Vec<IndexPack>,
    blobs: usize,
    since: Instant,
}

impl OpenPack {
    const fn new() -> Self {
        Self { parts: Vec::new(), bytes: 0, blobs: Vec::new() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Packer<'a> {
    pub(super) fn new(store: &'a dyn Store, key: &'a Key, index: &'a Index, level: Option<i32>) -> Self {
        Self {
            store,
            key,
            index,
            level,
            refused: AtomicBool::new(false),
            seen: Default::default(),
            open: [Mutex::new(OpenPack::new()), Mutex::new(OpenPack::new())],
            writes: Mutex::default(),
            writes_changed: Condvar::new(),
            unindexed: Mutex::new(Unindexed { packs: Vec::new(), blobs: 0, since: Instant::now() }),
            added: Added::default(),
        }
    }

    /// From now on nothing is written but the index of what is stored already.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::SeqCst);
        let _writes = lock(&self.writes);
        self.writes_changed.notify_all();
    }

    fn check_refused(&self) -> Result<()> {
        if !self.refused.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(StoreError {
            action: "write",
            path: "data".to_owned(),
            class: StoreErrorClass::Stopped,
            reason: "the work was stopped".to_owned(),
        }
        .into())
    }

    /// Stores a blob where it is not stored already, and tells its name.
    pub(super) fn save(&self, kind: BlobKind, data: &[u8]) -> Result<Id> {
        let id = Id::of(data);
        if self.index.holds(kind, &id) || !lock(&self.seen[usize::from(id.0[31]) % SHARDS]).insert(id) {
            return Ok(id);
        }
        self.check_refused()?;
        let (sealed, uncompressed_length) = self.seal(data);
        let count = match kind {
            BlobKind::Data => &self.added.data_blobs,
            BlobKind::Tree => &self.added.tree_blobs,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.added.plain_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.added.stored_bytes.fetch_add(sealed.len() as u64, Ordering::Relaxed);
        self.put(kind, id, sealed, uncompressed_length)?;
        Ok(id)
    }

    fn seal(&self, data: &[u8]) -> (Vec<u8>, Option<NonZeroU32>) {
        let length = u32::try_from(data.len()).ok().and_then(NonZeroU32::new);
        if let (Some(level), Some(_)) = (self.level, length)
            && let Ok(small) = crypto::compress(data, level)
            && small.len() < data.len()
        {
            return (self.key.seal(&small), length);
        }
        (self.key.seal(data), None)
    }

    fn put(&self, kind: BlobKind, id: Id, sealed: Vec<u8>, uncompressed_length: Option<NonZeroU32>) -> Result<()> {
        let bytes_max = match kind {
            BlobKind::Data => DATA_PACK_BYTES,
            BlobKind::Tree => TREE_PACK_BYTES,
        };
        // Before the blob is added: of many threads each would come to hold a full pack otherwise.
        self.wait_for_room();
        let full = {
            let mut open = lock(&self.open[kind as usize]);
            let open = &mut *open;
            open.blobs.push(IndexBlob {
                id,
                kind,
                offset: open.bytes as u32,
                length: sealed.len() as u32,
                uncompressed_length,
            });
            open.bytes += sealed.len();
            // A vector's spare room would stay in memory for as long as the pack is open.
            open.parts.push(Bytes::from(sealed.into_boxed_slice()));
            (open.bytes >= bytes_max).then(|| std::mem::replace(open, OpenPack::new()))
        };
        full.map_or(Ok(()), |pack| self.write(pack))
    }

    /// Waits until few enough packs are on their way, or nothing is written any more.
    fn wait_for_room(&self) {
        let mut writes = lock(&self.writes);
        while !writes.has_room() && !self.refused.load(Ordering::SeqCst) {
            writes = self.writes_changed.wait(writes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Hands a full pack to the writers; writes it where there are none any more.
    fn write(&self, pack: OpenPack) -> Result<()> {
        self.check_refused()?;
        let mut writes = lock(&self.writes);
        if writes.ended {
            drop(writes);
            self.write_pack(pack)?;
            return self.write_index(false);
        }
        writes.waiting.push_back(pack);
        drop(writes);
        self.writes_changed.notify_all();
        Ok(())
    }

    /// What a writer does: writes packs and, every now and then, an index, until [`end_writers`](Self::end_writers).
    pub(super) fn write_packs(&self) -> Result<()> {
        while let Some(pack) = self.next_pack() {
            let written = self.write_pack(pack);
            lock(&self.writes).running -= 1;
            self.writes_changed.notify_all();
            written?;
            self.write_index(false)?;
        }
        Ok(())
    }

    fn next_pack(&self) -> Option<OpenPack> {
        let mut writes = lock(&self.writes);
        loop {
            if self.refused.load(Ordering::SeqCst) {
                writes.waiting.clear();
                return None;
            }
            if let Some(pack) = writes.waiting.pop_front() {
                writes.running += 1;
                return Some(pack);
            }
            if writes.ended {
                return None;
            }
            writes = self.writes_changed.wait(writes).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Lets the writers end when they have written what waits.
    pub(super) fn end_writers(&self) {
        lock(&self.writes).ended = true;
        self.writes_changed.notify_all();
    }

    fn write_pack(&self, mut pack: OpenPack) -> Result<()> {
        let header = self.key.seal(&header(&pack.blobs));
        let length = (header.len() as u32).to_le_bytes();
        pack.parts.extend([Bytes::from(header), Bytes::copy_from_slice(&length)]);
        let id = Id::of_parts(pack.parts.iter().map(|part| &part[..]));
        self.store.write(FileKind::Pack, &id, &pack.parts)?;
        let mut unindexed = lock(&self.unindexed);
        unindexed.blobs += pack.blobs.len();
        unindexed.packs.push(IndexPack { id, blobs: pack.blobs });
        Ok(())
    }

    fn write_index(&self, now: bool) -> Result<()> {
        let packs = {
            let mut unindexed = lock(&self.unindexed);
            let due = unindexed.blobs >= INDEX_BLOBS_MAX || unindexed.since.elapsed() >= INDEX_INTERVAL;
            if unindexed.packs.is_empty() || !(now || due) {
                return Ok(());
            }
            unindexed.blobs = 0;
            unindexed.since = Instant::now();
            std::mem::take(&mut unindexed.packs)
        };
        save_file(self.store, self.key, self.level, FileKind::Index, &IndexFile { packs })?;
        Ok(())
    }

    /// Writes what is not yet written. Everything is durable then, and a snapshot may name it.
    pub(super) fn finish(&self) -> Result<()> {
        for open in &self.open {
            let pack = std::mem::replace(&mut *lock(open), OpenPack::new());
            if !pack.blobs.is_empty() {
                self.check_refused()?;
                self.write_pack(pack)?;
            }
        }
        self.write_index(true)
    }

    /// Tells the repository of the packs that are whole, so that the next run need not store them again.
    pub(super) fn give_up(&self) -> Result<()> {
        self.write_index(true)
    }

    pub(super) fn added(&self) -> AddedBlobs {
        AddedBlobs {
            data_blobs: self.added.data_blobs.load(Ordering::Relaxed),
            tree_blobs: self.added.tree_blobs.load(Ordering::Relaxed),
            plain_bytes: self.added.plain_bytes.load(Ordering::Relaxed),
            stored_bytes: self.added.stored_bytes.load(Ordering::Relaxed),
        }
    }
}

/// What ends a pack, before it is sealed: kind, lengths and name of each blob in their order.
fn header(blobs: &[IndexBlob]) -> Vec<u8> {
    let mut out = Vec::with_capacity(blobs.len() * 41);
    for blob in blobs {
        let compressed = u8::from(blob.uncompressed_length.is_some()) * 2;
        out.push(compressed + u8::from(blob.kind == BlobKind::Tree));
        out.extend_from_slice(&blob.length.to_le_bytes());
        if let Some(length) = blob.uncompressed_length {
            out.extend_from_slice(&length.get().to_le_bytes());
        }
        out.extend_from_slice(&blob.id.0);
    }
    out
}

/// Saves a file that is JSON under the name of its hash.
pub(super) fn save_file(
    store: &dyn Store,
    key: &Key,
    level: Option<i32>,
    kind: FileKind,
    file: &impl serde::Serialize,
) -> Result<Id> {
    let json = serde_json::to_vec(file).expect("a repository's file has nothing that JSON refuses");
    let plain = match level.map(|level| crypto::compress(&json, level)) {
        // The first byte tells that the rest is compressed.
        Some(Ok(small)) => [&[2][..], &small].concat(),
        _ => json,
    };
    let sealed = Bytes::from(key.seal(&plain));
    let id = Id::of(&sealed);
    store.write(kind, &id, &[sealed])?;
    Ok(id)
}

/// Content of multi-linked files of one run, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct LinkedContents(Mutex<HashMap<copy::FileId, Linked>>);

/// A state of a file, and its content then.
type Linked = (copy::Metadata, std::sync::Arc<[Id]>);

/// Inodes that are remembered: about 100 bytes each, and reading one twice is only slower.
const LINKED_MAX: usize = 100_000;

impl LinkedContents {
    pub(super) fn find(&self, meta: &copy::Metadata) -> Option<std::sync::Arc<[Id]>> {
        let known = lock(&self.0);
        known.get(&meta.id).filter(|(of, _)| of.same_content_state(meta)).map(|(_, content)| content.clone())
    }

    pub(super) fn remember(&self, meta: &copy::Metadata, content: &[Id]) {
        let mut known = lock(&self.0);
        if known.len() < LINKED_MAX {
            known.insert(meta.id, (*meta, content.into()));
        }
    }
}
