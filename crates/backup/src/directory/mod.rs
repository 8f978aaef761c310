//! Backups as plain directories, as the NFS driver of Manila keeps them: `<export>/<backup id>/…`.
//!
//! What that driver wrote is restored, and what is written here it restores: a backup is a directory of files and
//! nothing else. Beside it stands a manifest, which makes a later check possible. A backup has its name from the moment
//! when it is complete and durable to the moment when its deletion begins, and not a moment longer.
//!
//! To restore is to copy [`Export::tree`] to a share with the engine, under the engine's rules.

mod check;
mod create;
mod delete;
mod error;
mod export;
mod id;
mod line;
mod list;
mod manifest;
mod prove;
mod sort;
mod sums;
mod watch;

pub use check::{CheckOptions, Checked, DataShare};
pub use create::{Context, Created, Publish, Request};
pub use delete::Deleted;
pub use error::DirectoryError;
pub use export::Export;
pub use id::BackupId;
pub use list::{Listed, ListedState};
pub use manifest::{Manifest, Proof};
