//! What answers say: types of their own, so that a change of the service's inner types changes no client.

mod schedules;

use jiff::Timestamp;
use job::documents::{Progress, Summary};
use job::spec::{Endpoint, JobSpec, Kind, RateLimits};
use job::{
    CutoverPrediction, CutoverState, EventKind, Failure, Job, JobId, JobView, Outcome, Pass, PassKind, StateName,
    StopReason, StoredEvent, WaitsFor,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use schedules::{ScheduleBody, ScheduleListBody};

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Job)]
pub struct JobBody {
    pub id: JobId,
    pub kind: Kind,
    pub name: Option<String>,
    pub state: StateName,
    /// Once it has ended.
    pub outcome: Option<OutcomeName>,
    pub failure: Option<Failure>,
    /// Why it stops, or is not to go on.
    pub stop: Option<StopReason>,
    /// The same as `schedule.priority` of the specification.
    pub priority: i32,
    /// As it was asked for; secrets are masked.
    pub spec: JobSpec,
    /// Bounds in force.
    pub limits: RateLimits,
    /// Of the pass that runs, or ran last.
    pub progress: Option<Progress>,
    /// From 1, while it waits for a slot.
    pub queue_position: Option<u32>,
    pub waits_for: Option<WaitsFor>,
    pub cutover: CutoverState,
    pub prediction: Option<CutoverPrediction>,
    /// The pass that runs, or would run next; of a job that has ended the last one.
    pub pass: PassKind,
    /// Passes that ended; of many the first and the last ones.
    pub passes: Vec<Pass>,
    /// Of all passes.
    pub passes_done: u32,
    /// Workers that were lost in a row.
    pub workers_lost: u32,
    /// Why what it holds cannot be given back so far.
    pub release_trouble: Option<String>,
    /// The service that works on it.
    pub node: Option<String>,
    pub requester: String,
    /// The request that made it, as in the service's log.
    pub request_id: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Outcome)]
pub enum OutcomeName {
    Completed,
    Cancelled,
    Failed,
}

impl From<&Job> for JobBody {
    fn from(job: &Job) -> Self {
        let (outcome, failure) = match job.outcome() {
            None => (None, None),
            Some(Outcome::Completed) => (Some(OutcomeName::Completed), None),
            Some(Outcome::Cancelled) => (Some(OutcomeName::Cancelled), None),
            Some(Outcome::Failed { failure }) => (Some(OutcomeName::Failed), Some(failure.clone())),
        };
        Self {
            id: job.id,
            kind: job.spec.kind,
            name: job.spec.name.clone(),
            state: job.state.name(),
            outcome,
            failure,
            stop: job.stop_reason(),
            priority: job.spec.schedule.priority,
            spec: shown(&job.spec),
            limits: job.limits.clone(),
            progress: None,
            queue_position: None,
            waits_for: None,
            cutover: job.cutover,
            prediction: None,
            pass: job.pass_kind(),
            passes: job.passes.clone(),
            passes_done: job.passes_done,
            workers_lost: job.workers_lost,
            release_trouble: job.release_trouble.clone(),
            node: job.owner.as_ref().map(|node| node.as_str().into()),
            requester: job.origin.requester.clone(),
            request_id: job.origin.request_id.clone(),
            created_at: job.created_at,
            not_before: job.not_before,
            started_at: job.started_at,
            ended_at: job.ended_at,
            updated_at: job.updated_at,
        }
    }
}

impl From<&JobView> for JobBody {
    fn from(view: &JobView) -> Self {
        Self {
            progress: view.progress.clone(),
            queue_position: view.queue_position,
            waits_for: view.waits_for,
            prediction: view.prediction,
            ..Self::from(&view.job)
        }
    }
}

/// The specification without what `Sensitive` does not know to be secret: whoever knows a webhook's URL can often post to
/// it, and sources of mounts may be URLs with a password.
fn shown(spec: &JobSpec) -> JobSpec {
    let mut spec = spec.clone();
    if let Some(webhook) = &mut spec.webhook {
        webhook.url = origin_alone(&webhook.url);
    }
    for endpoint in [&mut spec.source, &mut spec.dest] {
        if let Endpoint::Mount { source, .. } = endpoint {
            *source = without_password(&job::mask(source));
        }
    }
    spec
}

