//! One pass of the engine: copies or compares two trees that stand, tells how far it is, and writes the report.
//! Knows nothing of mounts and processes.

mod backup;
mod in_process;
mod options;
mod teller;

use std::error::Error;
use std::path::PathBuf;

use copy::tree::{DestTree, SourceTree};
use copy::{
    Action, CompareReport, CopyContext, CopyError, CopyOptions, CopyReport, Counters, Ending, LocalTree, StopToken,
    Throttle, compare_trees, copy_tree, escape,
};
use job::documents::{BackupFacts, Comparison, CopySummary, RepositorySummary, Summary};
use job::{
    Control, Failure, FailureCode, Kind, PassFigures, Step, StopReason, WorkEnding, WorkEvent, WorkOrder, WorkResult,
};

pub use in_process::InProcess;
use teller::Teller;

use crate::report::{Contents, Covers, Report, failed_entries};

/// Where the trees of a pass are, once they can be reached.
#[derive(Clone, Debug)]
pub struct Trees {
    pub source: PathBuf,
    pub dest: PathBuf,
}

/// What can be changed of a pass while it runs.
#[derive(Debug, Default)]
pub struct Live {
    pub stop: StopToken,
    pub throttle: Throttle,
}

impl Live {
    /// Takes over what a pass is told while it runs.
    pub fn obey(&self, control: &Control) {
        self.throttle.set_bandwidth(control.bandwidth_bytes_per_second);
        self.throttle.set_operations(control.operations_per_second);
        if let Some(reason) = control.stop {
            self.stop.stop(match reason {
                // The work goes on later, here or elsewhere.
                StopReason::Shutdown | StopReason::LostLease | StopReason::Pause => copy::StopReason::Shutdown,
                StopReason::Deadline => copy::StopReason::Deadline,
                StopReason::Cancel => copy::StopReason::Cancel,
            });
        }
    }
}

/// Carries out one pass; returns when it has gone to its end, was stopped, or cannot go on.
pub fn run_pass(
    order: &WorkOrder,
    trees: &Trees,
    live: &Live,
    tell: &(dyn Fn(WorkEvent) + Sync),
) -> Result<WorkResult, Failure> {
    let only = order.retry_report_dir.as_deref().map(failed_entries).transpose().map_err(|error| {
        let what = "cannot read which entries failed in the job that is tried again";
        Failure::new(Step::Report, FailureCode::ReportFailed, format!("{what}: {}", chain(&error)))
    })?;
    match order.spec.kind {
        Kind::Backup | Kind::Restore | Kind::Delete | Kind::Check | Kind::Prune => {
            backup::run(order, trees, live, tell, only)
        }
        Kind::Copy | Kind::Migrate => {
            let options = options::copy_options(order, only)?;
            let source = LocalTree::open_source(&trees.source).map_err(|error| failure(order, trees, &error))?;
            let dest = if options.dry_run { open_copy(trees) } else { LocalTree::open_dest(&trees.dest) };
            let dest = dest.map_err(|error| failure(order, trees, &error))?;
            copy_pass(order, trees, live, tell, (&source, &dest), &options)
        }
        Kind::Verify => {
            let options = options::compare_options(order, only)?;
            let source = LocalTree::open_source(&trees.source).map_err(|error| failure(order, trees, &error))?;
            let dest = open_copy(trees).map_err(|error| failure(order, trees, &error))?;
            pass(order, options.hash.map(|_| Covers::Verified), tell, |monitor| {
                let cx =
                    CopyContext { source: &source, dest: &dest, monitor, stop: &live.stop, throttle: &live.throttle };
                let report = compare_trees(&cx, &options).map_err(|error| failure(order, trees, &error))?;
                let summary = Summary::Verify(Box::new(Comparison::from(&report)));
                let (ending, figures) = (ending_of_comparison(&report), figures_of_comparison(&report));
                let first_fault = report.faults.first().map(ToString::to_string);
                Ok(Done { ending, figures, first_fault, summary })
            })
        }
    }
}

/// Copies one tree to another, with a report.
fn copy_pass(
    order: &WorkOrder,
    trees: &Trees,
    live: &Live,
    tell: &(dyn Fn(WorkEvent) + Sync),
    (source, dest): (&dyn SourceTree, &dyn DestTree),
    options: &CopyOptions,
) -> Result<WorkResult, Failure> {
    pass(order, covers(options), tell, |monitor| {
        let cx = CopyContext { source, dest, monitor, stop: &live.stop, throttle: &live.throttle };
        let report = copy_tree(&cx, options).map_err(|error| failure(order, trees, &error))?;
        Ok(Done::copied(&report, options.dry_run, None))
    })
}

/// What the report's manifest holds the checksums of.
fn covers(options: &CopyOptions) -> Option<Covers> {
    options.verify_hash.map(|_| Covers::Verified).or(options.hash.map(|_| Covers::Copied))
}

/// What the engine's part of a pass leaves.
struct Done {
    ending: WorkEnding,
    figures: PassFigures,
    first_fault: Option<String>,
    summary: Summary,
}

impl Done {
    fn copied(report: &CopyReport, dry_run: bool, backup: Option<BackupFacts>) -> Self {
        let summary = CopySummary { backup, ..CopySummary::new(report, dry_run) };
        Self {
            ending: ending_of_copy(report),
            figures: figures_of_copy(report),
            first_fault: report.faults.first().map(ToString::to_string),
            summary: Summary::Copy(Box::new(summary)),
        }
    }

