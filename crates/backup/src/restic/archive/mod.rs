//! Makes a snapshot of a tree: threads that walk it, read what changed and store it, and one that watches them.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use copy::tree::SourceTree;
use copy::{
    CopyError, CopyReport, Devices, Ending, Filter, Limits, Monitor, OnFault, Records, RelPath, Stage, StopToken,
    Throttle,
};

mod dir;
mod file;
mod gauge;
mod queue;
mod run;
mod walk;

use gauge::Gauge;
use run::{Run, lock};

use super::blobs::Blobs;
use super::error::{RepositoryError, Result};
use super::id::Id;
use super::index::BlobKind;
use super::node::{Node, NodeKind, QuotedName, tree_json};
use super::pack::{AddedBlobs, Packer, WRITERS, save_file};
use super::repository::Repository;
use super::snapshot::{LATEST, Snapshot, SnapshotFile, SnapshotFilter, SnapshotSummary};
use super::store::FileKind;

/// What a backup works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct BackupContext<'a> {
    pub source: &'a dyn SourceTree,
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    /// The caller may change its rates while the backup goes on.
    pub throttle: &'a Throttle,
}

impl std::fmt::Debug for BackupContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupContext").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The snapshot that tells which files are unchanged.
#[derive(Clone, Debug, Default)]
pub enum Parent {
    /// Every file is read.
    #[default]
    None,
    /// The newest that matches, where there is one.
    Latest(SnapshotFilter),
    This(Box<Snapshot>),
}

/// Everything that decides how a snapshot is made.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The place of the tree in the snapshot; its last name stands for the root directory, so it is never empty.
    pub path: RelPath,
    pub host: String,
    pub tags: BTreeSet<String>,
    /// The time that the snapshot is of.
    pub time: jiff::Timestamp,
    pub parent: Parent,
    /// Reads every file, whatever the parent says; stores only what is new.
    pub read_all: bool,
    /// Keeps access times. Without it they become the times of the last change, as in restic.
    pub atime: bool,
    pub filter: Filter,
    /// Under [`OnFault::Stop`] the first fault leaves the repository without a new snapshot.
    pub on_fault: OnFault,
    pub devices: Devices,
    pub one_file_system: bool,
    pub records: Records,
    /// Of these count: `workers`, `workers_max`, `retries`, `retry_pause`, `faults_kept`, and the two rates.
    pub limits: Limits,
}

impl BackupOptions {
    /// Everything else is the default: no parent, all entries, going on over faults.
    pub fn new(path: RelPath, host: &str, time: jiff::Timestamp) -> Self {
        Self {
            path,
            host: host.to_owned(),
            tags: BTreeSet::new(),
            time,
            parent: Parent::None,
            read_all: false,
            atime: true,
            filter: Filter::default(),
            on_fault: OnFault::Continue,
            devices: Devices::Recreate,
            one_file_system: false,
            records: Records::None,
            limits: Limits::default(),
        }
    }
}

/// The result of a backup.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// What became of the entries. Its actions are against the parent snapshot: an unchanged file was not opened, a
    /// replaced one has other content, an updated one other attributes.
    pub report: CopyReport,
    /// `None` where the backup was stopped. With faults there is one; what could not be read is not in it, or is as the
    /// faults say.
    pub snapshot: Option<Snapshot>,
    /// The one it was compared with.
    pub parent: Option<Id>,
    pub added: AddedBlobs,
}

/// Between two looks at the workers.
const TICK: Duration = Duration::from_millis(20);
/// Between two reports to the monitor.
const REPORT: Duration = Duration::from_millis(200);
/// A worker's frames are shallow: no recursion, and buffers are on the heap.
const STACK_BYTES: usize = 512 << 10;
/// On a network share operations wait most of the time.
const WORKERS_NETWORK: usize = 24;
/// Large files that are read at once; each holds a piece of up to 8 MiB in memory.
const BIG_FILES_MAX: usize = 3;

