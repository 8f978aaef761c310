//! `backup check` and `backup prune`.

use backup::directory::{CheckOptions as ExportCheckOptions, Context as ExportContext, DataShare, Export, ListedState};
use backup::restic::{PruneOptions, Repository};
use copy::{CompareReport, Limits, Monitor, Records, StopToken, Throttle};
use job::Keep;
use job::documents::RepositorySummary;
use work::upkeep::{self, Kept};

use super::scratch::Scratch;
use super::{Attended, Context, Show, attended, tell_repository};
use crate::args::backup::{CheckArgs, PruneArgs};
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
            Opened::Restic(repository) => Ok(upkeep::check_repository(&repository, args.read_data, monitor, stop)?),
            Opened::Directory(export) => check_export(&export, args, monitor, stop),
        })?;
    let exit = Exit::of_comparison(&report, signal);
    tell_repository(cx, "backup check", summary, exit, args.output.json)
}

fn check_export(export: &Export, args: &CheckArgs, monitor: &dyn Monitor, stop: &StopToken) -> Result<Kept, CliError> {
    let named = args.ids.iter().map(|id| backup_id(id)).collect::<Result<Vec<_>, _>>()?;
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
    Ok(upkeep::check_export(export, &context, named, &options)?)
}

pub fn prune(cx: &Context<'_>, args: &PruneArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    let keep = keep(&args.keep);
    if plan.format == job::Format::Directory {
        refuse_filter(&args.of)?;
        if !keep.is_all() {
            let text = "`--keep-...` is for restic repositories: a directory does not say what it is a backup of; \
                        `backup delete` removes those that you name";
            return Err(CliError::Usage(text.into()));
        }
    }
    let show = Show::of(&args.output);
    let Attended { done: (report, summary), signal, .. } =
        attended(cx, &show, |monitor, stop| match open(&plan, Missing::Refuse, stop)? {
            Opened::Restic(repository) => prune_restic(cx, &repository, args, keep, monitor, stop),
            Opened::Directory(export) => prune_export(&export, args, monitor, stop),
        })?;
    let exit = Exit::of_comparison(&report, signal);
    tell_repository(cx, "backup prune", summary, exit, args.output.json)
}

fn prune_restic(
    cx: &Context<'_>,
    repository: &Repository,
    args: &PruneArgs,
    keep: Keep,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<Kept, CliError> {
    if !args.dry_run {
        let options =
            PruneOptions { max_unused_percent: u64::from(args.max_unused), instant_delete: args.instant_delete };
        return Ok(upkeep::prune_repository(repository, &filter(&args.of), keep, options, monitor, stop)?);
    }
    let judged = repository.judge_each_share(&filter(&args.of), &upkeep::retention(keep), jiff::Timestamp::now())?;
    let gone: Vec<_> = judged.iter().filter(|one| !one.is_kept).collect();
    if args.output.json {
        for one in &gone {
            cx.output.event("would_remove", &Backup::from(&one.snapshot));
        }
    } else if !args.output.quiet {
        for line in judged_lines(&judged) {
            cx.output.line(&line);
        }
    }
    let report = CompareReport::empty();
    let mut summary = RepositorySummary::new(&report);
    summary.removed_backups = gone.len() as u64;
    summary.kept_backups = (judged.len() - gone.len()) as u64;
    summary.findings = vec!["dry run, nothing was changed".to_owned()];
    Ok((report, summary))
}

/// Takes away what deletions left that did not come to their end.
fn prune_export(export: &Export, args: &PruneArgs, monitor: &dyn Monitor, stop: &StopToken) -> Result<Kept, CliError> {
    if !args.dry_run {
        let (scratch, throttle) = (Scratch::new()?, Throttle::default());
        let context = ExportContext { monitor, stop, throttle: &throttle, scratch: scratch.path() };
        return Ok(upkeep::prune_export(export, &context, &Limits::default())?);
    }
    let listed = export.list()?;
    let report = CompareReport::empty();
    let mut summary = RepositorySummary::new(&report);
    let rest = listed.iter().filter(|one| one.state.is_rest());
    summary.findings = rest.map(|one| format!("would remove what is left of `{}`", one.id)).collect();
    summary.kept_backups = listed.iter().filter(|one| one.state == ListedState::Complete).count() as u64;
    Ok((report, summary))
}
