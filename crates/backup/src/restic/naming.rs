//! Names for snapshots that people and other programs choose, kept as tags: restic shows them, and they outlive us.

use std::collections::BTreeMap;

use super::error::{RepositoryError, Result};
use super::repository::Repository;
use super::retention::{Kept, Retention};
use super::snapshot::{LATEST, Snapshot, SnapshotFilter};

/// Begins the tag with the name of a backup. Manila's are its identifiers.
const NAME: &str = "manila-backup=";
/// Begins the tag with what a snapshot is of. Snapshots of one share build on each other.
const SHARE: &str = "manila-share=";

/// The tag of a backup with this name.
pub fn name_tag(name: &str) -> String {
    format!("{NAME}{name}")
}

/// The tag of all backups of this share.
pub fn share_tag(share: &str) -> String {
    format!("{SHARE}{share}")
}

impl Snapshot {
    /// The name that it was given.
    pub fn name(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(NAME))
    }

    /// What it is of.
    pub fn share(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix(SHARE))
    }
}

impl Repository {
    /// The snapshot among those that match which a word stands for: a name that was given, the newest for [`LATEST`], or
    /// the beginning of an identifier.
    pub fn find_named(&self, wanted: &str, filter: &SnapshotFilter) -> Result<Snapshot> {
        if wanted != LATEST {
            let mut named = filter.clone();
            named.tags.push(name_tag(wanted));
            if let Some(snapshot) = self.snapshots(&named)?.pop() {
                return Ok(snapshot);
            }
        }
        let snapshot = self.find_snapshot(wanted, filter)?;
        if filter.matches(&snapshot) {
            return Ok(snapshot);
        }
        Err(RepositoryError::NoSnapshot { wanted: wanted.to_owned() })
    }

    /// What the rules say of each snapshot that matches. They count those of each share by themselves, and where no share
    /// is named, those of each host's paths, as restic does. No rule keeps them all.
    pub fn judge_each_share(
        &self,
        filter: &SnapshotFilter,
        retention: &Retention,
        now: jiff::Timestamp,
    ) -> Result<Vec<Kept>> {
        let snapshots = self.snapshots(filter)?;
        if retention.is_empty() {
            let keep = |snapshot| Kept { snapshot, is_kept: true, reasons: Vec::new() };
            return Ok(snapshots.into_iter().map(keep).collect());
        }
        let mut groups: BTreeMap<_, Vec<Snapshot>> = BTreeMap::new();
        for snapshot in snapshots {
            let group = match snapshot.share() {
                Some(share) => (Some(share.to_owned()), None),
                None => (None, Some((snapshot.host.clone(), snapshot.paths.clone()))),
            };
            groups.entry(group).or_default().push(snapshot);
        }
        let judged = groups.values().map(|group| self.judge(group, retention, now));
        Ok(judged.collect::<Result<Vec<_>>>()?.concat())
    }
}
