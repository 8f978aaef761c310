//! A large file that several workers move at once, window by window.

use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock};

use super::content::{Hashing, move_window};
use super::copy::{Copy, Item};
use super::dir::Dir;
use super::file::{Making, Moved, Opened, window};
use super::run::{InHand, Run, Worker, lock};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::hash::{BLOCK, BlockSum, HashKind};
use crate::meta::EntryKind;
use crate::report::Mover;

pub(super) struct BigFile {
    dir: Arc<Dir>,
    name: Box<[u8]>,
    opened: RwLock<Opened>,
    /// Taken out by whoever ends the file.
    making: RwLock<Option<Making>>,
    hash: Option<HashKind>,
    claims: Mutex<Claims>,
    in_hand: Option<Arc<InHand>>,
}

/// Which windows were handed out, and what came of them.
#[derive(Default)]
struct Claims {
    next: u64,
    in_flight: usize,
    all_claimed: bool,
    failed: Option<FsError>,
    holes: bool,
    moved: u64,
    sum: BlockSum,
    tries: u32,
    ended: bool,
}

impl BigFile {
    pub(super) fn new(
        item: &Item<'_>,
        opened: Opened,
        making: Making,
        hash: Option<HashKind>,
        in_hand: Option<Arc<InHand>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            in_hand,
            dir: item.dir.clone(),
            name: item.name.into(),
            opened: RwLock::new(opened),
            making: RwLock::new(Some(making)),
            hash,
            claims: Mutex::default(),
        })
    }

    /// The next window that holds data. Small files of the claim: a lock and, for files with holes, a look for data.
    fn claim(&self, run: &Run<'_>, opened: &Opened, extents: bool, range_bytes: u64) -> FsResult<Option<Range<u64>>> {
        let mut claims = lock(&self.claims);
        let size = opened.meta.size_bytes;
        if claims.all_claimed || claims.failed.is_some() {
            return Ok(None);
        }
        let mut start = claims.next;
        if extents && start < size {
            match run.again(|| opened.file.next_data(start)) {
                Ok(Some(data)) => {
                    let data_start = data.start - data.start % BLOCK;
                    claims.holes |= data_start > start;
                    start = data_start.max(start);
                }
                Ok(None) => {
                    claims.holes = true;
                    start = size;
                }
                Err(error) => {
                    claims.failed = Some(error);
                    return Err(error);
                }
            }
        }
        if start >= size {
            claims.all_claimed = true;
            return Ok(None);
        }
        let range = window(start, size, range_bytes.next_multiple_of(BLOCK));
        claims.next = range.end;
        claims.all_claimed = range.end >= size;
        claims.in_flight += 1;
        Ok(Some(range))
    }

    fn has_more(&self) -> bool {
        let claims = lock(&self.claims);
        !claims.all_claimed && claims.failed.is_none()
    }

    /// Gives a window back; `true` for the worker that has to end the file.
    fn returned(&self, result: FsResult<(u64, BlockSum)>) -> bool {
        let mut claims = lock(&self.claims);
        claims.in_flight -= 1;
        match result {
            Ok((bytes, sum)) => {
                claims.moved += bytes;
                claims.sum.add(sum);
            }
            Err(error) => {
                claims.failed.get_or_insert(error);
            }
        }
        claims.try_end()
    }
}

impl Claims {
    fn try_end(&mut self) -> bool {
        if self.ended || self.in_flight > 0 || !(self.all_claimed || self.failed.is_some()) {
            return false;
        }
        self.ended = true;
        true
    }
}

