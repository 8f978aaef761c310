//! How far backups and restores are, in the columns that manila-api shows.

use std::sync::Arc;
use std::time::Duration;

use job::{DataService, DoorError, JobFilter, JobView, Kind, Page, StateName};
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{BackupAction, BackupTask};
use crate::database::{BackupChange, DatabaseError};
use crate::migration::{MANILA, Peers};
use crate::progress::percent_of;

/// Where nobody wants a pause there is one of so long: the row is worth one write for it.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Jobs that are looked through at once.
const PAGE: u32 = 100;

/// Writes how far the backups or restores are that are under way, again and again, until `stop`. One whose row somebody
/// has reset is not wanted any more: Manila knows no other way to cancel it.
pub(crate) async fn show_progress(
    peers: Peers,
    jobs: Arc<dyn DataService>,
    action: BackupAction,
    stop: CancellationToken,
) {
    let (kind, interval) = match action {
        BackupAction::Create => (Kind::Backup, peers.settings.backup.create_update_interval),
        BackupAction::Restore => (Kind::Restore, peers.settings.backup.restore_update_interval),
        BackupAction::Delete => return,
    };
    loop {
        select! {
            () = sleep(interval.max(PAUSE_MIN)) => {}
            () = stop.cancelled() => return,
        }
        select! {
            shown = show_all(&peers, &*jobs, kind, action) => match shown {
                Ok(()) => {}
                Err(error) => debug!(%error, "the progress of backups is not shown for now"),
            },
            () = stop.cancelled() => return,
        }
    }
}

async fn show_all(peers: &Peers, jobs: &dyn DataService, kind: Kind, action: BackupAction) -> Result<(), DoorError> {
    let filter = JobFilter {
        kinds: vec![kind],
        states: vec![StateName::Working],
        requester: Some(MANILA.into()),
        ..JobFilter::default()
    };
    let mut page = Page { after: None, size: PAGE };
    loop {
        let views = jobs.list(&filter, &page).await?;
        for view in &views {
            if let Some(task) = BackupTask::of(&view.job).filter(|task| task.action == action) {
                show(peers, jobs, view, &task).await?;
            }
        }
        match views.last() {
            Some(last) if views.len() == PAGE as usize => page.after = Some(last.job.id),
            _ => return Ok(()),
        }
    }
}

async fn show(peers: &Peers, jobs: &dyn DataService, view: &JobView, task: &BackupTask) -> Result<(), DoorError> {
    let (backup_id, status) = (&task.backup_id, task.action.status());
    let why = match peers.database.set_backup_progress(backup_id, status, percent_of(view)).await {
        Ok(BackupChange::Changed | BackupChange::Same) => return Ok(()),
        Ok(BackupChange::Other(now)) => format!("its status is {}, not {status}", now.as_deref().unwrap_or("unset")),
        Ok(BackupChange::Gone) => "its row is gone".into(),
        Err(error @ DatabaseError::Unavailable(_)) => {
            debug!(backup_id, %error, "the progress of a backup is not shown for now");
            return Ok(());
        }
        Err(error) => {
            warn!(backup_id, %error, "the progress of a backup cannot be shown");
            return Ok(());
        }
    };
    let job_id = view.job.id;
    match jobs.cancel(job_id).await {
        Ok(view) if view.job.state.is_ended() => {}
        Ok(_) => info!(backup_id, %job_id, why, "somebody has reset the backup, and its job is cancelled"),
        Err(DoorError::NoSuchJob(_) | DoorError::NotNow(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
