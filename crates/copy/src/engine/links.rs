//! Which destination name stands for a source inode with several names. Small: a tree may have millions of them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::dir::Dir;
use crate::error::FsResult;
use crate::meta::{FileId, Metadata};
use crate::tree::DestDir;

/// Inode numbers are spread well enough by a multiplication.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.write_u64(u64::from(*b));
        }
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0 ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

type SpreadMap<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Locks are per shard, and a growing table moves only its own shard's entries.
const SHARDS: usize = 64;

pub(super) struct Links {
    shards: Vec<Shard>,
    dirs: Mutex<Dirs>,
    /// Destination inodes with several names, and the source inode each stands for.
    claims: Claims,
    source_claims: Claims,
    hasher: RandomState,
}

/// Pairs of inodes as hashes of 64 bits under a key of this run: half the memory of the numbers themselves, and nobody
/// can make two that are alike. In shards, since a growing table is there twice.
type Claims = Vec<Mutex<SpreadMap<u64, u64>>>;

#[derive(Default)]
struct Shard {
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    /// By device and inode; the value is an index into the records, or [`MAKING`].
    entries: SpreadMap<FileId, u32>,
    records: Records,
}

/// The first name is being made.
const MAKING: u32 = u32::MAX;

/// Records of varying length in chunks that never move: destination inode (8 bytes), names to come (4), directory (4),
/// length of the name (2: some file systems take more than 255 bytes), name.
#[derive(Default)]
struct Records {
    chunks: Vec<Vec<u8>>,
}

/// Small enough that 64 shards cost little, large enough for a record.
const CHUNK: usize = 4096;
const HEAD: usize = 18;

impl Records {
    fn add(&mut self, inode: u64, left: u32, dir: u32, name: &[u8]) -> u32 {
        let need = HEAD + name.len();
        if self.chunks.last().is_none_or(|chunk| chunk.len() + need > CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let number = self.chunks.len() - 1;
        let chunk = self.chunks.last_mut().expect("just made");
        let at = number * CHUNK + chunk.len();
        chunk.extend_from_slice(&inode.to_le_bytes());
        chunk.extend_from_slice(&left.to_le_bytes());
        chunk.extend_from_slice(&dir.to_le_bytes());
        chunk.extend_from_slice(&(name.len() as u16).to_le_bytes());
        chunk.extend_from_slice(name);
        at as u32
    }

    fn get(&self, at: u32) -> Record {
        let (chunk, start) = (&self.chunks[at as usize / CHUNK], at as usize % CHUNK);
        let word = |from: usize| u32::from_le_bytes(chunk[start + from..start + from + 4].try_into().expect("4 bytes"));
        let len = usize::from(u16::from_le_bytes([chunk[start + 16], chunk[start + 17]]));
        Record {
            inode: u64::from(word(0)) | u64::from(word(4)) << 32,
            left: word(8),
            dir: word(12),
            name: chunk[start + HEAD..start + HEAD + len].into(),
        }
    }

    fn set_left(&mut self, at: u32, left: u32) {
        let start = at as usize % CHUNK;
        self.chunks[at as usize / CHUNK][start + 8..start + 12].copy_from_slice(&left.to_le_bytes());
    }
}

struct Record {
    inode: u64,
    left: u32,
    dir: u32,
    name: Box<[u8]>,
}

/// Directories that hold first names, by their way from the root; open ones are at hand.
#[derive(Default)]
struct Dirs {
    ways: Vec<(u32, Box<[u8]>)>,
    open: HashMap<u32, Arc<dyn DestDir>>,
}

/// What a name of a multi-linked inode is.
pub(super) enum Role<'a> {
    /// The first: make the file, then tell with [`First::made`]. Others wait until then.
    First(First<'a>),
    /// The file is there under this name.
    Further(FirstName),
}

/// A first name: where it is, and the inode that it must lead to.
pub(super) struct FirstName {
    dir: u32,
    pub(super) name: Box<[u8]>,
    pub(super) inode: u64,
}

impl FirstName {
    pub(super) fn dir_number(&self) -> u32 {
        self.dir
    }
}

/// The duty to make the file. Dropped without [`First::made`], the next name becomes the first.
pub(super) struct First<'a> {
    links: &'a Links,
    id: FileId,
    names_left: u32,
    made: bool,
}

impl Links {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            dirs: Mutex::default(),
            claims: (0..SHARDS).map(|_| Mutex::default()).collect(),
            source_claims: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    fn shard(&self, id: FileId) -> &Shard {
        &self.shards[(id.inode % SHARDS as u64) as usize]
    }

