//! Copying as a visitor: decides for each entry what is to do, and does it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::attrs::{Has, Wanted, same_xattrs};
use super::big::BigFile;
use super::dir::{Before, CreatedAs, Dir, Opened};
use super::links::{First, FirstName, Role};
use super::remove;
use super::run::{Outcome, Run, Worker, lock};
use super::walk::{Visited, Visitor, end};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::local::{Weakness, has_weakness};
use crate::meta::{EntryKind, FileId, InodeFlags, Metadata, Xattrs};
use crate::options::{Compare, CopyOptions, Devices};
use crate::report::{Action, LossKind};
use crate::state::Trust;
use crate::tree::{DestDir, DestNode, SourceDir};

/// A copy that runs.
pub(super) struct Copy<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) options: &'a CopyOptions,
    pub(super) dest_root: Arc<dyn DestDir>,
    /// Which entries of an earlier run can be believed.
    pub(super) trust: Trust,
    /// Nanoseconds to which the destination cuts times; 1 until it is seen to.
    pub(super) time_granularity: AtomicU64,
    pub(super) times_checked: AtomicBool,
    /// Cleared when the two file systems turn out not to offer it.
    pub(super) reflinks: AtomicBool,
    pub(super) server_copies: AtomicBool,
    /// Entries that may still be removed.
    pub(super) deletes_left: AtomicU64,
    /// Whether both sides have inode flags, xattrs.
    pub(super) both_flags: bool,
    pub(super) source_xattrs: bool,
}

/// An entry on its way: where it is and what the source says of it.
pub(super) struct Item<'e> {
    pub(super) dir: &'e Arc<Dir>,
    pub(super) name: &'e [u8],
}

impl Item<'_> {
    pub(super) fn dest(&self) -> &Arc<dyn DestDir> {
        self.dir.dest.as_ref().expect("only a dry run has no destination")
    }
}

impl Visitor for Copy<'_> {
    fn enter(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8]) -> Option<Opened> {
        let item = Item { dir, name };
        match self.open_dir(worker, &item) {
            Ok(opened) => opened,
            Err(error) => {
                self.failed(worker, &item, Some(EntryKind::Dir), error);
                None
            }
        }
    }

    fn entry(&self, worker: &mut Worker, dir: &Arc<Dir>, name: &[u8], kind: Option<EntryKind>) -> Visited {
        let item = Item { dir, name };
        // An entry whose kind changes under our eyes is looked at anew, a few times.
        let mut error = FsError::found(FsOp::Open, ErrorClass::Changed);
        let mut kind = kind;
        for _ in 0..=self.run.limits.retries {
            match self.copy_entry(worker, &item, kind) {
                Ok(visited) => return visited,
                Err(e) => error = e,
            }
            // Only where it turned out to be of another kind; content that keeps changing was tried often enough.
            if self.run.is_given_up(error) {
                return Visited::Later;
            }
            let other_kind = match error.op {
                FsOp::Open => matches!(error.class, ErrorClass::Changed | ErrorClass::Escape),
                // EINVAL: no symlink any more.
                FsOp::ReadLink => {
                    matches!(error.class, ErrorClass::Changed | ErrorClass::Escape | ErrorClass::Unsupported)
                }
                _ => false,
            };
            if !other_kind || self.run.is_stopped() {
                break;
            }
            worker.counters.retries += 1;
            kind = None;
        }
        self.failed(worker, &item, kind, error);
        Visited::Done
    }

    fn range(&self, worker: &mut Worker, file: &Arc<BigFile>) {
        self.copy_range(worker, file);
    }

    fn leave(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        self.finish_dir(worker, dir);
    }
}

