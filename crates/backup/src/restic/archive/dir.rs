//! A directory on its way into the repository: the nodes of its entries as they come, and the way up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use copy::tree::SourceDir;
use copy::{Metadata, RelPath, Xattrs};

use super::run::lock;
use crate::restic::node::{self, Tree};

#[derive(Debug)]
pub(super) struct DirState {
    pub(super) source: Arc<dyn SourceDir>,
    /// The directory that it is an entry of, and which one.
    pub(super) up: Option<(Arc<DirState>, usize)>,
    /// Names of its entries in the order of their bytes.
    pub(super) names: Vec<Box<[u8]>>,
    pub(super) meta: Metadata,
    pub(super) xattrs: Xattrs,
    /// Something of its own attributes or its listing could not be read.
    pub(super) is_faulty: bool,
    /// The same directory in the parent snapshot.
    pub(super) parent: Option<Arc<Tree>>,
    slots: Mutex<Vec<Option<Box<[u8]>>>>,
    /// Entries that are not done, and one for as long as entries may still be added.
    pending: AtomicUsize,
    /// Entries that nobody has looked at yet.
    unvisited: AtomicUsize,
}

impl DirState {
    pub(super) fn new(
        source: Arc<dyn SourceDir>,
        up: Option<(Arc<Self>, usize)>,
        names: Vec<Box<[u8]>>,
        own: (Metadata, Xattrs, bool),
        parent: Option<Arc<Tree>>,
    ) -> Self {
        let (meta, xattrs, is_faulty) = own;
        let count = names.len();
        Self {
            source,
            up,
            names,
            meta,
            xattrs,
            is_faulty,
            parent,
            slots: Mutex::new(vec![None; count]),
            pending: AtomicUsize::new(count + 1),
            unvisited: AtomicUsize::new(count),
        }
    }

    pub(super) fn path(&self, name: &[u8]) -> RelPath {
        let mut components = vec![name];
        let mut at = self;
        while let Some((up, slot)) = &at.up {
            components.push(&up.names[*slot]);
            at = up;
        }
        components.reverse();
        RelPath::from_components(components.into_iter().filter(|component| !component.is_empty()))
    }

    pub(super) fn is_root(&self) -> bool {
        self.up.is_none()
    }

    /// Puts an entry's node in its place; `None` for an entry that is left out. `true`: that was the last.
    pub(super) fn fill(&self, slot: usize, node: Option<Vec<u8>>) -> bool {
        if let Some(node) = node {
            lock(&self.slots)[slot] = Some(node.into_boxed_slice());
        }
        self.ended_one()
    }

    /// One entry less to wait for, or the listing itself. `true`: that was the last.
    pub(super) fn ended_one(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Some entries were looked at; when only subdirectories are left to wait for, the descriptor may be given back.
    pub(super) fn visited(&self, count: usize) {
        if self.unvisited.fetch_sub(count, Ordering::AcqRel) == count {
            self.source.park();
        }
    }

    /// The JSON of the tree. Gives up the nodes.
    pub(super) fn tree_json(&self) -> Vec<u8> {
        let slots = std::mem::take(&mut *lock(&self.slots));
        let bytes = slots.iter().flatten().map(|node| node.len() + 1).sum();
        node::tree_json(slots.iter().flatten().map(|node| &**node), bytes)
    }
}

impl Drop for DirState {
    /// One step at a time: a chain of directories is as deep as somebody made it, and the stack is not.
    fn drop(&mut self) {
        let mut up = self.up.take();
        while let Some((dir, _)) = up {
            up = Arc::into_inner(dir).and_then(|mut dir| dir.up.take());
        }
    }
}
