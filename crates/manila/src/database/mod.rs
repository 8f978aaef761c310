//! What the service reads and writes in Manila's database: facts of shares, a mirror of how far jobs are, access rules,
//! and the row that shows the service alive. It never makes or changes a table there.

mod access;
mod backups;
mod connection;
mod messages;
mod operation;
mod quota;
mod schema;
mod services;
mod settings;
mod shares;
mod sql_database;
mod trouble;
mod url;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use settings::{DATABASE_OPTIONS, DatabaseSettings, DatabaseSettingsError};
pub use sql_database::SqlDatabase;
pub use url::{DatabaseUrl, DatabaseUrlError};

/// Manila's database. Each method is one short transaction, tried again by itself after a deadlock; what cannot be
/// reached is [`DatabaseError::Unavailable`], and the caller decides how long it waits.
#[async_trait]
pub trait Database: Send + Sync + fmt::Debug {
    // ---- the row in `services`

    /// Finds the row of this host and binary (then it is shown `down` until the first heartbeat, where the schema has
    /// states) or makes it (`up`), with its availability zone.
    async fn register(&self, service: &ServiceIdentity) -> Result<ServiceId, DatabaseError>;

    /// One heartbeat: counts, and says up or down as the age of the last one demands. Makes the row anew where
    /// somebody removed it; the answer is the row that is in use from now on.
    async fn beat(
        &self,
        id: ServiceId,
        service: &ServiceIdentity,
        down_time: Duration,
    ) -> Result<ServiceId, DatabaseError>;

    /// `stopped`, where the schema has states. [`DatabaseError::NotFound`]: somebody removed the row.
    async fn set_stopped(&self, id: ServiceId) -> Result<(), DatabaseError>;

    /// Removes rows of our topic that say `stopped` and are older than `down_time`. Answers how many.
    async fn remove_stopped(&self, topic: &str, down_time: Duration) -> Result<u64, DatabaseError>;

    /// All rows of a topic, our own too.
    async fn services(&self, topic: &str) -> Result<Vec<ServiceRow>, DatabaseError>;

    // ---- shares and their instances

    /// Only those that are not deleted, here and below.
    async fn share(&self, id: &str) -> Result<Option<Share>, DatabaseError>;

    async fn instance(&self, id: &str) -> Result<Option<ShareInstance>, DatabaseError>;

    async fn instances(&self, share_id: &str) -> Result<Vec<ShareInstance>, DatabaseError>;

    /// Writes `to` if the share's `task_state` is one of `from` (`None` stands for NULL). Where it is `to` already
    /// (among `from` or not), nothing changes, not even `updated_at`: [`TaskStateChange::Same`]. That is also the
    /// answer when the connection was lost after the change, and the change was asked for once more.
    async fn set_task_state(
        &self,
        share_id: &str,
        to: Option<&str>,
        from: &[Option<&str>],
    ) -> Result<TaskStateChange, DatabaseError>;

    /// Shares that are not soft-deleted and whose `task_state` is one of these.
    async fn shares_in(&self, task_states: &[&str]) -> Result<Vec<Share>, DatabaseError>;

    // ---- access rules

    /// Rules that are not deleted, of this type and address, with their mappings that are not deleted.
    async fn rules_for(
        &self,
        share_id: &str,
        access_type: &str,
        access_to: &str,
    ) -> Result<Vec<AccessRule>, DatabaseError>;

    /// In one transaction: the rule (level `rw`) and its mapping to the instance (`queued_to_apply`), each only if it
    /// is not there, and then the instance's rules are `syncing`. `false`: the mapping was there (deleted or not), and
    /// nothing was changed. [`DatabaseError::NotFound`]: the instance is deleted, or the rule is there and deleted.
    async fn allow(&self, rule: &NewRule) -> Result<bool, DatabaseError>;

    /// In one transaction: those of the mappings that are there and not on their way out are `queued_to_deny`, and if
    /// there were any, the instance's rules are `syncing`. Answers how many there were; none, where the instance is
    /// deleted. A mapping that is still being applied is among them: the share manager decides what to do first.
    async fn deny(&self, instance_id: &str, mapping_ids: &[&str]) -> Result<u64, DatabaseError>;

    /// The states of the mappings that are not deleted.
    async fn mappings(&self, mapping_ids: &[&str]) -> Result<Vec<Mapping>, DatabaseError>;

    // ---- backups; before Manila 17 there are none, and each of these says [`DatabaseError::NoBackups`]

    async fn backup(&self, id: &str) -> Result<Option<Backup>, DatabaseError>;

    /// By their status, whoever has made them.
    async fn backups_in(&self, statuses: &[&str]) -> Result<Vec<Backup>, DatabaseError>;

    /// Shares that are being restored from it (`source_backup_id`), those that wait for it too.
    async fn shares_restored_from(&self, backup_id: &str) -> Result<Vec<String>, DatabaseError>;

    /// By their identifiers, the oldest first.
    async fn export_locations(&self, instance_id: &str) -> Result<Vec<ExportLocation>, DatabaseError>;

    /// Writes that work on the backup begins: its `host` where there is one to be written, and a `restore_progress` of
    /// `0` over what an earlier restore left. Nothing, where its status is another one than `status`.
    async fn begin_backup(&self, id: &str, status: &str, host: Option<&str>) -> Result<BackupChange, DatabaseError>;

    /// Writes how far it is, in percent, into the column that belongs to its status, `creating` or `restoring`. What
    /// stands there never falls: less is [`BackupChange::Same`].
    async fn set_backup_progress(&self, id: &str, status: &str, percent: u8) -> Result<BackupChange, DatabaseError>;

