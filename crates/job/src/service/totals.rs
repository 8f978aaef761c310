//! Counts since the start of the process, for metrics. They only rise.

use std::collections::BTreeMap;

use crate::documents::{MoverCounts, Progress, Summary};
use crate::door::Figures;

#[derive(Debug, Default)]
pub(crate) struct Totals {
    copied_bytes: u64,
    done_entries: u64,
    faults: u64,
    losses: u64,
    differences: u64,
    verified_bytes: u64,
    workers_started: u64,
    workers_lost: u64,
    movers: BTreeMap<String, MoverCounts>,
    notify_failures: u64,
}

impl Totals {
    /// Adds what a worker did between two looks.
    pub(crate) fn add(&mut self, before: &Progress, now: &Progress) {
        let since = |count: fn(&Progress) -> u64| count(now).saturating_sub(count(before));
        self.copied_bytes += since(|progress| progress.copied_bytes);
        self.done_entries += since(|progress| progress.done_entries);
        self.faults += since(|progress| progress.faults);
        self.losses += since(|progress| progress.losses);
        self.differences += since(|progress| progress.differences);
        self.verified_bytes += since(|progress| progress.verified_bytes);
    }

    pub(crate) fn add_movers(&mut self, summary: &Summary) {
        let Summary::Copy(summary) = summary else { return };
        for (mover, counts) in &summary.movers {
            let sum = self.movers.entry(mover.clone()).or_default();
            sum.files += counts.files;
            sum.bytes += counts.bytes;
        }
    }

    pub(crate) fn worker_started(&mut self) {
        self.workers_started += 1;
    }

    pub(crate) fn worker_lost(&mut self) {
        self.workers_lost += 1;
    }

    pub(crate) fn notify_failed(&mut self) {
        self.notify_failures += 1;
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            copied_bytes: self.copied_bytes,
            done_entries: self.done_entries,
            faults: self.faults,
            losses: self.losses,
            differences: self.differences,
            verified_bytes: self.verified_bytes,
            workers_started: self.workers_started,
            workers_lost: self.workers_lost,
            movers: self.movers.clone(),
            notify_failures: self.notify_failures,
            ..Figures::default()
        }
    }
}
