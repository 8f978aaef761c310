//! A data service in memory: jobs change as they would, and no data moves.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use job::documents::Progress;
use job::spec::RateLimits;
use job::{
    CutoverState, DataService, DoorError, EventKind, EventSeq, Figures, IdempotencyKey, Intent, Job, JobEvent,
    JobFilter, JobId, JobSpec, JobView, Kind, LiveEvent, NodeName, Origin, Outcome, Page, ScheduleView, State,
    StopReason, StoreError, StoredEvent, Submitted,
};
use tokio::sync::{broadcast, watch};

use super::until;

/// How the service misbehaves, if it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    #[default]
    Good,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
    StoreFailed,
    Panics,
    Hangs,
    /// Hangs until it is good again.
    Waits,
}

#[derive(Debug, Default)]
struct Data {
    jobs: BTreeMap<JobId, Job>,
    keys: HashMap<(String, String), (String, JobId)>,
    events: Vec<StoredEvent>,
    reports: BTreeMap<JobId, BTreeMap<u32, PathBuf>>,
    progress: BTreeMap<JobId, Progress>,
    troubles: Vec<String>,
    schedules: Vec<ScheduleView>,
    mood: Mood,
}

#[derive(Debug)]
pub(crate) struct MemoryService {
    data: Mutex<Data>,
    live: broadcast::Sender<LiveEvent>,
    changes: watch::Sender<u64>,
    hanging: AtomicUsize,
}

/// Few, so that tests can make a receiver lag.
const LIVE_KEPT: usize = 8;

/// What the store says for itself, and no caller may see.
pub(crate) const INNER_SECRET: &str = "disk I/O error in /var/lib/inner";

impl Default for MemoryService {
    fn default() -> Self {
        Self {
            data: Mutex::default(),
            live: broadcast::channel(LIVE_KEPT).0,
            changes: watch::channel(0).0,
            hanging: AtomicUsize::new(0),
        }
    }
}

