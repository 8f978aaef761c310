//! Which snapshots are kept, by restic's rules.

use copy::Monitor;
use rustic_core::KeepOptions;

use super::error::{RepositoryError, Result};
use super::id::Id;
use super::repository::{Repository, core_error};
use super::snapshot::{Snapshot, SnapshotFilter};
use super::store::Orders;

/// What to keep; a snapshot that any rule keeps is kept. Hours, days and so on are those of UTC, and of each the newest
/// snapshot counts.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
    /// Everything that is at most so much older than the newest.
    pub within: Option<jiff::Span>,
    /// Snapshots with any of these tags.
    pub tags: Vec<String>,
}

/// What the rules say of one snapshot.
#[derive(Clone, Debug)]
pub struct Kept {
    pub snapshot: Snapshot,
    pub is_kept: bool,
    /// The rules that keep it.
    pub reasons: Vec<String>,
}

impl Retention {
    /// No rule at all would keep nothing; that is never meant.
    pub fn is_empty(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(Option::is_none) && self.within.is_none() && self.tags.is_empty()
    }

    fn options(&self) -> KeepOptions {
        let count = |count: Option<u32>| count.map(|count| i32::try_from(count).unwrap_or(i32::MAX));
        let mut options = KeepOptions::default();
        options.keep_last = count(self.last);
        options.keep_hourly = count(self.hourly);
        options.keep_daily = count(self.daily);
        options.keep_weekly = count(self.weekly);
        options.keep_monthly = count(self.monthly);
        options.keep_yearly = count(self.yearly);
        options.keep_within = self.within;
        options.keep_tags = self.tags.iter().filter_map(|tag| tag.parse().ok()).collect();
        options
    }
}

impl Repository {
    /// What the rules say of the snapshots that match, the newest first. The filter must name those of one share:
    /// rules count snapshots, whatever they are of.
    pub fn apply_retention(
        &self,
        filter: &SnapshotFilter,
        retention: &Retention,
        now: jiff::Timestamp,
    ) -> Result<Vec<Kept>> {
        self.judge(&self.snapshots(filter)?, retention, now)
    }

    /// The same for these snapshots alone, which no filter may be able to name.
    pub fn judge(&self, snapshots: &[Snapshot], retention: &Retention, now: jiff::Timestamp) -> Result<Vec<Kept>> {
        if retention.is_empty() {
            let reason = "no rule tells what to keep".to_owned();
            return Err(RepositoryError::Core { what: "apply the retention", reason });
        }
        let core = self.core(Orders::default(), rustic_core::NoProgressBars)?;
        let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
        let files = core.get_snapshots(&ids).map_err(|error| core_error("read the snapshots", &error))?;
        let judged = retention
            .options()
            .apply(files, &now.to_zoned(jiff::tz::TimeZone::UTC))
            .map_err(|error| core_error("apply the retention", &error))?;
        let judge = |file: rustic_core::repofile::SnapshotFile| Id::from(&*file.id);
        Ok(judged
            .into_iter()
            .filter_map(|judged| {
                let (is_kept, reasons) = (judged.keep, judged.reasons);
                let id = judge(judged.snapshot);
                let snapshot = snapshots.iter().find(|snapshot| snapshot.id == id)?.clone();
                Some(Kept { snapshot, is_kept, reasons })
            })
            .collect())
    }

    /// Removes the snapshots that no rule keeps, and tells what was judged. Their content stays until a prune.
    pub fn forget(
        &self,
        filter: &SnapshotFilter,
        retention: &Retention,
        now: jiff::Timestamp,
        monitor: &dyn Monitor,
    ) -> Result<Vec<Kept>> {
        let judged = self.apply_retention(filter, retention, now)?;
        let gone: Vec<Id> = judged.iter().filter(|kept| !kept.is_kept).map(|kept| kept.snapshot.id).collect();
        if !judged.is_empty() && gone.len() == judged.len() {
            monitor.warning("the retention keeps none of the snapshots");
        }
        self.delete_snapshots(&gone)?;
        Ok(judged)
    }
}
