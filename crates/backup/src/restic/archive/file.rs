//! Content of regular files: unchanged ones are not opened, small ones are one blob, large ones are cut into pieces that
//! all workers store.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use copy::tree::SourceFile;
use copy::{Action, EntryKind, ErrorClass, FsError, FsOp, FsResult, Metadata, Timestamp};

use super::dir::DirState;
use super::queue::Piece;
use super::run::{Outcome, Run, Worker, lock};
use super::walk::{failed, fill, new_node, read_xattrs, same_attributes};
use crate::restic::chunker::CutState;
use crate::restic::error::RepositoryError;
use crate::restic::id::Id;
use crate::restic::index::BlobKind;
use crate::restic::node::{Node, NodeKind, Time};

/// Bytes of one read of a large file.
const READ_BYTES: usize = 1 << 20;
/// Between two looks at the order to stop while others store pieces.
const WAIT: Duration = Duration::from_millis(20);

/// Pieces of one large file, as far as they are stored.
pub(super) struct BigFile {
    ids: Mutex<Vec<Id>>,
    pending: AtomicUsize,
    stored: Condvar,
}

/// Why a file's content is not in the repository.
enum Failure {
    Entry(FsError),
    Repository(RepositoryError),
}

impl From<FsError> for Failure {
    fn from(error: FsError) -> Self {
        Self::Entry(error)
    }
}

