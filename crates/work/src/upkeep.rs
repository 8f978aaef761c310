//! Checks and prunes repositories of backups, for jobs and for the command line.

use backup::directory::{
    BackupId, CheckOptions as ExportCheckOptions, Context, DirectoryError, Export, ListedState, Proof,
};
use backup::restic::{CheckOptions, PruneOptions, Repository, RepositoryError, Retention, SnapshotFilter};
use copy::{CompareReport, Ending, Limits, Monitor, StopToken};
use job::Keep;
use job::documents::RepositorySummary;

/// What is known when it is done.
pub type Kept = (CompareReport, RepositorySummary);

/// The rules of a job, or of a command line, in the repository's words.
pub fn retention(keep: Keep) -> Retention {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = keep;
    Retention { last, hourly, daily, weekly, monthly, yearly, ..Retention::default() }
}

/// Checks backups in directories: those that are named, or else all, and then what is no complete backup is told.
pub fn check_export(
    export: &Export,
    cx: &Context<'_>,
    named: Vec<BackupId>,
    options: &ExportCheckOptions,
) -> Result<Kept, DirectoryError> {
    let mut total = CompareReport::empty();
    let mut findings = Vec::new();
    let mut ids = named;
    if ids.is_empty() {
        for one in export.list()? {
            match one.state {
                ListedState::Complete => ids.push(one.id),
                state => findings.push(format!("`{}` is no complete backup: {}", one.id, state.as_str())),
            }
        }
    }
    for id in &ids {
        let checked = export.check(cx, id, options)?;
        match &checked.proof {
            Proof::Manifest { .. } => {}
            Proof::None => findings.push(format!(
                "`{id}` has no manifest: another program made it; it can be read, and nothing be proven"
            )),
            Proof::Damaged(why) => findings.push(format!("the manifest of `{id}` is of no use: {why}")),
        }
        let is_stopped = matches!(checked.report.ending, Ending::Stopped(_));
        total.add(checked.report);
        if is_stopped {
            break;
        }
    }
    let mut summary = RepositorySummary::new(&total);
    summary.kept_backups = ids.len() as u64;
    summary.findings = findings;
    Ok((total, summary))
}

/// Takes away what deletions left that did not come to their end. What is partial may still be gone on with.
pub fn prune_export(export: &Export, cx: &Context<'_>, limits: &Limits) -> Result<Kept, DirectoryError> {
    let listed = export.list()?;
    let mut total = CompareReport::empty();
    let mut removed = 0;
    for one in listed.iter().filter(|one| one.state.is_rest()) {
        let deleted = export.delete(cx, &one.id, limits)?;
        removed += u64::from(deleted.gone);
        total.add(deleted.report.unwrap_or_else(CompareReport::empty));
        if !deleted.gone {
            break;
        }
    }
    let mut summary = RepositorySummary::new(&total);
    summary.removed_backups = removed;
    summary.kept_backups = listed.iter().filter(|one| one.state == ListedState::Complete).count() as u64;
    Ok((total, summary))
}

/// Checks a restic repository, and reads so much of its data.
pub fn check_repository(
    repository: &Repository,
    read_percent: u8,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<Kept, RepositoryError> {
    let options = CheckOptions { read_percent: f64::from(read_percent) };
    let checked = repository.check(options, monitor, stop)?;
    let mut report = CompareReport::empty();
    report.ending = checked.ending;
    report.elapsed = checked.elapsed;
    report.counters.faults = checked.damages;
    let mut summary = RepositorySummary::new(&report);
    summary.kept_backups = checked.snapshots;
    summary.findings = checked.findings.into_iter().map(|finding| finding.text).collect();
    Ok((report, summary))
}

/// Removes the snapshots that match and that no rule keeps, and then what none needs any more.
pub fn prune_repository(
    repository: &Repository,
    filter: &SnapshotFilter,
    keep: Keep,
    options: PruneOptions,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<Kept, RepositoryError> {
    let judged = repository.judge_each_share(filter, &retention(keep), jiff::Timestamp::now())?;
    let gone: Vec<_> = judged.iter().filter(|one| !one.is_kept).map(|one| one.snapshot.id).collect();
    repository.delete_snapshots(&gone)?;
    let pruned = repository.prune(options, monitor, stop)?;
    let mut report = CompareReport::empty();
    report.ending = pruned.ending;
    report.elapsed = pruned.elapsed;
    let mut summary = RepositorySummary::new(&report);
    summary.removed_backups = gone.len() as u64;
    summary.kept_backups = (judged.len() - gone.len()) as u64;
    summary.removed_bytes = pruned.freed_bytes;
    Ok((report, summary))
}
