//! The inode table and the rules of POSIX that need no caller: times, links, space.

use std::collections::BTreeMap;

use copy::{ACL_ACCESS, EntryKind, FileId, InodeFlags, Metadata, Timestamp, Xattrs};
use rustix::io::Errno;

use crate::model::{Body, Entry, TreeModel, join, split};
use crate::{BLOCK_BYTES, Calls, Content, acl};

/// Cookies that no entry has.
const LIES_MAX: u64 = 1 << 16;

/// A name as a listing tells it.
pub(super) type ListedName = (Vec<u8>, Option<EntryKind>);

pub(super) const SETUID: u32 = 0o4000;
pub(super) const SETGID: u32 = 0o2000;

/// Everything that changes, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    device: u64,
    fold_case: bool,
    /// Index is the inode number. Inodes stay when their last name goes: someone may hold them.
    inodes: Vec<Inode>,
    ticks: u64,
    pub(super) calls: [Calls; 2],
    pub(super) violations: Vec<String>,
    pub(super) unclosed_files: u64,
    pub(super) open_handles: u64,
    pub(super) open_handles_max: u64,
}

#[derive(Debug)]
pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) links: u32,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) flags: InodeFlags,
    /// The mode that it was made with, where the tree's user made it.
    pub(super) made_with: Option<u32>,
    pub(super) owner_was_set: bool,
    /// Data was written since the last sync.
    pub(super) dirty: bool,
}

#[derive(Debug)]
pub(super) enum Node {
    File(Content),
    Dir(Dir),
    Symlink(Vec<u8>),
    Special(EntryKind, u64),
}

#[derive(Debug, Default)]
pub(super) struct Dir {
    /// By name as it is looked up.
    slots: BTreeMap<Vec<u8>, Slot>,
    /// The order of listings: not that of names, and unmoved by changes of other entries.
    order: BTreeMap<u64, Vec<u8>>,
    /// Names that listings tell and that are not there, as a lying server would.
    pub(super) lies: Vec<ListedName>,
}

#[derive(Clone, Debug)]
struct Slot {
    name: Vec<u8>,
    cookie: u64,
    inode: u64,
}

impl Dir {
    pub(super) fn names(&self) -> Vec<Vec<u8>> {
        self.slots.values().map(|slot| slot.name.clone()).collect()
    }
}

impl Node {
    pub(super) fn kind(&self) -> EntryKind {
        match self {
            Self::File(_) => EntryKind::File,
            Self::Dir(_) => EntryKind::Dir,
            Self::Symlink(_) => EntryKind::Symlink,
            Self::Special(kind, _) => *kind,
        }
    }

    fn of(body: &Body) -> Self {
        match body {
            Body::File(content) => Self::File(content.clone()),
            Body::Dir => Self::Dir(Dir::default()),
            Body::Symlink(target) => Self::Symlink(target.clone()),
            other => Self::Special(other.kind(), other.rdev()),
        }
    }
}

impl State {
    pub(super) const ROOT: u64 = 0;

    pub(super) fn new(device: u64, fold_case: bool) -> Self {
        let mut state = Self {
            device,
            fold_case,
            inodes: Vec::new(),
            ticks: 0,
            calls: <[Calls; 2]>::default(),
            violations: Vec::new(),
            unclosed_files: 0,
            open_handles: 0,
            open_handles_max: 0,
        };
        let root = state.add_inode(Node::Dir(Dir::default()), 0o755, (0, 0));
        assert_eq!(root, Self::ROOT);
        state
    }

    /// The clock. It moves with every look, so that each change has a time of its own.
    pub(super) fn now(&mut self) -> Timestamp {
        self.ticks += 1;
        // Far from the times that models have, so that a time which was never set shows.
        Timestamp {
            seconds: 2_000_000_000 + (self.ticks / 1_000_000) as i64,
            nanos: (self.ticks % 1_000_000 * 1000) as u32,
        }
    }

    pub(super) fn add_inode(&mut self, node: Node, mode: u32, (uid, gid): (u32, u32)) -> u64 {
        let now = self.now();
        self.inodes.push(Inode {
            links: 0,
            node,
            mode,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            xattrs: BTreeMap::new(),
            flags: InodeFlags::default(),
            made_with: None,
            owner_was_set: false,
            dirty: false,
        });
        self.inodes.len() as u64 - 1
    }

    pub(super) fn inode(&self, inode: u64) -> &Inode {
        &self.inodes[inode as usize]
    }