impl Repository {
    /// Makes a snapshot of the source. Blocks until it is done.
    pub fn backup(&self, cx: &BackupContext<'_>, options: &BackupOptions) -> Result<BackupReport> {
        let started = Instant::now();
        if options.path.is_root() {
            let reason = "the tree needs a name in the snapshot".to_owned();
            return Err(RepositoryError::Core { what: "make a snapshot", reason });
        }
        let parent = match &options.parent {
            Parent::None => None,
            Parent::This(snapshot) => Some((**snapshot).clone()),
            Parent::Latest(filter) => match self.find_snapshot(LATEST, filter) {
                Ok(snapshot) => Some(snapshot),
                Err(RepositoryError::NoSnapshot { .. }) => None,
                Err(error) => return Err(error),
            },
        };
        if let (Some(rate), None) = (options.limits.bandwidth_bytes_per_second, cx.throttle.bandwidth()) {
            cx.throttle.set_bandwidth(Some(rate));
        }
        if let (Some(rate), None) = (options.limits.operations_per_second, cx.throttle.operations()) {
            cx.throttle.set_operations(Some(rate));
        }
        let index = self.load_index(cx.stop)?;
        let inner = &*self.inner;
        let packer = Packer::new(&*inner.store, &inner.key, &index, inner.level);
        let blobs = Blobs::new(self, &index);
        let run = Run::new(cx, options, &packer, &blobs, &inner.chunker, BIG_FILES_MAX);
        let parent_tree = parent.as_ref().and_then(|snapshot| match blobs.find_dir(snapshot) {
            Ok(node) => node.subtree,
            Err(error) => {
                run.warn(format!("every file is read, because the parent snapshot cannot be used: {error}"));
                None
            }
        });
        walk::begin(&run, parent_tree).map_err(CopyError::OpenSource)?;
        let mut gauge = Gauge::new(started);
        let workers = drive(&run, &mut gauge)?;
        if let Some(error) = run.take_failure() {
            // What is stored already spares the next backup work; its own failure would say less than this one.
            let _ = packer.give_up();
            return Err(error);
        }
        cx.monitor.progress(&gauge.look(&run, Stage::Sync, workers));
        let sync_started = Instant::now();
        let mut snapshot = None;
        if run.stop_reason().is_none() {
            snapshot = save(self, &run, parent.as_ref())?;
        } else {
            packer.refuse();
            packer.give_up()?;
        }
        let counters = run.totals();
        let findings = run.findings();
        let ending = match run.stop_reason() {
            Some(reason) if snapshot.is_none() => Ending::Stopped(reason),
            _ if counters.faults > 0 => Ending::WithFaults,
            _ => Ending::Complete,
        };
        if snapshot.is_some() {
            cx.monitor.progress(&gauge.look(&run, Stage::Done, workers));
        }
        Ok(BackupReport {
            report: CopyReport {
                ending,
                counters,
                faults: findings.faults,
                fault_classes: findings.fault_classes,
                losses: findings.losses,
                warnings: findings.warnings,
                verification: None,
                elapsed: started.elapsed(),
                sync_elapsed: sync_started.elapsed(),
                workers_max: workers,
                durable: true,
            },
            snapshot,
            parent: parent.map(|parent| parent.id),
            added: packer.added(),
        })
    }
}

