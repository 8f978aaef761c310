//! What a run did: counts, losses, faults and, on demand, a record of each entry.

use std::time::Duration;

use crate::error::{ErrorClass, Fault, FsError};
use crate::hash::Checksum;
use crate::meta::{EntryKind, Timestamp};
use crate::path::RelPath;
use crate::stop::StopReason;

/// The ways a file's content can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Mover {
    /// Shares the blocks with the source (`FICLONE`).
    Reflink = 0,
    /// The kernel or the server copies (`copy_file_range`).
    CopyFileRange = 1,
    /// Extent by extent, holes left out.
    Sparse = 2,
    /// One read and one write: small files, and any file read from start to end by one worker.
    Buffered = 3,
    /// Byte ranges of one file by several workers.
    Ranges = 4,
}

impl Mover {
    pub const ALL: [Self; 5] = [Self::Reflink, Self::CopyFileRange, Self::Sparse, Self::Buffered, Self::Ranges];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::CopyFileRange => "copy-file-range",
            Self::Sparse => "sparse",
            Self::Buffered => "buffered",
            Self::Ranges => "ranges",
        }
    }
}

/// What was done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// New in the destination.
    Created,
    /// Was there with other content or of another kind, and was made anew.
    Replaced,
    /// Content was right, attributes were set.
    Updated,
    /// Nothing was to do.
    Unchanged,
    /// Became a further name of a file that was copied under another one.
    Linked,
    /// Was not in the source, and was removed.
    Deleted,
    /// Left out by policy (devices).
    Skipped,
    /// Was gone when its turn came.
    Vanished,
    /// Could not be copied.
    Failed,
}

impl Action {
    pub const ALL: [Self; 9] = [
        Self::Created,
        Self::Replaced,
        Self::Updated,
        Self::Unchanged,
        Self::Linked,
        Self::Deleted,
        Self::Skipped,
        Self::Vanished,
        Self::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Replaced => "replaced",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Linked => "linked",
            Self::Deleted => "deleted",
            Self::Skipped => "skipped",
            Self::Vanished => "vanished",
            Self::Failed => "failed",
        }
    }
}

/// An attribute that the destination could not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossKind {
    Owner,
    Mode,
    /// The time was cut or clamped to what the destination can keep.
    Times,
    UserXattr,
    TrustedXattr,
    SecurityXattr,
    /// `security.capability`: a program loses its file capabilities.
    Capability,
    OtherXattr,
    AccessAcl,
    DefaultAcl,
    InodeFlags,
    /// Preallocated space became holes.
    Preallocation,
    /// The name became a file of its own.
    HardLink,
    /// A FIFO, socket or device that could not be made.
    SpecialFile,
}

impl LossKind {
    pub const ALL: [Self; 14] = [
        Self::Owner,
        Self::Mode,
        Self::Times,
        Self::UserXattr,
        Self::TrustedXattr,
        Self::SecurityXattr,
        Self::Capability,
        Self::OtherXattr,
        Self::AccessAcl,
        Self::DefaultAcl,
        Self::InodeFlags,
        Self::Preallocation,
        Self::HardLink,
        Self::SpecialFile,
    ];

    /// How a comparison sees it. A special file that is missing is counted instead.
    fn shows_as(self) -> &'static [DifferenceKind] {
        match self {
            Self::Owner => &[DifferenceKind::Owner],
            Self::Mode => &[DifferenceKind::Mode],
            Self::Times => &[DifferenceKind::Mtime, DifferenceKind::Atime],
            Self::UserXattr | Self::TrustedXattr | Self::SecurityXattr | Self::Capability | Self::OtherXattr => {
                &[DifferenceKind::Xattr]
            }
            Self::AccessAcl | Self::DefaultAcl => &[DifferenceKind::Acl],
            Self::InodeFlags => &[DifferenceKind::InodeFlags],
            Self::Preallocation => &[DifferenceKind::Holes],
            Self::HardLink => &[DifferenceKind::HardLinks],
            Self::SpecialFile => &[],
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Mode => "mode",
            Self::Times => "times",
            Self::UserXattr => "user-xattr",
            Self::TrustedXattr => "trusted-xattr",
            Self::SecurityXattr => "security-xattr",
            Self::Capability => "file-capability",
            Self::OtherXattr => "other-xattr",
            Self::AccessAcl => "access-acl",
            Self::DefaultAcl => "default-acl",
            Self::InodeFlags => "inode-flags",
            Self::Preallocation => "preallocation",
            Self::HardLink => "hard-link",
            Self::SpecialFile => "special-file",
        }
    }

    /// The kind that an extended attribute of this name belongs to.
    pub fn of_xattr(name: &[u8]) -> Self {
        match name {
            crate::meta::ACL_ACCESS => Self::AccessAcl,
            crate::meta::ACL_DEFAULT => Self::DefaultAcl,
            b"security.capability" => Self::Capability,
            n if n.starts_with(b"user.") => Self::UserXattr,
            n if n.starts_with(b"trusted.") => Self::TrustedXattr,
            n if n.starts_with(b"security.") => Self::SecurityXattr,
            _ => Self::OtherXattr,
        }
    }
}

