//! Checks a repository, and removes what no snapshot needs: the library's commands, on a thread of their own, with
//! progress and an ear for the order to stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use copy::{Counters, Ending, Monitor, Progress, Stage, StopToken};
use rustic_core::{CheckResults, LimitOption, ProgressType, ReadSubsetOption, RusticProgress, TreeId};

use super::error::{RepositoryError, Result};
use super::repository::{Repository, core_error};
use super::store::{FileKind, Orders};

/// What a check looks at besides the structure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CheckOptions {
    /// Percent of the packs that are read and verified, chosen anew each time: 0 none, 100 all.
    pub read_percent: f64,
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// Data is lost or not to be trusted; otherwise only space is wasted.
    pub is_damage: bool,
    pub text: String,
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The first of them; all are counted.
    pub findings: Vec<CheckFinding>,
    pub damages: u64,
    pub warnings: u64,
    pub snapshots: u64,
    pub ending: Ending,
    pub elapsed: Duration,
}

impl CheckReport {
    /// Everything that was looked at is as it should be.
    pub fn is_sound(&self) -> bool {
        self.ending == Ending::Complete && self.damages == 0
    }
}

/// How much a prune may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PruneOptions {
    /// Unused space that may stay, in percent of the repository. 0 repacks every pack that holds a blob in vain.
    pub max_unused_percent: u64,
    /// Packs are deleted at once, not marked and deleted by a later prune a day on. Only where nobody else uses the
    /// repository at the time: a backup that runs beside may count on a blob in such a pack.
    pub instant_delete: bool,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { max_unused_percent: 5, instant_delete: false }
    }
}

/// The result of a prune.
#[derive(Clone, Debug)]
pub struct PruneReport {
    /// Packs that were marked for deletion, or deleted where that was asked for.
    pub packs_unused: u64,
    /// Packs whose used blobs were written anew.
    pub packs_repacked: u64,
    /// Packs that an earlier prune had marked, deleted now.
    pub packs_deleted: u64,
    /// Bytes of blobs that nothing needs any more.
    pub freed_bytes: u64,
    /// Files of writers that died.
    pub leftovers: u64,
    pub ending: Ending,
    pub elapsed: Duration,
}

/// Findings that are kept with their text.
const FINDINGS_KEPT: usize = 100;
const REPORT: Duration = Duration::from_millis(200);

impl Repository {
    /// Checks the structure: every file that a snapshot needs is there and has the size that the index says. Of the
    /// packs the given part is read. Damage is in the report; an error means that nothing could be checked.
    pub fn check(&self, options: CheckOptions, monitor: &dyn Monitor, stop: &StopToken) -> Result<CheckReport> {
        let started = Instant::now();
        let mut findings = Vec::new();
        let mut trees = Vec::new();
        for (id, _) in self.inner.store.list(FileKind::Snapshot)? {
            match self.load_file::<super::snapshot::SnapshotFile>(FileKind::Snapshot, &id) {
                Ok(file) => trees.push(TreeId::from(rustic_core::Id::from(file.tree))),
                Err(RepositoryError::Damaged { what, .. }) => {
                    findings.push(CheckFinding { is_damage: true, text: what });
                }
                Err(error) => return Err(error),
            }
        }
        let snapshots = trees.len() as u64;
        let mut core_options = rustic_core::CheckOptions::default();
        core_options.read_data = options.read_percent > 0.0;
        core_options.read_data_subset = match options.read_percent {
            percent if percent >= 100.0 => ReadSubsetOption::All,
            percent => ReadSubsetOption::Percentage(percent),
        };
        let checked = self.beside(monitor, stop, started, |core| {
            core.check_with_trees(core_options, trees).map_err(|error| core_error("check the repository", &error))
        });
        match checked {
            Ok(CheckResults(found)) => {
                for finding in found {
                    // The library does not let its levels be named; one finding at a time it tells them all the same.
                    let one = CheckResults(vec![finding]);
                    let is_damage = one.is_ok().is_err();
                    let text = one.0.first().map(|(_, error)| one_line(error)).unwrap_or_default();
                    findings.push(CheckFinding { is_damage, text });
                }
            }
            Err(RepositoryError::Core { reason, .. }) if !stop.is_stopped() => {
                findings.push(CheckFinding { is_damage: true, text: reason });
            }
            Err(RepositoryError::Stopped | RepositoryError::Core { .. }) => {}
            Err(error) => return Err(error),
        }
        let stopped = stop.reason();
        if stopped.is_some() {
            // What a stopped check could not read is no finding.
            findings.clear();
        }
        let damages = findings.iter().filter(|finding| finding.is_damage).count() as u64;
        let warnings = findings.len() as u64 - damages;
        findings.sort_by_key(|finding| !finding.is_damage);
        findings.truncate(FINDINGS_KEPT);
        let ending = match stopped {
            Some(reason) => Ending::Stopped(reason),
            None if damages > 0 => Ending::WithFaults,
            None => Ending::Complete,
        };
        Ok(CheckReport { findings, damages, warnings, snapshots, ending, elapsed: started.elapsed() })
    }