impl Copy<'_> {
    /// Counts an entry that failed, or that was gone when its turn came.
    pub(super) fn failed(&self, worker: &mut Worker, item: &Item<'_>, kind: Option<EntryKind>, error: FsError) {
        let gone = error.class == ErrorClass::NotFound
            && matches!(item.dir.source.stat(item.name), Err(e) if e.class == ErrorClass::NotFound);
        let outcome = Outcome {
            kind,
            action: Some(if gone { Action::Vanished } else { Action::Failed }),
            error: (!gone).then_some(error),
            ..Outcome::default()
        };
        self.run.finish_entry(worker, item.dir, item.name, outcome);
    }

    fn copy_entry(&self, worker: &mut Worker, item: &Item<'_>, kind: Option<EntryKind>) -> FsResult<Visited> {
        // The quick way: where nothing can be in the way, a file is opened without a look before.
        if kind == Some(EntryKind::File) && item.dir.before != Before::Filled && !self.options.dry_run {
            return self.copy_file(worker, item, None, None);
        }
        let meta = self.run.retry(worker, || item.dir.source.stat(item.name))?;
        if meta.kind == EntryKind::Dir {
            return Ok(Visited::IsDir);
        }
        if meta.kind.is_device() && self.options.devices == Devices::Skip {
            return Ok(self.finish(worker, item, &meta, Action::Skipped));
        }
        let old = self.old_entry(worker, item)?;
        if meta.links > 1 {
            return self.copy_linked(worker, item, &meta, old.as_ref());
        }
        self.copy_single(worker, item, &meta, old.as_ref(), None)
    }

    /// What the destination has under the name.
    pub(super) fn old_entry(&self, worker: &mut Worker, item: &Item<'_>) -> FsResult<Option<Metadata>> {
        let Some(dest) = item.dir.dest.as_ref().filter(|_| item.dir.before == Before::Filled) else { return Ok(None) };
        match self.run.retry(worker, || dest.stat(item.name)) {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.class == ErrorClass::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One name of an inode that has several.
    fn copy_linked(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: Option<&Metadata>,
    ) -> FsResult<Visited> {
        match self.run.links.enter(meta) {
            Role::First(_) if old.is_none() && self.waits_for_other_names(item) => Ok(Visited::Later),
            Role::First(first) => self.copy_single(worker, item, meta, old, Some(first)),
            Role::Further(first) => self.link(worker, item, meta, old, &first),
        }
    }

    /// A name that is missing may be one of a file that an earlier run copied under another name: where there was such
    /// a run, all names that are there have their turn first, so that the content is not copied twice.
    pub(super) fn waits_for_other_names(&self, item: &Item<'_>) -> bool {
        !self.options.dry_run && item.dir.before_run() == Before::Filled && self.run.queue.put_off(item.dir, item.name)
    }

    fn copy_single(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: Option<&Metadata>,
        first: Option<First<'_>>,
    ) -> FsResult<Visited> {
        // An inode with several names in the destination that stands for another source inode already must not be
        // written to: the other name would change, too.
        let old_is_ours = old.is_none_or(|old| old.links < 2 || self.run.links.claim(old.id, meta.id));
        if let Some(old) = old
            && old_is_ours
            && old.kind == meta.kind
            && let Some((action, wanted_xattrs)) = self.compare(worker, item, meta, old)?
            && (action == Action::Unchanged || may_change_in_place(meta, old, &wanted_xattrs))
        {
            if let Some(first) = first {
                first.made(item.dir, item.name, old.id.inode);
            }
            if action == Action::Updated && !self.options.dry_run {
                return self.update(worker, item, meta, old, &wanted_xattrs);
            }
            return Ok(self.finish(worker, item, meta, action));
        }
        if self.options.dry_run {
            if let Some(first) = first {
                first.made(item.dir, item.name, 0);
            }
            let action = if old.is_some() { Action::Replaced } else { Action::Created };
            return Ok(self.finish(worker, item, meta, action));
        }
        match meta.kind {
            EntryKind::File => self.copy_file(worker, item, old, first),
            _ => self.make_special(worker, item, meta, old, first),
        }
    }

    /// Compares an entry with what is there. `None`: it must be made anew. Opens no file unless content is compared.
    fn compare(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: &Metadata,
    ) -> FsResult<Option<(Action, Xattrs)>> {
        let dest = item.dest();
        let same = match meta.kind {
            EntryKind::File => {
                old.size_bytes == meta.size_bytes
                    && if self.options.compare == Compare::Content || !self.trust.covers(old) {
                        self.same_content(worker, item, meta)?
                    } else {
                        self.same_time(old.mtime, meta.mtime)
                    }
            }
            EntryKind::Symlink => {
                self.run.again(|| item.dir.source.read_link(item.name))?
                    == self.run.again(|| dest.read_link(item.name))?
            }
            _ => old.rdev == meta.rdev || !meta.kind.is_device(),
        };
        if !same {
            return Ok(None);
        }
        let xattrs =
            if self.source_xattrs { self.run.again(|| item.dir.source.xattrs(item.name))? } else { Xattrs::default() };
        let old_xattrs = self.run.again(|| dest.xattrs(item.name))?;
        let same = (old.uid, old.gid) == (meta.uid, meta.gid)
            && (old.mode == meta.mode || meta.kind == EntryKind::Symlink)
            && self.same_time(old.mtime, meta.mtime)
            && same_xattrs(&xattrs, &old_xattrs)
            && (!self.both_flags || shown_flags(old) == shown_flags(meta));
        Ok(Some((if same { Action::Unchanged } else { Action::Updated }, xattrs)))
    }

    /// Content is right, attributes are not.
    fn update(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: &Metadata,
        xattrs: &Xattrs,
    ) -> FsResult<Visited> {
        let with_flags = self.both_flags && meta.kind == EntryKind::File && shown_flags(old) != shown_flags(meta);
        let old_xattrs = self.run.again(|| item.dest().xattrs(item.name))?;
        let has = Has::Old { meta: old, xattrs: &old_xattrs };
        let path = || item.dir.path(item.name);
        if with_flags || old.is_immutable_or_append() {
            let (source, _) = self.run.again(|| item.dir.source.open_file(item.name))?;
            self.thaw(item, old)?;
            let file = self.run.again(|| item.dest().open_existing(item.name))?;
            worker.counters.opened_files += 2;
            same_inode(&self.run.again(|| file.node_metadata())?, old.id)?;
            let want = Wanted { meta, xattrs, flags: self.run.again(|| source.flags())? };
            self.set_attributes(worker, &*file, want, &has, &path)?;
            file.close()?;
        } else {
            let node = self.run.again(|| item.dest().hold(item.name))?;
            same_inode(&self.run.again(|| node.node_metadata())?, old.id)?;
            let want = Wanted { meta, xattrs, flags: None };
            self.set_attributes(worker, &*node, want, &has, &path)?;
        }
        Ok(self.finish(worker, item, meta, Action::Updated))
    }

    /// Takes the flags off that forbid changes, where an earlier run set them.
    pub(super) fn thaw(&self, item: &Item<'_>, old: &Metadata) -> FsResult<()> {
        if !old.is_immutable_or_append() || old.kind != EntryKind::File {
            return Ok(());
        }
        // Opened for reading: an immutable file cannot be opened for writing.
        let (file, meta) = self.run.again(|| SourceDir::open_file(&**item.dest(), item.name))?;
        same_inode(&meta, old.id)?;
        self.run.again(|| file.thaw())
    }

    /// Symlinks, FIFOs, sockets and devices: made, held, then given their attributes.
    fn make_special(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: Option<&Metadata>,
        first: Option<First<'_>>,
    ) -> FsResult<Visited> {
        let dest = item.dest();
        let (source, path) = (&item.dir.source, || item.dir.path(item.name));
        let target =
            if meta.kind == EntryKind::Symlink { Some(self.run.again(|| source.read_link(item.name))?) } else { None };
        let xattrs = if self.source_xattrs { self.run.again(|| source.xattrs(item.name))? } else { Xattrs::default() };
        self.clear_way(worker, item, old)?;
        let made = self.run.retry(worker, || match &target {
            Some(target) => dest.create_symlink(target, item.name),
            None => dest.create_node(item.name, meta.kind, meta.rdev),
        });
        match made {
            // An unprivileged user, or a file system that has no such files.
            Err(e) if matches!(e.class, ErrorClass::Denied | ErrorClass::Unsupported) && target.is_none() => {
                self.run.loss(worker, LossKind::SpecialFile, path);
                return Ok(self.finish(worker, item, meta, Action::Skipped));
            }
            answer => answer?,
        }
        let node = self.run.again(|| dest.hold(item.name))?;
        let new = self.run.again(|| node.node_metadata())?;
        // Somebody may have put another entry in its place, or a further name of one that lies outside the tree.
        let swapped = new.links > 1 || meta.kind.is_device() && new.rdev != meta.rdev;
        if new.kind != meta.kind || swapped && !has_weakness(Weakness::TrustInode) {
            return Err(FsError::found(FsOp::Create, ErrorClass::Changed));
        }
        let has = Has::New {
            owner: (new.uid, new.gid) == (meta.uid, meta.gid),
            mode: false,
            inherits_acl: item.dir.inherits_acl,
        };
        if let Some(first) = first {
            first.made(item.dir, item.name, new.id.inode);
        }
        self.set_attributes(worker, &*node, Wanted { meta, xattrs: &xattrs, flags: None }, &has, &path)?;
        let action = if old.is_some() { Action::Replaced } else { Action::Created };
        Ok(self.finish(worker, item, meta, action))
    }

    /// Removes what stands in the way of a new entry.
    pub(super) fn clear_way(&self, worker: &mut Worker, item: &Item<'_>, old: Option<&Metadata>) -> FsResult<()> {
        let Some(old) = old else { return Ok(()) };
        if old.kind == EntryKind::Dir {
            return remove::replace_dir(self, worker, item);
        }
        self.thaw(item, old)?;
        match self.run.retry(worker, || item.dest().remove_file(item.name)) {
            Err(error) if error.class == ErrorClass::NotFound => Ok(()),
            answer => answer,
        }
    }

    /// Makes a further name of a file that is in the destination.
    pub(super) fn link(
        &self,
        worker: &mut Worker,
        item: &Item<'_>,
        meta: &Metadata,
        old: Option<&Metadata>,
        first: &FirstName,
    ) -> FsResult<Visited> {
        if old.is_some_and(|old| old.id.inode == first.inode) {
            return Ok(self.finish(worker, item, meta, Action::Unchanged));
        }
        if self.options.dry_run {
            return Ok(self.finish(worker, item, meta, Action::Linked));
        }
        self.clear_way(worker, item, old)?;
        match self.try_link(worker, item, first) {
            Ok(()) => Ok(self.finish(worker, item, meta, Action::Linked)),
            // No links here, or no more to this inode, or the first name was moved away: a file of its own.
            Err(e)
                if matches!(
                    e.class,
                    ErrorClass::Unsupported
                        | ErrorClass::Denied
                        | ErrorClass::NotFound
                        | ErrorClass::Changed
                        | ErrorClass::Escape
                ) =>
            {
                self.run.loss(worker, LossKind::HardLink, || item.dir.path(item.name));
                match meta.kind {
                    EntryKind::File => self.copy_file_alone(worker, item),
                    _ => self.make_special(worker, item, meta, None, None),
                }
            }
            Err(error) => Err(error),
        }
    }

    fn try_link(&self, worker: &mut Worker, item: &Item<'_>, first: &FirstName) -> FsResult<()> {
        let from = match &worker.link_dir {
            Some((number, dir)) if *number == first.dir_number() => dir.clone(),
            _ => {
                let dir = self.run.again(|| self.run.links.open_dir(first, &self.dest_root))?;
                worker.link_dir = Some((first.dir_number(), dir.clone()));
                dir
            }
        };
        let dest = item.dest();
        self.run.retry(worker, || match dest.link_from(&*from, &first.name, item.name) {
            Err(error) if error.class == ErrorClass::Exists => {
                dest.remove_file(item.name)?;
                dest.link_from(&*from, &first.name, item.name)
            }
            answer => answer,
        })?;
        // The first name may have been swapped for another file by now.
        if self.run.again(|| dest.stat(item.name))?.id.inode != first.inode && !has_weakness(Weakness::TrustInode) {
            dest.remove_file(item.name)?;
            return Err(FsError::found(FsOp::Link, ErrorClass::Changed));
        }
        Ok(())
    }

    /// Counts an entry that is done without content being moved.
    pub(super) fn finish(&self, worker: &mut Worker, item: &Item<'_>, meta: &Metadata, action: Action) -> Visited {
        let outcome = Outcome {
            kind: Some(meta.kind),
            action: Some(action),
            size_bytes: if meta.kind == EntryKind::File { meta.size_bytes } else { 0 },
            allocated_bytes: meta.allocated_bytes,
            ..Outcome::default()
        };
        self.run.finish_entry(worker, item.dir, item.name, outcome);
        Visited::Done
    }

    /// Learns from the first file of a fresh directory what owner and mode the kernel gives to new ones.
    pub(super) fn created_as(&self, dir: &Dir, node: &dyn DestNode, asked_mode: u32) -> FsResult<Option<CreatedAs>> {
        if dir.before != Before::Fresh {
            return Ok(None);
        }
        if let Some(known) = dir.created_as.get() {
            return Ok(Some(*known));
        }
        let meta = self.run.again(|| node.node_metadata())?;
        let learned = CreatedAs { uid: meta.uid, gid: meta.gid, mode_is_kept: meta.mode == asked_mode };
        Ok(Some(*dir.created_as.get_or_init(|| learned)))
    }

    /// Tells the destination's clock to who asked for it.
    pub(super) fn tell_clock(&self, node: &dyn DestNode) {
        if self.run.wants_clock.load(Ordering::Relaxed)
            && self.run.wants_clock.swap(false, Ordering::Relaxed)
            && let Ok(meta) = node.node_metadata()
        {
            *lock(&self.run.clock) = Some(meta.ctime);
        }
    }

    /// Ends an entry that went on as byte ranges.
    pub(super) fn end_later(&self, worker: &mut Worker, dir: &Arc<Dir>) {
        end(self.run, self, worker, dir.clone(), 1);
    }
}

/// The flags that `statx` shows without opening anything, and that a copy carries.
pub(super) const SHOWN_FLAGS: u64 =
    (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND | libc::STATX_ATTR_NODUMP) as u64;

pub(super) fn shown_flags(meta: &Metadata) -> u64 {
    meta.attributes & SHOWN_FLAGS
}

/// Whether an inode that was there before may be given other attributes. It is made anew where further names lead to
/// it, since those may lie outside the tree (a planted hard link), and where it becomes a program with the rights of its
/// owner, since equal size and time do not prove that the owner wrote it.
fn may_change_in_place(meta: &Metadata, old: &Metadata, xattrs: &Xattrs) -> bool {
    let is_shared = old.links > 1 && !has_weakness(Weakness::ShareInodes);
    let gets_rights = meta.kind == EntryKind::File
        && (meta.mode & 0o6000 != 0 || xattrs.get(b"security.capability").is_some())
        && !has_weakness(Weakness::KeepContent);
    !is_shared && !gets_rights
}

/// What was held by name must be what was looked at before.
pub(super) fn same_inode(now: &Metadata, looked_at: FileId) -> FsResult<()> {
    if now.id == looked_at || has_weakness(Weakness::TrustInode) {
        return Ok(());
    }
    Err(FsError::found(FsOp::Open, ErrorClass::Changed))
}

/// Flags without those that a copy sets last.
pub(super) fn carried(flags: Option<InodeFlags>) -> Option<InodeFlags> {
    flags.map(InodeFlags::carried).filter(|flags| !flags.is_empty())
}
