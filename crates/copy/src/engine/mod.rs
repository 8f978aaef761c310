//! Runs a copy or a comparison: threads that take work from one queue, one thread that watches them, and one that makes
//! what they wrote durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod adapt;
mod alone;
mod attrs;
mod barrier;
mod big;
mod clear;
mod compare;
mod content;
mod copy;
mod dir;
mod dirs;
mod file;
mod fold;
mod links;
mod progress;
mod queue;
mod remove;
mod run;
mod scan;
mod walk;

use adapt::{Adapt, Work};
pub use alone::{ClearContext, ScanContext, ScanOptions, clear_tree, scan_tree};
use barrier::Barriers;
use compare::Comparison;
use copy::Copy;
use dir::{Before, Dir, Opened};
use progress::Gauge;
use run::{Run, lock};
pub use scan::{Choice, Scanned};
use walk::Visitor;

use crate::error::{CopyError, FsResult};
use crate::monitor::{Monitor, Stage};
use crate::options::{CompareOptions, CopyOptions, Delete, Limits, OnFault, OnLoss, Records, Sync, Verify};
use crate::preflight::{Finding, preflight};
use crate::report::{CompareReport, CopyReport, Ending, unexplained_differences};
use crate::state::{State, Trust};
use crate::stop::StopToken;
use crate::throttle::Throttle;
use crate::tree::{DestTree, SourceTree};

/// What a run works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct CopyContext<'a> {
    pub source: &'a dyn SourceTree,
    pub dest: &'a dyn DestTree,
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    /// The caller may change its rates while the run goes on.
    pub throttle: &'a Throttle,
}

impl std::fmt::Debug for CopyContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyContext").field("source", &self.source).field("dest", &self.dest).finish_non_exhaustive()
    }
}

/// Makes the destination hold what the source holds.
pub fn copy_tree(cx: &CopyContext<'_>, options: &CopyOptions) -> Result<CopyReport, CopyError> {
    let started = Instant::now();
    let (mut warnings, mut refusals) = (Vec::new(), Vec::new());
    for finding in preflight(cx, options)? {
        match finding {
            Finding::Warning(text) => {
                cx.monitor.warning(&text);
                warnings.push(text);
            }
            Finding::Note(_) => {}
            Finding::Refusal(text) => refusals.push(text),
        }
    }
    if !refusals.is_empty() {
        return Err(CopyError::Preflight(refusals));
    }
    let (source_facts, dest_facts) = (cx.source.facts(), cx.dest.facts());
    let (state, trust) = match &options.state_dir {
        Some(dir) if !options.dry_run => {
            let (state, trust) = State::open(dir, &source_facts.location, &dest_facts.location)?;
            (Some(state), trust)
        }
        _ => (None, Trust::All),
    };
    cx.throttle.set_defaults(options.limits.bandwidth_bytes_per_second, options.limits.operations_per_second);
    let network = source_facts.is_network || dest_facts.is_network;
    let most = workers_max(&options.limits).min(cx.source.workers_max(network));
    let mut adapt = Adapt::new(options.limits.workers, most, cores(), network);
    let mut run = Run::new(cx, &options.limits, &options.filter, options.records, adapt.target());
    run.stop_on_fault = options.on_fault == OnFault::Stop;
    run.one_file_system = options.one_file_system;
    run.early_writeback = options.sync == Sync::AtEnd;
    let same_device = source_facts.device == dest_facts.device;
    // Servers that copy by themselves also between two mounts. Elsewhere the kernel would do it page by page, in one
    // stream, which is the slowest way over a network.
    let servers_copy = source_facts.fs_type == dest_facts.fs_type
        && matches!(source_facts.fs_type.as_str(), "nfs4" | "cifs" | "smb3" | "ceph");
    let copy = Copy {
        run: &run,
        options,
        dest_root: cx.dest.root().map_err(CopyError::OpenDest)?,
        trust,
        time_granularity: AtomicU64::new(1),
        times_checked: AtomicBool::new(false),
        reflinks: AtomicBool::new(same_device || options.movers.forced.is_some()),
        server_copies: AtomicBool::new(same_device && network || servers_copy || options.movers.forced.is_some()),
        deletes_left: AtomicU64::new(match options.delete {
            Delete::Never => 0,
            Delete::Extraneous { max_entries } => max_entries,
        }),
        both_flags: source_facts.inode_flags && dest_facts.inode_flags,
        source_xattrs: source_facts.xattrs,
    };
    let mut barriers = Barriers::new(cx.dest, state, options.sync == Sync::AtEnd && !options.dry_run);
    let verifies = options.verify != Verify::None && !options.dry_run;
    let transfer_ends = if verifies { 50.0 } else { 100.0 };
    let mut gauge = Gauge::new((0.0, transfer_ends), started);
    let root = open_root(&run, |source, dest, meta| copy.opened(source, Some(dest), Before::Filled, meta, false))?;
    let workers_max = std::thread::scope(|scope| {
        let end = barriers.start(scope, &run, options.limits.barrier_interval);
        let workers = drive(&run, &copy, root, &mut adapt, &mut gauge, Stage::Transfer);
        end.end();
        workers
    })?;
    let stopped = run.stop_reason();
    cx.monitor.progress(&gauge.look(&run, Stage::Sync, adapt.target()));
    let sync_started = Instant::now();
    let sync_error = barriers.finish(&copy, stopped.is_some())?;
    let sync_elapsed = sync_started.elapsed();
    if let Some(error) = sync_error {
        let mut worker = run::Worker::new();
        run.fault(&mut worker, crate::RelPath::root(), error);
        run.merge(&mut worker);
    }
    let verification = match options.verify {
        level if verifies && stopped.is_none() => {
            let part = Part { percent: transfer_ends, is_last: false };
            Some(compare_from(cx, &compare_options(options, level), part, started)?)
        }
        _ => None,
    };
    let counters = run.totals();
    let findings = run.findings();
    warnings.extend(findings.warnings);
    let lost = counters.losses > 0 && options.on_loss == OnLoss::Fail;
    let bad = verification
        .as_ref()
        .is_some_and(|found| found.ending != Ending::Complete || unexplained_differences(&findings.losses, found) > 0);
    let ending = ending(stopped.or(run.stop_reason()), counters.faults > 0 || lost || bad);
    if ending == Ending::Complete || ending == Ending::WithFaults {
        cx.monitor.progress(&gauge.look(&run, Stage::Done, adapt.target()));
    }
    Ok(CopyReport {
        ending,
        durable: barriers.is_durable(),
        faults: findings.faults,
        fault_classes: findings.fault_classes,
        losses: findings.losses,
        warnings,
        verification,
        elapsed: started.elapsed(),
        sync_elapsed,
        workers_max,
        counters,
    })
}

