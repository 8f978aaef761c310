//! Snapshots: what one is, and how one is found.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize};

use super::error::{RepositoryError, Result};
use super::id::Id;
use super::repository::Repository;
use super::store::FileKind;

/// The root of what was in a tree at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub id: Id,
    pub time: jiff::Timestamp,
    pub host: String,
    pub tags: BTreeSet<String>,
    /// Where the trees that it holds were, from the root on.
    pub paths: BTreeSet<String>,
    /// The one that it was compared with when it was made.
    pub parent: Option<Id>,
    /// The program that made it.
    pub program: String,
    /// What the program counted, where it told.
    pub summary: Option<SnapshotSummary>,
    pub(super) tree: Id,
}

/// What a program counted while it made a snapshot. Zero where it did not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotSummary {
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Bytes that it added to the repository, before compression.
    pub data_added: u64,
    /// The same after compression.
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_dirs_processed: u64,
    /// Bytes of all files of the tree.
    pub total_bytes_processed: u64,
}

/// Which snapshots are meant. An empty list asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// Made on one of these hosts.
    pub hosts: Vec<String>,
    /// Having all of these tags.
    pub tags: Vec<String>,
    /// Of all of these paths.
    pub paths: Vec<String>,
}

impl SnapshotFilter {
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.tags.iter().all(|tag| snapshot.tags.contains(tag))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// A file below `snapshots/`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SnapshotFile {
    pub(super) time: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) parent: Option<Id>,
    pub(super) tree: Id,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) paths: BTreeSet<String>,
    #[serde(default)]
    pub(super) hostname: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty", deserialize_with = "null_is_empty")]
    pub(super) tags: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) program_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<SnapshotSummary>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeSet<String>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl SnapshotFile {
    /// `None` where its time is none.
    pub(super) fn into_snapshot(self, id: Id) -> Option<Snapshot> {
        Some(Snapshot {
            id,
            time: self.time.parse().ok()?,
            host: self.hostname,
            tags: self.tags,
            paths: self.paths,
            parent: self.parent,
            program: self.program_version,
            summary: self.summary,
            tree: self.tree,
        })
    }
}

/// The word for the newest of those that match.
pub const LATEST: &str = "latest";

impl Repository {
    /// All snapshots that match, the oldest first.
    pub fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
        let mut found = Vec::new();
        for (id, _) in self.inner.store.list(FileKind::Snapshot)? {
            match self.load_snapshot(&id) {
                Ok(snapshot) if filter.matches(&snapshot) => found.push(snapshot),
                // Somebody removed it between the listing and now.
                Err(RepositoryError::NoSnapshot { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(found)
    }

    /// The snapshot that `wanted` stands for: [`LATEST`] of those that match, or the beginning of an identifier.
    pub fn find_snapshot(&self, wanted: &str, filter: &SnapshotFilter) -> Result<Snapshot> {
        let missing = || RepositoryError::NoSnapshot { wanted: wanted.to_owned() };
        if wanted == LATEST {
            return self.snapshots(filter)?.pop().ok_or_else(missing);
        }
        if wanted.is_empty() {
            return Err(missing());
        }
        let ids = self.inner.store.list(FileKind::Snapshot)?;
        let mut fitting = ids.iter().map(|(id, _)| id).filter(|id| id.to_hex().starts_with(wanted.as_bytes()));
        let id = fitting.next().ok_or_else(missing)?;
        if fitting.next().is_some() {
            return Err(RepositoryError::AmbiguousSnapshot { wanted: wanted.to_owned() });
        }
        self.load_snapshot(id)
    }

    fn load_snapshot(&self, id: &Id) -> Result<Snapshot> {
        let file: SnapshotFile = match self.load_file(FileKind::Snapshot, id) {
            Err(RepositoryError::Store(error)) if error.class == super::store::StoreErrorClass::NotFound => {
                return Err(RepositoryError::NoSnapshot { wanted: id.short() });
            }
            answer => answer?,
        };
        file.into_snapshot(*id).ok_or_else(|| self.damaged(format!("the snapshot {} has no valid time", id.short())))
    }

    /// Removes snapshots. Their content stays until the repository is pruned. Those that are gone already are no error.
    pub fn delete_snapshots(&self, ids: &[Id]) -> Result<()> {
        for id in ids {
            self.inner.store.remove(FileKind::Snapshot, id)?;
        }
        Ok(())
    }
}
