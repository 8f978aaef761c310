//! Comparing as a visitor: reads both trees, changes neither, and names every way in which they differ.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::attrs::is_ours;
use super::big::BigFile;
use super::content::{Hashing, read_full};
use super::copy::{Copy, Item};
use super::dir::{Before, Dir, Opened};
use super::run::{Outcome, Run, Worker};
use super::walk::{Visited, Visitor};
use crate::error::{ErrorClass, FsResult};
use crate::hash::{BLOCK, Checksum};
use crate::meta::{ACL_ACCESS, ACL_DEFAULT, EntryKind, Metadata, Xattrs};
use crate::options::{CompareOptions, Devices};
use crate::path::is_plain_name;
use crate::report::{Action, DifferenceKind};
use crate::tree::{DestDir, ListCursor, NameBatch, SourceDir, SourceFile};

/// A comparison that runs.
pub(super) struct Comparison<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) options: &'a CompareOptions,
    pub(super) xattrs: bool,
    pub(super) flags: bool,
}

impl Visitor for Comparison<'_> {
    fn enter(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> Option<Opened> {
        match self.open_dir(worker, dir, name) {
            Ok(opened) => opened,
            Err(error) => {
                let outcome = Outcome { kind: Some(EntryKind::Dir), error: Some(error), ..Outcome::default() };
                self.run.finish_entry(worker, dir, name, outcome);
                None
            }
        }
    }

    fn entry(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>) -> Visited {
        let outcome = match self.compare(worker, dir, name) {
            Ok(None) => return Visited::IsDir,
            Ok(Some(outcome)) => outcome,
            Err(error) if error.class == ErrorClass::NotFound && dir.source.stat(name).is_err() => {
                Outcome { kind, action: Some(Action::Vanished), ..Outcome::default() }
            }
            Err(error) => Outcome { kind, error: Some(error), ..Outcome::default() },
        };
        self.run.finish_entry(worker, dir, name, outcome);
        Visited::Done
    }

    fn range(&self, _worker: &mut Worker, _file: &Arc<BigFile>) {
        unreachable!("a comparison shares no ranges out");
    }

    fn leave(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        if let Err(error) = self.leave_dir(worker, dir) {
            self.run.fault(worker, dir.path(b""), error);
        }
        let outcome = Outcome { kind: Some(EntryKind::Dir), ..Outcome::default() };
        self.run.finish_entry(worker, dir, b"", outcome);
    }
}

