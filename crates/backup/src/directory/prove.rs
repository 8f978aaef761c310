//! What a finished copy holds: one line for each entry, and a checksum for each file.
//!
//! Attributes are those of the copy. Checksums are those of the bytes as they were read from the source, so that damage
//! on the way to storage is found by a later check, too. They were noted while files were copied. A name that became a
//! hard link has the one of its other names. The rest, which a killed run copied and did not note any more, is read in
//! source and copy and compared; and what the source does not have any more is read in the copy alone.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use copy::tree::SourceTree as _;
use copy::{
    CompareOptions, CompareReport, CopyContext, CopyOptions, CopyReport, DifferenceKind, Ending, EntryKind,
    EntryRecord, ErrorClass, Fault, Filter, FsError, FsOp, HashKind, Limits, LocalTree, Monitor, Progress, Records,
    RelPath, ScanContext, ScanOptions, Scanned,
};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

use super::DirectoryError;
use super::error::Attempt as _;
use super::line::{Line, time};
use super::sort::{Merge, Sorted, Sorter};
use super::sums::Sums;

/// Files that are looked for by their paths; where more have no checksum, all of them are read.
const NAMED_MAX: usize = 100_000;

/// A copy whose content is to be proven.
pub(super) struct Proving<'a> {
    pub(super) cx: &'a CopyContext<'a>,
    pub(super) copy: &'a LocalTree,
    pub(super) options: &'a CopyOptions,
    pub(super) sums: &'a Sums,
    pub(super) hash: HashKind,
    pub(super) scratch: &'a Path,
}

/// Everything that a manifest says.
pub(super) struct Inventory {
    entries: Sorted,
    sums: Sorted,
    linked: HashMap<u64, String>,
    hash: HashKind,
    pub(super) bytes: u64,
    pub(super) xattrs: bool,
}

impl Inventory {
    pub(super) fn entries(&self) -> u64 {
        self.entries.count()
    }

    pub(super) fn lines(&self) -> std::io::Result<Lines<'_>> {
        Lines::new(self)
    }
}

