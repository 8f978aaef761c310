//! Random hostile trees.

use std::collections::BTreeMap;
use std::ops::Range;

use copy::{ACL_ACCESS, EntryKind, InodeFlags, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::{Body, Entry, TreeModel, join};
use crate::{Content, acl};

/// What generated trees may hold. The default is all that root can make on ext4, XFS and Btrfs.
#[derive(Clone, Debug)]
pub struct TreeShape {
    /// Steps of the generation; each adds at most one entry, or one chain of directories.
    pub steps_max: usize,
    /// Directories of one chain. Twenty of 255 bytes are deeper than `PATH_MAX`.
    pub chain_max: usize,
    pub file_bytes_max: u64,
    /// Device nodes.
    pub devices: bool,
    /// Other owners than the current user.
    pub owners: bool,
    /// `user.*`; on files and directories only, as Linux wants it.
    pub user_xattrs: bool,
    /// `trusted.*`; on every kind.
    pub trusted_xattrs: bool,
    pub acls: bool,
    /// No-dump and no-atime flags.
    pub flags: bool,
    /// Modes that lock the owner out, and setuid, setgid and sticky.
    pub odd_modes: bool,
    pub seconds: Range<i64>,
}

impl Default for TreeShape {
    fn default() -> Self {
        Self {
            steps_max: 40,
            chain_max: 24,
            file_bytes_max: 8 << 20,
            devices: true,
            owners: true,
            user_xattrs: true,
            trusted_xattrs: true,
            acls: true,
            flags: false,
            odd_modes: true,
            // What ext4 can hold, 1901 to 2446, without the edges, where Linux cuts the nanoseconds off.
            seconds: 1 - (1 << 31)..15_032_385_535,
        }
    }
}

impl TreeShape {
    /// Trees that a user without privileges can make and read.
    pub fn unprivileged() -> Self {
        Self { devices: false, owners: false, trusted_xattrs: false, odd_modes: false, ..Self::default() }
    }

    /// The widest shape that the current user can make.
    pub fn possible_here() -> Self {
        if rustix::process::geteuid().is_root() { Self::default() } else { Self::unprivileged() }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add { parent: Index, name: Vec<u8>, entry: Entry },
    Chain { parent: Index, name: Vec<u8>, depth: usize },
    Link { target: Index, parent: Index, name: Vec<u8> },
}

/// Trees of all kinds of entries under all kinds of names, hard links across directories, holes, odd modes and times.
pub fn any_tree(shape: &TreeShape) -> impl Strategy<Value = TreeModel> + use<> {
    let root = attributes(shape, EntryKind::Dir);
    let step = prop_oneof![
        12 => (any::<Index>(), any_name(), any_entry(shape))
            .prop_map(|(parent, name, entry)| Step::Add { parent, name, entry }),
        1 => (any::<Index>(), any_name(), 1..=shape.chain_max)
            .prop_map(|(parent, name, depth)| Step::Chain { parent, name, depth }),
        4 => (any::<Index>(), any::<Index>(), any_name())
            .prop_map(|(target, parent, name)| Step::Link { target, parent, name }),
    ];
    (root, vec(step, 0..=shape.steps_max)).prop_map(|(root, steps)| build(&root, steps))
}

/// The same trees on every call, for tests that are too slow for many cases.
pub fn sample_trees(shape: &TreeShape, count: usize) -> Vec<TreeModel> {
    let mut runner = TestRunner::deterministic();
    let strategy = any_tree(shape);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

fn build(root: &Attributes, steps: Vec<Step>) -> TreeModel {
    let mut tree = TreeModel::new();
    tree.edit("", |entry| root.give_to(entry));
    let mut dirs: Vec<Vec<u8>> = vec![Vec::new()];
    let mut others: Vec<Vec<u8>> = Vec::new();
    for step in steps {
        match step {
            Step::Add { parent, name, entry } => {
                let path = join(pick(parent, &dirs), &name);
                if tree.get(&path).is_some() {
                    continue;
                }
                if entry.kind() == EntryKind::Dir { &mut dirs } else { &mut others }.push(path.clone());
                tree.insert(path, entry);
            }
            Step::Chain { parent, name, depth } => {
                let mut path = pick(parent, &dirs).to_vec();
                for _ in 0..depth {
                    path = join(&path, &name);
                    if tree.get(&path).is_some_and(|e| e.kind() != EntryKind::Dir) {
                        break;
                    }
                    if tree.get(&path).is_none() {
                        tree.insert(&path, Entry::dir());
                        dirs.push(path.clone());
                    }
                }
            }
            Step::Link { target, parent, name } => {
                let path = join(pick(parent, &dirs), &name);
                if !others.is_empty() && tree.get(&path).is_none() {
                    tree.link(pick(target, &others), &path);
                    others.push(path);
                }
            }
        }
    }
    tree
}

fn pick(index: Index, paths: &[Vec<u8>]) -> &[u8] {
    index.get::<Vec<u8>>(paths)
}

/// Names that trip programs which treat them as text.
pub fn any_name() -> impl Strategy<Value = Vec<u8>> + use<> {
    let byte = any::<u8>().prop_filter("a name holds neither slash nor NUL", |b| *b != 0 && *b != b'/');
    prop_oneof![
        6 => "[a-c]{1,2}".prop_map(String::into_bytes),
        4 => vec(byte.clone(), 1..=12),
        1 => vec(byte, 255),
        3 => proptest::sample::select(vec![
            &b"..foo"[..], b"...", b"-rf", b"--", b" ", b"a\nb", b"\n", b"\xff\xfe", b"~", b"*", b"$(id)", b"a\\b",
            b"\x1b[2J", b".hidden", b"\xc3\xa9", b"e\xcc\x81", b"CON", b"A", b"a", b"..\n", b"%s%n", b"lost+found",
        ]).prop_map(Vec::from),
    ]
    .prop_filter("dot and dot-dot are taken", |name| name != b"." && name != b"..")
}

fn any_entry(shape: &TreeShape) -> impl Strategy<Value = Entry> + use<> {
    // XFS takes nine bits of a major number.
    let body = prop_oneof![
        8 => any_content(shape.file_bytes_max).prop_map(Body::File),
        4 => Just(Body::Dir),
        2 => any_target().prop_map(Body::Symlink),
        1 => Just(Body::Fifo),
        1 => Just(Body::Socket),
        u32::from(shape.devices) => (0u64..512, 0u64..256).prop_map(|(major, minor)| Body::CharDevice(major << 8 | minor)),
        u32::from(shape.devices) => (1u64..512, 0u64..256).prop_map(|(major, minor)| Body::BlockDevice(major << 8 | minor)),
    ];
    let shape = shape.clone();
    body.prop_flat_map(move |body| {
        let attributes = attributes(&shape, body.kind());
        (Just(body), attributes).prop_map(|(body, attributes)| {
            let mut entry = Entry::new(body);
            attributes.give_to(&mut entry);
            entry
        })
    })
}

fn any_target() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"../../../../etc/passwd".to_vec()),
        Just(b"/".to_vec()),
        Just(b".".to_vec()),
        any_name(),
        vec(1u8..=255, 1..=1000),
    ]
}

