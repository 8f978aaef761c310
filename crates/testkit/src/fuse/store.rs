//! The file system behind the mount: inodes in memory, never freed, since a test has few of them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use copy::Timestamp;
use rustix::io::Errno;

use crate::model::{Body, join};

pub(super) const ROOT: u64 = 1;

pub(super) struct Node {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) links: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) children: BTreeMap<Vec<u8>, Child>,
    /// Names by the number that a listing goes on from.
    pub(super) order: BTreeMap<u64, Vec<u8>>,
    /// Where the inode got its last name, to say in words what a request is about.
    parent: u64,
    name: Vec<u8>,
}

#[derive(Clone, Copy)]
pub(super) struct Child {
    pub(super) node: u64,
    order: u64,
}

pub(super) struct Store {
    nodes: BTreeMap<u64, Node>,
    next: u64,
}

/// Who makes an entry, and how.
#[derive(Clone, Copy)]
pub(super) struct Maker {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

pub(super) fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: now.as_secs() as i64, nanos: now.subsec_nanos() }
}

impl Store {
    pub(super) fn new() -> Self {
        let mut store = Self { nodes: BTreeMap::new(), next: ROOT };
        store.add(Body::Dir, Maker { mode: 0o755, uid: 0, gid: 0 }, ROOT, b"");
        store
    }

    fn add(&mut self, body: Body, maker: Maker, parent: u64, name: &[u8]) -> u64 {
        let time = now();
        let links = if body == Body::Dir { 2 } else { 1 };
        let node = Node {
            body,
            mode: maker.mode & 0o7777,
            uid: maker.uid,
            gid: maker.gid,
            atime: time,
            mtime: time,
            ctime: time,
            links,
            xattrs: BTreeMap::new(),
            children: BTreeMap::new(),
            order: BTreeMap::new(),
            parent,
            name: name.into(),
        };
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    pub(super) fn get(&self, id: u64) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::STALE)
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&id).ok_or(Errno::STALE)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn child(&self, dir: u64, name: &[u8]) -> Result<u64, Errno> {
        self.get(dir)?.children.get(name).map(|child| child.node).ok_or(Errno::NOENT)
    }

    /// The path of an inode by its last name, below the mount.
    pub(super) fn path(&self, id: u64) -> Vec<u8> {
        match self.nodes.get(&id) {
            Some(node) if id != ROOT => join(&self.path(node.parent), &node.name),
            _ => Vec::new(),
        }
    }

    pub(super) fn make(&mut self, dir: u64, name: &[u8], body: Body, maker: Maker) -> Result<u64, Errno> {
        if self.get(dir)?.children.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let is_dir = body == Body::Dir;
        let id = self.add(body, maker, dir, name);
        self.enter(dir, name, id)?;
        if is_dir {
            self.get_mut(dir)?.links += 1;
        }
        Ok(id)
    }

    /// Gives an inode a name.
    pub(super) fn enter(&mut self, dir: u64, name: &[u8], id: u64) -> Result<(), Errno> {
        // Numbers of the two names that every directory has come first.
        let order = self.get(dir)?.order.last_key_value().map_or(2, |(last, _)| *last) + 1;
        let parent = self.get_mut(dir)?;
        parent.children.insert(name.into(), Child { node: id, order });
        parent.order.insert(order, name.into());
        (parent.mtime, parent.ctime) = (now(), now());
        let node = self.get_mut(id)?;
        (node.parent, node.name, node.ctime) = (dir, name.into(), now());
        Ok(())
    }

    /// Takes a name away; the inode stays for who has it open.
    pub(super) fn leave(&mut self, dir: u64, name: &[u8]) -> Result<u64, Errno> {
        let parent = self.get_mut(dir)?;
        let child = parent.children.remove(name).ok_or(Errno::NOENT)?;
        parent.order.remove(&child.order);
        (parent.mtime, parent.ctime) = (now(), now());
        self.get_mut(child.node)?.ctime = now();
        Ok(child.node)
    }

    pub(super) fn remove(&mut self, dir: u64, name: &[u8]) -> Result<(), Errno> {
        let id = self.child(dir, name)?;
        let node = self.get(id)?;
        let is_dir = node.body == Body::Dir;
        if !node.children.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.leave(dir, name)?;
        self.get_mut(id)?.links -= if is_dir { 2 } else { 1 };
        if is_dir {
            self.get_mut(dir)?.links -= 1;
        }
        Ok(())
    }

    pub(super) fn rename(&mut self, dir: u64, name: &[u8], new_dir: u64, new_name: &[u8]) -> Result<(), Errno> {
        let id = self.child(dir, name)?;
        if self.child(new_dir, new_name).is_ok() {
            self.remove(new_dir, new_name)?;
        }
        self.leave(dir, name)?;
        if self.get(id)?.body == Body::Dir {
            self.get_mut(dir)?.links -= 1;
            self.get_mut(new_dir)?.links += 1;
        }
        self.enter(new_dir, new_name, id)
    }
}
