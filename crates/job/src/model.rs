//! What a job is. It changes in [`crate::machine::apply`] alone.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Generation, JobId, NodeName, Version};
use crate::spec::{JobSpec, Kind, RateLimits};

/// One request, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub spec: Arc<JobSpec>,
    pub origin: Origin,
    pub state: State,
    pub intent: Intent,
    /// What must be given back before the job may end. Written before it is taken.
    pub holds: Vec<Hold>,
    /// Bounds in force: the specification's until somebody changes them.
    pub limits: RateLimits,
    pub cutover: CutoverState,
    /// Passes that ended, the oldest first. The first and the last [`PASSES_KEPT`] of them.
    pub passes: Vec<Pass>,
    /// Of all passes, also those that are not kept.
    pub passes_done: u32,
    /// Workers that were lost in a row.
    pub workers_lost: u32,
    /// Does not begin before this moment: a later pass, a pause after a lost worker, or as the specification says.
    pub not_before: Option<Timestamp>,
    /// Why the holds cannot be given back so far.
    pub release_trouble: Option<String>,
    pub created_at: Timestamp,
    /// When work began for the first time.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// The last change.
    pub updated_at: Timestamp,
    pub version: Version,
    pub generation: Generation,
    pub owner: Option<NodeName>,
}

/// Passes of a migration that are remembered one by one; a year of quarter hours would be 35,000.
pub const PASSES_KEPT: usize = 32;

/// Where a job came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the token, user or program that asked.
    pub requester: String,
    /// The request that made it, for finding it in logs.
    pub request_id: Option<String>,
    /// Set by a door that takes requests for somebody who is to be kept informed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<OnBehalf>,
}

/// For whom a door took a job. It travels with the job to those ports that speak the same words; nobody else reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    /// Whose words these are.
    pub of: String,
    /// What has to be remembered of the request. No secrets: it is kept as long as the job.
    pub request: serde_json::Value,
}

/// Where a job is. `Accepted → Granting → Mounting → Working → Releasing → Ended`, and from `Releasing` back to
/// `Accepted` where the job is not over: paused, shut down, between two passes, or after a lost worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Durable, and waits: for a slot, a time, a cutover, or the end of a pause.
    Accepted,
    /// Access rules are being made, the hook makes the source read-only.
    Granting,
    /// The worker was started; its mounts do not stand yet.
    Mounting,
    Working,
    /// Everything is being given back; what comes then is decided.
    Releasing {
        next: Next,
    },
    Ended {
        outcome: Outcome,
    },
}

impl State {
    pub fn name(&self) -> StateName {
        match self {
            Self::Accepted => StateName::Accepted,
            Self::Granting => StateName::Granting,
            Self::Mounting => StateName::Mounting,
            Self::Working => StateName::Working,
            Self::Releasing { .. } => StateName::Releasing,
            Self::Ended { outcome: Outcome::Completed } => StateName::Completed,
            Self::Ended { outcome: Outcome::Cancelled } => StateName::Cancelled,
            Self::Ended { outcome: Outcome::Failed { .. } } => StateName::Failed,
        }
    }

    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended { .. })
    }
}

/// A state in one word, for lists, filters and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum StateName {
    Accepted,
    Granting,
    Mounting,
    Working,
    Releasing,
    Completed,
    Cancelled,
    Failed,
}

impl StateName {
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Granting,
        Self::Mounting,
        Self::Working,
        Self::Releasing,
        Self::Completed,
        Self::Cancelled,
        Self::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Granting => "granting",
            Self::Mounting => "mounting",
            Self::Working => "working",
            Self::Releasing => "releasing",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    pub fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Cancelled | Self::Failed)
    }
}

/// What follows when nothing is held any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    End(Outcome),
    /// Back to the queue.
    Wait,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    Cancelled,
    Failed { failure: Failure },
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failure {
    pub step: Step,
    pub code: FailureCode,
    /// One line for people, without secrets.
    pub message: String,
}

impl Failure {
    pub fn new(step: Step, code: FailureCode, message: impl Into<String>) -> Self {
        Self { step, code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.as_str(), self.message)
    }
}

/// A step of the way of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Step {
    Access,
    Mount,
    Sandbox,
    Copy,
    Verify,
    Report,
    Release,
    Deadline,
}

impl Step {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Mount => "mount",
            Self::Sandbox => "sandbox",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Report => "report",
            Self::Release => "release",
            Self::Deadline => "deadline",
        }
    }
}

/// What kind of failure, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum FailureCode {
    /// The specification cannot be carried out as it is.
    BadSpec,
    AccessDenied,
    MountFailed,
    /// A mount stands, but not with the protections it must have.
    MountUnsafe,
    /// The kernel lacks what `sandbox = required` asks for.
    SandboxMissing,
    /// The hook that makes the source read-only failed.
    HookFailed,
    /// Whoever owns what the job works on does not want it any more.
    NotWanted,
    /// The engine could not begin or go on.
    EngineFailed,
    /// Went to its end, with more faults than are accepted.
    FaultsFound,
    /// Went to its end; both trees differ.
    DifferencesFound,
    /// The worker process died, again and again.
    WorkerLost,
    DeadlinePassed,
    ReportFailed,
    /// A defect of this program.
    Internal,
}

/// What somebody wants of a job. Stored before it is acted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Intent {
    Run,
    Stop(StopReason),
}

