//! Says in words how two models differ.

use std::collections::BTreeSet;

use copy::{Timestamp, escape};

use super::{Body, Entry, TreeModel};

/// Lines of a diff; a tree that differs everywhere would bury the first difference.
const LINES_MAX: usize = 40;

/// What a comparison looks at besides names, kinds, content, owners, modes and mtimes.
#[derive(Clone, Debug)]
pub struct DiffOptions {
    pub atime: bool,
    pub xattrs: bool,
    pub flags: bool,
    /// Where data and holes are, by blocks.
    pub holes: bool,
    pub owner: bool,
    pub mode: bool,
    pub mtime: bool,
    pub links: bool,
    /// The root's own attributes.
    pub root: bool,
}

impl Default for DiffOptions {
    /// All but the holes, which file systems may place as they like.
    fn default() -> Self {
        Self {
            atime: true,
            xattrs: true,
            flags: true,
            holes: false,
            owner: true,
            mode: true,
            mtime: true,
            links: true,
            root: true,
        }
    }
}

/// The first differences of two trees, one a line; empty where they are the same.
pub fn diff(a: &TreeModel, b: &TreeModel) -> Vec<String> {
    diff_with(a, b, &DiffOptions::default())
}

/// [`diff`] with a choice of what counts.
pub fn diff_with(a: &TreeModel, b: &TreeModel, options: &DiffOptions) -> Vec<String> {
    let mut lines = Vec::new();
    let paths: BTreeSet<&[u8]> = a.iter().chain(b.iter()).map(|(path, _)| path).collect();
    for path in paths {
        let label = if path.is_empty() { ".".into() } else { escape(path) };
        match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => entry(a, b, !path.is_empty() || options.root, options, &mut |what| {
                lines.push(format!("`{label}`: {what}"));
            }),
            (Some(a), None) => lines.push(format!("`{label}`: {} only in the first tree", a.kind())),
            (None, Some(b)) => lines.push(format!("`{label}`: {} only in the second tree", b.kind())),
            (None, None) => unreachable!("the path is of one of them"),
        }
    }
    if options.links {
        let (ours, theirs) = (a.link_sets(), b.link_sets());
        for (sets, others, which) in [(&ours, &theirs, "first"), (&theirs, &ours, "second")] {
            for names in sets.difference(others) {
                let names: Vec<_> = names.iter().take(8).map(|n| format!("`{}`", escape(n))).collect();
                lines.push(format!("{}: one inode only in the {which} tree", names.join(", ")));
            }
        }
    }
    if lines.len() > LINES_MAX {
        let more = lines.len() - LINES_MAX;
        lines.truncate(LINES_MAX);
        lines.push(format!("... and {more} more"));
    }
    lines
}

fn entry(a: &Entry, b: &Entry, attributes: bool, options: &DiffOptions, say: &mut dyn FnMut(String)) {
    if a.kind() != b.kind() {
        return say(format!("{} != {}", a.kind(), b.kind()));
    }
    match (&a.body, &b.body) {
        (Body::File(a), Body::File(b)) => {
            if a.size_bytes() != b.size_bytes() {
                say(format!("size {} != {}", a.size_bytes(), b.size_bytes()));
            }
            if let Some(at) = a.first_difference(b) {
                let (mut x, mut y) = ([0; 8], [0; 8]);
                let (x_len, y_len) = (a.read_at(&mut x, at), b.read_at(&mut y, at));
                say(format!("content at {at}: {:02x?} != {:02x?}", &x[..x_len], &y[..y_len]));
            }
            if options.holes && a.data_ranges() != b.data_ranges() {
                say(format!("data at {:?} != {:?}", a.data_ranges(), b.data_ranges()));
            }
        }
        (Body::Symlink(a), Body::Symlink(b)) if a != b => say(format!("target `{}` != `{}`", escape(a), escape(b))),
        (a, b) if a.rdev() != b.rdev() => say(format!("device {:#x} != {:#x}", a.rdev(), b.rdev())),
        _ => {}
    }
    if !attributes {
        return;
    }
    if options.mode && a.mode != b.mode {
        say(format!("mode {:04o} != {:04o}", a.mode, b.mode));
    }
    if options.owner && (a.uid, a.gid) != (b.uid, b.gid) {
        say(format!("owner {}:{} != {}:{}", a.uid, a.gid, b.uid, b.gid));
    }
    if options.mtime && a.mtime != b.mtime {
        say(format!("mtime {} != {}", time(a.mtime), time(b.mtime)));
    }
    if options.atime && a.atime != b.atime {
        say(format!("atime {} != {}", time(a.atime), time(b.atime)));
    }
    if options.flags && a.flags != b.flags {
        say(format!("inode flags {:#x} != {:#x}", a.flags.0, b.flags.0));
    }
    if options.xattrs {
        let names: BTreeSet<_> = a.xattrs.keys().chain(b.xattrs.keys()).collect();
        for name in names {
            let (x, y) = (a.xattrs.get(name), b.xattrs.get(name));
            if x != y {
                let show = |v: Option<&Vec<u8>>| v.map_or("none".into(), |v| format!("`{}`", escape(v)));
                say(format!("xattr `{}` {} != {}", escape(name), show(x), show(y)));
            }
        }
    }
}

fn time(t: Timestamp) -> String {
    format!("{}.{:09}", t.seconds, t.nanos)
}
