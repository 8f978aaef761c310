//! The workers' loop: opens and lists directories, looks at entries, and ends directories from the leaves up.

use std::ops::Range;
use std::sync::Arc;

use copy::tree::{ListCursor, NameBatch};
use copy::{
    Action, Devices, EntryKind, ErrorClass, FsError, FsOp, FsResult, LossKind, Metadata, Xattrs, is_plain_name,
};

use super::dir::DirState;
use super::file;
use super::queue::{Did, Enter, Task};
use super::run::{Outcome, Root, Run, Worker, lock};
use crate::restic::id::Id;
use crate::restic::index::BlobKind;
use crate::restic::node::{Node, Time};

/// Names that are asked for at once.
const LIST_NAMES: usize = 1024;
/// Entries of one task: the price of a hand-over is spread over them.
const BATCH_LOCAL: usize = 16;
const BATCH_NETWORK: usize = 4;

pub(super) fn work(run: &Run<'_>) {
    let mut worker = Worker::default();
    let mut did = Did::Nothing;
    while let Some((task, doing)) = run.queue.next(did) {
        did = doing;
        if run.is_stopped() {
            continue;
        }
        match task {
            Task::Piece(piece) => file::store_piece(run, piece),
            Task::Big(dir, slot) => file::big(run, &mut worker, &dir, slot),
            Task::Entries(dir, range) => entries(run, &mut worker, &dir, range),
            Task::Enter(task) => enter(run, &mut worker, task),
        }
        run.merge(&mut worker);
    }
}

/// Opens the root and puts it in the queue. What goes wrong here concerns the whole source.
pub(super) fn begin(run: &Run<'_>, parent_tree: Option<Id>) -> FsResult<()> {
    let mut worker = Worker::default();
    let source = run.retry(&mut worker, || run.cx.source.root())?;
    let meta = run.retry(&mut worker, || source.metadata())?;
    worker.counters.scanned_entries = 1;
    open(run, &mut worker, source, meta, None, parent_tree);
    run.merge(&mut worker);
    Ok(())
}

fn enter(run: &Run<'_>, worker: &mut Worker, task: Enter) {
    let Enter { dir, slot, parent_tree } = task;
    let name = &dir.names[slot];
    let opened = run.retry(worker, || dir.source.open_dir(name)).and_then(|source| {
        let meta = run.retry(worker, || source.metadata())?;
        Ok((source, meta))
    });
    match opened {
        Ok((source, meta)) => open(run, worker, source, meta, Some((dir, slot)), parent_tree),
        Err(error) => failed(run, worker, &dir, slot, Some(EntryKind::Dir), error),
    }
}

fn open(
    run: &Run<'_>,
    worker: &mut Worker,
    source: Arc<dyn copy::tree::SourceDir>,
    meta: Metadata,
    up: Option<(Arc<DirState>, usize)>,
    parent_tree: Option<Id>,
) {
    let path = || up.as_ref().map_or_else(copy::RelPath::root, |(dir, slot)| dir.path(&dir.names[*slot]));
    let mut is_faulty = false;
    let mut xattrs = Xattrs::default();
    if run.cx.source.facts().xattrs {
        match run.retry(worker, || source.own_xattrs()) {
            Ok(found) => xattrs = found,
            Err(error) => {
                is_faulty = true;
                run.fault(worker, path(), error);
            }
        }
    }
    let (names, listed) = list(run, worker, &*source, &path);
    if let Err(error) = listed {
        is_faulty = true;
        run.fault(worker, path(), error);
    }
    let parent = parent_tree.and_then(|id| match run.blobs.tree(&id) {
        Ok(tree) => Some(Arc::new(tree)),
        Err(error) => {
            run.warn(format!("the parent snapshot cannot be used for `{}`: {error}", path()));
            None
        }
    });
    worker.counters.scanned_entries += names.len() as u64;
    let dir = Arc::new(DirState::new(source, up, names, (meta, xattrs, is_faulty), parent));
    if !dir.names.is_empty() {
        let is_network = run.cx.source.facts().is_network;
        run.queue.add_entries(&dir, if is_network { BATCH_NETWORK } else { BATCH_LOCAL });
    }
    if dir.ended_one() {
        finish(run, worker, dir);
    }
}

