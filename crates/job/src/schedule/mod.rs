//! Jobs that are made again and again: what an operator describes, checked, and when which firing is due. Pure; who
//! makes the jobs is `service::schedules`.
//!
//! A firing has a nominal time, which the cron expression says, and is due a little later where jitter is wanted.

mod calendar;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::calendar::Calendar;
pub use self::view::{Firing, MissedFirings, ScheduleCounts, ScheduleJob, ScheduleView, SkippedFirings};
use crate::limits::LIMITS;
use crate::model::{Job, OnBehalf, Origin};
use crate::ports::IdempotencyKey;
use crate::spec::{JobSpec, Kind};
use crate::validate::{Known, validate};

/// More is not jitter any more, and would hide that a schedule does not fire.
const JITTER_MAX: Duration = Duration::from_hours(24);
/// Names become part of the identifiers of backups.
const NAME_BYTES_MAX: usize = 64;
/// Of [`OnBehalf`].
const SCHEDULE: &str = "schedule";

/// A job that is to be made again and again, as somebody describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleSettings {
    pub name: String,
    pub is_enabled: bool,
    /// Minute, hour, day of the month, month, day of the week; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    pub cron: String,
    /// Such as `Europe/Vienna`; the machine's own where none is given.
    pub time_zone: Option<String>,
    /// Each firing is due up to so much later, as its name and time decide.
    pub jitter: Duration,
    pub on_missed: OnMissed,
    /// What each firing makes. A backup is given its identifier, and a job without a name that of the schedule.
    pub spec: JobSpec,
}

/// What becomes of firings whose time passed while nobody could make their jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum OnMissed {
    /// One job is made as soon as possible, for all of them.
    #[default]
    Run,
    /// None is made.
    Skip,
}

impl OnMissed {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Skip => "skip",
        }
    }
}

/// A schedule that was found to be sound.
#[derive(Clone, Debug)]
pub struct Timetable {
    settings: ScheduleSettings,
    calendar: Calendar,
    zone_name: String,
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleProblem {
    /// A name is not one.
    #[error(
        "a schedule's name has letters, digits, `-`, `_` and `.` only, begins with a letter or a digit, and is at most {NAME_BYTES_MAX} bytes long"
    )]
    Name,
    /// The cron expression; what is wrong with it.
    #[error("the cron expression {0}")]
    Cron(String),
    #[error("the time zone is not known here")]
    TimeZone,
    #[error("the jitter is more than a day")]
    Jitter,
    /// The job; one message for each thing that is wrong.
    #[error("the job cannot be carried out as asked: {}", .0.join("; "))]
    Spec(Vec<String>),
}

/// Firings that are due and were not decided about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Nominal times.
    pub(crate) first: Timestamp,
    pub(crate) latest: Timestamp,
    /// At most [`crate::Limits::missed_count_max`], where there may be more.
    pub(crate) count: u64,
}

/// What a job remembers of the firing that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) nominal_at: Timestamp,
    cron: String,
    time_zone: String,
}

