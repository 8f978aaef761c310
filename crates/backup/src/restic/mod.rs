//! Backups in a restic repository: incremental, deduplicated, compressed, encrypted, and readable by restic itself.
//!
//! A [`Repository`] lies in a [`Store`]. [`Repository::backup`] makes a [`Snapshot`] of any tree that the engine can
//! read; [`Repository::open_tree`] gives a snapshot back as such a tree, so that restoring is
//! [`copy::copy_tree`] and verifying [`copy::compare_trees`], with all their rules. Keys, retention, checking and
//! pruning are `rustic_core`'s. Snapshots are made and read by our own code, because the library's own backup and
//! restore log what they cannot read or set and go on: here every such thing is a fault in the report.
//!
//! Nothing here takes locks: one prune at a time, and no `restic prune` beside a backup, is the caller's to see to.

mod archive;
mod blobs;
mod chunker;
mod crypto;
mod error;
mod id;
mod index;
mod maintain;
mod naming;
mod node;
mod pack;
mod repository;
mod retention;
mod snapshot;
mod store;
mod tree;

pub use archive::{BackupContext, BackupOptions, BackupReport, Parent};
pub use error::RepositoryError;
pub use id::{Id, NotAnId};
pub use maintain::{CheckFinding, CheckOptions, CheckReport, PruneOptions, PruneReport};
pub use naming::{name_tag, share_tag};
pub use pack::AddedBlobs;
pub use repository::Repository;
pub use retention::{Kept, Retention};
pub use secrecy::SecretString;
pub use snapshot::{LATEST, Snapshot, SnapshotFilter, SnapshotSummary};
pub use store::{
    FileKind, LocalStore, RestStore, S3Options, S3Store, Store, StoreError, StoreErrorClass, StoreResult, open_address,
};
pub use tree::SnapshotTree;
