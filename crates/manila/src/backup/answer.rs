//! The end of a job about a backup, as everybody sees it in the rows of the backup and of its share.

use std::time::Duration;

use job::{Failure, FailureCode, Job, NotifyError, Outcome};
use tracing::{error, info, warn};

use super::{BackupAction, BackupTask};
use crate::answer::later;
use crate::database::{BackupChange, BackupEnd, BackupWork, DatabaseError};
use crate::migration::Peers;
use crate::task_state::{COPYING, DATA_COPYING_COMPLETED, DATA_COPYING_ERROR};

/// How upstream's reasons begin.
const FAILED: &str = "Share Data copy failed";

/// From the end of a backup to the moment when its share is free. Who asks the API first for the backup and then for the
/// share never finds the one under way and the other one free, which upstream shows when it has lost a backup.
const BETWEEN_ROWS: Duration = Duration::from_millis(500);

/// For jobs that are about backups. It can be called again at any point: what was written already is found so.
#[derive(Clone, Debug)]
pub(crate) struct BackupNotifier {
    peers: Peers,
}

impl BackupNotifier {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    pub(crate) async fn tell(&self, job: &Job, task: &BackupTask, outcome: &Outcome) -> Result<(), NotifyError> {
        let reason = reason(outcome);
        let written = match task.action.work() {
            Some((work, busy)) => self.end(task, work, busy, reason.as_deref()).await,
            None => self.end_deletion(task, reason.as_deref()).await,
        };
        let (backup_id, share_id, method) = (&task.backup_id, &task.share_id, task.action.method());
        match written {
            Ok(BackupChange::Changed) => match &reason {
                None => info!(job_id = %job.id, backup_id, share_id, "{method} has succeeded"),
                Some(reason) => error!(job_id = %job.id, backup_id, share_id, reason, "{method} has not succeeded"),
            },
            Ok(BackupChange::Same) => {}
            Ok(BackupChange::Other(now)) => {
                let status = now.as_deref().unwrap_or("unset");
                info!(job_id = %job.id, backup_id, share_id, status, "the backup is in nobody's way any more");
            }
            Ok(BackupChange::Gone) => {
                warn!(job_id = %job.id, backup_id, share_id, "the backup is not there any more; nobody is told");
            }
            Err(error) => return Err(later(&error)),
        }
        Ok(())
    }

    async fn end(
        &self,
        task: &BackupTask,
        work: BackupWork,
        busy: &str,
        reason: Option<&str>,
    ) -> Result<BackupChange, DatabaseError> {
        let database = &self.peers.database;
        let instance = match &task.instance_id {
            Some(id) => database.instance(id).await?,
            None => None,
        };
        // Of a share that somebody has reset, and that may be on its way to something else, no state is written.
        if instance.is_some_and(|instance| instance.status.as_deref() == Some(busy)) {
            let to = if reason.is_none() { DATA_COPYING_COMPLETED } else { DATA_COPYING_ERROR };
            match database.set_task_state(&task.share_id, Some(to), &COPYING.map(Some)).await {
                Ok(_) | Err(DatabaseError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let end = BackupEnd {
            backup_id: task.backup_id.clone(),
            share_id: task.share_id.clone(),
            work,
            fail_reason: reason.map(ToOwned::to_owned),
            is_lost: false,
            keeps_share: true,
        };
        let backup = database.end_backup(&end).await?;
        if backup == BackupChange::Changed {
            tokio::time::sleep(BETWEEN_ROWS).await;
        }
        // After a crash in between this comes when the job's end is told again.
        let share = database.end_backup(&BackupEnd { keeps_share: false, ..end }).await?;
        Ok(if backup == BackupChange::Changed { backup } else { share })
    }

    async fn end_deletion(&self, task: &BackupTask, reason: Option<&str>) -> Result<BackupChange, DatabaseError> {
        debug_assert_eq!(task.action, BackupAction::Delete);
        let database = &self.peers.database;
        match reason {
            None => database.delete_backup(&task.backup_id, &self.peers.settings.backup.quota).await,
            Some(reason) => database.fail_deletion(&task.backup_id, reason).await,
        }
    }
}

/// What `fail_reason` says.
fn reason(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Completed => None,
        Outcome::Cancelled => Some("cancelled".into()),
        Outcome::Failed { failure: Failure { code: FailureCode::NotWanted, message, .. } } => Some(message.clone()),
        Outcome::Failed { failure } => Some(format!("{FAILED}: {failure}")),
    }
}
