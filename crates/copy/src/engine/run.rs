//! What all workers of a run share, and what each has for itself.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::CopyContext;
use super::dir::Dir;
use super::links::Links;
use super::queue::Queue;
use crate::error::{ErrorClass, Fault, FsError, FsOp, FsResult};
use crate::filter::Filter;
use crate::hash::Checksum;
use crate::meta::{EntryKind, Metadata, Timestamp};
use crate::options::{Limits, Records};
use crate::path::RelPath;
use crate::report::{Action, Counters, Difference, DifferenceKind, EntryRecord, Loss, LossKind, Mover};
use crate::stop::{StopReason, StopToken};

/// An entry, by its directory and name.
pub(super) type Place = (Arc<Dir>, Box<[u8]>);

/// Shared by all workers of a run, whatever it does.
pub(super) struct Run<'a> {
    pub(super) cx: &'a CopyContext<'a>,
    pub(super) limits: &'a Limits,
    pub(super) filter: &'a Filter,
    pub(super) records: Records,
    pub(super) stop_on_fault: bool,
    pub(super) one_file_system: bool,
    /// The end of a copy, whose entries have been told already.
    pub(super) is_verification: bool,
    /// Storage is asked to begin early, because the run waits for it in the end.
    pub(super) early_writeback: bool,
    pub(super) queue: Queue,
    pub(super) links: Links,
    pub(super) hasher: RandomState,
    /// Merged from the workers batch by batch.
    totals: Mutex<Counters>,
    notes: Mutex<Notes>,
    /// The engine's own reason to stop; the caller's token is only read.
    halt: StopToken,
    no_space_streak: AtomicU32,
    /// A file that is being copied, for people to see.
    pub(super) current: Mutex<Option<Place>>,
    /// Files that take a while and are on their way.
    in_hand: Mutex<Vec<Weak<InHand>>>,
    /// Bytes moved, told while files are on their way, for rates and for the number of workers.
    pub(super) moved_bytes: AtomicU64,
    pub(super) worked_entries: AtomicU64,
    /// Large buffers that nobody uses at the moment.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Somebody wants to know the destination's clock: the next finished entry tells.
    pub(super) wants_clock: AtomicBool,
    pub(super) clock: Mutex<Option<Timestamp>>,
}

#[derive(Default)]
struct Notes {
    faults: Vec<Fault>,
    classes: BTreeMap<ErrorClass, u64>,
    losses: HashMap<LossKind, Loss>,
    differences: BTreeMap<DifferenceKind, Difference>,
    warnings: Vec<String>,
}

