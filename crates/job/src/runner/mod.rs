//! Carries out one job that this node owns, until it waits again or has ended.
//!
//! Level-triggered: each step looks at what the job is now, whoever made it so. What happened is recorded by
//! [`Runner::record`], which returns when it is durable; nothing is done before the state that says so is.

mod follow;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
pub(crate) use work::latest_report;

use tokio::select;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::id::JobId;
use crate::limits::{LIMITS, pause};
use crate::machine::{Event, apply};
use crate::model::{Failure, FailureCode, Hold, Intent, Job, PassKind, State, Step, StopReason};
use crate::ports::StoreError;
use crate::service::{RunHandle, Shared, chain, is_nothing_new};

/// Why the job was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The queue gave it a slot.
    Slot,
    /// Whoever carried it out is gone.
    Recovered,
}

/// Another node owns the job now, or may: nothing of it is to be touched any more.
#[derive(Debug)]
struct LeaseLost;

enum RecordError {
    LeaseLost,
    /// It does not answer; `Shared::heard` spoke of it.
    StoreAway,
}

pub(crate) struct Runner {
    shared: Arc<Shared>,
    /// As it was saved or read last.
    job: Job,
    handle: RunHandle,
    /// The one that was begun. A cutover that is asked for meanwhile is about the next one.
    pass: PassKind,
    /// Work is being shown to whoever follows the job.
    following: Option<follow::Following>,
    /// What happened and is not durable yet, the oldest first.
    unsaved: VecDeque<Event>,
    /// The store did not answer; it is left alone until then.
    store_rests_until: Option<Instant>,
    store_failures: u32,
}

impl Runner {
    pub(crate) fn new(shared: Arc<Shared>, job: Job, handle: RunHandle) -> Self {
        let pass = job.pass_kind();
        Self {
            shared,
            job,
            handle,
            pass,
            following: None,
            unsaved: VecDeque::new(),
            store_rests_until: None,
            store_failures: 0,
        }
    }

    pub(crate) async fn run(mut self, begin: Begin) {
        let ended = match self.carry_out(begin).await {
            Ok(()) => self.disown().await,
            Err(lost) => Err(lost),
        };
        if ended.is_err() {
            warn!("the job was left to another owner");
        }
    }

