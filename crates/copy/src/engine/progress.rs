//! The one place that derives percent, rates and remaining time from the counters.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::run::{InHand, Run, lock};
use crate::monitor::{Current, Progress, Stage};
use crate::rates::{ENTRY_BYTES, Rates};
use crate::report::Counters;

/// Keeps what is needed to make one look at a run comparable with the next.
pub(super) struct Gauge {
    /// The part of the whole that this stage is, as percent before and after it.
    part: (f64, f64),
    /// When the whole began.
    started: Instant,
    percent: f64,
    rates: Rates,
    /// Entries were counted to their end.
    scan_ended: bool,
}

impl Gauge {
    /// `part`: where this stage begins and ends on the way from 0 to 100.
    pub(super) fn new(part: (f64, f64), started: Instant) -> Self {
        Self { part, started, percent: part.0, rates: Rates::default(), scan_ended: false }
    }

    pub(super) fn look(&mut self, run: &Run<'_>, stage: Stage, workers: usize) -> Progress {
        let counters = run.totals();
        let moved = run.moved_bytes.load(std::sync::atomic::Ordering::Relaxed) as f64;
        let (bytes_per_second, entries_per_second) = self.rates.look(moved, counters.done_entries as f64);
        self.scan_ended = self.scan_ended || run.queue.scan_has_ended();
        // Files on their way are worth their bytes already.
        let in_flight = (moved - counters.copied_bytes as f64).max(0.0);
        let done = counters.done_bytes as f64 + in_flight + counters.done_entries as f64 * ENTRY_BYTES;
        let files = run.in_hand();
        let total = self.total(run, &counters, done, &files);
        let (from, to) = self.part;
        let percent = match stage {
            Stage::Done => 100.0,
            _ => (from + (to - from) * done / total.max(1.0)).min(to).min(99.9),
        };
        self.percent = self.percent.max(percent);
        let speed = bytes_per_second + entries_per_second * ENTRY_BYTES;
        let remaining = (stage == Stage::Transfer && speed > 0.0 && self.started.elapsed() > Duration::from_secs(1))
            .then(|| Duration::from_secs_f64(((total - done).max(0.0) / speed).min(1e9)));
        let current = match files.first() {
            Some(file) => Some(Current {
                path: file.dir.path(&file.name),
                percent: Some(file.moved_bytes() as f64 * 100.0 / file.bytes.max(1) as f64),
            }),
            None => lock(&run.current).as_ref().map(|(dir, name)| Current { path: dir.path(name), percent: None }),
        };
        Progress {
            stage,
            percent: self.percent,
            total_entries: self.scan_ended.then_some(counters.scanned_entries),
            total_bytes: None,
            counters,
            elapsed: self.started.elapsed(),
            bytes_per_second,
            entries_per_second,
            remaining,
            current,
            workers,
        }
    }

    /// Until everything is listed, what the file system has in use is the best guess; then the entries that are left
    /// are taken to be like those that are done.
    fn total(&self, run: &Run<'_>, counters: &Counters, done: f64, files: &[Arc<InHand>]) -> f64 {
        let facts = run.cx.source.facts();
        if !self.scan_ended {
            let used = facts.used_bytes as f64 + facts.used_entries as f64 * ENTRY_BYTES;
            return used.max(done);
        }
        // Of the files on their way it is known what is left of them.
        let moved = files.iter().map(|file| file.moved_bytes()).sum::<u64>() as f64;
        let to_move = files.iter().map(|file| file.bytes - file.moved_bytes()).sum::<u64>() as f64;
        let left = counters.scanned_entries.saturating_sub(counters.done_entries + files.len() as u64) as f64;
        let average = if counters.done_entries == 0 {
            ENTRY_BYTES
        } else {
            (done - moved).max(ENTRY_BYTES) / counters.done_entries as f64
        };
        done + to_move + left * average
    }
}