impl From<RepositoryError> for Failure {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

/// What was read of a file.
struct Content {
    ids: Vec<Id>,
    meta: Metadata,
    /// It changed each time that it was read.
    is_torn: bool,
    moved_bytes: u64,
}

/// Deals with a regular file. Large ones that must be read are put off: only few are read at once.
pub(super) fn file(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize, meta: &Metadata) {
    let name = &dir.names[slot];
    let old = dir.parent.as_ref().and_then(|tree| tree.find(name));
    worker.counters.scanned_bytes += meta.size_bytes;
    if !run.options.read_all
        && let Some(old) = old
        && let Some(content) = unchanged(run, old, meta)
    {
        // The change time tells that nothing else changed either.
        let mut node = new_node(run, worker, dir, name, meta);
        node.extended_attributes.clone_from(&old.extended_attributes);
        node.content = Some(content);
        let outcome = outcome(meta, Action::Unchanged, 0, None);
        run.done(worker, || dir.path(name), outcome);
        fill(run, worker, dir, slot, Some(&node));
        return;
    }
    if meta.links > 1
        && let Some(content) = run.linked.find(meta)
    {
        let mut node = new_node(run, worker, dir, name, meta);
        let whole = read_xattrs(run, worker, dir, name, &mut node, None);
        node.content = Some(content.to_vec());
        let action = if whole.is_ok() { Action::Linked } else { Action::Failed };
        run.done(worker, || dir.path(name), outcome(meta, action, 0, whole.err()));
        fill(run, worker, dir, slot, Some(&node));
        return;
    }
    if meta.size_bytes > run.chunker.bytes_min as u64 {
        run.queue.add_big(dir, slot);
    } else {
        read(run, worker, dir, slot);
    }
}

/// Reads a large file.
pub(super) fn big(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize) {
    *lock(&run.current) = Some((dir.clone(), slot));
    read(run, worker, dir, slot);
}

/// The content of the old node, where the file is provably the one that was read for it.
fn unchanged(run: &Run<'_>, old: &Node, meta: &Metadata) -> Option<Vec<Id>> {
    let same = old.kind == NodeKind::File
        && old.size == meta.size_bytes
        && old.mtime == Time::of(meta.mtime).0
        && old.ctime == Time::of(meta.ctime).0
        && old.inode == meta.id.inode;
    let content = old.content.as_deref().filter(|_| same).unwrap_or_default();
    if !same {
        return None;
    }
    // A repository that lost blobs gets them again.
    let bytes = content.iter().map(|id| run.blobs.plain_bytes(id)).sum::<Option<u64>>()?;
    (bytes == meta.size_bytes).then(|| content.to_vec())
}

/// The clock that change times are taken from ticks at least so often; 10 ms on the slowest kernels.
const TICK: Duration = Duration::from_millis(20);
/// The same of file systems that keep whole seconds, or two.
const COARSE_TICK: Duration = Duration::from_secs(2);

/// A server whose clock is further ahead than this tells nothing about now by its times.
const CLOCK_AHEAD_MAX: Duration = Duration::from_hours(1);

/// Whether a file that was changed so short a time before it was read can be changed once more afterwards, and have the
/// same change time. Such a file is read again by the next backup.
fn may_change_unseen(ctime: Timestamp, read_at: SystemTime) -> bool {
    let tick = if ctime.nanos == 0 { COARSE_TICK } else { TICK };
    let Ok(seconds) = u64::try_from(ctime.seconds) else { return false };
    let changed_at = SystemTime::UNIX_EPOCH + Duration::new(seconds, ctime.nanos);
    changed_at + tick >= read_at && changed_at <= read_at + CLOCK_AHEAD_MAX
}

fn outcome(meta: &Metadata, action: Action, copied_bytes: u64, error: Option<FsError>) -> Outcome {
    Outcome {
        kind: Some(EntryKind::File),
        action: Some(action),
        size_bytes: meta.size_bytes,
        allocated_bytes: meta.allocated_bytes.min(meta.size_bytes),
        mtime: Some(meta.mtime),
        copied_bytes,
        error,
    }
}

fn read(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize) {
    let name = &dir.names[slot];
    worker.counters.opened_files += 1;
    let began = SystemTime::now();
    let opened = run.retry(worker, || dir.source.open_file(name));
    let (file, meta) = match opened {
        Ok(opened) => opened,
        Err(error) => return failed(run, worker, dir, slot, Some(EntryKind::File), error),
    };
    let content = match read_content(run, worker, &*file, meta) {
        Ok(content) => content,
        Err(Failure::Entry(error)) => return failed(run, worker, dir, slot, Some(EntryKind::File), error),
        Err(Failure::Repository(error)) => return run.fail(error),
    };
    let meta = content.meta;
    let mut node = new_node(run, worker, dir, name, &meta);
    let mut whole = read_xattrs(run, worker, dir, name, &mut node, Some(&*file));
    if content.is_torn {
        let error = FsError::found(FsOp::Read, ErrorClass::Changed);
        run.fault(worker, dir.path(name), error);
        // The next backup reads it again, whatever its times say then.
        node.ctime = Time::default();
        whole = Err(error);
    } else if meta.links > 1 {
        run.linked.remember(&meta, &content.ids);
    }
    if may_change_unseen(meta.ctime, began) {
        node.ctime = Time::default();
    }
    let old = dir.parent.as_ref().and_then(|tree| tree.find(name));
    let action = match (&whole, old) {
        (Err(_), _) => Action::Failed,
        (Ok(()), None) => Action::Created,
        (Ok(()), Some(old)) if old.content.as_deref() == Some(&*content.ids) && same_attributes(&node, old) => {
            Action::Unchanged
        }
        (Ok(()), Some(old)) if old.content.as_deref() == Some(&*content.ids) => Action::Updated,
        (Ok(()), Some(_)) => Action::Replaced,
    };
    node.content = Some(content.ids);
    let outcome = outcome(&meta, action, content.moved_bytes, whole.err());
    run.done(worker, || dir.path(name), outcome);
    fill(run, worker, dir, slot, Some(&node));
}

/// Reads a file until one state of it was read from its beginning to its end.
fn read_content(
    run: &Run<'_>,
    worker: &mut Worker,
    file: &dyn SourceFile,
    mut meta: Metadata,
) -> Result<Content, Failure> {
    file.will_read_all();
    let mut tries = 0;
    loop {
        let size = meta.size_bytes;
        let read = if size <= run.chunker.bytes_min as u64 {
            read_small(run, worker, file, size)
        } else {
            run.big_left_bytes.fetch_add(size, Ordering::Relaxed);
            let mut left = size;
            let read = read_big(run, worker, file, &meta, &mut left);
            run.big_left_bytes.fetch_sub(left, Ordering::Relaxed);
            read
        };
        let state = run.retry(worker, || file.content_state())?;
        let same = meta.same_content_state(&state);
        match read {
            Ok((ids, bytes)) if same && bytes == size => {
                return Ok(Content { ids, meta, is_torn: false, moved_bytes: bytes });
            }
            Ok((ids, bytes)) if tries >= run.options.limits.retries => {
                // As restic does, with what was read; but as a fault.
                meta.size_bytes = bytes;
                return Ok(Content { ids, meta, is_torn: true, moved_bytes: bytes });
            }
            Ok(_) => {}
            Err(Failure::Entry(error)) if error.class == ErrorClass::Changed && tries < run.options.limits.retries => {}
            Err(failure) => return Err(failure),
        }
        if run.is_stopped() {
            return Err(Run::given_up().into());
        }
        tries += 1;
        worker.counters.retries += 1;
        std::thread::sleep(run.options.limits.retry_pause);
        meta = run.retry(worker, || file.metadata())?;
    }
}

/// Fills `buffer` from `offset` on; tells how much there was.
fn read_full(
    run: &Run<'_>,
    worker: &mut Worker,
    file: &dyn SourceFile,
    buffer: &mut [u8],
    offset: u64,
) -> FsResult<usize> {
    run.cx.throttle.bytes(buffer.len() as u64, run.cx.stop);
    let mut filled = 0;
    while filled < buffer.len() {
        if run.is_stopped() {
            return Err(Run::given_up());
        }
        match run.retry(worker, || file.read_at(&mut buffer[filled..], offset + filled as u64))? {
            0 => break,
            read => filled += read,
        }
    }
    run.moved_bytes.fetch_add(filled as u64, Ordering::Relaxed);
    Ok(filled)
}

fn read_small(run: &Run<'_>, worker: &mut Worker, file: &dyn SourceFile, size: u64) -> Result<(Vec<Id>, u64), Failure> {
    if size == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut buffer = std::mem::take(&mut worker.buffer);
    let bytes = size as usize;
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    let read = read_full(run, worker, file, &mut buffer[..bytes], 0);
    let stored = match read {
        Ok(0) => Ok((Vec::new(), 0)),
        Ok(read) => {
            run.packer.save(BlobKind::Data, &buffer[..read]).map(|id| (vec![id], read as u64)).map_err(Failure::from)
        }
        Err(error) => Err(error.into()),
    };
    worker.buffer = buffer;
    stored
}

fn read_big(
    run: &Run<'_>,
    worker: &mut Worker,
    file: &dyn SourceFile,
    meta: &Metadata,
    left: &mut u64,
) -> Result<(Vec<Id>, u64), Failure> {
    let pieces = Arc::new(BigFile { ids: Mutex::default(), pending: AtomicUsize::new(0), stored: Condvar::new() });
    let read = cut_big(run, worker, file, meta, &pieces, left);
    // Whatever came of it, nobody may work for it any more when it is forgotten.
    let stored = pieces.wait(run);
    let bytes = read?;
    if !stored {
        return Err(Run::given_up().into());
    }
    let ids = std::mem::take(&mut *lock(&pieces.ids));
    Ok((ids, bytes))
}

fn cut_big(
    run: &Run<'_>,
    worker: &mut Worker,
    file: &dyn SourceFile,
    meta: &Metadata,
    pieces: &Arc<BigFile>,
    left: &mut u64,
) -> Result<u64, Failure> {
    let size = meta.size_bytes;
    let is_sparse = meta.allocated_bytes < size && run.cx.source.facts().reports_holes;
    let mut holes = Holes { is_sparse, data: 0..0, is_known: false };
    let (mut piece, mut state, mut position) = (Vec::new(), CutState::New, 0);
    let mut note = |bytes: u64| {
        let bytes = bytes.min(*left);
        *left -= bytes;
        run.big_left_bytes.fetch_sub(bytes, Ordering::Relaxed);
    };
    loop {
        if run.is_stopped() {
            return Err(Run::given_up().into());
        }
        if let Some(length) = run.chunker.cut(&piece, &mut state) {
            let rest = piece.split_off(length);
            pieces.add(run, std::mem::replace(&mut piece, rest));
            state = CutState::New;
            continue;
        }
        if position >= size {
            break;
        }
        let hole = run.retry(worker, || holes.hole_at(file, position, size))?;
        if piece.is_empty() && hole >= run.chunker.bytes_min as u64 {
            pieces.add_known(zeros(run)?);
            position += run.chunker.bytes_min as u64;
            note(run.chunker.bytes_min as u64);
            continue;
        }
        let start = piece.len();
        let wanted = (size - position).min(READ_BYTES as u64) as usize;
        if hole > 0 {
            let bytes = wanted.min(usize::try_from(hole).unwrap_or(usize::MAX));
            piece.resize(start + bytes, 0);
            position += bytes as u64;
            note(bytes as u64);
            continue;
        }
        piece.reserve_exact(wanted);
        piece.resize(start + wanted, 0);
        let read = read_full(run, worker, file, &mut piece[start..], position)?;
        piece.truncate(start + read);
        position += read as u64;
        note(read as u64);
        if read < wanted {
            break;
        }
    }
    if !piece.is_empty() {
        pieces.add(run, piece);
    }
    Ok(position)
}

/// The blob of zeros that a hole is made of: the chunker cuts zeros at the least length.
fn zeros(run: &Run<'_>) -> Result<Id, RepositoryError> {
    let mut known = lock(&run.zeros);
    if let Some(id) = *known {
        return Ok(id);
    }
    let id = run.packer.save(BlobKind::Data, &vec![0; run.chunker.bytes_min])?;
    *known = Some(id);
    Ok(id)
}

/// Where the holes of a file are, looked up as the reading goes on.
struct Holes {
    is_sparse: bool,
    data: Range<u64>,
    is_known: bool,
}

impl Holes {
    /// Bytes of the hole at `position`; zero within data.
    fn hole_at(&mut self, file: &dyn SourceFile, position: u64, size: u64) -> FsResult<u64> {
        if !self.is_sparse {
            return Ok(0);
        }
        if !self.is_known || position >= self.data.end {
            self.data = file.next_data(position)?.unwrap_or(size..u64::MAX);
            self.is_known = true;
        }
        Ok(self.data.start.min(size).saturating_sub(position))
    }
}

impl BigFile {
    fn add(self: &Arc<Self>, run: &Run<'_>, data: Vec<u8>) {
        let number = {
            let mut ids = lock(&self.ids);
            ids.push(Id::default());
            ids.len() - 1
        };
        self.pending.fetch_add(1, Ordering::AcqRel);
        // Where too many wait, the reader itself is the next to work.
        if let Some(piece) = run.queue.add_piece(Piece { file: self.clone(), number, data }) {
            store_piece(run, piece);
        }
    }

