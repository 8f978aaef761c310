//! What the engine tells, parted: entries and faults go to the report, the rest to whoever runs the job.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use copy::{EntryRecord, Fault, Monitor, Progress, Stage};
use job::WorkEvent;

use crate::report::Report;

/// Twice a second is as fast as people look.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Teller<'a> {
    tell: &'a (dyn Fn(WorkEvent) + Sync),
    report: &'a Report,
    progress: Mutex<Waiting>,
}

/// Progress between two tellings.
#[derive(Default)]
struct Waiting {
    told: Option<(Instant, Stage)>,
    /// The last one, unless it was told.
    last: Option<Progress>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(tell: &'a (dyn Fn(WorkEvent) + Sync), report: &'a Report) -> Self {
        Self { tell, report, progress: Mutex::default() }
    }

    /// Tells how it stood in the end.
    pub(super) fn finish(&self) {
        let last = self.progress.lock().unwrap_or_else(PoisonError::into_inner).last.take();
        if let Some(progress) = last {
            self.tell_progress(&progress);
        }
    }

    fn tell_progress(&self, progress: &Progress) {
        (self.tell)(WorkEvent::Progress(Box::new(progress.into())));
    }
}

impl Monitor for Teller<'_> {
    fn progress(&self, progress: &Progress) {
        let is_due = {
            let mut waiting = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due =
                waiting.told.is_none_or(|(at, stage)| at.elapsed() >= PROGRESS_INTERVAL || stage != progress.stage);
            if is_due {
                *waiting = Waiting { told: Some((Instant::now(), progress.stage)), last: None };
            } else {
                waiting.last = Some(progress.clone());
            }
            is_due
        };
        if is_due {
            self.tell_progress(progress);
        }
    }

    fn failed(&self, fault: &Fault) {
        self.report.failed(fault);
    }

    fn warning(&self, text: &str) {
        (self.tell)(WorkEvent::Warning(text.into()));
    }

    fn record(&self, record: EntryRecord) {
        self.report.record(record);
    }

    fn verified(&self, record: EntryRecord) {
        self.report.verified(record);
    }
}

#[cfg(test)]
mod tests {
    use copy::Counters;
    use job::spec::ReportEntries;
    use testkit::disk::TempDir;

    use super::*;
    use crate::report::Contents;

    fn look(stage: Stage, entries: u64) -> Progress {
        Progress {
            stage,
            percent: 0.0,
            counters: Counters { done_entries: entries, ..Counters::default() },
            total_entries: None,
            total_bytes: None,
            elapsed: Duration::ZERO,
            bytes_per_second: 0.0,
            entries_per_second: 0.0,
            remaining: None,
            current: None,
            workers: 1,
        }
    }

    #[test]
    fn between_two_tellings_passes_time_and_the_last_look_is_always_told() {
        let dir = TempDir::new();
        let contents = Contents { entries: ReportEntries::None, manifest: None };
        let report = Report::begin(dir.path(), contents).expect("a report");
        let told = Mutex::new(Vec::new());
        let tell = |event| match event {
            WorkEvent::Progress(progress) => told.lock().expect("whole").push((progress.stage, progress.done_entries)),
            other => panic!("{other:?}"),
        };
        let teller = Teller::new(&tell, &report);
        let start = Instant::now();
        (0..1000).for_each(|n| teller.progress(&look(Stage::Transfer, n)));
        let at_most = 1 + start.elapsed().as_millis() / PROGRESS_INTERVAL.as_millis();
        teller.progress(&look(Stage::Verify, 1000));
        teller.progress(&look(Stage::Verify, 1001));
        teller.finish();
        teller.finish();
        report.abandon();
        let told = told.into_inner().expect("whole");
        assert_eq!(told[0], ("transfer".into(), 0));
        assert!(told.len() as u128 <= at_most + 2, "{told:?}");
        // A new stage is told at once.
        assert!(told.contains(&("verify".into(), 1000)), "{told:?}");
        assert_eq!(told.last(), Some(&("verify".into(), 1001)));
    }
}
