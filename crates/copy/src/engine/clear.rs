//! Emptying one tree as a visitor: by held directories, in parallel, never across a file system.

use std::sync::Arc;

use super::big::BigFile;
use super::dir::{Before, Dir, Opened};
use super::run::{Outcome, Run, Worker};
use super::walk::{Visited, Visitor};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::meta::{EntryKind, Metadata, Xattrs};
use crate::report::Action;
use crate::tree::{DestDir, SourceDir};

/// A removal that runs.
pub(super) struct Clear<'a> {
    pub(super) run: &'a Run<'a>,
}

impl Visitor for Clear<'_> {
    fn enter(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> Option<Opened> {
        let opened = self.run.retry(worker, || dest(dir).descend(name)).and_then(|dest| {
            let meta = self.run.again(|| dest.metadata())?;
            // What is mounted in it is not ours to empty.
            if meta.id.device != dir.meta.id.device {
                return Err(FsError::found(FsOp::Remove, ErrorClass::Escape));
            }
            self.opened(dest, meta)
        });
        opened.map_err(|error| self.tell(worker, dir, name, Some(EntryKind::Dir), Err(error))).ok()
    }

    fn entry(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>) -> Visited {
        let kind = match kind {
            Some(kind) => Ok(kind),
            None => self.run.retry(worker, || dir.source.stat(name)).map(|meta| meta.kind),
        };
        let removed = match kind {
            Ok(EntryKind::Dir) => return Visited::IsDir,
            Ok(_) => self.remove(worker, dir, name),
            Err(error) => Err(error),
        };
        // A directory came in its place: the next pass finds it.
        self.tell(worker, dir, name, kind.ok(), removed);
        Visited::Done
    }

    fn range(&self, _worker: &mut Worker, _file: &Arc<BigFile>) {
        unreachable!("a removal shares no ranges out");
    }

    fn leave(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        let removed = match dir.parent() {
            Some(parent) => self.run.retry(worker, || dest(parent).remove_dir(&dir.name)),
            None => Ok(()),
        };
        let kind = Some(EntryKind::Dir);
        match removed {
            // Something in it could not be removed, which was told, or was left out by a listing that moved under the
            // removals, which the next pass finds.
            Err(error) if error.class == ErrorClass::Exists => {
                self.run.finish_entry(worker, dir, b"", Outcome { kind, ..Outcome::default() });
            }
            removed => self.tell(worker, dir, b"", kind, removed),
        }
    }
}

fn dest(dir: &Dir) -> &Arc<dyn DestDir> {
    dir.dest.as_ref().expect("a removal has the side that it removes from")
}

impl Clear<'_> {
    /// Takes off the flags that forbid to take anything out of a directory.
    pub(super) fn opened(&self, dest: Arc<dyn DestDir>, meta: Metadata) -> FsResult<Opened> {
        if meta.is_immutable_or_append() {
            let flags = self.run.again(|| dest.node_flags())?.unwrap_or_default();
            self.run.again(|| dest.set_flags(flags.without_freezing()))?;
        }
        Ok(Opened {
            source: dest.clone(),
            dest: Some(dest),
            before: Before::Filled,
            meta,
            xattrs: Xattrs::default(),
            flags: None,
            inherits_acl: false,
            keep_names: false,
        })
    }

    fn remove(&self, worker: &mut Worker, dir: &Dir, name: &[u8]) -> FsResult<()> {
        match self.run.retry(worker, || dest(dir).remove_file(name)) {
            // An immutable file. Nothing but regular files may be opened.
            Err(error) if error.class == ErrorClass::Denied => {
                if self.run.again(|| dir.source.stat(name))?.kind != EntryKind::File {
                    return Err(error);
                }
                let (file, _) = self.run.again(|| SourceDir::open_file(&*dir.source, name))?;
                worker.counters.opened_files += 1;
                self.run.again(|| file.thaw())?;
                dest(dir).remove_file(name)
            }
            answer => answer,
        }
    }

    fn tell(&self, worker: &mut Worker, dir: &Dir, name: &[u8], kind: Option<EntryKind>, removed: FsResult<()>) {
        let is_root = name.is_empty() && dir.parent().is_none();
        let (action, error) = match removed {
            Ok(()) => ((!is_root).then_some(Action::Deleted), None),
            // Somebody else was quicker.
            Err(error) if error.class == ErrorClass::NotFound => (Some(Action::Vanished), None),
            Err(error) => (Some(Action::Failed), Some(error)),
        };
        self.run.finish_entry(worker, dir, name, Outcome { kind, action, error, ..Outcome::default() });
    }
}
