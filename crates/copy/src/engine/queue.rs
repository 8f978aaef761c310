//! The work that waits, in bounded memory: entries before directories, deep before wide, and neighbours in turn.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::big::BigFile;
use super::dir::Dir;
use crate::tree::{ListCursor, NameBatch};

/// One unit of work. Each is explicit and self-contained, so that units can be handed to other nodes one day.
pub(super) enum Task {
    /// Another byte range of a large file.
    Range(Arc<BigFile>),
    /// Entries of one directory that are not directories, as far as is known.
    Batch(Arc<Dir>, NameBatch),
    /// A subdirectory to open.
    Enter(Arc<Dir>, Box<[u8]>),
    /// A directory whose listing goes on.
    List(Arc<Dir>, ListCursor),
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    /// For workers that may work and found nothing.
    wake: Condvar,
    /// For workers beyond the target: they must not be woken for every task.
    parked: Condvar,
}

struct Inner {
    ranges: VecDeque<Arc<BigFile>>,
    /// Directories with batches, taken in turn: creates in one directory wait for each other, in several they do not.
    active: VecDeque<(Arc<Dir>, VecDeque<NameBatch>)>,
    queued_entries: usize,
    /// Last in, first out: the walk goes down before it goes on, so that little is open and little waits.
    walk: Vec<Task>,
    /// Entries whose turn comes when nothing else is left.
    last: Vec<(Arc<Dir>, Box<[u8]>)>,
    /// Their turn has come: nothing more is put off.
    is_last: bool,
    /// Tasks that are being worked on; while there are any, more may come.
    running: usize,
    /// Workers that wait for a task.
    idle: usize,
    /// Walking tasks among them.
    walking: usize,
    /// Workers that may take tasks now.
    target: usize,
    /// Waiting entries below which finding more is the better work.
    low_water: usize,
    ended: bool,
}

/// What a worker found when it asked for work.
pub(super) enum Next {
    Task(Task),
    Ended,
}

