//! Proving a backup: every entry against the manifest, and the content of a share of the files.

use std::cmp::Ordering;

use copy::tree::SourceTree as _;
use copy::{
    CompareReport, Difference, DifferenceKind, Ending, EntryRecord, ErrorClass, Fault, Filter, FsError, FsOp, HashKind,
    Limits, Metadata, Records, RelPath, ScanContext, ScanOptions,
};

use super::create::Context;
use super::error::Attempt as _;
use super::export::Export;
use super::line::Line;
use super::manifest::{ManifestReader, Proof};
use super::prove::{parse_scanned, sorted_scan};
use super::sort::Sorted;
use super::watch::Watch;
use super::{BackupId, DirectoryError};

/// What a check looks at.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    pub data: DataShare,
    /// Which entries the monitor gets a record of: none, or those that differ. All means those, too.
    pub records: Records,
    pub limits: Limits,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self { data: DataShare::all(), records: Records::None, limits: Limits::default() }
    }
}

/// The files whose content is read: chosen by their paths, so that the same share has the same files each time, and
/// shares beside each other have none in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DataShare {
    /// How many of the files, in percent: 0 for none, 100 for all.
    pub percent: f64,
    /// Where on the circle of all files the share begins, in percent. Who reads 10 percent each time, and moves this by
    /// 10, has read every file after ten times; who takes any number reads others each time.
    pub from_percent: f64,
}

impl DataShare {
    pub fn all() -> Self {
        Self { percent: 100.0, from_percent: 0.0 }
    }

    pub fn none() -> Self {
        Self { percent: 0.0, from_percent: 0.0 }
    }

    fn holds(self, path: &RelPath) -> bool {
        if self.percent >= 100.0 {
            return true;
        }
        let hash = blake3::hash(path.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        let place = u64::from_le_bytes(*first) as f64 / 2f64.powi(64) * 100.0;
        (place - self.from_percent).rem_euclid(100.0) < self.percent
    }
}

/// What a check found.
#[derive(Debug)]
pub struct Checked {
    /// Differences are those of the backup from its manifest. `verified_files` and `verified_bytes` are what was read.
    pub report: CompareReport,
    pub proof: Proof,
}

impl Checked {
    /// Everything that was looked at is what it was when the backup was made.
    pub fn is_proven(&self) -> bool {
        self.report.is_same() && matches!(&self.proof, Proof::Manifest { root: Some(_), .. })
    }

