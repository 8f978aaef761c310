//! The end of a job, as Manila is told of it. Of a migration: the final `task_state`, a message for the user where it
//! failed, and then `migration_complete` for the source's share manager, which reads that state.

use std::time::Duration;

use async_trait::async_trait;
use job::{Failure, FailureCode, Job, Notifier, NotifyError, Outcome, Step};
use oslo::messaging::Context;
use tracing::{error, info, warn};

use crate::backup::BackupNotifier;
use crate::database::{DatabaseError, Share, ShareInstance, TaskStateChange, UserMessage};
use crate::endpoint::Task;
use crate::migration::{MANILA, MIGRATING_TO, Migration, Peers};
use crate::share_manager::CastError;
use crate::task_state::{
    COPYING, DATA_COPYING_CANCELLED, DATA_COPYING_COMPLETED, DATA_COPYING_ERROR, MIGRATION_IN_PROGRESS,
};

/// Until the next try, where database or broker are away: whoever waits for the end should not wait long once all is
/// well again.
const RETRY_SOON: Duration = Duration::from_secs(3);
/// The same where the database refuses, which somebody has to mend first.
const RETRY_LATER: Duration = Duration::from_mins(1);

/// Manila's message has no action for a migration; `update` is the nearest one that all releases know.
const ACTION_UPDATE: &str = "005";
/// `An unknown error occurred`: no detail of Manila is about copying. The reason is in the job, its report and the log.
const DETAIL_UNKNOWN_ERROR: &str = "001";

/// The port for jobs that are Manila's. It can be called again at any point: what was done already is seen in the
/// database, and a share that is somebody else's by now is left alone.
#[derive(Clone, Debug)]
pub struct ManilaNotifier {
    migrations: MigrationNotifier,
    backups: BackupNotifier,
}

impl ManilaNotifier {
    pub fn new(peers: Peers) -> Self {
        Self { migrations: MigrationNotifier { peers: peers.clone() }, backups: BackupNotifier::new(peers) }
    }
}

#[async_trait]
impl Notifier for ManilaNotifier {
    fn wants(&self, job: &Job) -> bool {
        job.origin.on_behalf.as_ref().is_some_and(|behalf| behalf.of == MANILA)
    }

    async fn tell(&self, job: &Job) -> Result<(), NotifyError> {
        let Some(outcome) = job.outcome() else { return Ok(()) };
        match Task::of(job) {
            Some(Task::Migration(migration)) => self.migrations.tell(job, &migration, outcome).await,
            Some(Task::Backup(backup)) => self.backups.tell(job, &backup, outcome).await,
            None => Err(NotifyError {
                message: "what the job remembers of its request cannot be read; the task state of its share, and the \
                          status of its backup, have to be reset by hand (manila reset-task-state, share backup set)"
                    .into(),
                is_final: true,
                retry_after: None,
            }),
        }
    }
}

#[derive(Clone, Debug)]
struct MigrationNotifier {
    peers: Peers,
}

impl MigrationNotifier {
    /// The states that the last one may follow. A job that was cancelled before it began has shown nothing so far.
    fn may_follow(outcome: &Outcome) -> Vec<Option<&'static str>> {
        let has_maybe_shown_nothing = match outcome {
            Outcome::Completed => false,
            Outcome::Cancelled => true,
            Outcome::Failed { failure } => failure.step == Step::Deadline,
        };
        let unseen = has_maybe_shown_nothing.then_some(MIGRATION_IN_PROGRESS);
        COPYING.into_iter().chain(unseen).map(Some).collect()
    }
}