/// All names that take part, in the order of their bytes, as far as the directory could be listed.
fn list(
    run: &Run<'_>,
    worker: &mut Worker,
    source: &dyn copy::tree::SourceDir,
    path: &impl Fn() -> copy::RelPath,
) -> (Vec<Box<[u8]>>, FsResult<()>) {
    let (mut names, mut cursor, mut batch) = (Vec::new(), ListCursor::default(), NameBatch::new());
    let listed = loop {
        batch.clear();
        let answer = run.retry(worker, || {
            batch.clear();
            source.list(&mut cursor, LIST_NAMES, &mut batch)
        });
        for (name, _) in batch.iter() {
            if !is_plain_name(name) {
                run.fault(worker, path(), FsError::found(FsOp::List, ErrorClass::Escape));
            } else if run.options.filter.ignores_name(name) {
                worker.counters.filtered += 1;
            } else {
                names.push(Box::<[u8]>::from(name));
            }
        }
        match answer {
            Ok(false) if run.is_stopped() => break Ok(()),
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    names.sort_unstable();
    // A directory that changes while it is listed may tell a name twice.
    names.dedup();
    (names, listed)
}

fn entries(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, range: Range<usize>) {
    let count = range.len();
    *lock(&run.current) = Some((dir.clone(), range.start));
    let mut dirs = Vec::new();
    for slot in range {
        if run.is_stopped() {
            return;
        }
        if let Some(enter) = entry(run, worker, dir, slot) {
            dirs.push(enter);
        }
    }
    if !dirs.is_empty() {
        run.queue.add_dirs(dirs);
    }
    dir.visited(count);
    run.cx.throttle.operations_done(count as u64, run.cx.stop);
}

/// Looks at one entry. Subdirectories come back, to be entered later.
fn entry(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize) -> Option<Enter> {
    let name = &dir.names[slot];
    let meta = match run.retry(worker, || dir.source.stat(name)) {
        Ok(meta) => meta,
        Err(error) => {
            failed(run, worker, dir, slot, None, error);
            return None;
        }
    };
    let is_dir = meta.kind == EntryKind::Dir;
    let leaves_fs = run.options.one_file_system && meta.id.device != run.cx.source.facts().device;
    if run.filters(dir, name, is_dir) || leaves_fs {
        worker.counters.filtered += 1;
        worker.counters.scanned_entries -= 1;
        fill(run, worker, dir, slot, None);
        return None;
    }
    if meta.kind.is_device() && run.options.devices == Devices::Skip {
        let outcome = Outcome { kind: Some(meta.kind), action: Some(Action::Skipped), ..Outcome::default() };
        run.done(worker, || dir.path(name), outcome);
        fill(run, worker, dir, slot, None);
        return None;
    }
    let old = dir.parent.as_ref().and_then(|tree| tree.find(name));
    match meta.kind {
        EntryKind::Dir => {
            let parent_tree = old.and_then(|node| node.subtree);
            return Some(Enter { dir: dir.clone(), slot, parent_tree });
        }
        EntryKind::File => file::file(run, worker, dir, slot, &meta),
        _ => other(run, worker, dir, slot, &meta),
    }
    None
}

/// A symlink or a special file: what there is to know of it is known without opening it.
fn other(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize, meta: &Metadata) {
    let name = &dir.names[slot];
    let mut node = new_node(run, worker, dir, name, meta);
    if meta.kind == EntryKind::Symlink {
        match run.retry(worker, || dir.source.read_link(name)) {
            Ok(target) => node.set_link_target(&target),
            Err(error) => {
                failed(run, worker, dir, slot, Some(meta.kind), error);
                return;
            }
        }
    }
    let whole = read_xattrs(run, worker, dir, name, &mut node, None);
    let old = dir.parent.as_ref().and_then(|tree| tree.find(name));
    let action = action(&node, old);
    let outcome = Outcome {
        kind: Some(meta.kind),
        action: Some(if whole.is_ok() { action } else { Action::Failed }),
        error: whole.err(),
        ..Outcome::default()
    };
    run.done(worker, || dir.path(name), outcome);
    fill(run, worker, dir, slot, Some(&node));
}

/// What was done for an entry of which only attributes are kept.
fn action(node: &Node, old: Option<&Node>) -> Action {
    match old {
        None => Action::Created,
        Some(old) if old.kind != node.kind => Action::Replaced,
        Some(old) if same_attributes(node, old) => Action::Unchanged,
        Some(_) => Action::Updated,
    }
}

pub(super) fn same_attributes(a: &Node, b: &Node) -> bool {
    (a.mode, a.uid, a.gid, a.mtime, a.device) == (b.mode, b.uid, b.gid, b.mtime, b.device)
        && a.link_target() == b.link_target()
        && a.xattrs() == b.xattrs()
}

/// A node of these attributes; tells what it cannot hold.
pub(super) fn new_node(run: &Run<'_>, worker: &mut Worker, dir: &DirState, name: &[u8], meta: &Metadata) -> Node {
    let (node, clamped) = Node::new(name, meta, run.options.atime);
    let path = || dir.path(if dir.is_root() && name.is_empty() { b"" } else { name });
    if clamped.times {
        run.loss(worker, LossKind::Times, path);
    }
    if meta.attributes & LOST_ATTRIBUTES != 0 {
        run.loss(worker, LossKind::InodeFlags, path);
    }
    node
}

/// `statx` shows these inode flags, which a snapshot has no place for.
const LOST_ATTRIBUTES: u64 = (libc::STATX_ATTR_IMMUTABLE | libc::STATX_ATTR_APPEND | libc::STATX_ATTR_NODUMP) as u64;

/// Puts the extended attributes into the node; those of the open file where there is one. What fails is noted as a
/// fault, and the node is marked so that the next backup looks again.
pub(super) fn read_xattrs(
    run: &Run<'_>,
    worker: &mut Worker,
    dir: &DirState,
    name: &[u8],
    node: &mut Node,
    file: Option<&dyn copy::tree::SourceFile>,
) -> FsResult<()> {
    if !run.cx.source.facts().xattrs {
        return Ok(());
    }
    let found = run.retry(worker, || match file {
        Some(file) => file.xattrs(),
        None => dir.source.xattrs(name),
    });
    match found {
        Ok(xattrs) => {
            node.set_xattrs(&xattrs);
            Ok(())
        }
        Err(error) => {
            node.ctime = Time::default();
            run.fault(worker, dir.path(name), error);
            Err(error)
        }
    }
}

/// An entry that is left out because it cannot be read.
pub(super) fn failed(
    run: &Run<'_>,
    worker: &mut Worker,
    dir: &Arc<DirState>,
    slot: usize,
    kind: Option<EntryKind>,
    error: FsError,
) {
    if run.is_stopped() {
        return;
    }
    let name = &dir.names[slot];
    let vanished = error.class == ErrorClass::NotFound;
    let action = if vanished { Action::Vanished } else { Action::Failed };
    if !vanished {
        run.fault(worker, dir.path(name), error);
    }
    run.done(
        worker,
        || dir.path(name),
        Outcome { kind, action: Some(action), error: Some(error), ..Outcome::default() },
    );
    fill(run, worker, dir, slot, None);
}

/// Puts a node in its place, and ends every directory that is complete then.
pub(super) fn fill(run: &Run<'_>, worker: &mut Worker, dir: &Arc<DirState>, slot: usize, node: Option<&Node>) {
    if dir.fill(slot, node.map(Node::json)) {
        finish(run, worker, dir.clone());
    }
}

fn finish(run: &Run<'_>, worker: &mut Worker, mut dir: Arc<DirState>) {
    loop {
        if run.is_stopped() {
            return;
        }
        let tree = match run.packer.save(BlobKind::Tree, &dir.tree_json()) {
            Ok(id) => id,
            Err(error) => return run.fail(error),
        };
        dir.source.leave();
        let name: &[u8] = dir.up.as_ref().map_or(b"", |(up, slot)| &up.names[*slot]);
        let at: &DirState = dir.up.as_ref().map_or(&*dir, |(up, _)| up);
        let mut node = new_node(run, worker, at, name, &dir.meta);
        node.set_xattrs(&dir.xattrs);
        if dir.is_faulty {
            node.ctime = Time::default();
        }
        node.subtree = Some(tree);
        let old = dir.up.as_ref().and_then(|(up, slot)| up.parent.as_ref()?.find(&up.names[*slot]));
        let action = match (dir.is_faulty, old, &dir.parent) {
            (true, ..) => Action::Failed,
            (_, Some(old), _) if old.subtree == Some(tree) && same_attributes(&node, old) => Action::Unchanged,
            (_, Some(_), _) => Action::Updated,
            // The root's node is not in a tree that was looked at; its content is.
            (_, None, Some(_)) if dir.is_root() => Action::Updated,
            (_, None, _) => Action::Created,
        };
        let outcome = Outcome { kind: Some(EntryKind::Dir), action: Some(action), ..Outcome::default() };
        run.done(worker, || at.path(name), outcome);
        let Some((up, slot)) = dir.up.clone() else {
            *lock(&run.root) = Some(Root { node });
            return;
        };
        if !up.fill(slot, Some(node.json())) {
            return;
        }
        dir = up;
    }
}
