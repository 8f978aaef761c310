//! Removes what is old: reports by age and by their size together, ended jobs, events.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::select;
use tokio::time::sleep;
use tracing::{info, warn};

use super::schedules;
use super::shared::{Shared, chain};
use crate::id::JobId;
use crate::limits::LIMITS;
use crate::model::{Job, StateName};
use crate::ports::{JobFilter, Page, StoreError};
use crate::settings::{Layout, Retention};

pub(super) async fn keep_tidy(shared: Arc<Shared>) {
    loop {
        let retention = shared.retention();
        if let Err(error) = round(&shared, &retention).await {
            warn!(error = chain(&error), "what is old could not be removed");
        }
        select! {
            () = sleep(retention.interval) => {}
            () = shared.retention_wake.notified() => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

async fn round(shared: &Arc<Shared>, retention: &Retention) -> Result<(), StoreError> {
    let now = shared.now();
    let before = |age: Option<std::time::Duration>| age.and_then(|age| now.checked_sub(age).ok());
    let needed = needed_reports(shared).await?;
    let newest = schedules::newest_jobs(shared).await?;
    let mut ended = Vec::new();
    for (id, ended_at) in ended_jobs(shared).await? {
        let is_needed = needed.contains(&id) || newest.contains(&id);
        if before(retention.job_age_max).is_some_and(|limit| ended_at < limit) && !is_needed {
            remove_job(shared, id).await?;
        } else {
            ended.push((id, ended_at));
        }
    }
    let layout = shared.layout.clone();
    let report_limit = before(retention.report_age_max);
    let bytes_max = retention.report_bytes_max;
    let files = tokio::task::spawn_blocking(move || {
        remove_files(&layout, ended, &needed, report_limit, bytes_max);
    });
    if let Err(panic) = files.await {
        warn!(error = chain(&panic), "removing reports broke off");
    }
    if let Some(limit) = before(retention.event_age_max) {
        shared.heard(shared.ports.store.forget_events(limit).await)?;
    }
    Ok(())
}

/// Jobs whose report another one, that has not ended, works by.
async fn needed_reports(shared: &Shared) -> Result<HashSet<JobId>, StoreError> {
    let unfinished = shared.heard(shared.ports.store.unfinished().await)?;
    Ok(unfinished.iter().filter_map(|job| job.spec.retry_of).collect())
}

/// The one that ended last first.
async fn ended_jobs(shared: &Shared) -> Result<Vec<(JobId, Timestamp)>, StoreError> {
    let states = StateName::ALL.into_iter().filter(|state| state.is_ended()).collect();
    let filter = JobFilter { states, ..JobFilter::default() };
    let mut ended = Vec::new();
    let mut page = Page { after: None, size: LIMITS.job_page };
    loop {
        let jobs: Vec<Job> = shared.heard(shared.ports.store.list(&filter, &page).await)?;
        let Some(last) = jobs.last() else { break };
        page.after = Some(last.id);
        ended.extend(jobs.iter().map(|job| (job.id, job.ended_at.unwrap_or(job.updated_at))));
    }
    ended.sort_unstable_by_key(|(_, ended_at)| std::cmp::Reverse(*ended_at));
    Ok(ended)
}

/// Files first: a directory without its job would never be found again.
pub(super) async fn remove_job(shared: &Shared, id: JobId) -> Result<(), StoreError> {
    let path = shared.layout.job(id);
    let removed = tokio::task::spawn_blocking(move || remove_dir(&path)).await;
    if let Err(error) = removed.map_err(io::Error::other).flatten() {
        let what = "the files of the job cannot be removed".into();
        return Err(StoreError::Failed { what, source: Some(Box::new(error)) });
    }
    shared.heard(shared.ports.store.remove(id).await)
}

/// `ended` from the newest to the oldest: what no longer fits goes.
fn remove_files(
    layout: &Layout,
    ended: Vec<(JobId, Timestamp)>,
    needed: &HashSet<JobId>,
    report_limit: Option<Timestamp>,
    bytes_max: Option<u64>,
) {
    let mut bytes: u64 = 0;
    for (id, ended_at) in ended {
        // What the engine remembers for the next pass is of no use after the last one.
        log_failure(id, remove_dir(&layout.engine(id)));
        let reports = layout.reports(id);
        bytes = bytes.saturating_add(size_of(&reports).unwrap_or(0));
        let is_old = report_limit.is_some_and(|limit| ended_at < limit);
        let is_too_much = bytes_max.is_some_and(|max| bytes > max);
        if (is_old || is_too_much) && !needed.contains(&id) && reports.exists() {
            info!(job_id = %id, "the report is removed");
            log_failure(id, remove_dir(&reports));
        }
    }
}

fn log_failure(id: JobId, removed: io::Result<()>) {
    if let Err(error) = removed {
        warn!(job_id = %id, error = chain(&error), "files of the job cannot be removed");
    }
}

/// Gone is fine.
fn remove_dir(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn size_of(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
