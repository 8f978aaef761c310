//! What front doors ask of the service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info};

use super::shared::{Shared, chain};
use super::{Service, retention, schedules};
use crate::door::{DataService, DoorError, Figures, JobView, LiveEvent, Submitted};
use crate::id::{EventSeq, JobId};
use crate::limits::{LIMITS, pause};
use crate::machine::Event;
use crate::model::{Job, Origin, StopReason};
use crate::ports::{Created, EventKind, IdempotencyKey, JobEvent, JobFilter, Page, StoreError, StoredEvent};
use crate::predict::predict;
use crate::runner::latest_report;
use crate::schedule::ScheduleView;
use crate::spec::{JobSpec, Kind, MigratePlan, RateLimits};
use crate::validate::validate;
use crate::window::limit_problems;

#[async_trait]
impl DataService for Service {
    async fn submit(&self, spec: JobSpec, origin: Origin, key: Option<IdempotencyKey>) -> Result<Submitted, DoorError> {
        let mut problems = validate(&spec, &self.shared.known);
        if spec.retry_of.is_some() {
            problems.push("retry_of is set by the service; ask for a retry of the job".into());
        }
        if !problems.is_empty() {
            return Err(DoorError::BadSpec(problems));
        }
        self.create(spec, origin, key.as_ref()).await
    }

