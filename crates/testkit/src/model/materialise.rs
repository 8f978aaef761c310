//! Builds a model as a real directory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use copy::{Timestamp, escape};
use rustix::fs::{AtFlags, Gid, IFlags, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::walker::{Held, Walker};
use super::{Body, Entry, TreeModel};

/// What could not be built; empty for root on a capable file system.
#[derive(Clone, Debug, Default)]
#[must_use = "a test that leaves things out must say so"]
pub struct Materialised {
    /// One line for each entry or attribute that was left out, with the reason.
    pub left_out: Vec<String>,
}

/// Builds the model in `root`, an empty directory that is there already, and gives it the root's attributes too.
///
/// What the current user or the file system does not allow is left out and told.
pub fn materialise(model: &TreeModel, root: &Path) -> io::Result<Materialised> {
    let at = |path: &[u8]| {
        let path = escape(path);
        move |errno: Errno| io::Error::new(errno.kind(), format!("cannot build `{path}`: {errno}"))
    };
    let mut done = Materialised::default();
    let mut walker = Walker::open(root).map_err(at(b""))?;
    let mut first_walker = Walker::open(root).map_err(at(b""))?;
    let mut first_names: BTreeMap<u32, &[u8]> = BTreeMap::new();
    let order = model.walk_order();
    for (path, entry) in order.iter().filter(|(path, _)| !path.is_empty()) {
        let name = walker.go_to_parent(path).map_err(at(path))?;
        if let Some(first) = entry.link_group.and_then(|group| first_names.get(&group)) {
            let first_name = first_walker.go_to_parent(first).map_err(at(first))?;
            rustix::fs::linkat(first_walker.fd(), first_name, walker.fd(), name, AtFlags::empty()).map_err(at(path))?;
            continue;
        }
        match create(&walker, name, &entry.body) {
            Ok(()) => {}
            Err(Errno::PERM) => {
                done.left_out.push(format!("`{}`: {}", escape(path), entry.kind()));
                continue;
            }
            Err(errno) => return Err(at(path)(errno)),
        }
        if let Some(group) = entry.link_group {
            first_names.insert(group, path);
        }
        if entry.body != Body::Dir {
            // The attributes of a multi-linked inode are changed by nothing but a further link's ctime.
            set_attributes(&walker, name, path, entry, &mut done).map_err(at(path))?;
        }
    }
    // Directories last, deepest first: entries change their times, and their modes can lock a user out.
    for (path, entry) in order.iter().rev().filter(|(_, entry)| entry.body == Body::Dir) {
        let name = walker.go_to_parent(path).map_err(at(path))?;
        set_attributes(&walker, name, path, entry, &mut done).map_err(at(path))?;
    }
    Ok(done)
}

fn create(walker: &Walker, name: &[u8], body: &Body) -> Result<(), Errno> {
    let owner_only = Mode::RUSR | Mode::WUSR;
    let node = |kind, rdev| rustix::fs::mknodat(walker.fd(), name, kind, owner_only, rdev);
    match body {
        Body::Dir => rustix::fs::mkdirat(walker.fd(), name, Mode::RWXU),
        Body::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), walker.fd(), name),
        Body::Fifo => node(rustix::fs::FileType::Fifo, 0),
        Body::Socket => node(rustix::fs::FileType::Socket, 0),
        Body::CharDevice(rdev) => node(rustix::fs::FileType::CharacterDevice, *rdev),
        Body::BlockDevice(rdev) => node(rustix::fs::FileType::BlockDevice, *rdev),
        Body::File(content) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(walker.fd(), name, flags, owner_only)?;
            let mut buffer = vec![0; 1 << 20];
            for range in content.data_ranges() {
                let mut offset = range.start;
                while offset < range.end {
                    let len = (range.end - offset).min(buffer.len() as u64) as usize;
                    content.read_at(&mut buffer[..len], offset);
                    let written = rustix::io::pwrite(&file, &buffer[..len], offset)?;
                    offset += written as u64;
                }
            }
            for range in content.unwritten() {
                let len = range.end - range.start;
                rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, range.start, len)?;
            }
            rustix::fs::ftruncate(&file, content.size_bytes())
        }
    }
}

fn set_attributes(
    walker: &Walker,
    name: &[u8],
    path: &[u8],
    entry: &Entry,
    done: &mut Materialised,
) -> Result<(), Errno> {
    let held = walker.hold(name)?;
    let mut optional = |what: &str, result: Result<(), Errno>| match result {
        Err(errno @ (Errno::PERM | Errno::OPNOTSUPP | Errno::NOTTY)) => {
            done.left_out.push(format!("`{}`: {what}: {errno}", escape(path)));
            Ok(())
        }
        other => other,
    };
    let stat = rustix::fs::fstat(&held.fd)?;
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        let (uid, gid) = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
        optional("owner", rustix::fs::chownat(&held.fd, "", uid, gid, AtFlags::EMPTY_PATH))?;
    }
    for (xattr, value) in &entry.xattrs {
        let set = rustix::fs::setxattr(held.proc_path(), xattr.as_slice(), value, XattrFlags::empty());
        optional(&format!("xattr `{}`", escape(xattr)), set)?;
    }
    if !held.is_symlink {
        rustix::fs::chmod(held.proc_path(), Mode::from_raw_mode(entry.mode))?;
    }
    set_times(&held, entry.atime, entry.mtime)?;
    if !entry.flags.is_empty() {
        optional("inode flags", set_flags(walker, name, entry.flags.0))?;
    }
    Ok(())
}

fn set_times(held: &Held, atime: Timestamp, mtime: Timestamp) -> Result<(), Errno> {
    let spec = |t: Timestamp| Timespec { tv_sec: t.seconds, tv_nsec: t.nanos.into() };
    let times = Timestamps { last_access: spec(atime), last_modification: spec(mtime) };
    rustix::fs::utimensat(&held.fd, "", &times, AtFlags::EMPTY_PATH)
}

fn set_flags(walker: &Walker, name: &[u8], wanted: u32) -> Result<(), Errno> {
    let fd = walker.read(name)?;
    let flags = rustix::fs::ioctl_getflags(&fd)?;
    // The times of a regular file stay: flags change only the ctime.
    rustix::fs::ioctl_setflags(&fd, flags | IFlags::from_bits_retain(wanted))
}