/// Compares the destination with the source, and changes neither.
pub fn compare_trees(cx: &CopyContext<'_>, options: &CompareOptions) -> Result<CompareReport, CopyError> {
    compare_from(cx, options, Part { percent: 0.0, is_last: true }, Instant::now())
}

/// Compares as the second half of something whose first half has told of every entry: what is found goes to
/// [`Monitor::verified`](crate::Monitor::verified), and the percentage begins at 50.
pub fn verify_trees(cx: &CopyContext<'_>, options: &CompareOptions) -> Result<CompareReport, CopyError> {
    compare_from(cx, options, Part { percent: 50.0, is_last: true }, Instant::now())
}

/// Where a comparison stands in something larger.
#[derive(Clone, Copy)]
struct Part {
    /// What is done before it.
    percent: f64,
    /// Nothing comes after it.
    is_last: bool,
}

fn compare_from(
    cx: &CopyContext<'_>,
    options: &CompareOptions,
    part: Part,
    started: Instant,
) -> Result<CompareReport, CopyError> {
    let began = Instant::now();
    let (source_facts, dest_facts) = (cx.source.facts(), cx.dest.facts());
    cx.throttle.set_defaults(options.limits.bandwidth_bytes_per_second, options.limits.operations_per_second);
    let network = source_facts.is_network || dest_facts.is_network;
    let most = workers_max(&options.limits).min(cx.source.workers_max(network));
    let mut adapt = Adapt::new(options.limits.workers, most, cores(), network);
    let mut run = Run::new(cx, &options.limits, &options.filter, options.records, adapt.target());
    run.one_file_system = options.one_file_system;
    run.is_verification = part.percent > 0.0;
    let comparison = Comparison {
        run: &run,
        options,
        xattrs: source_facts.xattrs,
        flags: source_facts.inode_flags && dest_facts.inode_flags,
    };
    let mut gauge = Gauge::new((part.percent, 100.0), started);
    let root = open_root(&run, |source, dest, meta| comparison.opened(source, dest, meta))?;
    drive(&run, &comparison, root, &mut adapt, &mut gauge, Stage::Verify)?;
    let (counters, findings) = (run.totals(), run.findings());
    let ending = ending(run.stop_reason(), counters.faults > 0);
    if part.is_last && !matches!(ending, Ending::Stopped(_)) {
        cx.monitor.progress(&gauge.look(&run, Stage::Done, adapt.target()));
    }
    Ok(CompareReport {
        ending,
        differences: findings.differences,
        faults: findings.faults,
        fault_classes: findings.fault_classes,
        elapsed: began.elapsed(),
        counters,
    })
}

