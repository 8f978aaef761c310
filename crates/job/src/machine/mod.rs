//! The one place where a job changes: [`apply`] is pure and total, knows no clock and reaches nothing.
//!
//! Every unhappy path goes through [`State::Releasing`] with what follows decided, so that giving back is one path.
//! Whoever carries out the [`Action`]s saves the job first; a job found in a state after a crash shows by it what was
//! begun, and [`Event::Recovered`] gives that back before the job queues again.

mod ending;

use jiff::Timestamp;

use crate::limits::{LIMITS, pause};
use crate::model::{
    CutoverState, Failure, FailureCode, Hold, Intent, Job, Next, Outcome, PassKind, State, StateName, Step, StopReason,
    WorkResult,
};
use crate::ports::{EventKind, JobEvent};
use crate::spec::{Kind, RateLimits};

/// Something that happened, or that somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It has a slot. `holds` is what it is going to take, the workspace first.
    Started {
        holds: Vec<Hold>,
    },
    /// Access was given; the hold as it is to be remembered.
    AccessTaken(Hold),
    /// Every access that the pass needs is there.
    AccessReady,
    /// Both trees stand in the worker.
    Mounted,
    /// `pass` is the one that was begun: a cutover may have been asked for since.
    PassEnded {
        pass: PassKind,
        result: WorkResult,
    },
    StepFailed(Failure),
    /// The worker is gone without an answer.
    WorkerLost {
        why: String,
        /// Files that this worker had copied: a job that gets on is not given up.
        files_copied: u64,
    },
    Warned(String),
    StopAsked(StopReason),
    ResumeAsked,
    CutoverAsked,
    LimitsSet(RateLimits),
    Released(Hold),
    ReleaseFailed {
        hold: Hold,
        why: String,
    },
    /// The first event after whoever ran the job is gone.
    Recovered,
}

impl Event {
    fn word(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::AccessTaken(_) => "access taken",
            Self::AccessReady => "access ready",
            Self::Mounted => "mounted",
            Self::PassEnded { .. } => "pass ended",
            Self::StepFailed(_) => "step failed",
            Self::WorkerLost { .. } => "worker lost",
            Self::Warned(_) => "warned",
            Self::StopAsked(_) => "stop asked",
            Self::ResumeAsked => "resume asked",
            Self::CutoverAsked => "cutover asked",
            Self::LimitsSet(_) => "limits set",
            Self::Released(_) => "released",
            Self::ReleaseFailed { .. } => "release failed",
            Self::Recovered => "recovered",
        }
    }
}

/// What is to be done now that the job is as it is, and was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    TakeAccess(Hold),
    StartWork,
    StopWork(StopReason),
    ChangeLimits,
    Release(Hold),
    /// The outcome, to whoever wants to know.
    Tell,
}

/// What an event led to, beside the changed job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    pub actions: Vec<Action>,
    /// To be kept with the job.
    pub events: Vec<JobEvent>,
}

/// The event cannot happen to the job as it is; the job was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{event}` cannot happen to a job that is {}", .state.as_str())]
pub struct IllegalEvent {
    pub state: StateName,
    pub event: &'static str,
}

/// Changes `job` as `event` demands.
pub fn apply(job: &mut Job, event: Event, now: Timestamp) -> Result<Applied, IllegalEvent> {
    use State::{Accepted, Ended, Granting, Mounting, Releasing, Working};

    let before = job.state.clone();
    let illegal = IllegalEvent { state: before.name(), event: event.word() };
    let mut cx = Change { job, now, actions: Vec::new(), notes: Vec::new() };
    match (&before, event) {
        (Accepted, Event::Started { holds }) if cx.job.intent == Intent::Run => cx.start(holds),
        (Granting | Releasing { .. }, Event::AccessTaken(hold)) => cx.remember(hold),
        (Granting, Event::AccessReady) => {
            cx.job.state = Mounting;
            cx.actions.push(Action::StartWork);
        }
        (Mounting, Event::Mounted) => cx.job.state = Working,
        (Mounting | Working, Event::PassEnded { pass, result }) if ending::is_pass_of(cx.job, pass) => {
            cx.end_pass(pass, &result);
        }
        (Granting | Mounting | Working, Event::StepFailed(failure)) => {
            let next = cx.job.stop_reason().and_then(ended_by_stop);
            cx.release_all(Next::End(next.unwrap_or(Outcome::Failed { failure })));
        }
        (Mounting | Working, Event::WorkerLost { why, files_copied }) => cx.lose_worker(&why, files_copied),
        (Accepted | Granting | Mounting | Working | Releasing { .. }, Event::Warned(message)) => {
            cx.notes.push((EventKind::Warning, message));
        }
        // What has ended stays as it is, and what does not run needs no end of the service to stop.
        (Ended { .. }, Event::StopAsked(_))
        | (Accepted, Event::StopAsked(StopReason::Shutdown | StopReason::LostLease)) => {}
        (_, Event::StopAsked(reason)) => cx.stop(reason),
        (Accepted | Granting | Mounting | Working | Releasing { next: Next::Wait }, Event::ResumeAsked)
            if !matches!(cx.job.stop_reason(), Some(StopReason::Deadline | StopReason::Cancel)) =>
        {
            cx.resume();
        }
        (Accepted | Granting | Mounting | Working | Releasing { next: Next::Wait }, Event::CutoverAsked)
            if cx.job.spec.kind == Kind::Migrate =>
        {
            cx.cut_over("asked for");
        }
        (Accepted | Granting | Mounting | Working | Releasing { .. }, Event::LimitsSet(limits)) => cx.limit(limits),
        (Releasing { .. }, Event::Released(hold)) => cx.give_back(&hold),
        (Releasing { .. }, Event::ReleaseFailed { hold, why }) => cx.fail_release(&hold, &why),
        (_, Event::Recovered) => cx.recover(),
        _ => return Err(illegal),
    }
    Ok(cx.finish(&before))
}

