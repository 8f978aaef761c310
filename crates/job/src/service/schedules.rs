//! Makes the jobs of schedules when they are due.
//!
//! What fired last is known by the newest job of a schedule, which says its firing; so a restart, and each of several
//! nodes on one store, goes on where the others were. Two that make the job of one firing use one key, and make one job.
//! A firing is decided about once: its job is made, or that of the one before had not ended, or it was missed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::select;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::Service;
use super::scheduler::duration_until;
use super::shared::{Shared, chain};
use crate::door::{DataService as _, DoorError};
use crate::id::JobId;
use crate::limits::LIMITS;
use crate::machine::Event;
use crate::model::{Job, StateName};
use crate::ports::{JobFilter, Page, StoreError};
use crate::schedule::{
    Firing, MissedFirings, OnMissed, Pending, ScheduleCounts, ScheduleJob, ScheduleView, SkippedFirings, Timetable,
    by_name, made,
};

/// The schedules in force, and what this process knows of each.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    entries: Mutex<BTreeMap<String, Entry>>,
    pub(super) wake: Notify,
}

#[derive(Clone, Debug)]
struct Entry {
    timetable: Arc<Timetable>,
    /// Firings before it are nobody's concern, unless a job says that the schedule was in force.
    since: Timestamp,
    /// The newest nominal time that was decided about. `None`: the store has not been asked yet.
    decided: Option<Timestamp>,
    told: Told,
}

#[derive(Clone, Debug, Default)]
struct Told {
    skipped: Option<SkippedFirings>,
    missed: Option<MissedFirings>,
    counts: ScheduleCounts,
    trouble: Option<String>,
}

impl Schedules {
    /// At the start: what was missed since the newest job is found.
    pub(crate) fn new(timetables: Vec<Timetable>, now: Timestamp) -> Self {
        let entry = |timetable| Entry { timetable, since: now, decided: None, told: Told::default() };
        let entries = by_name(timetables).into_iter().map(|(name, timetable)| (name, entry(timetable))).collect();
        Self { entries: Mutex::new(entries), wake: Notify::new() }
    }

