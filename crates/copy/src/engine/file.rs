//! One regular file: opened, made, moved by the mover that fits, checked, and given its attributes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attrs::{Has, Wanted};
use super::big::BigFile;
use super::content::{Hashing, Manner, move_window};
use super::copy::{Copy, Item, carried, same_inode};
use super::dir::Before;
use super::links::{First, Role};
use super::run::{InHand, Outcome, Run, Worker};
use super::walk::Visited;
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::hash::Checksum;
use crate::local::{Weakness, has_weakness};
use crate::meta::{ACL_ACCESS, EntryKind, FileId, InodeFlags, Metadata, Timestamp, Xattrs};
use crate::options::Sparse;
use crate::report::{Action, LossKind, Mover};
use crate::tree::{DestFile, SourceFile};

/// An open source file with all that is known of it.
pub(super) struct Opened {
    pub(super) file: Box<dyn SourceFile>,
    pub(super) meta: Metadata,
    pub(super) xattrs: Xattrs,
    pub(super) flags: Option<InodeFlags>,
}

/// A destination file that is being filled.
pub(super) struct Making {
    pub(super) file: Box<dyn DestFile>,
    pub(super) has: Has<'static>,
    pub(super) action: Action,
}

/// How a file's content travelled.
pub(super) struct Moved {
    pub(super) mover: Option<Mover>,
    pub(super) bytes: u64,
    pub(super) checksum: Option<Checksum>,
}

/// Ranges of more than this many workers gain nothing on any storage that was measured.
const HELPERS_MAX: usize = 16;
/// Readers that keep a local disk busy: more depth than one reader's read-ahead, few enough not to seek.
const HELPERS_LOCAL: usize = 4;

/// More storage than the size in units of this means space set aside; file systems round up by less.
const SET_ASIDE: u64 = 1 << 20;

