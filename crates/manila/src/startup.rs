//! What is to be done about shares that an earlier data service left in the middle of a copy.
//!
//! Those with a job in our store need nothing: the job goes on. The others get what upstream gives them, the state
//! `data_copying_error`, and what it forgets: its access rules are taken back, and the share manager is told.

use std::time::Duration;

use job::{DataService, DoorError};
use oslo::messaging::Context;
use tokio::select;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::answer::host_of;
use crate::database::{DatabaseError, ServiceRow, Share, ShareInstance, TaskStateChange};
use crate::endpoint::{Task, of_share};
use crate::heartbeat::BINARY;
use crate::lock::{InstanceLocks, LockError};
use crate::migration::{MIGRATING, MIGRATING_TO, Peers};
use crate::share_manager::CastError;
use crate::status::{BACKUP_CREATING, BACKUP_RESTORING};
use crate::task_state::{COPYING, DATA_COPYING_ERROR};

/// Between two tries to finish what was left behind.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// Between two looks whether the share manager has taken a rule back.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// A service that has given no sign of life for longer is not going to go on with anything.
const OTHER_HOST_AGE_MAX: Duration = Duration::from_hours(24);

/// Why something could not be done, for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartupError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Jobs(#[from] DoorError),
    #[error(transparent)]
    Cast(#[from] CastError),
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// Looks for shares that nobody copies any more. To be done before requests are taken: what comes after is ours.
pub(crate) async fn scan(peers: &Peers, jobs: &dyn DataService) -> Result<Vec<Share>, StartupError> {
    let mut left_behind = Vec::new();
    for share in peers.database.shares_in(&[COPYING[0], COPYING[1], COPYING[2], DATA_COPYING_ERROR]).await? {
        if is_left_behind(peers, jobs, &share).await? {
            left_behind.push(share);
        }
    }
    let others = other_hosts(peers).await?;
    if left_behind.is_empty() || others.is_empty() {
        return Ok(left_behind);
    }
    let shares: Vec<_> = left_behind.iter().map(|share| share.id.as_str()).collect();
    error!(
        shares = shares.join(", "),
        hosts = others.join(", "),
        "shares are being copied that no job here knows of; they are left alone, because the named hosts run manila-data \
         too and may be copying them. If none does, reset their task state by hand (manila reset-task-state). Several \
         nodes must share one job store ([data_service] job_store)"
    );
    Ok(Vec::new())
}

/// A share that is marked as being copied, or as a copy that failed with nobody told of it, and has no job.
async fn is_left_behind(peers: &Peers, jobs: &dyn DataService, share: &Share) -> Result<bool, StartupError> {
    let instances = peers.database.instances(&share.id).await?;
    let is_of_backup =
        |instance: &ShareInstance| matches!(instance.status.as_deref(), Some(BACKUP_CREATING | BACKUP_RESTORING));
    if instances.iter().any(is_of_backup) {
        // `backup::lost` sees to them, by the rows of their backups.
        return Ok(false);
    }
    let pair = Pair::of(instances);
    if share.task_state.as_deref() == Some(DATA_COPYING_ERROR)
        && !matches!(pair, Pair { source: Some(_), dest: Some(_), .. })
    {
        // A backup that failed looks so as well, and a migration that somebody has cleaned up.
        return Ok(false);
    }
    // Also a job that has ended: its end is being told by its own port.
    let of_share = of_share(jobs, &share.id, &[]).await?;
    Ok(!of_share.iter().any(|ours| {
        !ours.view.job.state.is_ended()
            || matches!(&ours.task, Task::Migration(migration)
                if pair.dest.as_ref().is_some_and(|dest| dest.id == migration.dest_instance_id))
    }))
}

/// Other hosts with a data service that may be alive.
pub(crate) async fn other_hosts(peers: &Peers) -> Result<Vec<String>, StartupError> {
    let may_be_alive = |row: &ServiceRow| {
        row.host != peers.settings.host && row.state.as_deref() != Some("stopped") && row.age < OTHER_HOST_AGE_MAX
    };
    Ok(peers.database.services(BINARY).await?.into_iter().filter(may_be_alive).map(|row| row.host).collect())
}

/// The two instances of a migration that is under way, as far as there is one of each.
struct Pair {
    source: Option<ShareInstance>,
    dest: Option<ShareInstance>,
    all: Vec<ShareInstance>,
}

impl Pair {
    fn of(instances: Vec<ShareInstance>) -> Self {
        let only = |status: &str| {
            let mut found = instances.iter().filter(|instance| instance.status.as_deref() == Some(status));
            found.next().filter(|_| found.next().is_none()).cloned()
        };
        Self { source: only(MIGRATING), dest: only(MIGRATING_TO), all: instances }
    }
}

/// Finishes with shares that were left behind, each by itself and until it is done, or until `stop`.
pub(crate) fn finish(
    tasks: &TaskTracker,
    peers: &Peers,
    locks: &InstanceLocks,
    shares: Vec<Share>,
    stop: &CancellationToken,
) {
    for share in shares {
        let (peers, locks, stop) = (peers.clone(), locks.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                select! {
                    finished = finish_one(&peers, &locks, &share) => match finished {
                        Ok(()) => return,
                        Err(error) => warn!(share_id = share.id, %error, "a share that was left behind is tried again"),
                    },
                    () = stop.cancelled() => return,
                }
                select! {
                    () = sleep(RETRY_PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        });
    }
}

async fn finish_one(peers: &Peers, locks: &InstanceLocks, share: &Share) -> Result<(), StartupError> {
    let context = Context::admin();
    let share_id = &share.id;
    let pair = Pair::of(peers.database.instances(share_id).await?);
    for instance in pair.all.iter().filter(|instance| is_of_migration(instance)) {
        deny_ours(peers, locks, instance, &context).await?;
    }
    let from: Vec<_> = COPYING.into_iter().map(Some).collect();
    match peers.database.set_task_state(share_id, Some(DATA_COPYING_ERROR), &from).await {
        Ok(TaskStateChange::Changed) => {
            error!(
                share_id,
                "a copy of the share was left behind by a data service that knows no more of it; given up"
            );
        }
        Ok(TaskStateChange::Same) => {}
        Ok(TaskStateChange::Other(_)) | Err(DatabaseError::NotFound { .. }) => {
            info!(share_id, "a share that was left behind is somebody else's by now, and left alone");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    }
    let (Some(source), Some(dest)) = (&pair.source, &pair.dest) else {
        warn!(share_id, "which instances the share was migrated between is not to be seen; no share manager is told");
        return Ok(());
    };
    peers.tell_user(share_id, &dest.id, &context).await?;
    let Some(host) = host_of(&source.id, &pair.all) else {
        warn!(share_id, instance_id = source.id, "no share manager looks after the source; none is told");
        return Ok(());
    };
    peers.share_manager.migration_complete(&context, host, &source.id, &dest.id).await?;
    Ok(())
}

fn is_of_migration(instance: &ShareInstance) -> bool {
    matches!(instance.status.as_deref(), Some(MIGRATING | MIGRATING_TO))
}

/// Takes back the access that a data service of our configuration has on an instance, and waits until it is gone. A
/// share manager that does not do it in time must not keep the share from being given up.
pub(crate) async fn deny_ours(
    peers: &Peers,
    locks: &InstanceLocks,
    instance: &ShareInstance,
    context: &Context,
) -> Result<(), StartupError> {
    let (database, settings) = (&peers.database, &peers.settings);
    let ips = settings.data_node_access_ips.iter().map(|ip| ("ip", ip));
    let user = settings.data_node_access_admin_user.iter().map(|user| ("user", user));
    let cert = settings.data_node_access_cert.iter().map(|cert| ("cert", cert));
    let mut ours = Vec::new();
    for (access_type, access_to) in ips.chain(user).chain(cert) {
        let rules = database.rules_for(&instance.share_id, access_type, access_to).await?;
        let mappings = rules.into_iter().flat_map(|rule| rule.mappings);
        ours.extend(mappings.filter(|mapping| mapping.instance_id == instance.id).map(|mapping| mapping.id));
    }
    let ids: Vec<_> = ours.iter().map(String::as_str).collect();
    let Some(host) = instance.host.as_deref().filter(|_| !ids.is_empty()) else { return Ok(()) };
    let deadline = Instant::now() + settings.data_access_wait_access_rules_timeout;
    let lock = locks.lock(&instance.id, deadline).await?;
    database.deny(&instance.id, &ids).await?;
    drop(lock);
    peers.share_manager.update_access(context, host, &instance.id).await?;
    loop {
        let left = database.mappings(&ids).await?;
        if left.is_empty() {
            info!(instance_id = instance.id, count = ids.len(), "access that was left behind was taken back");
            return Ok(());
        }
        if left.iter().all(|mapping| mapping.state.as_deref() == Some("error")) || Instant::now() >= deadline {
            warn!(
                instance_id = instance.id,
                "access that was left behind is not taken back by the share manager; remove it by hand (manila \
                 access-list, manila access-deny)"
            );
            return Ok(());
        }
        sleep(POLL_PAUSE).await;
    }
}
