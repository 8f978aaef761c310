//! `copy`: puts what is in SOURCE into DEST.

use std::io::IsTerminal as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use copy::tree::DestTree;
use copy::{CopyContext, Monitor as _, StopToken, Throttle};
use job::documents::CopySummary;

use super::{conclude, progress_style};
use crate::args::engine::{CopyArgs, OutputArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::paths::Reach;
use crate::plan::{CopyPlan, Environment, StateDir, copy_plan, shown};
use crate::report_file::ReportFile;
use crate::signals::StopSignals;
use crate::trees;
use crate::ui::console::{Console, Volume};
use crate::ui::json::CommandSummary;
use crate::ui::monitor::{RunMonitor, Stdout};
use crate::ui::output::Output;
use crate::ui::progress::{ProgressDisplay, Style};
use crate::ui::summary as ui_summary;

pub fn run(
    args: CopyArgs,
    environment: &Environment,
    console: &Arc<Console>,
    output: &Output,
) -> Result<Exit, CliError> {
    let stdout = stdout(&args.output, args.dry_run);
    let style = match progress_style(&args.output) {
        // A list on the same terminal runs across a bar.
        Style::Bar if stdout == Stdout::List && std::io::stdout().is_terminal() => Style::None,
        style => style,
    };
    let mut plan = copy_plan(args, environment)?;
    let stop = StopToken::new();
    // Before the trees are opened: storage that does not answer hangs there.
    let signals = StopSignals::listen(stop.clone(), Arc::clone(console)).map_err(CliError::Signals)?;
    let source = trees::open_source(&plan.source)?;
    let reach = if plan.options.one_file_system { Reach::OneFileSystem } else { Reach::Whole };
    trees::refuse_new_dest_in_source(&plan.source, &plan.dest, reach)?;
    if let Some(report) = &plan.report {
        trees::refuse_inside("report", report, &plan.source, &plan.dest, reach)?;
    }
    let (state_dir, warning) = make_state_dir(&plan, reach)?;
    plan.options.state_dir = state_dir;
    // The destination comes last of what can be refused: a command that fails should not leave a directory behind.
    let report_file = plan.report.as_deref().map(ReportFile::create).transpose()?;
    let is_new = !plan.dest.exists();
    let dest: Result<Box<dyn DestTree>, _> = if plan.options.dry_run {
        trees::open_dry_dest(&plan.dest)
    } else {
        trees::open_dest(&plan.dest, &plan.lanes).map(|dest| Box::new(dest) as _)
    };
    let dest = match dest {
        Ok(dest) => dest,
        Err(error) => {
            if let Some(file) = report_file {
                file.abandon();
            }
            return Err(error);
        }
    };
    if is_new && plan.options.dry_run {
        console.note(&format!("DEST `{}` would be made", shown(&plan.dest)));
    }
    let progress = ProgressDisplay::new(style, Arc::clone(console));
    let monitor = RunMonitor::new(console, output, stdout, progress, report_file.as_ref());
    if let Some(warning) = warning {
        monitor.warning(&warning);
    }
    let limits = &plan.options.limits;
    let throttle = Throttle::new(limits.bandwidth_bytes_per_second, limits.operations_per_second);
    let cx = CopyContext { source: &source, dest: &*dest, monitor: &monitor, stop: &stop, throttle: &throttle };
    let result = copy::copy_tree(&cx, &plan.options);
    let warned = monitor.warned();
    console.detach();
    let signal = signals.finish();
    let report = match result {
        Ok(report) => report,
        Err(error) => {
            if let Some(file) = report_file {
                file.abandon();
            }
            return Err(error.into());
        }
    };
    let exit = Exit::of_copy(&report, signal);
    let is_dry = plan.options.dry_run;
    let json = CommandSummary::copy(&report, is_dry, exit);
    tell(&json.body, exit, &warned, console);
    if matches!(stdout, Stdout::Events | Stdout::EventsAndEntries) {
        output.event("summary", &json);
    }
    // Last, so that what was copied is told even where the report cannot be written.
    conclude(exit, report_file.map_or(Ok(()), |file| file.finish(&json)), console)
}

fn tell(summary: &CopySummary, exit: Exit, warned: &[String], console: &Console) {
    match console.volume {
        Volume::Normal => {
            for line in ui_summary::copy(summary, warned, console.palette) {
                console.line(&line);
            }
        }
        Volume::Quiet | Volume::Json if exit != Exit::Done => {
            if let Some(text) = ui_summary::copy_failure(summary) {
                console.error(&text);
            }
        }
        Volume::Quiet | Volume::Json => {}
    }
}

fn stdout(output: &OutputArgs, is_dry: bool) -> Stdout {
    match (output.json, is_dry) {
        (true, true) => Stdout::EventsAndEntries,
        (true, false) => Stdout::Events,
        (false, true) if !output.quiet => Stdout::List,
        (false, _) => Stdout::Nothing,
    }
}

/// Makes the state directory where it is missing, readable to its owner alone: it names files of other people.
///
/// A default that cannot be used is given up with a warning; what the user named must work.
pub(super) fn make_state_dir(plan: &CopyPlan, reach: Reach) -> Result<(Option<PathBuf>, Option<String>), CliError> {
    let inside = |dir: &Path| trees::refuse_inside("state directory", dir, &plan.source, &plan.dest, reach);
    let dir = match &plan.state_dir {
        StateDir::None => return Ok((None, None)),
        StateDir::Named(dir) => {
            inside(dir)?;
            dir
        }
        StateDir::Default(dir) => {
            if let Err(error) = inside(dir) {
                let warning = format!("{error}, so this run is not remembered; `--state-dir` names another");
                return Ok((None, Some(warning)));
            }
            dir
        }
    };
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| CliError::MakeState { path: dir.clone(), source })?;
    Ok((Some(dir.clone()), None))
}
