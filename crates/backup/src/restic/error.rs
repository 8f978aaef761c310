//! Why something could not be done with a repository as a whole. What concerns single entries is in the reports.

use copy::CopyError;

use super::store::StoreError;

/// Why a repository could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    #[error("no restic repository at `{location}`: there is no config file; initialise it, or correct the location")]
    NoRepository { location: String },
    #[error("there is a restic repository at `{location}` already; open it, or choose another place")]
    Exists { location: String },
    #[error("the password opens no key of the repository at `{location}`")]
    WrongPassword { location: String },
    #[error("the repository at `{location}` has format version {version}; versions 1 and 2 are known")]
    UnknownVersion { location: String, version: u32 },
    #[error(
        "the repository at `{location}` is damaged: {what}; check it, and restore what is damaged from a copy of it"
    )]
    Damaged { location: String, what: String },
    #[error("cannot use the repository's storage")]
    Store(#[from] StoreError),
    #[error("no snapshot `{wanted}` in the repository; list the snapshots to see which there are")]
    NoSnapshot { wanted: String },
    #[error("`{wanted}` stands for several snapshots; give more digits")]
    AmbiguousSnapshot { wanted: String },
    #[error("the snapshot holds no directory `{path}`")]
    NoSuchPath { path: String },
    #[error("the work was stopped")]
    Stopped,
    #[error("cannot {what}: {reason}")]
    Core { what: &'static str, reason: String },
    #[error("cannot read the source")]
    Source(#[from] CopyError),
    #[error("a thread of the backup panicked")]
    Panicked,
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

pub(super) type Result<T> = std::result::Result<T, RepositoryError>;