    pub(super) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        &mut self.inodes[inode as usize]
    }

    /// Marks a change of attributes.
    pub(super) fn changed(&mut self, inode: u64) {
        let now = self.now();
        self.inode_mut(inode).ctime = now;
    }

    /// Marks a change of content, a directory's entries included.
    pub(super) fn modified(&mut self, inode: u64) {
        let now = self.now();
        let node = self.inode_mut(inode);
        (node.mtime, node.ctime) = (now, now);
    }

    pub(super) fn dir(&self, inode: u64) -> &Dir {
        match &self.inode(inode).node {
            Node::Dir(dir) => dir,
            other => panic!("a {} is used as a directory", other.kind()),
        }
    }

    pub(super) fn dir_mut(&mut self, inode: u64) -> &mut Dir {
        match &mut self.inode_mut(inode).node {
            Node::Dir(dir) => dir,
            other => panic!("a {} is used as a directory", other.kind()),
        }
    }

    pub(super) fn content(&self, inode: u64) -> &Content {
        match &self.inode(inode).node {
            Node::File(content) => content,
            other => panic!("a {} is used as a regular file", other.kind()),
        }
    }

    pub(super) fn content_mut(&mut self, inode: u64) -> &mut Content {
        match &mut self.inode_mut(inode).node {
            Node::File(content) => content,
            other => panic!("a {} is used as a regular file", other.kind()),
        }
    }

    fn key(&self, name: &[u8]) -> Vec<u8> {
        if self.fold_case { name.to_ascii_lowercase() } else { name.into() }
    }

    pub(super) fn lookup(&self, dir: u64, name: &[u8]) -> Result<u64, Errno> {
        self.dir(dir).slots.get(&self.key(name)).map(|slot| slot.inode).ok_or(Errno::NOENT)
    }

    /// Names of a directory from `cursor` on with their kinds, the next cursor, and whether the end was seen.
    pub(super) fn list(&self, dir: u64, cursor: u64, limit: usize) -> (Vec<ListedName>, u64, bool) {
        let dir = self.dir(dir);
        // Lies have the lowest cookies, so they come first.
        let lies = dir.lies.iter().zip(1u64..).map(|(lie, cookie)| (cookie, lie.clone()));
        let entries = dir.order.range(cursor + 1..).map(|(cookie, key)| {
            let slot = &dir.slots[key];
            (*cookie, (slot.name.clone(), Some(self.inode(slot.inode).node.kind())))
        });
        let mut names = Vec::new();
        let mut at = cursor;
        for (cookie, name) in lies.chain(entries).filter(|(cookie, _)| *cookie > cursor).take(limit) {
            names.push(name);
            at = cookie;
        }
        // Like `getdents`, the end shows only to those who ask beyond it.
        let ended = names.is_empty();
        (names, at, ended)
    }

    /// Gives an inode a name in a directory.
    pub(super) fn add_name(&mut self, dir: u64, name: &[u8], inode: u64) {
        let key = self.key(name);
        let place = self.dir_mut(dir);
        let mut cookie = hash(name);
        while cookie <= LIES_MAX || place.order.contains_key(&cookie) {
            cookie = (cookie + 1) & (u64::MAX >> 1);
        }
        place.order.insert(cookie, key.clone());
        let old = place.slots.insert(key, Slot { name: name.into(), cookie, inode });
        assert!(old.is_none(), "a name is given twice");
        self.inode_mut(inode).links += 1;
        self.changed(inode);
        self.modified(dir);
    }

    /// Takes a name away; the inode stays for those who hold it.
    pub(super) fn remove_name(&mut self, dir: u64, name: &[u8]) -> u64 {
        let key = self.key(name);
        let place = self.dir_mut(dir);
        let slot = place.slots.remove(&key).expect("the name was looked up");
        place.order.remove(&slot.cookie);
        self.inode_mut(slot.inode).links -= 1;
        self.changed(slot.inode);
        self.modified(dir);
        slot.inode
    }

    pub(super) fn is_empty_dir(&self, dir: u64) -> bool {
        self.dir(dir).slots.is_empty()
    }

    pub(super) fn metadata(&self, number: u64) -> Metadata {
        let inode = self.inode(number);
        let (size_bytes, allocated_bytes, rdev, links) = match &inode.node {
            Node::File(content) => (content.size_bytes(), content.allocated_bytes(), 0, inode.links),
            Node::Dir(dir) => {
                let subdirs = dir.slots.values().filter(|s| self.inode(s.inode).node.kind() == EntryKind::Dir).count();
                (BLOCK_BYTES, BLOCK_BYTES, 0, 2 + subdirs as u32)
            }
            Node::Symlink(target) => (target.len() as u64, 0, 0, inode.links),
            Node::Special(_, rdev) => (0, 0, *rdev, inode.links),
        };
        let flag = |bit: u32, attribute: i32| if inode.flags.0 & bit != 0 { attribute as u64 } else { 0 };
        Metadata {
            kind: inode.node.kind(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size_bytes,
            allocated_bytes,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            rdev,
            links,
            // Inode numbers begin somewhere, never at zero.
            id: FileId { device: self.device, inode: number + 2 },
            attributes: flag(0x10, libc::STATX_ATTR_IMMUTABLE)
                | flag(0x20, libc::STATX_ATTR_APPEND)
                | flag(0x40, libc::STATX_ATTR_NODUMP),
        }
    }

    pub(super) fn xattrs(&self, inode: u64) -> Xattrs {
        let pair = |(name, value): (&Vec<u8>, &Vec<u8>)| (name.as_slice().into(), value.as_slice().into());
        Xattrs::new(self.inode(inode).xattrs.iter().map(pair).collect())
    }

    /// `chmod`, which an access ACL follows.
    pub(super) fn set_mode(&mut self, inode: u64, mode: u32) {
        let node = self.inode_mut(inode);
        node.mode = mode;
        if let Some(acl) = node.xattrs.get_mut(ACL_ACCESS) {
            *acl = acl::with_mode(acl, mode).expect("it was checked when it was set");
        }
        self.changed(inode);
    }

    /// What Linux takes from a file that is written or changes its owner.
    pub(super) fn drop_privileges(&mut self, inode: u64) {
        let node = self.inode_mut(inode);
        if !matches!(node.node, Node::Dir(_)) {
            node.mode &= !(SETUID | SETGID);
            node.xattrs.remove(b"security.capability".as_slice());
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let held = self.inodes.iter().filter(|i| i.links > 0);
        held.map(|i| if let Node::File(content) = &i.node { content.allocated_bytes() } else { 0 }).sum()
    }

    /// Inodes with a name, and the root.
    pub(super) fn used_entries(&self) -> u64 {
        1 + self.inodes.iter().filter(|i| i.links > 0).count() as u64
    }

    pub(super) fn sync(&mut self) {
        self.inodes.iter_mut().for_each(|inode| inode.dirty = false);
    }

    pub(super) fn crash(&mut self) {
        for inode in &mut self.inodes {
            if let (Node::File(content), true) = (&mut inode.node, inode.dirty) {
                content.lose_data();
                inode.dirty = false;
            }
        }
    }

    /// Finds an inode by the path that tests use.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<u64, Errno> {
        path.split(|b| *b == b'/').filter(|name| !name.is_empty()).try_fold(Self::ROOT, |dir, name| {
            match &self.inode(dir).node {
                Node::Dir(_) => self.lookup(dir, name),
                _ => Err(Errno::NOTDIR),
            }
        })
    }

    pub(super) fn build(&mut self, model: &TreeModel) {
        let mut groups: BTreeMap<u32, u64> = BTreeMap::new();
        let order = model.walk_order();
        let mut inodes: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (path, entry) in &order {
            let known = entry.link_group.and_then(|group| groups.get(&group).copied());
            let inode = match known {
                Some(inode) => inode,
                None if path.is_empty() => Self::ROOT,
                None => self.add_inode(Node::of(&entry.body), 0, (0, 0)),
            };
            if let Some(group) = entry.link_group {
                groups.insert(group, inode);
            }
            if !path.is_empty() {
                let (parent, name) = split(path);
                self.add_name(inodes[parent], name, inode);
            }
            inodes.insert(path, inode);
        }
        for (path, entry) in order {
            self.set_attributes(inodes[path], entry);
        }
    }

    pub(super) fn set_attributes(&mut self, inode: u64, entry: &Entry) {
        let node = self.inode_mut(inode);
        node.mode = entry.mode;
        (node.uid, node.gid) = (entry.uid, entry.gid);
        (node.atime, node.mtime) = (entry.atime, entry.mtime);
        node.xattrs.clone_from(&entry.xattrs);
        node.flags = entry.flags;
        self.changed(inode);
    }

    /// Adds a new inode for an entry of a model.
    pub(super) fn add_entry(&mut self, dir: u64, name: &[u8], entry: &Entry) {
        let inode = self.add_inode(Node::of(&entry.body), 0, (0, 0));
        self.add_name(dir, name, inode);
        self.set_attributes(inode, entry);
    }

    pub(super) fn snapshot(&self) -> TreeModel {
        let mut model = TreeModel::new();
        let mut first_names: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        model.insert("", self.entry(Self::ROOT));
        let mut pending = vec![(Self::ROOT, Vec::new())];
        while let Some((dir, path)) = pending.pop() {
            for slot in self.dir(dir).slots.values() {
                let path = join(&path, &slot.name);
                if let Some(first) = first_names.get(&slot.inode) {
                    model.link(first.clone(), path);
                    continue;
                }
                let entry = self.entry(slot.inode);
                if entry.kind() == EntryKind::Dir {
                    pending.push((slot.inode, path.clone()));
                } else {
                    first_names.insert(slot.inode, path.clone());
                }
                model.insert(path, entry);
            }
        }
        model
    }

    fn entry(&self, inode: u64) -> Entry {
        let inode = self.inode(inode);
        let body = match &inode.node {
            Node::File(content) => Body::File(content.clone()),
            Node::Dir(_) => Body::Dir,
            Node::Symlink(target) => Body::Symlink(target.clone()),
            Node::Special(EntryKind::Fifo, _) => Body::Fifo,
            Node::Special(EntryKind::Socket, _) => Body::Socket,
            Node::Special(EntryKind::CharDevice, rdev) => Body::CharDevice(*rdev),
            Node::Special(_, rdev) => Body::BlockDevice(*rdev),
        };
        Entry {
            body,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            atime: inode.atime,
            xattrs: inode.xattrs.clone(),
            flags: inode.flags,
            link_group: None,
        }
    }
}

/// FNV-1a, cut to positive numbers: listings come in an order that has nothing to do with the names'.
fn hash(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)) >> 1
}
