//! The workers' loop: opens directories, lists them in stretches, hands entries to a visitor, and ends directories
//! from the leaves up. Both copying and comparing walk this way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::big::BigFile;
use super::dir::{Dir, Opened};
use super::queue::{Next, Task};
use super::run::{Outcome, Run, Worker};
use crate::error::{ErrorClass, FsError, FsOp};
use crate::local::Weakness;
use crate::meta::EntryKind;
use crate::path::is_plain_name;
use crate::report::Action;
use crate::tree::{ListCursor, NameBatch};

/// What is done with the entries on the way.
pub(super) trait Visitor: Sync {
    /// Opens both sides of a subdirectory. `Ok(None)`: there is nothing to walk, the entry was dealt with.
    fn enter(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> Option<Opened>;
    /// Deals with an entry that is not known to be a directory. `true`: it is one after all, and is entered next.
    fn entry(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>) -> Visited;
    /// Moves one more range of a file; the visitor ends the file with its last one.
    fn range(&self, worker: &mut Worker, file: &Arc<BigFile>);
    /// All entries of the directory are done.
    fn leave(&self, worker: &mut Worker, dir: &Arc<Dir>);
}

/// How a visit ended.
pub(super) enum Visited {
    Done,
    /// A directory, which is to be entered.
    IsDir,
    /// Goes on as byte ranges; the visitor says when it is done.
    Later,
}

/// Works until the run has ended.
pub(super) fn work(run: &Run<'_>, visitor: &dyn Visitor, number: usize) {
    crate::local::set_lane(number);
    let mut worker = Worker::new();
    let mut finished = None;
    while let Next::Task(task) = run.queue.next(number, finished) {
        let walking = matches!(task, Task::Enter(..) | Task::List(..));
        if run.is_stopped() {
            run.queue.clear();
        } else {
            perform(run, visitor, &mut worker, task);
        }
        worker.link_dir = None;
        run.merge(&mut worker);
        finished = Some(walking);
    }
}

fn perform(run: &Run<'_>, visitor: &dyn Visitor, worker: &mut Worker, task: Task) {
    match task {
        Task::Range(file) => visitor.range(worker, &file),
        Task::Batch(dir, names) => {
            if let Ok(mut current) = run.current.try_lock()
                && let Some((name, _)) = names.iter().next()
            {
                *current = Some((dir.clone(), name.into()));
            }
            // Parked one batch later: entries of a chain come in its order, and each is reopened from the one above.
            if let Some(last) = std::mem::replace(&mut worker.last_dir, Arc::downgrade(&dir)).upgrade()
                && !Arc::ptr_eq(&last, &dir)
            {
                last.park();
            }
            let mut done = 0;
            for (name, kind) in names.iter() {
                if run.is_stopped() {
                    return;
                }
                match visit(run, visitor, worker, &dir, name, kind) {
                    Visited::Done => done += 1,
                    Visited::IsDir => enter(run, visitor, worker, &dir, name),
                    Visited::Later => {}
                }
            }
            end(run, visitor, worker, dir, done);
        }
        Task::Enter(dir, name) => enter(run, visitor, worker, &dir, &name),
        Task::List(dir, cursor) => list(run, visitor, worker, dir, cursor),
    }
}

fn visit(
    run: &Run<'_>,
    visitor: &dyn Visitor,
    worker: &mut Worker,
    dir: &Arc<Dir>,
    name: &[u8],
    kind: Option<EntryKind>,
) -> Visited {
    run.cx.throttle.operations_done(1, run.cx.stop);
    visitor.entry(worker, dir, name, kind)
}

fn enter(run: &Run<'_>, visitor: &dyn Visitor, worker: &mut Worker, parent: &Arc<Dir>, name: &[u8]) {
    run.cx.throttle.operations_done(1, run.cx.stop);
    match visitor.enter(worker, parent, name) {
        Some(opened) => {
            let dir = Dir::new(Some(parent.clone()), name, opened);
            parent.park();
            list(run, visitor, worker, dir, ListCursor::default());
        }
        None => end(run, visitor, worker, parent.clone(), 1),
    }
}

/// Names of one stretch. Enough that a flat directory is not listed in a thousand steps, little beside the queue.
const STRETCH: usize = 1024;

fn list(run: &Run<'_>, visitor: &dyn Visitor, worker: &mut Worker, dir: Arc<Dir>, mut cursor: ListCursor) {
    let mut names = NameBatch::new();
    let room = run.limits.queue_entries.saturating_sub(run.queue.waiting());
    let limit = STRETCH.min(room.max(64));
    let listed = run.retry(worker, || {
        names.clear();
        let mut at = cursor;
        let ended = dir.source.list(&mut at, limit, &mut names)?;
        Ok((ended, at))
    });
    let ended = match listed {
        Ok((ended, at)) => {
            // A server that lists the same place for ever must not keep us for ever.
            let stuck = !ended && at == cursor;
            cursor = at;
            if stuck {
                list_failed(run, worker, &dir, FsError::found(FsOp::List, ErrorClass::Corrupt));
            }
            ended || stuck
        }
        Err(error) => {
            list_failed(run, worker, &dir, error);
            names.clear();
            true
        }
    };
    let (batches, subdirs) = sort_out(run, worker, &dir, &names);
    dir.expect((batches.iter().map(NameBatch::len).sum::<usize>() + subdirs.len()) as u64);
    run.queue.add_listing(&dir, batches, &subdirs, (!ended).then_some(cursor));
    if ended {
        // One with subdirectories gives its descriptors back when these are entered, for which it is needed.
        if subdirs.is_empty() {
            dir.park();
        }
        end(run, visitor, worker, dir, 1);
    }
}

fn list_failed(run: &Run<'_>, worker: &mut Worker, dir: &Arc<Dir>, error: FsError) {
    dir.listing_failed.store(true, Ordering::Relaxed);
    run.fault(worker, dir.path(b""), error);
}

/// Filters names and parts them into batches of entries and directories to enter.
fn sort_out(run: &Run<'_>, worker: &mut Worker, dir: &Arc<Dir>, names: &NameBatch) -> (Vec<NameBatch>, NameBatch) {
    let size = run.batch_entries();
    let mut subdirs = NameBatch::new();
    let mut batches = Vec::with_capacity(names.len() / size + 1);
    let mut batch = NameBatch::new();
    for (name, kind) in names.iter() {
        if !is_plain_name(name) && !crate::local::has_weakness(Weakness::TrustNames) {
            // Only a server that lies gives such a name. It is told and never used.
            let outcome = Outcome {
                action: Some(Action::Failed),
                error: Some(FsError::found(FsOp::List, ErrorClass::Escape)),
                ..Outcome::default()
            };
            worker.counters.scanned_entries += 1;
            run.finish_entry(worker, dir, name, outcome);
            continue;
        }
        let kind = match kind {
            // Some file systems leave the kind out of listings, and a pattern may depend on it.
            None if run.filter.needs_paths() => dir.source.stat(name).ok().map(|meta| meta.kind),
            kind => kind,
        };
        if !run.filter.is_empty() && run.filters(dir, name, kind == Some(EntryKind::Dir)) {
            worker.counters.filtered += 1;
            continue;
        }
        worker.counters.scanned_entries += 1;
        dir.remember_name(run.name_hash(name));
        if kind == Some(EntryKind::Dir) {
            subdirs.push(name, kind);
            continue;
        }
        batch.push(name, kind);
        if batch.len() == size {
            batches.push(std::mem::take(&mut batch));
        }
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    (batches, subdirs)
}

/// Counts entries of a directory as done, and ends it and its ancestors where nothing is left to do.
pub(super) fn end(run: &Run<'_>, visitor: &dyn Visitor, worker: &mut Worker, dir: Arc<Dir>, entries: u64) {
    if entries == 0 {
        return;
    }
    let (mut dir, mut entries) = (dir, entries);
    while dir.done(entries) {
        if run.is_stopped() {
            return;
        }
        visitor.leave(worker, &dir);
        run.links.forget_open(&dir);
        dir.source.leave();
        if let Some(dest) = &dir.dest {
            dest.leave();
        }
        let Some(parent) = dir.parent().cloned() else { return };
        (dir, entries) = (parent, 1);
    }
}
