//! What the tests share: one way to run a copy, one way to judge its result, and a monitor that remembers.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use copy::tree::{DestTree, SourceTree};
use copy::{
    Action, CompareOptions, CompareReport, CopyContext, CopyError, CopyOptions, CopyReport, Ending, EntryRecord, Fault,
    Limits, Monitor, NoMonitor, Progress, StopToken, Throttle, compare_trees, copy_tree, escape,
};
use proptest::prelude::*;
use testkit::Side;
use testkit::memory::MemoryTree;
use testkit::model::{DiffOptions, Entry, TreeModel, TreeShape, diff, diff_with};

/// `count` cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let mut config =
        ProptestConfig { max_shrink_iters: 2000, max_local_rejects: u32::MAX, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    config
}

/// Trees of every kind of entry whose files are small enough for many cases.
pub(crate) fn small_trees() -> TreeShape {
    TreeShape { file_bytes_max: 300_000, flags: true, chain_max: 8, ..TreeShape::default() }
}

/// The default without pauses.
pub(crate) fn options() -> CopyOptions {
    CopyOptions { limits: quick(Limits::default()), ..CopyOptions::default() }
}

/// One worker: the order of operations is the same each time.
pub(crate) fn in_order() -> CopyOptions {
    let mut options = options();
    options.limits.workers = Some(1);
    options
}

pub(crate) fn quick(mut limits: Limits) -> Limits {
    limits.retry_pause = Duration::ZERO;
    limits
}

/// Any number of workers, and limits so small that every way of the engine is taken on small files.
pub(crate) fn any_limits() -> impl Strategy<Value = Limits> {
    let workers = prop_oneof![Just(None), (1_usize..=8).prop_map(Some)];
    let bytes = || prop::sample::select(vec![1_u64, 4096, 65_536, 200_000, 8 << 20]);
    (workers, bytes(), bytes(), bytes(), 1_usize..=16, 1_usize..=200).prop_map(
        |(workers, buffer, range, small, batch, queue)| {
            quick(Limits {
                workers,
                buffer_bytes: buffer.min(1 << 20) as usize,
                range_bytes: range,
                small_bytes: small,
                batch_entries: batch,
                batch_entries_network: batch.div_ceil(2),
                queue_entries: queue,
                ..Limits::default()
            })
        },
    )
}