/// How many entries lost one attribute, and the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub kind: LossKind,
    pub count: u64,
    pub paths: Vec<RelPath>,
}

/// A way in which two trees differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DifferenceKind {
    Missing,
    Extra,
    Kind,
    Size,
    Content,
    Mode,
    Owner,
    Mtime,
    Atime,
    Xattr,
    Acl,
    SymlinkTarget,
    Device,
    HardLinks,
    Holes,
    InodeFlags,
}

impl DifferenceKind {
    pub const ALL: [Self; 16] = [
        Self::Missing,
        Self::Extra,
        Self::Kind,
        Self::Size,
        Self::Content,
        Self::Mode,
        Self::Owner,
        Self::Mtime,
        Self::Atime,
        Self::Xattr,
        Self::Acl,
        Self::SymlinkTarget,
        Self::Device,
        Self::HardLinks,
        Self::Holes,
        Self::InodeFlags,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Kind => "kind",
            Self::Size => "size",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "mtime",
            Self::Atime => "atime",
            Self::Xattr => "xattr",
            Self::Acl => "acl",
            Self::SymlinkTarget => "symlink-target",
            Self::Device => "device",
            Self::HardLinks => "hard-links",
            Self::Holes => "holes",
            Self::InodeFlags => "inode-flags",
        }
    }
}

/// How many entries differ in one way, and the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub kind: DifferenceKind,
    pub count: u64,
    pub paths: Vec<RelPath>,
}

/// What became of one entry; given to [`Monitor::record`](crate::Monitor::record) when asked for.
#[derive(Clone, Debug)]
pub struct EntryRecord {
    pub path: RelPath,
    pub kind: Option<EntryKind>,
    pub action: Option<Action>,
    pub mover: Option<Mover>,
    /// The file's size.
    pub size_bytes: u64,
    /// Of a file whose content was read: its modification time in the source, at that moment.
    pub mtime: Option<Timestamp>,
    /// Bytes that were moved for it.
    pub copied_bytes: u64,
    pub checksum: Option<Checksum>,
    pub losses: Vec<LossKind>,
    pub differences: Vec<DifferenceKind>,
    pub error: Option<FsError>,
}

/// Running totals. Bytes are apparent bytes of regular files unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries found in the source so far.
    pub scanned_entries: u64,
    /// Their bytes, where they were learned already.
    pub scanned_bytes: u64,
    /// Entries that are done, whatever was to do.
    pub done_entries: u64,
    /// Bytes of regular files that are done, copied or not, by allocated size.
    pub done_bytes: u64,
    /// Bytes that were read and written, or moved by the kernel.
    pub copied_bytes: u64,
    /// Regular files whose content was moved.
    pub copied_files: u64,
    /// By [`EntryKind`] as in [`EntryKind::ALL`].
    pub kinds: [u64; 7],
    /// By [`Action`] as in [`Action::ALL`].
    pub actions: [u64; 9],
    /// By [`Mover`] as in [`Mover::ALL`]: files and bytes.
    pub mover_files: [u64; 5],
    pub mover_bytes: [u64; 5],
    /// Retries of single operations and of files that changed.
    pub retries: u64,
    /// Files that were opened in either tree; an unchanged tree opens none.
    pub opened_files: u64,
    /// Left out by a filter.
    pub filtered: u64,
    pub faults: u64,
    pub losses: u64,
    pub differences: u64,
    /// Files whose content was read back and compared.
    pub verified_files: u64,
    pub verified_bytes: u64,
    /// Of those, files that stayed in the page cache although it was told to forget them.
    pub verified_from_cache: u64,
}