    /// Of work on a repository alone.
    fn of_repository(report: &CompareReport, summary: RepositorySummary) -> Self {
        Self {
            ending: ending_of_comparison(report),
            figures: figures_of_comparison(report),
            first_fault: report.faults.first().map(ToString::to_string),
            summary: Summary::Repository(Box::new(summary)),
        }
    }
}

/// Puts a report around the engine's part.
fn pass(
    order: &WorkOrder,
    manifest: Option<Covers>,
    tell: &(dyn Fn(WorkEvent) + Sync),
    work: impl FnOnce(&Teller<'_>) -> Result<Done, Failure>,
) -> Result<WorkResult, Failure> {
    let contents = Contents { entries: order.spec.options.report_entries, manifest };
    let report = Report::begin(&order.report_dir, contents).map_err(|error| report_failed(order, &error))?;
    let teller = Teller::new(tell, &report);
    let done = match work(&teller) {
        Ok(done) => done,
        Err(failure) => {
            report.abandon();
            return Err(failure);
        }
    };
    teller.finish();
    let written = report.finish(order, &done.summary);
    let Done { ending, figures, first_fault, summary } = done;
    tell(WorkEvent::Summary(Box::new(summary)));
    let manifest_root = match written {
        Ok(manifest) => manifest.map(|manifest| manifest.root),
        // A job that goes on later writes a report then.
        Err(error) if ending == WorkEnding::Stopped => {
            tell(WorkEvent::Warning(report_failed(order, &error).message));
            None
        }
        Err(error) => return Err(report_failed(order, &error)),
    };
    Ok(WorkResult { ending, figures, manifest_root, first_fault })
}

fn report_failed(order: &WorkOrder, error: &std::io::Error) -> Failure {
    let dir = escape(order.report_dir.as_os_str().as_encoded_bytes());
    let message = format!("cannot write the report in `{dir}`: {}", chain(error));
    Failure::new(Step::Report, FailureCode::ReportFailed, message)
}

/// The destination of what changes nothing: it must be there.
fn open_copy(trees: &Trees) -> Result<LocalTree, CopyError> {
    LocalTree::open_source(&trees.dest).map_err(|error| match error {
        CopyError::OpenSource(error) => CopyError::OpenDest(error),
        other => other,
    })
}

fn failure(order: &WorkOrder, trees: &Trees, error: &CopyError) -> Failure {
    let step = if order.spec.kind == Kind::Verify { Step::Verify } else { Step::Copy };
    let code = match error {
        CopyError::Pattern { .. } => FailureCode::BadSpec,
        CopyError::Panicked => FailureCode::Internal,
        _ => FailureCode::EngineFailed,
    };
    let at = |path: &PathBuf| format!(" (`{}`)", escape(path.as_os_str().as_encoded_bytes()));
    let place = match error {
        CopyError::OpenSource(_) => at(&trees.source),
        CopyError::OpenDest(_) => at(&trees.dest),
        _ => String::new(),
    };
    Failure::new(step, code, format!("{}{place}", chain(error)))
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text.replace('\n', " ")
}

fn ending(ending: Ending, is_good: bool) -> WorkEnding {
    match ending {
        Ending::Complete if is_good => WorkEnding::Complete,
        Ending::Complete | Ending::WithFaults => WorkEnding::WithFaults,
        Ending::Stopped(copy::StopReason::Fault) => WorkEnding::StoppedByFault,
        Ending::Stopped(_) => WorkEnding::Stopped,
    }
}

fn ending_of_copy(report: &CopyReport) -> WorkEnding {
    ending(report.ending, true)
}

fn ending_of_comparison(report: &CompareReport) -> WorkEnding {
    ending(report.ending, report.is_same())
}

fn figures_of_copy(report: &CopyReport) -> PassFigures {
    let verification = report.verification.as_ref();
    let verified = verification.map(|verification| &verification.counters);
    let counters = &report.counters;
    PassFigures {
        elapsed_seconds: report.elapsed.as_secs_f64(),
        verify_seconds: verification.map_or(0.0, |verification| verification.elapsed.as_secs_f64()),
        faults: counters.faults + verified.map_or(0, |counters| counters.faults),
        differences: report.unexplained_differences(),
        ..figures(counters)
    }
}

fn figures_of_comparison(report: &CompareReport) -> PassFigures {
    let seconds = report.elapsed.as_secs_f64();
    PassFigures { elapsed_seconds: seconds, verify_seconds: seconds, ..figures(&report.counters) }
}

fn figures(counters: &Counters) -> PassFigures {
    let changes = [Action::Created, Action::Replaced, Action::Updated, Action::Linked, Action::Deleted];
    PassFigures {
        elapsed_seconds: 0.0,
        verify_seconds: 0.0,
        scanned_entries: counters.scanned_entries,
        // What was looked at has been done by now, whatever was to do.
        scanned_bytes: counters.done_bytes,
        changed_entries: changes.iter().map(|action| counters.action(*action)).sum(),
        copied_bytes: counters.copied_bytes,
        faults: counters.faults,
        losses: counters.losses,
        differences: counters.differences,
    }
}
