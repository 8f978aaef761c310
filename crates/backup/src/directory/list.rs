//! What an export holds.

use std::collections::BTreeMap;

use copy::EntryKind;
use rustix::fs::{Mode, OFlags};

use super::error::Attempt as _;
use super::export::Export;
use super::id::Part;
use super::manifest::Proof;
use super::{BackupId, DirectoryError};

/// A backup, or what there is of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: BackupId,
    pub state: ListedState,
    pub proof: Proof,
}

/// Ordered: of several things that stand for one id, the last one is what counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListedState {
    /// The backup was removed by other means than ours; deleting it takes away what it left.
    Leftover,
    /// A copy that is not complete: making it again goes on, deleting it takes it away.
    Partial,
    /// Deleting it was begun, and goes on when it is deleted again.
    BeingDeleted,
    /// It can be restored.
    Complete,
}

impl ListedState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leftover => "leftover",
            Self::Partial => "partial",
            Self::BeingDeleted => "being-deleted",
            Self::Complete => "complete",
        }
    }

    /// What a deletion has left.
    pub fn is_rest(self) -> bool {
        matches!(self, Self::BeingDeleted | Self::Leftover)
    }
}

impl Export {
    /// Everything that is a backup or a part of one, by id. Other names are left out; a directory that another program
    /// made for a reason of its own looks like a backup.
    pub fn list(&self) -> Result<Vec<Listed>, DirectoryError> {
        let mut states: BTreeMap<BackupId, ListedState> = BTreeMap::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A descriptor of its own: two listings at once must not share a place.
        let open = || {
            let dir = rustix::fs::openat(self.dir(), ".", flags, Mode::empty())?;
            rustix::fs::Dir::new(dir)
        };
        for entry in open().attempt(|| "list the export".into())? {
            let entry = entry.attempt(|| "list the export".into())?;
            let Some((id, part)) = Part::of(entry.file_name().to_bytes()) else { continue };
            let is_dir = || self.look(&part.name(&id)).map(|found| found.is_some_and(|f| f.kind == EntryKind::Dir));
            let state = match part {
                Part::Published if !is_dir()? => continue,
                Part::Published => ListedState::Complete,
                Part::Partial => ListedState::Partial,
                Part::Deleting => ListedState::BeingDeleted,
                Part::Manifest | Part::NewManifest | Part::Checksums => ListedState::Leftover,
            };
            let known = states.entry(id).or_insert(state);
            *known = state.max(*known);
        }
        let listed = states.into_iter().map(|(id, state)| {
            let proof = if state == ListedState::Complete { self.proof(&id)? } else { Proof::None };
            Ok(Listed { id, state, proof })
        });
        listed.collect()
    }
}
