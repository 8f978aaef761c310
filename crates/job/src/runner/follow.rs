//! Shows each state of a job to whoever follows it, in order, before what belongs to the state begins.
//!
//! Work itself does not wait for that: whoever follows may be away for hours while bytes can flow.

use std::sync::Arc;

use tokio::select;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, warn};

use super::{LeaseLost, Runner};
use crate::limits::{LIMITS, pause};
use crate::machine::Event;
use crate::model::{Failure, FailureCode, Job, State, Step};
use crate::ports::FollowError;
use crate::service::Shared;

/// One state on its way.
#[derive(Debug)]
pub(super) struct Following {
    task: AbortOnDropHandle<()>,
    /// Comes where the owner refuses; `None` once that is decided.
    refused: Option<oneshot::Receiver<String>>,
}

impl Runner {
    /// Until it is shown, or something else became of the job.
    pub(super) async fn show_granting(&mut self) -> Result<(), LeaseLost> {
        let mut failures = 0;
        while self.job.state == State::Granting {
            match follow_once(&self.shared, &self.job).await {
                Ok(()) => return Ok(()),
                Err(FollowError::Refused(why)) => {
                    let failure = Failure::new(Step::Access, FailureCode::NotWanted, why);
                    return self.record(Event::StepFailed(failure)).await;
                }
                Err(FollowError::Away(why)) => {
                    failures += 1;
                    self.rest(failures, &why).await;
                    self.look_around().await?;
                }
            }
        }
        Ok(())
    }

    /// Begins to show that the job works.
    pub(super) fn show_working(&mut self) {
        let (shared, job) = (self.shared.clone(), self.job.clone());
        let (tell, refused) = oneshot::channel();
        let task = async move {
            let mut failures = 0;
            loop {
                match follow_once(&shared, &job).await {
                    Ok(()) => return,
                    Err(FollowError::Refused(why)) => {
                        // Whoever waits may have ended meanwhile.
                        let _ = tell.send(why);
                        return;
                    }
                    Err(FollowError::Away(why)) => {
                        failures += 1;
                        warn!(why, "cannot show that the job works; it goes on meanwhile");
                        sleep(pause(LIMITS.retry_pause, LIMITS.follow_pause_max, failures)).await;
                    }
                }
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(task.in_current_span()));
        self.following = Some(Following { task, refused: Some(refused) });
    }

    /// Why the owner does not want the work any more, as soon as he says so. Never comes otherwise.
    pub(super) async fn refused(following: &mut Option<Following>) -> String {
        let Some(refused) = following.as_mut().and_then(|following| following.refused.as_mut()) else {
            return std::future::pending().await;
        };
        let answer = refused.await;
        if let Some(following) = following {
            following.refused = None;
        }
        match answer {
            Ok(why) => why,
            Err(_) => std::future::pending().await,
        }
    }

    /// Before anything is given back. `false`: the service ends before it could be shown; that is made up for when the
    /// job is taken up again.
    pub(super) async fn show_releasing(&mut self) -> Result<bool, LeaseLost> {
        if let Some(mut following) = self.following.take() {
            // States are shown in order; but one that cannot be shown must not keep the next one for ever.
            let shown = timeout(LIMITS.follow_patience, &mut following.task).await;
            if shown.is_err() {
                warn!("that the job worked was never shown");
            }
        }
        let mut failures = 0;
        while let State::Releasing { .. } = self.job.state {
            match follow_once(&self.shared, &self.job).await {
                Ok(()) | Err(FollowError::Refused(_)) => return Ok(true),
                Err(FollowError::Away(why)) => {
                    if self.shared.parking.is_cancelled() {
                        return Ok(false);
                    }
                    failures += 1;
                    self.rest(failures, &why).await;
                }
            }
            if self.handle.lost.is_cancelled() {
                return Err(LeaseLost);
            }
        }
        Ok(true)
    }

    async fn rest(&self, failures: u32, why: &str) {
        warn!(why, state = self.job.state.name().as_str(), "cannot show how far the job is");
        select! {
            () = sleep(pause(LIMITS.retry_pause, LIMITS.follow_pause_max, failures)) => {}
            () = self.shared.parking.cancelled() => {}
            () = self.handle.lost.cancelled() => {}
            () = self.handle.wake.notified() => {}
        }
    }
}

async fn follow_once(shared: &Arc<Shared>, job: &Job) -> Result<(), FollowError> {
    match timeout(LIMITS.follow_time, shared.ports.follower.follow(job)).await {
        Ok(answer) => answer,
        Err(_) => Err(FollowError::Away("no answer in time".into())),
    }
}
