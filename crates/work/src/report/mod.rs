//! The report of one pass, in a directory of its own: every entry, every fault, the checksums, and a summary of all.
//!
//! Whoever copies hands lines over and goes on; a thread of the report's own encodes, compresses and writes them. A
//! report that cannot be written stops nobody: it is told at the end.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use copy::{Action, EntryRecord, ErrorClass, Fault, FsError, FsOp};
use jiff::Timestamp;
use job::documents::{Entry, FaultEntry, ReportLine, SCHEMA_VERSION, Summary};
use job::spec::ReportEntries;
use job::{JobId, JobSpec, PassKind, WorkOrder};
use serde::Serialize;

mod faults;
mod files;
mod manifest;

pub use faults::failed_entries;
pub(crate) use files::make_private_dir;
use files::{PartialFile, ReportDir};
use manifest::ManifestWriter;
pub use manifest::{Manifest, verify_manifest};

pub const SUMMARY: &str = "summary.json";
pub const ENTRIES: &str = "entries.jsonl.zst";
pub use faults::NAME as FAULTS;
pub use manifest::NAME as MANIFEST;

/// Lines are mostly repetition: the fastest levels take what there is to gain.
const LEVEL: i32 = 1;

/// Lines that wait to be written: what a burst of small files makes in some ten milliseconds, and about a mebibyte.
const WAITING_MAX: usize = 4096;

/// What a manifest holds the checksums of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// Files whose content was copied in this pass. Those that an earlier pass copied are in its manifest.
    Copied,
    /// Every file whose content was read back and is the same as in the source.
    Verified,
}

/// What a report is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents {
    pub(crate) entries: ReportEntries,
    pub(crate) manifest: Option<Covers>,
}

enum Line {
    Entry(EntryRecord),
    Verified(EntryRecord),
    Fault(Fault),
}

/// A report that is being written.
#[derive(Debug)]
pub(crate) struct Report {
    dir: ReportDir,
    contents: Contents,
    started_at: Timestamp,
    lines: SyncSender<Line>,
    writer: JoinHandle<io::Result<Option<Manifest>>>,
}

/// The document that sums a pass up.
#[derive(Debug, Serialize)]
struct PassSummary<'a> {
    schema_version: u32,
    job: JobId,
    pass: u32,
    pass_kind: PassKind,
    /// With its secrets masked.
    spec: &'a JobSpec,
    started_at: Timestamp,
    ended_at: Timestamp,
    summary: &'a Summary,
    manifest: Option<ManifestSummary<'a>>,
}

#[derive(Debug, Serialize)]
struct ManifestSummary<'a> {
    root: &'a str,
    files: u64,
    covers: Covers,
    note: &'static str,
}

impl Covers {
    fn note(self) -> &'static str {
        match self {
            Self::Copied => {
                "files that were copied in this pass; those unchanged since an earlier one have no checksum here"
            }
            Self::Verified => "all files that were read back and are the same as in the source",
        }
    }
}

impl Report {
    /// Begins the report of a pass anew, whatever an earlier attempt of the same pass left.
    pub(crate) fn begin(path: &Path, contents: Contents) -> io::Result<Self> {
        let dir = ReportDir::make(path)?;
        for name in [SUMMARY, ENTRIES, FAULTS, MANIFEST] {
            dir.forget(name)?;
        }
        let writer = Writer::new(&dir, contents)?;
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let own = ReportDir::open(path)?;
        let body = move || writer.write_all(&own, &waiting);
        let writer = std::thread::Builder::new().name("report".into()).spawn(body)?;
        Ok(Self { dir, contents, started_at: Timestamp::now(), lines, writer })
    }

    pub(crate) fn record(&self, record: EntryRecord) {
        let wanted = self.contents.entries != ReportEntries::None
            || self.contents.manifest.is_some() && record.checksum.is_some()
            || !record.differences.is_empty();
        if wanted {
            self.hand_over(Line::Entry(record));
        }
    }

    pub(crate) fn verified(&self, record: EntryRecord) {
        self.hand_over(Line::Verified(record));
    }

    pub(crate) fn failed(&self, fault: &Fault) {
        self.hand_over(Line::Fault(fault.clone()));
    }

    fn hand_over(&self, line: Line) {
        // The writer takes lines until there are none, also when it cannot write them any more.
        let _ = self.lines.send(line);
    }