/// `https://host/***`.
fn origin_alone(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return job::MASK.into() };
    let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let path = if path.len() > 1 { format!("/{}", job::MASK) } else { path.into() };
    format!("{scheme}://{host}{path}")
}

/// `user:password@host` becomes `user:***@host`.
fn without_password(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else { return text.into() };
    let start = before.rfind('/').map_or(0, |at| at + 1);
    match before[start..].split_once(':') {
        Some((user, _)) => format!("{}{user}:{}@{after}", &before[..start], job::MASK),
        None => text.into(),
    }
}

/// A page of jobs, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = JobList)]
pub struct JobListBody {
    pub jobs: Vec<JobBody>,
    /// `cursor` of the next page; nothing: this is the last one.
    pub next_cursor: Option<String>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = JobProgress)]
pub struct ProgressBody {
    pub id: JobId,
    pub state: StateName,
    pub queue_position: Option<u32>,
    pub waits_for: Option<WaitsFor>,
    pub progress: Option<Progress>,
    pub prediction: Option<CutoverPrediction>,
}

impl From<&JobView> for ProgressBody {
    fn from(view: &JobView) -> Self {
        Self {
            id: view.job.id,
            state: view.job.state.name(),
            queue_position: view.queue_position,
            waits_for: view.waits_for,
            progress: view.progress.clone(),
            prediction: view.prediction,
        }
    }
}

/// Something that happened to a job: the data of a stored event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub struct EventBody {
    /// Its place among all events; also the `id` of the event stream.
    pub seq: u64,
    pub job: JobId,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub kind: EventKind,
    /// One line for people.
    pub message: String,
    /// The state after it.
    pub state: StateName,
}

impl From<&StoredEvent> for EventBody {
    fn from(stored: &StoredEvent) -> Self {
        Self {
            seq: stored.seq.0,
            job: stored.job,
            at: stored.event.at,
            kind: stored.event.kind,
            message: stored.event.message.clone(),
            state: stored.event.state,
        }
    }
}

/// The data of a `progress` event, which is not stored and has no `id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ProgressEvent)]
pub struct ProgressEventBody {
    pub job: JobId,
    pub progress: Progress,
}

/// What a pass did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Report)]
pub struct ReportBody {
    pub schema_version: u32,
    pub job: JobId,
    pub pass: u32,
    pub pass_kind: PassKind,
    /// As the job was asked for; secrets are masked.
    pub spec: JobSpec,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    pub summary: Summary,
    /// Where checksums were made.
    pub manifest: Option<ManifestBody>,
}

impl ReportBody {
    pub(crate) fn without_secrets(self) -> Self {
        Self { spec: shown(&self.spec), ..self }
    }
}

/// The checksums of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Manifest)]
pub struct ManifestBody {
    /// Hash over all lines, in hexadecimal.
    pub root: String,
    pub files: u64,
    /// `copied`: files of this pass; `verified`: all that were read back.
    pub covers: String,
    /// The same for people.
    pub note: String,
}

/// Which service this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Version)]
pub struct VersionBody {
    pub name: String,
    pub version: String,
    /// Of this interface.
    pub api: String,
    /// Of specifications of jobs.
    pub spec: u32,
}

impl VersionBody {
    pub(crate) fn ours() -> Self {
        Self {
            name: "manila-data".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            api: "v1".into(),
            spec: job::spec::SPEC_VERSION,
        }
    }
}

/// Whether the service lives, or can work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Health)]
pub struct HealthBody {
    /// `alive`, `ready` or `not_ready`.
    pub status: String,
    /// What keeps it from working.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_host_of_a_webhook_is_nobodys_business() {
        let check = |url, shown: &str| assert_eq!(origin_alone(url), shown);
        check("https://hooks.example/services/T0/B0/secret", "https://hooks.example/***");
        check("https://u:p@h.example:8443/x?token=1", "https://h.example:8443/***");
        check("http://h.example?token=1", "http://h.example/***");
        check("http://h.example/", "http://h.example/");
        check("http://h.example", "http://h.example");
        check("nonsense", "***");
    }

    #[test]
    fn passwords_in_sources_are_masked() {
        let check = |source, shown: &str| assert_eq!(without_password(source), shown);
        check("https://u:p:q@dav.example/x", "https://u:***@dav.example/x");
        check("u:p@h:/x", "u:***@h:/x");
        check("u@h:/x", "u@h:/x");
        check("h:/export", "h:/export");
        check("//h/share", "//h/share");
    }
}
