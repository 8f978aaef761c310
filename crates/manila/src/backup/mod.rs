//! Backups of shares: made, restored and deleted, as manila-api asks for them.
//!
//! One job each. What everybody sees of it are the rows of the backup and of the share; upstream's order of writes is
//! kept, and each is a compare and set: what an administrator has reset meanwhile stays as he wants it.

mod answer;
mod endpoint;
mod follow;
mod lost;
mod progress;
mod request;

use job::{Job, Side};
use oslo::messaging::Context;
use serde::{Deserialize, Serialize};

pub(crate) use answer::BackupNotifier;
pub(crate) use follow::BackupFollower;
pub(crate) use lost::end_lost;
pub(crate) use progress::show_progress;

use crate::database::BackupWork;
use crate::migration::{AccessMapping, MANILA};
use crate::status::{BACKUP_CREATING, BACKUP_RESTORING, CREATING, DELETING, RESTORING};

/// The name of Manila's repository among those that jobs may name (`job::Endpoint::Repository`).
pub const REPOSITORY: &str = "manila";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupAction {
    Create,
    Restore,
    Delete,
}

/// What is remembered of a request, beside the job's endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackupTask {
    /// Tells it from what is remembered of a migration.
    pub action: BackupAction,
    pub backup_id: String,
    /// The share that is backed up or restored; of a deletion, the one that was backed up.
    pub share_id: String,
    /// Its instance that is mounted; none in a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_id: Option<String>,
    /// Access types by which this machine is let in to it.
    #[serde(default)]
    pub access: AccessMapping,
    /// The request's context without its secrets, for the casts that follow from it.
    pub context: Context,
}

impl BackupTask {
    /// `None`: the job is not Manila's, or no backup.
    pub fn of(job: &Job) -> Option<Self> {
        let behalf = job.origin.on_behalf.as_ref().filter(|behalf| behalf.of == MANILA)?;
        serde_json::from_value(behalf.request.clone()).ok()
    }

    /// By which the jobs that delete a backup are found. Those that work on a share have the share's name.
    pub fn deletion_name(backup_id: &str) -> String {
        format!("delete backup {backup_id}")
    }

    /// The same thing is asked for.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.action, &self.backup_id, &self.share_id) == (other.action, &other.backup_id, &other.share_id)
    }
}

impl BackupAction {
    /// The method that asks for it.
    pub fn method(self) -> &'static str {
        match self {
            Self::Create => "create_backup",
            Self::Restore => "restore_backup",
            Self::Delete => "delete_backup",
        }
    }

    /// What manila-api makes of the backup's status before it asks.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Create => CREATING,
            Self::Restore => RESTORING,
            Self::Delete => DELETING,
        }
    }

    /// What it makes of the status of the share's instance, and what keeps the share busy; a deletion does not.
    pub(crate) fn work(self) -> Option<(BackupWork, &'static str)> {
        match self {
            Self::Create => Some((BackupWork::Create, BACKUP_CREATING)),
            Self::Restore => Some((BackupWork::Restore, BACKUP_RESTORING)),
            Self::Delete => None,
        }
    }

    /// Where the share is in the job.
    pub(crate) fn share_side(self) -> Option<Side> {
        match self {
            Self::Create => Some(Side::Source),
            Self::Restore => Some(Side::Dest),
            Self::Delete => None,
        }
    }
}