    /// Finds out what a name is. Waits while the first name's file is being created, which is one call away.
    pub(super) fn enter(&self, meta: &Metadata) -> Role<'_> {
        let shard = self.shard(meta.id);
        let mut table = lock(&shard.table);
        loop {
            match table.entries.get(&meta.id).copied() {
                None => {
                    table.entries.insert(meta.id, MAKING);
                    let names_left = meta.links.saturating_sub(1);
                    return Role::First(First { links: self, id: meta.id, names_left, made: false });
                }
                Some(MAKING) => table = shard.changed.wait(table).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let record = table.records.get(at);
                    if record.left <= 1 {
                        // The last name: nobody will ask again, unless links are made meanwhile, which costs a copy.
                        table.entries.remove(&meta.id);
                    } else {
                        table.records.set_left(at, record.left - 1);
                    }
                    return Role::Further(FirstName { dir: record.dir, name: record.name, inode: record.inode });
                }
            }
        }
    }

    /// Notes that a destination inode with several names stands for a source inode; `false` where it stands for another
    /// one already, so that this name must get an inode of its own.
    pub(super) fn claim(&self, dest: FileId, source: FileId) -> bool {
        self.claim_in(&self.claims, dest, source)
    }

    /// The other direction, for comparisons: a source inode has one inode in the destination.
    pub(super) fn claim_source(&self, source: FileId, dest: FileId) -> bool {
        self.claim_in(&self.source_claims, source, dest)
    }

    fn claim_in(&self, claims: &Claims, key: FileId, value: FileId) -> bool {
        let (key, value) = (self.hasher.hash_one(key), self.hasher.hash_one(value));
        *lock(&claims[(key % SHARDS as u64) as usize]).entry(key).or_insert(value) == value
    }

    fn dir_number(&self, dir: &Dir) -> u32 {
        if let Some(number) = dir.link_number.get() {
            return *number;
        }
        // Numbered from the root down, so that a parent's number is known.
        let mut chain = Vec::new();
        let mut next = Some(dir);
        while let Some(d) = next {
            chain.push(d);
            next = d.parent().map(|p| &**p);
        }
        let mut dirs = lock(&self.dirs);
        let mut number = 0;
        for d in chain.into_iter().rev() {
            number = *d.link_number.get_or_init(|| {
                let new = dirs.ways.len() as u32;
                dirs.ways.push((number, d.name.clone()));
                if let Some(dest) = &d.dest {
                    dirs.open.insert(new, dest.clone());
                }
                new
            });
        }
        number
    }

    /// The directory is done and must not be held open any longer.
    pub(super) fn forget_open(&self, dir: &Dir) {
        if let Some(number) = dir.link_number.get() {
            let held = lock(&self.dirs).open.remove(number);
            drop(held);
        }
    }

    /// Opens the directory of a first name: held still, or reached from the root name by name.
    pub(super) fn open_dir(&self, first: &FirstName, root: &Arc<dyn DestDir>) -> FsResult<Arc<dyn DestDir>> {
        let mut names = Vec::new();
        let mut base = None;
        {
            let dirs = lock(&self.dirs);
            let mut number = first.dir;
            while base.is_none() {
                base = dirs.open.get(&number).cloned();
                if base.is_none() {
                    let (parent, name) = &dirs.ways[number as usize];
                    if *parent == number {
                        break;
                    }
                    names.push(name.clone());
                    number = *parent;
                }
            }
        }
        let mut dir = base.unwrap_or_else(|| root.clone());
        for name in names.into_iter().rev() {
            dir = dir.descend(&name)?;
        }
        Ok(dir)
    }
}

impl First<'_> {
    /// The file exists under this name; other names may be linked to it from now on, also while it is filled.
    pub(super) fn made(mut self, dir: &Dir, name: &[u8], dest_inode: u64) {
        self.made = true;
        let number = self.links.dir_number(dir);
        let shard = self.links.shard(self.id);
        let mut table = lock(&shard.table);
        let at = table.records.add(dest_inode, self.names_left, number, name);
        table.entries.insert(self.id, at);
        drop(table);
        shard.changed.notify_all();
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if !self.made {
            let shard = self.links.shard(self.id);
            lock(&shard.table).entries.remove(&self.id);
            shard.changed.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were_written() {
        let mut records = Records::default();
        let names: Vec<Vec<u8>> = (0..1000_u32).map(|i| vec![b'x'; i as usize]).collect();
        let at: Vec<u32> = names
            .iter()
            .enumerate()
            .map(|(i, name)| records.add(i as u64 * 1_000_000_007, i as u32, i as u32 + 7, name))
            .collect();
        records.set_left(at[500], 99);
        for (i, name) in names.iter().enumerate() {
            let record = records.get(at[i]);
            assert_eq!(record.inode, i as u64 * 1_000_000_007);
            assert_eq!(record.left, if i == 500 { 99 } else { i as u32 });
            assert_eq!((record.dir, &*record.name), (i as u32 + 7, &name[..]));
        }
    }

    #[test]
    fn a_destination_inode_stands_for_one_source_inode() {
        let links = Links::new();
        let id = |inode| FileId { device: 1, inode };
        assert!(links.claim(id(10), id(1)));
        assert!(links.claim(id(10), id(1)));
        assert!(!links.claim(id(10), id(2)));
        assert!(links.claim_source(id(1), id(10)) && !links.claim_source(id(1), id(11)));
    }
}
