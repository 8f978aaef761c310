//! What other services can ask for: the methods of upstream's data service, of its version 1.1.

use std::sync::Arc;

use async_trait::async_trait;
use job::{
    DataService, DoorError, IdempotencyKey, Job, JobFilter, JobId, JobView, Next, OnBehalf, Origin, Outcome, Page,
    State, StateName,
};
use oslo::messaging::{Arguments, Context, Failure, Handler, HandlerError, Request, RpcVersion};
use serde_json::{Map, Value};
use tracing::{error, info, warn};

use crate::answer::host_of;
use crate::backup::{BackupAction, BackupTask};
use crate::database::{DatabaseError, Share, ShareInstance, TaskStateChange};
use crate::failures;
use crate::migration::{MANILA, MIGRATING, Migration, Peers, is_superseded};
use crate::progress;
use crate::request::{MigrationStart, checked_id};
use crate::task_state::{DATA_COPYING_ERROR, MIGRATION_IN_PROGRESS};

/// Serves clients of 1.0 (Manila 15, 16) as well.
const VERSION: RpcVersion = RpcVersion::new(1, 1);

/// Jobs of one share that are looked through for one that is not over. There is hardly ever a second one.
const JOBS_MAX: u32 = 16;

/// Answers requests. A migration or a backup becomes a job; everything that follows from it is done by the job's ports.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub(crate) peers: Peers,
    pub(crate) jobs: Arc<dyn DataService>,
}

/// A job of ours.
#[derive(Clone, Debug)]
pub(crate) struct OurJob {
    pub(crate) view: JobView,
    pub(crate) task: Task,
}

/// What a job of ours is about.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Migration(Migration),
    Backup(BackupTask),
}

impl Task {
    /// `None`: the job is not Manila's, or of another version of this program.
    pub(crate) fn of(job: &Job) -> Option<Self> {
        let migration = Migration::of(job).map(Self::Migration);
        migration.or_else(|| BackupTask::of(job).map(Self::Backup))
    }

    pub(crate) fn share_id(&self) -> &str {
        match self {
            Self::Migration(migration) => &migration.share_id,
            Self::Backup(backup) => &backup.share_id,
        }
    }
}

/// What becomes of a request that is not carried out.
enum Refusal {
    /// It has nothing to do with what the share is doing: nothing is changed.
    Stale(String),
    /// The migration that it belongs to cannot be: it is ended, and the share manager told.
    Impossible(String),
}

impl Endpoint {
    pub fn new(peers: Peers, jobs: Arc<dyn DataService>) -> Self {
        Self { peers, jobs }
    }

    async fn migration_start(&self, request: Request) -> Result<Value, HandlerError> {
        let Request { args, context, unique_id, .. } = request;
        let start = MigrationStart::read(args)?;
        let (share_id, source, dest) = (&start.share_id, &start.source_instance_id, &start.dest_instance_id);
        let database = &self.peers.database;
        let share = database.share(share_id).await.map_err(|error| away(&error))?;
        let Some(share) = share else {
            warn!(share_id, source, dest, "a migration was asked for, and the share is not there");
            return Err(failures::not_found().into());
        };
        let instances = database.instances(share_id).await.map_err(|error| away(&error))?;
        if let Some(ours) = unfinished(&*self.jobs, share_id).await.map_err(|error| not_now(&error))? {
            if is_for(&start, &ours) {
                let job_id = ours.view.job.id;
                info!(share_id, source, dest, %job_id, "the migration was asked for again; it has its job");
                return Ok(Value::Null);
            }
            if let Err(refusal) = check_current(&start, &share, &instances) {
                return self.refuse(&start, refusal, &context).await;
            }
            // Asked for after somebody had reset the share: two jobs at once would be in each other's way.
            self.jobs.cancel(ours.view.job.id).await.map_err(|error| not_now(&error))?;
            return Err(HandlerError::Retry(format!("an earlier migration of share {share_id} is being ended first")));
        }
        if share.task_state.as_deref() == Some(DATA_COPYING_ERROR) && self.was_cut_short(&start, &instances).await? {
            return self.send_complete(&start, &instances, &context).await;
        }
        let checked = check_current(&start, &share, &instances).and_then(|()| check_instances(&start, &instances));
        if let Err(refusal) = checked {
            return self.refuse(&start, refusal, &context).await;
        }
        self.submit(start, &share, &context, unique_id).await
    }

