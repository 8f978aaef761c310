//! A tree as plain data: what tests generate, build, take pictures of and compare.
//!
//! Nothing here uses the engine. Real directories are walked one name at a time by descriptors, so that any depth and
//! any name works.

mod diff;
mod materialise;
mod snapshot;
mod strategy;
pub(crate) mod walker;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use copy::{EntryKind, InodeFlags, Timestamp, escape, is_plain_name};

use crate::Content;

pub use diff::{DiffOptions, diff, diff_with};
pub use materialise::{Materialised, materialise};
pub use snapshot::snapshot_dir;
pub use strategy::{TreeShape, any_name, any_tree, sample_trees};

/// What an entry is and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    File(Content),
    Dir,
    Symlink(Vec<u8>),
    Fifo,
    Socket,
    CharDevice(u64),
    BlockDevice(u64),
}

impl Body {
    pub fn kind(&self) -> EntryKind {
        match self {
            Self::File(_) => EntryKind::File,
            Self::Dir => EntryKind::Dir,
            Self::Symlink(_) => EntryKind::Symlink,
            Self::Fifo => EntryKind::Fifo,
            Self::Socket => EntryKind::Socket,
            Self::CharDevice(_) => EntryKind::CharDevice,
            Self::BlockDevice(_) => EntryKind::BlockDevice,
        }
    }

    /// The device number; zero for what is no device.
    pub fn rdev(&self) -> u64 {
        match self {
            Self::CharDevice(rdev) | Self::BlockDevice(rdev) => *rdev,
            _ => 0,
        }
    }
}

/// One name of a tree with everything that a copy must keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub body: Body,
    /// The low twelve bits; always 0777 for symlinks.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    pub atime: Timestamp,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Only those that a copy carries.
    pub flags: InodeFlags,
    /// Names with the same number are one inode; `None` for a single name. The numbers mean nothing else.
    pub link_group: Option<u32>,
}

impl Entry {
    /// An entry of the current user with a fixed time.
    pub fn new(body: Body) -> Self {
        let mode = match body {
            Body::Dir => 0o755,
            Body::Symlink(_) => 0o777,
            _ => 0o644,
        };
        let time = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
        Self {
            body,
            mode,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: time,
            atime: time,
            xattrs: BTreeMap::new(),
            flags: InodeFlags::default(),
            link_group: None,
        }
    }

    pub fn file(bytes: &[u8]) -> Self {
        Self::new(Body::File(Content::from_bytes(bytes)))
    }

    pub fn dir() -> Self {
        Self::new(Body::Dir)
    }

    pub fn symlink(target: &[u8]) -> Self {
        Self::new(Body::Symlink(target.into()))
    }

    pub fn fifo() -> Self {
        Self::new(Body::Fifo)
    }

    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    #[must_use]
    pub fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.mtime = Timestamp { seconds, nanos };
        self
    }

    #[must_use]
    pub fn xattr(mut self, name: &[u8], value: &[u8]) -> Self {
        self.xattrs.insert(name.into(), value.into());
        self
    }

    pub fn kind(&self) -> EntryKind {
        self.body.kind()
    }

    /// The content of a regular file.
    pub fn content(&self) -> Option<&Content> {
        match &self.body {
            Body::File(content) => Some(content),
            _ => None,
        }
    }
}

/// A whole tree: entries by path, components joined by slashes, the root under the empty path.
#[derive(Clone, PartialEq, Eq)]
pub struct TreeModel {
    entries: BTreeMap<Vec<u8>, Entry>,
    next_group: u32,
}

impl Default for TreeModel {
    fn default() -> Self {
        Self { entries: BTreeMap::from([(Vec::new(), Entry::dir())]), next_group: 0 }
    }
}

impl TreeModel {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry to a directory that is there already, or replaces one that is no directory.
    pub fn insert(&mut self, path: impl AsRef<[u8]>, entry: Entry) {
        let path = path.as_ref();
        if !path.is_empty() {
            let (parent, name) = split(path);
            assert!(is_plain_name(name), "not a plain name: `{}`", escape(path));
            let parent = self.entries.get(parent).map(Entry::kind);
            assert_eq!(parent, Some(EntryKind::Dir), "no directory for `{}`", escape(path));
        }
        if let Some(group) = entry.link_group {
            self.next_group = self.next_group.max(group + 1);
        }
        self.entries.insert(path.into(), entry);
    }

