//! What jobs need of the world: ports, each with an adapter in another room and a fake in the tests.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::documents::{Progress, Summary};
use crate::id::{EventSeq, Generation, JobId, NodeName, Version};
use crate::model::{Failure, Hold, Job, PassKind, Side, StateName, StopReason, WorkResult};
use crate::spec::{JobSpec, Kind, RateLimits};

/// Keeps jobs. Every change of a job is a compare and set on its [`Version`]; a change that was answered is durable.
#[async_trait]
pub trait JobStore: Send + Sync + fmt::Debug {
    /// Keeps a new job, unless one with the same idempotency key of the same requester is there.
    async fn create(&self, job: &Job, key: Option<&IdempotencyKey>) -> Result<Created, StoreError>;

    /// Replaces the job whose version is `job.version` and adds `events`, both or neither. The new version is
    /// returned; [`StoreError::Conflict`] means that somebody else changed the job since it was read.
    /// Secrets of a job that has ended are wiped, but for the key that its answer is signed with: that one goes with
    /// the delivery.
    async fn save(&self, job: &Job, events: &[JobEvent]) -> Result<Version, StoreError>;

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError>;

    /// Jobs by their making, the newest first.
    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<Job>, StoreError>;

    /// All that have not ended, the oldest first.
    async fn unfinished(&self) -> Result<Vec<Job>, StoreError>;

    async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError>;

    /// Makes `node` the owner for the time of `lease` and raises the generation, if nobody else owns the job (or a
    /// lease has run out by the store's clock) and its version is still the given one. `None`: not to be had.
    async fn claim(
        &self,
        id: JobId,
        version: Version,
        node: &NodeName,
        lease: Duration,
    ) -> Result<Option<Job>, StoreError>;

    /// Prolongs the leases of `node`; answers which of them it does not have any more.
    async fn renew(
        &self,
        node: &NodeName,
        held: &[(JobId, Generation)],
        lease: Duration,
    ) -> Result<Vec<JobId>, StoreError>;

    /// Gives the ownership back; the job can be claimed at once.
    async fn disown(&self, id: JobId, generation: Generation) -> Result<(), StoreError>;

    /// Remembers how far work is, for whoever asks any node. Void unless `generation` is the current one.
    async fn set_progress(&self, id: JobId, generation: Generation, progress: &Progress) -> Result<(), StoreError>;

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError>;

    /// Events after `after`, in their order, of one job or of all.
    async fn events(&self, after: EventSeq, job: Option<JobId>, count_max: u32)
    -> Result<Vec<StoredEvent>, StoreError>;

    /// The last event there is.
    async fn last_event(&self) -> Result<EventSeq, StoreError>;

    /// Ended jobs that still have to be told to somebody, where the next try is due.
    async fn undelivered(&self, now: Timestamp, count_max: u32) -> Result<Vec<(Job, Delivery)>, StoreError>;

    /// Also before the job has ended, for a delivery that is due when it has: whoever ends it writes this down first.
    async fn set_delivery(&self, id: JobId, delivery: &Delivery) -> Result<(), StoreError>;

    /// Removes an ended job and its events. Nothing to remove is fine.
    async fn remove(&self, id: JobId) -> Result<(), StoreError>;

