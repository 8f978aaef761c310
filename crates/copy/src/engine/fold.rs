//! Destinations that take names which differ in case for one: finds source names that have no entry of their own there.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::copy::Copy;
use super::dir::{Before, Dir};
use super::run::Worker;
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::path::is_plain_name;
use crate::tree::{ListCursor, NameBatch, SourceDir};

/// Names of one look at a directory.
const STRETCH: usize = 1024;

/// Notes a fault for each name whose entry in the destination has the name of another source entry. What was made first
/// may have been replaced by what came later, and the next run would find both to be right.
pub(super) fn find_folded(copy: &Copy<'_>, worker: &mut Worker, dir: &Arc<Dir>) {
    let (source, dest) = (copy.run.cx.source.facts(), copy.run.cx.dest.facts());
    // In a directory that was made by us, the second name could not be made, and is a fault already.
    if !dest.case_insensitive || source.case_insensitive || dir.before == Before::Fresh || copy.options.dry_run {
        return;
    }
    if let Err(error) = find(copy, worker, dir) {
        copy.run.fault(worker, dir.path(b""), error);
    }
}

fn find(copy: &Copy<'_>, worker: &mut Worker, dir: &Arc<Dir>) -> FsResult<()> {
    let Some(dest) = dir.dest.as_ref() else { return Ok(()) };
    let ours = names(copy, &*dir.source)?;
    let theirs = names(copy, &**dest)?;
    let mut by_inode = None;
    for name in ours.difference(&theirs) {
        if copy.run.filters(dir, name, false) {
            continue;
        }
        let Ok(meta) = dest.stat(name) else { continue };
        let by_inode = by_inode.get_or_insert_with(|| {
            let known = theirs.iter().filter_map(|name| Some((dest.stat(name).ok()?.id, name)));
            known.collect::<HashMap<_, _>>()
        });
        if by_inode.get(&meta.id).is_some_and(|other| ours.contains(*other)) {
            copy.run.fault(worker, dir.path(name), FsError::found(FsOp::Create, ErrorClass::Exists));
        }
    }
    Ok(())
}

fn names(copy: &Copy<'_>, dir: &(impl SourceDir + ?Sized)) -> FsResult<HashSet<Box<[u8]>>> {
    let (mut cursor, mut batch, mut all) = (ListCursor::default(), NameBatch::new(), HashSet::new());
    loop {
        batch.clear();
        let before = cursor;
        let ended = copy.run.again(|| {
            batch.clear();
            cursor = before;
            dir.list(&mut cursor, STRETCH, &mut batch)
        })?;
        all.extend(batch.iter().filter(|(name, _)| is_plain_name(name)).map(|(name, _)| name.into()));
        if ended || batch.is_empty() || copy.run.is_stopped() {
            return Ok(all);
        }
    }
}