impl Proving<'_> {
    /// `None`: stopped, or faults were found, which are in the report then.
    pub(super) fn inventory(
        &self,
        report: &mut CopyReport,
        dir: &OwnedFd,
    ) -> Result<Option<Inventory>, DirectoryError> {
        let limits = &self.options.limits;
        let (entries, bytes, found) = scan(self.cx, self.copy, Filter::default(), limits, self.scratch)?;
        if take_over(report, found, limits.faults_kept) {
            return Ok(None);
        }
        let xattrs = self.copy.facts().xattrs;
        let sums = self.sorted_sums()?;
        let mut inventory = Inventory { entries, sums, linked: HashMap::new(), hash: self.hash, bytes, xattrs };
        for attempt in [Self::compare, Self::read_copy] {
            let missing = missing(&mut inventory).attempt(|| "read spilled lines".into())?;
            if missing.count == 0 {
                return Ok(Some(inventory));
            }
            if !attempt(self, report, dir, missing)? {
                return Ok(None);
            }
            inventory.sums = self.sorted_sums()?;
        }
        let missing = missing(&mut inventory).attempt(|| "read spilled lines".into())?;
        for path in missing.paths {
            add_fault(self.cx.monitor, report, path, limits.faults_kept);
        }
        Ok((missing.count == 0).then_some(inventory))
    }

    fn sorted_sums(&self) -> Result<Sorted, DirectoryError> {
        let sort = || {
            let mut sorter = Sorter::new(self.scratch)?;
            self.sums.read_into(&mut sorter)?;
            sorter.finish()
        };
        sort().attempt(|| "sort checksums in the scratch directory".into())
    }

    fn filter(&self, missing: Missing) -> Filter {
        // The copy has no names that were left out; in the source they must be again.
        let filter = self.options.filter.clone();
        if missing.paths.len() as u64 == missing.count { filter.only(missing.paths) } else { filter }
    }

    /// Reads source and copy. A file that is damaged in the copy is a fault, and is removed from it for the next run to
    /// copy again.
    fn compare(&self, report: &mut CopyReport, dir: &OwnedFd, missing: Missing) -> Result<bool, DirectoryError> {
        let compared = Compared { inner: self.cx.monitor, sums: self.sums, damaged: Mutex::default() };
        let options = CompareOptions {
            filter: self.filter(missing),
            content: true,
            hash: Some(self.hash),
            extra: false,
            devices: self.options.devices,
            one_file_system: self.options.one_file_system,
            records: Records::All,
            limits: self.options.limits.clone(),
            ..CompareOptions::default()
        };
        let found = copy::compare_trees(&CopyContext { monitor: &compared, ..*self.cx }, &options)?;
        if let Ending::Stopped(_) = found.ending {
            report.ending = found.ending;
            return Ok(false);
        }
        let damaged = compared.damaged.into_inner().unwrap_or_else(PoisonError::into_inner);
        for path in &damaged {
            remove_file(dir, path);
            add_fault(self.cx.monitor, report, path.clone(), options.limits.faults_kept);
        }
        Ok(damaged.is_empty())
    }

    /// Reads the copy alone: the source changed since, and what the copy holds is right as it is.
    fn read_copy(&self, report: &mut CopyReport, _dir: &OwnedFd, missing: Missing) -> Result<bool, DirectoryError> {
        let text = format!(
            "{} files changed in the source after they were copied: their checksums are those of the copy",
            missing.count
        );
        self.cx.monitor.warning(&text);
        report.warnings.push(text);
        let options = ScanOptions {
            filter: self.filter(missing),
            xattrs: false,
            reads: &|_, _| true,
            hash: self.hash,
            limits: self.options.limits.clone(),
        };
        let cx =
            ScanContext { tree: self.copy, monitor: self.cx.monitor, stop: self.cx.stop, throttle: self.cx.throttle };
        let found = copy::scan_tree(&cx, &options, &|entry| {
            if let Some(checksum) = &entry.checksum {
                let path = entry.path.to_string();
                self.sums.add(&super::sums::line(&path, entry.meta.size_bytes, entry.meta.mtime, checksum));
            }
        })?;
        Ok(!take_over(report, found, self.options.limits.faults_kept))
    }
}

/// Looks at a whole tree. Returns its entries as sorted lines, and the bytes of its files.
fn scan(
    cx: &CopyContext<'_>,
    tree: &LocalTree,
    filter: Filter,
    limits: &Limits,
    scratch: &Path,
) -> Result<(Sorted, u64, CompareReport), DirectoryError> {
    let options =
        ScanOptions { filter, xattrs: true, reads: &|_, _| false, hash: HashKind::Xxh3Blocks, limits: limits.clone() };
    let cx = ScanContext { tree, monitor: cx.monitor, stop: cx.stop, throttle: cx.throttle };
    sorted_scan(&cx, &options, scratch)
}

/// Scans, and sorts what is found; a line of a file with several names ends with its inode.
pub(super) fn sorted_scan(
    cx: &ScanContext<'_>,
    options: &ScanOptions<'_>,
    scratch: &Path,
) -> Result<(Sorted, u64, CompareReport), DirectoryError> {
    let sorter = Sorter::new(scratch).attempt(|| "use the scratch directory".into())?;
    let state = Mutex::new((sorter, 0_u64, None));
    let found = copy::scan_tree(cx, options, &|entry| {
        let line = scanned_line(&entry);
        let bytes = if entry.meta.kind == EntryKind::File { entry.meta.size_bytes } else { 0 };
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.2.is_none() {
            state.1 = state.1.saturating_add(bytes);
            state.2 = state.0.push(line.as_bytes()).err();
        }
    })?;
    let (sorter, bytes, failed) = state.into_inner().unwrap_or_else(PoisonError::into_inner);
    let sorted = failed.map_or_else(|| sorter.finish(), Err);
    Ok((sorted.attempt(|| "sort entries in the scratch directory".into())?, bytes, found))
}