impl Timetable {
    pub fn new(settings: ScheduleSettings, known: &Known) -> Result<Self, ScheduleProblem> {
        let is_name = |name: &str| {
            name.len() <= NAME_BYTES_MAX
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        };
        if !is_name(&settings.name) {
            return Err(ScheduleProblem::Name);
        }
        let zone = match &settings.time_zone {
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleProblem::TimeZone)?,
            None => TimeZone::system(),
        };
        let zone_name = settings.time_zone.clone().or_else(|| zone.iana_name().map(Into::into));
        let calendar = Calendar::new(&settings.cron, zone).map_err(ScheduleProblem::Cron)?;
        if settings.jitter > JITTER_MAX {
            return Err(ScheduleProblem::Jitter);
        }
        let timetable = Self { zone_name: zone_name.unwrap_or_else(|| "system".into()), settings, calendar };
        let problems = timetable.spec_problems(known);
        if problems.is_empty() { Ok(timetable) } else { Err(ScheduleProblem::Spec(problems)) }
    }

    fn spec_problems(&self, known: &Known) -> Vec<String> {
        let spec = &self.settings.spec;
        let mut problems = Vec::new();
        let kind = spec.kind.as_str();
        if matches!(spec.kind, Kind::Migrate | Kind::Delete) {
            problems.push(format!("a job of kind {kind} is made once, not by a schedule"));
        }
        if spec.schedule.start_after.is_some() || spec.schedule.deadline.is_some() {
            problems.push("schedule.start_after and schedule.deadline are moments, and pass once".into());
        }
        if spec.retry_of.is_some() {
            problems.push("retry_of is set by the service".into());
        }
        if spec.kind == Kind::Backup && spec.backup.as_ref().is_some_and(|plan| plan.id.is_some()) {
            problems.push("backup.id is set by the schedule: its name and the time".into());
        }
        problems.extend(validate(&self.spec_at(Timestamp::UNIX_EPOCH), known));
        problems
    }

    pub fn settings(&self) -> &ScheduleSettings {
        &self.settings
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// As it was given, or as the machine's own is called.
    pub fn time_zone(&self) -> &str {
        &self.zone_name
    }

    /// The name under which its jobs are made.
    pub fn requester(&self) -> String {
        requester(self.name())
    }

    /// The nominal time of the firing that follows.
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.calendar.next_after(at).filter(|_| self.settings.is_enabled)
    }

    /// When the job of a firing is to be made: jitter is the same wherever it is asked for, and ends before the next
    /// firing, so that firings stay in their order.
    pub fn due_at(&self, nominal_at: Timestamp) -> Timestamp {
        let seconds = self.settings.jitter.as_secs();
        if seconds == 0 {
            return nominal_at;
        }
        let hash = xxhash_rust::xxh3::xxh3_64(self.key(nominal_at).as_bytes());
        let jitter = SignedDuration::from_secs((hash % (seconds + 1)) as i64);
        let room = self.calendar.next_after(nominal_at).map(|next| next.duration_since(nominal_at));
        let jitter = room.map_or(jitter, |room| jitter.min(room - SignedDuration::from_secs(1)));
        nominal_at.checked_add(jitter).unwrap_or(nominal_at)
    }

    /// The firings after a nominal time that are due.
    pub(crate) fn pending(&self, after: Timestamp, now: Timestamp) -> Option<Pending> {
        let first = self.next_after(after).filter(|first| self.due_at(*first) <= now)?;
        let mut latest = self.calendar.latest(after, now)?;
        if self.due_at(latest) > now {
            // The one before was due before this one's nominal time.
            latest = self.calendar.latest(after, latest - SignedDuration::from_secs(1))?;
        }
        let firings = std::iter::successors(Some(first), |at| self.calendar.next_after(*at));
        let count = firings.take_while(|at| *at <= latest).take(LIMITS.missed_count_max).count() as u64;
        Some(Pending { first, latest, count })
    }

    /// What a firing asks for.
    pub(crate) fn spec_at(&self, nominal_at: Timestamp) -> JobSpec {
        let mut spec = self.settings.spec.clone();
        spec.name.get_or_insert_with(|| self.name().into());
        if spec.kind == Kind::Backup
            && let Some(plan) = &mut spec.backup
        {
            plan.id = Some(format!("{}-{}", self.name(), nominal_at.strftime("%Y%m%dT%H%M%SZ")));
        }
        spec
    }

    /// Names the firing: whoever makes its job, it is one job.
    fn key(&self, nominal_at: Timestamp) -> String {
        format!("{}@{nominal_at}", self.name())
    }

    pub(crate) fn idempotency_key(&self, nominal_at: Timestamp) -> IdempotencyKey {
        let key = self.key(nominal_at);
        // What the job is may differ where another node has another configuration; the firing is the same.
        IdempotencyKey { requester: self.requester(), fingerprint: key.clone(), key }
    }

    pub(crate) fn origin(&self, nominal_at: Timestamp) -> Origin {
        let made = Made { nominal_at, cron: self.settings.cron.clone(), time_zone: self.zone_name.clone() };
        let request = serde_json::to_value(&made).expect("times and texts can be written");
        Origin {
            requester: self.requester(),
            request_id: Some(self.key(nominal_at)),
            on_behalf: Some(OnBehalf { of: SCHEDULE.into(), request }),
        }
    }

    /// It fires at the same times.
    pub(crate) fn has_times_of(&self, other: &Self) -> bool {
        let times = |table: &Self| (table.settings.is_enabled, table.settings.cron.clone(), table.zone_name.clone());
        times(self) == times(other)
    }

    /// The firing was one of the times as they are now.
    pub(crate) fn is_of(&self, made: &Made) -> bool {
        (&made.cron, &made.time_zone) == (&self.settings.cron, &self.zone_name)
    }
}

pub(crate) fn requester(name: &str) -> String {
    format!("{SCHEDULE}:{name}")
}

/// `None`: no schedule made the job.
pub(crate) fn made(job: &Job) -> Option<Made> {
    let behalf = job.origin.on_behalf.as_ref().filter(|behalf| behalf.of == SCHEDULE)?;
    serde_json::from_value(behalf.request.clone()).ok()
}

/// Schedules by their names. A name that comes twice is a defect of whoever read them.
pub(crate) fn by_name(timetables: Vec<Timetable>) -> BTreeMap<String, Arc<Timetable>> {
    timetables.into_iter().map(|timetable| (timetable.name().to_owned(), Arc::new(timetable))).collect()
}

#[cfg(test)]
mod tests;
