//! One pass of a job: the executor works, and is told what changed meanwhile.
//!
//! The store may be away: work goes on, what happened waits in the runner, and nothing that must be durable first is
//! acted on. Only when the lease cannot be proved any more the worker is stopped.

use std::path::Path;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinError;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, error, warn};

use super::{LeaseLost, RecordError, Runner};
use crate::documents::Progress;
use crate::door::LiveEvent;
use crate::limits::LIMITS;
use crate::machine::Event;
use crate::model::{Failure, FailureCode, State, Step, StopReason, WorkResult};
use crate::ports::{Control, WorkError, WorkEvent, WorkOrder};
use crate::window::control_at;

/// What the loop of a pass woke up for.
enum Next {
    Told(Option<WorkEvent>),
    Ended(Result<Result<WorkResult, WorkError>, JoinError>),
    /// Time to look at the job again.
    Look,
    NotWanted(String),
    Park,
    LeaseLost,
}

/// A pass as it goes on.
struct Pass {
    control: watch::Sender<Control>,
    /// The strongest stop that the worker was told. There is no way back from it within a pass.
    told: Option<StopReason>,
    is_parked: bool,
    progress: Progress,
    progress_stored_at: Option<Instant>,
    looked_at: Instant,
    warnings: u32,
}

impl Runner {
    pub(super) async fn work(&mut self) -> Result<(), LeaseLost> {
        let order = match self.order() {
            Ok(order) => order,
            Err(failure) => return self.record(Event::StepFailed(failure)).await,
        };
        let (control, control_of_worker) = watch::channel(Control::default());
        let (events_of_worker, mut events) = mpsc::channel(LIMITS.work_events);
        let mut pass = Pass {
            control,
            told: None,
            is_parked: false,
            progress: Progress::default(),
            progress_stored_at: None,
            looked_at: Instant::now(),
            warnings: 0,
        };
        self.tell(&mut pass);
        self.shared.totals().worker_started();
        let executor = self.shared.ports.executor.clone();
        // A task of its own: it goes on while this one waits for the store.
        let run = async move { executor.run(order, control_of_worker, events_of_worker).await };
        let mut run = AbortOnDropHandle::new(tokio::spawn(run.in_current_span()));
        let mut is_open = true;
        let ended = loop {
            self.flush().await;
            // Asked before the worker is told: one that is lost in between is seen below.
            let is_lost = self.handle.lost.is_cancelled();
            self.tell(&mut pass);
            let look_at = self.look_at(&pass);
            let next = select! {
                // Stops come before what a worker tells, however much that is, and all of that before its end.
                biased;
                () = self.handle.lost.cancelled(), if !is_lost => Next::LeaseLost,
                () = self.shared.parking.cancelled(), if !pass.is_parked => Next::Park,
                () = self.handle.wake.notified() => Next::Look,
                why = Self::refused(&mut self.following) => Next::NotWanted(why),
                () = sleep_until(look_at) => Next::Look,
                told = events.recv(), if is_open => Next::Told(told),
                ended = &mut run => Next::Ended(ended),
            };
            match next {
                Next::Told(Some(event)) => self.hear(&mut pass, event).await,
                Next::Told(None) => is_open = false,
                Next::Ended(ended) => break ended,
                Next::Look => self.look(&mut pass).await,
                Next::NotWanted(why) => {
                    warn!(why, "nobody wants the work any more");
                    self.unsaved.push_back(Event::Warned(why));
                    self.unsaved.push_back(Event::StopAsked(StopReason::Cancel));
                }
                Next::Park => {
                    pass.is_parked = true;
                    self.unsaved.push_back(Event::StopAsked(StopReason::Shutdown));
                }
                // What `tell` says next.
                Next::LeaseLost => {}
            }
        };
        self.store_progress(&mut pass).await;
        let event = self.ending(&pass, ended);
        self.unsaved.push_back(event);
        while !self.unsaved.is_empty() {
            self.flush().await;
            if self.handle.lost.is_cancelled() {
                return Err(LeaseLost);
            }
            if !self.unsaved.is_empty() {
                self.store_rest().await?;
            }
        }
        Ok(())
    }

    fn order(&self) -> Result<WorkOrder, Failure> {
        let (job, layout) = (&self.job, &self.shared.layout);
        let pass = job.passes_done + 1;
        let retry_report_dir = match job.spec.retry_of {
            None => None,
            Some(earlier) => Some(latest_report(&layout.reports(earlier)).ok_or_else(|| {
                let message =
                    format!("the report of job {earlier}, whose failed entries were to be tried again, is gone");
                Failure::new(Step::Copy, FailureCode::BadSpec, message)
            })?),
        };
        Ok(WorkOrder {
            job: job.id,
            generation: job.generation,
            pass,
            pass_kind: self.pass,
            spec: job.spec.clone(),
            workspace: layout.workspace(job.id),
            state_dir: layout.engine(job.id),
            report_dir: layout.report(job.id, pass),
            retry_report_dir: retry_report_dir.map(|(_, dir)| dir),
        })
    }