    /// Removes what no snapshot needs. Stopped at any moment it leaves a sound repository, and the next one goes on.
    pub fn prune(&self, options: PruneOptions, monitor: &dyn Monitor, stop: &StopToken) -> Result<PruneReport> {
        let started = Instant::now();
        let mut core_options = rustic_core::PruneOptions::default();
        core_options.max_unused = LimitOption::Percentage(options.max_unused_percent);
        core_options.max_repack = LimitOption::Unlimited;
        core_options.instant_delete = options.instant_delete;
        // Our packs keep their size, however large the repository grows.
        core_options.no_resize = true;
        let pruned = self.beside(monitor, stop, started, |core| {
            let what = "prune the repository";
            let plan = core.prune_plan(&core_options).map_err(|error| core_error(what, &error))?;
            let (packs, sizes) = (plan.stats.packs, plan.stats.size_sum());
            let deleted = plan.stats.packs_to_delete.remove;
            let unreferenced = plan.stats.packs_unref;
            core.prune(&core_options, plan).map_err(|error| core_error(what, &error))?;
            Ok(PruneReport {
                packs_unused: packs.unused + unreferenced,
                packs_repacked: packs.repack,
                packs_deleted: deleted,
                freed_bytes: sizes.remove + sizes.repackrm,
                leftovers: 0,
                ending: Ending::Complete,
                elapsed: started.elapsed(),
            })
        });
        match (pruned, stop.reason()) {
            (Ok(mut report), None) => {
                report.leftovers = self.inner.store.remove_leftovers()?;
                report.elapsed = started.elapsed();
                Ok(report)
            }
            (Ok(report), Some(_)) => Ok(report),
            (Err(RepositoryError::Core { .. } | RepositoryError::Stopped), Some(reason)) => Ok(PruneReport {
                packs_unused: 0,
                packs_repacked: 0,
                packs_deleted: 0,
                freed_bytes: 0,
                leftovers: 0,
                ending: Ending::Stopped(reason),
                elapsed: started.elapsed(),
            }),
            (Err(error), _) => Err(error),
        }
    }

    /// Runs a command of the library on a thread of its own, which may be one of an asynchronous runtime otherwise, and
    /// tells of its progress meanwhile.
    fn beside<T: Send>(
        &self,
        monitor: &dyn Monitor,
        stop: &StopToken,
        started: Instant,
        command: impl FnOnce(rustic_core::Repository<rustic_core::OpenStatus>) -> Result<T> + Send,
    ) -> Result<T> {
        let bars = Bars::default();
        let orders = Orders { stop: stop.clone() };
        let answer = std::thread::scope(|scope| {
            let bars_there = bars.clone();
            let worker = std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    catch_unwind(AssertUnwindSafe(|| command(self.core(orders, bars_there)?)))
                        .unwrap_or(Err(RepositoryError::Panicked))
                })
                .map_err(RepositoryError::Thread)?;
            while !worker.is_finished() {
                monitor.progress(&bars.look(Stage::Verify, started));
                std::thread::park_timeout(REPORT);
            }
            worker.join().unwrap_or(Err(RepositoryError::Panicked))
        });
        if answer.is_ok() && !stop.is_stopped() {
            monitor.progress(&bars.look(Stage::Done, started));
        }
        answer
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The library's bars, as one that never falls: how many there will be is not known, so each gets a part of what is
/// left, and one over bytes, which takes the longest, nearly all of it.
#[derive(Clone, Debug, Default)]
struct Bars(Arc<Mutex<Vec<Arc<Bar>>>>);

#[derive(Debug)]
struct Bar {
    part: f64,
    length: AtomicU64,
    done: AtomicU64,
    is_finished: std::sync::atomic::AtomicBool,
}

#[derive(Debug)]
struct Handle(Arc<Bar>);

impl Bars {
    fn percent(&self) -> f64 {
        let bars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut percent = 0.0;
        for bar in bars.iter() {
            let length = bar.length.load(Ordering::Relaxed);
            let done = if bar.is_finished.load(Ordering::Relaxed) {
                1.0
            } else {
                (bar.done.load(Ordering::Relaxed) as f64 / length.max(1) as f64).min(1.0)
            };
            percent += (99.9 - percent) * bar.part * done;
        }
        percent
    }

    fn look(&self, stage: Stage, started: Instant) -> Progress {
        Progress {
            stage,
            percent: if stage == Stage::Done { 100.0 } else { self.percent() },
            counters: Counters::default(),
            total_entries: None,
            total_bytes: None,
            elapsed: started.elapsed(),
            bytes_per_second: 0.0,
            entries_per_second: 0.0,
            remaining: None,
            current: None,
            workers: 1,
        }
    }
}

impl rustic_core::ProgressBars for Bars {
    fn progress(&self, kind: ProgressType, _prefix: &str) -> rustic_core::Progress {
        let part = match kind {
            ProgressType::Bytes => 0.9,
            ProgressType::Counter => 0.1,
            ProgressType::Spinner => 0.0,
        };
        let bar = Bar { part, length: AtomicU64::new(0), done: AtomicU64::new(0), is_finished: false.into() };
        let bar = Arc::new(bar);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(bar.clone());
        rustic_core::Progress::new(Handle(bar))
    }
}

impl RusticProgress for Handle {
    fn is_hidden(&self) -> bool {
        false
    }

    fn set_length(&self, length: u64) {
        self.0.length.store(length, Ordering::Relaxed);
    }

    fn set_title(&self, _title: &str) {}

    fn inc(&self, count: u64) {
        self.0.done.fetch_add(count, Ordering::Relaxed);
    }

    fn finish(&self) {
        self.0.is_finished.store(true, Ordering::Relaxed);
    }
}
