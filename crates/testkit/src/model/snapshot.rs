//! Takes a picture of a real directory.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use copy::{EntryKind, InodeFlags, Timestamp, escape};
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::walker::Walker;
use super::{Body, Entry, TreeModel};
use crate::Content;

/// Reads a real directory into a model without changing its times (symlinks' atime excepted, which nothing can spare).
///
/// Only data is read, so that huge sparse files are cheap. Extended attributes of the system itself are left out.
pub fn snapshot_dir(root: &Path) -> io::Result<TreeModel> {
    let mut walker = Walker::open(root)?;
    let mut picture = Picture::default();
    picture.take(&walker, b"")?;
    let mut pending: Vec<Vec<u8>> = vec![Vec::new()];
    while let Some(dir) = pending.pop() {
        walker.go_to(&dir)?;
        for name in walker.names()? {
            let told =
                |e: Errno| io::Error::new(e.kind(), format!("cannot read `{}`: {e}", escape(&walker.join(&name))));
            if picture.take(&walker, &name).map_err(told)? == EntryKind::Dir {
                pending.push(walker.join(&name));
            }
        }
    }
    Ok(picture.model)
}

#[derive(Default)]
struct Picture {
    model: TreeModel,
    /// Link groups by device and inode, with the first name until a second one makes it a group.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
}

impl Picture {
    fn take(&mut self, walker: &Walker, name: &[u8]) -> Result<EntryKind, Errno> {
        let stat = walker.stat(name)?;
        let path = walker.join(name);
        let kind = EntryKind::from_mode(stat.st_mode).expect("POSIX knows the kind");
        if kind != EntryKind::Dir && stat.st_nlink > 1 {
            if let Some(first) = self.seen.get(&(stat.st_dev, stat.st_ino)) {
                self.model.link(first.clone(), path);
                return Ok(kind);
            }
            self.seen.insert((stat.st_dev, stat.st_ino), path.clone());
        }
        let body = match kind {
            EntryKind::File => Body::File(read_content(walker, name, &stat)?),
            EntryKind::Dir => Body::Dir,
            EntryKind::Symlink => Body::Symlink(rustix::fs::readlinkat(walker.fd(), name, Vec::new())?.into_bytes()),
            EntryKind::Fifo => Body::Fifo,
            EntryKind::Socket => Body::Socket,
            EntryKind::CharDevice => Body::CharDevice(stat.st_rdev),
            EntryKind::BlockDevice => Body::BlockDevice(stat.st_rdev),
        };
        let flags = match kind {
            EntryKind::File | EntryKind::Dir => read_flags(walker, name)?,
            _ => InodeFlags::default(),
        };
        let entry = Entry {
            body,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: Timestamp { seconds: stat.st_mtime, nanos: stat.st_mtime_nsec as u32 },
            atime: Timestamp { seconds: stat.st_atime, nanos: stat.st_atime_nsec as u32 },
            xattrs: read_xattrs(walker, name)?,
            flags,
            link_group: None,
        };
        self.model.insert(path, entry);
        Ok(kind)
    }
}

fn read_content(walker: &Walker, name: &[u8], stat: &Stat) -> Result<Content, Errno> {
    let file = walker.read(name)?;
    let mut content = Content::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            let want = buffer.len().min((end - at) as usize);
            let read = rustix::io::pread(&file, &mut buffer[..want], at)?;
            if read == 0 {
                break;
            }
            content.write_at(&buffer[..read], at);
            at += read as u64;
        }
        at = end;
    }
    content.set_len(stat.st_size as u64);
    Ok(content)
}

fn read_flags(walker: &Walker, name: &[u8]) -> Result<InodeFlags, Errno> {
    match rustix::fs::ioctl_getflags(walker.read(name)?.as_fd()) {
        Ok(flags) => Ok(InodeFlags(flags.bits()).carried()),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(InodeFlags::default()),
        Err(errno) => Err(errno),
    }
}

/// Labels that the system gives by itself, and ACLs that XFS tells a second time in its own format.
fn is_systems_own(name: &[u8]) -> bool {
    matches!(name, b"security.selinux" | b"trusted.SGI_ACL_FILE" | b"trusted.SGI_ACL_DEFAULT")
}

fn read_xattrs(walker: &Walker, name: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let held = walker.hold(name)?;
    let path = held.proc_path();
    let mut list = vec![0; 64 << 10];
    let len = match rustix::fs::listxattr(&path, &mut list[..]) {
        Ok(len) => len,
        Err(Errno::OPNOTSUPP) => 0,
        Err(errno) => return Err(errno),
    };
    let mut xattrs = BTreeMap::new();
    let mut value = vec![0; 64 << 10];
    for name in list[..len].split(|b| *b == 0).filter(|n| !n.is_empty() && !is_systems_own(n)) {
        let len = rustix::fs::getxattr(&path, name, &mut value[..])?;
        xattrs.insert(name.to_vec(), value[..len].to_vec());
    }
    Ok(xattrs)
}
