//! What a front door shows of a schedule.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ScheduleSettings;
use crate::id::JobId;
use crate::model::StateName;

/// A schedule, and what is known of its firings.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleView {
    pub settings: ScheduleSettings,
    /// As it was given, or as the machine's own is called.
    pub time_zone: String,
    /// The next few; none of a schedule that is not enabled.
    pub next: Vec<Firing>,
    /// The newest one that is kept.
    pub last_job: Option<ScheduleJob>,
    /// Since this service started, as the counts and what was missed.
    pub last_skipped: Option<SkippedFirings>,
    pub last_missed: Option<MissedFirings>,
    pub counts: ScheduleCounts,
    /// Why the job of a firing that is due could not be made so far, or ever.
    pub trouble: Option<String>,
}

/// One time at which a schedule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Firing {
    /// As the cron expression says.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub nominal_at: Timestamp,
    /// With the jitter.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub due_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ScheduleJob {
    pub id: JobId,
    pub state: StateName,
    /// Of the firing that made it. `None`: an earlier version did not say.
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub nominal_at: Option<Timestamp>,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
}

/// Firings that made no job because the one before had not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SkippedFirings {
    /// Nominal times.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub first_at: Timestamp,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub latest_at: Timestamp,
    /// A lower bound where it is a thousand.
    pub count: u64,
    /// The job that had not ended.
    pub job: JobId,
}

/// Firings whose time passed while nobody could make their jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MissedFirings {
    /// Nominal times.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub first_at: Timestamp,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub latest_at: Timestamp,
    /// A lower bound where it is a thousand.
    pub count: u64,
    /// When that was noticed.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub noticed_at: Timestamp,
    /// The job that was made for them all.
    pub job: Option<JobId>,
}

/// Firings since this service started, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleCounts {
    /// Made a job here; another node may have made the others.
    pub fired: u64,
    /// The job before had not ended.
    pub skipped: u64,
    pub missed: u64,
}