    /// Removes events that are older, except those of jobs that have not ended.
    async fn forget_events(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Names a request, so that it makes one job however often it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub requester: String,
    pub key: String,
    /// Of the request's body: the same key with another body is a mistake.
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    New(Version),
    /// The same request made this job earlier.
    Known(Box<Job>),
    /// The key was used for another request.
    KeyReused,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    #[error("somebody else changed the job meanwhile")]
    Conflict,
    #[error("there is no such job")]
    NotFound,
    /// Going on makes sense later: locked, unreachable, restarted.
    #[error("the job store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the job store failed: {what}")]
    Failed { what: String, source: Option<Box<dyn std::error::Error + Send + Sync>> },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Any of them; all where none is given.
    pub states: Vec<StateName>,
    pub kinds: Vec<Kind>,
    pub name: Option<String>,
    pub requester: Option<String>,
    pub created_after: Option<Timestamp>,
    pub created_before: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Begins after this job.
    pub after: Option<JobId>,
    pub size: u32,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobEvent {
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
    pub kind: EventKind,
    /// One line for people.
    pub message: String,
    /// The state after it.
    pub state: StateName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum EventKind {
    Created,
    StateChanged,
    StopAsked,
    Resumed,
    PassEnded,
    CutoverAsked,
    LimitsChanged,
    WorkerLost,
    Recovered,
    Warning,
    Ended,
}

impl EventKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::StateChanged => "state_changed",
            Self::StopAsked => "stop_asked",
            Self::Resumed => "resumed",
            Self::PassEnded => "pass_ended",
            Self::CutoverAsked => "cutover_asked",
            Self::LimitsChanged => "limits_changed",
            Self::WorkerLost => "worker_lost",
            Self::Recovered => "recovered",
            Self::Warning => "warning",
            Self::Ended => "ended",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    pub seq: EventSeq,
    pub job: JobId,
    pub event: JobEvent,
}

/// How far the answer to a job's end is on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub tries: u32,
    /// `None`: delivered, or given up.
    pub next_try_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// Carries out the data plane of one pass, in this process or in a worker.
#[async_trait]
pub trait Executor: Send + Sync + fmt::Debug {
    /// Mounts, works, unmounts. Returns only when nothing of it goes on any more, also when `control` says stop and the
    /// storage hangs: after a time of grace the worker is ended by force. Dropped, which happens only when the service
    /// may not wait any longer, the worker is ended by force at once.
    async fn run(
        &self,
        order: WorkOrder,
        control: watch::Receiver<Control>,
        events: mpsc::Sender<WorkEvent>,
    ) -> Result<WorkResult, WorkError>;

    /// Ends what an earlier life left behind in a workspace, worker, mounts and directories. Nothing there is fine.
    async fn release(&self, workspace: &Path) -> Result<(), WorkError>;
}

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct WorkOrder {
    pub job: JobId,
    pub generation: Generation,
    pub pass: u32,
    pub pass_kind: PassKind,
    /// With its secrets.
    pub spec: Arc<JobSpec>,
    /// The hold of the same name.
    pub workspace: PathBuf,
    /// Outlives the pass: what the engine remembers, for resuming.
    pub state_dir: PathBuf,
    /// Where the report of this pass goes.
    pub report_dir: PathBuf,
    /// Report whose failed entries alone take part.
    pub retry_report_dir: Option<PathBuf>,
}

/// What a worker is told while it works. The last word holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub stop: Option<StopReason>,
    pub bandwidth_bytes_per_second: Option<u64>,
    pub operations_per_second: Option<u64>,
}

/// What a worker tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WorkEvent {
    /// Both trees stand; the first byte follows.
    Mounted,
    Progress(Box<Progress>),
    Warning(String),
    /// What the pass did, before its [`WorkResult`].
    Summary(Box<Summary>),
}

#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// The work cannot be done; trying again as it is makes no sense.
    #[error("{0}")]
    Failed(Failure),
    /// The worker is gone without an answer; what it did is not lost.
    #[error("the worker was lost: {0}")]
    Lost(String),
}

/// Lets this service in to shares, and takes that back.
#[async_trait]
pub trait ShareAccess: Send + Sync + fmt::Debug {
    /// The holds that a job needs, before any is taken. They are stored as they are, so whatever is to be made can be
    /// given its name here.
    fn needed(&self, job: &Job, pass: PassKind) -> Vec<Hold>;

    /// Takes one of them; answers it as it is to be remembered.
    async fn take(&self, job: &Job, hold: &Hold) -> Result<Hold, AccessError>;

    /// Gives one back. One that was never taken, or is gone, is fine.
    async fn give_back(&self, job: &Job, hold: &Hold) -> Result<(), AccessError>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct AccessError {
    pub side: Option<Side>,
    pub message: String,
}

/// Shows how far a job is to whoever owns what it works on.
#[async_trait]
pub trait Follower: Send + Sync + fmt::Debug {
    /// The job is in this state, durably, and what belongs to the state has not begun. Called again until it succeeds,
    /// and again after a restart. The end of a job is not told here but by the [`Notifier`].
    async fn follow(&self, job: &Job) -> Result<(), FollowError>;
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum FollowError {
    /// Cannot be reached now.
    #[error("{0}")]
    Away(String),
    /// The job is not wanted any more: the owner's own records say so.
    #[error("{0}")]
    Refused(String),
}

/// For jobs that nobody follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NobodyFollows;

#[async_trait]
impl Follower for NobodyFollows {
    async fn follow(&self, _: &Job) -> Result<(), FollowError> {
        Ok(())
    }
}

/// Tells somebody outside that a job has ended.
#[async_trait]
pub trait Notifier: Send + Sync + fmt::Debug {
    /// Whether anybody wants to be told of this job.
    fn wants(&self, job: &Job) -> bool;

    async fn tell(&self, job: &Job) -> Result<(), NotifyError>;
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct NotifyError {
    pub message: String,
    /// Trying again makes no sense.
    pub is_final: bool,
    /// Whoever is to be told has to be told: tried again after this time, however often that was.
    pub retry_after: Option<Duration>,
}

/// Time for what is stored.
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// What is to be done with [`RateLimits`] at some moment.
impl From<&RateLimits> for Control {
    fn from(limits: &RateLimits) -> Self {
        Self {
            stop: None,
            bandwidth_bytes_per_second: limits.bandwidth_bytes_per_second,
            operations_per_second: limits.operations_per_second,
        }
    }
}
