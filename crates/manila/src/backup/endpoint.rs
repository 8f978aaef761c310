//! Requests about backups. All of them are casts: what comes of one is in the rows of the backup and of its share.

use job::{DoorError, IdempotencyKey, JobSpec, OnBehalf, Origin};
use oslo::messaging::{Context, HandlerError, Request};
use serde_json::Value;
use tracing::{error, info, warn};

use super::request::{BackupRequest, ShareSide, deletion_job, share_job};
use super::{BackupAction, BackupTask};
use crate::database::{Backup, BackupChange, BackupEnd, BackupWork, DatabaseError, Share, ShareInstance};
use crate::endpoint::{Endpoint, Task, away, not_now, unfinished, unfinished_deletion};
use crate::failures;
use crate::migration::MANILA;

/// What becomes of a request that is not carried out.
enum Refusal {
    /// The rows do not wait for it: nothing is changed.
    Stale(String),
    /// They do, and it cannot be: they get the end that they would get if it had failed.
    Impossible(String),
}

/// A request with what the database says of it.
struct Known<'r> {
    request: &'r BackupRequest,
    backup: Backup,
    /// Of a deletion there is none.
    share: Option<Share>,
}

impl Endpoint {
    pub(crate) async fn backup(&self, action: BackupAction, message: Request) -> Result<Value, HandlerError> {
        let Request { args, context, unique_id, .. } = message;
        let request = BackupRequest::read(action, args)?;
        let known = self.look_up(&request).await?;
        let made = self.make(&known, &context).await?;
        let (spec, task) = match made {
            Ok(made) => made,
            Err(refusal) => return self.refuse_backup(&known, refusal).await,
        };
        if let Some(ours) = self.unfinished_of(&task).await? {
            let job_id = ours.view.job.id;
            let (backup_id, share_id) = (&task.backup_id, &task.share_id);
            if matches!(&ours.task, Task::Backup(other) if other.is_same(&task)) {
                info!(backup_id, share_id, %job_id, "{} was asked for again; it has its job", action.method());
                return Ok(Value::Null);
            }
            // Asked for after somebody had reset the rows: two jobs at once would be in each other's way.
            self.jobs.cancel(job_id).await.map_err(|error| not_now(&error))?;
            return Err(HandlerError::Retry(format!("an earlier job of share {share_id} is being ended first")));
        }
        self.submit_backup(&known, spec, &task, unique_id).await
    }

    async fn unfinished_of(&self, task: &BackupTask) -> Result<Option<crate::endpoint::OurJob>, HandlerError> {
        let found = match task.action {
            BackupAction::Delete => unfinished_deletion(&*self.jobs, &task.backup_id).await,
            BackupAction::Create | BackupAction::Restore => unfinished(&*self.jobs, &task.share_id).await,
        };
        found.map_err(|error| not_now(&error))
    }

