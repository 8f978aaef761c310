//! A repository in a directory, reached by descriptors only: whoever shares the storage may plant links and special
//! files there, and nothing of that leads out of the repository or blocks.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::{FileKind, Store, StoreError, StoreErrorClass, StoreResult};
use crate::restic::id::Id;

/// A repository in a directory of a file system.
#[derive(Debug)]
pub struct LocalStore {
    root: OwnedFd,
    location: String,
    /// Packs that are open for reading: a restore reads each many times.
    open_packs: Mutex<VecDeque<(Id, Arc<OwnedFd>)>>,
}

/// More would cost descriptors that a restore's files need; fewer would be reopened all the time.
const OPEN_PACKS_MAX: usize = 64;
/// One file of a repository is at most this large, whatever the directory says; restic's largest packs are 128 MiB.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// A temporary file that is older belongs to nobody: writing the largest pack takes no day.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
const TEMPORARY: &str = "-tmp-";
const CONFIG: &str = "config";

impl LocalStore {
    /// Opens the directory; makes it (not its parents) where it is missing. A symlink as the last component is
    /// followed: the caller named it.
    pub fn open(path: &Path) -> StoreResult<Self> {
        let location = copy::escape(path.as_os_str().as_encoded_bytes());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(CWD, path, flags, Mode::empty());
        let root = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            answer => answer,
        };
        let root = root.map_err(|errno| error("open", location.clone(), errno))?;
        Ok(Self::from_dir(root, location))
    }

    /// Of a directory that is open. `location` is what people call it.
    pub fn from_dir(root: OwnedFd, location: String) -> Self {
        Self { root, location, open_packs: Mutex::default() }
    }

    fn open_at(&self, path: &str, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        for _ in 0..RESOLVE_TRIES {
            match rustix::fs::openat2(&self.root, path, flags, mode, beneath) {
                // A rename raced with the resolution.
                Err(Errno::AGAIN | Errno::INTR) => {}
                answer => return answer,
            }
        }
        Err(Errno::AGAIN)
    }

    fn open_dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }

    fn open_or_make_dir(&self, path: &str) -> Result<OwnedFd, Errno> {
        match self.open_dir(path) {
            Err(Errno::NOENT) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
                let parent = self.open_dir(parent)?;
                match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
                    Ok(()) => rustix::fs::fsync(&parent)?,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                self.open_dir(path)
            }
            answer => answer,
        }
    }

    fn create_pack_dirs(&self) -> Result<(), Errno> {
        let data = self.open_dir("data")?;
        for number in 0..=255 {
            match rustix::fs::mkdirat(&data, format!("{number:02x}"), Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fsync(&data)
    }

    /// Opens a file and tells its size; anything that is no regular file is refused.
    fn open_file(&self, path: &str) -> Result<(OwnedFd, u64), Errno> {
        let file = self.open_at(path, OFlags::RDONLY, Mode::empty())?;
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat.st_size as u64)),
            _ => Err(Errno::INVAL),
        }
    }

    fn open_pack(&self, id: &Id, path: &str) -> Result<Arc<OwnedFd>, Errno> {
        let lock = || self.open_packs.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut open = lock();
            if let Some(at) = open.iter().position(|(of, _)| of == id) {
                let entry = open.remove(at).expect("just found");
                let file = entry.1.clone();
                open.push_back(entry);
                return Ok(file);
            }
        }
        let file = Arc::new(self.open_file(path)?.0);
        let mut open = lock();
        if open.len() >= OPEN_PACKS_MAX {
            open.pop_front();
        }
        open.push_back((*id, file.clone()));
        Ok(file)
    }

    fn list_dir(
        &self,
        path: &str,
        mut found: impl FnMut(&OwnedFd, &std::ffi::CStr) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let fd = self.open_dir(path)?;
        let mut dir = Dir::read_from(&fd)?;
        while let Some(entry) = dir.read() {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found(&fd, entry.file_name())?;
            }
        }
        Ok(())
    }

    /// The directories that hold files of a kind.
    fn dirs(&self, kind: FileKind) -> Result<Vec<String>, Errno> {
        if kind != FileKind::Pack {
            return Ok(vec![kind.dir_name().to_owned()]);
        }
        let mut dirs = Vec::new();
        self.list_dir(kind.dir_name(), |_, name| {
            let name = name.to_bytes();
            if name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit) {
                dirs.push(format!("data/{}", String::from_utf8_lossy(name)));
            }
            Ok(())
        })?;
        Ok(dirs)
    }

    fn list_files(&self, kind: FileKind) -> Result<Vec<(Id, u64)>, Errno> {
        let mut files = Vec::new();
        for dir in self.dirs(kind)? {
            self.list_dir(&dir, |fd, name| {
                let Some(id) = Id::from_hex(name.to_bytes()) else { return Ok(()) };
                match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                        files.push((id, stat.st_size as u64));
                    }
                    Ok(_) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(errno),
                }
                Ok(())
            })?;
        }
        Ok(files)
    }

    fn write_file(&self, path: &str, parts: &[Bytes]) -> Result<(), Errno> {
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
        let dir = self.open_or_make_dir(dir)?;
        let mut number = [0; 8];
        rustix::rand::getrandom(&mut number[..], rustix::rand::GetRandomFlags::empty())?;
        let temporary = format!("{name}{TEMPORARY}{:016x}", u64::from_ne_bytes(number));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, &*temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let written = write_all(&file, parts).and_then(|()| {
            // Storage reports lost writes here; nothing is left for a close to lose.
            rustix::fs::fsync(&file)?;
            if path == CONFIG {
                return rename_to_free_name(&dir, &temporary, name);
            }
            rustix::fs::renameat(&dir, &*temporary, &dir, name)
        });
        if let Err(errno) = written {
            // The first error is the one worth telling.
            let _ = rustix::fs::unlinkat(&dir, &*temporary, AtFlags::empty());
            return Err(errno);
        }
        rustix::fs::fsync(&dir)
    }

    fn remove_old_temporaries(&self) -> Result<u64, Errno> {
        let before =
            SystemTime::now().checked_sub(LEFTOVER_AGE).and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok());
        let before = before.map_or(0, |age| age.as_secs() as i64);
        let mut removed = 0;
        for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
            for dir in self.dirs(kind)? {
                self.list_dir(&dir, |fd, name| {
                    let text = name.to_bytes();
                    let is_ours = text.get(64..).is_some_and(|rest| rest.starts_with(TEMPORARY.as_bytes()))
                        && Id::from_hex(&text[..64]).is_some();
                    if is_ours && rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mtime < before {
                        rustix::fs::unlinkat(fd, name, AtFlags::empty())?;
                        removed += 1;
                    }
                    Ok(())
                })?;
            }
        }
        Ok(removed)
    }
}