/// What remains of a run's notes for its report.
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) fault_classes: Vec<(ErrorClass, u64)>,
    pub(super) losses: Vec<Loss>,
    pub(super) differences: Vec<Difference>,
    pub(super) warnings: Vec<String>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Run<'a> {
    pub(super) fn new(
        cx: &'a CopyContext<'a>,
        limits: &'a Limits,
        filter: &'a Filter,
        records: Records,
        target: usize,
    ) -> Self {
        Self {
            cx,
            limits,
            filter,
            records,
            stop_on_fault: false,
            one_file_system: false,
            is_verification: false,
            early_writeback: false,
            queue: Queue::new(target),
            links: Links::new(),
            hasher: RandomState::new(),
            totals: Mutex::default(),
            notes: Mutex::default(),
            halt: StopToken::new(),
            no_space_streak: AtomicU32::new(0),
            current: Mutex::new(None),
            in_hand: Mutex::default(),
            moved_bytes: AtomicU64::new(0),
            worked_entries: AtomicU64::new(0),
            buffers: Mutex::default(),
            wants_clock: AtomicBool::new(false),
            clock: Mutex::new(None),
        }
    }

    /// Whether a server answers for either side.
    pub(super) fn is_network(&self) -> bool {
        self.cx.source.facts().is_network || self.cx.dest.facts().is_network
    }

    pub(super) fn buffer_bytes(&self) -> usize {
        if self.is_network() { self.limits.buffer_bytes_network } else { self.limits.buffer_bytes }
    }

    pub(super) fn batch_entries(&self) -> usize {
        if self.is_network() { self.limits.batch_entries_network } else { self.limits.batch_entries }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.cx.stop.is_stopped() || self.halt.is_stopped()
    }

    /// What an operation answers that was given up because the run is stopped.
    pub(super) fn given_up(op: FsOp) -> FsError {
        FsError::found(op, ErrorClass::Other)
    }

    /// Tells such an answer from a fault: nothing is wrong with the entry, it is just not done.
    pub(super) fn is_given_up(&self, error: FsError) -> bool {
        self.is_stopped() && error.errno == 0 && error.class == ErrorClass::Other
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        self.cx.stop.reason().max(self.halt.reason())
    }

    pub(super) fn halt(&self) {
        self.halt.stop(StopReason::Fault);
    }

    pub(super) fn name_hash(&self, name: &[u8]) -> u64 {
        self.hasher.hash_one(name)
    }

    pub(super) fn totals(&self) -> Counters {
        lock(&self.totals).clone()
    }

    /// Notes a fault; where the run must not go on over it, stops it.
    pub(super) fn fault(&self, worker: &mut Worker, path: RelPath, error: FsError) {
        worker.counters.faults += 1;
        let fault = Fault { path, error };
        self.cx.monitor.failed(&fault);
        {
            let mut notes = lock(&self.notes);
            *notes.classes.entry(error.class).or_default() += 1;
            if notes.faults.len() < self.limits.faults_kept {
                notes.faults.push(fault.clone());
                drop(notes);
                self.cx.monitor.fault(&fault);
            }
        }
        if self.stop_on_fault || error.class == ErrorClass::ReadOnly {
            self.halt();
        }
        if error.class == ErrorClass::NoSpace
            && self.no_space_streak.fetch_add(1, Ordering::Relaxed) + 1 >= self.limits.no_space_faults
        {
            self.warn("stopped: the destination is full".into());
            self.halt();
        }
    }

    /// Something was written: there is space.
    pub(super) fn wrote(&self) {
        if self.no_space_streak.load(Ordering::Relaxed) != 0 {
            self.no_space_streak.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn loss(&self, worker: &mut Worker, kind: LossKind, path: impl FnOnce() -> RelPath) {
        worker.counters.losses += 1;
        if !worker.entry_losses.contains(&kind) {
            worker.entry_losses.push(kind);
        }
        let mut notes = lock(&self.notes);
        let loss = notes.losses.entry(kind).or_insert_with(|| Loss { kind, count: 0, paths: Vec::new() });
        loss.count += 1;
        if loss.paths.len() < self.limits.faults_kept {
            loss.paths.push(path());
        }
    }

    pub(super) fn difference(&self, worker: &mut Worker, kind: DifferenceKind, path: impl FnOnce() -> RelPath) {
        worker.counters.differences += 1;
        worker.entry_differences.push(kind);
        let mut notes = lock(&self.notes);
        let difference =
            notes.differences.entry(kind).or_insert_with(|| Difference { kind, count: 0, paths: Vec::new() });
        difference.count += 1;
        if difference.paths.len() < self.limits.faults_kept {
            difference.paths.push(path());
        }
    }

    pub(super) fn warn(&self, text: String) {
        self.cx.monitor.warning(&text);
        lock(&self.notes).warnings.push(text);
    }

    /// Takes the notes for the report.
    pub(super) fn findings(&self) -> Findings {
        let notes = std::mem::take(&mut *lock(&self.notes));
        let mut losses: Vec<Loss> = notes.losses.into_values().collect();
        losses.sort_by_key(|loss| loss.kind);
        Findings {
            faults: notes.faults,
            fault_classes: notes.classes.into_iter().collect(),
            losses,
            differences: notes.differences.into_values().collect(),
            warnings: notes.warnings,
        }
    }

    /// Runs an operation again while its error may pass by itself.
    pub(super) fn retry<T>(&self, worker: &mut Worker, operation: impl FnMut() -> FsResult<T>) -> FsResult<T> {
        self.retry_counted(operation, |tries| worker.counters.retries += tries)
    }

    /// [`retry`](Self::retry) for places that have no worker at hand.
    pub(super) fn again<T>(&self, operation: impl FnMut() -> FsResult<T>) -> FsResult<T> {
        self.retry_counted(operation, |tries| lock(&self.totals).retries += tries)
    }

    fn retry_counted<T>(&self, mut operation: impl FnMut() -> FsResult<T>, count: impl FnOnce(u64)) -> FsResult<T> {
        let mut pause = self.limits.retry_pause;
        let mut tries = 0;
        let answer = loop {
            match operation() {
                Err(error) if tries < tries_for(error, self.limits.retries) && !self.is_stopped() => {
                    tries += 1;
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                answer => break answer,
            }
        };
        if tries > 0 {
            count(u64::from(tries));
        }
        answer
    }

    /// Whether an entry is left out by a filter.
    pub(super) fn filters(&self, dir: &Dir, name: &[u8], is_dir: bool) -> bool {
        self.filter.ignores_name(name)
            || self.filter.needs_paths() && self.filter.leaves_out(dir.path(name).as_bytes(), is_dir)
    }

    /// Merges a worker's counters into the totals.
    pub(super) fn merge(&self, worker: &mut Worker) {
        self.worked_entries.fetch_add(worker.counters.done_entries, Ordering::Relaxed);
        lock(&self.totals).add(&std::mem::take(&mut worker.counters));
    }
}

/// A passing error gets all tries; a failed read or write one more, since some storage answers after a path switch.
fn tries_for(error: FsError, retries: u32) -> u32 {
    match error.class {
        ErrorClass::Transient => retries,
        // A write error told at close or sync is told once: trying again would hide it.
        ErrorClass::Io if !matches!(error.op, FsOp::Close | FsOp::Sync) => retries.min(1),
        _ => 0,
    }
}

/// What one thread of a run has for itself.
pub(super) struct Worker {
    pub(super) counters: Counters,
    buffer: Vec<u8>,
    pub(super) entry_losses: Vec<LossKind>,
    pub(super) entry_differences: Vec<DifferenceKind>,
    /// The directory that the last hard link was made from.
    pub(super) link_dir: Option<(u32, Arc<dyn crate::tree::DestDir>)>,
    /// The file whose bytes it moves, if that takes a while.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// The directory whose entries were worked on last; not held, since it holds all above it.
    pub(super) last_dir: Weak<Dir>,
}

impl Worker {
    pub(super) fn new() -> Self {
        Self {
            counters: Counters::default(),
            buffer: Vec::new(),
            entry_losses: Vec::new(),
            entry_differences: Vec::new(),
            link_dir: None,
            in_hand: None,
            last_dir: Weak::new(),
        }
    }
}

/// A file on its way. In the list for as long as somebody works on it.
pub(super) struct InHand {
    pub(super) dir: Arc<Dir>,
    pub(super) name: Box<[u8]>,
    /// What there is to be moved.
    pub(super) bytes: u64,
    moved_bytes: AtomicU64,
}

impl InHand {
    pub(super) fn moved_bytes(&self) -> u64 {
        self.moved_bytes.load(Ordering::Relaxed).min(self.bytes)
    }

    /// Its content is moved once more from the beginning.
    pub(super) fn begin_again(&self) {
        self.moved_bytes.store(0, Ordering::Relaxed);
    }
}

/// Files of fewer bytes are done before anybody looks.
const IN_HAND_BYTES_MIN: u64 = 1 << 20;

impl Run<'_> {
    /// Notes a file whose content is about to be moved, if that takes a while.
    pub(super) fn take_in_hand(&self, dir: &Arc<Dir>, name: &[u8], meta: &Metadata) -> Option<Arc<InHand>> {
        let bytes = meta.size_bytes.min(meta.allocated_bytes);
        if bytes < IN_HAND_BYTES_MIN {
            return None;
        }
        let file = InHand { dir: dir.clone(), name: name.into(), bytes, moved_bytes: AtomicU64::new(0) };
        let file = Arc::new(file);
        let mut list = lock(&self.in_hand);
        list.retain(|file| file.strong_count() > 0);
        list.push(Arc::downgrade(&file));
        Some(file)
    }

    /// The files on their way, the one that was begun first at the front.
    pub(super) fn in_hand(&self) -> Vec<Arc<InHand>> {
        lock(&self.in_hand).iter().filter_map(Weak::upgrade).collect()
    }

    pub(super) fn note_moved(&self, worker: &Worker, bytes: u64) {
        self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(file) = &worker.in_hand {
            file.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// A buffer of at least `len` bytes with any content. It is handed out, so that the worker stays usable. Each worker
    /// keeps a small one; large ones are shared, so that there are only as many as are in use at once.
    pub(super) fn take_buffer(&self, worker: &mut Worker, len: usize) -> Vec<u8> {
        let kept =
            if len > SMALL_BUFFER { lock(&self.buffers).pop() } else { Some(std::mem::take(&mut worker.buffer)) };
        kept.filter(|buffer| buffer.len() >= len).unwrap_or_else(|| vec![0; len])
    }

    pub(super) fn give_back(&self, worker: &mut Worker, buffer: Vec<u8>) {
        if buffer.len() > SMALL_BUFFER {
            lock(&self.buffers).push(buffer);
        } else {
            worker.buffer = buffer;
        }
    }
}

/// Largest buffer that a worker keeps for itself.
const SMALL_BUFFER: usize = 128 << 10;

/// What became of an entry, before it is counted.
#[derive(Default)]
pub(super) struct Outcome {
    pub(super) kind: Option<EntryKind>,
    pub(super) action: Option<Action>,
    pub(super) mover: Option<Mover>,
    pub(super) size_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) mtime: Option<Timestamp>,
    pub(super) copied_bytes: u64,
    pub(super) checksum: Option<Checksum>,
    pub(super) error: Option<FsError>,
}

impl Run<'_> {
    /// Counts a finished entry, notes its fault, and hands its record on where one is wanted.
    #[expect(clippy::needless_pass_by_value, reason = "an outcome is told once, by whoever made it")]
    pub(super) fn finish_entry(&self, worker: &mut Worker, dir: &Dir, name: &[u8], outcome: Outcome) {
        let counters = &mut worker.counters;
        counters.done_entries += 1;
        if let Some(kind) = outcome.kind {
            counters.kinds[kind as usize] += 1;
        }
        if let Some(action) = outcome.action {
            counters.actions[action as usize] += 1;
        }
        counters.done_bytes += outcome.size_bytes.min(outcome.allocated_bytes);
        counters.copied_bytes += outcome.copied_bytes;
        if let Some(mover) = outcome.mover {
            counters.copied_files += 1;
            counters.mover_files[mover as usize] += 1;
            counters.mover_bytes[mover as usize] += outcome.copied_bytes;
        }
        if let Some(error) = outcome.error {
            self.fault(worker, dir.path(name), error);
        } else if outcome.mover.is_some() {
            self.wrote();
        }
        if self.records != Records::None {
            self.record(worker, dir, name, &outcome);
        }
        worker.entry_losses.clear();
        worker.entry_differences.clear();
    }

    fn record(&self, worker: &mut Worker, dir: &Dir, name: &[u8], outcome: &Outcome) {
        let quiet = outcome.error.is_none()
            && worker.entry_losses.is_empty()
            && worker.entry_differences.is_empty()
            && matches!(outcome.action, Some(Action::Unchanged) | None);
        if self.records == Records::Changes && quiet {
            return;
        }
        let record = EntryRecord {
            path: dir.path(name),
            kind: outcome.kind,
            action: outcome.action,
            mover: outcome.mover,
            size_bytes: outcome.size_bytes,
            mtime: outcome.mtime,
            copied_bytes: outcome.copied_bytes,
            checksum: outcome.checksum,
            losses: worker.entry_losses.clone(),
            differences: worker.entry_differences.clone(),
            error: outcome.error,
        };
        if self.is_verification {
            self.cx.monitor.verified(record);
        } else {
            self.cx.monitor.record(record);
        }
    }
}
