//! Tells those who want to know that a job has ended, until they took it or it is given up.

use std::sync::Arc;

use tokio::select;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument as _, debug, warn};

use super::shared::{Shared, chain, job_span};
use crate::limits::{LIMITS, pause};
use crate::model::Job;
use crate::ports::{Delivery, NotifyError, StoreError};

pub(super) async fn deliver(shared: Arc<Shared>) {
    loop {
        let is_more = match round(&shared).await {
            Ok(count) => count == LIMITS.tells as usize,
            Err(error) => {
                debug!(error = chain(&error), "deliveries wait for the store");
                false
            }
        };
        if is_more && !shared.ended.is_cancelled() {
            continue;
        }
        select! {
            () = shared.tell_wake.notified() => {}
            () = sleep(LIMITS.tell_interval) => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

/// Tries everything that is due, side by side. Answers how many there were.
async fn round(shared: &Arc<Shared>) -> Result<usize, StoreError> {
    let due = shared.heard(shared.ports.store.undelivered(shared.now(), LIMITS.tells).await)?;
    let count = due.len();
    let mut tries = JoinSet::new();
    for (job, delivery) in due {
        let shared = shared.clone();
        let span = job_span(&job);
        let tell = async move {
            let delivery = try_once(&shared, &job, delivery).await;
            shared.heard(shared.ports.store.set_delivery(job.id, &delivery).await)
        };
        tries.spawn(tell.instrument(span));
    }
    let mut answer = Ok(count);
    while let Some(tried) = tries.join_next().await {
        match tried {
            // Removed meanwhile: nobody is to be told any more.
            Ok(Ok(()) | Err(StoreError::NotFound)) => {}
            Ok(Err(error)) => answer = Err(error),
            Err(panic) => warn!(error = chain(&panic), "telling broke off"),
        }
    }
    answer
}

async fn try_once(shared: &Shared, job: &Job, before: Delivery) -> Delivery {
    if !shared.ports.notifier.wants(job) {
        return Delivery { next_try_at: None, ..before };
    }
    let tries = before.tries.saturating_add(1);
    let told = timeout(LIMITS.tell_time, shared.ports.notifier.tell(job)).await;
    let error = match told {
        Ok(Ok(())) => return Delivery { tries, next_try_at: None, last_error: None },
        Ok(Err(error)) => error,
        Err(_) => NotifyError { message: "no answer in time".into(), is_final: false, retry_after: None },
    };
    shared.totals().notify_failed();
    let is_last = error.is_final || (error.retry_after.is_none() && tries >= LIMITS.tells_max);
    warn!(tries, is_last, error = chain(&error), "cannot tell that the job has ended");
    let rest = error.retry_after.unwrap_or_else(|| pause(LIMITS.tell_pause, LIMITS.tell_pause_max, tries));
    let next = shared.now().checked_add(rest).unwrap_or(jiff::Timestamp::MAX);
    Delivery { tries, next_try_at: (!is_last).then_some(next), last_error: Some(error.message) }
}