fn compare_options(options: &CopyOptions, level: Verify) -> CompareOptions {
    let hash = options.verify_hash.filter(|_| level == Verify::Content);
    CompareOptions {
        filter: options.filter.clone(),
        content: level == Verify::Content,
        hash,
        atime: false,
        extra: options.delete != Delete::Never,
        devices: options.devices,
        one_file_system: options.one_file_system,
        records: match options.records {
            _ if hash.is_some() => Records::All,
            Records::None => Records::None,
            Records::Changes | Records::All => Records::Changes,
        },
        limits: options.limits.clone(),
    }
}

fn ending(stopped: Option<crate::StopReason>, faults: bool) -> Ending {
    match stopped {
        Some(reason) => Ending::Stopped(reason),
        None if faults => Ending::WithFaults,
        None => Ending::Complete,
    }
}

/// A worker holds two files and up to two directories open beside those that wait; where few descriptors are allowed,
/// many workers would only take them from each other.
fn workers_max(limits: &Limits) -> usize {
    let affordable = crate::local::raise_open_files_limit() / 16;
    limits.workers_max.min(usize::try_from(affordable).unwrap_or(usize::MAX)).max(1)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Opens both roots. What goes wrong with the source is told as such: people look in the right place then.
fn open_root(
    run: &Run<'_>,
    open: impl Fn(Arc<dyn crate::tree::SourceDir>, Arc<dyn crate::tree::DestDir>, crate::Metadata) -> FsResult<Opened>,
) -> Result<Arc<Dir>, CopyError> {
    let source = run.again(|| run.cx.source.root()).map_err(CopyError::OpenSource)?;
    let meta = run.again(|| source.metadata()).map_err(CopyError::OpenSource)?;
    let dest = run.again(|| run.cx.dest.root()).map_err(CopyError::OpenDest)?;
    let opened = run.again(|| open(source.clone(), dest.clone(), meta)).map_err(CopyError::OpenDest)?;
    Ok(Dir::new(None, b"", opened))
}

/// Between two looks while the number of workers is searched, and between two reports to the monitor.
const TICK: Duration = Duration::from_millis(10);
const REPORT: Duration = Duration::from_millis(200);
/// A worker's frames are shallow: no recursion, and buffers are on the heap.
const STACK_BYTES: usize = 256 << 10;

/// Starts workers as the search for their number goes, and waits for the end. Returns the highest number.
fn drive(
    run: &Run<'_>,
    visitor: &dyn Visitor,
    root: Arc<Dir>,
    adapt: &mut Adapt,
    gauge: &mut Gauge,
    stage: Stage,
) -> Result<usize, CopyError> {
    let mut itself = run::Worker::new();
    itself.counters.scanned_entries = 1;
    run.merge(&mut itself);
    run.queue.add_root(root);
    let panicked = AtomicBool::new(false);
    let alive = AtomicUsize::new(0);
    let main = std::thread::current();
    let mut started = 0;
    let mut failed = None;
    std::thread::scope(|scope| {
        let mut reported = Instant::now();
        loop {
            while started < adapt.target() && failed.is_none() {
                let (panicked, alive, main, number) = (&panicked, &alive, main.clone(), started);
                alive.fetch_add(1, Ordering::SeqCst);
                let body = move || {
                    if catch_unwind(AssertUnwindSafe(|| walk::work(run, visitor, number))).is_err() {
                        panicked.store(true, Ordering::SeqCst);
                        run.queue.abort();
                    }
                    alive.fetch_sub(1, Ordering::SeqCst);
                    main.unpark();
                };
                match std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, body) {
                    Ok(_) => started += 1,
                    // Fewer than wanted will do, none will not.
                    Err(error) => {
                        alive.fetch_sub(1, Ordering::SeqCst);
                        if started == 0 {
                            run.queue.abort();
                            failed = Some(error);
                        }
                        break;
                    }
                }
            }
            if alive.load(Ordering::SeqCst) == 0 {
                break;
            }
            std::thread::park_timeout(TICK);
            if run.is_stopped() {
                run.queue.clear();
            }
            let work = Work {
                entries: run.worked_entries.load(Ordering::Relaxed),
                bytes: run.moved_bytes.load(Ordering::Relaxed),
                cpu_seconds: crate::local::cpu_seconds(),
                backlog: run.queue.has_backlog(),
            };
            let target = adapt.observe(Instant::now(), work);
            run.queue.set_target(target, low_water(run, target));
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                run.cx.monitor.progress(&gauge.look(run, stage, target));
            }
        }
    });
    *lock(&run.current) = None;
    match failed {
        Some(error) => Err(CopyError::Thread(error)),
        None if panicked.load(Ordering::SeqCst) => Err(CopyError::Panicked),
        None => Ok(started),
    }
}

/// Every worker finds two batches waiting.
fn low_water(run: &Run<'_>, target: usize) -> usize {
    (2 * target * run.batch_entries()).min(run.limits.queue_entries)
}
