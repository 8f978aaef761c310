//! Shows how far a job is, for manila-api and everybody who asks it: of a migration in `shares.task_state`.

use async_trait::async_trait;
use job::{FollowError, Follower, Job, Next, Outcome, State};
use tracing::info;

use crate::backup::BackupFollower;
use crate::database::{DatabaseError, TaskStateChange};
use crate::endpoint::Task;
use crate::migration::{Migration, Peers};
use crate::task_state::{
    DATA_COPYING_COMPLETING, DATA_COPYING_IN_PROGRESS, DATA_COPYING_STARTING, MIGRATION_IN_PROGRESS,
};

/// The port for jobs that are Manila's; nothing happens for others.
///
/// Each write is a compare and set: a state that is not ours (an administrator has reset it) is left alone, and says
/// that the job is not wanted any more.
#[derive(Clone, Debug)]
pub struct ManilaFollower {
    migrations: MigrationFollower,
    backups: BackupFollower,
}

impl ManilaFollower {
    pub fn new(peers: Peers) -> Self {
        Self { migrations: MigrationFollower { peers: peers.clone() }, backups: BackupFollower::new(peers) }
    }
}

#[async_trait]
impl Follower for ManilaFollower {
    async fn follow(&self, job: &Job) -> Result<(), FollowError> {
        match Task::of(job) {
            Some(Task::Migration(migration)) => self.migrations.follow(job, &migration).await,
            Some(Task::Backup(backup)) => self.backups.follow(job, &backup).await,
            None => Ok(()),
        }
    }
}

#[derive(Clone, Debug)]
struct MigrationFollower {
    peers: Peers,
}

/// One step of `task_state`.
struct Step {
    to: &'static str,
    from: &'static [Option<&'static str>],
    /// As good as `to`: a job that resumes does not go back in the eyes of others.
    or: &'static [&'static str],
}

const STARTING: Step =
    Step { to: DATA_COPYING_STARTING, from: &[Some(MIGRATION_IN_PROGRESS)], or: &[DATA_COPYING_IN_PROGRESS] };

const IN_PROGRESS: Step = Step { to: DATA_COPYING_IN_PROGRESS, from: &[Some(DATA_COPYING_STARTING)], or: &[] };

/// From `starting` too: a cancelled job may never have come to copy, or could not show that it did.
const COMPLETING: Step =
    Step { to: DATA_COPYING_COMPLETING, from: &[Some(DATA_COPYING_IN_PROGRESS), Some(DATA_COPYING_STARTING)], or: &[] };

/// What is to be shown of a state. A job that fails, or is going to begin again, shows nothing while it lets go: so
/// does upstream.
fn step(state: &State) -> Option<&'static Step> {
    match state {
        State::Granting | State::Mounting => Some(&STARTING),
        State::Working => Some(&IN_PROGRESS),
        State::Releasing { next: Next::End(Outcome::Completed | Outcome::Cancelled) } => Some(&COMPLETING),
        State::Accepted
        | State::Releasing { next: Next::Wait | Next::End(Outcome::Failed { .. }) }
        | State::Ended { .. } => None,
    }
}

impl MigrationFollower {
    /// Before anything is begun: the share may be on its way to somewhere else by now.
    async fn check_wanted(&self, migration: &Migration) -> Result<(), FollowError> {
        let instances = self.peers.database.instances(&migration.share_id).await.map_err(|error| away(&error))?;
        if migration.is_superseded(&instances) {
            return Err(FollowError::Refused(format!(
                "share {} is being migrated to another instance than {} by now",
                migration.share_id, migration.dest_instance_id
            )));
        }
        Ok(())
    }
}

impl MigrationFollower {
    async fn follow(&self, job: &Job, migration: &Migration) -> Result<(), FollowError> {
        let Some(step) = step(&job.state) else { return Ok(()) };
        let share_id = &migration.share_id;
        if job.state == State::Granting {
            self.check_wanted(migration).await?;
        }
        match self.peers.database.set_task_state(share_id, Some(step.to), step.from).await {
            Ok(TaskStateChange::Changed) => {
                info!(job_id = %job.id, share_id, task_state = step.to, "the share's task state was set");
                Ok(())
            }
            Ok(TaskStateChange::Same) => Ok(()),
            Ok(TaskStateChange::Other(Some(now))) if step.or.contains(&now.as_str()) => Ok(()),
            Ok(TaskStateChange::Other(now)) => Err(FollowError::Refused(format!(
                "the task state of share {share_id} is {} and not ours any more: somebody has reset it",
                now.as_deref().unwrap_or("unset"),
            ))),
            Err(DatabaseError::NotFound { .. }) => {
                Err(FollowError::Refused(format!("share {share_id} is not there any more")))
            }
            Err(error) => Err(away(&error)),
        }
    }
}

/// Also where the database refuses: whoever mends its rights or schema finds the job waiting.
fn away(error: &DatabaseError) -> FollowError {
    FollowError::Away(error.to_string())
}
