//! Runs over one tree: looking at it, and emptying it.

use std::time::Instant;

use super::adapt::Adapt;
use super::clear::Clear;
use super::dir::Dir;
use super::progress::Gauge;
use super::run::Run;
use super::scan::{Choice, Nothing, Scan, Scanned};
use super::{CopyContext, cores, drive, ending, workers_max};
use crate::error::CopyError;
use crate::filter::Filter;
use crate::hash::HashKind;
use crate::monitor::{Monitor, Stage};
use crate::options::{Limits, Records};
use crate::report::{CompareReport, Ending};
use crate::stop::StopToken;
use crate::throttle::Throttle;
use crate::tree::{DestTree, SourceTree};

/// What a scan works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct ScanContext<'a> {
    pub tree: &'a dyn SourceTree,
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    pub throttle: &'a Throttle,
}

impl std::fmt::Debug for ScanContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanContext").field("tree", &self.tree).finish_non_exhaustive()
    }
}

/// What emptying a tree works with; all of it belongs to the caller.
#[derive(Clone, Copy)]
pub struct ClearContext<'a> {
    pub tree: &'a dyn DestTree,
    pub monitor: &'a dyn Monitor,
    pub stop: &'a StopToken,
    pub throttle: &'a Throttle,
}

impl std::fmt::Debug for ClearContext<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClearContext").field("tree", &self.tree).finish_non_exhaustive()
    }
}

/// What a scan looks at.
#[derive(Clone)]
pub struct ScanOptions<'a> {
    pub filter: Filter,
    /// Reads extended attributes, where the tree has any.
    pub xattrs: bool,
    /// The files whose content is read, past the page cache.
    pub reads: Choice<'a>,
    /// The checksum that is computed of their content.
    pub hash: HashKind,
    pub limits: Limits,
}

impl std::fmt::Debug for ScanOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanOptions").field("hash", &self.hash).field("xattrs", &self.xattrs).finish_non_exhaustive()
    }
}

/// Looks at every entry of a tree, and changes nothing. `each` is called from several threads, in no order that could be
/// relied on, with the root among the entries; it must be quick.
///
/// The report has no differences. An entry that could not be read whole is a fault, and is told with what was learned of
/// it; of one whose attributes could not be read there is only the fault.
pub fn scan_tree(
    cx: &ScanContext<'_>,
    options: &ScanOptions<'_>,
    each: &(dyn Fn(Scanned) + Sync),
) -> Result<CompareReport, CopyError> {
    let began = Instant::now();
    let facts = cx.tree.facts();
    let nothing = Nothing(facts.clone());
    let cx = CopyContext { source: cx.tree, dest: &nothing, monitor: cx.monitor, stop: cx.stop, throttle: cx.throttle };
    cx.throttle.set_defaults(options.limits.bandwidth_bytes_per_second, options.limits.operations_per_second);
    let mut adapt = Adapt::new(options.limits.workers, workers_max(&options.limits), cores(), facts.is_network);
    let run = Run::new(&cx, &options.limits, &options.filter, Records::None, adapt.target());
    let scan =
        Scan { run: &run, xattrs: options.xattrs && facts.xattrs, hash: options.hash, reads: options.reads, each };
    let mut gauge = Gauge::new((0.0, 100.0), began);
    let source = run.again(|| cx.source.root()).map_err(CopyError::OpenSource)?;
    let meta = run.again(|| source.metadata()).map_err(CopyError::OpenSource)?;
    let root = Dir::new(None, b"", scan.opened(source, meta).map_err(CopyError::OpenSource)?);
    drive(&run, &scan, root, &mut adapt, &mut gauge, Stage::Verify)?;
    Ok(alone(&run, &mut gauge, adapt.target(), began))
}

/// Removes everything below the root of a tree, whatever it is.
///
/// The root stays. What cannot be removed is a fault. Where names were listed while others went, some may be left: who
/// wants the tree empty calls again for as long as something was removed.
pub fn clear_tree(cx: &ClearContext<'_>, limits: &Limits, records: Records) -> Result<CompareReport, CopyError> {
    let began = Instant::now();
    let facts = cx.tree.facts();
    let nothing = Nothing(facts.clone());
    let dest = cx.tree;
    let cx = CopyContext { source: &nothing, dest, monitor: cx.monitor, stop: cx.stop, throttle: cx.throttle };
    cx.throttle.set_defaults(limits.bandwidth_bytes_per_second, limits.operations_per_second);
    let mut adapt = Adapt::new(limits.workers, workers_max(limits), cores(), facts.is_network);
    let filter = Filter::default();
    let run = Run::new(&cx, limits, &filter, records, adapt.target());
    let clear = Clear { run: &run };
    let mut gauge = Gauge::new((0.0, 100.0), began);
    let root = run.again(|| dest.root()).map_err(CopyError::OpenDest)?;
    let meta = run.again(|| root.metadata()).map_err(CopyError::OpenDest)?;
    let root = Dir::new(None, b"", clear.opened(root, meta).map_err(CopyError::OpenDest)?);
    drive(&run, &clear, root, &mut adapt, &mut gauge, Stage::Transfer)?;
    Ok(alone(&run, &mut gauge, adapt.target(), began))
}

/// Ends a run over one tree.
fn alone(run: &Run<'_>, gauge: &mut Gauge, workers: usize, began: Instant) -> CompareReport {
    let (counters, findings) = (run.totals(), run.findings());
    let ending = ending(run.stop_reason(), counters.faults > 0);
    if !matches!(ending, Ending::Stopped(_)) {
        run.cx.monitor.progress(&gauge.look(run, Stage::Done, workers));
    }
    CompareReport {
        ending,
        differences: findings.differences,
        faults: findings.faults,
        fault_classes: findings.fault_classes,
        elapsed: began.elapsed(),
        counters,
    }
}