/// Runs the workers until everything is done or the run ends.
fn drive(run: &Run<'_>, gauge: &mut Gauge) -> Result<usize> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = if run.cx.source.facts().is_network { WORKERS_NETWORK.max(cores) } else { cores };
    let limits = &run.options.limits;
    let wanted = limits.workers.unwrap_or(wanted).clamp(1, limits.workers_max.max(1));
    let (working, writing) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let main = std::thread::current();
    let (mut started, mut failed) = (0, None);
    std::thread::scope(|scope| {
        let start = |alive, work: fn(&Run<'_>)| {
            let (alive, main): (&AtomicUsize, _) = (alive, main.clone());
            alive.fetch_add(1, Ordering::SeqCst);
            let body = move || {
                if catch_unwind(AssertUnwindSafe(|| work(run))).is_err() {
                    run.fail(RepositoryError::Panicked);
                }
                alive.fetch_sub(1, Ordering::SeqCst);
                main.unpark();
            };
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, body);
            thread.map(drop).inspect_err(|_| _ = alive.fetch_sub(1, Ordering::SeqCst))
        };
        // Fewer than wanted will do, none will not.
        for (alive, count, work) in [(&writing, WRITERS, write as fn(&Run<'_>)), (&working, wanted, walk::work)] {
            started = 0;
            while started < count && failed.is_none() {
                match start(alive, work) {
                    Ok(()) => started += 1,
                    Err(_) if started > 0 => break,
                    Err(error) => failed = Some(RepositoryError::Thread(error)),
                }
            }
        }
        let mut reported = Instant::now();
        while working.load(Ordering::SeqCst) + writing.load(Ordering::SeqCst) > 0 {
            std::thread::park_timeout(TICK);
            if working.load(Ordering::SeqCst) == 0 {
                run.packer.end_writers();
            }
            if run.is_stopped() {
                run.packer.refuse();
                run.queue.clear();
            }
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                run.cx.monitor.progress(&gauge.look(run, Stage::Transfer, started));
            }
        }
    });
    *lock(&run.current) = None;
    failed.map_or(Ok(started), Err)
}

/// Writes full packs for the workers.
fn write(run: &Run<'_>) {
    if let Err(error) = run.packer.write_packs() {
        run.fail(error);
    }
}

/// Puts the root directory in its place, makes everything durable, and last of all writes the snapshot.
fn save(repository: &Repository, run: &Run<'_>, parent: Option<&Snapshot>) -> Result<Option<Snapshot>> {
    let Some(root) = lock(&run.root).take() else { return Err(RepositoryError::Panicked) };
    let options = run.options;
    let mut node = root.node;
    let components: Vec<&[u8]> = options.path.as_bytes().split(|byte| *byte == b'/').collect();
    let mut tree = None;
    for (depth, name) in components.iter().enumerate().rev() {
        if depth + 1 < components.len() {
            // Directories above the tree are nobody's: they only lead there.
            let above = Node { kind: NodeKind::Dir, mode: 1 << 31 | 0o755, links: 1, ..Node::default() };
            node = Node { subtree: tree, mtime: node.mtime, atime: node.atime, ctime: node.ctime, ..above };
        }
        node.name = QuotedName((*name).into());
        let json = node.json();
        tree = Some(run.packer.save(BlobKind::Tree, &tree_json(std::iter::once(&*json), json.len()))?);
    }
    run.packer.finish()?;
    // The last moment at which an order to stop is obeyed; from here on the snapshot is there.
    if run.stop_reason().is_some() {
        return Ok(None);
    }
    let counters = run.totals();
    let added = run.packer.added();
    let files = |action: copy::Action| counters.action(action);
    let dirs = counters.kind(copy::EntryKind::Dir);
    let file = SnapshotFile {
        time: options.time.to_string(),
        parent: parent.map(|parent| parent.id),
        tree: tree.expect("a path has at least one name"),
        paths: BTreeSet::from([format!("/{}", super::node::quote(options.path.as_bytes()))]),
        hostname: options.host.clone(),
        tags: options.tags.clone(),
        program_version: concat!("manila-data ", env!("CARGO_PKG_VERSION")).to_owned(),
        summary: Some(SnapshotSummary {
            files_new: files(copy::Action::Created),
            files_changed: files(copy::Action::Replaced) + files(copy::Action::Updated),
            files_unmodified: files(copy::Action::Unchanged),
            data_blobs: added.data_blobs,
            tree_blobs: added.tree_blobs,
            data_added: added.plain_bytes,
            data_added_packed: added.stored_bytes,
            total_files_processed: counters.done_entries - dirs,
            total_dirs_processed: dirs,
            total_bytes_processed: counters.scanned_bytes,
            ..SnapshotSummary::default()
        }),
    };
    let inner = &*repository.inner;
    let id = save_file(&*inner.store, &inner.key, inner.level, FileKind::Snapshot, &file)?;
    Ok(file.into_snapshot(id))
}