fn any_content(bytes_max: u64) -> impl Strategy<Value = Content> {
    let small = vec(any::<u8>(), 0..=200).prop_map(|bytes| Content::from_bytes(&bytes));
    let patterned = (0..=bytes_max.min(40_000), any::<u8>()).prop_map(|(len, seed)| {
        // Every block differs from its neighbours, so that a block at the wrong place shows.
        Content::from_bytes(&(0..len).map(|i| (i / 4096 * 7 + i) as u8 ^ seed).collect::<Vec<_>>())
    });
    let zeros = (0..=bytes_max.min(20_000)).prop_map(|len| Content::from_bytes(&vec![0; len as usize]));
    let sparse = (0..=bytes_max, vec((any::<Index>(), 1usize..=9000, 1u8..=255), 0..=4)).prop_map(|(size, extents)| {
        let mut content = Content::new();
        for (at, len, fill) in extents {
            content.write_at(&vec![fill; len], at.index(size as usize + 1) as u64);
        }
        content.set_len(size);
        content
    });
    prop_oneof![4 => small, 3 => patterned, 1 => zeros, 3 => sparse]
}

/// All that an entry has besides its body.
#[derive(Clone, Debug)]
struct Attributes {
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: Timestamp,
    atime: Timestamp,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    flags: InodeFlags,
    acl: Option<(u32, u16)>,
}