    /// In one transaction, what everybody sees of the end of a backup or of a restore: the backup's status, the status
    /// of the share's instance, and no `task_state` any more. Each is written only over what the job has made of it; so
    /// what somebody has reset stays, and the same end can be told again.
    async fn end_backup(&self, end: &BackupEnd) -> Result<BackupChange, DatabaseError>;

    /// A backup that could not be deleted: `error_deleting`, and why.
    async fn fail_deletion(&self, id: &str, reason: &str) -> Result<BackupChange, DatabaseError>;

    /// In one transaction: its quota goes back to its owner, and the row is marked as deleted. A backup that is not
    /// there (any more) is [`BackupChange::Same`]; one that is being made or restored is left alone.
    async fn delete_backup(&self, id: &str, quota: &QuotaSettings) -> Result<BackupChange, DatabaseError>;

    // ---- messages to users

    /// Adds a row to `messages`, where the schema has that table; answers whether it has. A row of that identifier that
    /// is there already stays as it is.
    async fn add_message(&self, message: &UserMessage) -> Result<bool, DatabaseError>;

    /// Ends all connections.
    async fn close(&self);
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// Going on makes sense later: unreachable, restarting, overloaded, in deadlock with others again and again.
    #[error("Manila's database does not answer: {0}")]
    Unavailable(String),
    /// It answers, and refuses: rights, schema, or a row that others depend on.
    #[error("Manila's database refuses: {0}")]
    Failed(String),
    /// The row to be changed is not there (any more).
    #[error("{what} {id} could not be found")]
    NotFound { what: &'static str, id: String },
    /// Its tables are those of Manila 15 or 16.
    #[error("this release of Manila has no share backups")]
    NoBackups,
}

/// Who this service is, in `services`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIdentity {
    /// `[DEFAULT] host`
    pub host: String,
    /// `manila-data`
    pub binary: String,
    /// `manila-data`
    pub topic: String,
    /// `[DEFAULT] storage_availability_zone`; made if there is none of that name.
    pub availability_zone: String,
    /// A row that is made new is not `disabled`.
    pub is_enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServiceId(pub i64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    pub id: ServiceId,
    pub host: String,
    pub is_disabled: bool,
    /// `None` before Manila 16, or where nobody wrote it.
    pub state: Option<String>,
    /// Since the last heartbeat, by this machine's clock; positive also where the clock of the other one is ahead.
    pub age: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub id: String,
    pub project_id: Option<String>,
    pub user_id: Option<String>,
    /// As it stands there, in upper case.
    pub share_proto: Option<String>,
    pub size_gib: Option<i64>,
    pub task_state: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareInstance {
    pub id: String,
    pub share_id: String,
    /// `host@backend#pool`
    pub host: Option<String>,
    pub status: Option<String>,
    /// `active`, `syncing` or `error`
    pub access_rules_status: Option<String>,
    pub cast_rules_to_readonly: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskStateChange {
    Changed,
    /// It was so already.
    Same,
    /// It is something else, and was left alone.
    Other(Option<String>),
}

/// A rule of the share with what becomes of it on each instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRule {
    pub id: String,
    pub access_level: Option<String>,
    pub mappings: Vec<Mapping>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub id: String,
    pub instance_id: String,
    /// `queued_to_apply`, `applying`, `active`, `error`, `queued_to_deny`, `denying`, `queued_to_update`, `updating`
    pub state: Option<String>,
}

/// A rule to be made on one instance. The identifiers are chosen, and stored in the job, before anything is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    pub rule_id: String,
    pub mapping_id: String,
    pub share_id: String,
    pub instance_id: String,
    pub access_type: String,
    pub access_to: String,
}

/// A row of `share_backups`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    pub id: String,
    pub share_id: String,
    /// Whom it belongs to.
    pub project_id: Option<String>,
    pub user_id: Option<String>,
    pub size_gib: Option<i64>,
    /// The data service that made it.
    pub host: Option<String>,
    /// Of the service that is asked to do something with it.
    pub topic: Option<String>,
    pub status: Option<String>,
    /// Percent, as text.
    pub progress: Option<String>,
    pub restore_progress: Option<String>,
}

/// A way to reach a share instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLocation {
    pub path: String,
    pub is_admin_only: bool,
    /// The back end says that it is a good one.
    pub is_preferred: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupChange {
    Changed,
    /// There was nothing to be written.
    Same,
    /// Its status is this one, and what was to be written does not fit it; `None`: NULL.
    Other(Option<String>),
    /// It is not there.
    Gone,
}

/// The end of a backup or of a restore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupEnd {
    pub backup_id: String,
    /// That was backed up, or restored.
    pub share_id: String,
    pub work: BackupWork,
    /// Why it failed. `None`: it succeeded.
    pub fail_reason: Option<String>,
    /// Nobody knows of the work any more: progress is shown as if it had never begun.
    pub is_lost: bool,
    /// Only the backup's row ends; the share stays busy until it is written again without this.
    pub keeps_share: bool,
}

/// What keeps a share and its backup busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupWork {
    Create,
    Restore,
}

/// `[quota]`, as far as deleting a backup needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// Nothing is counted with another driver than the database's.
    pub is_counted: bool,
    pub reservation_expire: Duration,
}

/// A row of `messages`, which `manila message-list` shows to the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMessage {
    /// Chosen by whoever tells, so that the same is told once however often it is tried.
    pub id: String,
    pub project_id: String,
    pub request_id: Option<String>,
    /// `SHARE`
    pub resource_type: String,
    pub resource_id: String,
    /// A number of three digits; what it means is in Manila.
    pub action_id: String,
    pub detail_id: String,
    /// `ERROR`
    pub level: String,
    /// How long it is kept (`[DEFAULT] message_ttl`).
    pub keep: Duration,
}
