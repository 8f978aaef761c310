//! What can go wrong with a backup in an export.

use std::io;

use copy::{CopyError, FsError};

use super::BackupId;

/// Why an operation on an export could not begin or go on. What concerns single entries is in its report instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    #[error("`{id}` cannot be the id of a backup: {why}")]
    Id { id: String, why: &'static str },
    #[error("cannot open the export `{path}`")]
    Open {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("there is no backup `{0}` in the export")]
    NotFound(BackupId),
    #[error("backup `{0}` is not complete: run its creation again, or delete it")]
    Partial(BackupId),
    #[error("backup `{0}` is being deleted: delete it again to the end")]
    BeingDeleted(BackupId),
    #[error("there is a backup `{id}` already, {made}: delete it first, or take another id")]
    Exists { id: BackupId, made: &'static str },
    #[error("another process works on backup `{0}`: wait until it has ended")]
    Busy(BackupId),
    #[error("`{name}` in the export is {found}, which no program for backups makes: look at it, and remove it")]
    Planted { name: String, found: &'static str },
    #[error("`{name}` in the export was put in another one's place meanwhile: look who else writes there")]
    Swapped { name: String },
    #[error("a backup cannot be made as a trial: it has to be looked at when it is there")]
    DryRun,
    #[error("cannot {what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the backup's directory")]
    Tree(#[source] FsError),
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Gives an answer of the system the name of what was attempted.
pub(super) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, DirectoryError>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, DirectoryError> {
        self.map_err(|error| DirectoryError::Io { what: what(), source: error.into() })
    }
}
