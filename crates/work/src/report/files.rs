//! The files of a report: made by descriptor below a directory of our own, complete or not there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Few writes, little memory.
const BUFFER_BYTES: usize = 64 << 10;

/// A directory that holds the report of one pass.
#[derive(Debug)]
pub(super) struct ReportDir(OwnedFd);

impl ReportDir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(CWD, path, flags, Mode::empty())?))
    }

    /// Makes it where it is missing, for the owner alone.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        make_private_dir(path)?;
        Self::open(path)
    }

    /// Begins a file. Under its own name it appears when it is complete.
    pub(super) fn create(&self, name: &'static str) -> io::Result<PartialFile> {
        let partial = partial(name);
        self.remove(&partial)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.0, partial, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(PartialFile { name, file: BufWriter::with_capacity(BUFFER_BYTES, File::from(fd)) })
    }

    /// Makes a file durable, and gives it its name.
    pub(super) fn publish(&self, file: PartialFile) -> io::Result<()> {
        let PartialFile { name, file } = file;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        rustix::fs::renameat(&self.0, partial(name), &self.0, name)?;
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// `None`: there is no such file.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Removes a file and what was begun of it. Nothing there is fine.
    pub(super) fn forget(&self, name: &str) -> io::Result<()> {
        self.remove(name)?;
        self.remove(&partial(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn partial(name: &str) -> String {
    format!("{name}.partial")
}

/// A file that is not complete yet.
#[derive(Debug)]
pub(super) struct PartialFile {
    name: &'static str,
    file: BufWriter<File>,
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a directory, and those above it, for the owner alone. What is there stays as it is.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    let mut prefix = PathBuf::new();
    for component in path.components() {
        prefix.push(component);
        match rustix::fs::mkdirat(CWD, &prefix, Mode::RWXU) {
            // Those above may be anybody's; whether the last one can be used is told when it is opened.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::ISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
