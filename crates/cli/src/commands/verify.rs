//! `verify`: compares two trees, whoever copied them.

use std::sync::Arc;

use copy::{CopyContext, StopToken, Throttle};
use job::documents::Comparison;

use super::{conclude, progress_style};
use crate::args::engine::VerifyArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::paths::Reach;
use crate::plan::verify_plan;
use crate::report_file::ReportFile;
use crate::signals::StopSignals;
use crate::trees;
use crate::ui::console::{Console, Volume};
use crate::ui::json::CommandSummary;
use crate::ui::monitor::{RunMonitor, Stdout};
use crate::ui::output::Output;
use crate::ui::progress::ProgressDisplay;
use crate::ui::summary;

pub fn run(args: VerifyArgs, console: &Arc<Console>, output: &Output) -> Result<Exit, CliError> {
    let style = progress_style(&args.output);
    let stdout = if args.output.json { Stdout::Events } else { Stdout::Nothing };
    let plan = verify_plan(args)?;
    let stop = StopToken::new();
    let signals = StopSignals::listen(stop.clone(), Arc::clone(console)).map_err(CliError::Signals)?;
    let source = trees::open_source(&plan.source)?;
    let dest = trees::open_copy(&plan.dest)?;
    let reach = if plan.options.one_file_system { Reach::OneFileSystem } else { Reach::Whole };
    if let Some(report) = &plan.report {
        trees::refuse_inside("report", report, &plan.source, &plan.dest, reach)?;
    }
    let report_file = plan.report.as_deref().map(ReportFile::create).transpose()?;
    let progress = ProgressDisplay::new(style, Arc::clone(console));
    let monitor = RunMonitor::new(console, output, stdout, progress, report_file.as_ref());
    let throttle = Throttle::new(plan.options.limits.bandwidth_bytes_per_second, None);
    let cx = CopyContext { source: &source, dest: &dest, monitor: &monitor, stop: &stop, throttle: &throttle };
    let result = copy::compare_trees(&cx, &plan.options);
    drop(monitor);
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
    let exit = Exit::of_comparison(&report, signal);
    let json = CommandSummary::verify(&report, exit);
    tell(&json.body, exit, console);
    if stdout == Stdout::Events {
        output.event("summary", &json);
    }
    conclude(exit, report_file.map_or(Ok(()), |file| file.finish(&json)), console)
}

fn tell(comparison: &Comparison, exit: Exit, console: &Console) {
    match console.volume {
        Volume::Normal => {
            for line in summary::verify(comparison, console.palette) {
                console.line(&line);
            }
        }
        Volume::Quiet | Volume::Json if exit != Exit::Done => {
            if let Some(text) = summary::compare_failure(comparison) {
                console.error(&text);
            }
        }
        Volume::Quiet | Volume::Json => {}
    }
}