    async fn submit(
        &self,
        start: MigrationStart,
        share: &Share,
        context: &Context,
        unique_id: Option<String>,
    ) -> Result<Value, HandlerError> {
        let made = start.clone().into_job(share.share_proto.as_deref(), context, &self.peers.settings);
        let (spec, migration) = match made {
            Ok(made) => made,
            Err(why) => return self.refuse(&start, Refusal::Impossible(why), context).await,
        };
        let request = serde_json::to_value(&migration).expect("texts and maps of texts are JSON");
        let origin = Origin {
            requester: MANILA.into(),
            request_id: context.request_id().map(str::to_owned),
            on_behalf: Some(OnBehalf { of: MANILA.into(), request }),
        };
        let fingerprint = start.fingerprint();
        let key = unique_id.map(|key| IdempotencyKey { requester: MANILA.into(), key, fingerprint });
        let (share_id, source, dest) = (&start.share_id, &start.source_instance_id, &start.dest_instance_id);
        match self.jobs.submit(spec, origin, key).await {
            Ok(submitted) => {
                let job_id = submitted.view.job.id;
                info!(share_id, source, dest, %job_id, is_known = submitted.is_known, "a migration was taken");
                Ok(Value::Null)
            }
            Err(DoorError::BadSpec(problems)) => {
                self.refuse(&start, Refusal::Impossible(problems.join("; ")), context).await
            }
            Err(DoorError::KeyReused) => {
                error!(share_id, source, dest, "the identifier of the message belongs to another migration; refused");
                Err(failures::copy_failed(source, dest).into())
            }
            Err(error) => Err(not_now(&error)),
        }
    }

    /// The migration was given up here already, and whoever has to know may not have been told: the broker or this
    /// service went away in between.
    async fn was_cut_short(&self, start: &MigrationStart, instances: &[ShareInstance]) -> Result<bool, HandlerError> {
        let waits = |instance: &ShareInstance| {
            instance.id == start.source_instance_id && instance.status.as_deref() == Some(MIGRATING)
        };
        if !instances.iter().any(waits) || is_superseded(&start.dest_instance_id, instances) {
            return Ok(false);
        }
        // A job's end is told by its own port.
        let jobs = of_share(&*self.jobs, &start.share_id, &[]).await.map_err(|error| not_now(&error))?;
        Ok(!jobs.iter().any(|ours| is_for(start, ours)))
    }

    async fn refuse(&self, start: &MigrationStart, refusal: Refusal, context: &Context) -> Result<Value, HandlerError> {
        let (share_id, source, dest) = (&start.share_id, &start.source_instance_id, &start.dest_instance_id);
        let failure = failures::copy_failed(source, dest);
        let reason = match refusal {
            Refusal::Stale(reason) => {
                warn!(share_id, source, dest, reason, "a migration was refused, nothing was changed");
                return Err(failure.into());
            }
            Refusal::Impossible(reason) => reason,
        };
        let database = &self.peers.database;
        let change = database.set_task_state(share_id, Some(DATA_COPYING_ERROR), &[Some(MIGRATION_IN_PROGRESS)]).await;
        match change {
            Ok(TaskStateChange::Changed | TaskStateChange::Same) => {}
            Ok(TaskStateChange::Other(_)) | Err(DatabaseError::NotFound { .. }) => {
                warn!(share_id, source, dest, reason, "a migration was refused; its share was reset meanwhile");
                return Err(failure.into());
            }
            Err(error) => return Err(away(&error)),
        }
        error!(share_id, source, dest, reason, "the migration cannot be carried out");
        // One message for this destination, which no other migration ever has.
        self.peers.tell_user(share_id, dest, context).await.map_err(|error| away(&error))?;
        let instances = database.instances(share_id).await.map_err(|error| away(&error))?;
        self.send_complete(start, &instances, context).await
    }