impl MemoryService {
    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap()
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.data().mood = mood;
    }

    pub(crate) fn set_troubles(&self, troubles: &[&str]) {
        self.data().troubles = troubles.iter().map(ToString::to_string).collect();
    }

    pub(crate) fn set_reports(&self, id: JobId, reports: impl IntoIterator<Item = (u32, PathBuf)>) {
        self.data().reports.insert(id, reports.into_iter().collect());
    }

    pub(crate) fn set_schedules(&self, schedules: Vec<ScheduleView>) {
        self.data().schedules = schedules;
    }

    pub(crate) fn job_count(&self) -> usize {
        self.data().jobs.len()
    }

    /// The job as it is stored, with its secrets.
    pub(crate) fn stored(&self, id: JobId) -> Job {
        self.data().jobs[&id].clone()
    }

    pub(crate) fn listeners(&self) -> usize {
        self.live.receiver_count()
    }

    /// Calls of [`DataService::wait`] that wait.
    pub(crate) fn waiters(&self) -> usize {
        self.changes.receiver_count()
    }

    /// Calls that will never be answered.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::Relaxed)
    }

    pub(crate) fn report_progress(&self, id: JobId, progress: Progress) {
        self.data().progress.insert(id, progress.clone());
        // Nobody may listen.
        let _ = self.live.send(LiveEvent::Progress { job: id, progress: Box::new(progress) });
    }

    /// Adds an event to the store, and tells it.
    pub(crate) fn happen(&self, id: JobId, kind: EventKind, message: &str) {
        self.tell(self.happen_quietly(id, kind, message));
    }

    /// Adds an event to the store, and does not tell it yet.
    pub(crate) fn happen_quietly(&self, id: JobId, kind: EventKind, message: &str) -> StoredEvent {
        let mut data = self.data();
        let state = data.jobs[&id].state.name();
        let event = JobEvent { at: Timestamp::now(), kind, message: message.into(), state };
        let stored = StoredEvent { seq: EventSeq(data.events.len() as u64 + 1), job: id, event };
        data.events.push(stored.clone());
        stored
    }

    pub(crate) fn tell(&self, stored: StoredEvent) {
        let _ = self.live.send(LiveEvent::Stored(stored));
    }

    pub(crate) fn end(&self, id: JobId, outcome: Outcome) {
        if let Some(job) = self.data().jobs.get_mut(&id) {
            job.state = State::Ended { outcome };
            job.ended_at = Some(Timestamp::now());
        }
        self.happen(id, EventKind::Ended, "ended");
        self.changes.send_modify(|count| *count += 1);
    }

    async fn mood(&self) -> Result<(), DoorError> {
        let mood = self.data().mood;
        let inner = || Box::new(std::io::Error::other(INNER_SECRET));
        match mood {
            Mood::Good => Ok(()),
            Mood::QueueFull => Err(DoorError::QueueFull(7)),
            Mood::ShuttingDown => Err(DoorError::ShuttingDown),
            Mood::StoreUnavailable => Err(StoreError::Unavailable(inner()).into()),
            Mood::StoreFailed => Err(StoreError::Failed { what: "read the job".into(), source: Some(inner()) }.into()),
            Mood::Panics => panic!("{INNER_SECRET}"),
            Mood::Hangs => {
                self.hanging.fetch_add(1, Ordering::Relaxed);
                std::future::pending().await
            }
            Mood::Waits => {
                self.hanging.fetch_add(1, Ordering::Relaxed);
                until("a good mood", || async { (self.data().mood == Mood::Good).then_some(Ok(())) }).await
            }
        }
    }

    fn view(&self, id: JobId) -> Result<JobView, DoorError> {
        let data = self.data();
        let job = data.jobs.get(&id).cloned().ok_or(DoorError::NoSuchJob(id))?;
        let waits = job.state == State::Accepted && job.intent == Intent::Run;
        Ok(JobView {
            progress: data.progress.get(&id).cloned(),
            queue_position: waits.then_some(1),
            waits_for: None,
            prediction: None,
            job,
        })
    }

    async fn change(
        &self,
        id: JobId,
        change: impl FnOnce(&mut Job) -> Result<EventKind, DoorError>,
    ) -> Result<JobView, DoorError> {
        self.mood().await?;
        let kind = {
            let mut data = self.data();
            change(data.jobs.get_mut(&id).ok_or(DoorError::NoSuchJob(id))?)?
        };
        self.happen(id, kind, "changed");
        self.changes.send_modify(|count| *count += 1);
        self.view(id)
    }

    fn is_found(job: &Job, filter: &JobFilter) -> bool {
        (filter.states.is_empty() || filter.states.contains(&job.state.name()))
            && (filter.kinds.is_empty() || filter.kinds.contains(&job.spec.kind))
            && (filter.name.is_none() || filter.name == job.spec.name)
            && filter.requester.as_ref().is_none_or(|requester| *requester == job.origin.requester)
            && filter.created_after.is_none_or(|time| job.created_at > time)
            && filter.created_before.is_none_or(|time| job.created_at < time)
    }
}

fn not_now(text: &str) -> DoorError {
    DoorError::NotNow(text.into())
}

#[async_trait]
impl DataService for MemoryService {
    async fn submit(&self, spec: JobSpec, origin: Origin, key: Option<IdempotencyKey>) -> Result<Submitted, DoorError> {
        self.mood().await?;
        if spec.source == spec.dest {
            return Err(DoorError::BadSpec(vec!["source and dest are the same".into(), "and that is bad".into()]));
        }
        let id = JobId::generate();
        if let Some(IdempotencyKey { requester, key, fingerprint }) = key {
            let known = self.data().keys.get(&(requester.clone(), key.clone())).cloned();
            match known {
                Some((known, id)) if known == fingerprint => {
                    return Ok(Submitted { view: self.view(id)?, is_known: true });
                }
                Some(_) => return Err(DoorError::KeyReused),
                None => self.data().keys.insert((requester, key), (fingerprint, id)),
            };
        }
        let mut job = Job::new(id, spec, origin, Timestamp::now());
        job.owner = Some(NodeName::new("node-1"));
        self.data().jobs.insert(id, job);
        self.happen(id, EventKind::Created, "created");
        Ok(Submitted { view: self.view(id)?, is_known: false })
    }

