//! Begins jobs when the queue says so, takes up what was left behind, and ends what waits past its deadline.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::select;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, debug, error, warn};

use super::board::{Run, RunHandle};
use super::shared::{Shared, chain, job_span};
use crate::limits::LIMITS;
use crate::machine::Event;
use crate::model::{Job, State, StopReason};
use crate::ports::StoreError;
use crate::runner::{Begin, Runner};

/// Reads all jobs that have not ended, and takes up those that nobody carries out any more.
pub(super) async fn refresh(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let known_before = shared.board().ids();
    let jobs = shared.heard(shared.ports.store.unfinished().await)?;
    shared.board().note_all(&jobs, &known_before);
    let left_behind = shared.board().left_behind(&shared.node);
    for job in left_behind {
        claim(shared, &job, Begin::Recovered).await?;
    }
    Ok(())
}

pub(super) async fn schedule(shared: Arc<Shared>) {
    let mut refresh_at = Instant::now() + LIMITS.refresh_interval;
    while !shared.parking.is_cancelled() {
        let answer = round(&shared, &mut refresh_at).await;
        let rest = match answer {
            Ok(next_at) => {
                let until_next = next_at.map(|at| duration_until(shared.now(), at));
                let until_refresh = refresh_at.saturating_duration_since(Instant::now());
                until_next.map_or(until_refresh, |next| next.min(until_refresh))
            }
            Err(error) => {
                debug!(error = chain(&error), "the queue stands still");
                LIMITS.retry_pause
            }
        };
        select! {
            () = shared.queue_wake.notified() => {}
            () = sleep(rest) => {}
            () = shared.parking.cancelled() => {}
        }
    }
}

/// Answers when something is due by itself.
async fn round(shared: &Arc<Shared>, refresh_at: &mut Instant) -> Result<Option<Timestamp>, StoreError> {
    if *refresh_at <= Instant::now() {
        refresh(shared).await?;
        *refresh_at = Instant::now() + LIMITS.refresh_interval;
    }
    let next_deadline = end_overdue(shared).await?;
    loop {
        let plan = shared.board().plan(&shared.node, &shared.scheduling(), shared.now()).clone();
        let mut is_stale = false;
        for id in plan.admit {
            if shared.parking.is_cancelled() {
                return Ok(None);
            }
            let Some(job) = shared.board().job(id) else { continue };
            if !claim(shared, &job, Begin::Slot).await? {
                // Somebody was faster. What they made of it may leave room for another job.
                let now = shared.read(id).await?;
                is_stale |= now.as_ref() != Some(&*job);
            }
        }
        if !is_stale {
            return Ok(plan.next_at.into_iter().chain(next_deadline).min());
        }
    }
}

/// Stops waiting jobs whose deadline has passed. Runners look after their own.
async fn end_overdue(shared: &Arc<Shared>) -> Result<Option<Timestamp>, StoreError> {
    let now = shared.now();
    let mut next = None;
    let mut overdue = Vec::new();
    {
        let board = shared.board();
        let waits = |job: &&Arc<Job>| job.state == State::Accepted && !board.runs().contains_key(&job.id);
        for job in board.jobs().filter(waits) {
            match job.spec.schedule.deadline {
                Some(deadline) if deadline <= now => overdue.push(job.id),
                Some(deadline) => next = next.into_iter().chain([deadline]).min(),
                None => {}
            }
        }
    }
    for id in overdue {
        match shared.change(id, &Event::StopAsked(StopReason::Deadline)).await {
            Ok(_) | Err(crate::DoorError::NoSuchJob(_) | crate::DoorError::NotNow(_)) => {}
            Err(crate::DoorError::Store(error)) => return Err(error),
            Err(error) => warn!(job_id = %id, error = chain(&error), "cannot end a job past its deadline"),
        }
    }
    Ok(next)
}

/// Makes the job this node's and begins to carry it out; answers whether it was to be had.
async fn claim(shared: &Arc<Shared>, job: &Job, begin: Begin) -> Result<bool, StoreError> {
    let since = Instant::now();
    let claim = shared.ports.store.claim(job.id, job.version, &shared.node, shared.lease).await;
    let Some(job) = shared.heard(claim)? else { return Ok(false) };
    spawn(shared, job, begin, since);
    Ok(true)
}

fn spawn(shared: &Arc<Shared>, job: Job, begin: Begin, since: Instant) {
    let id = job.id;
    let generation = job.generation;
    let handle = RunHandle::default();
    let span = job_span(&job);
    {
        let mut board = shared.board();
        board.note(&job);
        board.begin_run(id, Run { generation, handle: handle.clone(), since, task: None, progress: None });
    }
    let runner = Runner::new(shared.clone(), job, handle);
    // A task of its own, so that its panic ends one run and not the list of runs.
    let run = AbortOnDropHandle::new(tokio::spawn(runner.run(begin).instrument(span.clone())));
    let shared_after = shared.clone();
    let watched = async move {
        if let Err(panic) = run.await {
            error!(error = chain(&panic), "the runner broke off; the job will be taken up again");
        }
        shared_after.board().end_run(id);
        shared_after.queue_wake.notify_one();
    };
    let task = shared.runners.spawn(watched.instrument(span));
    if let Some(run) = shared.board().run_mut(id) {
        run.task = Some(task.abort_handle());
    }
}

pub(super) fn duration_until(now: Timestamp, at: Timestamp) -> std::time::Duration {
    // A little later than early: a round before its time would only come again.
    let millisecond = std::time::Duration::from_millis(1);
    std::time::Duration::try_from(at.duration_since(now)).unwrap_or_default().saturating_add(millisecond)
}