    /// Tells the source's share manager that the migration is over, which it reads in the task state. A broker that is
    /// away leaves the request unacknowledged: when it comes again, this is what is left to do.
    async fn send_complete(
        &self,
        start: &MigrationStart,
        instances: &[ShareInstance],
        context: &Context,
    ) -> Result<Value, HandlerError> {
        let (source, dest) = (&start.source_instance_id, &start.dest_instance_id);
        if let Some(host) = host_of(source, instances) {
            let sent = self.peers.share_manager.migration_complete(context, host, source, dest).await;
            sent.map_err(|error| HandlerError::Retry(error.to_string()))?;
        } else {
            warn!(instance_id = source, "no share manager looks after the source; none is told");
        }
        Err(failures::copy_failed(source, dest).into())
    }

    async fn data_copy_cancel(&self, args: Map<String, Value>) -> Result<Value, HandlerError> {
        let share_id = share_id_of("DataManager.data_copy_cancel", args, failures::not_cancellable)?;
        let refused = || {
            warn!(share_id, "a cancellation was refused: there is no copy that can be cancelled");
            HandlerError::from(failures::not_cancellable(&share_id))
        };
        let ours = unfinished(&*self.jobs, &share_id).await.map_err(|error| not_now(&error))?.ok_or_else(refused)?;
        if is_decided(&ours.view.job.state) {
            return Err(refused());
        }
        let job_id: JobId = ours.view.job.id;
        match self.jobs.cancel(job_id).await {
            Ok(view) if is_decided(&view.job.state) => Err(refused()),
            Ok(_) => {
                info!(share_id, %job_id, "the copy is being cancelled");
                Ok(Value::Null)
            }
            Err(DoorError::NoSuchJob(_) | DoorError::NotNow(_)) => Err(refused()),
            Err(error) => Err(not_now(&error)),
        }
    }

    async fn data_copy_get_progress(&self, args: Map<String, Value>) -> Result<Value, HandlerError> {
        let share_id = share_id_of("DataManager.data_copy_get_progress", args, failures::no_progress)?;
        match unfinished(&*self.jobs, &share_id).await {
            Ok(Some(ours)) => {
                let settings = &self.peers.settings;
                Ok(progress::answer(&ours.view, &progress::dest_of(&ours.task, settings)))
            }
            Ok(None) => {
                warn!(share_id, "progress was asked for, and there is no copy of the share");
                Err(failures::no_progress(&share_id).into())
            }
            // Whoever asks will ask again; an answer after minutes is none.
            Err(error) => {
                warn!(share_id, %error, "the progress of a copy cannot be read");
                Err(failures::no_progress(&share_id).into())
            }
        }
    }
}

#[async_trait]
impl Handler for Endpoint {
    fn version(&self) -> RpcVersion {
        VERSION
    }

    async fn handle(&self, request: Request) -> Result<Value, HandlerError> {
        match request.method.as_str() {
            "migration_start" => self.migration_start(request).await,
            "data_copy_cancel" => self.data_copy_cancel(request.args).await,
            "data_copy_get_progress" => self.data_copy_get_progress(request.args).await,
            "service_version" => {
                Arguments::bind("Manager.service_version", request.args, &[], &[])?;
                Ok(env!("CARGO_PKG_VERSION").into())
            }
            "create_backup" => self.backup(BackupAction::Create, request).await,
            "restore_backup" => self.backup(BackupAction::Restore, request).await,
            "delete_backup" => self.backup(BackupAction::Delete, request).await,
            method => Err(Failure::no_such_method(method).into()),
        }
    }
}

/// The job is that very migration's.
fn is_for(start: &MigrationStart, ours: &OurJob) -> bool {
    matches!(&ours.task, Task::Migration(migration) if start.asks_for(migration))
}

const UNFINISHED: [StateName; 5] =
    [StateName::Accepted, StateName::Granting, StateName::Mounting, StateName::Working, StateName::Releasing];

