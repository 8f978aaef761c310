//! A directory on the way: both sides of it, and what still has to happen before it is done.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::meta::{InodeFlags, Metadata, Xattrs};
use crate::path::RelPath;
use crate::tree::{DestDir, SourceDir};

/// What was in the destination's directory when the walk came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// The engine made it: nobody else may enter, nothing is inherited but what the kernel gives.
    Fresh,
    /// It was there and held nothing.
    Empty,
    Filled,
}

/// Owner and mode that the kernel gives a new file in a fresh directory, learned from the first one.
#[derive(Clone, Copy, Debug)]
pub(super) struct CreatedAs {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mode_is_kept: bool,
}

#[derive(Debug)]
pub(super) struct Dir {
    parent: Option<Arc<Self>>,
    pub(super) name: Box<[u8]>,
    pub(super) source: Arc<dyn SourceDir>,
    /// `None` in a dry run below a directory that does not exist.
    pub(super) dest: Option<Arc<dyn DestDir>>,
    pub(super) before: Before,
    /// The source's own attributes, as they were before it was read.
    pub(super) meta: Metadata,
    pub(super) xattrs: Xattrs,
    pub(super) flags: Option<InodeFlags>,
    /// A default ACL in the destination that new entries would inherit.
    pub(super) inherits_acl: bool,
    /// Entries that are not done, and one more while the listing goes on.
    pending: AtomicU64,
    /// The listing was not complete: what it did not name must not be removed.
    pub(super) listing_failed: AtomicBool,
    pub(super) created_as: OnceLock<CreatedAs>,
    /// Hashes of the source's names, for removal of what it does not have.
    names: Mutex<Option<Vec<u64>>>,
    /// Number under which the table of hard links knows this directory.
    pub(super) link_number: OnceLock<u32>,
}

/// Both sides of a directory that has just been opened.
pub(super) struct Opened {
    pub(super) source: Arc<dyn SourceDir>,
    pub(super) dest: Option<Arc<dyn DestDir>>,
    pub(super) before: Before,
    pub(super) meta: Metadata,
    pub(super) xattrs: Xattrs,
    pub(super) flags: Option<InodeFlags>,
    pub(super) inherits_acl: bool,
    /// Whether the source's names have to be remembered.
    pub(super) keep_names: bool,
}

/// Above it names are looked up in the source again instead of being remembered: 512 KiB a directory.
const NAMES_MAX: usize = 64 << 10;

impl Dir {
    pub(super) fn new(parent: Option<Arc<Self>>, name: &[u8], opened: Opened) -> Arc<Self> {
        Arc::new(Self {
            parent,
            name: name.into(),
            source: opened.source,
            dest: opened.dest,
            before: opened.before,
            meta: opened.meta,
            xattrs: opened.xattrs,
            flags: opened.flags,
            inherits_acl: opened.inherits_acl,
            pending: AtomicU64::new(1),
            listing_failed: AtomicBool::new(false),
            created_as: OnceLock::new(),
            names: Mutex::new(opened.keep_names.then(Vec::new)),
            link_number: OnceLock::new(),
        })
    }

    pub(super) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    /// The path of an entry, or of the directory itself for an empty name.
    pub(super) fn path(&self, name: &[u8]) -> RelPath {
        let mut components = Vec::new();
        if !name.is_empty() {
            components.push(name);
        }
        let mut dir = self;
        while let Some(parent) = &dir.parent {
            components.push(&dir.name);
            dir = parent;
        }
        RelPath::from_components(components.into_iter().rev())
    }

    /// Its descriptors may be given back: it waits for others, or nobody knows when it is needed next.
    pub(super) fn park(&self) {
        self.source.park();
        if let Some(dest) = &self.dest {
            dest.park();
        }
    }

    /// What was in the destination before the run.
    pub(super) fn before_run(&self) -> Before {
        let mut dir = self;
        while let Some(parent) = &dir.parent {
            dir = parent;
        }
        dir.before
    }

    /// Entries were found; they are done one by one.
    pub(super) fn expect(&self, entries: u64) {
        self.pending.fetch_add(entries, Ordering::Relaxed);
    }

    /// Entries are done, or the listing is; `true` for the caller that ends the directory.
    pub(super) fn done(&self, entries: u64) -> bool {
        self.pending.fetch_sub(entries, Ordering::AcqRel) == entries
    }

    pub(super) fn remember_name(&self, hash: u64) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = &mut *names {
            if list.len() < NAMES_MAX {
                list.push(hash);
            } else {
                *names = None;
            }
        }
    }

    /// The remembered names, sorted; `None` where there were too many.
    pub(super) fn take_names(&self) -> Option<Vec<u64>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        names.sort_unstable();
        Some(names)
    }
}

impl Drop for Dir {
    /// Ancestors go one after another, not in a recursion as deep as the tree.
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some(dir) = next {
            next = Arc::into_inner(dir).and_then(|mut dir| dir.parent.take());
        }
    }
}