    /// Everything that was looked at can be read. Of a backup without a manifest, more cannot be said.
    pub fn is_readable(&self) -> bool {
        self.report.is_same() && !matches!(self.proof, Proof::Damaged(_))
    }
}

impl Export {
    /// Compares a complete backup with its manifest, and changes nothing. One without a manifest is read.
    pub fn check(&self, cx: &Context<'_>, id: &BackupId, options: &CheckOptions) -> Result<Checked, DirectoryError> {
        let tree = self.tree(id)?;
        let (mut reader, damaged) = match self.open_manifest(id)? {
            None => (None, None),
            Some(Ok(reader)) => (Some(reader), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let watch = Watch::steps(cx.monitor);
        watch.step(0.0, 99.0);
        let reads = |path: &RelPath, _: &Metadata| options.data.holds(path);
        let scan = ScanOptions {
            filter: Filter::default(),
            xattrs: reader.as_ref().is_some_and(|reader| reader.manifest.xattrs),
            reads: &reads,
            hash: reader.as_ref().map_or(HashKind::Xxh3Blocks, |reader| reader.manifest.hash),
            limits: options.limits.clone(),
        };
        let scan_cx = ScanContext { tree: &tree, monitor: &watch, stop: cx.stop, throttle: cx.throttle };
        let (entries, _, mut report) = sorted_scan(&scan_cx, &scan, cx.scratch)?;
        if matches!(report.ending, Ending::Stopped(_)) {
            let proof = proof_of(reader, damaged);
            return Ok(Checked { report, proof });
        }
        let mut damaged = damaged;
        if let Some(reader) = &mut reader {
            let mut findings = Findings { cx, options, report: &mut report };
            let with_xattrs = reader.manifest.xattrs && tree.facts().xattrs;
            damaged = compare(reader, &entries, with_xattrs, &mut findings)?;
        }
        if damaged.is_some() {
            report.counters.faults += 1;
            report.ending = Ending::WithFaults;
            let fault = Fault { path: RelPath::root(), error: FsError::found(FsOp::Verify, ErrorClass::Corrupt) };
            cx.monitor.failed(&fault);
            report.faults.push(fault);
        }
        if let Some(reason) = cx.stop.reason() {
            report.ending = Ending::Stopped(reason);
        } else {
            watch.done();
        }
        Ok(Checked { report, proof: proof_of(reader, damaged) })
    }
}

fn proof_of(reader: Option<ManifestReader>, damaged: Option<String>) -> Proof {
    match (reader, damaged) {
        (_, Some(why)) => Proof::Damaged(why),
        (Some(reader), None) => Proof::Manifest { root: reader.root().map(str::to_owned), manifest: reader.manifest },
        (None, None) => Proof::None,
    }
}

/// Goes through manifest and entries side by side. Returns why the manifest is of no use, where it is not; what was
/// found until then stays.
fn compare(
    reader: &mut ManifestReader,
    entries: &Sorted,
    with_xattrs: bool,
    findings: &mut Findings<'_>,
) -> Result<Option<String>, DirectoryError> {
    let spilled = || "read spilled lines in the scratch directory".into();
    let mut entries = entries.merge().attempt(spilled)?;
    let mut next_entry = || {
        let line = entries.next().attempt(spilled)?;
        let damaged = || DirectoryError::Io {
            what: spilled(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, "a spilled line is damaged"),
        };
        line.map(|line| parse_scanned(&line).map(|(line, _)| line).ok_or_else(damaged)).transpose()
    };
    let mut now = next_entry()?;
    let mut then = match reader.next() {
        Ok(then) => then,
        Err(why) => return Ok(Some(why)),
    };
    while !findings.cx.stop.is_stopped() {
        let order = match (&then, &now) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(then), Some(now)) => then.path.cmp(&now.path),
        };
        match (&then, &now) {
            (Some(then), _) if order == Ordering::Less => findings.add(then, &[DifferenceKind::Missing]),
            (_, Some(now)) if order == Ordering::Greater => findings.add(now, &[DifferenceKind::Extra]),
            (Some(then), Some(now)) => findings.add(now, &then.differences(now, with_xattrs)),
            _ => {}
        }
        if order != Ordering::Less {
            now = next_entry()?;
        }
        if order != Ordering::Greater {
            then = match reader.next() {
                Ok(then) => then,
                Err(why) => return Ok(Some(why)),
            };
        }
    }
    Ok(None)
}

struct Findings<'a> {
    cx: &'a Context<'a>,
    options: &'a CheckOptions,
    report: &'a mut CompareReport,
}

impl Findings<'_> {
    fn add(&mut self, line: &Line, kinds: &[DifferenceKind]) {
        if kinds.is_empty() {
            return;
        }
        // Both sides' lines were checked to have one.
        let path = line.rel_path().unwrap_or_default();
        for kind in kinds {
            self.report.counters.differences += 1;
            let known = self.report.differences.iter().position(|difference| difference.kind == *kind);
            let place = known.unwrap_or_else(|| {
                self.report.differences.push(Difference { kind: *kind, count: 0, paths: Vec::new() });
                self.report.differences.len() - 1
            });
            let difference = &mut self.report.differences[place];
            difference.count += 1;
            if difference.paths.len() < self.options.limits.faults_kept {
                difference.paths.push(path.clone());
            }
        }
        if self.options.records != Records::None {
            self.cx.monitor.record(EntryRecord {
                path,
                kind: Some(line.kind),
                action: None,
                mover: None,
                size_bytes: line.size_bytes,
                mtime: None,
                copied_bytes: 0,
                checksum: None,
                losses: Vec::new(),
                differences: kinds.to_vec(),
                error: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_beside_each_other_hold_every_file_once() {
        for n in 0..1000 {
            let path = RelPath::parse(format!("dir/file{n}").as_bytes()).expect("a path");
            let shares = (0..10).map(|i| DataShare { percent: 10.0, from_percent: f64::from(i) * 10.0 });
            assert_eq!(shares.filter(|share| share.holds(&path)).count(), 1);
            assert!(DataShare::all().holds(&path) && !DataShare::none().holds(&path));
        }
    }

    #[test]
    fn a_share_is_about_as_large_as_it_says() {
        let share = DataShare { percent: 30.0, from_percent: 85.0 };
        let held =
            (0..10_000).filter(|n| share.holds(&RelPath::parse(format!("f{n}").as_bytes()).expect("a path"))).count();
        assert!((2800..3200).contains(&held), "{held}");
    }
}