    /// Tries to make durable what happened. Finding the lease lost shows in its token.
    async fn flush(&mut self) {
        let rests = self.store_rests_until.is_some_and(|until| until > Instant::now());
        while !rests && !self.handle.lost.is_cancelled() {
            let Some(event) = self.unsaved.front().cloned() else { return };
            match self.try_record(|_| Some(event.clone())).await {
                Ok(()) => {
                    self.unsaved.pop_front();
                    if event == Event::Mounted && self.job.state == State::Working {
                        self.show_working();
                    }
                }
                Err(RecordError::LeaseLost) => self.handle.lost.cancel(),
                Err(RecordError::StoreAway) => return,
            }
        }
    }

    /// Tells the worker what holds now.
    fn tell(&self, pass: &mut Pass) {
        // Only a stop that is durable is told; but the end of the service and a lost lease are so by themselves.
        let stops = [
            self.job.stop_reason(),
            pass.is_parked.then_some(StopReason::Shutdown),
            self.handle.lost.is_cancelled().then_some(StopReason::LostLease),
        ];
        pass.told = stops.into_iter().flatten().chain(pass.told).max();
        let default_bandwidth = self.shared.scheduling().bandwidth_bytes_per_second;
        let control = Control { stop: pass.told, ..control_at(&self.job.limits, default_bandwidth, self.shared.now()) };
        pass.control.send_if_modified(|known| {
            let is_new = *known != control;
            *known = control;
            is_new
        });
    }

    /// When to look at the job even if nothing happens: others may have changed it, a window may have begun, its
    /// deadline may have come, or the store may answer again.
    fn look_at(&self, pass: &Pass) -> Instant {
        let now = Instant::now();
        // From the last look on, however often the worker speaks meanwhile.
        let at = pass.looked_at + LIMITS.reload_interval;
        if self.handle.lost.is_cancelled() {
            return at;
        }
        if !self.unsaved.is_empty() {
            return at.min(self.store_rests_until.unwrap_or(now));
        }
        match self.job.spec.schedule.deadline {
            Some(deadline) if self.job.stop_reason() < Some(StopReason::Deadline) => {
                let left = std::time::Duration::try_from(deadline.duration_since(self.shared.now()));
                at.min(now + left.unwrap_or_default())
            }
            _ => at,
        }
    }

    async fn look(&mut self, pass: &mut Pass) {
        pass.looked_at = Instant::now();
        if self.handle.lost.is_cancelled() {
            return;
        }
        match self.reload().await {
            Err(RecordError::LeaseLost) => self.handle.lost.cancel(),
            // Later, then.
            Err(RecordError::StoreAway) | Ok(()) => {}
        }
        let deadline = Event::StopAsked(StopReason::Deadline);
        if self.is_overdue() && self.job.stop_reason() < Some(StopReason::Deadline) && !self.unsaved.contains(&deadline)
        {
            self.unsaved.push_back(deadline);
        }
    }

    async fn hear(&mut self, pass: &mut Pass, event: WorkEvent) {
        match event {
            WorkEvent::Mounted => self.unsaved.push_back(Event::Mounted),
            WorkEvent::Warning(message) => {
                warn!(message, "the worker warns");
                pass.warnings += 1;
                if pass.warnings <= LIMITS.warnings_per_pass {
                    self.unsaved.push_back(Event::Warned(message));
                }
            }
            WorkEvent::Summary(summary) => self.shared.totals().add_movers(&summary),
            WorkEvent::Progress(progress) => {
                self.shared.totals().add(&pass.progress, &progress);
                pass.progress = *progress.clone();
                if let Some(run) = self.shared.board().run_mut(self.job.id) {
                    run.progress = Some(*progress.clone());
                }
                // Nobody listens: fine.
                let _ = self.shared.live.send(LiveEvent::Progress { job: self.job.id, progress });
                let is_due = pass.progress_stored_at.is_none_or(|at| at.elapsed() >= LIMITS.progress_interval);
                if is_due {
                    self.store_progress(pass).await;
                }
            }
        }
    }

    /// For whoever asks another node. A failure costs nothing: the next look replaces it.
    async fn store_progress(&self, pass: &mut Pass) {
        if self.handle.lost.is_cancelled() || pass.progress == Progress::default() {
            return;
        }
        pass.progress_stored_at = Some(Instant::now());
        let store = &self.shared.ports.store;
        let stored = store.set_progress(self.job.id, self.job.generation, &pass.progress).await;
        if let Err(error) = self.shared.heard(stored) {
            debug!(error = super::chain(&error), "progress was not stored");
        }
    }

    fn ending(&self, pass: &Pass, ended: Result<Result<WorkResult, WorkError>, JoinError>) -> Event {
        let lost = |why: String| {
            self.shared.totals().worker_lost();
            Event::WorkerLost { why, files_copied: pass.progress.copied_files }
        };
        match ended {
            Ok(Ok(result)) => Event::PassEnded { pass: self.pass, result },
            Ok(Err(WorkError::Failed(failure))) => Event::StepFailed(failure),
            Ok(Err(WorkError::Lost(why))) => lost(why),
            Err(panic) => {
                error!(error = super::chain(&panic), "the executor broke off");
                lost("the executor broke off".into())
            }
        }
    }
}

/// The pass with the highest number whose report is there.
pub(crate) fn latest_report(reports: &Path) -> Option<(u32, std::path::PathBuf)> {
    let passes = std::fs::read_dir(reports).ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))
    });
    passes.max()
}
