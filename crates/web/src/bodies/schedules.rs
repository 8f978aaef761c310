//! What answers say of schedules.

use job::spec::{JobSpec, Kind};
use job::{Firing, MissedFirings, OnMissed, ScheduleJob, ScheduleView, SkippedFirings};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shown;

/// All schedules, by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ScheduleList)]
pub struct ScheduleListBody {
    pub schedules: Vec<ScheduleBody>,
}

/// A job that is made again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ScheduledJob)]
pub struct ScheduleBody {
    pub name: String,
    pub enabled: bool,
    /// Minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// `system`: the machine's own, which has no name.
    pub time_zone: String,
    /// Each firing is due up to so much later.
    pub jitter_seconds: u64,
    /// What becomes of firings whose time passed while nobody could make their jobs.
    pub on_missed: OnMissed,
    pub kind: Kind,
    /// What each firing makes; secrets are masked.
    pub spec: JobSpec,
    /// The next few; none of a schedule that is not enabled.
    pub next: Vec<Firing>,
    /// The newest one that is kept.
    pub last_job: Option<ScheduleJob>,
    /// Since this service started, as what follows.
    pub last_skipped: Option<SkippedFirings>,
    pub last_missed: Option<MissedFirings>,
    /// Firings whose jobs this service made.
    pub fired: u64,
    /// Firings that made none because the job before had not ended.
    pub skipped: u64,
    pub missed: u64,
    /// Why the job of a firing that is due could not be made so far.
    pub trouble: Option<String>,
}

impl From<&ScheduleView> for ScheduleBody {
    fn from(view: &ScheduleView) -> Self {
        let settings = &view.settings;
        Self {
            name: settings.name.clone(),
            enabled: settings.is_enabled,
            cron: settings.cron.clone(),
            time_zone: view.time_zone.clone(),
            jitter_seconds: settings.jitter.as_secs(),
            on_missed: settings.on_missed,
            kind: settings.spec.kind,
            spec: shown(&settings.spec),
            next: view.next.clone(),
            last_job: view.last_job,
            last_skipped: view.last_skipped,
            last_missed: view.last_missed,
            fired: view.counts.fired,
            skipped: view.counts.skipped,
            missed: view.counts.missed,
            trouble: view.trouble.clone(),
        }
    }
}
