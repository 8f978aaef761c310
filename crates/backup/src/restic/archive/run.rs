//! What the threads of one backup share: counters, faults, losses, and the order to stop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use copy::{
    Action, Counters, EntryKind, EntryRecord, ErrorClass, Fault, FsError, FsOp, FsResult, Loss, LossKind, Mover,
    OnFault, Records, RelPath, StopReason, Timestamp,
};

use super::dir::DirState;
use super::queue::Queue;
use super::{BackupContext, BackupOptions};
use crate::restic::blobs::Blobs;
use crate::restic::chunker::Chunker;
use crate::restic::error::RepositoryError;
use crate::restic::id::Id;
use crate::restic::pack::{LinkedContents, Packer};
use crate::restic::store::StoreErrorClass;

pub(super) struct Run<'a> {
    pub(super) cx: &'a BackupContext<'a>,
    pub(super) options: &'a BackupOptions,
    pub(super) packer: &'a Packer<'a>,
    /// Trees of the parent snapshot come from here.
    pub(super) blobs: &'a Blobs<'a>,
    pub(super) chunker: &'a Chunker,
    pub(super) queue: Queue,
    pub(super) linked: LinkedContents,
    /// The blob of zeros that each hole is made of.
    pub(super) zeros: Mutex<Option<Id>>,
    pub(super) root: Mutex<Option<Root>>,
    /// Bytes that were read so far, also of files that are not done.
    pub(super) moved_bytes: AtomicU64,
    /// Bytes that large files on their way still have.
    pub(super) big_left_bytes: AtomicU64,
    pub(super) current: Mutex<Option<(Arc<DirState>, usize)>>,
    halted: AtomicBool,
    failed: Mutex<Option<RepositoryError>>,
    totals: Mutex<Counters>,
    notes: Mutex<Notes>,
}

/// The finished root directory.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) node: crate::restic::node::Node,
}

#[derive(Default)]
struct Notes {
    faults: Vec<Fault>,
    classes: BTreeMap<ErrorClass, u64>,
    losses: BTreeMap<LossKind, Loss>,
    warnings: Vec<String>,
}

/// The notes for the report.
pub(super) struct Findings {
    pub(super) faults: Vec<Fault>,
    pub(super) fault_classes: Vec<(ErrorClass, u64)>,
    pub(super) losses: Vec<Loss>,
    pub(super) warnings: Vec<String>,
}

/// What became of one entry.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) kind: Option<EntryKind>,
    pub(super) action: Option<Action>,
    pub(super) size_bytes: u64,
    pub(super) allocated_bytes: u64,
    pub(super) mtime: Option<Timestamp>,
    pub(super) copied_bytes: u64,
    pub(super) error: Option<FsError>,
}

