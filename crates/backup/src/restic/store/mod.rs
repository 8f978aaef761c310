//! Where a repository lies: files of five kinds under names that are the hash of their content.
//!
//! A file is written whole or not at all, is durable when the call returns, and is never changed.

mod adapter;
mod address;
mod local;
mod remote;
mod rest;
mod s3;

use std::fmt::{self, Debug};

use bytes::Bytes;

use super::id::Id;

pub(super) use adapter::{Adapter, Orders};
pub use address::open_address;
pub use local::LocalStore;
pub use rest::RestStore;
pub use s3::{S3Options, S3Store};

/// The kinds of files of a repository; there is one config, whose name is not its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    Config,
    Key,
    Snapshot,
    Index,
    Pack,
}

impl FileKind {
    pub const ALL: [Self; 5] = [Self::Config, Self::Key, Self::Snapshot, Self::Index, Self::Pack];

    /// The directory of these files, as restic's design document names it.
    pub fn dir_name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "keys",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }

    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config file",
            Self::Key => "key file",
            Self::Snapshot => "snapshot",
            Self::Index => "index",
            Self::Pack => "pack",
        }
    }

    /// The place of a file below the repository.
    pub(super) fn path(self, id: &Id) -> String {
        match self {
            Self::Config => "config".to_owned(),
            Self::Pack => {
                let id = id.to_string();
                format!("data/{}/{id}", &id[..2])
            }
            _ => format!("{}/{id}", self.dir_name()),
        }
    }
}

/// What an error of storage means, whatever its number or status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorClass {
    /// May pass by itself; was tried again within the limits.
    Transient,
    NotFound,
    Denied,
    NoSpace,
    /// What came back is not what was asked for.
    Damaged,
    /// Nobody wants the answer any more.
    Stopped,
    Other,
}

/// An operation of storage that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} `{path}` in the repository: {reason}")]
pub struct StoreError {
    pub action: &'static str,
    pub path: String,
    pub class: StoreErrorClass,
    /// The cause in words; holds no secret.
    pub reason: String,
}

/// What a store answers.
pub type StoreResult<T> = Result<T, StoreError>;

/// Storage of a repository. Calls block, come from many threads, and end within bounded time.
pub trait Store: Send + Sync + Debug {
    /// Where it is, for people: without passwords.
    fn location(&self) -> String;
    /// Operations are round trips over a network: few large ones are better than many small ones.
    fn is_remote(&self) -> bool;
    /// Makes what must be there before the first file.
    fn create(&self) -> StoreResult<()>;
    /// Names and sizes of all files of a kind; what has no name of a file is left out.
    fn list(&self, kind: FileKind) -> StoreResult<Vec<(Id, u64)>>;
    fn read(&self, kind: FileKind, id: &Id) -> StoreResult<Bytes>;
    /// Exactly these bytes; fewer are an error.
    fn read_range(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes>;
    /// At most these bytes; fewer where the file ends before.
    fn read_up_to(&self, kind: FileKind, id: &Id, offset: u64, len: usize) -> StoreResult<Bytes>;
    /// Writes a file, whole and durable. One of the same name has the same content and may be kept; a config is not
    /// replaced, as far as the storage can tell that there is one.
    fn write(&self, kind: FileKind, id: &Id, parts: &[Bytes]) -> StoreResult<()>;
    fn remove(&self, kind: FileKind, id: &Id) -> StoreResult<()>;
    /// Removes what writers that died left behind. Their names are none of the repository's.
    fn remove_leftovers(&self) -> StoreResult<u64> {
        Ok(0)
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The bytes, where they are as many as were asked for.
fn exactly(kind: FileKind, id: &Id, len: usize, bytes: Bytes) -> StoreResult<Bytes> {
    if bytes.len() == len {
        return Ok(bytes);
    }
    Err(StoreError {
        action: "read",
        path: kind.path(id),
        class: StoreErrorClass::Damaged,
        reason: "it is shorter than the index says".to_owned(),
    })
}

/// A file in one piece, where a request wants it so.
fn joined(parts: &[Bytes]) -> Bytes {
    match parts {
        [one] => one.clone(),
        _ => Bytes::from(parts.concat()),
    }
}
