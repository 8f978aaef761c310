//! Directories of a copy: both sides opened on the way down, and finished on the way up.

use std::sync::Arc;

use super::attrs::{Has, Wanted, same_xattrs};
use super::copy::{Copy, Item, carried, shown_flags};
use super::dir::{Before, Dir, Opened};
use super::run::{Outcome, Worker};
use super::{fold, remove};
use crate::error::{ErrorClass, FsResult};
use crate::local::{Weakness, has_weakness};
use crate::meta::{ACL_ACCESS, ACL_DEFAULT, EntryKind, Metadata, Xattrs};
use crate::options::Delete;
use crate::report::Action;
use crate::tree::{DestDir, DestNode, SourceDir};

impl Copy<'_> {
    pub(super) fn open_dir(&self, worker: &mut Worker, item: &Item<'_>) -> FsResult<Option<Opened>> {
        let source = self.run.retry(worker, || item.dir.source.open_dir(item.name))?;
        let meta = self.run.again(|| source.metadata())?;
        if self.run.one_file_system && meta.id.device != item.dir.meta.id.device {
            worker.counters.filtered += 1;
            return Ok(None);
        }
        let (dest, before) = self.open_dest_dir(worker, item)?;
        self.run.again(|| self.opened(source.clone(), dest.clone(), before, meta, item.dir.inherits_acl)).map(Some)
    }

    fn open_dest_dir(&self, worker: &mut Worker, item: &Item<'_>) -> FsResult<(Option<Arc<dyn DestDir>>, Before)> {
        let Some(parent) = item.dir.dest.as_ref() else { return Ok((None, Before::Fresh)) };
        let old = self.old_entry(worker, item)?;
        if old.is_some_and(|old| old.kind == EntryKind::Dir) {
            return Ok((Some(self.run.retry(worker, || parent.descend(item.name))?), Before::Filled));
        }
        if self.options.dry_run {
            return Ok((None, Before::Fresh));
        }
        self.clear_way(worker, item, old.as_ref())?;
        match self.run.retry(worker, || parent.create_dir(item.name)) {
            // Somebody made it, or another name of the source folds to the same one here.
            Err(error) if error.class == ErrorClass::Exists && item.dir.before != Before::Fresh => {
                Ok((Some(parent.descend(item.name)?), Before::Filled))
            }
            Ok(dest) => Ok((Some(dest), Before::Fresh)),
            Err(error) => Err(error),
        }
    }

    /// Reads what must be known of a directory before its entries are touched.
    pub(super) fn opened(
        &self,
        source: Arc<dyn SourceDir>,
        dest: Option<Arc<dyn DestDir>>,
        mut before: Before,
        meta: Metadata,
        parent_inherits_acl: bool,
    ) -> FsResult<Opened> {
        let xattrs = if self.source_xattrs { source.own_xattrs()? } else { Xattrs::default() };
        let flags = if self.both_flags { source.own_flags()? } else { None };
        let mut inherits_acl = false;
        if let Some(dest) = &dest {
            match before {
                Before::Fresh if parent_inherits_acl => {
                    for (name, _) in
                        dest.node_xattrs()?.iter().filter(|(name, _)| [ACL_ACCESS, ACL_DEFAULT].contains(name))
                    {
                        dest.remove_xattr(name)?;
                    }
                }
                Before::Fresh => {}
                Before::Empty | Before::Filled => {
                    let old = dest.metadata()?;
                    if old.is_immutable_or_append() && !self.options.dry_run {
                        let flags = dest.node_flags()?.unwrap_or_default();
                        dest.set_flags(flags.without_freezing())?;
                    }
                    // Its owner may give it a default ACL at any moment, so each new entry is looked at.
                    inherits_acl = self.run.cx.dest.facts().acls
                        && (!has_weakness(Weakness::InheritRights) || dest.node_xattrs()?.get(ACL_DEFAULT).is_some());
                    let mut names = crate::tree::NameBatch::new();
                    let empty = dest.list(&mut crate::tree::ListCursor::default(), 1, &mut names)? && names.is_empty();
                    before = if empty { Before::Empty } else { Before::Filled };
                }
            }
        }
        let keep_names = before == Before::Filled && self.options.delete != Delete::Never;
        Ok(Opened { source, dest, before, meta, xattrs, flags, inherits_acl, keep_names })
    }

    /// Everything below is done: removes what the source does not have, then sets the directory's own attributes.
    pub(super) fn finish_dir(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        let item = Item { dir, name: b"" };
        fold::find_folded(self, worker, dir);
        if dir.before == Before::Filled {
            remove::extraneous(self, worker, dir);
        }
        let result = self.set_dir_attributes(worker, dir);
        let (action, error) = match result {
            Ok(action) => (action, None),
            Err(error) => (Action::Failed, Some(error)),
        };
        let outcome = Outcome { kind: Some(EntryKind::Dir), action: Some(action), error, ..Outcome::default() };
        self.run.finish_entry(worker, item.dir, item.name, outcome);
    }

    fn set_dir_attributes(&self, worker: &mut Worker, dir: &Arc<Dir>) -> FsResult<Action> {
        let Some(dest) = dir.dest.as_ref() else { return Ok(Action::Created) };
        let node: &dyn DestNode = &**dest;
        let want = Wanted { meta: &dir.meta, xattrs: &dir.xattrs, flags: dir.flags };
        let path = || dir.path(b"");
        if dir.before == Before::Fresh {
            let new = self.run.again(|| node.node_metadata())?;
            let owner = (new.uid, new.gid) == (dir.meta.uid, dir.meta.gid);
            let has = Has::New { owner, mode: new.mode == dir.meta.mode && owner, inherits_acl: false };
            self.set_attributes(worker, node, want, &has, &path)?;
            return Ok(Action::Created);
        }
        let (old, old_xattrs) = (self.run.again(|| node.node_metadata())?, self.run.again(|| node.node_xattrs())?);
        let same = (old.uid, old.gid, old.mode) == (dir.meta.uid, dir.meta.gid, dir.meta.mode)
            && self.same_time(old.mtime, dir.meta.mtime)
            && same_xattrs(&dir.xattrs, &old_xattrs)
            && (!self.both_flags || shown_flags(&old) == shown_flags(&dir.meta))
            // A directory is open anyway, so the flags that `statx` does not show cost one call.
            && (!self.both_flags || carried(self.run.again(|| node.node_flags())?) == carried(dir.flags));
        if same {
            return Ok(Action::Unchanged);
        }
        if self.options.dry_run {
            return Ok(Action::Updated);
        }
        let has = Has::Old { meta: &old, xattrs: &old_xattrs };
        self.set_attributes(worker, node, want, &has, &path)?;
        Ok(Action::Updated)
    }
}