    /// Completes the files; the summary is the last.
    pub(crate) fn finish(self, order: &WorkOrder, summary: &Summary) -> io::Result<Option<Manifest>> {
        let Self { dir, contents, started_at, lines, writer } = self;
        drop(lines);
        let written = writer.join().unwrap_or_else(|_| Err(io::Error::other("the report's thread panicked")));
        let manifest = written.as_ref().ok().and_then(Option::as_ref);
        let document = PassSummary {
            schema_version: SCHEMA_VERSION,
            job: order.job,
            pass: order.pass,
            pass_kind: order.pass_kind,
            spec: &order.spec,
            started_at,
            ended_at: Timestamp::now(),
            summary,
            manifest: manifest.zip(contents.manifest).map(|(manifest, covers)| ManifestSummary {
                root: &manifest.root,
                files: manifest.files,
                covers,
                note: covers.note(),
            }),
        };
        let mut file = dir.create(SUMMARY)?;
        serde_json::to_writer_pretty(&mut file, &document)?;
        file.write_all(b"\n")?;
        dir.publish(file)?;
        written
    }

    /// Waits for the writer of a pass that came to nothing.
    pub(crate) fn abandon(self) {
        drop(self.lines);
        let _ = self.writer.join();
    }
}

/// The thread's side: the open files.
struct Writer {
    entries: Option<zstd::Encoder<'static, PartialFile>>,
    faults: PartialFile,
    manifest: Option<ManifestWriter>,
    only_changes: bool,
}

impl Writer {
    fn new(dir: &ReportDir, contents: Contents) -> io::Result<Self> {
        let entries = match contents.entries {
            ReportEntries::None => None,
            ReportEntries::All | ReportEntries::Changes => Some(zstd::Encoder::new(dir.create(ENTRIES)?, LEVEL)?),
        };
        let manifest = contents.manifest.map(|_| ManifestWriter::new(dir)).transpose()?;
        let only_changes = contents.entries == ReportEntries::Changes;
        Ok(Self { entries, faults: dir.create(FAULTS)?, manifest, only_changes })
    }

    /// Writes until nobody hands lines over any more. After an error they are taken and dropped, so that nobody waits.
    fn write_all(mut self, dir: &ReportDir, lines: &Receiver<Line>) -> io::Result<Option<Manifest>> {
        for line in lines {
            if let Err(error) = self.write(&line) {
                lines.iter().for_each(drop);
                return Err(error);
            }
        }
        if let Some(entries) = self.entries {
            dir.publish(entries.finish()?)?;
        }
        dir.publish(self.faults)?;
        self.manifest.map(|manifest| manifest.finish(dir)).transpose()
    }

    fn write(&mut self, line: &Line) -> io::Result<()> {
        match line {
            Line::Entry(record) => {
                if !(self.only_changes && is_quiet(record)) {
                    self.entry("entry", record)?;
                }
                self.checksum(record)?;
                self.difference(record)
            }
            Line::Verified(record) => {
                if !is_quiet(record) {
                    self.entry("verified", record)?;
                }
                self.checksum(record)?;
                self.difference(record)
            }
            Line::Fault(fault) => self.fault(&FaultEntry::from(fault)),
        }
    }

    fn entry(&mut self, r#type: &'static str, record: &EntryRecord) -> io::Result<()> {
        let Some(file) = &mut self.entries else { return Ok(()) };
        file.write_all(&ReportLine::line(r#type, &Entry::from(record))?)
    }

    fn checksum(&mut self, record: &EntryRecord) -> io::Result<()> {
        match (&mut self.manifest, &record.checksum) {
            (Some(manifest), Some(checksum)) => manifest.add(&record.path, record.size_bytes, checksum),
            _ => Ok(()),
        }
    }

    /// An entry that differs is one that failed: a retry copies it again.
    fn difference(&mut self, record: &EntryRecord) -> io::Result<()> {
        if record.differences.is_empty() {
            return Ok(());
        }
        let words: Vec<_> = record.differences.iter().map(|kind| kind.as_str()).collect();
        let error = FsError::found(FsOp::Verify, ErrorClass::Corrupt);
        let fault = FaultEntry {
            reason: format!("source and destination differ: {}", words.join(", ")),
            ..FaultEntry::from(&Fault { path: record.path.clone(), error })
        };
        self.fault(&fault)
    }

    fn fault(&mut self, fault: &FaultEntry) -> io::Result<()> {
        self.faults.write_all(&ReportLine::line("fault", fault)?)
    }
}

/// Nothing was to do for the entry.
fn is_quiet(record: &EntryRecord) -> bool {
    record.error.is_none()
        && record.losses.is_empty()
        && record.differences.is_empty()
        && matches!(record.action, Some(Action::Unchanged) | None)
}