    async fn get(&self, id: JobId) -> Result<JobView, DoorError> {
        let job = self.shared.read(id).await?.ok_or(DoorError::NoSuchJob(id))?;
        self.view(job).await
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<JobView>, DoorError> {
        let jobs = self.shared.heard(self.shared.ports.store.list(filter, page).await)?;
        let mut views = Vec::with_capacity(jobs.len());
        for job in jobs {
            views.push(self.view(job).await?);
        }
        Ok(views)
    }

    async fn cancel(&self, id: JobId) -> Result<JobView, DoorError> {
        self.change(id, Event::StopAsked(StopReason::Cancel)).await
    }

    async fn pause(&self, id: JobId) -> Result<JobView, DoorError> {
        self.change(id, Event::StopAsked(StopReason::Pause)).await
    }

    async fn resume(&self, id: JobId) -> Result<JobView, DoorError> {
        self.change(id, Event::ResumeAsked).await
    }

    async fn cutover(&self, id: JobId) -> Result<JobView, DoorError> {
        self.change(id, Event::CutoverAsked).await
    }

    async fn set_limits(&self, id: JobId, limits: RateLimits) -> Result<JobView, DoorError> {
        let problems = limit_problems(&limits);
        if !problems.is_empty() {
            return Err(DoorError::BadSpec(problems));
        }
        self.change(id, Event::LimitsSet(limits)).await
    }

    async fn retry_failed(&self, id: JobId, origin: Origin) -> Result<Submitted, DoorError> {
        let job = self.shared.read(id).await?.ok_or(DoorError::NoSuchJob(id))?;
        let spec = self.retry_of(&job)?;
        self.create(spec, origin, None).await
    }

    async fn remove(&self, id: JobId) -> Result<(), DoorError> {
        let job = self.shared.read(id).await?.ok_or(DoorError::NoSuchJob(id))?;
        if !job.state.is_ended() {
            return Err(DoorError::NotNow("the job has not ended; cancel it first".into()));
        }
        let retry = self.shared.board().jobs().find(|job| job.spec.retry_of == Some(id)).map(|job| job.id);
        if let Some(retry) = retry {
            return Err(DoorError::NotNow(format!("job {retry} works by the report of this one")));
        }
        Ok(retention::remove_job(&self.shared, id).await?)
    }

    async fn wait(&self, id: JobId, time: Duration) -> Result<JobView, DoorError> {
        let until = Instant::now() + time;
        // Before the first look, so that no end falls between the two.
        let mut live = self.subscribe();
        loop {
            let view = self.get(id).await?;
            if view.job.state.is_ended() || until <= Instant::now() {
                return Ok(view);
            }
            // Another node may end the job; this one hears of that when it next reads the events.
            let look_at = until.min(Instant::now() + LIMITS.reload_interval);
            let _ = timeout_at(look_at, something_about(&mut live, id)).await;
        }
    }

    fn subscribe(&self) -> broadcast::Receiver<LiveEvent> {
        self.shared.live.subscribe()
    }

    async fn events_after(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, DoorError> {
        Ok(self.shared.heard(self.shared.ports.store.events(after, job, count_max).await)?)
    }

    async fn last_event(&self) -> Result<EventSeq, DoorError> {
        Ok(self.shared.heard(self.shared.ports.store.last_event().await)?)
    }

    async fn reports(&self, id: JobId) -> Result<BTreeMap<u32, PathBuf>, DoorError> {
        self.shared.read(id).await?.ok_or(DoorError::NoSuchJob(id))?;
        let Ok(entries) = std::fs::read_dir(self.shared.layout.reports(id)) else { return Ok(BTreeMap::new()) };
        let pass = |entry: std::fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
        Ok(entries.filter_map(Result::ok).filter_map(pass).collect())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleView>, DoorError> {
        Ok(schedules::views(&self.shared).await?)
    }

    async fn figures(&self) -> Result<Figures, DoorError> {
        let jobs_by_state = self.shared.heard(self.shared.ports.store.count_by_state().await)?;
        let scheduling = self.shared.scheduling();
        let totals = self.shared.totals().figures();
        let mut board = self.shared.board();
        let queued = board.plan(&self.shared.node, &scheduling, self.shared.now()).positions.len();
        let progress = || board.runs().values().filter_map(|run| run.progress.as_ref());
        Ok(Figures {
            jobs_by_state,
            queued_jobs: queued as u64,
            running_jobs: board.runs().len() as u64,
            jobs_max: scheduling.jobs_max as u64,
            schedules: self.shared.schedules.counts(),
            bytes_per_second: progress().map(|progress| progress.bytes_per_second).sum(),
            entries_per_second: progress().map(|progress| progress.entries_per_second).sum(),
            ..totals
        })
    }

    async fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        if self.shared.parking.is_cancelled() {
            troubles.push("the service is shutting down".into());
        }
        // Asked now: what was heard last may be long ago. What it says is remembered by `heard`.
        let _ = self.last_event().await;
        troubles.extend(self.shared.store_trouble());
        troubles.extend(self.shared.outside_troubles());
        let board = self.shared.board();
        let releases = board.jobs().filter_map(|job| Some((job.id, job.release_trouble.as_ref()?)));
        troubles.extend(releases.map(|(id, trouble)| format!("job {id}: {trouble}")));
        troubles
    }
}

async fn something_about(live: &mut broadcast::Receiver<LiveEvent>, id: JobId) {
    loop {
        match live.recv().await {
            Ok(LiveEvent::Stored(event)) if event.job == id => return,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            // Nothing comes any more; the time of the caller's next look does.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Service {
    async fn change(&self, id: JobId, event: Event) -> Result<JobView, DoorError> {
        let job = self.shared.change(id, &event).await?;
        self.view(job).await
    }

    async fn create(
        &self,
        spec: JobSpec,
        origin: Origin,
        key: Option<&IdempotencyKey>,
    ) -> Result<Submitted, DoorError> {
        let shared = &self.shared;
        if shared.parking.is_cancelled() {
            return Err(DoorError::ShuttingDown);
        }
        let (queued, queue_max) = {
            let (mut board, scheduling) = (shared.board(), shared.scheduling());
            (board.plan(&shared.node, &scheduling, shared.now()).positions.len() as u64, scheduling.queue_max)
        };
        if queued >= queue_max {
            return Err(DoorError::QueueFull(queued));
        }
        let job = Job::new(JobId::generate(), spec, origin, shared.now());
        match create_patiently(shared, &job, key).await? {
            Created::KeyReused => Err(DoorError::KeyReused),
            Created::Known(job) => Ok(Submitted { view: self.view(*job).await?, is_known: true }),
            Created::New(version) => {
                let job = note_created(shared, Job { version, ..job }).await;
                Ok(Submitted { view: self.view(job).await?, is_known: false })
            }
        }
    }

    /// What is known of a job beside its record.
    async fn view(&self, job: Job) -> Result<JobView, DoorError> {
        let (queue_position, waits_for, mut progress) = {
            let mut board = self.shared.board();
            let plan = board.plan(&self.shared.node, &self.shared.scheduling(), self.shared.now());
            let (position, waits_for) = (plan.positions.get(&job.id).copied(), plan.waits.get(&job.id).copied());
            let progress = board.runs().get(&job.id).and_then(|run| run.progress.clone());
            if job.state.is_ended() { (None, None, progress) } else { (position, waits_for, progress) }
        };
        if progress.is_none() && job.started_at.is_some() {
            progress = self.shared.heard(self.shared.ports.store.progress(job.id).await)?;
        }
        let prediction = match job.spec.kind {
            Kind::Migrate if !job.state.is_ended() => predict(&job.spec, &job.passes, self.shared.now()),
            _ => None,
        };
        Ok(JobView { job, progress, queue_position, waits_for, prediction })
    }

    /// The specification of a job for what failed in an ended one.
    fn retry_of(&self, job: &Job) -> Result<JobSpec, DoorError> {
        let refuse = |why: &str| Err(DoorError::NotNow(why.into()));
        if !job.state.is_ended() {
            return refuse("the job has not ended");
        }
        if job.spec.kind == Kind::Backup {
            // Half a backup would look like a whole one.
            return refuse(
                "a backup is made as a whole; start it anew, and what is in the repository is not read again",
            );
        }
        let Some(last) = job.passes.last() else {
            return refuse("no pass of the job went to its end; start it anew as a whole");
        };
        if last.figures.faults == 0 {
            return refuse("nothing failed in the last pass of the job");
        }
        if latest_report(&self.shared.layout.reports(job.id)).is_none_or(|(number, _)| number != last.number) {
            return refuse("the report of the job is gone, and with it the names of what failed");
        }
        let mut spec = JobSpec { retry_of: Some(job.id), ..(*job.spec).clone() };
        if spec.lacks_secrets() {
            return Err(DoorError::BadSpec(vec![
                "the secrets of the job were wiped when it ended; start it anew, with them".into(),
            ]));
        }
        if spec.kind == Kind::Migrate {
            // One pass over a few entries; how it is verified stays as it was.
            spec.options.verify = Some(spec.verify());
            spec.kind = Kind::Copy;
            spec.migrate = MigratePlan::default();
            spec.options.max_delete = None;
        }
        spec.schedule.start_after = None;
        spec.schedule.deadline = None;
        let problems = validate(&spec, &self.shared.known);
        if problems.is_empty() { Ok(spec) } else { Err(DoorError::BadSpec(problems)) }
    }
}

/// A creation whose answer was lost may have taken place.
async fn create_patiently(shared: &Shared, job: &Job, key: Option<&IdempotencyKey>) -> Result<Created, StoreError> {
    let patience_ends = Instant::now() + LIMITS.door_patience;
    let mut failures = 0;
    loop {
        let error = match shared.heard(shared.ports.store.create(job, key).await) {
            Err(error @ StoreError::Unavailable(_)) if Instant::now() < patience_ends => error,
            answer => return answer,
        };
        failures += 1;
        debug!(error = chain(&error), "a new job waits for the store");
        sleep(pause(LIMITS.retry_pause, LIMITS.door_patience, failures)).await;
        if let Ok(Some(created)) = shared.read(job.id).await {
            return Ok(Created::New(created.version));
        }
    }
}

/// Tells everybody of a new job. It is durable already: a failure here costs an event, not the job.
async fn note_created(shared: &Arc<Shared>, job: Job) -> Job {
    let request_id = job.origin.request_id.as_deref().unwrap_or_default();
    info!(job_id = %job.id, request_id, state = job.state.name().as_str(), "a job was taken");
    let message = format!("{} asked for by {}", job.spec.kind.as_str(), job.origin.requester);
    let state = job.state.name();
    let event = JobEvent { at: job.created_at, kind: EventKind::Created, message, state };
    let job = match shared.heard(shared.ports.store.save(&job, &[event]).await) {
        Ok(version) => Job { version, ..job },
        Err(error) => {
            debug!(error = chain(&error), "the event of the making was not stored");
            job
        }
    };
    shared.board().note(&job);
    shared.events_wake.notify_one();
    shared.queue_wake.notify_one();
    job
}