    fn add_known(&self, id: Id) {
        lock(&self.ids).push(id);
    }

    /// Works with the others until all pieces are stored; `false` where the run ended before.
    fn wait(&self, run: &Run<'_>) -> bool {
        while self.pending.load(Ordering::Acquire) > 0 {
            if run.is_stopped() {
                return false;
            }
            if let Some(piece) = run.queue.take_piece() {
                store_piece(run, piece);
                continue;
            }
            let ids = lock(&self.ids);
            if self.pending.load(Ordering::Acquire) > 0 {
                drop(self.stored.wait_timeout(ids, WAIT));
            }
        }
        !run.is_stopped()
    }
}

/// Stores a piece of a large file.
pub(super) fn store_piece(run: &Run<'_>, piece: Piece) {
    let Piece { file, number, data } = piece;
    match run.packer.save(BlobKind::Data, &data) {
        Ok(id) => lock(&file.ids)[number] = id,
        Err(error) => run.fail(error),
    }
    let _ids = lock(&file.ids);
    file.pending.fetch_sub(1, Ordering::AcqRel);
    file.stored.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_within_the_last_tick_is_not_trusted() {
        let at = |millis: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let check = |seconds, nanos, read_at, expected| {
            assert_eq!(may_change_unseen(Timestamp { seconds, nanos }, read_at), expected, "{seconds}.{nanos:09}");
        };
        check(100, 5_000_000, at(100_010), true);
        check(100, 5_000_000, at(100_030), false);
        check(100, 0, at(101_900), true);
        check(100, 0, at(102_100), false);
        // The clock of a server that is ahead.
        check(500, 1, at(100_000), true);
        check(5000, 1, at(100_000), false);
        check(-1, 0, at(0), false);
    }
}
