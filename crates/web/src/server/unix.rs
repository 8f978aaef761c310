//! The unix socket: one owner, mode 0600 from its first moment, a dead owner's replaced.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::ServeError;

/// A socket that we listen on.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode, to know it again.
    file: (u64, u64),
    /// Held as long as we own the path; the kernel lets go of it whatever ends this process. The file stays: a removed
    /// one could be locked by two.
    _lock: File,
}

impl Door {
    pub(crate) fn open(path: &Path) -> Result<Self, ServeError> {
        let failed = |source| ServeError::Socket { path: path.into(), source };
        make_parent(path).map_err(failed)?;
        let lock = private_file(&beside(path, ".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServeError::SocketInUse { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        match fs::symlink_metadata(path) {
            Ok(facts) if !facts.file_type().is_socket() => return Err(ServeError::NotASocket { path: path.into() }),
            // Of another program, which knows nothing of our lock.
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ServeError::SocketInUse { path: path.into() });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // A socket gets its mode after it is made, so it is made under another name. The rename also replaces a dead one.
        let new = beside(path, ".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed)?;
        let publish = || {
            fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
            fs::rename(&new, path)?;
            identity(path)
        };
        let file = publish().map_err(failed)?;
        Ok(Self { listener, path: path.into(), file, _lock: lock })
    }

    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Takes the socket away, unless somebody replaced it.
    pub(crate) fn close(self) {
        if identity(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

fn make_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)
        }
        _ => Ok(()),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let facts = fs::symlink_metadata(path)?;
    Ok((facts.dev(), facts.ino()))
}
