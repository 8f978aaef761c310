//! Removes what the source does not have: by held directories, never across a file system, never beyond the limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::copy::{Copy, Item};
use super::dir::Dir;
use super::run::{Outcome, Run, Worker};
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::local::{Weakness, has_weakness};
use crate::meta::EntryKind;
use crate::options::Delete;
use crate::path::is_plain_name;
use crate::report::Action;
use crate::tree::{DestDir, ListCursor, NameBatch, SourceDir};

/// Names that are looked at before what is superfluous among them is removed.
const STRETCH: usize = 1024;

/// Makes way for an entry that is not a directory where one stands. Only an empty one goes without `--delete`.
pub(super) fn replace_dir(copy: &Copy<'_>, worker: &mut Worker, item: &Item<'_>) -> FsResult<()> {
    match copy.run.retry(worker, || item.dest().remove_dir(item.name)) {
        Err(error) if error.class == ErrorClass::Exists && copy.options.delete != Delete::Never => {
            if remove_tree(copy, worker, item)? {
                return Ok(());
            }
            if copy.run.is_stopped() {
                return Err(Run::given_up(FsOp::Remove));
            }
            Err(FsError::found(FsOp::Remove, ErrorClass::Exists))
        }
        answer => answer,
    }
}

/// Removes the entries of a directory that its source does not have.
pub(super) fn extraneous(copy: &Copy<'_>, worker: &mut Worker, dir: &Arc<Dir>) {
    // What a broken listing did not name may well be in the source.
    if copy.options.delete == Delete::Never || dir.listing_failed.load(Ordering::Relaxed) {
        return;
    }
    let Some(dest) = dir.dest.as_ref() else { return };
    let known = dir.take_names();
    let in_source = |name: &[u8]| match &known {
        Some(hashes) => Ok(hashes.binary_search(&copy.run.name_hash(name)).is_ok()),
        None => match dir.source.stat(name) {
            Ok(_) => Ok(true),
            Err(error) if error.class == ErrorClass::NotFound => Ok(false),
            Err(error) => Err(error),
        },
    };
    let mut cursor = ListCursor::default();
    let mut names = NameBatch::new();
    loop {
        names.clear();
        let ended = match copy.run.retry(worker, || dest.list(&mut cursor, STRETCH, &mut names)) {
            Ok(ended) => ended,
            Err(error) => return copy.run.fault(worker, dir.path(b""), error),
        };
        for (name, kind) in names.iter() {
            if copy.run.is_stopped() {
                return;
            }
            let item = Item { dir, name };
            if let Err(error) = plain(name) {
                copy.run.fault(worker, dir.path(name), error);
                continue;
            }
            match in_source(name) {
                Ok(true) => {}
                Ok(false) if copy.run.filters(dir, name, kind == Some(EntryKind::Dir)) => {}
                Ok(false) => {
                    match remove(copy, worker, &item, kind) {
                        Ok(true) => report(copy, worker, &item, kind, None),
                        // Something in it is not to be touched.
                        Ok(false) => {}
                        Err(error) => report(copy, worker, &item, kind, Some(error)),
                    }
                }
                Err(error) => copy.run.fault(worker, dir.path(name), error),
            }
        }
        if ended || names.is_empty() {
            return;
        }
    }
}

fn report(copy: &Copy<'_>, worker: &mut Worker, item: &Item<'_>, kind: Option<EntryKind>, error: Option<FsError>) {
    let outcome = Outcome {
        kind,
        action: Some(if error.is_none() { Action::Deleted } else { Action::Failed }),
        error,
        ..Outcome::default()
    };
    copy.run.finish_entry(worker, item.dir, item.name, outcome);
    // It was never part of the source's entries.
    worker.counters.done_entries -= 1;
    if let Some(kind) = kind {
        worker.counters.kinds[kind as usize] -= 1;
    }
}

/// `false`: it stays, because a filter protects something in it, or the run was stopped.
fn remove(copy: &Copy<'_>, worker: &mut Worker, item: &Item<'_>, kind: Option<EntryKind>) -> FsResult<bool> {
    let dest = item.dest();
    let kind = match kind {
        Some(kind) => kind,
        None => copy.run.again(|| dest.stat(item.name))?.kind,
    };
    if kind == EntryKind::Dir {
        return remove_tree(copy, worker, item);
    }
    remove_entry(copy, worker, dest, item.name).map(|()| true)
}

/// A server that lies about names must not choose what is removed.
fn plain(name: &[u8]) -> FsResult<()> {
    if is_plain_name(name) || has_weakness(Weakness::TrustNames) {
        return Ok(());
    }
    Err(FsError::found(FsOp::List, ErrorClass::Escape))
}

/// Takes one from the number of removals that are allowed.
fn spend(copy: &Copy<'_>) -> FsResult<()> {
    copy.deletes_left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .map(drop)
        .map_err(|_| FsError::found(FsOp::Remove, ErrorClass::Limit))
}