/// Unfinished jobs of the share, as the store knows them: also those of other nodes.
pub(crate) async fn unfinished(jobs: &dyn DataService, share_id: &str) -> Result<Option<OurJob>, DoorError> {
    Ok(of_share(jobs, share_id, &UNFINISHED).await?.into_iter().next())
}

/// A job that deletes the backup, and is not over.
pub(crate) async fn unfinished_deletion(jobs: &dyn DataService, backup_id: &str) -> Result<Option<OurJob>, DoorError> {
    Ok(named(jobs, &BackupTask::deletion_name(backup_id), &UNFINISHED).await?.into_iter().next())
}

/// Jobs of the share in one of these states, or in any; the newest first.
pub(crate) async fn of_share(
    jobs: &dyn DataService,
    share_id: &str,
    states: &[StateName],
) -> Result<Vec<OurJob>, DoorError> {
    let mut found = named(jobs, &Migration::job_name(share_id), states).await?;
    found.retain(|ours| ours.task.share_id() == share_id);
    Ok(found)
}

/// Jobs of ours that have this name.
pub(crate) async fn named(jobs: &dyn DataService, name: &str, states: &[StateName]) -> Result<Vec<OurJob>, DoorError> {
    let filter = JobFilter {
        name: Some(name.into()),
        requester: Some(MANILA.into()),
        states: states.to_vec(),
        ..JobFilter::default()
    };
    let views = jobs.list(&filter, &Page { after: None, size: JOBS_MAX }).await?;
    Ok(views.into_iter().filter_map(|view| Some(OurJob { task: Task::of(&view.job)?, view })).collect())
}

/// Whether the share waits for this very migration. A request may have waited in its queue while somebody reset the
/// share, and while another migration began.
fn check_current(start: &MigrationStart, share: &Share, instances: &[ShareInstance]) -> Result<(), Refusal> {
    let task_state = share.task_state.as_deref();
    if task_state != Some(MIGRATION_IN_PROGRESS) {
        let now = task_state.unwrap_or("unset");
        let reason =
            format!("the share's task state is {now}, not {MIGRATION_IN_PROGRESS}: it does not wait for a copy");
        return Err(Refusal::Stale(reason));
    }
    if is_superseded(&start.dest_instance_id, instances) {
        return Err(Refusal::Stale("the share is being migrated to another instance by now".into()));
    }
    Ok(())
}

fn check_instances(start: &MigrationStart, instances: &[ShareInstance]) -> Result<(), Refusal> {
    for (side, id) in [("source", &start.source_instance_id), ("destination", &start.dest_instance_id)] {
        if host_of(id, instances).is_none() {
            let is_there = instances.iter().any(|instance| instance.id == *id);
            let lacks = if is_there { "has no host" } else { "is not there, or not one of the share's" };
            return Err(Refusal::Impossible(format!("the {side} instance {id} {lacks}")));
        }
    }
    if start.source_instance_id == start.dest_instance_id {
        return Err(Refusal::Impossible("source and destination are the same instance".into()));
    }
    Ok(())
}

/// Too late for a cancellation to make a difference.
fn is_decided(state: &State) -> bool {
    match state {
        State::Releasing { next: Next::End(outcome) } | State::Ended { outcome } => *outcome != Outcome::Cancelled,
        _ => false,
    }
}

/// The one argument of the calls. What can be no share's identifier names no share that is being copied.
fn share_id_of(method: &str, args: Map<String, Value>, unknown: fn(&str) -> Failure) -> Result<String, Failure> {
    let id = Arguments::bind(method, args, &["share_id"], &[])?.string("share_id")?;
    // Told as it came, but not at any length.
    let shown: String = id.chars().take(64).collect();
    checked_id(id).ok_or_else(|| unknown(&shown))
}

/// Not acknowledged: nothing is lost while the database is away, or refuses until somebody mends that.
pub(crate) fn away(error: &DatabaseError) -> HandlerError {
    HandlerError::Retry(error.to_string())
}

pub(crate) fn not_now(error: &DoorError) -> HandlerError {
    HandlerError::Retry(error.to_string())
}