fn scanned_line(entry: &Scanned) -> String {
    let line = Line::new(entry);
    let shared = entry.meta.kind == EntryKind::File && entry.meta.links > 1;
    if shared { format!("{line}\t{}", entry.meta.id.inode) } else { line.to_string() }
}

/// A line of a scan: the entry, and the inode of a file with several names.
pub(super) fn parse_scanned(bytes: &[u8]) -> Option<(Line, Option<u64>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    if let Some(line) = Line::parse(text) {
        return Some((line, None));
    }
    let (line, inode) = text.rsplit_once('\t')?;
    Some((Line::parse(line)?, Some(inode.parse().ok()?)))
}

/// Adds what a further step found to the copy's report; `true` where it must not be published.
fn take_over(report: &mut CopyReport, found: CompareReport, faults_kept: usize) -> bool {
    report.counters.faults += found.counters.faults;
    found.fault_classes.iter().for_each(|(class, count)| add_class(report, *class, *count));
    let room = faults_kept.saturating_sub(report.faults.len());
    report.faults.extend(found.faults.into_iter().take(room));
    if found.ending != Ending::Complete {
        report.ending = found.ending;
    }
    found.ending != Ending::Complete
}

fn add_class(report: &mut CopyReport, class: ErrorClass, count: u64) {
    match report.fault_classes.iter_mut().find(|(known, _)| *known == class) {
        Some((_, known)) => *known += count,
        None => report.fault_classes.push((class, count)),
    }
}

/// The copy of a file is not what it should be.
fn add_fault(monitor: &dyn Monitor, report: &mut CopyReport, path: RelPath, faults_kept: usize) {
    let fault = Fault { path, error: FsError::found(FsOp::Verify, ErrorClass::Corrupt) };
    monitor.failed(&fault);
    report.counters.faults += 1;
    add_class(report, fault.error.class, 1);
    if report.faults.len() < faults_kept {
        monitor.fault(&fault);
        report.faults.push(fault);
    }
    report.ending = Ending::WithFaults;
}

/// Best effort: a damaged file that stays is found again by the next run.
fn remove_file(dir: &OwnedFd, path: &RelPath) {
    let bytes = path.as_bytes();
    let (parent, name) = match bytes.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
        None => (&b"."[..], bytes),
    };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(parent) = rustix::fs::openat2(dir, parent, flags, Mode::empty(), beneath) {
        let _ = rustix::fs::unlinkat(&parent, name, AtFlags::empty());
    }
}

/// Listens to a comparison: keeps checksums, and paths of what has another content at equal size and time.
struct Compared<'a> {
    inner: &'a dyn Monitor,
    sums: &'a Sums,
    damaged: Mutex<Vec<RelPath>>,
}

impl Monitor for Compared<'_> {
    fn progress(&self, progress: &Progress) {
        self.inner.progress(progress);
    }

    fn record(&self, record: EntryRecord) {
        self.sums.note(&record);
        let is = |kind| record.differences.contains(&kind);
        if is(DifferenceKind::Content) && !is(DifferenceKind::Mtime) {
            let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
            // More than that is found by the next run.
            if damaged.len() < NAMED_MAX {
                damaged.push(record.path);
            }
        }
    }
}

/// Files without a checksum: how many, and as many of their paths as are worth keeping.
struct Missing {
    count: u64,
    paths: Vec<RelPath>,
}