fn remove_entry(copy: &Copy<'_>, worker: &mut Worker, dest: &Arc<dyn DestDir>, name: &[u8]) -> FsResult<()> {
    spend(copy)?;
    if copy.options.dry_run {
        return Ok(());
    }
    copy.run.cx.throttle.operations_done(1, copy.run.cx.stop);
    match copy.run.retry(worker, || dest.remove_file(name)) {
        // An immutable file that an earlier copy made. Nothing but regular files may be opened.
        Err(error) if error.class == ErrorClass::Denied => {
            if copy.run.again(|| dest.stat(name))?.kind != EntryKind::File {
                return Err(error);
            }
            let (file, _) = copy.run.again(|| SourceDir::open_file(&**dest, name))?;
            copy.run.again(|| file.thaw())?;
            dest.remove_file(name)
        }
        Err(error) if error.class == ErrorClass::NotFound => Ok(()),
        answer => answer,
    }
}

/// Removes a directory with all that is in it, without recursion: a chain as deep as a hostile tenant likes. What a
/// filter leaves out stays, and with it the directories above; then the answer is `false`.
fn remove_tree(copy: &Copy<'_>, worker: &mut Worker, item: &Item<'_>) -> FsResult<bool> {
    let parent = item.dest();
    let device = copy.run.again(|| parent.metadata())?.id.device;
    let mut way = vec![Level::new(copy.run.again(|| descend(copy, parent, item.name, device))?, item.name)];
    let mut names = NameBatch::new();
    let dry_run = copy.options.dry_run;
    while let Some(level) = way.last_mut() {
        if copy.run.is_stopped() {
            return Ok(false);
        }
        if let Some(name) = level.subdirs.pop() {
            let next = copy.run.again(|| descend(copy, &level.dir, &name, device))?;
            level.dir.park();
            way.push(Level::new(next, &name));
            continue;
        }
        // From the beginning each time: what was listed is gone by then, unless it stays.
        if !level.keeps && !dry_run {
            level.cursor = ListCursor::default();
        }
        let (listed, at) = (&mut names, level.cursor);
        let ended = copy.run.again(|| {
            listed.clear();
            level.cursor = at;
            level.dir.list(&mut level.cursor, STRETCH, listed)
        })?;
        if names.is_empty() && ended {
            let Level { dir, name, keeps, .. } = way.pop().expect("it is the last one");
            dir.leave();
            drop(dir);
            if keeps {
                let Some(above) = way.last_mut() else { return Ok(false) };
                above.keeps = true;
                continue;
            }
            spend(copy)?;
            let above = way.last().map_or(parent, |above| &above.dir);
            if !dry_run {
                copy.run.retry(worker, || above.remove_dir(&name))?;
            }
            continue;
        }
        let place = if copy.run.filter.needs_paths() { place(item, &way) } else { Vec::new() };
        let level = way.last_mut().expect("it was there above");
        for (name, kind) in names.iter() {
            plain(name)?;
            let kind = match kind {
                Some(kind) => kind,
                None => copy.run.again(|| level.dir.stat(name))?.kind,
            };
            let is_dir = kind == EntryKind::Dir;
            let filter = copy.run.filter;
            if filter.ignores_name(name)
                || filter.needs_paths() && filter.leaves_out(&[&place, &b"/"[..], name].concat(), is_dir)
            {
                level.keeps = true;
            } else if is_dir {
                level.subdirs.push(name.into());
            } else {
                remove_entry(copy, worker, &level.dir, name)?;
            }
        }
    }
    Ok(true)
}

/// The path of the last level.
fn place(item: &Item<'_>, way: &[Level]) -> Vec<u8> {
    let mut path = item.dir.path(item.name).as_bytes().to_vec();
    for level in &way[1..] {
        path.push(b'/');
        path.extend_from_slice(&level.name);
    }
    path
}

/// A directory on the way down, and those below it that were seen.
struct Level {
    dir: Arc<dyn DestDir>,
    name: Box<[u8]>,
    subdirs: Vec<Box<[u8]>>,
    cursor: ListCursor,
    /// Something in it stays, so it stays, too.
    keeps: bool,
}

impl Level {
    fn new(dir: Arc<dyn DestDir>, name: &[u8]) -> Self {
        Self { dir, name: name.into(), subdirs: Vec::new(), cursor: ListCursor::default(), keeps: false }
    }
}

/// A file system that is mounted inside the destination is not ours to empty.
fn descend(copy: &Copy<'_>, dir: &Arc<dyn DestDir>, name: &[u8], device: u64) -> FsResult<Arc<dyn DestDir>> {
    let next = dir.descend(name)?;
    let meta = next.metadata()?;
    if meta.id.device != device && !has_weakness(Weakness::RemoveByName) {
        return Err(FsError::found(FsOp::Remove, ErrorClass::Escape));
    }
    // Flags that an earlier copy set forbid to take anything out of it.
    if meta.is_immutable_or_append() && !copy.options.dry_run {
        next.set_flags(next.node_flags()?.unwrap_or_default().without_freezing())?;
    }
    Ok(next)
}
