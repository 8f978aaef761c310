//! What a run is asked to do, and the limits it keeps.

use std::path::PathBuf;
use std::time::Duration;

use crate::filter::Filter;
use crate::hash::HashKind;
use crate::report::Mover;

/// Everything that decides how a tree is copied.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    pub filter: Filter,
    /// How an entry that exists in both trees is judged the same.
    pub compare: Compare,
    /// Removes what the source does not have.
    pub delete: Delete,
    pub on_fault: OnFault,
    pub on_loss: OnLoss,
    pub devices: Devices,
    pub sparse: Sparse,
    pub movers: Movers,
    pub verify: Verify,
    /// Computes a checksum of each file while it is copied. Forbids the movers that never show the data.
    pub hash: Option<HashKind>,
    /// Computes a checksum of each file while its content is verified; told by [`Monitor::verified`](crate::Monitor).
    pub verify_hash: Option<HashKind>,
    pub sync: Sync,
    /// Stays on the source root's file system.
    pub one_file_system: bool,
    pub dry_run: bool,
    /// Asks the monitor for a record of each entry.
    pub records: Records,
    /// Where a run's durable progress is kept; `None`: nothing is remembered between runs.
    pub state_dir: Option<PathBuf>,
    pub limits: Limits,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            compare: Compare::SizeAndTime,
            delete: Delete::Never,
            on_fault: OnFault::Continue,
            on_loss: OnLoss::Report,
            devices: Devices::Recreate,
            sparse: Sparse::Auto,
            movers: Movers::default(),
            verify: Verify::None,
            hash: None,
            verify_hash: None,
            sync: Sync::AtEnd,
            one_file_system: false,
            dry_run: false,
            records: Records::None,
            state_dir: None,
            limits: Limits::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Size and mtime, then attributes.
    SizeAndTime,
    /// Content, then attributes.
    Content,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    Never,
    /// At most this many entries; what would be beyond is left and is a fault.
    Extraneous {
        max_entries: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFault {
    Continue,
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLoss {
    Report,
    /// The run ends as failed where anything was lost.
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    Recreate,
    /// Devices are left out and counted. FIFOs and sockets are made.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sparse {
    /// Holes as the source reports them; on file systems that report none, runs of zeros become holes.
    Auto,
    /// Holes as the source reports them, and runs of zeros become holes too.
    Detect,
    /// Holes exactly as the source reports them.
    Keep,
}

/// Which ways of moving a file's content may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Movers {
    /// Only this one (where it applies at all; a file that it cannot move is a fault).
    pub forced: Option<Mover>,
    forbidden: u8,
}

impl Movers {
    pub fn forced(mover: Mover) -> Self {
        Self { forced: Some(mover), forbidden: 0 }
    }

    #[must_use]
    pub fn without(mut self, mover: Mover) -> Self {
        self.forbidden |= 1 << mover as u8;
        self
    }

    pub fn allows(&self, mover: Mover) -> bool {
        self.forced.is_none_or(|forced| forced == mover) && self.forbidden & (1 << mover as u8) == 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verify {
    None,
    /// Reads the attributes of the whole destination again.
    Attributes,
    /// Reads attributes and content of the whole destination again, past the page cache.
    Content,
}

/// When what was written is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Left to the kernel: fastest, proves nothing.
    Never,
    /// Every [`Limits::barrier_interval`] and before the run ends.
    AtEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    None,
    /// Entries that were changed, lost something or failed.
    Changes,
    All,
}

/// Every bound of the engine in one place, each with its reason.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Operations in flight; `None`: found by measuring.
    pub workers: Option<usize>,
    /// Upper end of the search. At 1 ms a call and ten calls a file, 256 in flight are 25,000 files/s, which is what
    /// two cores can handle.
    pub workers_max: usize,
    /// Entries that wait in memory. Enough for every worker to have a batch at hand, little beside 16 MiB.
    pub queue_entries: usize,
    /// Entries of one batch on local storage: the price of a hand-over is spread over them.
    pub batch_entries: usize,
    /// The same on a network share, where one directory's files must spread over many workers.
    pub batch_entries_network: usize,
    /// Bytes of one read or write. Larger ones gain nothing once the buffer leaves the processor's cache.
    pub buffer_bytes: usize,
    /// The same on a network share, where one large request is cheaper than several small ones.
    pub buffer_bytes_network: usize,
    /// Bytes of a large file that a worker claims at once.
    pub range_bytes: u64,
    /// Files below this are moved by one read and one write.
    pub small_bytes: u64,
    /// Below it a reflink costs more than the copy.
    pub reflink_bytes_min: u64,
    /// Tries of one operation that failed with a passing error, and of one file that changed while it was read.
    pub retries: u32,
    /// First pause before a retry; doubles.
    pub retry_pause: Duration,
    /// Between two barriers: what a crash of the machine can make us compare again.
    pub barrier_interval: Duration,
    /// Faults and losses kept with their path; all are counted.
    pub faults_kept: usize,
    /// "No space" answers in a row after which going on makes no sense.
    pub no_space_faults: u32,
    pub bandwidth_bytes_per_second: Option<u64>,
    pub operations_per_second: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: None,
            workers_max: 256,
            queue_entries: 8192,
            batch_entries: 16,
            batch_entries_network: 4,
            buffer_bytes: 256 << 10,
            buffer_bytes_network: 1 << 20,
            range_bytes: 8 << 20,
            small_bytes: 128 << 10,
            reflink_bytes_min: 64 << 10,
            retries: 3,
            retry_pause: Duration::from_millis(20),
            barrier_interval: Duration::from_secs(5),
            faults_kept: 100,
            no_space_faults: 16,
            bandwidth_bytes_per_second: None,
            operations_per_second: None,
        }
    }
}

/// What a comparison of two trees looks at.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    pub filter: Filter,
    /// Reads every byte of both trees, the destination's past the page cache.
    pub content: bool,
    /// Computes a checksum of each file whose content is the same in both, for its record.
    pub hash: Option<HashKind>,
    /// Access times too. Off by default: reading a tree changes them.
    pub atime: bool,
    /// Entries that only the destination has are differences.
    pub extra: bool,
    pub devices: Devices,
    pub one_file_system: bool,
    pub records: Records,
    pub limits: Limits,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            content: true,
            hash: None,
            atime: false,
            extra: true,
            devices: Devices::Recreate,
            one_file_system: false,
            records: Records::None,
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forced_mover_excludes_the_others_and_a_forbidden_one_itself() {
        let forced = Movers::forced(Mover::Buffered);
        assert!(forced.allows(Mover::Buffered) && !forced.allows(Mover::Reflink));
        let without = Movers::default().without(Mover::Reflink);
        assert!(without.allows(Mover::Buffered) && !without.allows(Mover::Reflink));
    }
}