    async fn carry_out(&mut self, begin: Begin) -> Result<(), LeaseLost> {
        match begin {
            Begin::Slot => self.begin().await?,
            Begin::Recovered => self.record(Event::Recovered).await?,
        }
        loop {
            match &self.job.state {
                State::Accepted | State::Ended { .. } => return Ok(()),
                State::Granting => self.grant().await?,
                State::Mounting | State::Working => {
                    self.work().await?;
                    if matches!(self.job.state, State::Mounting | State::Working) {
                        // Cannot be, and must not become a circle.
                        let failure = Failure::new(Step::Copy, FailureCode::Internal, "the work has no ending");
                        self.record(Event::StepFailed(failure)).await?;
                    }
                }
                State::Releasing { .. } => {
                    if !self.release().await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Writes down what is going to be taken.
    async fn begin(&mut self) -> Result<(), LeaseLost> {
        let shared = self.shared.clone();
        let mut begun = None;
        self.record_what(|job| {
            if job.state != State::Accepted || job.intent != Intent::Run || shared.parking.is_cancelled() {
                return None;
            }
            let pass = *begun.insert(job.pass_kind());
            let mut holds = vec![Hold::Workspace { path: shared.layout.workspace(job.id) }];
            holds.extend(shared.ports.access.needed(job, pass));
            Some(Event::Started { holds })
        })
        .await?;
        self.pass = begun.unwrap_or(self.pass);
        Ok(())
    }

    /// Takes access, one after the other, until all is there or a stop came.
    async fn grant(&mut self) -> Result<(), LeaseLost> {
        self.show_granting().await?;
        let to_take: Vec<_> =
            self.job.holds.iter().filter(|hold| !matches!(hold, Hold::Workspace { .. })).cloned().collect();
        for hold in to_take {
            self.look_around().await?;
            if self.job.state != State::Granting {
                return Ok(());
            }
            let taking = self.shared.ports.access.take(&self.job, &hold);
            // Not broken off by a stop: half a taking could take effect after it was given back.
            let event = match timeout(LIMITS.access_time, taking).await {
                Ok(Ok(taken)) => Event::AccessTaken(taken),
                Ok(Err(error)) => Event::StepFailed(access_failure(&hold, &error.message)),
                Err(_) => Event::StepFailed(access_failure(&hold, "no answer in time")),
            };
            self.record(event).await?;
        }
        self.look_around().await?;
        if self.job.state == State::Granting {
            self.record(Event::AccessReady).await?;
        }
        Ok(())
    }

    /// Between two steps: what others made of the job, its deadline, the end of the service.
    async fn look_around(&mut self) -> Result<(), LeaseLost> {
        match self.reload().await {
            Err(RecordError::LeaseLost) => return Err(LeaseLost),
            // A stop that cannot be read cannot have been acknowledged long ago; the next write finds it.
            Err(RecordError::StoreAway) | Ok(()) => {}
        }
        if self.shared.parking.is_cancelled() {
            self.record(Event::StopAsked(StopReason::Shutdown)).await?;
        }
        if self.is_overdue() {
            self.record(Event::StopAsked(StopReason::Deadline)).await?;
        }
        Ok(())
    }

    fn is_overdue(&self) -> bool {
        self.job.spec.schedule.deadline.is_some_and(|deadline| deadline <= self.shared.now())
    }

    /// Gives back what was taken, the workspace first. Answers `false` when the service ends before that is done.
    async fn release(&mut self) -> Result<bool, LeaseLost> {
        if !self.show_releasing().await? {
            return Ok(false);
        }
        let mut failures = 0;
        while let (State::Releasing { .. }, Some(hold)) = (&self.job.state, self.job.holds.first().cloned()) {
            let Err(why) = self.give_back(&hold).await else {
                failures = 0;
                self.record(Event::Released(hold)).await?;
                continue;
            };
            warn!(hold = hold.what(), why, "cannot be given back");
            self.record(Event::ReleaseFailed { hold, why }).await?;
            // Its slot may be free for another job now.
            self.shared.queue_wake.notify_one();
            if self.shared.parking.is_cancelled() {
                return Ok(false);
            }
            failures += 1;
            select! {
                () = sleep(pause(LIMITS.retry_pause, LIMITS.pause_max, failures)) => {}
                () = self.shared.parking.cancelled() => {}
                () = self.handle.lost.cancelled() => {}
            }
        }
        Ok(true)
    }

    async fn give_back(&self, hold: &Hold) -> Result<(), String> {
        let ports = &self.shared.ports;
        let (time, giving) = match hold {
            Hold::Workspace { path } => (
                LIMITS.release_time,
                timeout(LIMITS.release_time, ports.executor.release(path))
                    .await
                    .map(|ended| ended.map_err(|error| chain(&error))),
            ),
            Hold::Access { .. } | Hold::ReadOnly { .. } => (
                LIMITS.access_time,
                timeout(LIMITS.access_time, ports.access.give_back(&self.job, hold))
                    .await
                    .map(|given| given.map_err(|error| error.message)),
            ),
        };
        giving.unwrap_or_else(|_| Err(format!("no answer within {} s", time.as_secs())))
    }

    /// Records what happened. Returns when it is durable, or turned out to be of no meaning any more.
    async fn record(&mut self, event: Event) -> Result<(), LeaseLost> {
        self.record_what(|_| Some(event.clone())).await
    }

    async fn record_what(&mut self, mut event: impl FnMut(&Job) -> Option<Event> + Send) -> Result<(), LeaseLost> {
        loop {
            match self.try_record(&mut event).await {
                Ok(()) => return Ok(()),
                Err(RecordError::LeaseLost) => return Err(LeaseLost),
                Err(RecordError::StoreAway) => self.store_rest().await?,
            }
        }
    }

    /// One try against the store; as many as needed against others who change the same job.
    async fn try_record(&mut self, mut event: impl FnMut(&Job) -> Option<Event>) -> Result<(), RecordError> {
        let answer = self.try_save(&mut event).await;
        if let Err(RecordError::StoreAway) = &answer {
            self.store_failures += 1;
            let rest = pause(LIMITS.retry_pause, Duration::from_secs(10), self.store_failures);
            self.store_rests_until = Some(Instant::now() + rest);
        } else {
            self.store_failures = 0;
            self.store_rests_until = None;
        }
        answer
    }

    async fn try_save(&mut self, event: &mut impl FnMut(&Job) -> Option<Event>) -> Result<(), RecordError> {
        loop {
            if self.handle.lost.is_cancelled() {
                return Err(RecordError::LeaseLost);
            }
            let Some(event) = event(&self.job) else { return Ok(()) };
            let mut job = self.job.clone();
            let applied = match apply(&mut job, event, self.shared.now()) {
                Ok(applied) => applied,
                Err(illegal) => {
                    // Somebody else was faster (a stop, or this very event whose answer was lost): the job is looked at
                    // anew, and what it is now decides.
                    debug!(error = chain(&illegal), "of no meaning any more");
                    return Ok(());
                }
            };
            if is_nothing_new(&self.job, &job, &applied) {
                return Ok(());
            }
            match self.shared.save(&self.job, job, &applied).await {
                Ok(saved) => {
                    self.job = saved;
                    return Ok(());
                }
                Err(StoreError::Conflict) => self.reload().await?,
                Err(_) => return Err(RecordError::StoreAway),
            }
        }
    }

    async fn reload(&mut self) -> Result<(), RecordError> {
        let job = self.shared.read(self.job.id).await.map_err(|_| RecordError::StoreAway)?;
        match job.filter(|job| job.generation == self.job.generation) {
            Some(job) => {
                self.job = job;
                Ok(())
            }
            None => Err(RecordError::LeaseLost),
        }
    }

    async fn store_rest(&self) -> Result<(), LeaseLost> {
        let until = self.store_rests_until.unwrap_or_else(Instant::now);
        select! {
            () = sleep_until(until) => Ok(()),
            () = self.handle.lost.cancelled() => Err(LeaseLost),
        }
    }

    /// Anybody may claim the job now.
    async fn disown(&mut self) -> Result<(), LeaseLost> {
        let (id, generation): (JobId, _) = (self.job.id, self.job.generation);
        let mut failures = 0;
        loop {
            match self.shared.heard(self.shared.ports.store.disown(id, generation).await) {
                Ok(()) | Err(StoreError::NotFound | StoreError::Conflict) => {
                    self.shared.board().note_disowned(id, generation);
                    return Ok(());
                }
                // The lease runs out by itself.
                Err(_) if self.shared.parking.is_cancelled() => return Ok(()),
                Err(_) => failures += 1,
            }
            select! {
                () = sleep(pause(LIMITS.retry_pause, LIMITS.pause_max, failures)) => {}
                () = self.handle.lost.cancelled() => return Err(LeaseLost),
            }
        }
    }
}

fn access_failure(hold: &Hold, why: &str) -> Failure {
    match hold {
        Hold::ReadOnly { hook } => {
            Failure::new(Step::Access, FailureCode::HookFailed, format!("the hook `{hook}` failed: {why}"))
        }
        Hold::Access { .. } | Hold::Workspace { .. } => {
            Failure::new(Step::Access, FailureCode::AccessDenied, format!("{} was not given: {why}", hold.what()))
        }
    }
}