/// Of two that make a repository at the same time one is the first, and the other one learns of it.
fn rename_to_free_name(dir: &OwnedFd, from: &str, to: &str) -> Result<(), Errno> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        // NFS has no such rename, and links instead.
        Err(Errno::INVAL | Errno::NOSYS) => {}
        answer => return answer,
    }
    match rustix::fs::linkat(dir, from, dir, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(dir, from, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP) => rustix::fs::renameat(dir, from, dir, to),
        Err(errno) => Err(errno),
    }
}

/// A resolution that raced with a rename most often succeeds at the next look.
const RESOLVE_TRIES: u32 = 64;

fn write_all(file: &OwnedFd, parts: &[Bytes]) -> Result<(), Errno> {
    for part in parts {
        let mut rest = &part[..];
        while !rest.is_empty() {
            match rustix::io::write(file, rest) {
                // Storage that takes nothing and names no error would keep us for ever.
                Ok(0) => return Err(Errno::IO),
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

fn read_exactly(file: &OwnedFd, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let data = read_up_to(file, offset, len)?;
    if data.len() == len { Ok(data) } else { Err(Errno::NODATA) }
}

fn read_up_to(file: &OwnedFd, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut data = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match rustix::io::pread(file, &mut data[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    data.truncate(filled);
    Ok(data)
}

fn error(action: &'static str, path: String, errno: Errno) -> StoreError {
    let class = match errno {
        Errno::NOENT => StoreErrorClass::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreErrorClass::Denied,
        Errno::NOSPC | Errno::DQUOT => StoreErrorClass::NoSpace,
        Errno::AGAIN | Errno::STALE | Errno::TIMEDOUT | Errno::BUSY | Errno::NOMEM => StoreErrorClass::Transient,
        Errno::NODATA | Errno::INVAL | Errno::LOOP | Errno::XDEV | Errno::NOTDIR | Errno::ISDIR => {
            StoreErrorClass::Damaged
        }
        _ => StoreErrorClass::Other,
    };
    let reason = match errno {
        Errno::NODATA => "it is shorter than the index says".to_owned(),
        Errno::INVAL | Errno::ISDIR => "it is no regular file".to_owned(),
        Errno::LOOP | Errno::XDEV => "a symlink is on the way, which is not followed".to_owned(),
        _ => {
            let text = std::io::Error::from(errno).to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    };
    StoreError { action, path, class, reason }
}

impl Store for LocalStore {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn create(&self) -> StoreResult<()> {
        for dir in ["keys", "snapshots", "index", "data", "locks"] {
            self.open_or_make_dir(dir).map_err(|errno| error("make the directory", dir.to_owned(), errno))?;
        }
        self.create_pack_dirs().map_err(|errno| error("make directories in", "data".to_owned(), errno))
    }

    fn list(&self, kind: FileKind) -> StoreResult<Vec<(Id, u64)>> {
        let found = match kind {
            FileKind::Config => match self.open_file(CONFIG) {
                Ok((_, bytes)) => Ok(vec![(Id::default(), bytes)]),
                Err(Errno::NOENT) => Ok(Vec::new()),
                Err(errno) => Err(errno),
            },
            _ => self.list_files(kind),
        };
        found.map_err(|errno| error("list", kind.dir_name().to_owned(), errno))
    }

    fn read(&self, kind: FileKind, id: &Id) -> StoreResult<Bytes> {
        let path = kind.path(id);
        let read = || {
            let (file, bytes) = self.open_file(&path)?;
            if bytes > FILE_BYTES_MAX {
                return Err(Errno::INVAL);
            }
            read_exactly(&file, 0, bytes as usize)
        };
        read().map(Bytes::from).map_err(|errno| error("read", path.clone(), errno))
    }

    fn read_range(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        let path = kind.path(id);
        let read = || match kind {
            FileKind::Pack => read_exactly(&*self.open_pack(id, &path)?, offset, len),
            _ => read_exactly(&self.open_file(&path)?.0, offset, len),
        };
        read().map(Bytes::from).map_err(|errno| error("read", path.clone(), errno))
    }

    fn read_up_to(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes> {
        let path = kind.path(id);
        let read = || match kind {
            FileKind::Pack => read_up_to(&*self.open_pack(id, &path)?, offset, len),
            _ => read_up_to(&self.open_file(&path)?.0, offset, len),
        };
        read().map(Bytes::from).map_err(|errno| error("read", path.clone(), errno))
    }

    fn write(&self, kind: FileKind, id: &Id, parts: &[Bytes]) -> StoreResult<()> {
        let path = kind.path(id);
        self.write_file(&path, parts).map_err(|errno| error("write", path, errno))
    }

    fn remove(&self, kind: FileKind, id: &Id) -> StoreResult<()> {
        let path = kind.path(id);
        let remove = || {
            let (dir, name) = path.rsplit_once('/').unwrap_or((".", &path));
            let dir = self.open_dir(dir)?;
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())
        };
        match remove() {
            // Somebody was faster, or an earlier try reached the storage although its answer did not reach us.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(error("remove", path.clone(), errno)),
        }
    }

    fn remove_leftovers(&self) -> StoreResult<u64> {
        self.remove_old_temporaries().map_err(|errno| error("remove leftovers of", self.location.clone(), errno))
    }
}
