//! Deleting a backup: first its name, so that nothing half deleted is ever restored, then everything in it.

use std::os::fd::AsFd as _;

use copy::{Action, ClearContext, CompareReport, Ending, EntryKind, Limits, LocalTree, Records};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::create::Context;
use super::error::Attempt as _;
use super::export::{Export, identity};
use super::id::Part;
use super::watch::Watch;
use super::{BackupId, DirectoryError};

/// How deleting a backup ended.
#[derive(Debug)]
pub struct Deleted {
    /// Something of the backup was there; where nothing was, it was deleted before, or never made.
    pub found: bool,
    /// Nothing of it is left. Else it was stopped or had faults, and a further call goes on.
    pub gone: bool,
    /// What was removed, and what could not be; `None` where no directory was there.
    pub report: Option<CompareReport>,
}

/// The backup goes first: what is left of it then cannot be taken for one.
const ORDER: [Part; 6] =
    [Part::Deleting, Part::Published, Part::Manifest, Part::NewManifest, Part::Checksums, Part::Partial];

impl Export {
    /// Deletes everything of a backup, whoever wrote it and whatever stands under its names: what is unfinished of it,
    /// and what an earlier call left, too. What is mounted in it stays, and is a fault.
    pub fn delete(&self, cx: &Context<'_>, id: &BackupId, limits: &Limits) -> Result<Deleted, DirectoryError> {
        let watch = Watch::steps(cx.monitor);
        let mut deleted = Deleted { found: false, gone: false, report: None };
        for part in ORDER {
            let (name, deleting) = (part.name(id), Part::Deleting.name(id));
            let Some(found) = self.look(&name)? else { continue };
            deleted.found = true;
            if found.kind != EntryKind::Dir {
                self.remove(&name)?;
                continue;
            }
            let Some(dir) = self.dir_at(&name)? else { continue };
            if identity(&dir)?.id.device != self.device()? {
                return Err(DirectoryError::Planted { name, found: "a mount point" });
            }
            self.lock(id, &dir, &name)?;
            if part != Part::Deleting {
                if !self.rename_dir(&dir, &name, &deleting)? {
                    return Err(DirectoryError::Busy(id.clone()));
                }
                self.sync()?;
            }
            let tree = LocalTree::from_dir(dir.as_fd()).map_err(DirectoryError::Tree)?;
            let tree_cx = ClearContext { tree: &tree, monitor: &watch, stop: cx.stop, throttle: cx.throttle };
            watch.step(0.0, 100.0);
            if !self.empty(&tree_cx, &deleting, limits, &mut deleted.report)? {
                return Ok(deleted);
            }
        }
        self.sync()?;
        deleted.gone = true;
        watch.done();
        Ok(deleted)
    }

    /// Empties the directory that is being deleted, and removes it. `false`: something is left of it.
    fn empty(
        &self,
        cx: &ClearContext<'_>,
        name: &str,
        limits: &Limits,
        total: &mut Option<CompareReport>,
    ) -> Result<bool, DirectoryError> {
        loop {
            let pass = copy::clear_tree(cx, limits, Records::None)?;
            let removed = pass.counters.action(Action::Deleted);
            let ended = pass.ending == Ending::Complete;
            match total {
                None => *total = Some(pass),
                Some(total) => total.add(pass),
            }
            if !ended {
                return Ok(false);
            }
            match rustix::fs::unlinkat(self.dir(), name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(true),
                // Left out by a listing that moved under the removals.
                Err(Errno::NOTEMPTY | Errno::EXIST) if removed > 0 => {}
                Err(errno) => return Err(errno).attempt(|| format!("remove `{name}` from the export")),
            }
        }
    }
}
