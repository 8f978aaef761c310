//! Backups that nobody works on any more: their jobs were lost with the store that they were in.
//!
//! They get the end that upstream gives to what it does not know: whoever waits for them sees that it is over, and can
//! begin again. It also takes back the access that the lost job had.

use std::sync::Arc;
use std::time::Duration;

use job::{DataService, DoorError};
use oslo::messaging::Context;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{BackupAction, BackupTask};
use crate::database::{Backup, BackupChange, BackupEnd, DatabaseError, TaskStateChange};
use crate::endpoint::{Task, named, of_share};
use crate::lock::InstanceLocks;
use crate::migration::Peers;
use crate::startup::{StartupError, deny_ours, other_hosts};
use crate::status::{CREATING, DELETING, RESTORING};
use crate::task_state::{COPYING, DATA_COPYING_ERROR};

/// From the beginning of the service to the first look: requests that waited at the broker while it was down have their
/// jobs by then.
const GRACE: Duration = Duration::from_mins(1);
/// Between two tries, where something is away.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

const REASON: &str = "the data service lost its record of the work, which was given up";

/// Ends what was lost, once, as soon as everybody that this needs is there; or returns at `stop`. To be begun when
/// requests are taken.
pub(crate) async fn end_lost(peers: Peers, jobs: Arc<dyn DataService>, locks: InstanceLocks, stop: CancellationToken) {
    let mut pause = GRACE;
    loop {
        select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return,
        }
        select! {
            ended = end_all(&peers, &*jobs, &locks) => match ended {
                Ok(()) => return,
                Err(error) => warn!(%error, "backups that were left behind are looked for again"),
            },
            () = stop.cancelled() => return,
        }
        pause = RETRY_PAUSE;
    }
}

async fn end_all(peers: &Peers, jobs: &dyn DataService, locks: &InstanceLocks) -> Result<(), StartupError> {
    let backups = match peers.database.backups_in(&[CREATING, RESTORING, DELETING]).await {
        Ok(backups) => backups,
        Err(DatabaseError::NoBackups) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Whose backup it is does not say who restores or deletes it.
    let mut may_be_anothers = Vec::new();
    let ours = backups.iter().filter(|backup| backup.host.as_deref() == Some(&*peers.settings.host));
    for backup in ours {
        for lost in lost_work(peers, jobs, backup).await? {
            if lost.action == BackupAction::Create {
                lost.end(peers, locks).await?;
            } else {
                may_be_anothers.push(lost);
            }
        }
    }
    if may_be_anothers.is_empty() {
        return Ok(());
    }
    let hosts = other_hosts(peers).await?;
    if !hosts.is_empty() {
        let backups: Vec<_> = may_be_anothers.iter().map(|lost| lost.backup_id.as_str()).collect();
        warn!(
            backups = backups.join(", "),
            hosts = hosts.join(", "),
            "backups are being restored or deleted that no job here knows of; they are left alone, because the named \
             hosts run manila-data too and may be at work on them. If none is, reset their status by hand"
        );
        return Ok(());
    }
    for lost in &may_be_anothers {
        lost.end(peers, locks).await?;
    }
    Ok(())
}

/// Work that the rows speak of, and no job.
struct Lost {
    action: BackupAction,
    backup_id: String,
    share_id: String,
}

/// Usually one; a restore whose target is not to be seen has the share that was backed up.
async fn lost_work(peers: &Peers, jobs: &dyn DataService, backup: &Backup) -> Result<Vec<Lost>, StartupError> {
    let action = match backup.status.as_deref() {
        Some(CREATING) => BackupAction::Create,
        Some(RESTORING) => BackupAction::Restore,
        _ => BackupAction::Delete,
    };
    let mut shares = vec![backup.share_id.clone()];
    if action == BackupAction::Restore {
        let targets = peers.database.shares_restored_from(&backup.id).await?;
        if !targets.is_empty() {
            shares = targets;
        }
    }
    let mut lost = Vec::new();
    for share_id in shares {
        if !has_job(jobs, action, &backup.id, &share_id).await? {
            lost.push(Lost { action, backup_id: backup.id.clone(), share_id });
        }
    }
    Ok(lost)
}

/// Also one that has ended: its end is being told by its own port.
async fn has_job(
    jobs: &dyn DataService,
    action: BackupAction,
    backup_id: &str,
    share_id: &str,
) -> Result<bool, DoorError> {
    let found = match action {
        BackupAction::Delete => named(jobs, &BackupTask::deletion_name(backup_id), &[]).await?,
        BackupAction::Create | BackupAction::Restore => of_share(jobs, share_id, &[]).await?,
    };
    let is_it =
        |task: &Task| matches!(task, Task::Backup(task) if task.action == action && task.backup_id == backup_id);
    Ok(found.iter().any(|ours| is_it(&ours.task)))
}

impl Lost {
    async fn end(&self, peers: &Peers, locks: &InstanceLocks) -> Result<(), StartupError> {
        let Self { action, backup_id, share_id } = self;
        let database = &peers.database;
        let change = match action.work() {
            None => database.fail_deletion(backup_id, REASON).await?,
            Some((work, busy)) => {
                let instances = database.instances(share_id).await?;
                let busy: Vec<_> =
                    instances.iter().filter(|instance| instance.status.as_deref() == Some(busy)).collect();
                for instance in &busy {
                    deny_ours(peers, locks, instance, &Context::admin()).await?;
                }
                if !busy.is_empty() {
                    match database.set_task_state(share_id, Some(DATA_COPYING_ERROR), &COPYING.map(Some)).await {
                        Ok(TaskStateChange::Changed | TaskStateChange::Same | TaskStateChange::Other(_))
                        | Err(DatabaseError::NotFound { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                let end = BackupEnd {
                    backup_id: backup_id.clone(),
                    share_id: share_id.clone(),
                    work,
                    fail_reason: Some(REASON.into()),
                    is_lost: true,
                    keeps_share: false,
                };
                database.end_backup(&end).await?
            }
        };
        if change == BackupChange::Changed {
            let method = action.method();
            error!(backup_id, share_id, method, "{REASON}; begin it again, or look what is left of it");
        } else {
            info!(backup_id, share_id, "a backup that was left behind is somebody else's by now, and left alone");
        }
        Ok(())
    }
}
