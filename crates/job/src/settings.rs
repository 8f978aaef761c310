//! What an operator decides about the service, and the ports it is given.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::id::{JobId, NodeName};
use crate::ports::{Clock, Executor, Follower, JobStore, NobodyFollows, Notifier, ShareAccess, SystemClock};
use crate::schedule::Timetable;
use crate::validate::Known;

/// The world, as the service reaches it.
#[derive(Clone, Debug)]
pub struct Ports {
    pub store: Arc<dyn JobStore>,
    pub executor: Arc<dyn Executor>,
    pub access: Arc<dyn ShareAccess>,
    pub notifier: Arc<dyn Notifier>,
    pub follower: Arc<dyn Follower>,
    pub clock: Arc<dyn Clock>,
}

impl Ports {
    /// With the machine's own clock, and nobody who follows the jobs.
    pub fn new(
        store: Arc<dyn JobStore>,
        executor: Arc<dyn Executor>,
        access: Arc<dyn ShareAccess>,
        notifier: Arc<dyn Notifier>,
    ) -> Self {
        Self { store, executor, access, notifier, follower: Arc::new(NobodyFollows), clock: Arc::new(SystemClock) }
    }
}

#[derive(Clone, Debug)]
pub struct Settings {
    pub node: NodeName,
    /// Workspaces and reports lie below it.
    pub state_path: PathBuf,
    /// How long a job stays this node's without a sign of life. Workers stop when two thirds of it passed without one.
    pub lease: Duration,
    /// What jobs may name of the configuration.
    pub known: Known,
    pub scheduling: Scheduling,
    pub retention: Retention,
    /// Jobs that are made again and again.
    pub schedules: Vec<Timetable>,
}

impl Settings {
    pub fn new(node: NodeName, state_path: impl Into<PathBuf>) -> Self {
        Self {
            node,
            state_path: state_path.into(),
            lease: Duration::from_mins(1),
            known: Known::default(),
            scheduling: Scheduling::default(),
            retention: Retention::default(),
            schedules: Vec::new(),
        }
    }
}

/// Can be changed while the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduling {
    /// Jobs that run at the same time on this node.
    pub jobs_max: usize,
    /// Jobs that use the same storage host at the same time, on all nodes.
    pub jobs_per_host_max: Option<usize>,
    /// Jobs that wait; a request for one more is refused.
    pub queue_max: u64,
    /// Of a job that names none, and has no window that does.
    pub bandwidth_bytes_per_second: Option<u64>,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self { jobs_max: 4, jobs_per_host_max: None, queue_max: 10_000, bandwidth_bytes_per_second: None }
    }
}

/// What is removed when. Can be changed while the service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Between two looks.
    pub interval: Duration,
    /// Reports of jobs that ended longer ago.
    pub report_age_max: Option<Duration>,
    /// Of all reports together: the oldest go first.
    pub report_bytes_max: Option<u64>,
    /// Jobs that ended longer ago, with all that is left of them.
    pub job_age_max: Option<Duration>,
    pub event_age_max: Option<Duration>,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            interval: Duration::from_hours(1),
            report_age_max: Some(90 * DAY),
            report_bytes_max: Some(10 << 30),
            job_age_max: Some(365 * DAY),
            event_age_max: Some(90 * DAY),
        }
    }
}

/// Where things of a job lie below the state path.
#[derive(Clone, Debug)]
pub(crate) struct Layout(PathBuf);

impl Layout {
    pub(crate) fn new(state_path: &Path) -> Self {
        Self(state_path.into())
    }

    /// Mount points, for the time of a pass.
    pub(crate) fn workspace(&self, id: JobId) -> PathBuf {
        self.0.join("work").join(id.to_string())
    }

    /// Everything that outlives a pass.
    pub(crate) fn job(&self, id: JobId) -> PathBuf {
        self.0.join("jobs").join(id.to_string())
    }

    pub(crate) fn engine(&self, id: JobId) -> PathBuf {
        self.job(id).join("engine")
    }

    pub(crate) fn reports(&self, id: JobId) -> PathBuf {
        self.job(id).join("report")
    }

    pub(crate) fn report(&self, id: JobId, pass: u32) -> PathBuf {
        self.reports(id).join(pass.to_string())
    }
}
