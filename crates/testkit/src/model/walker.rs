//! Moves through a real directory by one descriptor, one name at a time, however deep and whatever the names.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::join;

/// A current directory of its own. It goes up by `..`, which is safe where nobody moves directories meanwhile; each
/// step up checks that it arrived where it came from.
#[derive(Debug)]
pub(crate) struct Walker {
    current: OwnedFd,
    path: Vec<Vec<u8>>,
    /// Device and inode of the directories above, the root first.
    above: Vec<(u64, u64)>,
}

impl Walker {
    pub(crate) fn open(root: &Path) -> Result<Self, Errno> {
        let current = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { current, path: Vec::new(), above: Vec::new() })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.current.as_fd()
    }

    /// Steps into a directory of the current one.
    pub(crate) fn down(&mut self, name: &[u8]) -> Result<(), Errno> {
        let here = identity(self.fd())?;
        self.current = open_dir(self.fd(), name)?;
        self.above.push(here);
        self.path.push(name.into());
        Ok(())
    }

    /// Steps out, and tells the name that it stepped out of.
    pub(crate) fn up(&mut self) -> Result<Vec<u8>, Errno> {
        let name = self.path.pop().expect("a walker goes up as often as down");
        let parent = open_dir(self.fd(), b"..")?;
        assert_eq!(Some(identity(parent.as_fd())?), self.above.pop(), "a directory was moved under the walker");
        self.current = parent;
        Ok(name)
    }

    /// Goes to the directory of that path by the shortest way.
    pub(crate) fn go_to(&mut self, path: &[u8]) -> Result<(), Errno> {
        let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|n| !n.is_empty()).collect();
        let shared = self.path.iter().zip(&names).take_while(|(a, b)| a.as_slice() == **b).count();
        while self.path.len() > shared {
            self.up()?;
        }
        for name in &names[shared..] {
            self.down(name)?;
        }
        Ok(())
    }

    /// Goes to the directory that holds `path`, and gives the path's last name.
    pub(crate) fn go_to_parent<'a>(&mut self, path: &'a [u8]) -> Result<&'a [u8], Errno> {
        let (dir, name) = super::split(path);
        self.go_to(dir)?;
        Ok(name)
    }

    /// The names of the current directory.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        // A descriptor of its own: it starts at the beginning.
        let fd = open_noatime(self.fd(), b".", OFlags::DIRECTORY)?;
        let mut buffer = vec![MaybeUninit::uninit(); 32 << 10];
        let mut entries = RawDir::new(fd, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Attributes of a name here; the current directory's own for an empty name.
    pub(crate) fn stat(&self, name: &[u8]) -> Result<Stat, Errno> {
        if name.is_empty() {
            return rustix::fs::fstat(self.fd());
        }
        rustix::fs::statat(self.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Holds an entry of any kind without opening it; the current directory for an empty name.
    pub(crate) fn hold(&self, name: &[u8]) -> Result<Held, Errno> {
        let fd = if name.is_empty() {
            // A look-up of `.` would need the right to search.
            rustix::io::fcntl_dupfd_cloexec(self.fd(), 0)?
        } else {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(self.fd(), name, flags, Mode::empty())?
        };
        let is_symlink = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Symlink;
        Ok(Held { fd, is_symlink })
    }

    /// Opens a file or directory for reading; the current directory for an empty name.
    pub(crate) fn read(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        open_noatime(self.fd(), if name.is_empty() { b"." } else { name }, OFlags::empty())
    }

    /// The path of the current directory and a name in it.
    pub(crate) fn join(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path.join(&b'/'), name)
    }
}

/// An inode held by a descriptor that opens nothing.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) fd: OwnedFd,
    pub(crate) is_symlink: bool,
}

impl Held {
    /// A path to the inode for the calls that only take paths; it ends there, also where that is a symlink.
    pub(crate) fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

fn open_dir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    // Held as a path only: a directory may be searchable and not readable.
    rustix::fs::openat(dir, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn open_noatime(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Only an owner may leave the access time alone.
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    }
}

pub(crate) fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64), Errno> {
    let stat = rustix::fs::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
