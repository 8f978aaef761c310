//! One look at a run.

use serde::{Deserialize, Serialize};

use super::{PathText, rounded};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Progress {
    /// `preflight`, `transfer`, `sync`, `verify`, `done`.
    pub stage: String,
    /// 0 to 100; never falls within a run, 100 only when it is done.
    pub percent: f64,
    pub elapsed_seconds: f64,
    pub remaining_seconds: Option<f64>,
    /// Over the last seconds.
    pub bytes_per_second: f64,
    pub entries_per_second: f64,
    pub scanned_entries: u64,
    pub scanned_bytes: u64,
    pub done_entries: u64,
    pub done_bytes: u64,
    /// Known once the scan has ended.
    pub total_entries: Option<u64>,
    pub total_bytes: Option<u64>,
    pub copied_files: u64,
    pub copied_bytes: u64,
    pub verified_files: u64,
    pub verified_bytes: u64,
    pub faults: u64,
    pub losses: u64,
    pub differences: u64,
    pub workers: u64,
    /// A file that is being copied.
    pub current: Option<PathText>,
    /// How much of its content was moved, 0 to 100; not known of small files.
    pub current_percent: Option<f64>,
}

impl From<&copy::Progress> for Progress {
    fn from(progress: &copy::Progress) -> Self {
        let counters = &progress.counters;
        let seconds = |duration: std::time::Duration| rounded(duration.as_secs_f64());
        Self {
            stage: progress.stage.as_str().into(),
            percent: rounded(progress.percent),
            elapsed_seconds: seconds(progress.elapsed),
            remaining_seconds: progress.remaining.map(seconds),
            bytes_per_second: rounded(progress.bytes_per_second),
            entries_per_second: rounded(progress.entries_per_second),
            scanned_entries: counters.scanned_entries,
            scanned_bytes: counters.scanned_bytes,
            done_entries: counters.done_entries,
            done_bytes: counters.done_bytes,
            total_entries: progress.total_entries,
            total_bytes: progress.total_bytes,
            copied_files: counters.copied_files,
            copied_bytes: counters.copied_bytes,
            verified_files: counters.verified_files,
            verified_bytes: counters.verified_bytes,
            faults: counters.faults,
            losses: counters.losses,
            differences: counters.differences,
            workers: progress.workers as u64,
            current: progress.current.as_ref().map(|current| PathText::from(&current.path)),
            current_percent: progress.current.as_ref().and_then(|current| current.percent).map(rounded),
        }
    }
}
