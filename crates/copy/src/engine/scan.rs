//! Looking at one tree as a visitor: tells each entry with its attributes, and reads the content of chosen files.

use std::sync::Arc;

use super::big::BigFile;
use super::content::{Hashing, read_full};
use super::dir::{Before, Dir, Opened};
use super::run::{Outcome, Run, Worker};
use super::walk::{Visited, Visitor};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::hash::{BLOCK, Checksum, HashKind};
use crate::meta::{EntryKind, Metadata, Xattrs};
use crate::path::RelPath;
use crate::report::Action;
use crate::tree::{DestDir, DestTree, SourceDir, SourceTree, TreeFacts};

/// An entry of a tree, as a scan found it.
#[derive(Clone, Debug)]
pub struct Scanned {
    pub path: RelPath,
    pub meta: Metadata,
    /// Of a symlink.
    pub target: Option<Vec<u8>>,
    /// Empty where none were asked for.
    pub xattrs: Xattrs,
    /// Of a file whose content was read, whole and without an error.
    pub checksum: Option<Checksum>,
}

/// Says of a regular file whether its content is read.
pub type Choice<'a> = &'a (dyn Fn(&RelPath, &Metadata) -> bool + Sync);

/// A scan that runs.
pub(super) struct Scan<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) xattrs: bool,
    pub(super) hash: HashKind,
    pub(super) reads: Choice<'a>,
    pub(super) each: &'a (dyn Fn(Scanned) + Sync),
}

impl Visitor for Scan<'_> {
    fn enter(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> Option<Opened> {
        let opened = self.run.retry(worker, || dir.source.open_dir(name)).and_then(|source| {
            let meta = self.run.again(|| source.metadata())?;
            self.opened(source, meta)
        });
        opened.map_err(|error| self.failed(worker, dir, name, Some(EntryKind::Dir), error)).ok()
    }

    fn entry(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>) -> Visited {
        match self.run.retry(worker, || dir.source.stat(name)) {
            Ok(meta) if meta.kind == EntryKind::Dir => Visited::IsDir,
            Ok(meta) => {
                self.look(worker, dir, name, meta);
                Visited::Done
            }
            Err(error) => {
                self.failed(worker, dir, name, kind, error);
                Visited::Done
            }
        }
    }

    fn range(&self, _worker: &mut Worker, _file: &Arc<BigFile>) {
        unreachable!("a scan shares no ranges out");
    }

    fn leave(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        let (path, xattrs) = (dir.path(b""), dir.xattrs.clone());
        (self.each)(Scanned { path, meta: dir.meta, target: None, xattrs, checksum: None });
        self.run.finish_entry(worker, dir, b"", Outcome { kind: Some(EntryKind::Dir), ..Outcome::default() });
    }
}