impl Copy<'_> {
    /// Copies a file of which nothing is known yet, except that nothing is in its way or `old` is.
    pub(super) fn copy_file(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        old: Option<&Metadata>,
        first: Option<First<'_>>,
    ) -> FsResult<Visited> {
        let opened = self.reopen(worker, item)?;
        if opened.meta.links > 1 && first.is_none() && item.dir.before != Before::Filled {
            return match self.run.links.enter(&opened.meta) {
                Role::First(_) if self.waits_for_other_names(item) => Ok(Visited::Later),
                Role::First(first) => self.copy_opened(worker, item, opened, old, Some(first)),
                Role::Further(name) => {
                    let meta = opened.meta;
                    drop(opened);
                    self.link(worker, item, &meta, None, &name)
                }
            };
        }
        self.copy_opened(worker, item, opened, old, first)
    }

    /// Copies a file that should have become a link.
    pub(super) fn copy_file_alone(&self, worker: &mut Worker, item: &Item<'_>) -> FsResult<Visited> {
        let opened = self.reopen(worker, item)?;
        self.copy_opened(worker, item, opened, None, None)
    }

    pub(super) fn reopen(&self, worker: &mut Worker, item: &Item<'_>) -> FsResult<Opened> {
        let (file, meta) = self.run.retry(worker, || item.dir.source.open_file(item.name))?;
        worker.counters.opened_files += 1;
        let xattrs = if self.source_xattrs { self.run.retry(worker, || file.xattrs())? } else { Xattrs::default() };
        let flags = if self.both_flags { carried(self.run.again(|| file.flags())?) } else { None };
        Ok(Opened { file, meta, xattrs, flags })
    }

    fn copy_opened(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        opened: Opened,
        old: Option<&Metadata>,
        first: Option<First<'_>>,
    ) -> FsResult<Visited> {
        self.clear_way(worker, item, old)?;
        let making = self.create(worker, item, &opened, old.is_some())?;
        if let Some(first) = first {
            first.made(item.dir, item.name, self.run.again(|| making.file.node_metadata())?.id.inode);
        }
        self.fill(worker, item, opened, making)
    }

    /// Makes the empty file with rights no wider than the source's.
    fn create(&self, worker: &mut Worker, item: &Item<'_>, opened: &Opened, replaced: bool) -> FsResult<Making> {
        let meta = &opened.meta;
        let plain = meta.mode & 0o7000 == 0
            && meta.mode & self.run.cx.dest.facts().umask == 0
            && opened.xattrs.get(ACL_ACCESS).is_none();
        let known = item.dir.created_as.get().filter(|as_| (as_.uid, as_.gid) == (meta.uid, meta.gid));
        let exact = plain && known.is_some_and(|as_| as_.mode_is_kept);
        // Until its owner is right, nobody but root may look into the file.
        let mode = if exact || has_weakness(Weakness::WideCreate) { meta.mode } else { meta.mode & 0o600 };
        let dest = item.dest();
        let mut replaced = replaced;
        let file = self.run.retry(worker, || match dest.create_file(item.name, mode) {
            Err(error) if error.class == ErrorClass::Exists && item.dir.before != Before::Fresh => {
                // Put there since the directory was looked at.
                replaced = true;
                dest.remove_file(item.name)?;
                dest.create_file(item.name, mode)
            }
            answer => answer,
        })?;
        worker.counters.opened_files += 1;
        let created = self.created_as(item.dir, &*file, mode)?;
        let owner = created.is_some_and(|as_| (as_.uid, as_.gid) == (meta.uid, meta.gid));
        let has = Has::New { owner, mode: owner && exact, inherits_acl: item.dir.inherits_acl };
        Ok(Making { file, has, action: if replaced { Action::Replaced } else { Action::Created } })
    }

    /// Moves the content, again if the source changed meanwhile, and finishes the file.
    fn fill(&self, worker: &mut Worker, item: &Item<'_>, mut opened: Opened, making: Making) -> FsResult<Visited> {
        let mut tries = 0;
        loop {
            worker.in_hand = self.run.take_in_hand(item.dir, item.name, &opened.meta);
            let result = self.move_content(worker, item, &opened, &making);
            let in_hand = worker.in_hand.take();
            let result = match result {
                Ok(None) => {
                    self.start_ranges(item, opened, making, in_hand);
                    return Ok(Visited::Later);
                }
                Ok(Some(moved)) => self.still_same(&opened).map(|()| moved),
                Err(error) => Err(error),
            };
            match result {
                Ok(moved) => return self.complete(worker, item, &opened, making, &moved),
                Err(error) if error.class == ErrorClass::Changed && tries < self.run.limits.retries => {
                    tries += 1;
                    worker.counters.retries += 1;
                    std::thread::sleep(self.run.limits.retry_pause);
                    // Under the same inode in the destination: other names may be linked to it by now.
                    let again = self.run.again(|| making.file.set_len(0)).and_then(|()| self.reopen(worker, item));
                    match again {
                        Ok(again) => opened = again,
                        Err(error) => return self.give_up(item, &opened.meta, error),
                    }
                }
                Err(error) => return self.give_up(item, &opened.meta, error),
            }
        }
    }

    /// Takes a half-made file away, unless the run was stopped (it goes on there) or other names lead to it.
    pub(super) fn give_up<T>(&self, item: &Item<'_>, meta: &Metadata, error: FsError) -> FsResult<T> {
        if !self.run.is_stopped() && meta.links < 2 {
            // Its own failure would say less than the one at hand.
            let _ = item.dest().remove_file(item.name);
        }
        Err(error)
    }

    /// When `close` tells that the bytes are lost, size and time are right already, and the next run would take the file
    /// for done. Takes it away, or gives it a wrong time where other names may lead to it.
    fn disown(&self, item: &Item<'_>, meta: &Metadata, shared_inode: Option<FileId>) -> FsResult<()> {
        let dest = item.dest();
        let now = dest.stat(item.name)?;
        self.thaw(item, &now)?;
        let Some(id) = shared_inode else { return dest.remove_file(item.name) };
        let node = dest.hold(item.name)?;
        same_inode(&node.node_metadata()?, id)?;
        let seconds = meta.mtime.seconds;
        let wrong =
            Timestamp { seconds: if seconds > 0 { seconds - (1 << 20) } else { seconds + (1 << 20) }, nanos: 0 };
        node.set_times(meta.atime, wrong)
    }

    /// Makes sure that what was read is one state of the file.
    pub(super) fn still_same(&self, opened: &Opened) -> FsResult<()> {
        if opened.meta.same_content_state(&self.run.again(|| opened.file.content_state())?) {
            return Ok(());
        }
        Err(FsError::found(FsOp::Read, ErrorClass::Changed))
    }

    /// `None`: too large for one go; the caller shares it out as ranges.
    fn move_content(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        opened: &Opened,
        making: &Making,
    ) -> FsResult<Option<Moved>> {
        let (source, dest, size) = (&*opened.file, &*making.file, opened.meta.size_bytes);
        if size == 0 {
            let checksum = Hashing::new(self.options.hash).finish(0);
            return Ok(Some(Moved { mover: None, bytes: 0, checksum }));
        }
        if let Some(moved) = self.move_in_kernel(worker, opened, dest)? {
            return Ok(Some(moved));
        }
        let manner = self.manner(opened)?;
        let movers = &self.options.movers;
        if manner.extents && !movers.allows(Mover::Sparse) && !movers.allows(Mover::Ranges) && movers.forced.is_none() {
            return Err(FsError::found(FsOp::CopyRange, ErrorClass::Unsupported));
        }
        self.size_first(opened, dest, manner)?;
        if self.wants_ranges(opened) {
            return Ok(None);
        }
        let mover = if manner.extents && movers.allows(Mover::Sparse) { Mover::Sparse } else { Mover::Buffered };
        if !movers.allows(mover) {
            return Err(FsError::found(FsOp::CopyRange, ErrorClass::Unsupported));
        }
        if size >= self.run.limits.small_bytes {
            source.will_read_all();
        }
        let mut hashing = Hashing::new(self.options.hash);
        let bytes = move_window(self.run, worker, source, dest, 0..size, manner, &mut hashing)?;
        self.end_content(worker, item, opened, dest, manner)?;
        Ok(Some(Moved { mover: Some(mover), bytes, checksum: hashing.finish(size) }))
    }

    /// Gives a file with holes its size before its first byte: XFS sets space aside behind a file that grows, and leaves
    /// it in the holes.
    pub(super) fn size_first(&self, opened: &Opened, dest: &dyn DestFile, manner: Manner) -> FsResult<()> {
        if manner.extents { self.run.again(|| dest.set_len(opened.meta.size_bytes)) } else { Ok(()) }
    }

    /// After the last byte: the size where the end is a hole, and space that was set aside.
    pub(super) fn end_content(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        opened: &Opened,
        dest: &dyn DestFile,
        manner: Manner,
    ) -> FsResult<()> {
        if manner.detect_zeros && !manner.extents {
            self.run.again(|| dest.set_len(opened.meta.size_bytes))?;
        }
        // Space beyond what the data needs may be set aside but unwritten: that is neither data nor a hole.
        let beyond = opened.meta.allocated_bytes > opened.meta.size_bytes.next_multiple_of(SET_ASIDE);
        if (manner.extents || beyond)
            && opened.meta.allocated_bytes > 0
            && self.run.again(|| dest.node_metadata())?.allocated_bytes < opened.meta.allocated_bytes
        {
            for range in self.run.again(|| opened.file.unwritten())? {
                match self.run.again(|| dest.allocate(range.clone())) {
                    Ok(()) => {}
                    Err(e) if matches!(e.class, ErrorClass::Unsupported | ErrorClass::Denied) => {
                        self.run.loss(worker, LossKind::Preallocation, || item.dir.path(item.name));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Reflink or a copy by the kernel or server, where both trees are on one file system.
    fn move_in_kernel(&self, worker: &mut Worker, opened: &Opened, dest: &dyn DestFile) -> FsResult<Option<Moved>> {
        let (movers, size) = (&self.options.movers, opened.meta.size_bytes);
        let (Some(from), Some(to)) = (opened.file.descriptor(), dest.descriptor()) else { return Ok(None) };
        // A checksum needs to see the bytes.
        if self.options.hash.is_some() {
            return Ok(None);
        }
        let forced = movers.forced.is_some();
        if movers.allows(Mover::Reflink)
            && self.reflinks.load(Ordering::Relaxed)
            && (forced || size >= self.run.limits.reflink_bytes_min)
        {
            match crate::local::clone_file(from, to) {
                Ok(()) => return Ok(Some(Moved { mover: Some(Mover::Reflink), bytes: size, checksum: None })),
                Err(error) if error.class == ErrorClass::NoSpace || forced => return Err(error),
                Err(_) => self.reflinks.store(false, Ordering::Relaxed),
            }
        }
        let sparse = opened.meta.allocated_bytes < size;
        if movers.allows(Mover::CopyFileRange)
            && self.server_copies.load(Ordering::Relaxed)
            && (forced || size >= self.run.limits.reflink_bytes_min && !sparse)
        {
            return self.copy_by_server(worker, opened, dest);
        }
        Ok(None)
    }

    fn copy_by_server(&self, worker: &mut Worker, opened: &Opened, dest: &dyn DestFile) -> FsResult<Option<Moved>> {
        let (Some(from), Some(to)) = (opened.file.descriptor(), dest.descriptor()) else { return Ok(None) };
        let (forced, size) = (self.options.movers.forced.is_some(), opened.meta.size_bytes);
        let mut offset = 0;
        while offset < size {
            if self.run.is_stopped() {
                return Err(Run::given_up(FsOp::CopyRange));
            }
            let end = size.min(offset + self.run.limits.range_bytes);
            self.run.cx.throttle.bytes(end - offset, self.run.cx.stop);
            match self.run.retry(worker, || crate::local::copy_range(from, to, offset..end)) {
                // Nothing was copied: the file ends here, or this file system does not mean it. Reading tells.
                Ok(0) if forced => return Err(FsError::found(FsOp::CopyRange, ErrorClass::Changed)),
                Ok(0) => break,
                Ok(bytes) => {
                    offset += bytes as u64;
                    self.run.note_moved(worker, bytes as u64);
                }
                Err(error) if forced || matches!(error.class, ErrorClass::NoSpace | ErrorClass::Io) => {
                    return Err(error);
                }
                Err(_) => {
                    self.server_copies.store(false, Ordering::Relaxed);
                    break;
                }
            }
        }
        if offset < size {
            dest.set_len(0)?;
            return Ok(None);
        }
        Ok(Some(Moved { mover: Some(Mover::CopyFileRange), bytes: size, checksum: None }))
    }

    pub(super) fn manner(&self, opened: &Opened) -> FsResult<Manner> {
        let facts = self.run.cx.source.facts();
        let (meta, size) = (&opened.meta, opened.meta.size_bytes);
        let blind = !facts.reports_holes;
        let detect_zeros = match self.options.sparse {
            Sparse::Keep => false,
            Sparse::Auto => blind,
            Sparse::Detect => true,
        };
        let movers = &self.options.movers;
        let by_extent_only = !movers.allows(Mover::Buffered) && movers.allows(Mover::Sparse);
        let mut extents = by_extent_only || !blind && meta.allocated_bytes < size;
        // Blocks that are allocated but unwritten hide holes from the count. Two calls tell, where calls are cheap.
        if !extents && !blind && !facts.is_network && size >= self.run.limits.small_bytes {
            extents = self.run.again(|| opened.file.next_data(0))? != Some(0..size);
        }
        if movers.forced == Some(Mover::Buffered) {
            extents = false;
        }
        Ok(Manner { extents, detect_zeros })
    }

    fn wants_ranges(&self, opened: &Opened) -> bool {
        let (movers, limits) = (&self.options.movers, self.run.limits);
        if !movers.allows(Mover::Ranges) || self.options.hash.is_some_and(crate::HashKind::is_sequential) {
            return false;
        }
        if !movers.allows(Mover::Buffered) && !movers.allows(Mover::Sparse) {
            return true;
        }
        let data = opened.meta.size_bytes.min(opened.meta.allocated_bytes);
        if data < 2 * limits.range_bytes || limits.workers == Some(1) {
            return false;
        }
        // What is in memory is moved at memory speed by one thread; two in one file only wait for each other.
        self.run.is_network() || opened.file.cached().is_none_or(|part| part < 0.9)
    }

    fn start_ranges(&self, item: &Item<'_>, opened: Opened, making: Making, in_hand: Option<Arc<InHand>>) {
        let ranges = opened.meta.size_bytes.div_ceil(self.run.limits.range_bytes);
        // Clients that take direct reads of any length and place: each becomes one large request, where the page cache
        // asks for 128 KiB at a time. Local file systems want alignment, and their cache is worth having.
        let source_type = self.run.cx.source.facts().fs_type.as_str();
        if source_type.starts_with("fuse") || source_type.starts_with("nfs") {
            opened.file.bypass_cache();
        }
        let most = if self.run.is_network() { HELPERS_MAX } else { HELPERS_LOCAL };
        let helpers = usize::try_from(ranges).unwrap_or(usize::MAX).min(most);
        let file = BigFile::new(item, opened, making, self.options.hash, in_hand);
        self.run.queue.add_ranges(&file, helpers);
    }

    /// Attributes, close, and the count.
    pub(super) fn complete(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        opened: &Opened,
        making: Making,
        moved: &Moved,
    ) -> FsResult<Visited> {
        let want = Wanted { meta: &opened.meta, xattrs: &opened.xattrs, flags: opened.flags };
        let path = || item.dir.path(item.name);
        let Making { file, has, action } = making;
        let mut shared_inode = None;
        let finished = self.set_attributes(worker, &*file, want, &has, &path).and_then(|_| {
            self.tell_clock(&*file);
            if opened.meta.links > 1 {
                shared_inode = Some(self.run.again(|| file.node_metadata())?.id);
            }
            file.close()
        });
        if let Err(error) = finished {
            if error.op == FsOp::Close {
                // Its own failure would say less than the one at hand.
                let _ = self.disown(item, &opened.meta, shared_inode);
            }
            return self.give_up(item, &opened.meta, error);
        }
        let outcome = Outcome {
            kind: Some(EntryKind::File),
            action: Some(action),
            mover: moved.mover,
            size_bytes: opened.meta.size_bytes,
            allocated_bytes: opened.meta.allocated_bytes,
            mtime: Some(opened.meta.mtime),
            copied_bytes: moved.bytes,
            checksum: moved.checksum,
            error: None,
        };
        self.run.finish_entry(worker, item.dir, item.name, outcome);
        Ok(Visited::Done)
    }
}

/// A window of a file that begins at a block.
pub(super) fn window(start: u64, size: u64, range_bytes: u64) -> Range<u64> {
    start..size.min(start.saturating_add(range_bytes))
}