    /// [`insert`](Self::insert) for building a tree in one expression.
    #[must_use]
    pub fn with(mut self, path: impl AsRef<[u8]>, entry: Entry) -> Self {
        self.insert(path, entry);
        self
    }

    /// Gives an entry that is no directory a further name.
    pub fn link(&mut self, existing: impl AsRef<[u8]>, path: impl AsRef<[u8]>) {
        let entry = self.entries.get_mut(existing.as_ref()).expect("an entry of that path");
        assert_ne!(entry.kind(), EntryKind::Dir, "a directory has one name");
        if entry.link_group.is_none() {
            entry.link_group = Some(self.next_group);
            self.next_group += 1;
        }
        let entry = entry.clone();
        self.insert(path, entry);
    }

    /// [`link`](Self::link) for building a tree in one expression.
    #[must_use]
    pub fn with_link(mut self, existing: impl AsRef<[u8]>, path: impl AsRef<[u8]>) -> Self {
        self.link(existing, path);
        self
    }

    /// Removes an entry and everything below it.
    pub fn remove(&mut self, path: impl AsRef<[u8]>) {
        let path = path.as_ref();
        self.entries.retain(|p, _| p != path && !is_below(p, path));
    }

    pub fn get(&self, path: impl AsRef<[u8]>) -> Option<&Entry> {
        self.entries.get(path.as_ref())
    }

    /// Changes an entry, and with it all its names.
    pub fn edit(&mut self, path: impl AsRef<[u8]>, change: impl FnOnce(&mut Entry)) {
        let entry = self.entries.get_mut(path.as_ref()).expect("an entry of that path");
        change(entry);
        if let Some(group) = entry.link_group {
            let entry = entry.clone();
            self.entries.values_mut().filter(|e| e.link_group == Some(group)).for_each(|e| e.clone_from(&entry));
        }
    }

    /// Entries in the order of their paths' bytes, the root first.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.entries.iter().map(|(path, entry)| (&**path, entry))
    }

    /// Entries, the root among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 1
    }

    /// How many entries are of this kind, the root among them.
    pub fn count(&self, kind: EntryKind) -> usize {
        self.entries.values().filter(|e| e.kind() == kind).count()
    }

    /// Apparent bytes of all names of regular files.
    pub fn file_bytes(&self) -> u64 {
        self.entries.values().filter_map(Entry::content).map(Content::size_bytes).sum()
    }

    /// Sets of names that are one inode; single names left out.
    pub fn link_sets(&self) -> BTreeSet<BTreeSet<&[u8]>> {
        let mut groups: BTreeMap<u32, BTreeSet<&[u8]>> = BTreeMap::new();
        for (path, entry) in self.iter() {
            if let Some(group) = entry.link_group {
                groups.entry(group).or_default().insert(path);
            }
        }
        groups.into_values().filter(|names| names.len() > 1).collect()
    }

    /// Paths with every directory right before what is below it, and nothing else in between.
    pub(crate) fn walk_order(&self) -> Vec<(&[u8], &Entry)> {
        let mut all: Vec<_> = self.iter().collect();
        // No name holds a NUL, so a slash that sorts lowest keeps a directory and its entries together.
        let key = |b: u8| if b == b'/' { 0 } else { b };
        all.sort_by(|(a, _), (b, _)| a.iter().map(|b| key(*b)).cmp(b.iter().map(|b| key(*b))));
        all
    }
}

impl fmt::Debug for TreeModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, e) in self.iter() {
            write!(f, "\n  `{}` {:?} {:04o} {}:{}", escape(path), e.body, e.mode, e.uid, e.gid)?;
            write!(f, " m{}.{:09} a{}.{:09}", e.mtime.seconds, e.mtime.nanos, e.atime.seconds, e.atime.nanos)?;
            for (name, value) in &e.xattrs {
                write!(f, " {}={}", escape(name), escape(&value[..value.len().min(16)]))?;
                if value.len() > 16 {
                    write!(f, "... {} bytes", value.len())?;
                }
            }
            if !e.flags.is_empty() {
                write!(f, " flags {:#x}", e.flags.0)?;
            }
            if let Some(group) = e.link_group {
                write!(f, " link {group}")?;
            }
        }
        Ok(())
    }
}

/// The directory and the last name of a path.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// The path of `name` in the directory `dir`.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.into() } else { [dir, b"/", name].concat() }
}

fn is_below(path: &[u8], dir: &[u8]) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with(b"/"))
}