/// Why a job is to stop. Ordered: a stronger reason replaces a weaker one, never the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum StopReason {
    /// The service ends; it or another one goes on with the job.
    Shutdown,
    /// Another node owns the job now.
    LostLease,
    /// Somebody wants it to wait.
    Pause,
    Deadline,
    Cancel,
}

impl StopReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::LostLease => "lost lease",
            Self::Pause => "pause",
            Self::Deadline => "deadline",
            Self::Cancel => "cancel",
        }
    }
}

/// Something that outlives the process that took it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// The job's directory with its mount points, and whatever a worker keeps running for them.
    Workspace { path: PathBuf },
    /// An access rule. `grant` is the words of who made it; empty until it is known.
    Access { side: Side, grant: String },
    /// The source was made read-only by a hook. Kept when the job completes, undone otherwise.
    ReadOnly { hook: String },
}

impl Hold {
    /// Both are the same thing, whatever is known of it: a job has one of each.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Workspace { .. }, Self::Workspace { .. }) | (Self::ReadOnly { .. }, Self::ReadOnly { .. }) => true,
            (Self::Access { side, .. }, Self::Access { side: other, .. }) => side == other,
            _ => false,
        }
    }

    /// In words, for messages.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Workspace { .. } => "the workspace",
            Self::Access { side: Side::Source, .. } => "access to the source",
            Self::Access { side: Side::Dest, .. } => "access to the destination",
            Self::ReadOnly { .. } => "the read-only source",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    Source,
    Dest,
}

/// How far the cutover of a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum CutoverState {
    #[default]
    NotAsked,
    /// The next pass is the last one.
    Asked,
}

/// Which pass over the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum PassKind {
    /// The only one of a copy or a comparison.
    Single,
    /// The first of a migration.
    Baseline,
    /// The source is in use meanwhile.
    Incremental,
    /// The source stands still; verification follows.
    Final,
}

impl PassKind {
    /// The job is over after it.
    pub fn is_last(self) -> bool {
        matches!(self, Self::Single | Self::Final)
    }
}

/// A pass that went to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Pass {
    /// From 1.
    pub number: u32,
    pub kind: PassKind,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub ended_at: Timestamp,
    pub figures: PassFigures,
}

/// What a pass found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PassFigures {
    pub elapsed_seconds: f64,
    /// Part of it that verification took.
    pub verify_seconds: f64,
    pub scanned_entries: u64,
    pub scanned_bytes: u64,
    /// Created, replaced, updated or deleted.
    pub changed_entries: u64,
    pub copied_bytes: u64,
    pub faults: u64,
    pub losses: u64,
    /// That no named loss explains.
    pub differences: u64,
}

/// How work of a pass ended, as the worker tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkResult {
    pub ending: WorkEnding,
    pub figures: PassFigures,
    /// Hash over everything the manifest of the pass names.
    pub manifest_root: Option<String>,
    /// One line for people: what failed first, and why. The report has the rest.
    #[serde(default)]
    pub first_fault: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkEnding {
    Complete,
    /// Went to the end with faults, losses that must not be, or differences.
    WithFaults,
    /// By order; a further run goes on from here.
    Stopped,
    /// At the first fault, as the options want it.
    StoppedByFault,
}

impl Job {
    /// A job as it is when its request was taken.
    pub fn new(id: JobId, spec: JobSpec, origin: Origin, now: Timestamp) -> Self {
        Self {
            id,
            limits: spec.limits.clone(),
            not_before: spec.schedule.start_after,
            spec: Arc::new(spec),
            origin,
            state: State::Accepted,
            intent: Intent::Run,
            holds: Vec::new(),
            cutover: CutoverState::NotAsked,
            passes: Vec::new(),
            passes_done: 0,
            workers_lost: 0,
            release_trouble: None,
            created_at: now,
            started_at: None,
            ended_at: None,
            updated_at: now,
            version: Version::default(),
            generation: Generation::default(),
            owner: None,
        }
    }

    /// The pass that runs, or would run next.
    pub fn pass_kind(&self) -> PassKind {
        match (self.spec.kind, self.cutover) {
            (Kind::Migrate, CutoverState::Asked) => PassKind::Final,
            (Kind::Migrate, CutoverState::NotAsked) if self.passes_done == 0 => PassKind::Baseline,
            (Kind::Migrate, CutoverState::NotAsked) => PassKind::Incremental,
            (_, _) => PassKind::Single,
        }
    }

    /// No pass begins before somebody asks for the last one.
    pub fn awaits_cutover(&self) -> bool {
        let plan = &self.spec.migrate;
        self.spec.kind == Kind::Migrate
            && self.cutover == CutoverState::NotAsked
            && plan.passes_max.is_some_and(|max| self.passes_done >= max)
    }

    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.intent {
            Intent::Run => None,
            Intent::Stop(reason) => Some(reason),
        }
    }

    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.state {
            State::Ended { outcome } => Some(outcome),
            _ => None,
        }
    }

    /// From the first work to the end, or to `now`.
    pub fn age(&self, now: Timestamp) -> Duration {
        let Some(started) = self.started_at else { return Duration::ZERO };
        let end = self.ended_at.unwrap_or(now);
        Duration::try_from(end.duration_since(started)).unwrap_or(Duration::ZERO)
    }
}