impl MigrationNotifier {
    async fn tell(&self, job: &Job, migration: &Migration, outcome: &Outcome) -> Result<(), NotifyError> {
        let (peers, share_id) = (&self.peers, &migration.share_id);
        if let Outcome::Failed { failure: Failure { code: FailureCode::NotWanted, message, .. } } = outcome {
            info!(job_id = %job.id, share_id, reason = message, "the share is not ours any more and is left alone");
            return Ok(());
        }
        let instances = peers.database.instances(share_id).await.map_err(|error| later(&error))?;
        if migration.is_superseded(&instances) {
            warn!(job_id = %job.id, share_id, "the share is being migrated to elsewhere by now, and is left alone");
            return Ok(());
        }
        let to = final_state(outcome);
        let change = peers.database.set_task_state(share_id, Some(to), &Self::may_follow(outcome)).await;
        let is_first = match change {
            Ok(TaskStateChange::Changed) => true,
            Ok(TaskStateChange::Same) => false,
            Ok(TaskStateChange::Other(now)) => {
                let now = now.as_deref().unwrap_or("unset");
                warn!(job_id = %job.id, share_id, task_state = now, "the share is somebody else's by now, and left alone");
                return Ok(());
            }
            Err(DatabaseError::NotFound { .. }) => {
                warn!(job_id = %job.id, share_id, "the share is not there any more; nobody is told");
                return Ok(());
            }
            Err(error) => return Err(later(&error)),
        };
        if is_first {
            log_end(job, migration, outcome, to);
        }
        if let Outcome::Failed { .. } = outcome {
            peers.tell_user(share_id, &job.id.to_string(), &migration.context).await.map_err(|error| later(&error))?;
        }
        if *outcome == Outcome::Completed && !peers.settings.notify_on_success {
            return Ok(());
        }
        let Some(host) = host_of(&migration.source_instance_id, &instances) else {
            warn!(
                share_id,
                instance_id = migration.source_instance_id,
                "no share manager looks after the source; none is told"
            );
            return Ok(());
        };
        // Told before, perhaps: a share manager that has begun to clean up must not begin again.
        if !is_first && !waits(&migration.dest_instance_id, &instances) {
            return Ok(());
        }
        let (source, dest) = (&migration.source_instance_id, &migration.dest_instance_id);
        peers
            .share_manager
            .migration_complete(&migration.context, host, source, dest)
            .await
            .map_err(|error| not_sent(&error))
    }
}

fn final_state(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => DATA_COPYING_COMPLETED,
        Outcome::Cancelled => DATA_COPYING_CANCELLED,
        Outcome::Failed { .. } => DATA_COPYING_ERROR,
    }
}

fn log_end(job: &Job, migration: &Migration, outcome: &Outcome, task_state: &str) {
    let (share_id, source, dest) = (&migration.share_id, &migration.source_instance_id, &migration.dest_instance_id);
    match outcome {
        Outcome::Completed | Outcome::Cancelled => {
            info!(job_id = %job.id, share_id, source, dest, task_state, "the migration's data copy has ended");
        }
        Outcome::Failed { failure } => {
            let reason = failure.to_string();
            error!(job_id = %job.id, share_id, source, dest, task_state, reason, "the migration's data copy failed");
        }
    }
}

/// The share manager that looks after an instance.
pub(crate) fn host_of<'i>(instance_id: &str, instances: &'i [ShareInstance]) -> Option<&'i str> {
    let instance = instances.iter().find(|instance| instance.id == instance_id)?;
    instance.host.as_deref().filter(|host| !host.is_empty())
}

/// Nobody has begun to do away with the destination, or to make it the share.
fn waits(dest_instance_id: &str, instances: &[ShareInstance]) -> bool {
    instances.iter().any(|dest| dest.id == dest_instance_id && dest.status.as_deref() == Some(MIGRATING_TO))
}

pub(crate) fn later(error: &DatabaseError) -> NotifyError {
    let retry_after = if matches!(error, DatabaseError::Unavailable(_)) { RETRY_SOON } else { RETRY_LATER };
    NotifyError { message: error.to_string(), is_final: false, retry_after: Some(retry_after) }
}

fn not_sent(error: &CastError) -> NotifyError {
    NotifyError { message: error.to_string(), is_final: false, retry_after: Some(RETRY_SOON) }
}

impl Peers {
    /// Leaves a message for the project that the share belongs to. `message_id` makes it one message, however often it
    /// is tried. Only a database that is away is an error: what it refuses is of no weight against what has to follow.
    pub(crate) async fn tell_user(
        &self,
        share_id: &str,
        message_id: &str,
        context: &Context,
    ) -> Result<(), DatabaseError> {
        match self.add_message(share_id, message_id, context).await {
            Ok(()) => Ok(()),
            Err(error @ DatabaseError::Unavailable(_)) => Err(error),
            Err(error) => {
                warn!(share_id, %error, "the user was left no message about the failed migration");
                Ok(())
            }
        }
    }

    async fn add_message(&self, share_id: &str, message_id: &str, context: &Context) -> Result<(), DatabaseError> {
        let Some(Share { project_id, .. }) = self.database.share(share_id).await? else { return Ok(()) };
        let Some(project_id) = project_id.or_else(|| context.project_id().map(str::to_owned)) else { return Ok(()) };
        let message = UserMessage {
            id: message_id.into(),
            project_id,
            request_id: context.request_id().map(str::to_owned),
            resource_type: "SHARE".into(),
            resource_id: share_id.into(),
            action_id: ACTION_UPDATE.into(),
            detail_id: DETAIL_UNKNOWN_ERROR.into(),
            level: "ERROR".into(),
            keep: self.settings.message_ttl,
        };
        self.database.add_message(&message).await.map(drop)
    }
}