impl Scan<'_> {
    pub(super) fn opened(&self, source: Arc<dyn SourceDir>, meta: Metadata) -> FsResult<Opened> {
        let xattrs = if self.xattrs { self.run.again(|| source.own_xattrs())? } else { Xattrs::default() };
        Ok(Opened {
            source,
            dest: None,
            before: Before::Filled,
            meta,
            xattrs,
            flags: None,
            inherits_acl: false,
            keep_names: false,
        })
    }

    fn failed(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>, error: FsError) {
        let gone = error.class == ErrorClass::NotFound;
        let outcome = Outcome {
            kind,
            action: Some(if gone { Action::Vanished } else { Action::Failed }),
            error: (!gone).then_some(error),
            ..Outcome::default()
        };
        self.run.finish_entry(worker, dir, name, outcome);
    }

    /// What can be learned of an entry is told, also where a part of it is a fault.
    fn look(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], meta: Metadata) {
        let path = dir.path(name);
        let mut scanned = Scanned { path, meta, target: None, xattrs: Xattrs::default(), checksum: None };
        let error = self.learn(worker, dir, name, &mut scanned).err();
        let meta = scanned.meta;
        let outcome = Outcome {
            kind: Some(meta.kind),
            action: error.map(|_| Action::Failed),
            size_bytes: if meta.kind == EntryKind::File { meta.size_bytes } else { 0 },
            allocated_bytes: meta.allocated_bytes,
            checksum: scanned.checksum,
            error,
            ..Outcome::default()
        };
        if !error.is_some_and(|error| self.run.is_given_up(error)) {
            (self.each)(scanned);
            self.run.finish_entry(worker, dir, name, outcome);
        }
    }

    fn learn(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], scanned: &mut Scanned) -> FsResult<()> {
        if self.xattrs {
            scanned.xattrs = self.run.again(|| dir.source.xattrs(name))?;
        }
        match scanned.meta.kind {
            EntryKind::Symlink => scanned.target = Some(self.run.again(|| dir.source.read_link(name))?),
            EntryKind::File if (self.reads)(&scanned.path, &scanned.meta) => {
                scanned.checksum = Some(self.read(worker, dir, name, &mut scanned.meta)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a file past the page cache; a file that changes meanwhile is read again.
    fn read(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], meta: &mut Metadata) -> FsResult<Checksum> {
        let mut tries = 0;
        loop {
            let (file, before) = self.run.retry(worker, || dir.source.open_file(name))?;
            worker.counters.opened_files += 1;
            file.forget_cache();
            let from_cache = file.cached().is_some_and(|part| part > 0.0);
            let size = before.size_bytes;
            let mut hashing = Hashing::new(Some(self.hash));
            let most = self.run.buffer_bytes().next_multiple_of(BLOCK as usize) as u64;
            let mut buffer = self.run.take_buffer(worker, size.min(most) as usize);
            let read = self.read_all(worker, &*file, size, &mut buffer, &mut hashing);
            self.run.give_back(worker, buffer);
            let same = match read {
                Ok(()) => before.same_content_state(&self.run.again(|| file.content_state())?),
                // It ended early.
                Err(error) if error.class == ErrorClass::Changed => false,
                Err(error) => return Err(error),
            };
            if same {
                *meta = before;
                worker.counters.verified_files += 1;
                worker.counters.verified_bytes += size;
                worker.counters.verified_from_cache += u64::from(from_cache);
                return Ok(hashing.finish(size).expect("a kind was given"));
            }
            if tries == self.run.limits.retries {
                return Err(FsError::found(FsOp::Read, ErrorClass::Changed));
            }
            tries += 1;
            worker.counters.retries += 1;
            std::thread::sleep(self.run.limits.retry_pause);
        }
    }

    fn read_all(
        &self,
        worker: &mut Worker,
        file: &dyn crate::tree::SourceFile,
        size: u64,
        buffer: &mut [u8],
        hashing: &mut Hashing,
    ) -> FsResult<()> {
        let most = self.run.buffer_bytes().next_multiple_of(BLOCK as usize) as u64;
        let mut position = 0;
        while position < size {
            if self.run.is_stopped() {
                return Err(Run::given_up(FsOp::Read));
            }
            // Holes add nothing to a checksum; those of small files are not worth a call.
            if size > most {
                let data = self.run.again(|| file.next_data(position))?.map_or(size, |data| data.start.min(size));
                position = position.max(data - data % BLOCK);
            }
            let len = (size - position).min(most) as usize;
            if len == 0 {
                break;
            }
            self.run.cx.throttle.bytes(len as u64, self.run.cx.stop);
            read_full(self.run, worker, file, &mut buffer[..len], position)?;
            hashing.update(&buffer[..len], position);
            self.run.note_moved(worker, len as u64);
            position += len as u64;
        }
        Ok(())
    }
}

/// The other side of a run that has only one.
#[derive(Debug)]
pub(super) struct Nothing(pub(super) TreeFacts);

impl DestTree for Nothing {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        Err(FsError::found(FsOp::Open, ErrorClass::NotFound))
    }

    fn facts(&self) -> &TreeFacts {
        &self.0
    }

    fn sync(&self) -> FsResult<()> {
        Ok(())
    }
}

impl SourceTree for Nothing {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        Err(FsError::found(FsOp::Open, ErrorClass::NotFound))
    }

    fn facts(&self) -> &TreeFacts {
        &self.0
    }
}