/// Looks for files without a checksum, and learns on the way what those with several names have.
fn missing(inventory: &mut Inventory) -> std::io::Result<Missing> {
    let mut linked = std::mem::take(&mut inventory.linked);
    let mut missing = Missing { count: 0, paths: Vec::new() };
    let mut waiting: HashMap<u64, RelPath> = HashMap::new();
    let mut lines = Lines::new(inventory)?;
    while let Some((line, inode)) = lines.next_with_inode()? {
        if line.kind != EntryKind::File {
            continue;
        }
        match inode {
            Some(inode) if line.has_checksum() => {
                waiting.remove(&inode);
                linked.insert(inode, line.checksum);
                continue;
            }
            Some(inode) if linked.contains_key(&inode) => continue,
            _ if line.has_checksum() => continue,
            _ => {}
        }
        let path = line.rel_path().unwrap_or_default();
        if let Some(inode) = inode {
            // One of its names will do, and it may come later.
            waiting.entry(inode).or_insert(path);
            continue;
        }
        missing.count += 1;
        if missing.paths.len() < NAMED_MAX {
            missing.paths.push(path);
        }
    }
    drop(lines);
    inventory.linked = linked;
    missing.count += waiting.len() as u64;
    let room = NAMED_MAX.saturating_sub(missing.paths.len());
    missing.paths.extend(waiting.into_values().take(room));
    Ok(missing)
}

/// Goes through entries and checksums side by side.
pub(super) struct Lines<'a> {
    entries: Merge<'a>,
    sums: Merge<'a>,
    linked: &'a HashMap<u64, String>,
    hash: HashKind,
    /// The checksum that was read last; it belongs to this path or a later one.
    head: Option<String>,
}

impl<'a> Lines<'a> {
    fn new(inventory: &'a Inventory) -> std::io::Result<Self> {
        let mut lines = Self {
            entries: inventory.entries.merge()?,
            sums: inventory.sums.merge()?,
            linked: &inventory.linked,
            hash: inventory.hash,
            head: None,
        };
        lines.head = lines.next_sum()?;
        Ok(lines)
    }

    pub(super) fn next(&mut self) -> std::io::Result<Option<Line>> {
        let Some((mut line, inode)) = self.next_with_inode()? else { return Ok(None) };
        if !line.has_checksum()
            && let Some(sum) = inode.and_then(|inode| self.linked.get(&inode))
        {
            line.checksum.clone_from(sum);
        }
        Ok(Some(line))
    }

    fn next_with_inode(&mut self) -> std::io::Result<Option<(Line, Option<u64>)>> {
        let Some(bytes) = self.entries.next()? else { return Ok(None) };
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "a spilled line is damaged");
        let (mut line, inode) = parse_scanned(&bytes).ok_or_else(damaged)?;
        let mut found: Option<(u64, String)> = None;
        while let Some(head) = self.head.take() {
            let path = head.split('\t').next().unwrap_or_default();
            if path > line.path.as_str() {
                self.head = Some(head);
                break;
            }
            // What was learned later is true; the file may have been copied once more.
            if path == line.path
                && let Some((digest, turn)) = self.matching(&head, &line)
                && found.as_ref().is_none_or(|(last, _)| *last <= turn)
            {
                found = Some((turn, digest.to_owned()));
            }
            self.head = self.next_sum()?;
        }
        if let Some((_, digest)) = found {
            line.checksum = digest;
        }
        Ok(Some((line, inode)))
    }

    fn next_sum(&mut self) -> std::io::Result<Option<String>> {
        // The log was checked to be text when it was read.
        Ok(self.sums.next()?.and_then(|line| String::from_utf8(line).ok()))
    }

    /// The digest and when it was noted, if that was of a file of this size and time.
    fn matching<'s>(&self, sum: &'s str, line: &Line) -> Option<(&'s str, u64)> {
        let mut fields = sum.split('\t').skip(1);
        let same = fields.next()?.parse() == Ok(line.size_bytes)
            && fields.next()? == time(line.mtime)
            && fields.next()? == self.hash.as_str()
            && line.kind == EntryKind::File;
        let digest = fields.next().filter(|digest| same && digest.bytes().all(|b| b.is_ascii_hexdigit()))?;
        Some((digest, fields.next()?.parse().ok()?))
    }
}
