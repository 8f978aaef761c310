//! What waits to be done. Entries come before new directories, and new directories are taken from the deepest on, so
//! that few are open at once; pieces of large files come before all, since they hold memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::dir::DirState;
use super::file::BigFile;
use super::run::lock;
use crate::restic::id::Id;

pub(super) enum Task {
    /// Stores a piece of a large file.
    Piece(Piece),
    /// Reads a large file.
    Big(Arc<DirState>, usize),
    /// Works on some entries of a directory.
    Entries(Arc<DirState>, Range<usize>),
    /// Opens and lists a subdirectory.
    Enter(Enter),
}

pub(super) struct Piece {
    pub(super) file: Arc<BigFile>,
    pub(super) number: usize,
    pub(super) data: Vec<u8>,
}

pub(super) struct Enter {
    pub(super) dir: Arc<DirState>,
    pub(super) slot: usize,
    /// The same directory in the parent snapshot.
    pub(super) parent_tree: Option<Id>,
}

pub(super) struct Queue {
    inner: Mutex<Inner>,
    wake: Condvar,
}

struct Inner {
    pieces: VecDeque<Piece>,
    piece_bytes: usize,
    bigs: VecDeque<(Arc<DirState>, usize)>,
    bigs_running: usize,
    bigs_max: usize,
    entries: VecDeque<(Arc<DirState>, Range<usize>)>,
    entries_waiting: usize,
    dirs: Vec<Enter>,
    running: usize,
    entering: usize,
    ended: bool,
}

/// What a worker did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Did {
    Nothing,
    Enter,
    Big,
    Other,
}

/// Pieces of large files that wait: a few of the largest, so that every worker finds one.
const PIECE_BYTES_MAX: usize = 8 << 20;
/// Large files that wait for their turn before no more entries are looked at: a place in a list each.
const BIGS_WAITING_MAX: usize = 4096;
/// Entries that wait below which finding more directories is the better work.
const ENTRIES_LOW: usize = 512;

impl Queue {
    pub(super) fn new(bigs_max: usize) -> Self {
        let inner = Inner {
            pieces: VecDeque::new(),
            piece_bytes: 0,
            bigs: VecDeque::new(),
            bigs_running: 0,
            bigs_max,
            entries: VecDeque::new(),
            entries_waiting: 0,
            dirs: Vec::new(),
            running: 0,
            entering: 0,
            ended: false,
        };
        Self { inner: Mutex::new(inner), wake: Condvar::new() }
    }

    /// Waits for a task; `None` when everything is done.
    pub(super) fn next(&self, did: Did) -> Option<(Task, Did)> {
        let mut inner = lock(&self.inner);
        if did != Did::Nothing {
            inner.running -= 1;
            inner.entering -= usize::from(did == Did::Enter);
            inner.bigs_running -= usize::from(did == Did::Big);
        }
        loop {
            if inner.ended {
                return None;
            }
            if let Some((task, did)) = inner.take() {
                inner.running += 1;
                inner.entering += usize::from(did == Did::Enter);
                inner.bigs_running += usize::from(did == Did::Big);
                if did == Did::Big {
                    // Where the list of them was full, entries may be taken again.
                    self.wake.notify_one();
                }
                return Some((task, did));
            }
            if inner.running == 0 {
                inner.ended = true;
                self.wake.notify_all();
                return None;
            }
            inner = self.wait(inner);
        }
    }

    fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        self.wake.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn add_entries(&self, dir: &Arc<DirState>, batch: usize) {
        let count = dir.names.len();
        let mut inner = lock(&self.inner);
        if inner.ended {
            return;
        }
        inner.entries_waiting += count;
        let starts = (0..count).step_by(batch);
        inner.entries.extend(starts.map(|start| (dir.clone(), start..count.min(start + batch))));
        drop(inner);
        self.wake.notify_all();
    }

    pub(super) fn add_dirs(&self, dirs: Vec<Enter>) {
        let mut inner = lock(&self.inner);
        if !inner.ended {
            // Backwards, so that they are taken in the order of their names.
            inner.dirs.extend(dirs.into_iter().rev());
        }
        drop(inner);
        self.wake.notify_all();
    }

    pub(super) fn add_big(&self, dir: &Arc<DirState>, slot: usize) {
        let mut inner = lock(&self.inner);
        if !inner.ended {
            inner.bigs.push_back((dir.clone(), slot));
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Gives the piece back where too many wait.
    pub(super) fn add_piece(&self, piece: Piece) -> Option<Piece> {
        let mut inner = lock(&self.inner);
        if inner.ended || inner.piece_bytes + piece.data.len() > PIECE_BYTES_MAX {
            return Some(piece);
        }
        inner.piece_bytes += piece.data.len();
        inner.pieces.push_back(piece);
        drop(inner);
        self.wake.notify_one();
        None
    }

    /// A piece that waits, for a worker that has to wait for pieces.
    pub(super) fn take_piece(&self) -> Option<Piece> {
        lock(&self.inner).take_piece()
    }

    /// Nothing is left to be found: every entry of the source is known.
    pub(super) fn scan_has_ended(&self) -> bool {
        let inner = lock(&self.inner);
        inner.dirs.is_empty() && inner.entering == 0
    }

    /// Drops what waits and lets the workers end.
    pub(super) fn clear(&self) {
        let mut inner = lock(&self.inner);
        inner.ended = true;
        inner.piece_bytes = 0;
        inner.entries_waiting = 0;
        let dropped = (
            std::mem::take(&mut inner.pieces),
            std::mem::take(&mut inner.bigs),
            std::mem::take(&mut inner.entries),
            std::mem::take(&mut inner.dirs),
        );
        drop(inner);
        drop(dropped);
        self.wake.notify_all();
    }
}

impl Inner {
    fn take_piece(&mut self) -> Option<Piece> {
        let piece = self.pieces.pop_front()?;
        self.piece_bytes -= piece.data.len();
        Some(piece)
    }

    fn take(&mut self) -> Option<(Task, Did)> {
        if let Some(piece) = self.take_piece() {
            return Some((Task::Piece(piece), Did::Other));
        }
        if self.bigs_running < self.bigs_max
            && let Some((dir, slot)) = self.bigs.pop_front()
        {
            return Some((Task::Big(dir, slot), Did::Big));
        }
        if self.bigs.len() >= BIGS_WAITING_MAX {
            return None;
        }
        if self.entries_waiting < ENTRIES_LOW
            && let Some(enter) = self.dirs.pop()
        {
            return Some((Task::Enter(enter), Did::Enter));
        }
        if let Some((dir, range)) = self.entries.pop_front() {
            self.entries_waiting -= range.len();
            return Some((Task::Entries(dir, range), Did::Other));
        }
        self.dirs.pop().map(|enter| (Task::Enter(enter), Did::Enter))
    }
}