impl Copy<'_> {
    /// Moves one window, then lets others have their turn. The worker that returns the last one ends the file.
    pub(super) fn copy_range(&self, worker: &mut Worker, file: &Arc<BigFile>) {
        let ends = self.copy_window(worker, file);
        if self.run.is_stopped() {
            return;
        }
        if ends {
            self.end_ranges(worker, file);
        }
    }

    fn copy_window(&self, worker: &mut Worker, file: &Arc<BigFile>) -> bool {
        let opened = file.opened.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let making = file.making.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(making) = making.as_ref() else { return false };
        let claimed = self.manner(&opened).and_then(|manner| {
            Ok(file.claim(self.run, &opened, manner.extents, self.run.limits.range_bytes)?.map(|range| (manner, range)))
        });
        let (manner, range) = match claimed {
            Ok(Some(claimed)) => claimed,
            Ok(None) => return lock(&file.claims).try_end(),
            Err(error) => {
                let mut claims = lock(&file.claims);
                claims.failed.get_or_insert(error);
                return claims.try_end();
            }
        };
        let mut hashing = Hashing::new(file.hash);
        worker.in_hand.clone_from(&file.in_hand);
        let result = move_window(self.run, worker, &*opened.file, &*making.file, range.clone(), manner, &mut hashing);
        worker.in_hand = None;
        if result.is_ok() && self.run.early_writeback {
            making.file.start_writeback(range);
        }
        let sum = if let Hashing::Blocks(sum) = hashing { sum } else { BlockSum::default() };
        let ends = file.returned(result.map(|bytes| (bytes, sum)));
        if !ends && file.has_more() {
            // The invitation is passed on, so that as many help as were invited.
            self.run.queue.add_ranges(file, 1);
        }
        ends
    }

    fn end_ranges(&self, worker: &mut Worker, file: &Arc<BigFile>) {
        let item = Item { dir: &file.dir, name: &file.name };
        let failed = lock(&file.claims).failed;
        let mut checked = if let Some(error) = failed {
            Err(error)
        } else {
            self.still_same(&file.opened.read().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        if let Err(error) = checked
            && error.class == ErrorClass::Changed
        {
            match self.start_again(worker, file, &item) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => checked = Err(error),
            }
        }
        let making = file.making.write().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let making = making.expect("only one worker ends a file");
        let opened = file.opened.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (moved, sum, holes) = {
            let claims = lock(&file.claims);
            (claims.moved, claims.sum, claims.holes)
        };
        let result = checked.and_then(|()| self.manner(&opened)).and_then(|manner| {
            self.end_content(worker, &item, &opened, &*making.file, manner)?;
            Ok(holes)
        });
        let finished = match result {
            Ok(holes) => {
                let as_sparse = holes && self.options.movers.allows(Mover::Sparse);
                let mover = Some(if as_sparse { Mover::Sparse } else { Mover::Ranges });
                let checksum = file.hash.map(|_| sum.finish(opened.meta.size_bytes));
                self.complete(worker, &item, &opened, making, &Moved { mover, bytes: moved, checksum })
            }
            Err(error) => self.give_up(&item, &opened.meta, error),
        };
        if let Err(error) = finished {
            self.failed(worker, &item, Some(EntryKind::File), error);
        }
        drop(opened);
        self.end_later(worker, &file.dir);
    }

    /// The source changed: opens it anew and begins again, a few times.
    fn start_again(&self, worker: &mut Worker, file: &Arc<BigFile>, item: &Item<'_>) -> FsResult<bool> {
        let tries = lock(&file.claims).tries;
        if tries >= self.run.limits.retries {
            return Ok(false);
        }
        worker.counters.retries += 1;
        std::thread::sleep(self.run.limits.retry_pause);
        let again = {
            let making = file.making.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            let making = making.as_ref().ok_or(FsError::found(FsOp::Truncate, ErrorClass::Other))?;
            self.run.again(|| making.file.set_len(0))?;
            let again = self.reopen(worker, item)?;
            self.size_first(&again, &*making.file, self.manner(&again)?)?;
            again
        };
        *file.opened.write().unwrap_or_else(std::sync::PoisonError::into_inner) = again;
        if let Some(in_hand) = &file.in_hand {
            in_hand.begin_again();
        }
        *lock(&file.claims) = Claims { tries: tries + 1, ..Claims::default() };
        self.run.queue.add_ranges(file, 1);
        Ok(true)
    }
}
