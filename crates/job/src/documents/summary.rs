//! What a run did.

use std::collections::BTreeMap;

use copy::{Action, Counters, Difference, Ending, EntryKind, ErrorClass, Fault, FsError, Loss, Mover, StopReason};
use serde::{Deserialize, Serialize};

use super::{PathText, rounded};

/// Of a copy, of a comparison, or of work on a repository of backups. To back up and to restore are copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Summary {
    Copy(Box<CopySummary>),
    Verify(Box<Comparison>),
    Repository(Box<RepositorySummary>),
}

impl Summary {
    pub fn counts(&self) -> &Counts {
        match self {
            Self::Copy(summary) => &summary.counts,
            Self::Verify(comparison) => &comparison.counts,
            Self::Repository(summary) => &summary.counts,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CopySummary {
    pub dry_run: bool,
    /// `complete`, `with_faults` or `stopped`.
    pub ending: String,
    pub stop_reason: Option<String>,
    pub elapsed_seconds: f64,
    /// Part of it that waiting for storage took at the end.
    pub sync_seconds: f64,
    pub workers_max: u64,
    /// Everything that was written is on stable storage.
    pub durable: bool,
    pub counts: Counts,
    /// Entries by what was done with them.
    pub actions: BTreeMap<String, u64>,
    /// Files and bytes by the way their content travelled.
    pub movers: BTreeMap<String, MoverCounts>,
    pub fault_classes: BTreeMap<String, u64>,
    /// The first of them; `counts.faults` counts all.
    pub faults: Vec<FaultEntry>,
    pub losses: Vec<Lost>,
    pub warnings: Vec<String>,
    pub verification: Option<Comparison>,
    /// The backup that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupFacts>,
}

/// A backup, as it is in its repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BackupFacts {
    /// The name of its directory, or the identifier of its snapshot.
    pub id: String,
    /// What the repository grew by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<u64>,
    /// `directory`: the root hash over its manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_root: Option<String>,
    /// An earlier run of the same job had made it.
    pub was_there: bool,
}

/// Of a job that works on a repository alone: delete, check, prune.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RepositorySummary {
    /// `complete`, `with_faults` or `stopped`.
    pub ending: String,
    pub stop_reason: Option<String>,
    pub elapsed_seconds: f64,
    pub counts: Counts,
    /// What was found or done, one sentence each.
    pub findings: Vec<String>,
    pub differences: Vec<Differing>,
    pub fault_classes: BTreeMap<String, u64>,
    pub faults: Vec<FaultEntry>,
    pub kept_backups: u64,
    pub removed_backups: u64,
    /// Of storage that nothing needs any more.
    pub removed_bytes: u64,
}

impl RepositorySummary {
    /// Begins with what one of the engine's passes over a backup found.
    pub fn new(report: &copy::CompareReport) -> Self {
        let Comparison { ending, stop_reason, elapsed_seconds, counts, differences, fault_classes, faults, .. } =
            report.into();
        Self { ending, stop_reason, elapsed_seconds, counts, differences, fault_classes, faults, ..Self::default() }
    }
}

impl CopySummary {
    pub fn new(report: &copy::CopyReport, dry_run: bool) -> Self {
        let counters = &report.counters;
        let mover = |mover: Mover| MoverCounts {
            files: counters.mover_files[mover as usize],
            bytes: counters.mover_bytes[mover as usize],
        };
        Self {
            dry_run,
            ending: ending(report.ending).into(),
            stop_reason: stop_reason(report.ending),
            elapsed_seconds: rounded(report.elapsed.as_secs_f64()),
            sync_seconds: rounded(report.sync_elapsed.as_secs_f64()),
            workers_max: report.workers_max as u64,
            durable: report.durable,
            counts: counters.into(),
            actions: Action::ALL.iter().map(|kind| (kind.as_str().into(), counters.action(*kind))).collect(),
            movers: Mover::ALL.iter().map(|kind| (kind.as_str().into(), mover(*kind))).collect(),
            fault_classes: fault_classes(&report.fault_classes),
            faults: report.faults.iter().map(FaultEntry::from).collect(),
            losses: report.losses.iter().map(Lost::from).collect(),
            warnings: report.warnings.clone(),
            verification: report.verification.as_ref().map(Comparison::from),
            backup: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Comparison {
    /// Both trees were read whole and do not differ.
    pub same: bool,
    pub ending: String,
    pub stop_reason: Option<String>,
    pub elapsed_seconds: f64,
    pub counts: Counts,
    pub differences: Vec<Differing>,
    pub fault_classes: BTreeMap<String, u64>,
    pub faults: Vec<FaultEntry>,
}

impl From<&copy::CompareReport> for Comparison {
    fn from(report: &copy::CompareReport) -> Self {
        Self {
            same: report.is_same(),
            ending: ending(report.ending).into(),
            stop_reason: stop_reason(report.ending),
            elapsed_seconds: rounded(report.elapsed.as_secs_f64()),
            counts: (&report.counters).into(),
            differences: report.differences.iter().map(Differing::from).collect(),
            fault_classes: fault_classes(&report.fault_classes),
            faults: report.faults.iter().map(FaultEntry::from).collect(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Counts {
    pub scanned_entries: u64,
    pub scanned_bytes: u64,
    pub done_entries: u64,
    pub done_bytes: u64,
    pub kinds: BTreeMap<String, u64>,
    pub copied_files: u64,
    pub copied_bytes: u64,
    pub filtered: u64,
    pub retries: u64,
    pub opened_files: u64,
    pub faults: u64,
    pub losses: u64,
    pub differences: u64,
    pub verified_files: u64,
    pub verified_bytes: u64,
    /// Files that the page cache did not let go of, so that they were not read from storage.
    pub verified_from_cache: u64,
}

impl From<&Counters> for Counts {
    fn from(counters: &Counters) -> Self {
        Self {
            scanned_entries: counters.scanned_entries,
            scanned_bytes: counters.scanned_bytes,
            done_entries: counters.done_entries,
            done_bytes: counters.done_bytes,
            kinds: EntryKind::ALL.iter().map(|kind| (kind.as_str().into(), counters.kind(*kind))).collect(),
            copied_files: counters.copied_files,
            copied_bytes: counters.copied_bytes,
            filtered: counters.filtered,
            retries: counters.retries,
            opened_files: counters.opened_files,
            faults: counters.faults,
            losses: counters.losses,
            differences: counters.differences,
            verified_files: counters.verified_files,
            verified_bytes: counters.verified_bytes,
            verified_from_cache: counters.verified_from_cache,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MoverCounts {
    pub files: u64,
    pub bytes: u64,
}

/// An entry that could not be copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct FaultEntry {
    #[serde(flatten)]
    pub path: PathText,
    pub operation: String,
    pub class: String,
    /// 0 where the engine found the fault without the kernel.
    pub errno: i32,
    pub reason: String,
}

impl From<&Fault> for FaultEntry {
    fn from(fault: &Fault) -> Self {
        let FsError { op, class, errno } = fault.error;
        Self {
            path: (&fault.path).into(),
            operation: op.as_str().into(),
            class: class.as_str().into(),
            errno,
            reason: fault.error.reason(),
        }
    }
}

/// An attribute that the destination could not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Lost {
    pub attribute: String,
    pub count: u64,
    /// The first of them.
    pub paths: Vec<PathText>,
}

impl From<&Loss> for Lost {
    fn from(loss: &Loss) -> Self {
        Self {
            attribute: loss.kind.as_str().into(),
            count: loss.count,
            paths: loss.paths.iter().map(PathText::from).collect(),
        }
    }
}

/// A way in which entries differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Differing {
    pub kind: String,
    pub count: u64,
    /// The first of them.
    pub paths: Vec<PathText>,
}

impl From<&Difference> for Differing {
    fn from(difference: &Difference) -> Self {
        let Difference { kind, count, paths } = difference;
        Self { kind: kind.as_str().into(), count: *count, paths: paths.iter().map(PathText::from).collect() }
    }
}

fn fault_classes(classes: &[(ErrorClass, u64)]) -> BTreeMap<String, u64> {
    classes.iter().map(|(class, count)| (class.as_str().into(), *count)).collect()
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "complete",
        Ending::WithFaults => "with_faults",
        Ending::Stopped(_) => "stopped",
    }
}

fn stop_reason(ending: Ending) -> Option<String> {
    let Ending::Stopped(reason) = ending else { return None };
    let word = match reason {
        StopReason::Shutdown => "shutdown",
        StopReason::Deadline => "deadline",
        StopReason::Cancel => "cancel",
        StopReason::Fault => "fault",
    };
    Some(word.into())
}
