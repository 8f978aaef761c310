//! Shows in the rows of a backup and of its share how far the job is, for manila-api and everybody who asks it.

use job::{FollowError, Job, Next, Outcome, State};
use tracing::info;

use super::{BackupAction, BackupTask};
use crate::database::{BackupChange, DatabaseError, TaskStateChange};
use crate::migration::Peers;
use crate::task_state::{
    DATA_COPYING_CANCELLED, DATA_COPYING_COMPLETING, DATA_COPYING_ERROR, DATA_COPYING_IN_PROGRESS,
    DATA_COPYING_STARTING, MIGRATION_CANCELLED, MIGRATION_ERROR, MIGRATION_SUCCESS,
};

/// For jobs that are about backups.
#[derive(Clone, Debug)]
pub(crate) struct BackupFollower {
    peers: Peers,
}

/// What a share's task state may be that nobody is at work on.
const AT_REST: [Option<&str>; 6] = [
    None,
    Some(MIGRATION_SUCCESS),
    Some(MIGRATION_ERROR),
    Some(MIGRATION_CANCELLED),
    Some(DATA_COPYING_CANCELLED),
    // As upstream leaves it after a backup that failed.
    Some(DATA_COPYING_ERROR),
];

impl BackupFollower {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    pub(crate) async fn follow(&self, job: &Job, task: &BackupTask) -> Result<(), FollowError> {
        if job.state == State::Granting {
            self.begin(task).await?;
        }
        if task.action == BackupAction::Delete {
            return Ok(());
        }
        match &job.state {
            // A job that resumes does not go back in the eyes of others.
            State::Granting | State::Mounting => {
                self.set(job, task, DATA_COPYING_STARTING, &AT_REST, &[DATA_COPYING_IN_PROGRESS]).await
            }
            State::Working => self.set(job, task, DATA_COPYING_IN_PROGRESS, &[Some(DATA_COPYING_STARTING)], &[]).await,
            State::Releasing { next: Next::End(Outcome::Completed | Outcome::Cancelled) } => {
                let from = [Some(DATA_COPYING_IN_PROGRESS), Some(DATA_COPYING_STARTING)];
                self.set(job, task, DATA_COPYING_COMPLETING, &from, &[]).await
            }
            State::Accepted
            | State::Releasing { next: Next::Wait | Next::End(Outcome::Failed { .. }) }
            | State::Ended { .. } => Ok(()),
        }
    }

    /// Before anything is done: the rows must still wait for it.
    async fn begin(&self, task: &BackupTask) -> Result<(), FollowError> {
        let (database, action, id) = (&self.peers.database, task.action, &task.backup_id);
        let host = (action == BackupAction::Create).then_some(self.peers.settings.host.as_str());
        match database.begin_backup(id, action.status(), host).await {
            Ok(BackupChange::Changed | BackupChange::Same) => {}
            Ok(BackupChange::Other(now)) => {
                return Err(reset(&format!("backup {id}"), now.as_deref(), action.status()));
            }
            Ok(BackupChange::Gone) => return Err(gone(&format!("backup {id}"))),
            Err(error) => return Err(away(&error)),
        }
        let Some((instance_id, (_, busy))) = task.instance_id.as_ref().zip(action.work()) else { return Ok(()) };
        let instance = database.instance(instance_id).await.map_err(|error| away(&error))?;
        let what = || format!("share instance {instance_id}");
        let instance = instance.ok_or_else(|| gone(&what()))?;
        if instance.status.as_deref() != Some(busy) {
            return Err(reset(&what(), instance.status.as_deref(), busy));
        }
        Ok(())
    }

    async fn set(
        &self,
        job: &Job,
        task: &BackupTask,
        to: &'static str,
        from: &[Option<&str>],
        or: &[&str],
    ) -> Result<(), FollowError> {
        let (share_id, backup_id) = (&task.share_id, &task.backup_id);
        match self.peers.database.set_task_state(share_id, Some(to), from).await {
            Ok(TaskStateChange::Changed) => {
                info!(job_id = %job.id, share_id, backup_id, task_state = to, "the share's task state was set");
                Ok(())
            }
            Ok(TaskStateChange::Same) => Ok(()),
            Ok(TaskStateChange::Other(Some(now))) if or.contains(&now.as_str()) => Ok(()),
            Ok(TaskStateChange::Other(now)) => Err(FollowError::Refused(format!(
                "the task state of share {share_id} is {} and not ours any more: somebody has reset it",
                now.as_deref().unwrap_or("unset"),
            ))),
            Err(DatabaseError::NotFound { .. }) => Err(gone(&format!("share {share_id}"))),
            Err(error) => Err(away(&error)),
        }
    }
}

fn reset(what: &str, now: Option<&str>, expected: &str) -> FollowError {
    let now = now.unwrap_or("unset");
    FollowError::Refused(format!("the status of {what} is {now}, not {expected}: somebody has reset it"))
}

fn gone(what: &str) -> FollowError {
    FollowError::Refused(format!("{what} is not there any more"))
}

/// Also where the database refuses: whoever mends its rights or schema finds the job waiting.
fn away(error: &DatabaseError) -> FollowError {
    FollowError::Away(error.to_string())
}
