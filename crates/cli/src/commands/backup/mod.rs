//! `backup`: makes, restores, shows, checks and removes backups, here and without a service.

mod create;
mod delete;
mod list;
mod maintain;
mod restore;
mod scratch;

use std::path::Path;
use std::sync::Arc;

use copy::{Monitor, StopToken};
use job::documents::RepositorySummary;

use super::conclude;
use crate::args::backup::{BackupCommand, RunOutputArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::plan::Environment;
use crate::report_file::ReportFile;
use crate::signals::StopSignals;
use crate::ui::console::{Console, Volume};
use crate::ui::json::CommandSummary;
use crate::ui::monitor::{RunMonitor, Stdout};
use crate::ui::output::Output;
use crate::ui::progress::{ProgressDisplay, Style};
use crate::ui::summary as ui_summary;
use crate::ui::units::counted;

pub fn run(
    command: &BackupCommand,
    environment: &Environment,
    console: &Arc<Console>,
    output: &Output,
) -> Result<Exit, CliError> {
    let cx = Context { environment, console, output };
    match command {
        BackupCommand::Create(args) => create::run(&cx, args),
        BackupCommand::Restore(args) => restore::run(&cx, args),
        BackupCommand::List(args) => list::list(&cx, args),
        BackupCommand::Show(args) => list::show(&cx, args),
        BackupCommand::Check(args) => maintain::check(&cx, args),
        BackupCommand::Prune(args) => maintain::prune(&cx, args),
        BackupCommand::Delete(args) => delete::run(&cx, args),
    }
}

/// What every one of these commands works with.
struct Context<'a> {
    environment: &'a Environment,
    console: &'a Arc<Console>,
    output: &'a Output,
}

/// How a run is shown.
struct Show<'a> {
    style: Style,
    stdout: Stdout,
    report: Option<&'a Path>,
}

impl Show<'_> {
    /// Of a command without entries to report.
    fn of(args: &RunOutputArgs) -> Self {
        Self {
            style: Style::choose(!args.quiet && !args.no_progress, args.json),
            stdout: if args.json { Stdout::Events } else { Stdout::Nothing },
            report: None,
        }
    }
}

/// What a run left.
struct Attended<T> {
    done: T,
    signal: Option<i32>,
    warned: Vec<String>,
    report: Option<ReportFile>,
}

/// Puts signals, progress and the report around some work. Storage that does not answer hangs already where the
/// repository is opened, so that this is part of the work.
fn attended<T>(
    cx: &Context<'_>,
    show: &Show<'_>,
    work: impl FnOnce(&dyn Monitor, &StopToken) -> Result<T, CliError>,
) -> Result<Attended<T>, CliError> {
    let stop = StopToken::new();
    let signals = StopSignals::listen(stop.clone(), Arc::clone(cx.console)).map_err(CliError::Signals)?;
    let report = show.report.map(ReportFile::create).transpose()?;
    let progress = ProgressDisplay::new(show.style, Arc::clone(cx.console));
    let monitor = RunMonitor::new(cx.console, cx.output, show.stdout, progress, report.as_ref());
    let result = work(&monitor, &stop);
    let warned = monitor.warned();
    cx.console.detach();
    let signal = signals.finish();
    match result {
        Ok(done) => Ok(Attended { done, signal, warned, report }),
        Err(error) => {
            if let Some(file) = report {
                file.abandon();
            }
            Err(error)
        }
    }
}

/// Ends a command that worked on a repository alone.
fn tell_repository(
    cx: &Context<'_>,
    command: &'static str,
    summary: RepositorySummary,
    exit: Exit,
    is_json: bool,
) -> Result<Exit, CliError> {
    match cx.console.volume {
        Volume::Normal => {
            for line in ui_summary::repository(&summary, cx.console.palette) {
                cx.console.line(&line);
            }
        }
        Volume::Quiet | Volume::Json if exit != Exit::Done => {
            for finding in &summary.findings {
                cx.console.error(&copy::escape(finding.as_bytes()));
            }
            for (count, word) in [(summary.counts.differences, "difference"), (summary.counts.faults, "fault")] {
                if count > 0 {
                    cx.console.error(&counted(count, word));
                }
            }
        }
        Volume::Quiet | Volume::Json => {}
    }
    if is_json {
        cx.output.event("summary", &CommandSummary::new(command, summary, exit));
    }
    conclude(exit, Ok(()), cx.console)
}
