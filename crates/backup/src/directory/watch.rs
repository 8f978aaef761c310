//! What callers hear of an operation that has several steps: one percent that never falls, and the records they asked
//! for.

use std::sync::{Mutex, PoisonError};

use copy::{CopyOptions, EntryRecord, Fault, Monitor, Progress, Records, Stage};

use super::sums::Sums;

/// Stands between the engine and the caller's monitor.
pub(super) struct Watch<'a> {
    caller: &'a dyn Monitor,
    state: Mutex<State>,
    sums: Option<&'a Sums>,
    /// What the caller asked for; the engine tells more, because checksums are needed.
    records: Records,
    verified: bool,
}

#[derive(Default)]
struct State {
    part: (f64, f64),
    /// The last look at the step that counts what the caller knows: of later ones only the percent is told.
    main: Option<Progress>,
    is_main: bool,
    percent: f64,
}

impl<'a> Watch<'a> {
    /// For an operation whose steps tell nothing but how far they are.
    pub(super) fn steps(caller: &'a dyn Monitor) -> Self {
        Self { caller, state: Mutex::default(), sums: None, records: Records::None, verified: false }
    }

    /// For a copy whose checksums are kept.
    pub(super) fn copy(caller: &'a dyn Monitor, sums: &'a Sums, options: &CopyOptions) -> Self {
        let verified = options.verify_hash.is_some();
        Self { caller, state: Mutex::default(), sums: Some(sums), records: options.records, verified }
    }

    /// A step begins, which is this part of the whole in percent. The first one's counters are told.
    pub(super) fn step(&self, from: f64, to: f64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_main = state.main.is_none();
        state.part = (from, to);
    }

    /// The whole is done.
    pub(super) fn done(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(main) = &state.main {
            self.caller.progress(&Progress { stage: Stage::Done, percent: 100.0, remaining: None, ..main.clone() });
        }
    }
}

impl Monitor for Watch<'_> {
    fn progress(&self, progress: &Progress) {
        let told = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (from, to) = state.part;
            state.percent = state.percent.max((from + (to - from) * progress.percent / 100.0).min(99.9));
            let stage = if progress.stage == Stage::Done { Stage::Verify } else { progress.stage };
            let shown = if state.is_main { progress } else { state.main.as_ref().unwrap_or(progress) };
            let told = Progress { stage, percent: state.percent, ..shown.clone() };
            if state.is_main {
                state.main = Some(told.clone());
            }
            told
        };
        self.caller.progress(&told);
    }

    fn fault(&self, fault: &Fault) {
        self.caller.fault(fault);
    }

    fn failed(&self, fault: &Fault) {
        self.caller.failed(fault);
    }

    fn warning(&self, text: &str) {
        self.caller.warning(text);
    }

    fn record(&self, record: EntryRecord) {
        if let Some(sums) = self.sums {
            sums.note(&record);
        }
        if self.records != Records::None {
            self.caller.record(record);
        }
    }

    fn verified(&self, record: EntryRecord) {
        if let Some(sums) = self.sums {
            sums.note(&record);
        }
        let differs = record.error.is_some() || !record.differences.is_empty();
        if self.verified || differs && self.records != Records::None {
            self.caller.verified(record);
        }
    }
}
