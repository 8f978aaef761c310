//! What a run tells while it goes on.

use std::time::Duration;

use crate::error::Fault;
use crate::path::RelPath;
use crate::report::{Counters, EntryRecord};

/// What a run is busy with. Scan and transfer overlap, so they are one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Preflight,
    Transfer,
    /// Waiting for storage to make everything durable.
    Sync,
    Verify,
    Done,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Transfer => "transfer",
            Self::Sync => "sync",
            Self::Verify => "verify",
            Self::Done => "done",
        }
    }
}

/// One look at a run, from the one place that derives percent, rate and remaining time.
#[derive(Clone, Debug)]
pub struct Progress {
    pub stage: Stage,
    /// 0 to 100; never falls, 100 only in [`Stage::Done`] of a run that went to its end.
    pub percent: f64,
    pub counters: Counters,
    /// Known once the scan has ended.
    pub total_entries: Option<u64>,
    pub total_bytes: Option<u64>,
    pub elapsed: Duration,
    /// Over the last seconds.
    pub bytes_per_second: f64,
    pub entries_per_second: f64,
    pub remaining: Option<Duration>,
    /// A file that is being copied.
    pub current: Option<Current>,
    pub workers: usize,
}

/// A file on its way.
#[derive(Clone, Debug, PartialEq)]
pub struct Current {
    pub path: RelPath,
    /// How much of its content was moved, 0 to 100; of small files nobody counts that.
    pub percent: Option<f64>,
}

/// Receives what a run tells. Called from the engine's threads: implementations must be quick.
pub trait Monitor: Send + Sync {
    /// A few times a second, from one thread.
    fn progress(&self, _progress: &Progress) {}
    /// A fault, as it is found; only the first [`Limits::faults_kept`](crate::Limits) of them.
    fn fault(&self, _fault: &Fault) {}
    /// A fault, as it is found; all of them.
    fn failed(&self, _fault: &Fault) {}
    /// Something worth knowing that is no fault.
    fn warning(&self, _text: &str) {}
    /// An entry is done; called only as [`CopyOptions::records`](crate::CopyOptions) asks.
    fn record(&self, _record: EntryRecord) {}
    /// The verification that ends a copy looked at an entry: called for those that differ or failed, as
    /// [`CopyOptions::records`](crate::CopyOptions) asks, and for all of them where checksums are wanted.
    fn verified(&self, _record: EntryRecord) {}
}

/// Listens to nothing.
#[derive(Debug)]
pub struct NoMonitor;

impl Monitor for NoMonitor {}