    async fn get(&self, id: JobId) -> Result<JobView, DoorError> {
        self.mood().await?;
        self.view(id)
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<JobView>, DoorError> {
        self.mood().await?;
        let ids: Vec<_> = {
            let data = self.data();
            let found = data.jobs.values().rev().filter(|job| Self::is_found(job, filter)).map(|job| job.id);
            found.filter(|id| page.after.is_none_or(|after| *id < after)).take(page.size as usize).collect()
        };
        ids.into_iter().map(|id| self.view(id)).collect()
    }

    async fn cancel(&self, id: JobId) -> Result<JobView, DoorError> {
        self.mood().await?;
        if !self.view(id)?.job.state.is_ended() {
            self.end(id, Outcome::Cancelled);
        }
        self.view(id)
    }

    async fn pause(&self, id: JobId) -> Result<JobView, DoorError> {
        let pause = |job: &mut Job| {
            if job.state.is_ended() {
                return Err(not_now("the job has ended"));
            }
            job.intent = Intent::Stop(StopReason::Pause);
            Ok(EventKind::StopAsked)
        };
        self.change(id, pause).await
    }

    async fn resume(&self, id: JobId) -> Result<JobView, DoorError> {
        let resume = |job: &mut Job| {
            if job.stop_reason() != Some(StopReason::Pause) {
                return Err(not_now("the job is not paused"));
            }
            job.intent = Intent::Run;
            Ok(EventKind::Resumed)
        };
        self.change(id, resume).await
    }

    async fn cutover(&self, id: JobId) -> Result<JobView, DoorError> {
        let cutover = |job: &mut Job| {
            if job.spec.kind != Kind::Migrate || job.state.is_ended() {
                return Err(not_now("there is nothing to cut over"));
            }
            job.cutover = CutoverState::Asked;
            Ok(EventKind::CutoverAsked)
        };
        self.change(id, cutover).await
    }

    async fn set_limits(&self, id: JobId, limits: RateLimits) -> Result<JobView, DoorError> {
        if limits.bandwidth_bytes_per_second == Some(0) {
            return Err(DoorError::BadSpec(vec!["bandwidth_bytes_per_second is at least 1".into()]));
        }
        let set = |job: &mut Job| {
            if job.state.is_ended() {
                return Err(not_now("the job has ended"));
            }
            job.limits = limits;
            Ok(EventKind::LimitsChanged)
        };
        self.change(id, set).await
    }

    async fn retry_failed(&self, id: JobId, origin: Origin) -> Result<Submitted, DoorError> {
        self.mood().await?;
        let view = self.view(id)?;
        if !view.job.state.is_ended() {
            return Err(not_now("the job has not ended"));
        }
        let spec = JobSpec { retry_of: Some(id), ..(*view.job.spec).clone() };
        self.submit(spec, origin, None).await
    }

    async fn remove(&self, id: JobId) -> Result<(), DoorError> {
        self.mood().await?;
        if !self.view(id)?.job.state.is_ended() {
            return Err(not_now("the job has not ended"));
        }
        self.data().jobs.remove(&id);
        Ok(())
    }

    async fn wait(&self, id: JobId, time: Duration) -> Result<JobView, DoorError> {
        self.mood().await?;
        let mut changes = self.changes.subscribe();
        let ended = async {
            loop {
                let view = self.view(id)?;
                if view.job.state.is_ended() || changes.changed().await.is_err() {
                    return Ok(view);
                }
            }
        };
        tokio::time::timeout(time, ended).await.unwrap_or_else(|_| self.view(id))
    }

    fn subscribe(&self) -> broadcast::Receiver<LiveEvent> {
        self.live.subscribe()
    }

    async fn events_after(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, DoorError> {
        self.mood().await?;
        let data = self.data();
        let found = data.events.iter().filter(|stored| stored.seq > after && job.is_none_or(|job| job == stored.job));
        Ok(found.take(count_max as usize).cloned().collect())
    }

    async fn last_event(&self) -> Result<EventSeq, DoorError> {
        self.mood().await?;
        Ok(self.data().events.last().map_or(EventSeq::default(), |stored| stored.seq))
    }

    async fn reports(&self, id: JobId) -> Result<BTreeMap<u32, PathBuf>, DoorError> {
        self.mood().await?;
        self.view(id)?;
        Ok(self.data().reports.get(&id).cloned().unwrap_or_default())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, DoorError> {
        self.mood().await?;
        Ok(self.data().schedules.clone())
    }

    async fn figures(&self) -> Result<Figures, DoorError> {
        self.mood().await?;
        let mut by_state = BTreeMap::new();
        for job in self.data().jobs.values() {
            *by_state.entry(job.state.name()).or_insert(0) += 1;
        }
        Ok(Figures { jobs_by_state: by_state.into_iter().collect(), ..Figures::default() })
    }

    async fn troubles(&self) -> Vec<String> {
        self.data().troubles.clone()
    }
}
