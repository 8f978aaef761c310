//! What doors, runners and the tasks behind the service have in common: above all the one way of changing a job.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, error, info, info_span};

use super::board::Board;
use super::schedules::Schedules;
use super::totals::Totals;
use crate::door::{DoorError, LiveEvent};
use crate::id::{JobId, NodeName};
use crate::limits::{LIMITS, pause};
use crate::machine::{Action, Applied, Event, IllegalEvent, apply};
use crate::model::Job;
use crate::ports::{Delivery, StoreError};
use crate::settings::{Layout, Ports, Retention, Scheduling, Settings};
use crate::spec::Kind;
use crate::validate::Known;

/// Says what is not as it should be.
pub(crate) type Watch = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// Parts of the process that jobs know nothing of, and whose troubles are the service's.
#[derive(Default)]
struct Watched(Vec<Watch>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} watched", self.0.len())
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) ports: Ports,
    pub(crate) node: NodeName,
    pub(crate) lease: Duration,
    pub(crate) known: Known,
    pub(crate) layout: Layout,
    scheduling: RwLock<Scheduling>,
    retention: RwLock<Retention>,
    board: Mutex<Board>,
    totals: Mutex<Totals>,
    pub(crate) schedules: Schedules,
    /// What the store said when it was last asked, if that was a failure.
    store_trouble: Mutex<Option<String>>,
    watched: RwLock<Watched>,
    pub(crate) live: broadcast::Sender<LiveEvent>,
    pub(crate) queue_wake: Notify,
    pub(crate) events_wake: Notify,
    pub(crate) tell_wake: Notify,
    pub(crate) retention_wake: Notify,
    /// The service is shutting down: nothing begins any more, runners park their jobs.
    pub(crate) parking: CancellationToken,
    /// No runner is left: everything else ends.
    pub(crate) ended: CancellationToken,
    pub(crate) runners: TaskTracker,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(ports: Ports, settings: Settings) -> Self {
        let Settings { node, state_path, lease, known, scheduling, retention, schedules } = settings;
        Self {
            schedules: Schedules::new(schedules, ports.clock.now()),
            ports,
            node,
            lease,
            known,
            layout: Layout::new(&state_path),
            scheduling: RwLock::new(scheduling),
            retention: RwLock::new(retention),
            board: Mutex::default(),
            totals: Mutex::default(),
            store_trouble: Mutex::default(),
            watched: RwLock::default(),
            live: broadcast::Sender::new(LIMITS.live_events),
            queue_wake: Notify::new(),
            events_wake: Notify::new(),
            tell_wake: Notify::new(),
            retention_wake: Notify::new(),
            parking: CancellationToken::new(),
            ended: CancellationToken::new(),
            runners: TaskTracker::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// Never held over an await. What a panic left behind is as good as before: each change is one assignment.
    pub(crate) fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn scheduling(&self) -> Scheduling {
        self.scheduling.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn retention(&self) -> Retention {
        self.retention.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn reload(&self, scheduling: Scheduling, retention: Retention) {
        *self.scheduling.write().unwrap_or_else(PoisonError::into_inner) = scheduling;
        *self.retention.write().unwrap_or_else(PoisonError::into_inner) = retention;
        let mut board = self.board();
        board.forget_plan();
        // The bandwidth that holds where a job names none may be another one now.
        board.runs().values().for_each(|run| run.handle.wake.notify_one());
        self.queue_wake.notify_one();
        self.retention_wake.notify_one();
    }

    /// Remembers whether the store answers. Logged when that changes, not each time.
    pub(crate) fn heard<T>(&self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        let trouble = match &answer {
            Err(error @ (StoreError::Unavailable(_) | StoreError::Failed { .. })) => Some(chain(error)),
            _ => None,
        };
        let mut known = self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*known, &trouble) {
            (None, Some(trouble)) => error!(trouble, "the job store is in trouble"),
            (Some(_), None) => info!("the job store answers again"),
            _ => {}
        }
        *known = trouble;
        answer
    }

    pub(crate) fn store_trouble(&self) -> Option<String> {
        self.store_trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn watch(&self, watch: Watch) {
        self.watched.write().unwrap_or_else(PoisonError::into_inner).0.push(watch);
    }

    pub(crate) fn outside_troubles(&self) -> Vec<String> {
        let watched = self.watched.read().unwrap_or_else(PoisonError::into_inner);
        watched.0.iter().flat_map(|troubles| troubles()).collect()
    }

    pub(crate) async fn read(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        let job = self.heard(self.ports.store.get(id).await)?;
        if let Some(job) = &job {
            self.board().note(job);
        }
        Ok(job)
    }

    /// Changes a job for a door: reads it, applies the event, saves it, and wakes who must act. Durable on return.
    pub(crate) async fn change(&self, id: JobId, event: &Event) -> Result<Job, DoorError> {
        let patience_ends = Instant::now() + LIMITS.door_patience;
        let (mut conflicts, mut failures) = (0, 0);
        loop {
            match self.try_change(id, event).await {
                Err(DoorError::Store(StoreError::Conflict)) if conflicts < LIMITS.conflicts_max => conflicts += 1,
                Err(DoorError::Store(StoreError::Unavailable(_))) if Instant::now() < patience_ends => {
                    failures += 1;
                    sleep(pause(LIMITS.retry_pause, LIMITS.door_patience, failures)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn try_change(&self, id: JobId, event: &Event) -> Result<Job, DoorError> {
        let before = self.read(id).await?.ok_or(DoorError::NoSuchJob(id))?;
        let mut job = before.clone();
        let applied =
            apply(&mut job, event.clone(), self.now()).map_err(|illegal| refusal(&before, event, &illegal))?;
        if is_nothing_new(&before, &job, &applied) {
            return Ok(before);
        }
        let job = self.save(&before, job, &applied).instrument(job_span(&before)).await?;
        if let Some(run) = self.board().runs().get(&id) {
            run.handle.wake.notify_one();
        }
        self.queue_wake.notify_one();
        Ok(job)
    }

    /// Saves a changed job with its events, and tells everybody in this process. To be called in the job's span.
    pub(crate) async fn save(&self, before: &Job, mut job: Job, applied: &Applied) -> Result<Job, StoreError> {
        let store = &self.ports.store;
        let tells = applied.actions.contains(&Action::Tell);
        if tells && self.ports.notifier.wants(&job) {
            // Before the job ends, or a crash in between would leave nobody told. It is due only once the job has ended.
            let due = Delivery { next_try_at: Some(job.updated_at), ..Delivery::default() };
            self.heard(store.set_delivery(job.id, &due).await)?;
        }
        job.version = self.heard(store.save(&job, &applied.events).await)?;
        self.board().note(&job);
        if job.state != before.state {
            info!(state = job.state.name().as_str(), "the job changed its state");
        }
        if !applied.events.is_empty() {
            self.events_wake.notify_one();
        }
        if tells {
            self.tell_wake.notify_one();
        }
        Ok(job)
    }
}

/// In words for whoever asked.
fn refusal(job: &Job, event: &Event, illegal: &IllegalEvent) -> DoorError {
    let state = job.state.name().as_str();
    DoorError::NotNow(match event {
        Event::CutoverAsked if job.spec.kind != Kind::Migrate => {
            format!("only a migration has a cutover, and this is a job of kind {}", job.spec.kind.as_str())
        }
        Event::CutoverAsked => format!("it is too late for a cutover: the job is {state}"),
        Event::ResumeAsked if job.state.is_ended() => format!("the job is {state} and cannot go on"),
        Event::ResumeAsked => "the job is about to end and cannot go on".into(),
        Event::LimitsSet(_) => format!("the job is {state} and has no speed any more"),
        _ => illegal.to_string(),
    })
}

/// Nothing to save: the event had happened already.
pub(crate) fn is_nothing_new(before: &Job, after: &Job, applied: &Applied) -> bool {
    let mut after = after.clone();
    after.updated_at = before.updated_at;
    applied.events.is_empty() && *before == after
}

/// What every line of the log about a job carries.
pub(crate) fn job_span(job: &Job) -> Span {
    info_span!("job", job_id = %job.id, request_id = job.origin.request_id.as_deref().unwrap_or_default())
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