    async fn look_up<'r>(&self, request: &'r BackupRequest) -> Result<Known<'r>, HandlerError> {
        let database = &self.peers.database;
        let (action, backup_id) = (request.action.method(), &request.backup_id);
        let share = match &request.share_id {
            None => None,
            Some(id) => {
                let share = database.share(id).await.map_err(|error| away(&error))?;
                if share.is_none() {
                    warn!(backup_id, share_id = id, "{action} was asked for, and the share is not there");
                    return Err(failures::not_found().into());
                }
                share
            }
        };
        match database.backup(backup_id).await {
            Ok(Some(backup)) => Ok(Known { request, backup, share }),
            Ok(None) => {
                warn!(backup_id, "{action} was asked for, and the backup is not there");
                Err(failures::backup_not_found(backup_id).into())
            }
            Err(error @ DatabaseError::NoBackups) => {
                error!(backup_id, %error, "{action} was asked for, and cannot be");
                Err(failures::backup_failed(&error.to_string()).into())
            }
            Err(error) => Err(away(&error)),
        }
    }

    /// The job of a request that its rows wait for.
    async fn make(
        &self,
        known: &Known<'_>,
        context: &Context,
    ) -> Result<Result<(JobSpec, BackupTask), Refusal>, HandlerError> {
        let Known { request, backup, share } = known;
        let (action, settings) = (request.action, &self.peers.settings);
        let status = backup.status.as_deref().unwrap_or("unset");
        if status != action.status() {
            let reason = format!("the backup's status is {status}, not {}: it waits for nothing", action.status());
            return Ok(Err(Refusal::Stale(reason)));
        }
        let (Some(share), Some((_, busy))) = (share, action.work()) else {
            return Ok(deletion_job(backup, context, settings).map_err(Refusal::Impossible));
        };
        if action == BackupAction::Create && backup.share_id != share.id {
            return Ok(Err(Refusal::Stale(format!("the backup is one of share {}", backup.share_id))));
        }
        let database = &self.peers.database;
        let instances = database.instances(&share.id).await.map_err(|error| away(&error))?;
        // The one that the API has marked. Which one that is follows from statuses and replicas; here it shows.
        let is_busy = |instance: &&ShareInstance| instance.status.as_deref() == Some(busy);
        let Some(instance) = instances.iter().find(is_busy) else {
            let statuses: Vec<_> = instances.iter().filter_map(|instance| instance.status.as_deref()).collect();
            let reason = format!("the share is {}, not {busy}: somebody has reset it", statuses.join(", "));
            return Ok(Err(Refusal::Impossible(reason)));
        };
        if instance.host.as_deref().is_none_or(str::is_empty) {
            let reason = format!("share instance {} has no host that could let this machine in", instance.id);
            return Ok(Err(Refusal::Impossible(reason)));
        }
        let locations = database.export_locations(&instance.id).await.map_err(|error| away(&error))?;
        let side = ShareSide { share, instance_id: &instance.id, locations: &locations };
        Ok(share_job(action, backup, &side, context, settings).map_err(Refusal::Impossible))
    }

    async fn submit_backup(
        &self,
        known: &Known<'_>,
        spec: JobSpec,
        task: &BackupTask,
        unique_id: Option<String>,
    ) -> Result<Value, HandlerError> {
        let request = serde_json::to_value(task).expect("texts and maps of texts are JSON");
        let origin = Origin {
            requester: MANILA.into(),
            request_id: task.context.request_id().map(str::to_owned),
            on_behalf: Some(OnBehalf { of: MANILA.into(), request }),
        };
        let fingerprint = known.request.fingerprint();
        let key = unique_id.map(|key| IdempotencyKey { requester: MANILA.into(), key, fingerprint });
        let (method, backup_id, share_id) = (task.action.method(), &task.backup_id, &task.share_id);
        match self.jobs.submit(spec, origin, key).await {
            Ok(submitted) => {
                let job_id = submitted.view.job.id;
                info!(backup_id, share_id, %job_id, is_known = submitted.is_known, "{method} was taken");
                self.show_owner(task).await;
                Ok(Value::Null)
            }
            Err(DoorError::BadSpec(problems)) => {
                self.refuse_backup(known, Refusal::Impossible(problems.join("; "))).await
            }
            Err(DoorError::KeyReused) => {
                error!(backup_id, share_id, "the identifier of the message belongs to another request; refused");
                Err(failures::backup_failed("the identifier of the message belongs to another request").into())
            }
            Err(error) => Err(not_now(&error)),
        }
    }

    /// Whose backup it is, as soon as it is. Where this cannot be written now, the job does so when it begins.
    async fn show_owner(&self, task: &BackupTask) {
        if task.action == BackupAction::Create {
            let host = Some(self.peers.settings.host.as_str());
            let written = self.peers.database.begin_backup(&task.backup_id, task.action.status(), host).await;
            if let Err(error) = written {
                warn!(backup_id = task.backup_id, %error, "the host of a backup is written later");
            }
        }
    }

    async fn refuse_backup(&self, known: &Known<'_>, refusal: Refusal) -> Result<Value, HandlerError> {
        let (method, backup_id) = (known.request.action.method(), &known.backup.id);
        let share_id = known.request.share_id.as_deref().unwrap_or(&known.backup.share_id);
        let reason = match refusal {
            Refusal::Stale(reason) => {
                warn!(backup_id, share_id, reason, "{method} was refused, nothing was changed");
                return Err(failures::backup_failed(&reason).into());
            }
            Refusal::Impossible(reason) => reason,
        };
        error!(backup_id, share_id, reason, "{method} cannot be carried out");
        let work = known.request.action.work().map(|(work, _)| work);
        let ended = self.peers.end_backup_as_failed(backup_id, share_id, work, &reason).await;
        ended.map_err(|error| away(&error))?;
        Err(failures::backup_failed(&reason).into())
    }
}

impl crate::migration::Peers {
    /// What everybody sees of work on a backup that failed. `None`: a deletion.
    pub(super) async fn end_backup_as_failed(
        &self,
        backup_id: &str,
        share_id: &str,
        work: Option<BackupWork>,
        reason: &str,
    ) -> Result<BackupChange, DatabaseError> {
        let Some(work) = work else { return self.database.fail_deletion(backup_id, reason).await };
        let end = BackupEnd {
            backup_id: backup_id.into(),
            share_id: share_id.into(),
            work,
            fail_reason: Some(reason.into()),
            is_lost: false,
            keeps_share: false,
        };
        self.database.end_backup(&end).await
    }
}
