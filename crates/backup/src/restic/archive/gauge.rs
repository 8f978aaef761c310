//! Percent, rates and remaining time of a backup, by the same rule as those of a copy.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use copy::{Current, ENTRY_BYTES, Progress, Rates, Stage};

use super::run::{Run, lock};

pub(super) struct Gauge {
    started: Instant,
    percent: f64,
    rates: Rates,
    scan_ended: bool,
}

impl Gauge {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, percent: 0.0, rates: Rates::default(), scan_ended: false }
    }

    pub(super) fn look(&mut self, run: &Run<'_>, stage: Stage, workers: usize) -> Progress {
        let counters = run.totals();
        let moved = run.moved_bytes.load(Ordering::Relaxed) as f64;
        let (bytes_per_second, entries_per_second) = self.rates.look(moved, counters.done_entries as f64);
        self.scan_ended = self.scan_ended || stage != Stage::Transfer || run.queue.scan_has_ended();
        let in_flight = (moved - counters.copied_bytes as f64).max(0.0);
        let done = counters.done_bytes as f64 + in_flight + counters.done_entries as f64 * ENTRY_BYTES;
        let total = if self.scan_ended {
            let left = counters.scanned_entries.saturating_sub(counters.done_entries) as f64;
            let average = (done - in_flight).max(ENTRY_BYTES) / (counters.done_entries as f64).max(1.0);
            done + run.big_left_bytes.load(Ordering::Relaxed) as f64 + left * average
        } else {
            // Until everything is listed, what the file system has in use is the best guess.
            let facts = run.cx.source.facts();
            (facts.used_bytes as f64 + facts.used_entries as f64 * ENTRY_BYTES).max(done)
        };
        let percent = match stage {
            Stage::Done => 100.0,
            _ => (100.0 * done / total.max(1.0)).min(99.9),
        };
        self.percent = self.percent.max(percent);
        let speed = bytes_per_second + entries_per_second * ENTRY_BYTES;
        let remaining = (stage == Stage::Transfer && speed > 0.0 && self.started.elapsed() > Duration::from_secs(1))
            .then(|| Duration::from_secs_f64(((total - done).max(0.0) / speed).min(1e9)));
        let current =
            lock(&run.current).as_ref().map(|(dir, slot)| Current { path: dir.path(&dir.names[*slot]), percent: None });
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
}