    /// Never held over an await.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What fires at other times than before does so from now on; nothing of it was missed.
    pub(crate) fn reload(&self, timetables: Vec<Timetable>, now: Timestamp) {
        let mut entries = self.entries();
        let mut old = std::mem::take(&mut *entries);
        for (name, timetable) in by_name(timetables) {
            let entry = match old.remove(&name) {
                Some(entry) if entry.timetable.has_times_of(&timetable) => Entry { timetable, ..entry },
                was => {
                    let counts = was.map(|entry| entry.told.counts).unwrap_or_default();
                    Entry { timetable, since: now, decided: Some(now), told: Told { counts, ..Told::default() } }
                }
            };
            entries.insert(name, entry);
        }
        self.wake.notify_one();
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, ScheduleCounts> {
        self.entries().iter().map(|(name, entry)| (name.clone(), entry.told.counts)).collect()
    }

    fn all(&self) -> Vec<Entry> {
        self.entries().values().cloned().collect()
    }

    /// Changes what is known, unless the schedule is another one by now.
    fn update(&self, timetable: &Arc<Timetable>, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries().get_mut(timetable.name())
            && entry.timetable.has_times_of(timetable)
        {
            change(entry);
        }
    }
}

/// Runs until the service parks.
pub(super) async fn fire(shared: Arc<Shared>) {
    while !shared.parking.is_cancelled() {
        let rest = round(&shared).await;
        select! {
            () = shared.schedules.wake.notified() => {}
            () = sleep(rest) => {}
            () = shared.parking.cancelled() => {}
        }
    }
}

/// Looks at each schedule; answers when to look again.
async fn round(shared: &Arc<Shared>) -> Duration {
    let mut rest = LIMITS.schedule_look;
    for entry in shared.schedules.all() {
        let timetable = &entry.timetable;
        match look(shared, &entry).await {
            Ok(()) => shared.schedules.update(timetable, |entry| entry.told.trouble = None),
            Err(DoorError::ShuttingDown) => return rest,
            Err(error) => {
                let trouble = chain(&error);
                if entry.told.trouble.as_ref() != Some(&trouble) {
                    warn!(schedule = timetable.name(), trouble, "the job of a schedule waits");
                }
                shared.schedules.update(timetable, |entry| entry.told.trouble = Some(trouble));
                // The others would wait for the same store.
                if matches!(error, DoorError::Store(_)) {
                    return LIMITS.retry_pause.max(Duration::from_secs(1));
                }
            }
        }
    }
    let now = shared.now();
    for entry in shared.schedules.all().iter().filter(|entry| entry.told.trouble.is_none()) {
        let due = entry.decided.and_then(|at| entry.timetable.next_after(at)).map(|at| entry.timetable.due_at(at));
        rest = due.map_or(rest, |due| rest.min(duration_until(now, due)));
    }
    rest
}

/// Decides about the firings of one schedule that are due.
async fn look(shared: &Arc<Shared>, entry: &Entry) -> Result<(), DoorError> {
    let timetable = &entry.timetable;
    let now = shared.now();
    let horizon = now.checked_add(LIMITS.clock_error).unwrap_or(Timestamp::MAX);
    let decided = entry.decided.map(|at| {
        if at > horizon {
            warn!(schedule = timetable.name(), "the clock was set back; the schedule begins anew");
            shared.schedules.update(timetable, |entry| entry.decided = Some(now));
            return now;
        }
        at
    });
    if decided.is_some_and(|at| timetable.pending(at, now).is_none()) || !timetable.settings().is_enabled {
        return Ok(());
    }
    let last = newest(shared, timetable, Some(horizon)).await?;
    let last_made = last.as_ref().and_then(made).filter(|made| timetable.is_of(made) && made.nominal_at <= horizon);
    let mut after = match (decided, last_made) {
        (Some(decided), Some(made)) => decided.max(made.nominal_at),
        (Some(decided), None) => decided,
        (None, Some(made)) => made.nominal_at,
        (None, None) => entry.since,
    };
    // Whatever was due before the job ended was skipped, and told by whoever was there.
    if let Some(skipped) = last.as_ref().and_then(|job| job.ended_at).and_then(|at| timetable.pending(after, at)) {
        if let (Some(_), Some(job)) = (decided, &last) {
            tell_skipped(shared, timetable, &skipped, job.id).await;
        }
        after = skipped.latest;
    }
    let Some(pending) = timetable.pending(after, now) else {
        decide(shared, timetable, after);
        return Ok(());
    };
    if let Some(unended) = unended(shared, timetable).await? {
        tell_skipped(shared, timetable, &pending, unended.id).await;
    } else {
        make(shared, timetable, &pending, now).await?;
    }
    decide(shared, timetable, pending.latest);
    Ok(())
}

fn decide(shared: &Shared, timetable: &Arc<Timetable>, at: Timestamp) {
    shared.schedules.update(timetable, |entry| entry.decided = entry.decided.max(Some(at)));
}

/// Makes one job for all that is due, unless that is too late and late jobs are not wanted.
async fn make(
    shared: &Arc<Shared>,
    timetable: &Arc<Timetable>,
    pending: &Pending,
    now: Timestamp,
) -> Result<(), DoorError> {
    let nominal_at = pending.latest;
    let late = Duration::try_from(now.duration_since(timetable.due_at(nominal_at))).unwrap_or_default();
    let is_missed = late > LIMITS.schedule_lateness;
    let missed = |job| MissedFirings {
        first_at: pending.first,
        latest_at: pending.latest,
        count: if is_missed { pending.count } else { pending.count - 1 },
        noticed_at: now,
        job,
    };
    if is_missed && timetable.settings().on_missed == OnMissed::Skip {
        tell_missed(shared, timetable, missed(None)).await;
        return Ok(());
    }
    // The same door as for everybody.
    let door = Service { shared: shared.clone() };
    let key = timetable.idempotency_key(nominal_at);
    match door.submit(timetable.spec_at(nominal_at), timetable.origin(nominal_at), Some(key)).await {
        // Another node was faster, and tells what is to be told.
        Ok(submitted) if submitted.is_known => Ok(()),
        Err(DoorError::KeyReused) => Ok(()),
        Ok(submitted) => {
            let id = submitted.view.job.id;
            info!(job_id = %id, schedule = timetable.name(), nominal_at = %nominal_at, "a schedule made its job");
            shared.schedules.update(timetable, |entry| entry.told.counts.fired += 1);
            let missed = missed(Some(id));
            if missed.count > 0 {
                tell_missed(shared, timetable, missed).await;
            }
            Ok(())
        }
        Err(error @ DoorError::BadSpec(_)) => {
            // Trying again as it is makes no sense.
            error!(schedule = timetable.name(), error = chain(&error), "the job of a schedule cannot be made");
            tell_missed(shared, timetable, MissedFirings { count: pending.count, ..missed(None) }).await;
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn tell_skipped(shared: &Arc<Shared>, timetable: &Arc<Timetable>, pending: &Pending, job: JobId) {
    let Pending { first, latest, count } = *pending;
    warn!(
        job_id = %job, schedule = timetable.name(), count, first = %first, latest = %latest,
        "a schedule's firing was skipped: the job before had not ended"
    );
    let mut is_first = false;
    shared.schedules.update(timetable, |entry| {
        is_first = entry.told.skipped.is_none_or(|before| before.job != job);
        entry.told.counts.skipped += count;
        entry.told.skipped = Some(SkippedFirings { first_at: first, latest_at: latest, count, job });
    });
    // Once for each job: one that hangs for days under a schedule of minutes would have thousands.
    if !is_first {
        return;
    }
    let name = timetable.name();
    let message = if count == 1 {
        format!("schedule {name} skipped its firing of {latest}: this job had not ended")
    } else {
        format!("schedule {name} skipped {count} firings from {first} to {latest}: this job had not ended")
    };
    note(shared, job, message).await;
}

async fn tell_missed(shared: &Arc<Shared>, timetable: &Arc<Timetable>, missed: MissedFirings) {
    let MissedFirings { first_at, latest_at, count, job, .. } = missed;
    let name = timetable.name();
    warn!(
        schedule = name, count, first = %first_at, latest = %latest_at, made_late = job.is_some(),
        "firings of a schedule were missed"
    );
    shared.schedules.update(timetable, |entry| {
        entry.told.counts.missed += count;
        entry.told.missed = Some(missed);
    });
    if let Some(job) = job {
        note(shared, job, format!("schedule {name} missed {count} firings from {first_at} to {latest_at}")).await;
    }
}

/// Adds a warning to a job. The log has said it already, so that a failure costs nothing.
async fn note(shared: &Arc<Shared>, job: JobId, message: String) {
    if let Err(error) = shared.change(job, &Event::Warned(message)).await {
        debug!(job_id = %job, error = chain(&error), "the warning was not kept with the job");
    }
}

async fn first(shared: &Shared, filter: &JobFilter) -> Result<Option<Job>, StoreError> {
    let page = Page { after: None, size: 1 };
    Ok(shared.heard(shared.ports.store.list(filter, &page).await)?.into_iter().next())
}

async fn newest(
    shared: &Shared,
    timetable: &Timetable,
    created_before: Option<Timestamp>,
) -> Result<Option<Job>, StoreError> {
    let filter = JobFilter { requester: Some(timetable.requester()), created_before, ..JobFilter::default() };
    first(shared, &filter).await
}

async fn unended(shared: &Shared, timetable: &Timetable) -> Result<Option<Job>, StoreError> {
    let states = StateName::ALL.into_iter().filter(|state| !state.is_ended()).collect();
    let filter = JobFilter { requester: Some(timetable.requester()), states, ..JobFilter::default() };
    first(shared, &filter).await
}

/// By these it is known what fired last, however old they are.
pub(super) async fn newest_jobs(shared: &Shared) -> Result<HashSet<JobId>, StoreError> {
    let mut newest_jobs = HashSet::new();
    for entry in shared.schedules.all() {
        newest_jobs.extend(newest(shared, &entry.timetable, None).await?.map(|job| job.id));
    }
    Ok(newest_jobs)
}

pub(super) async fn views(shared: &Shared) -> Result<Vec<ScheduleView>, StoreError> {
    let now = shared.now();
    let mut views = Vec::new();
    for Entry { timetable, decided, told, .. } in shared.schedules.all() {
        // What is due and not decided about is still to come.
        let next = std::iter::successors(timetable.next_after(decided.unwrap_or(now)), |at| timetable.next_after(*at));
        let firing = |nominal_at| Firing { nominal_at, due_at: timetable.due_at(nominal_at) };
        let last_job = newest(shared, &timetable, None).await?.map(|job| ScheduleJob {
            id: job.id,
            state: job.state.name(),
            nominal_at: made(&job).map(|made| made.nominal_at),
            created_at: job.created_at,
            ended_at: job.ended_at,
        });
        views.push(ScheduleView {
            settings: timetable.settings().clone(),
            time_zone: timetable.time_zone().into(),
            next: next.take(LIMITS.next_firings).map(firing).collect(),
            last_job,
            last_skipped: told.skipped,
            last_missed: told.missed,
            counts: told.counts,
            trouble: told.trouble,
        });
    }
    Ok(views)
}