impl Queue {
    pub(super) fn new(target: usize) -> Self {
        let inner = Inner {
            ranges: VecDeque::new(),
            active: VecDeque::new(),
            queued_entries: 0,
            walk: Vec::new(),
            last: Vec::new(),
            is_last: false,
            running: 0,
            idle: 0,
            walking: 0,
            target,
            low_water: 64,
            ended: false,
        };
        Self { inner: Mutex::new(inner), wake: Condvar::new(), parked: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a task. `done` tells that the caller's last one is finished (and whether it was a walking one).
    pub(super) fn next(&self, worker: usize, finished: Option<bool>) -> Next {
        let mut inner = self.lock();
        if let Some(was_walk) = finished {
            inner.running -= 1;
            inner.walking -= usize::from(was_walk);
        }
        loop {
            if inner.ended {
                return Next::Ended;
            }
            if worker < inner.target
                && let Some(task) = inner.take()
            {
                inner.running += 1;
                inner.walking += usize::from(matches!(task, Task::Enter(..) | Task::List(..)));
                return Next::Task(task);
            }
            if inner.running == 0 && inner.is_empty() && inner.begin_last() {
                self.wake_all();
                continue;
            }
            if inner.running == 0 && inner.is_empty() {
                inner.ended = true;
                self.wake_all();
                return Next::Ended;
            }
            if worker < inner.target {
                inner.idle += 1;
                inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.idle -= 1;
            } else {
                inner = self.parked.wait(inner).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn wake_all(&self) {
        self.wake.notify_all();
        self.parked.notify_all();
    }

    /// Wakes as many as there are tasks for; waking all of hundreds for one task would cost more than the task.
    fn wake_for(&self, inner: MutexGuard<'_, Inner>, tasks: usize) {
        let wake = tasks.min(inner.idle);
        drop(inner);
        for _ in 0..wake {
            self.wake.notify_one();
        }
    }

    /// Adds what a listing found: batches of one directory, its subdirectories, and where to go on.
    pub(super) fn add_listing(
        &self,
        dir: &Arc<Dir>,
        batches: Vec<NameBatch>,
        subdirs: &NameBatch,
        more: Option<ListCursor>,
    ) {
        let mut inner = self.lock();
        if let Some(cursor) = more {
            inner.walk.push(Task::List(dir.clone(), cursor));
        }
        // Backwards, so that they are taken in the order of the listing.
        let names: Vec<_> = subdirs.iter().map(|(name, _)| name).collect();
        for name in names.into_iter().rev() {
            inner.walk.push(Task::Enter(dir.clone(), name.into()));
        }
        let tasks = batches.len() + subdirs.len() + usize::from(more.is_some());
        if !batches.is_empty() {
            inner.queued_entries += batches.iter().map(NameBatch::len).sum::<usize>();
            match inner.active.iter_mut().find(|(active, _)| Arc::ptr_eq(active, dir)) {
                Some((_, waiting)) => waiting.extend(batches),
                None => inner.active.push_back((dir.clone(), batches.into())),
            }
        }
        self.wake_for(inner, tasks);
    }

    pub(super) fn add_root(&self, dir: Arc<Dir>) {
        self.lock().walk.push(Task::List(dir, ListCursor::default()));
    }

    /// Invites `helpers` workers to the ranges of a file.
    pub(super) fn add_ranges(&self, file: &Arc<BigFile>, helpers: usize) {
        let mut inner = self.lock();
        inner.ranges.extend(std::iter::repeat_n(file, helpers).cloned());
        self.wake_for(inner, helpers);
    }

    /// Puts an entry off until all others are done; `false` where it is too late for that, or too many wait already.
    pub(super) fn put_off(&self, dir: &Arc<Dir>, name: &[u8]) -> bool {
        let mut inner = self.lock();
        let takes = !inner.is_last && inner.last.len() < LAST_MAX;
        if takes {
            inner.last.push((dir.clone(), name.into()));
        }
        takes
    }

    /// Changes how many workers may work.
    pub(super) fn set_target(&self, target: usize, low_water: usize) {
        let mut inner = self.lock();
        let changed = inner.target != target;
        inner.target = target;
        inner.low_water = low_water;
        drop(inner);
        if changed {
            self.wake_all();
        }
    }

    /// Nothing is left to be found: every entry of the source is known.
    pub(super) fn scan_has_ended(&self) -> bool {
        let inner = self.lock();
        inner.walk.is_empty() && inner.walking == 0
    }

    pub(super) fn waiting(&self) -> usize {
        self.lock().queued_entries
    }

    /// Work waits that more workers could take.
    pub(super) fn has_backlog(&self) -> bool {
        let inner = self.lock();
        inner.queued_entries > 0 || !inner.ranges.is_empty() || !inner.walk.is_empty()
    }

    /// Ends everything at once: a worker is lost and its task with it.
    pub(super) fn abort(&self) {
        self.lock().ended = true;
        self.clear();
    }

    /// Drops what waits: the run is stopped.
    pub(super) fn clear(&self) {
        let mut inner = self.lock();
        let dropped =
            (std::mem::take(&mut inner.ranges), std::mem::take(&mut inner.active), std::mem::take(&mut inner.walk));
        let last = std::mem::take(&mut inner.last);
        inner.queued_entries = 0;
        drop(inner);
        drop((dropped, last));
        self.wake_all();
    }
}

/// Entries that may be put off: a few MiB of names.
const LAST_MAX: usize = 64 << 10;
/// Names of one batch of them.
const LAST_BATCH: usize = 16;

impl Inner {
    /// Everything else is done: makes what was put off ordinary work. `false` where nothing was.
    fn begin_last(&mut self) -> bool {
        self.is_last = true;
        for (dir, name) in std::mem::take(&mut self.last) {
            self.queued_entries += 1;
            if !self.active.back().is_some_and(|(active, _)| Arc::ptr_eq(active, &dir)) {
                self.active.push_back((dir, VecDeque::new()));
            }
            let (_, batches) = self.active.back_mut().expect("just made");
            if batches.back().is_none_or(|batch| batch.len() >= LAST_BATCH) {
                batches.push_back(NameBatch::new());
            }
            batches.back_mut().expect("just made").push(&name, None);
        }
        self.queued_entries > 0
    }

    fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.active.is_empty() && self.walk.is_empty()
    }

    fn take(&mut self) -> Option<Task> {
        // First what holds files open, then entries, and new directories only when the entries run low.
        if let Some(file) = self.ranges.pop_front() {
            return Some(Task::Range(file));
        }
        if self.queued_entries < self.low_water
            && let Some(task) = self.walk.pop()
        {
            return Some(task);
        }
        if let Some((dir, mut batches)) = self.active.pop_front() {
            let batch = batches.pop_front().expect("an active directory has a batch");
            self.queued_entries -= batch.len();
            if !batches.is_empty() {
                self.active.push_back((dir.clone(), batches));
            }
            return Some(Task::Batch(dir, batch));
        }
        self.walk.pop()
    }
}
