//! What is known of an entry besides its content.

use std::fmt;

/// The seven kinds of entries of a POSIX tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryKind {
    File,
    Dir,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl EntryKind {
    pub const ALL: [Self; 7] =
        [Self::File, Self::Dir, Self::Symlink, Self::Fifo, Self::Socket, Self::CharDevice, Self::BlockDevice];

    /// Reads the type bits of a mode; `None` for a type that POSIX does not know.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & libc::S_IFMT {
            libc::S_IFREG => Self::File,
            libc::S_IFDIR => Self::Dir,
            libc::S_IFLNK => Self::Symlink,
            libc::S_IFIFO => Self::Fifo,
            libc::S_IFSOCK => Self::Socket,
            libc::S_IFCHR => Self::CharDevice,
            libc::S_IFBLK => Self::BlockDevice,
            _ => return None,
        })
    }

    /// The type bits of a mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::File => libc::S_IFREG,
            Self::Dir => libc::S_IFDIR,
            Self::Symlink => libc::S_IFLNK,
            Self::Fifo => libc::S_IFIFO,
            Self::Socket => libc::S_IFSOCK,
            Self::CharDevice => libc::S_IFCHR,
            Self::BlockDevice => libc::S_IFBLK,
        }
    }

    /// FIFOs, sockets and devices: made anew, never opened.
    pub fn is_special(self) -> bool {
        matches!(self, Self::Fifo | Self::Socket | Self::CharDevice | Self::BlockDevice)
    }

    pub fn is_device(self) -> bool {
        matches!(self, Self::CharDevice | Self::BlockDevice)
    }

    /// The word for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A point in time as file systems keep it: seconds since 1970, negative before, and 0..1e9 nanoseconds after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
}

/// Identity of an inode while its file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// What `statx` tells of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub kind: EntryKind,
    /// The low twelve bits: permissions with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size_bytes: u64,
    /// Bytes of storage in use; less than the size where there are holes.
    pub allocated_bytes: u64,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub rdev: u64,
    pub links: u32,
    pub id: FileId,
    /// `STATX_ATTR_*` bits, where the file system reports them.
    pub attributes: u64,
}

impl Metadata {
    /// Tells whether a copy that was read between two looks at the file saw one state of it.
    pub fn same_content_state(&self, later: &Self) -> bool {
        self.size_bytes == later.size_bytes
            && self.mtime == later.mtime
            && self.ctime == later.ctime
            && self.id == later.id
    }

    pub fn is_immutable_or_append(&self) -> bool {
        self.attributes & (libc::STATX_ATTR_IMMUTABLE as u64 | libc::STATX_ATTR_APPEND as u64) != 0
    }
}

/// Extended attributes, POSIX ACLs and file capabilities among them, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Xattrs(Vec<Xattr>);

/// Name and value.
pub type Xattr = (Box<[u8]>, Box<[u8]>);

impl Xattrs {
    pub fn new(mut list: Vec<Xattr>) -> Self {
        list.sort();
        Self(list)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// `FS_*_FL` bits of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InodeFlags(pub u32);

impl InodeFlags {
    const IMMUTABLE: u32 = 0x10;
    const APPEND: u32 = 0x20;
    /// What a person sets with `chattr` and what a copy can carry: sync, immutable, append, no-dump, no-atime, dirsync,
    /// top-dir, no-cow and project-inherit are the user's words about the file. Compression, encryption, verity,
    /// extents, index and inline data are the file system's own business.
    const CARRIED: u32 =
        0x8 | Self::IMMUTABLE | Self::APPEND | 0x40 | 0x80 | 0x1_0000 | 0x2_0000 | 0x80_0000 | 0x2000_0000;

    #[must_use]
    pub fn carried(self) -> Self {
        Self(self.0 & Self::CARRIED)
    }

    /// Those that forbid any further change to the inode, so they must come last.
    pub fn freezes(self) -> bool {
        self.0 & (Self::IMMUTABLE | Self::APPEND) != 0
    }

    #[must_use]
    pub fn without_freezing(self) -> Self {
        Self(self.0 & !(Self::IMMUTABLE | Self::APPEND))
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_mode_bits_are_each_others_inverse() {
        for kind in EntryKind::ALL {
            assert_eq!(EntryKind::from_mode(kind.mode_bits() | 0o7777), Some(kind));
        }
        assert_eq!(EntryKind::from_mode(0o170_000), None);
    }

    #[test]
    fn xattrs_compare_whatever_order_they_were_listed_in() {
        let pair = |n: &str, v: &str| (n.as_bytes().into(), v.as_bytes().into());
        let a = Xattrs::new(vec![pair("user.b", "2"), pair("user.a", "1")]);
        assert_eq!(a, Xattrs::new(vec![pair("user.a", "1"), pair("user.b", "2")]));
        assert_eq!(a.get(b"user.b"), Some(&b"2"[..]));
    }
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// An ordinary file of no particular interest.
    pub(crate) fn plain() -> Metadata {
        let time = Timestamp::default();
        Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size_bytes: 0,
            allocated_bytes: 0,
            atime: time,
            mtime: time,
            ctime: time,
            rdev: 0,
            links: 1,
            id: FileId { device: 1, inode: 1 },
            attributes: 0,
        }
    }
}