impl Comparison<'_> {
    fn open_dir(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> FsResult<Option<Opened>> {
        let source = self.run.retry(worker, || dir.source.open_dir(name))?;
        let meta = self.run.again(|| source.metadata())?;
        if self.run.one_file_system && meta.id.device != dir.meta.id.device {
            worker.counters.filtered += 1;
            return Ok(None);
        }
        let Some(parent) = dir.dest.as_ref() else { return Ok(None) };
        let other = match self.run.again(|| parent.stat(name)) {
            Ok(other) => other,
            Err(error) if error.class == ErrorClass::NotFound => {
                self.differs(worker, DifferenceKind::Missing, dir, name);
                let outcome = Outcome { kind: Some(EntryKind::Dir), ..Outcome::default() };
                self.run.finish_entry(worker, dir, name, outcome);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if other.kind != EntryKind::Dir {
            self.differs(worker, DifferenceKind::Kind, dir, name);
            let outcome = Outcome { kind: Some(EntryKind::Dir), ..Outcome::default() };
            self.run.finish_entry(worker, dir, name, outcome);
            return Ok(None);
        }
        let dest = self.run.retry(worker, || parent.descend(name))?;
        self.opened(source, dest, meta).map(Some)
    }

    pub(super) fn opened(
        &self,
        source: Arc<dyn SourceDir>,
        dest: Arc<dyn DestDir>,
        meta: Metadata,
    ) -> FsResult<Opened> {
        let xattrs = if self.xattrs { self.run.again(|| source.own_xattrs())? } else { Xattrs::default() };
        let flags = if self.flags { self.run.again(|| source.own_flags())? } else { None };
        Ok(Opened {
            source,
            dest: Some(dest),
            before: Before::Filled,
            meta,
            xattrs,
            flags,
            inherits_acl: false,
            keep_names: self.options.extra,
        })
    }

    fn differs(&self, worker: &mut Worker, kind: DifferenceKind, dir: &Dir, name: &[u8]) {
        self.run.difference(worker, kind, || dir.path(name));
    }

    /// `None`: a directory, which is entered instead.
    fn compare(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> FsResult<Option<Outcome>> {
        let meta = self.run.retry(worker, || dir.source.stat(name))?;
        if meta.kind == EntryKind::Dir {
            return Ok(None);
        }
        let is_file = meta.kind == EntryKind::File;
        let mut outcome = Outcome {
            kind: Some(meta.kind),
            size_bytes: if is_file { meta.size_bytes } else { 0 },
            allocated_bytes: meta.allocated_bytes,
            ..Outcome::default()
        };
        if meta.kind.is_device() && self.options.devices == Devices::Skip {
            outcome.action = Some(Action::Skipped);
            return Ok(Some(outcome));
        }
        let dest = dir.dest.as_ref().expect("a comparison has both sides");
        let other = match self.run.retry(worker, || dest.stat(name)) {
            Ok(other) => other,
            Err(error) if error.class == ErrorClass::NotFound => {
                self.differs(worker, DifferenceKind::Missing, dir, name);
                return Ok(Some(outcome));
            }
            Err(error) => return Err(error),
        };
        if other.kind != meta.kind {
            self.differs(worker, DifferenceKind::Kind, dir, name);
            return Ok(Some(outcome));
        }
        self.compare_metadata(worker, dir, name, &meta, &other);
        self.compare_links(worker, dir, name, &meta, &other);
        if self.xattrs || self.run.cx.dest.facts().xattrs {
            let (ours, theirs) = (self.run.again(|| dir.source.xattrs(name))?, self.run.again(|| dest.xattrs(name))?);
            self.compare_xattrs(worker, dir, name, &ours, &theirs);
        }
        match meta.kind {
            EntryKind::Symlink
                if self.run.again(|| dir.source.read_link(name))? != self.run.again(|| dest.read_link(name))? =>
            {
                self.differs(worker, DifferenceKind::SymlinkTarget, dir, name);
            }
            EntryKind::CharDevice | EntryKind::BlockDevice if meta.rdev != other.rdev => {
                self.differs(worker, DifferenceKind::Device, dir, name);
            }
            EntryKind::File => {
                outcome.checksum = self.compare_files(worker, dir, name, &meta, &other)?;
                outcome.mtime = outcome.checksum.map(|_| meta.mtime);
            }
            _ => {}
        }
        Ok(Some(outcome))
    }

    fn compare_metadata(&self, worker: &mut Worker, dir: &Dir, name: &[u8], ours: &Metadata, theirs: &Metadata) {
        if ours.mode != theirs.mode && ours.kind != EntryKind::Symlink {
            self.differs(worker, DifferenceKind::Mode, dir, name);
        }
        if (ours.uid, ours.gid) != (theirs.uid, theirs.gid) {
            self.differs(worker, DifferenceKind::Owner, dir, name);
        }
        if ours.mtime != theirs.mtime {
            self.differs(worker, DifferenceKind::Mtime, dir, name);
        }
        if self.options.atime && ours.atime != theirs.atime {
            self.differs(worker, DifferenceKind::Atime, dir, name);
        }
        let shown = |meta: &Metadata| meta.attributes & super::copy::SHOWN_FLAGS;
        if self.flags && shown(ours) != shown(theirs) {
            self.differs(worker, DifferenceKind::InodeFlags, dir, name);
        }
    }

    /// Names that are one file there must be one file here, and the other way round.
    fn compare_links(&self, worker: &mut Worker, dir: &Dir, name: &[u8], ours: &Metadata, theirs: &Metadata) {
        if ours.links < 2 && theirs.links < 2 {
            return;
        }
        let forth = self.run.links.claim(theirs.id, ours.id);
        let back = self.run.links.claim_source(ours.id, theirs.id);
        if !forth || !back {
            self.differs(worker, DifferenceKind::HardLinks, dir, name);
        }
    }

    fn compare_xattrs(&self, worker: &mut Worker, dir: &Dir, name: &[u8], ours: &Xattrs, theirs: &Xattrs) {
        let is_acl = |name: &[u8]| name == ACL_ACCESS || name == ACL_DEFAULT;
        let differ = |acl: bool| {
            ours.iter().any(|(n, value)| is_acl(n) == acl && theirs.get(n) != Some(value))
                || theirs.iter().any(|(n, _)| is_acl(n) == acl && is_ours(n) && ours.get(n).is_none())
        };
        if differ(true) {
            self.differs(worker, DifferenceKind::Acl, dir, name);
        }
        if differ(false) {
            self.differs(worker, DifferenceKind::Xattr, dir, name);
        }
    }

    fn compare_files(
        &self,
        worker: &mut Worker,
        dir: &Arc<Dir>,
        name: &[u8],
        ours: &Metadata,
        theirs: &Metadata,
    ) -> FsResult<Option<Checksum>> {
        if ours.size_bytes != theirs.size_bytes {
            self.differs(worker, DifferenceKind::Size, dir, name);
            return Ok(None);
        }
        // A copy may need some blocks more for its own bookkeeping, but must not fill the holes.
        let holes = ours.allocated_bytes + (64 << 10) < ours.size_bytes;
        if holes && theirs.allocated_bytes > ours.allocated_bytes + ours.allocated_bytes / 10 + (1 << 20) {
            self.differs(worker, DifferenceKind::Holes, dir, name);
        }
        if !self.options.content {
            return Ok(None);
        }
        let mut hashing = Hashing::new(self.options.hash);
        if ours.size_bytes == 0 {
            return Ok(hashing.finish(0));
        }
        let dest = dir.dest.as_ref().expect("a comparison has both sides");
        let (source, before) = self.run.retry(worker, || dir.source.open_file(name))?;
        let (other, _) = self.run.retry(worker, || SourceDir::open_file(&**dest, name))?;
        worker.counters.opened_files += 2;
        // What counts is what storage holds, not what this machine remembers of writing it.
        other.forget_cache();
        let from_cache = other.cached().is_some_and(|part| part > 0.0);
        let same = same_bytes(self.run, worker, &*source, &*other, ours.size_bytes, &mut hashing)?;
        // Neither since it was looked at first, nor while it was read.
        let is_one_state = |ours: &Metadata| -> FsResult<bool> {
            Ok(ours.same_content_state(&before) && before.same_content_state(&self.run.again(|| source.metadata())?))
        };
        if !same && is_one_state(ours)? {
            self.differs(worker, DifferenceKind::Content, dir, name);
        } else if !same {
            return Err(crate::FsError::found(crate::FsOp::Read, ErrorClass::Changed));
        }
        worker.counters.verified_files += 1;
        worker.counters.verified_bytes += ours.size_bytes;
        worker.counters.verified_from_cache += u64::from(from_cache);
        // A stopped comparison has not seen the whole file.
        Ok(if same && !self.run.is_stopped() { hashing.finish(ours.size_bytes) } else { None })
    }

    fn leave_dir(&self, worker: &mut Worker, dir: &Arc<Dir>) -> FsResult<()> {
        let dest = dir.dest.as_ref().expect("a comparison has both sides");
        let other = self.run.again(|| dest.metadata())?;
        self.compare_metadata(worker, dir, b"", &dir.meta, &other);
        if self.xattrs || self.run.cx.dest.facts().xattrs {
            self.compare_xattrs(worker, dir, b"", &dir.xattrs, &self.run.again(|| dest.own_xattrs())?);
        }
        if self.options.extra && !dir.listing_failed.load(Ordering::Relaxed) {
            self.find_extra(worker, dir, dest)?;
        }
        Ok(())
    }

    fn find_extra(&self, worker: &mut Worker, dir: &Arc<Dir>, dest: &Arc<dyn DestDir>) -> FsResult<()> {
        let known = dir.take_names();
        let (mut cursor, mut names) = (ListCursor::default(), NameBatch::new());
        loop {
            names.clear();
            let ended = self.run.retry(worker, || dest.list(&mut cursor, 1024, &mut names))?;
            for (name, kind) in names.iter() {
                let in_source = match &known {
                    Some(hashes) => hashes.binary_search(&self.run.name_hash(name)).is_ok(),
                    None => is_plain_name(name) && dir.source.stat(name).is_ok(),
                };
                if !in_source && !self.run.filters(dir, name, kind == Some(EntryKind::Dir)) {
                    self.differs(worker, DifferenceKind::Extra, dir, name);
                }
            }
            if ended || names.is_empty() || self.run.is_stopped() {
                return Ok(());
            }
        }
    }
}

/// Compares two files of equal size; stretches that are holes in both are skipped.
fn same_bytes(
    run: &Run<'_>,
    worker: &mut Worker,
    a: &dyn SourceFile,
    b: &dyn SourceFile,
    size: u64,
    hashing: &mut Hashing,
) -> FsResult<bool> {
    // Chunks begin at multiples of a block, so that they can be summed up.
    let most = run.buffer_bytes().next_multiple_of(BLOCK as usize);
    let len = most.min(usize::try_from(size).unwrap_or(usize::MAX)).max(1);
    let mut buffer = run.take_buffer(worker, 2 * len);
    let result = compare_chunks(run, worker, (a, b), size, &mut buffer[..2 * len], hashing);
    run.give_back(worker, buffer);
    match result {
        // One of them ended early: it is not what it was when its size was read.
        Err(error) if error.class == ErrorClass::Changed => Ok(false),
        answer => answer,
    }
}

fn compare_chunks(
    run: &Run<'_>,
    worker: &mut Worker,
    (a, b): (&dyn SourceFile, &dyn SourceFile),
    size: u64,
    buffer: &mut [u8],
    hashing: &mut Hashing,
) -> FsResult<bool> {
    let len = buffer.len() / 2;
    let (left, right) = buffer.split_at_mut(len);
    let holes = size > len as u64;
    let mut position = 0;
    while position < size {
        if run.is_stopped() {
            return Ok(true);
        }
        if holes {
            let next = |file: &dyn SourceFile| {
                run.again(|| file.next_data(position)).map(|data| data.map_or(size, |data| data.start))
            };
            let data = next(a)?.min(next(b)?).min(size);
            position = position.max(if matches!(hashing, Hashing::Blocks(_)) { data - data % BLOCK } else { data });
        }
        let n = (size - position).min(len as u64) as usize;
        if n == 0 {
            break;
        }
        run.cx.throttle.bytes(2 * n as u64, run.cx.stop);
        read_full(run, worker, a, &mut left[..n], position)?;
        read_full(run, worker, b, &mut right[..n], position)?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
        hashing.update(&left[..n], position);
        position += n as u64;
        run.moved_bytes.fetch_add(n as u64, Ordering::Relaxed);
    }
    Ok(true)
}

impl Copy<'_> {
    /// Reads both files; used where size and time are not to be believed.
    pub(super) fn same_content(&self, worker: &mut Worker, item: &Item<'_>, meta: &Metadata) -> FsResult<bool> {
        let (source, _) = self.run.retry(worker, || item.dir.source.open_file(item.name))?;
        let (dest, _) = self.run.retry(worker, || SourceDir::open_file(&**item.dest(), item.name))?;
        worker.counters.opened_files += 2;
        // After lost writes the page cache may still hold what storage does not.
        dest.forget_cache();
        same_bytes(self.run, worker, &*source, &*dest, meta.size_bytes, &mut Hashing::None)
    }
}
