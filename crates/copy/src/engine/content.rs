//! Moves bytes from one open file to another: the part that all movers but the kernel's own share.

use std::ops::Range;

use super::run::{Run, Worker};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::hash::{BLOCK, BlockSum, Checksum, HashKind, Sequential, is_zero};
use crate::tree::{DestFile, SourceFile};

/// How the bytes of a file are to be moved.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// Ask the source for its holes and leave them out.
    pub(super) extents: bool,
    /// Make runs of zeros holes, too.
    pub(super) detect_zeros: bool,
}

/// What a checksum needs while bytes pass.
pub(super) enum Hashing {
    None,
    Blocks(BlockSum),
    InOrder(Sequential, u64),
}

impl Hashing {
    pub(super) fn new(kind: Option<HashKind>) -> Self {
        match kind {
            None => Self::None,
            Some(kind) => {
                Sequential::new(kind).map_or_else(|| Self::Blocks(BlockSum::default()), |s| Self::InOrder(s, 0))
            }
        }
    }

    /// Bytes that come before `offset` and were not shown are a hole.
    pub(super) fn update(&mut self, data: &[u8], offset: u64) {
        match self {
            Self::None => {}
            Self::Blocks(sum) => sum.update(data, offset),
            Self::InOrder(hasher, seen) => {
                hasher.update_zeros(offset - *seen);
                hasher.update(data);
                *seen = offset + data.len() as u64;
            }
        }
    }

    pub(super) fn finish(self, size_bytes: u64) -> Option<Checksum> {
        match self {
            Self::None => None,
            Self::Blocks(sum) => Some(sum.finish(size_bytes)),
            Self::InOrder(mut hasher, seen) => {
                hasher.update_zeros(size_bytes - seen);
                Some(hasher.finish())
            }
        }
    }
}

/// A run of zeros becomes a hole in units of the usual block.
const HOLE: usize = 4096;

/// Bytes written before storage is asked to begin with them.
const WRITEBACK: u64 = 8 << 20;

/// Moves the bytes of `window`, which begins at a multiple of [`BLOCK`]; returns how many were moved. Fewer than the
/// source had is an error: the file changed.
pub(super) fn move_window(
    run: &Run<'_>,
    worker: &mut Worker,
    source: &dyn SourceFile,
    dest: &dyn DestFile,
    window: Range<u64>,
    manner: Manner,
    hashing: &mut Hashing,
) -> FsResult<u64> {
    let buffer_bytes = run.buffer_bytes().next_multiple_of(BLOCK as usize);
    let len = (window.end - window.start).min(buffer_bytes as u64) as usize;
    let mut buffer = run.take_buffer(worker, len);
    let mut moved = 0;
    let mut unflushed = window.start;
    let mut position = window.start;
    let result = loop {
        if position >= window.end {
            break Ok(moved);
        }
        if run.is_stopped() {
            break Err(Run::given_up(FsOp::Read));
        }
        let mut chunk = position..window.end.min(position + len as u64);
        if manner.extents {
            let data = match run.retry(worker, || source.next_data(position)) {
                Ok(data) => data.filter(|data| data.start < window.end),
                Err(error) => break Err(error),
            };
            let Some(data) = data else { break Ok(moved) };
            // Whole blocks where they are summed up; their holes read as zeros, and are not written.
            let start = data.start.max(position);
            let start = if matches!(hashing, Hashing::Blocks(_)) { start - start % BLOCK } else { start };
            let end = data.end.min(window.end).min(start + len as u64);
            let end =
                if matches!(hashing, Hashing::Blocks(_)) { end.next_multiple_of(BLOCK).min(window.end) } else { end };
            chunk = start.max(position)..end.min(start + len as u64);
        }
        match move_chunk(run, worker, source, dest, &chunk, manner, hashing, &mut buffer) {
            Ok(bytes) => moved += bytes,
            Err(error) => break Err(error),
        }
        position = chunk.end;
        if run.early_writeback && position - unflushed >= WRITEBACK {
            dest.start_writeback(unflushed..position);
            unflushed = position;
        }
    };
    run.give_back(worker, buffer);
    result
}

#[expect(clippy::too_many_arguments, reason = "one step of the loop above, parted for reading")]
fn move_chunk(
    run: &Run<'_>,
    worker: &mut Worker,
    source: &dyn SourceFile,
    dest: &dyn DestFile,
    chunk: &Range<u64>,
    manner: Manner,
    hashing: &mut Hashing,
    buffer: &mut [u8],
) -> FsResult<u64> {
    let data = &mut buffer[..(chunk.end - chunk.start) as usize];
    run.cx.throttle.bytes(data.len() as u64, run.cx.stop);
    read_full(run, worker, source, data, chunk.start)?;
    hashing.update(data, chunk.start);
    let mut written = 0;
    if manner.extents && matches!(hashing, Hashing::Blocks(_)) {
        // Only what is data goes out, although whole blocks came in.
        let mut position = chunk.start;
        while position < chunk.end
            && let Some(extent) = run.retry(worker, || source.next_data(position))?
            && extent.start < chunk.end
        {
            let part = extent.start.max(position)..extent.end.min(chunk.end);
            let bytes = &data[(part.start - chunk.start) as usize..(part.end - chunk.start) as usize];
            written += write_out(run, worker, dest, bytes, part.start, manner)?;
            position = part.end;
        }
    } else {
        written = write_out(run, worker, dest, data, chunk.start, manner)?;
    }
    run.note_moved(worker, written);
    Ok(written)
}

/// Fills `data`; an end of the file before that means that it shrank.
pub(super) fn read_full(
    run: &Run<'_>,
    worker: &mut Worker,
    source: &dyn SourceFile,
    data: &mut [u8],
    offset: u64,
) -> FsResult<()> {
    let mut filled = 0;
    while filled < data.len() {
        match run.retry(worker, || source.read_at(&mut data[filled..], offset + filled as u64))? {
            0 => return Err(FsError::found(FsOp::Read, ErrorClass::Changed)),
            n => filled += n,
        }
    }
    Ok(())
}

fn write_out(
    run: &Run<'_>,
    worker: &mut Worker,
    dest: &dyn DestFile,
    data: &[u8],
    offset: u64,
    manner: Manner,
) -> FsResult<u64> {
    if !manner.detect_zeros {
        write_full(run, worker, dest, data, offset)?;
        return Ok(data.len() as u64);
    }
    // Runs of blocks that hold something, with the blocks cut at multiples of their size in the file.
    let (mut start, mut position, mut written) = (None, 0, 0);
    while position < data.len() {
        let block = HOLE - (offset as usize + position) % HOLE;
        let end = data.len().min(position + block);
        match (is_zero(&data[position..end]), start) {
            (true, Some(from)) => {
                write_full(run, worker, dest, &data[from..position], offset + from as u64)?;
                written += position - from;
                start = None;
            }
            (false, None) => start = Some(position),
            _ => {}
        }
        position = end;
    }
    if let Some(from) = start {
        write_full(run, worker, dest, &data[from..], offset + from as u64)?;
        written += data.len() - from;
    }
    Ok(written as u64)
}

pub(super) fn write_full(
    run: &Run<'_>,
    worker: &mut Worker,
    dest: &dyn DestFile,
    data: &[u8],
    offset: u64,
) -> FsResult<()> {
    let mut done = 0;
    while done < data.len() {
        match run.retry(worker, || dest.write_at(&data[done..], offset + done as u64))? {
            // Not "again": storage that takes nothing and names no error would keep us for ever.
            0 => return Err(FsError::found(FsOp::Write, ErrorClass::Io)),
            n => done += n,
        }
    }
    Ok(())
}