impl Counters {
    pub fn action(&self, action: Action) -> u64 {
        self.actions[action as usize]
    }

    pub fn kind(&self, kind: EntryKind) -> u64 {
        self.kinds[kind as usize]
    }

    pub fn add(&mut self, other: &Self) {
        fn each<const N: usize>(a: &mut [u64; N], b: &[u64; N]) {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
        self.scanned_entries += other.scanned_entries;
        self.scanned_bytes += other.scanned_bytes;
        self.done_entries += other.done_entries;
        self.done_bytes += other.done_bytes;
        self.copied_bytes += other.copied_bytes;
        self.copied_files += other.copied_files;
        each(&mut self.kinds, &other.kinds);
        each(&mut self.actions, &other.actions);
        each(&mut self.mover_files, &other.mover_files);
        each(&mut self.mover_bytes, &other.mover_bytes);
        self.retries += other.retries;
        self.opened_files += other.opened_files;
        self.filtered += other.filtered;
        self.faults += other.faults;
        self.losses += other.losses;
        self.differences += other.differences;
        self.verified_files += other.verified_files;
        self.verified_bytes += other.verified_bytes;
        self.verified_from_cache += other.verified_from_cache;
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every entry is as the policy wants it.
    Complete,
    /// Went to the end, but entries failed, or attributes were lost under [`OnLoss::Fail`](crate::OnLoss).
    WithFaults,
    /// Ended early; a further run goes on from here.
    Stopped(StopReason),
}

/// The result of a copy.
#[derive(Clone, Debug)]
pub struct CopyReport {
    pub ending: Ending,
    pub counters: Counters,
    /// The first of them; [`Counters::faults`] counts all.
    pub faults: Vec<Fault>,
    /// All faults by class.
    pub fault_classes: Vec<(ErrorClass, u64)>,
    pub losses: Vec<Loss>,
    /// Things worth knowing that are no faults.
    pub warnings: Vec<String>,
    /// What the verification found, when one was asked for.
    pub verification: Option<CompareReport>,
    pub elapsed: Duration,
    /// Time of it that the last barrier took.
    pub sync_elapsed: Duration,
    /// Highest number of workers that were active.
    pub workers_max: usize,
    /// Whether everything that was written is durable.
    pub durable: bool,
}

impl CopyReport {
    /// Of a run that found nothing to do.
    pub fn unchanged() -> Self {
        Self {
            ending: Ending::Complete,
            counters: Counters::default(),
            faults: Vec::new(),
            fault_classes: Vec::new(),
            losses: Vec::new(),
            warnings: Vec::new(),
            verification: None,
            elapsed: Duration::ZERO,
            sync_elapsed: Duration::ZERO,
            workers_max: 0,
            durable: true,
        }
    }

    /// What the verification found and no named loss explains.
    pub fn unexplained_differences(&self) -> u64 {
        self.verification.as_ref().map_or(0, |verification| unexplained_differences(&self.losses, verification))
    }
}

/// An attribute that the destination cannot hold differs in every entry that has it, which the losses say already.
/// By kind and not by entry: losses count inodes and differences names, and a server may round a time later.
pub(crate) fn unexplained_differences(losses: &[Loss], verification: &CompareReport) -> u64 {
    let lost = |kind: LossKind| losses.iter().find(|loss| loss.kind == kind).map_or(0, |loss| loss.count);
    let is_lost = |kind: DifferenceKind| losses.iter().any(|loss| loss.kind.shows_as().contains(&kind));
    let explained = verification.differences.iter().map(|difference| match difference.kind {
        // Special files that could not be made are missing, but not everything that is missing was one.
        DifferenceKind::Missing => difference.count.min(lost(LossKind::SpecialFile)),
        kind if is_lost(kind) => difference.count,
        _ => 0,
    });
    verification.counters.differences.saturating_sub(explained.sum())
}

/// The result of a comparison.
#[derive(Clone, Debug)]
pub struct CompareReport {
    pub ending: Ending,
    pub counters: Counters,
    pub differences: Vec<Difference>,
    pub faults: Vec<Fault>,
    pub fault_classes: Vec<(ErrorClass, u64)>,
    pub elapsed: Duration,
}

impl CompareReport {
    /// Of nothing: others are added to it.
    pub fn empty() -> Self {
        Self {
            ending: Ending::Complete,
            counters: Counters::default(),
            differences: Vec::new(),
            faults: Vec::new(),
            fault_classes: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    /// Makes it the report of both runs, the other one after this one.
    pub fn add(&mut self, other: Self) {
        self.ending = match (self.ending, other.ending) {
            (_, later @ Ending::Stopped(_)) | (Ending::Complete, later) => later,
            (earlier, _) => earlier,
        };
        self.counters.add(&other.counters);
        for difference in other.differences {
            match self.differences.iter_mut().find(|known| known.kind == difference.kind) {
                Some(known) => {
                    known.count += difference.count;
                    known.paths.extend(difference.paths);
                }
                None => self.differences.push(difference),
            }
        }
        self.faults.extend(other.faults);
        for (class, count) in other.fault_classes {
            match self.fault_classes.iter_mut().find(|(known, _)| *known == class) {
                Some((_, known)) => *known += count,
                None => self.fault_classes.push((class, count)),
            }
        }
        self.elapsed += other.elapsed;
    }

    /// Both trees were read whole and do not differ.
    pub fn is_same(&self) -> bool {
        self.ending == Ending::Complete && self.counters.differences == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(losses: &[(LossKind, u64)], differences: &[(DifferenceKind, u64)]) -> CopyReport {
        let counters =
            Counters { differences: differences.iter().map(|(_, count)| count).sum(), ..Counters::default() };
        let verification = CompareReport {
            ending: Ending::Complete,
            counters,
            differences: differences
                .iter()
                .map(|&(kind, count)| Difference { kind, count, paths: Vec::new() })
                .collect(),
            faults: Vec::new(),
            fault_classes: Vec::new(),
            elapsed: Duration::ZERO,
        };
        CopyReport {
            ending: Ending::Complete,
            counters: Counters::default(),
            faults: Vec::new(),
            fault_classes: Vec::new(),
            losses: losses.iter().map(|&(kind, count)| Loss { kind, count, paths: Vec::new() }).collect(),
            warnings: Vec::new(),
            verification: Some(verification),
            elapsed: Duration::ZERO,
            sync_elapsed: Duration::ZERO,
            workers_max: 1,
            durable: true,
        }
    }

    #[test]
    fn a_named_loss_explains_its_own_differences_and_no_others() {
        use DifferenceKind::{Acl, Content, Missing, Mtime, Xattr};
        use LossKind::{AccessAcl, OtherXattr, SpecialFile, Times};
        let check = |losses: &[(LossKind, u64)], differences: &[(DifferenceKind, u64)], unexplained: u64| {
            assert_eq!(
                report(losses, differences).unexplained_differences(),
                unexplained,
                "{losses:?} {differences:?}"
            );
        };
        check(&[], &[], 0);
        check(&[], &[(Acl, 2)], 2);
        check(&[(AccessAcl, 1)], &[(Acl, 2)], 0);
        check(&[(AccessAcl, 1)], &[(Acl, 2), (Content, 1), (Xattr, 3)], 4);
        check(&[(OtherXattr, 36), (Times, 2)], &[(Xattr, 37), (Mtime, 30)], 0);
        check(&[(SpecialFile, 1)], &[(Missing, 1)], 0);
        check(&[(SpecialFile, 1)], &[(Missing, 3)], 2);
    }

    #[test]
    fn the_arrays_follow_the_enums() {
        assert!(Action::ALL.iter().enumerate().all(|(i, a)| *a as usize == i));
        assert!(Mover::ALL.iter().enumerate().all(|(i, m)| *m as usize == i));
        assert!(EntryKind::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
        assert!(LossKind::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
        assert!(DifferenceKind::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
        assert!(ErrorClass::ALL.iter().enumerate().all(|(i, k)| *k as usize == i));
    }
}