impl Attributes {
    fn give_to(&self, entry: &mut Entry) {
        if entry.kind() != EntryKind::Symlink {
            entry.mode = self.mode;
        }
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        (entry.mtime, entry.atime) = (self.mtime, self.atime);
        entry.xattrs.clone_from(&self.xattrs);
        entry.flags = self.flags;
        if let Some((uid, perm)) = self.acl {
            entry.xattrs.insert(ACL_ACCESS.into(), acl::with_user(self.mode, uid, perm));
        }
    }
}

fn attributes(shape: &TreeShape, kind: EntryKind) -> impl Strategy<Value = Attributes> + use<> {
    let holds_data = matches!(kind, EntryKind::File | EntryKind::Dir);
    let mode = if shape.odd_modes {
        prop_oneof![4 => Just(0o644), 2 => 0u32..=0o7777, 1 => Just(0), 1 => Just(0o6755)].boxed()
    } else {
        prop_oneof![Just(0o644), 0u32..=0o777].prop_map(|mode| mode | 0o600).boxed()
    };
    // A directory that its owner may not search cannot be built by an ordinary user.
    let searchable = if kind == EntryKind::Dir && !shape.odd_modes { 0o100 } else { 0 };
    let id = prop_oneof![Just(0u32), 1u32..70_000, Just(u32::MAX - 1)];
    let owner = if shape.owners { (id.clone(), id).prop_map(Some).boxed() } else { Just(None).boxed() };
    let user = xattrs(b"user.", if holds_data && shape.user_xattrs { 3 } else { 0 });
    let trusted = xattrs(b"trusted.", usize::from(shape.trusted_xattrs));
    let flags = if shape.flags && holds_data {
        prop_oneof![3 => Just(0), 1 => Just(0x40), 1 => Just(0x80)].prop_map(InodeFlags).boxed()
    } else {
        Just(InodeFlags::default()).boxed()
    };
    let acl = if shape.acls && holds_data {
        prop_oneof![5 => Just(None), 1 => (1u32..70_000, 0u16..8).prop_map(Some)].boxed()
    } else {
        Just(None).boxed()
    };
    let times = (any_time(shape), any_time(shape));
    (mode, owner, times, user, trusted, flags, acl).prop_map(
        move |(mode, owner, (mtime, atime), mut xattrs, trusted, flags, acl)| {
            xattrs.extend(trusted);
            Attributes { mode: mode | searchable, owner, mtime, atime, xattrs, flags, acl }
        },
    )
}

fn any_time(shape: &TreeShape) -> impl Strategy<Value = Timestamp> + use<> {
    let edge = proptest::sample::select(vec![shape.seconds.start, -1, 0, shape.seconds.end - 1]);
    let seconds = prop_oneof![4 => 1_000_000_000i64..1_800_000_000, 2 => shape.seconds.clone(), 1 => edge];
    let nanos = prop_oneof![3 => 0u32..1_000_000_000, 1 => Just(0), 1 => Just(999_999_999)];
    (seconds, nanos).prop_map(|(seconds, nanos)| Timestamp { seconds, nanos })
}

fn xattrs(prefix: &'static [u8], count_max: usize) -> impl Strategy<Value = BTreeMap<Vec<u8>, Vec<u8>>> {
    let name = vec(1u8..=255, 1..=20).prop_map(move |name| [prefix, &name].concat());
    prop_oneof![
        2 => Just(BTreeMap::new()),
        1 => proptest::collection::btree_map(name, vec(any::<u8>(), 0..=300), 0..=count_max),
    ]
}
