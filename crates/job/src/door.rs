//! What front doors (REST, command line, messages) can ask of the service.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::documents::{MoverCounts, Progress};
use crate::id::{EventSeq, JobId};
use crate::model::{Job, Origin, StateName};
use crate::ports::{IdempotencyKey, JobFilter, Page, StoreError, StoredEvent};
use crate::schedule::{ScheduleCounts, ScheduleView};
use crate::spec::{JobSpec, RateLimits};

/// The service as a front door sees it. Every answer of a change is durable.
#[async_trait]
pub trait DataService: Send + Sync + fmt::Debug {
    /// Takes a job. It is durable when this returns.
    async fn submit(&self, spec: JobSpec, origin: Origin, key: Option<IdempotencyKey>) -> Result<Submitted, DoorError>;

    async fn get(&self, id: JobId) -> Result<JobView, DoorError>;

    /// The newest first.
    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<JobView>, DoorError>;

    /// Accepted in every state; of a job that has ended it changes nothing.
    async fn cancel(&self, id: JobId) -> Result<JobView, DoorError>;

    /// Gives back what the job holds and lets it wait.
    async fn pause(&self, id: JobId) -> Result<JobView, DoorError>;

    async fn resume(&self, id: JobId) -> Result<JobView, DoorError>;

    /// Makes the next pass of a migration the last one, and begins it.
    async fn cutover(&self, id: JobId) -> Result<JobView, DoorError>;

    /// Takes effect at once, also on a job that runs.
    async fn set_limits(&self, id: JobId, limits: RateLimits) -> Result<JobView, DoorError>;

    /// A new job for the entries alone that failed in this ended one.
    async fn retry_failed(&self, id: JobId, origin: Origin) -> Result<Submitted, DoorError>;

    /// Removes an ended job with its report.
    async fn remove(&self, id: JobId) -> Result<(), DoorError>;

    /// The job once it has ended, or as it is after `time`.
    async fn wait(&self, id: JobId, time: Duration) -> Result<JobView, DoorError>;

    /// What happens from now on. A receiver that lags is told so; it then reads [`Self::events_after`].
    fn subscribe(&self) -> broadcast::Receiver<LiveEvent>;

    async fn events_after(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, DoorError>;

    async fn last_event(&self) -> Result<EventSeq, DoorError>;

    /// Directories of the passes whose reports are kept, by the pass's number.
    async fn reports(&self, id: JobId) -> Result<BTreeMap<u32, PathBuf>, DoorError>;

    /// By their names.
    async fn schedules(&self) -> Result<Vec<ScheduleView>, DoorError>;

    async fn figures(&self) -> Result<Figures, DoorError>;

    /// What keeps the service from doing its work; nothing: it is ready.
    async fn troubles(&self) -> Vec<String>;
}

#[derive(Clone, Debug)]
pub struct Submitted {
    pub view: JobView,
    /// The same request made this job earlier.
    pub is_known: bool,
}

/// A job, and what is known of it beside its own record.
#[derive(Clone, Debug, PartialEq)]
pub struct JobView {
    pub job: Job,
    /// Of the pass that runs, or ran last.
    pub progress: Option<Progress>,
    /// From 1, while it waits for a slot.
    pub queue_position: Option<u32>,
    /// What it waits for, where that is no slot.
    pub waits_for: Option<WaitsFor>,
    pub prediction: Option<CutoverPrediction>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum WaitsFor {
    /// `not_before`.
    Time,
    Resume,
    Cutover,
    /// Another job works on the same destination.
    Destination,
}

/// How long the source would have to stand still if the cutover were asked for now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CutoverPrediction {
    pub seconds: f64,
    /// Part of it for looking through both trees.
    pub scan_seconds: f64,
    /// Part of it for copying what changed since the last pass began.
    pub copy_seconds: f64,
    pub verify_seconds: f64,
    /// Observed changes: entries a second.
    pub changed_entries_per_second: f64,
}

#[derive(Clone, Debug)]
pub enum LiveEvent {
    Stored(StoredEvent),
    Progress { job: JobId, progress: Box<Progress> },
}

/// Counts since the start of the process, and the state of the queue.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub jobs_by_state: Vec<(StateName, u64)>,
    pub queued_jobs: u64,
    pub running_jobs: u64,
    pub jobs_max: u64,
    pub copied_bytes: u64,
    pub done_entries: u64,
    pub faults: u64,
    pub losses: u64,
    pub differences: u64,
    pub verified_bytes: u64,
    pub workers_started: u64,
    pub workers_lost: u64,
    pub movers: BTreeMap<String, MoverCounts>,
    pub notify_failures: u64,
    /// By their names.
    pub schedules: BTreeMap<String, ScheduleCounts>,
    /// Sums over the jobs that run.
    pub bytes_per_second: f64,
    pub entries_per_second: f64,
}

/// Why the service does not do what a door asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    #[error("there is no job {0}")]
    NoSuchJob(JobId),
    /// One message for each thing that is wrong.
    #[error("the job cannot be carried out as asked: {}", .0.join("; "))]
    BadSpec(Vec<String>),
    #[error("this idempotency key was used for another request")]
    KeyReused,
    /// The job is in a state in which this cannot be.
    #[error("{0}")]
    NotNow(String),
    #[error("the queue is full: {0} jobs wait")]
    QueueFull(u64),
    #[error("the service is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Store(#[from] StoreError),
}