/// What one thread has for itself.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) counters: Counters,
    pub(super) buffer: Vec<u8>,
    entry_losses: Vec<LossKind>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Run<'a> {
    pub(super) fn new(
        cx: &'a BackupContext<'a>,
        options: &'a BackupOptions,
        packer: &'a Packer<'a>,
        blobs: &'a Blobs<'a>,
        chunker: &'a Chunker,
        big_files_max: usize,
    ) -> Self {
        Self {
            cx,
            options,
            packer,
            blobs,
            chunker,
            queue: Queue::new(big_files_max),
            linked: LinkedContents::default(),
            zeros: Mutex::new(None),
            root: Mutex::new(None),
            moved_bytes: AtomicU64::new(0),
            big_left_bytes: AtomicU64::new(0),
            current: Mutex::new(None),
            halted: AtomicBool::new(false),
            failed: Mutex::new(None),
            totals: Mutex::default(),
            notes: Mutex::default(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.halted.load(Ordering::Relaxed) || self.cx.stop.is_stopped()
    }

    pub(super) fn stop_reason(&self) -> Option<StopReason> {
        let halted = self.halted.load(Ordering::SeqCst).then_some(StopReason::Fault);
        self.cx.stop.reason().max(halted)
    }

    /// Ends the run: the repository cannot be used.
    pub(super) fn fail(&self, error: RepositoryError) {
        // A refused write is what an order to stop looks like from here.
        let refused = matches!(&error, RepositoryError::Store(error) if error.class == StoreErrorClass::Stopped);
        if !refused {
            lock(&self.failed).get_or_insert(error);
        }
        self.halt();
    }

    pub(super) fn take_failure(&self) -> Option<RepositoryError> {
        lock(&self.failed).take()
    }

    fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
        self.packer.refuse();
        self.queue.clear();
    }

    /// Notes a fault; where the run must not go on over it, stops it.
    pub(super) fn fault(&self, worker: &mut Worker, path: RelPath, error: FsError) {
        worker.counters.faults += 1;
        let fault = Fault { path, error };
        self.cx.monitor.failed(&fault);
        let mut notes = lock(&self.notes);
        *notes.classes.entry(error.class).or_default() += 1;
        if notes.faults.len() < self.options.limits.faults_kept {
            notes.faults.push(fault.clone());
            drop(notes);
            self.cx.monitor.fault(&fault);
        }
        if self.options.on_fault == OnFault::Stop {
            self.halt();
        }
    }

    pub(super) fn loss(&self, worker: &mut Worker, kind: LossKind, path: impl FnOnce() -> RelPath) {
        worker.counters.losses += 1;
        worker.entry_losses.push(kind);
        let mut notes = lock(&self.notes);
        let loss = notes.losses.entry(kind).or_insert_with(|| Loss { kind, count: 0, paths: Vec::new() });
        loss.count += 1;
        if loss.paths.len() < self.options.limits.faults_kept {
            loss.paths.push(path());
        }
    }

    pub(super) fn warn(&self, text: String) {
        self.cx.monitor.warning(&text);
        lock(&self.notes).warnings.push(text);
    }

    pub(super) fn findings(&self) -> Findings {
        let notes = std::mem::take(&mut *lock(&self.notes));
        Findings {
            faults: notes.faults,
            fault_classes: notes.classes.into_iter().collect(),
            losses: notes.losses.into_values().collect(),
            warnings: notes.warnings,
        }
    }

    /// Runs an operation again while its error may pass by itself.
    pub(super) fn retry<T>(&self, worker: &mut Worker, mut operation: impl FnMut() -> FsResult<T>) -> FsResult<T> {
        let limits = &self.options.limits;
        let (mut pause, mut tries) = (limits.retry_pause, 0);
        loop {
            let error = match operation() {
                Err(error) if !self.is_stopped() => error,
                answer => return answer,
            };
            let tries_max = match error.class {
                ErrorClass::Transient => limits.retries,
                // Some storage answers after a switch of paths.
                ErrorClass::Io => limits.retries.min(1),
                _ => 0,
            };
            if tries >= tries_max {
                return Err(error);
            }
            tries += 1;
            worker.counters.retries += 1;
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    pub(super) fn filters(&self, dir: &DirState, name: &[u8], is_dir: bool) -> bool {
        let filter = &self.options.filter;
        filter.needs_paths() && filter.leaves_out(dir.path(name).as_bytes(), is_dir)
    }

    /// Counts an entry that is done, and records it where that is asked for.
    pub(super) fn done(&self, worker: &mut Worker, path: impl FnOnce() -> RelPath, outcome: Outcome) {
        let counters = &mut worker.counters;
        counters.done_entries += 1;
        counters.done_bytes += outcome.allocated_bytes;
        if let Some(kind) = outcome.kind {
            counters.kinds[kind as usize] += 1;
        }
        if let Some(action) = outcome.action {
            counters.actions[action as usize] += 1;
        }
        let is_moved =
            outcome.kind == Some(EntryKind::File) && matches!(outcome.action, Some(Action::Created | Action::Replaced));
        if is_moved {
            counters.copied_files += 1;
            counters.copied_bytes += outcome.copied_bytes;
            counters.mover_files[Mover::Buffered as usize] += 1;
            counters.mover_bytes[Mover::Buffered as usize] += outcome.copied_bytes;
        }
        let losses = std::mem::take(&mut worker.entry_losses);
        let is_change = outcome.action != Some(Action::Unchanged) || !losses.is_empty();
        let wanted = match self.options.records {
            Records::None => false,
            Records::Changes => is_change,
            Records::All => true,
        };
        if wanted {
            self.cx.monitor.record(EntryRecord {
                path: path(),
                kind: outcome.kind,
                action: outcome.action,
                mover: is_moved.then_some(Mover::Buffered),
                size_bytes: outcome.size_bytes,
                mtime: outcome.mtime.filter(|_| is_moved),
                copied_bytes: outcome.copied_bytes,
                checksum: None,
                losses,
                differences: Vec::new(),
                error: outcome.error,
            });
        }
    }

    pub(super) fn merge(&self, worker: &mut Worker) {
        lock(&self.totals).add(&std::mem::take(&mut worker.counters));
    }

    pub(super) fn totals(&self) -> Counters {
        lock(&self.totals).clone()
    }

    /// The answer of an operation that was given up because the run ends.
    pub(super) fn given_up() -> FsError {
        FsError::found(FsOp::Read, ErrorClass::Other)
    }
}
