//! `backup restore`: makes DEST what a backup says.

use std::ffi::OsStr;
use std::io::IsTerminal as _;
use std::path::{Component, Path};

use copy::tree::{DestTree, SourceTree};
use copy::{CopyContext, CopyOptions, CopyReport, Limits, Monitor, Records, RelPath, Sparse, StopToken, Throttle};
use job::documents::CopySummary;

use super::{Attended, Context, Show, attended};
use crate::args::backup::RestoreArgs;
use crate::commands::copy::make_state_dir;
use crate::commands::{conclude, progress_style};
use crate::error::CliError;
use crate::exit::Exit;
use crate::paths::{Reach, is_inside};
use crate::plan::{self, CopyPlan, shown};
use crate::repository::open::{Missing, Opened, backup_id, filter, open, refuse_filter};
use crate::repository::{RepositoryPlan, repository_plan};
use crate::trees;
use crate::ui::console::Volume;
use crate::ui::json::CommandSummary;
use crate::ui::monitor::Stdout;
use crate::ui::progress::Style;
use crate::ui::summary as ui_summary;

pub fn run(cx: &Context<'_>, args: &RestoreArgs) -> Result<Exit, CliError> {
    let repository = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    if repository.format == job::Format::Directory {
        refuse_filter(&args.of)?;
    }
    let stdout = match (args.output.json, args.dry_run) {
        (true, true) => Stdout::EventsAndEntries,
        (true, false) => Stdout::Events,
        (false, true) if !args.output.quiet => Stdout::List,
        (false, _) => Stdout::Nothing,
    };
    let style = match progress_style(&args.output) {
        // A list on the same terminal runs across a bar.
        Style::Bar if stdout == Stdout::List && std::io::stdout().is_terminal() => Style::None,
        style => style,
    };
    let mut plan = copy_plan(cx, args, &repository)?;
    refuse_inside(&plan, &repository)?;
    let (state_dir, warning) = make_state_dir(&plan, Reach::Whole)?;
    plan.options.state_dir = state_dir;
    let show = Show { style, stdout, report: plan.report.as_deref() };
    let Attended { done: report, signal, warned, report: report_file } = attended(cx, &show, |monitor, stop| {
        if let Some(warning) = &warning {
            monitor.warning(warning);
        }
        match open(&repository, Missing::Refuse, stop)? {
            Opened::Restic(opened) => {
                let snapshot = opened.find_named(&args.snapshot, &filter(&args.of))?;
                let source = opened.open_tree(&snapshot, &RelPath::root(), stop)?;
                restore(cx, &plan, &source, monitor, stop)
            }
            Opened::Directory(export) => restore(cx, &plan, &export.tree(&backup_id(&args.snapshot)?)?, monitor, stop),
        }
    })?;
    let exit = Exit::of_copy(&report, signal);
    let summary = CopySummary::new(&report, args.dry_run);
    match cx.console.volume {
        Volume::Normal => {
            for line in ui_summary::copy(&summary, &warned, cx.console.palette) {
                cx.console.line(&line);
            }
        }
        Volume::Quiet | Volume::Json if exit != Exit::Done => {
            if let Some(text) = ui_summary::copy_failure(&summary) {
                cx.console.error(&text);
            }
        }
        Volume::Quiet | Volume::Json => {}
    }
    let json = CommandSummary::new("backup restore", summary, exit);
    if args.output.json {
        cx.output.event("summary", &json);
    }
    conclude(exit, report_file.map_or(Ok(()), |file| file.finish(&json)), cx.console)
}

/// The backup is the source of a copy, with all of the engine's rules. The destination is opened last of all that can
/// be refused: a command that fails leaves no directory behind.
fn restore(
    cx: &Context<'_>,
    plan: &CopyPlan,
    source: &dyn SourceTree,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<CopyReport, CliError> {
    if plan.options.dry_run && !plan.dest.exists() {
        cx.console.note(&format!("DEST `{}` would be made", shown(&plan.dest)));
    }
    let dest: Box<dyn DestTree> = if plan.options.dry_run {
        trees::open_dry_dest(&plan.dest)?
    } else {
        Box::new(trees::open_dest(&plan.dest, &[])?)
    };
    let limits = &plan.options.limits;
    let throttle = Throttle::new(limits.bandwidth_bytes_per_second, limits.operations_per_second);
    let context = CopyContext { source, dest: &*dest, monitor, stop, throttle: &throttle };
    Ok(copy::copy_tree(&context, &plan.options)?)
}

fn copy_plan(cx: &Context<'_>, args: &RestoreArgs, repository: &RepositoryPlan) -> Result<CopyPlan, CliError> {
    let paths = args.path.iter().map(|path| below(path)).collect::<Result<Vec<_>, _>>()?;
    let mut filter = plan::filter(&args.selection)?;
    if !paths.is_empty() {
        filter = filter.only(paths);
    }
    let is_snapshot = repository.format == job::Format::Restic;
    let options = CopyOptions {
        filter,
        compare: plan::compare(&args.policy),
        delete: plan::delete(args.clean, args.max_delete),
        on_fault: plan::on_fault(args.policy.on_fault),
        on_loss: plan::on_loss(args.policy.on_loss),
        devices: plan::devices(args.selection.devices),
        // A snapshot knows of zeros, and not of holes.
        sparse: if is_snapshot { Sparse::Detect } else { Sparse::Auto },
        verify: plan::verify(args.verify),
        one_file_system: args.selection.one_file_system,
        dry_run: args.dry_run,
        records: match plan::records(&args.output) {
            Records::None if args.dry_run && !args.output.quiet => Records::Changes,
            records => records,
        },
        limits: Limits { operations_per_second: args.ops_limit.map(Into::into), ..plan::limits(&args.speed) },
        ..CopyOptions::default()
    };
    Ok(CopyPlan {
        // What stands in for SOURCE where paths are compared.
        source: repository.location.directory().unwrap_or(Path::new("")).into(),
        dest: args.dest.clone(),
        lanes: Vec::new(),
        state_dir: cx.environment.place_of_state(args.state_dir.clone(), args.no_state || args.dry_run),
        report: args.output.report.clone(),
        options,
    })
}

/// A path of the backup, as it is typed: with or without a slash before it.
fn below(path: &Path) -> Result<RelPath, CliError> {
    let mut names: Vec<&OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(CliError::Usage(format!("`--path {}` leads out of the backup", shown(path))));
            }
        }
    }
    if names.is_empty() {
        return Err(CliError::Usage(format!("`--path {}` names the whole backup; leave it out", shown(path))));
    }
    Ok(RelPath::from_components(names.into_iter().map(OsStr::as_encoded_bytes)))
}

fn refuse_inside(plan: &CopyPlan, repository: &RepositoryPlan) -> Result<(), CliError> {
    let inside = |path: &Path, tree| Err(CliError::InsideTree { what: "report", path: path.into(), tree });
    if let Some(place) = repository.location.directory() {
        if is_inside(place, &plan.dest, Reach::Whole) {
            return Err(CliError::RepositoryInside { path: place.into(), tree: "DEST" });
        }
        if is_inside(&plan.dest, place, Reach::Whole) {
            return Err(CliError::DestInRepository { path: plan.dest.clone() });
        }
        if let Some(report) = plan.report.as_deref().filter(|report| is_inside(report, place, Reach::Whole)) {
            return inside(report, "the repository");
        }
    }
    match plan.report.as_deref() {
        Some(report) if is_inside(report, &plan.dest, Reach::Whole) || report.starts_with(&plan.dest) => {
            inside(report, "DEST")
        }
        _ => Ok(()),
    }
}
