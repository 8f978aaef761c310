//! `backup check` and `backup prune`.

use backup::directory::{
    CheckOptions as ExportCheckOptions, Context as ExportContext, DataShare, Export, ListedState, Proof,
};
use backup::restic::{CheckOptions, PruneOptions, Repository, Retention};
use copy::{CompareReport, Ending, Limits, Monitor, Records, StopToken, Throttle};
use job::Keep;
use job::documents::RepositorySummary;

use super::scratch::Scratch;
use super::{Attended, Context, Show, attended, tell_repository};
use crate::args::backup::{CheckArgs, KeepArgs, PruneArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::job_spec::keep;
use crate::repository::open::{Missing, Opened, backup_id, filter, open, refuse_filter};
use crate::repository::repository_plan;
use crate::ui::backup::{Backup, judged_lines};

pub fn check(cx: &Context<'_>, args: &CheckArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    if plan.format == job::Format::Restic && !args.ids.is_empty() {
        let text = "a restic repository is checked as a whole: its backups share their data";
        return Err(CliError::Usage(text.into()));
    }
    let show = Show::of(&args.output);
    let Attended { done: (report, summary), signal, .. } =
        attended(cx, &show, |monitor, stop| match open(&plan, Missing::Refuse, stop)? {
            Opened::Restic(repository) => check_restic(&repository, args, monitor, stop),
            Opened::Directory(export) => check_export(&export, args, monitor, stop),
        })?;
    let exit = Exit::of_comparison(&report, signal);
    tell_repository(cx, "backup check", summary, exit, args.output.json)
}

fn check_restic(
    repository: &Repository,
    args: &CheckArgs,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<(CompareReport, RepositorySummary), CliError> {
    let options = CheckOptions { read_percent: f64::from(args.read_data) };
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

fn check_export(
    export: &Export,
    args: &CheckArgs,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<(CompareReport, RepositorySummary), CliError> {
    let listed = export.list()?;
    let mut findings = Vec::new();
    let ids = if args.ids.is_empty() {
        for one in listed.iter().filter(|one| one.state != ListedState::Complete) {
            findings.push(format!("`{}` is no complete backup: {}", one.id, one.state.as_str()));
        }
        listed.iter().filter(|one| one.state == ListedState::Complete).map(|one| one.id.clone()).collect()
    } else {
        args.ids.iter().map(|id| backup_id(id)).collect::<Result<Vec<_>, _>>()?
    };
    let options = ExportCheckOptions {
        // Another part each time; which one matters to nobody.
        data: DataShare {
            percent: f64::from(args.read_data),
            from_percent: (jiff::Timestamp::now().as_microsecond() % 100) as f64,
        },
        records: Records::None,
        limits: Limits::default(),
    };
    let (scratch, throttle) = (Scratch::new()?, Throttle::default());
    let context = ExportContext { monitor, stop, throttle: &throttle, scratch: scratch.path() };
    let mut total = CompareReport::empty();
    for id in &ids {
        let checked = export.check(&context, id, &options)?;
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

pub fn prune(cx: &Context<'_>, args: &PruneArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    let retention = retention(&args.keep);
    if plan.format == job::Format::Directory {
        refuse_filter(&args.of)?;
        if !retention.is_empty() {
            let text = "`--keep-...` is for restic repositories: a directory does not say what it is a backup of; \
                        `backup delete` removes those that you name";
            return Err(CliError::Usage(text.into()));
        }
    }
    let show = Show::of(&args.output);
    let Attended { done: (report, summary), signal, .. } =
        attended(cx, &show, |monitor, stop| match open(&plan, Missing::Refuse, stop)? {
            Opened::Restic(repository) => prune_restic(cx, &repository, args, &retention, monitor, stop),
            Opened::Directory(export) => prune_export(&export, args, monitor, stop),
        })?;
    let exit = Exit::of_comparison(&report, signal);
    tell_repository(cx, "backup prune", summary, exit, args.output.json)
}

fn prune_restic(
    cx: &Context<'_>,
    repository: &Repository,
    args: &PruneArgs,
    retention: &Retention,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<(CompareReport, RepositorySummary), CliError> {
    let judged = repository.judge_each_share(&filter(&args.of), retention, jiff::Timestamp::now())?;
    let gone: Vec<_> = judged.iter().filter(|one| !one.is_kept).collect();
    let mut report = CompareReport::empty();
    let mut removed_bytes = 0;
    let mut findings = Vec::new();
    if args.dry_run {
        if args.output.json {
            for one in &gone {
                cx.output.event("would_remove", &Backup::from(&one.snapshot));
            }
        } else if !args.output.quiet {
            for line in judged_lines(&judged) {
                cx.output.line(&line);
            }
        }
        findings.push("dry run, nothing was changed".to_owned());
    } else {
        let ids: Vec<_> = gone.iter().map(|one| one.snapshot.id).collect();
        repository.delete_snapshots(&ids)?;
        let options =
            PruneOptions { max_unused_percent: u64::from(args.max_unused), instant_delete: args.instant_delete };
        let pruned = repository.prune(options, monitor, stop)?;
        report.ending = pruned.ending;
        report.elapsed = pruned.elapsed;
        removed_bytes = pruned.freed_bytes;
    }
    let mut summary = RepositorySummary::new(&report);
    summary.removed_backups = gone.len() as u64;
    summary.kept_backups = (judged.len() - gone.len()) as u64;
    summary.removed_bytes = removed_bytes;
    summary.findings = findings;
    Ok((report, summary))
}

/// Takes away what deletions left that did not come to their end.
fn prune_export(
    export: &Export,
    args: &PruneArgs,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<(CompareReport, RepositorySummary), CliError> {
    let (scratch, throttle) = (Scratch::new()?, Throttle::default());
    let context = ExportContext { monitor, stop, throttle: &throttle, scratch: scratch.path() };
    let listed = export.list()?;
    let mut total = CompareReport::empty();
    let mut removed = 0;
    let mut findings = Vec::new();
    let is_rest = |state| matches!(state, ListedState::BeingDeleted | ListedState::Leftover);
    for one in listed.iter().filter(|one| is_rest(one.state)) {
        if args.dry_run {
            findings.push(format!("would remove what is left of `{}`", one.id));
            continue;
        }
        let deleted = export.delete(&context, &one.id, &Limits::default())?;
        removed += u64::from(deleted.gone);
        total.add(deleted.report.unwrap_or_else(CompareReport::empty));
        if !deleted.gone {
            break;
        }
    }
    let mut summary = RepositorySummary::new(&total);
    summary.removed_backups = removed;
    summary.kept_backups = listed.iter().filter(|one| one.state == ListedState::Complete).count() as u64;
    summary.findings = findings;
    Ok((total, summary))
}

fn retention(args: &KeepArgs) -> Retention {
    let Keep { last, hourly, daily, weekly, monthly, yearly } = keep(args);
    Retention { last, hourly, daily, weekly, monthly, yearly, ..Retention::default() }
}