pub(crate) fn try_copy(
    source: &dyn SourceTree,
    dest: &dyn DestTree,
    options: &CopyOptions,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<CopyReport, CopyError> {
    let throttle = Throttle::default();
    copy_tree(&CopyContext { source, dest, monitor, stop, throttle: &throttle }, options)
}

/// Copies, and takes it as given that the run can begin.
#[track_caller]
pub(crate) fn run(source: &dyn SourceTree, dest: &dyn DestTree, options: &CopyOptions) -> CopyReport {
    try_copy(source, dest, options, &NoMonitor, &StopToken::new()).unwrap()
}

/// As [`run`], with everything that the run told.
#[track_caller]
pub(crate) fn run_recorded(
    source: &dyn SourceTree,
    dest: &dyn DestTree,
    options: &CopyOptions,
) -> (CopyReport, Recorder) {
    let recorder = Recorder::default();
    let options = CopyOptions { records: copy::Records::All, ..options.clone() };
    let report = try_copy(source, dest, &options, &recorder, &StopToken::new()).unwrap();
    (report, recorder)
}

/// Copies and expects that nothing is left to say.
#[track_caller]
pub(crate) fn run_clean(source: &dyn SourceTree, dest: &dyn DestTree, options: &CopyOptions) -> CopyReport {
    let report = run(source, dest, options);
    assert_clean(&report);
    report
}

#[track_caller]
pub(crate) fn assert_clean(report: &CopyReport) {
    assert_eq!(report.faults, Vec::<Fault>::new());
    assert_eq!(report.losses, Vec::new());
    assert_eq!(report.ending, Ending::Complete);
}

#[track_caller]
pub(crate) fn compare(source: &dyn SourceTree, dest: &dyn DestTree, options: &CompareOptions) -> CompareReport {
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    let cx = CopyContext { source, dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    compare_trees(&cx, options).unwrap()
}

/// The copy holds the model, with holes where it has holes, by rules, and nothing is held open.
#[track_caller]
pub(crate) fn assert_holds(dest: &MemoryTree, model: &TreeModel) {
    assert_holds_with(dest, model, &DiffOptions { holes: true, ..DiffOptions::default() });
}

#[track_caller]
pub(crate) fn assert_holds_with(dest: &MemoryTree, model: &TreeModel, options: &DiffOptions) {
    let lines = diff_with(model, &dest.snapshot(), options);
    assert!(lines.is_empty(), "the copy differs:\n{}", lines.join("\n"));
    assert_tidy(dest);
}

/// No rule was broken, and nothing is held.
#[track_caller]
pub(crate) fn assert_tidy(tree: &MemoryTree) {
    tree.assert_no_violations();
    assert_eq!(tree.open_handles(), 0, "handles stay open");
}

/// A further run finds nothing to do: no file opened, nothing changed.
#[track_caller]
pub(crate) fn assert_nothing_to_do(source: &MemoryTree, dest: &MemoryTree, options: &CopyOptions) {
    source.reset_calls();
    dest.reset_calls();
    let report = run_clean(source, dest, options);
    let done = &report.counters;
    assert_eq!(done.action(Action::Unchanged), done.done_entries, "{:?}", done.actions);
    assert_eq!((done.opened_files, done.copied_files, done.copied_bytes), (0, 0, 0));
    let (reads, writes) = (source.calls(Side::Source), dest.calls(Side::Dest));
    assert_eq!((reads.opened_files(), writes.opened_files(), writes.changes()), (0, 0, 0), "{reads:?} {writes:?}");
}

/// Paths whose entries are not the same in both models, by everything but the holes.
pub(crate) fn differing(a: &TreeModel, b: &TreeModel) -> BTreeSet<Vec<u8>> {
    let paths: BTreeSet<&[u8]> = a.iter().chain(b.iter()).map(|(path, _)| path).collect();
    let mut found: BTreeSet<Vec<u8>> = paths
        .into_iter()
        .filter(|path| match (a.get(path), b.get(path)) {
            (Some(a), Some(b)) => {
                let alone = |entry: &Entry| {
                    let mut entry = entry.clone();
                    entry.link_group = None;
                    TreeModel::new().with("x", entry)
                };
                !diff(&alone(a), &alone(b)).is_empty()
            }
            _ => true,
        })
        .map(<[u8]>::to_vec)
        .collect();
    let (ours, theirs) = (a.link_sets(), b.link_sets());
    for names in ours.symmetric_difference(&theirs) {
        found.extend(names.iter().map(|name| name.to_vec()));
    }
    found
}

/// Remembers everything that a run tells.
#[derive(Default)]
pub(crate) struct Recorder {
    records: Mutex<Vec<EntryRecord>>,
    verified: Mutex<Vec<EntryRecord>>,
    failed: Mutex<Vec<Fault>>,
    progress: Mutex<Vec<Progress>>,
    faults: Mutex<Vec<Fault>>,
    warnings: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    pub(crate) fn records(&self) -> Vec<EntryRecord> {
        lock(&self.records).clone()
    }

    pub(crate) fn verified(&self) -> Vec<EntryRecord> {
        lock(&self.verified).clone()
    }

    /// All faults, where [`Self::faults`] are the first.
    pub(crate) fn failed(&self) -> Vec<Fault> {
        lock(&self.failed).clone()
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        lock(&self.progress).clone()
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        lock(&self.faults).clone()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// The record of one entry.
    #[track_caller]
    pub(crate) fn record(&self, path: &[u8]) -> EntryRecord {
        let found: Vec<_> = self.records().into_iter().filter(|r| r.path.as_bytes() == path).collect();
        assert_eq!(found.len(), 1, "records of `{}`", escape(path));
        found[0].clone()
    }
}

impl Monitor for Recorder {
    fn progress(&self, progress: &Progress) {
        lock(&self.progress).push(progress.clone());
    }

    fn fault(&self, fault: &Fault) {
        lock(&self.faults).push(fault.clone());
    }

    fn warning(&self, text: &str) {
        lock(&self.warnings).push(text.into());
    }

    fn failed(&self, fault: &Fault) {
        lock(&self.failed).push(fault.clone());
    }

    fn record(&self, record: EntryRecord) {
        lock(&self.records).push(record);
    }

    fn verified(&self, record: EntryRecord) {
        lock(&self.verified).push(record);
    }
}
