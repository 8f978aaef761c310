//! What the end of a pass means for the job.

use jiff::Timestamp;

use super::later;
use crate::limits::LIMITS;
use crate::model::{
    CutoverState, Failure, FailureCode, Intent, Job, Next, Outcome, PASSES_KEPT, Pass, PassKind, Step, WorkEnding,
    WorkResult,
};
use crate::predict::predict;
use crate::spec::{Cutover, Kind, OnLoss};

/// The next prediction must be below this part of the one before, or another pass gains too little. Each pass shortens
/// the next one only until the time between two passes is all that changes accumulate in.
const WORTHWHILE: f64 = 0.8;

/// Whether the job can have begun such a pass.
pub(super) fn is_pass_of(job: &Job, pass: PassKind) -> bool {
    match pass {
        PassKind::Single => job.spec.kind != Kind::Migrate,
        PassKind::Baseline => job.spec.kind == Kind::Migrate && job.passes_done == 0,
        PassKind::Incremental => job.spec.kind == Kind::Migrate && job.passes_done > 0,
        PassKind::Final => job.spec.kind == Kind::Migrate && job.cutover == CutoverState::Asked,
    }
}

/// Keeps the figures of a pass that went to its end, and says so.
pub(super) fn remember_pass(job: &mut Job, kind: PassKind, result: &WorkResult, now: Timestamp) -> Option<String> {
    if !matches!(result.ending, WorkEnding::Complete | WorkEnding::WithFaults) {
        return None;
    }
    job.workers_lost = 0;
    job.passes_done += 1;
    if job.passes.len() >= PASSES_KEPT {
        // The first one stays: it alone shows how fast everything can be copied.
        job.passes.remove(1);
    }
    let figures = result.figures;
    job.passes.push(Pass { number: job.passes_done, kind, ended_at: now, figures });
    Some(format!(
        "pass {} ended: {} entries changed, {} bytes copied, {} faults, {} losses, {} differences",
        job.passes_done,
        figures.changed_entries,
        figures.copied_bytes,
        figures.faults,
        figures.losses,
        figures.differences
    ))
}

/// What follows a pass that nobody stopped for good.
pub(super) fn after_pass(job: &mut Job, pass: PassKind, result: &WorkResult, now: Timestamp) -> Next {
    match result.ending {
        WorkEnding::Stopped => {
            if job.intent == Intent::Run {
                // Nobody here wanted it. An executor that goes on so must not be called in a circle.
                job.not_before = Some(later(now, LIMITS.worker_lost_pause));
            }
            Next::Wait
        }
        WorkEnding::StoppedByFault => {
            let which = result.first_fault.as_deref().map(|fault| format!(": {fault}")).unwrap_or_default();
            faults_found(format!("stopped at the first fault, as the options want it{which}"))
        }
        WorkEnding::Complete | WorkEnding::WithFaults if pass.is_last() => Next::End(verdict(job, result)),
        WorkEnding::Complete | WorkEnding::WithFaults => {
            let asked = job.cutover == CutoverState::Asked;
            let interval = std::time::Duration::from_secs(job.spec.migrate.interval_seconds.into());
            job.not_before = (!asked).then(|| later(now, interval));
            Next::Wait
        }
    }
}

fn faults_found(message: String) -> Next {
    Next::End(Outcome::Failed { failure: Failure::new(Step::Copy, FailureCode::FaultsFound, message) })
}

/// The figures decide, not the worker's word for them.
fn verdict(job: &Job, result: &WorkResult) -> Outcome {
    let figures = &result.figures;
    let options = &job.spec.options;
    let lost = if options.on_loss == OnLoss::Fail { figures.losses } else { 0 };
    let faults = figures.faults.saturating_add(lost);
    let failed = |step, code, message| Outcome::Failed { failure: Failure::new(step, code, message) };
    if faults > options.faults_accepted {
        let losses = if lost > 0 { format!(" and {lost} losses") } else { String::new() };
        let first = result.first_fault.as_deref().map(|fault| format!("; the first: {fault}")).unwrap_or_default();
        let message = format!("{} faults{losses}, {} accepted{first}", figures.faults, options.faults_accepted);
        return failed(Step::Copy, FailureCode::FaultsFound, message);
    }
    if figures.differences > 0 {
        let message = format!("the trees differ in {} entries", figures.differences);
        return failed(Step::Verify, FailureCode::DifferencesFound, message);
    }
    if result.ending == WorkEnding::WithFaults && faults == 0 {
        return failed(Step::Copy, FailureCode::FaultsFound, "ended with faults that were not counted".into());
    }
    Outcome::Completed
}

/// Whether an automatic migration has come so far that the next pass is to be the last one.
///
/// It has when the cutover is predicted to be short enough, or after `passes_max` passes. Where the plan names neither,
/// it has when a further pass no longer makes the cutover much shorter, which two predictions show.
pub(super) fn cuts_over(job: &Job) -> bool {
    let plan = &job.spec.migrate;
    if job.spec.kind != Kind::Migrate || plan.cutover != Cutover::Automatic {
        return false;
    }
    if plan.passes_max.is_some_and(|max| job.passes_done >= max) {
        return true;
    }
    let Some((last, earlier)) = job.passes.split_last() else { return false };
    let Some(prediction) = predict(&job.spec, &job.passes, last.ended_at) else { return false };
    match plan.cutover_seconds_max {
        Some(max) => prediction.seconds <= f64::from(max),
        None if plan.passes_max.is_some() => false,
        None => earlier
            .last()
            .and_then(|pass| predict(&job.spec, earlier, pass.ended_at))
            .is_some_and(|before| prediction.seconds > before.seconds * WORTHWHILE),
    }
}