/// The outcome of a job that was stopped for good.
fn ended_by_stop(reason: StopReason) -> Option<Outcome> {
    match reason {
        StopReason::Cancel => Some(Outcome::Cancelled),
        StopReason::Deadline => Some(Outcome::Failed {
            failure: Failure::new(
                Step::Deadline,
                FailureCode::DeadlinePassed,
                "the job did not end before its deadline",
            ),
        }),
        StopReason::Shutdown | StopReason::LostLease | StopReason::Pause => None,
    }
}

/// What follows for a job that stops, or whose worker is gone.
fn next_after(intent: Intent) -> Next {
    match intent {
        Intent::Run => Next::Wait,
        Intent::Stop(reason) => ended_by_stop(reason).map_or(Next::Wait, Next::End),
    }
}

/// One event's work on a job.
struct Change<'a> {
    job: &'a mut Job,
    now: Timestamp,
    actions: Vec<Action>,
    notes: Vec<(EventKind, String)>,
}

impl Change<'_> {
    fn start(&mut self, holds: Vec<Hold>) {
        self.job.state = State::Granting;
        self.job.not_before = None;
        self.job.started_at.get_or_insert(self.now);
        let to_take = holds.iter().filter(|hold| !matches!(hold, Hold::Workspace { .. }));
        self.actions.extend(to_take.cloned().map(Action::TakeAccess));
        self.job.holds = holds;
    }

    /// Also while everything is given back: the taking was under way when the stop came.
    fn remember(&mut self, taken: Hold) {
        if let Some(hold) = self.job.holds.iter_mut().find(|hold| hold.is_same(&taken)) {
            *hold = taken;
        }
    }

    fn end_pass(&mut self, pass: PassKind, result: &WorkResult) {
        if let Some(message) = ending::remember_pass(self.job, pass, result, self.now) {
            self.notes.push((EventKind::PassEnded, message));
        }
        if let Some(outcome) = self.job.stop_reason().and_then(ended_by_stop) {
            return self.release_all(Next::End(outcome));
        }
        let next = ending::after_pass(self.job, pass, result, self.now);
        if next == Next::Wait && self.job.cutover == CutoverState::NotAsked && ending::cuts_over(self.job) {
            self.cut_over("the plan's time has come");
        }
        self.release_all(next);
    }

    fn lose_worker(&mut self, why: &str, files_copied: u64) {
        self.notes.push((EventKind::WorkerLost, format!("the worker was lost: {why}")));
        if self.job.intent != Intent::Run {
            // It was to end anyway, maybe by force.
            return self.release_all(next_after(self.job.intent));
        }
        let in_a_row = if files_copied > 0 { 1 } else { self.job.workers_lost + 1 };
        self.job.workers_lost = in_a_row;
        if in_a_row > LIMITS.workers_lost_max {
            let message = format!("{in_a_row} workers in a row were lost, the last: {why}");
            let failure = Failure::new(Step::Copy, FailureCode::WorkerLost, message);
            return self.release_all(Next::End(Outcome::Failed { failure }));
        }
        self.job.not_before = Some(later(self.now, pause(LIMITS.worker_lost_pause, LIMITS.pause_max, in_a_row)));
        self.release_all(Next::Wait);
    }

    fn stop(&mut self, reason: StopReason) {
        if self.job.stop_reason() >= Some(reason) {
            return;
        }
        self.job.intent = Intent::Stop(reason);
        self.notes.push((EventKind::StopAsked, format!("to stop: {}", reason.as_str())));
        let next = next_after(self.job.intent);
        match &self.job.state {
            State::Accepted if next == Next::Wait => {}
            State::Releasing { next: Next::End(_) } | State::Ended { .. } => {}
            State::Mounting | State::Working => self.actions.push(Action::StopWork(reason)),
            State::Releasing { next: Next::Wait } => self.job.state = State::Releasing { next },
            State::Accepted | State::Granting => self.release_all(next),
        }
    }

    fn resume(&mut self) {
        if self.job.intent == Intent::Stop(StopReason::Pause) {
            self.job.intent = Intent::Run;
            self.notes.push((EventKind::Resumed, "goes on".into()));
        }
    }

    fn cut_over(&mut self, why: &str) {
        if self.job.cutover == CutoverState::NotAsked {
            self.job.cutover = CutoverState::Asked;
            self.job.not_before = None;
            self.notes.push((EventKind::CutoverAsked, format!("the next pass is the last one: {why}")));
        }
    }

    fn limit(&mut self, limits: RateLimits) {
        if self.job.limits != limits {
            self.job.limits = limits;
            self.notes.push((EventKind::LimitsChanged, "the bounds of its speed were changed".into()));
            if matches!(self.job.state, State::Mounting | State::Working) {
                self.actions.push(Action::ChangeLimits);
            }
        }
    }

    /// Decides what follows, and begins to give back.
    fn release_all(&mut self, next: Next) {
        if next == Next::End(Outcome::Completed) {
            // The cutover took place: the source stays as it is, or it would change behind the copy.
            self.job.holds.retain(|hold| !matches!(hold, Hold::ReadOnly { .. }));
        }
        self.job.state = State::Releasing { next };
        self.go_on_releasing();
    }

    fn give_back(&mut self, released: &Hold) {
        self.job.holds.retain(|hold| !hold.is_same(released));
        self.job.release_trouble = None;
        self.go_on_releasing();
    }

    fn fail_release(&mut self, hold: &Hold, why: &str) {
        let trouble = format!("{} cannot be given back: {why}", hold.what());
        if self.job.release_trouble.as_ref() != Some(&trouble) {
            self.notes.push((EventKind::Warning, trouble.clone()));
            self.job.release_trouble = Some(trouble);
        }
        self.actions.push(Action::Release(hold.clone()));
    }

    /// In the order in which it was taken: the workspace first, so that nothing is mounted any more when access goes. With
    /// nothing left the job settles.
    fn go_on_releasing(&mut self) {
        let State::Releasing { next } = &self.job.state else { return };
        if let Some(hold) = self.job.holds.first() {
            return self.actions.push(Action::Release(hold.clone()));
        }
        match next.clone() {
            Next::Wait => {
                self.job.state = State::Accepted;
                self.forget_passing_stops();
            }
            Next::End(outcome) => {
                self.job.state = State::Ended { outcome };
                self.job.ended_at = Some(self.now);
                self.job.not_before = None;
                self.actions.push(Action::Tell);
            }
        }
    }

    /// Reasons that ended with the process, or the ownership, that they were about.
    fn forget_passing_stops(&mut self) {
        if matches!(self.job.stop_reason(), Some(StopReason::Shutdown | StopReason::LostLease)) {
            self.job.intent = Intent::Run;
        }
    }

    fn recover(&mut self) {
        if self.job.state.is_ended() {
            return self.actions.push(Action::Tell);
        }
        self.forget_passing_stops();
        match &self.job.state {
            State::Granting | State::Mounting | State::Working => {
                self.notes.push((EventKind::Recovered, "taken up again after its runner was gone".into()));
                self.release_all(next_after(self.job.intent));
            }
            State::Releasing { .. } => self.go_on_releasing(),
            State::Accepted | State::Ended { .. } => {}
        }
    }

    fn finish(self, before: &State) -> Applied {
        let Self { job, now, actions, mut notes } = self;
        if job.state != *before {
            let kind = if job.state.is_ended() { EventKind::Ended } else { EventKind::StateChanged };
            notes.push((kind, state_message(job)));
        }
        job.updated_at = now;
        let state = job.state.name();
        let events = notes.into_iter().map(|(kind, message)| JobEvent { at: now, kind, message, state }).collect();
        Applied { actions, events }
    }
}

fn state_message(job: &Job) -> String {
    match &job.state {
        State::Accepted => "waits".into(),
        State::Granting => "access is being given".into(),
        State::Mounting => "the worker was started".into(),
        State::Working => "works".into(),
        State::Releasing { .. } => "everything is being given back".into(),
        State::Ended { outcome: Outcome::Completed } => "completed".into(),
        State::Ended { outcome: Outcome::Cancelled } => "cancelled".into(),
        State::Ended { outcome: Outcome::Failed { failure } } => format!("failed: {failure}"),
    }
}

fn later(now: Timestamp, by: std::time::Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
