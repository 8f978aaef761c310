//! The JSON that programs read: events on standard output and lines of the report. Adding a field is no new version;
//! changing or removing one is.

use std::time::Duration;

use copy::{
    Action, CompareReport, Counters, Difference, Ending, EntryKind, EntryRecord, ErrorClass, Fault, FsError, Loss,
    Mover, Progress, RelPath, StopReason,
};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::exit::Exit;

pub const SCHEMA_VERSION: u32 = 1;

/// A line of the event stream.
#[derive(Debug, Serialize)]
pub struct Event<'a, T> {
    #[serde(rename = "event")]
    name: &'static str,
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T: Serialize> Event<'a, T> {
    pub fn line(name: &'static str, body: &'a T) -> serde_json::Result<Vec<u8>> {
        json_line(&Self { name, schema_version: SCHEMA_VERSION, body })
    }
}

/// A line of the report file.
#[derive(Debug, Serialize)]
pub struct ReportLine<'a, T> {
    r#type: &'static str,
    schema_version: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T: Serialize> ReportLine<'a, T> {
    pub fn line(r#type: &'static str, body: &'a T) -> serde_json::Result<Vec<u8>> {
        json_line(&Self { r#type, schema_version: SCHEMA_VERSION, body })
    }
}

fn json_line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// `{"path":"..."}` where the bytes are UTF-8, otherwise `{"path_hex":"..."}`: exact in both cases. The root is `.`.
#[derive(Debug)]
pub struct JsonPath<'a>(pub &'a RelPath);

impl Serialize for JsonPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match str::from_utf8(self.0.as_bytes()) {
            Ok("") => map.serialize_entry("path", ".")?,
            Ok(text) => map.serialize_entry("path", text)?,
            Err(_) => {
                use std::fmt::Write as _;
                let mut hex = String::with_capacity(2 * self.0.as_bytes().len());
                for byte in self.0.as_bytes() {
                    let _ = write!(hex, "{byte:02x}");
                }
                map.serialize_entry("path_hex", &hex)?;
            }
        }
        map.end()
    }
}

/// Names and values as one object, in their order.
#[derive(Debug)]
struct Named<T>(Vec<(&'static str, T)>);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[derive(Debug, Serialize)]
pub struct Entry<'a> {
    #[serde(flatten)]
    path: JsonPath<'a>,
    kind: Option<&'static str>,
    action: Option<&'static str>,
    mover: Option<&'static str>,
    size_bytes: u64,
    copied_bytes: u64,
    checksum: Option<Checksum>,
    losses: Vec<&'static str>,
    differences: Vec<&'static str>,
    fault: Option<FaultBody>,
}

#[derive(Debug, Serialize)]
struct Checksum {
    algorithm: &'static str,
    digest: String,
}

#[derive(Debug, Serialize)]
struct FaultBody {
    operation: &'static str,
    class: &'static str,
    /// 0 where the engine found the fault without the kernel.
    errno: i32,
    reason: String,
}

impl From<&FsError> for FaultBody {
    fn from(error: &FsError) -> Self {
        let FsError { op, class, errno } = *error;
        Self { operation: op.as_str(), class: class.as_str(), errno, reason: error.reason() }
    }
}

impl<'a> From<&'a EntryRecord> for Entry<'a> {
    fn from(record: &'a EntryRecord) -> Self {
        Self {
            path: JsonPath(&record.path),
            kind: record.kind.map(EntryKind::as_str),
            action: record.action.map(Action::as_str),
            mover: record.mover.map(Mover::as_str),
            size_bytes: record.size_bytes,
            copied_bytes: record.copied_bytes,
            checksum: record.checksum.map(|sum| Checksum { algorithm: sum.kind.as_str(), digest: sum.to_string() }),
            losses: record.losses.iter().map(|kind| kind.as_str()).collect(),
            differences: record.differences.iter().map(|kind| kind.as_str()).collect(),
            fault: record.error.as_ref().map(FaultBody::from),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct FaultEvent<'a> {
    #[serde(flatten)]
    path: JsonPath<'a>,
    #[serde(flatten)]
    body: FaultBody,
}

impl<'a> From<&'a Fault> for FaultEvent<'a> {
    fn from(fault: &'a Fault) -> Self {
        Self { path: JsonPath(&fault.path), body: (&fault.error).into() }
    }
}

#[derive(Debug, Serialize)]
pub struct WarningEvent<'a> {
    pub text: &'a str,
}

#[derive(Debug, Serialize)]
pub struct ErrorEvent {
    pub message: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
    pub exit_code: u8,
}

#[derive(Debug, Serialize)]
pub struct ProgressEvent<'a> {
    stage: &'static str,
    percent: f64,
    elapsed_seconds: f64,
    remaining_seconds: Option<f64>,
    bytes_per_second: f64,
    entries_per_second: f64,
    scanned_entries: u64,
    scanned_bytes: u64,
    done_entries: u64,
    done_bytes: u64,
    total_entries: Option<u64>,
    total_bytes: Option<u64>,
    copied_files: u64,
    copied_bytes: u64,
    verified_files: u64,
    verified_bytes: u64,
    faults: u64,
    losses: u64,
    differences: u64,
    workers: usize,
    current: Option<JsonPath<'a>>,
}

impl<'a> From<&'a Progress> for ProgressEvent<'a> {
    fn from(progress: &'a Progress) -> Self {
        let counters = &progress.counters;
        Self {
            stage: progress.stage.as_str(),
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
            workers: progress.workers,
            current: progress.current.as_ref().map(JsonPath),
        }
    }
}

/// What was done, in both the event and the report file.
#[derive(Debug, Serialize)]
pub struct CopySummary<'a> {
    command: &'static str,
    dry_run: bool,
    ending: &'static str,
    stop_reason: Option<&'static str>,
    exit_code: u8,
    elapsed_seconds: f64,
    sync_seconds: f64,
    workers_max: usize,
    durable: bool,
    counts: Counts,
    actions: Named<u64>,
    movers: Named<MoverBody>,
    fault_classes: Named<u64>,
    /// The first of them; `counts.faults` counts all.
    faults: Vec<FaultEvent<'a>>,
    losses: Vec<LossBody<'a>>,
    warnings: &'a [String],
    verification: Option<Comparison<'a>>,
}

impl<'a> CopySummary<'a> {
    pub fn new(report: &'a copy::CopyReport, dry_run: bool, exit: Exit) -> Self {
        let counters = &report.counters;
        Self {
            command: "copy",
            dry_run,
            ending: ending(report.ending),
            stop_reason: stop_reason(report.ending),
            exit_code: exit.code(),
            elapsed_seconds: seconds(report.elapsed),
            sync_seconds: seconds(report.sync_elapsed),
            workers_max: report.workers_max,
            durable: report.durable,
            counts: counters.into(),
            actions: Named(Action::ALL.map(|action| (action.as_str(), counters.action(action))).into()),
            movers: Named(
                Mover::ALL
                    .map(|mover| {
                        let (files, bytes) =
                            (counters.mover_files[mover as usize], counters.mover_bytes[mover as usize]);
                        (mover.as_str(), MoverBody { files, bytes })
                    })
                    .into(),
            ),
            fault_classes: fault_classes(&report.fault_classes),
            faults: report.faults.iter().map(FaultEvent::from).collect(),
            losses: report.losses.iter().map(LossBody::from).collect(),
            warnings: &report.warnings,
            verification: report.verification.as_ref().map(Comparison::from),
        }
    }
}

#[derive(Debug, Serialize)]
pub struct VerifySummary<'a> {
    command: &'static str,
    exit_code: u8,
    #[serde(flatten)]
    comparison: Comparison<'a>,
}

impl<'a> VerifySummary<'a> {
    pub fn new(report: &'a CompareReport, exit: Exit) -> Self {
        Self { command: "verify", exit_code: exit.code(), comparison: report.into() }
    }
}

#[derive(Debug, Serialize)]
struct Comparison<'a> {
    same: bool,
    ending: &'static str,
    stop_reason: Option<&'static str>,
    elapsed_seconds: f64,
    counts: Counts,
    differences: Vec<DifferenceBody<'a>>,
    fault_classes: Named<u64>,
    faults: Vec<FaultEvent<'a>>,
}

impl<'a> From<&'a CompareReport> for Comparison<'a> {
    fn from(report: &'a CompareReport) -> Self {
        Self {
            same: report.is_same(),
            ending: ending(report.ending),
            stop_reason: stop_reason(report.ending),
            elapsed_seconds: seconds(report.elapsed),
            counts: (&report.counters).into(),
            differences: report.differences.iter().map(DifferenceBody::from).collect(),
            fault_classes: fault_classes(&report.fault_classes),
            faults: report.faults.iter().map(FaultEvent::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Counts {
    scanned_entries: u64,
    scanned_bytes: u64,
    done_entries: u64,
    done_bytes: u64,
    kinds: Named<u64>,
    copied_files: u64,
    copied_bytes: u64,
    filtered: u64,
    retries: u64,
    opened_files: u64,
    faults: u64,
    losses: u64,
    differences: u64,
    verified_files: u64,
    verified_bytes: u64,
    verified_from_cache: u64,
}

impl From<&Counters> for Counts {
    fn from(counters: &Counters) -> Self {
        Self {
            scanned_entries: counters.scanned_entries,
            scanned_bytes: counters.scanned_bytes,
            done_entries: counters.done_entries,
            done_bytes: counters.done_bytes,
            kinds: Named(EntryKind::ALL.map(|kind| (kind.as_str(), counters.kind(kind))).into()),
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

#[derive(Debug, Serialize)]
struct MoverBody {
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct LossBody<'a> {
    attribute: &'static str,
    count: u64,
    /// The first of them.
    paths: Vec<JsonPath<'a>>,
}

impl<'a> From<&'a Loss> for LossBody<'a> {
    fn from(loss: &'a Loss) -> Self {
        Self { attribute: loss.kind.as_str(), count: loss.count, paths: loss.paths.iter().map(JsonPath).collect() }
    }
}

#[derive(Debug, Serialize)]
struct DifferenceBody<'a> {
    kind: &'static str,
    count: u64,
    /// The first of them.
    paths: Vec<JsonPath<'a>>,
}

impl<'a> From<&'a Difference> for DifferenceBody<'a> {
    fn from(difference: &'a Difference) -> Self {
        let Difference { kind, count, paths } = difference;
        Self { kind: kind.as_str(), count: *count, paths: paths.iter().map(JsonPath).collect() }
    }
}

fn fault_classes(classes: &[(ErrorClass, u64)]) -> Named<u64> {
    Named(classes.iter().map(|(class, count)| (class.as_str(), *count)).collect())
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "complete",
        Ending::WithFaults => "with_faults",
        Ending::Stopped(_) => "stopped",
    }
}

fn stop_reason(ending: Ending) -> Option<&'static str> {
    let Ending::Stopped(reason) = ending else { return None };
    Some(match reason {
        StopReason::Shutdown => "shutdown",
        StopReason::Deadline => "deadline",
        StopReason::Cancel => "cancel",
        StopReason::Fault => "fault",
    })
}

fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64())
}

/// Three decimals are enough for people and programs.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use copy::{DifferenceKind, FsOp, HashKind, LossKind};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{copy_report, path, progress, troubled_report};

    fn value(line: &[u8]) -> Value {
        assert_eq!(line.split_inclusive(|b| *b == b'\n').count(), 1, "one line");
        serde_json::from_slice(line).expect("valid JSON")
    }

    fn record(bytes: &[u8]) -> EntryRecord {
        EntryRecord {
            path: path(bytes),
            kind: Some(EntryKind::File),
            action: Some(Action::Created),
            mover: Some(Mover::Buffered),
            size_bytes: 5,
            copied_bytes: 5,
            checksum: Some(copy::BlockSum::default().finish(5)),
            losses: vec![LossKind::Owner],
            differences: vec![DifferenceKind::Mode],
            error: Some(FsError { op: FsOp::SetOwner, class: ErrorClass::Denied, errno: 1 }),
        }
    }

    #[test]
    fn paths_are_exact_in_both_encodings() {
        let check = |bytes: &[u8], expected: Value| {
            assert_eq!(serde_json::to_value(JsonPath(&path(bytes))).expect("encodes"), expected);
        };
        check(b"a/b", json!({ "path": "a/b" }));
        check(b"a\nb\"\\ \xc3\xa9", json!({ "path": "a\nb\"\\ é" }));
        check(b"a\xff/\n", json!({ "path_hex": "61ff2f0a" }));
        check(b"", json!({ "path": "." }));
    }

    #[test]
    fn an_entry_has_all_its_fields() {
        let record = record(b"a\xff");
        let line = ReportLine::line("entry", &Entry::from(&record)).expect("encodes");
        let digest = record.checksum.map(|sum| sum.to_string());
        assert_eq!(
            value(&line),
            json!({
                "type": "entry", "schema_version": 1, "path_hex": "61ff", "kind": "file", "action": "created",
                "mover": "buffered", "size_bytes": 5, "copied_bytes": 5,
                "checksum": { "algorithm": HashKind::Xxh3Blocks.as_str(), "digest": digest },
                "losses": ["owner"], "differences": ["mode"],
                "fault": {
                    "operation": "set_owner", "class": "denied", "errno": 1, "reason": "operation not permitted",
                },
            })
        );
    }

    #[test]
    fn progress_events_carry_figures_and_not_texts() {
        let progress = progress();
        let event = value(&Event::line("progress", &ProgressEvent::from(&progress)).expect("encodes"));
        assert_eq!(event["event"], "progress");
        assert_eq!(event["schema_version"], SCHEMA_VERSION);
        assert_eq!(event["percent"], 41.26);
        assert_eq!(event["remaining_seconds"], 6.0);
        assert_eq!(event["current"], json!({ "path": "dir/file" }));
    }

    #[test]
    fn a_summary_names_everything_that_went_wrong() {
        let report = troubled_report();
        let exit = Exit::of_copy(&report, None);
        let summary = value(&Event::line("summary", &CopySummary::new(&report, false, exit)).expect("encodes"));
        assert_eq!(summary["ending"], "with_faults");
        assert_eq!(summary["exit_code"], 3);
        assert_eq!(summary["counts"]["faults"], 2);
        assert_eq!(summary["fault_classes"], json!({ "io": 1, "denied": 1 }));
        assert_eq!(summary["faults"][1]["path_hex"], "626164ff");
        assert_eq!(summary["faults"][1]["operation"], "read");
        assert_eq!(summary["losses"][0]["attribute"], "owner");
        assert_eq!(summary["losses"][0]["paths"][1], json!({ "path": "c\n" }));
        assert_eq!(summary["verification"]["same"], false);
        assert_eq!(summary["verification"]["differences"][0]["kind"], "mode");
    }

    #[test]
    fn a_stop_has_its_reason() {
        let mut report = copy_report();
        report.ending = Ending::Stopped(StopReason::Cancel);
        let summary = CopySummary::new(&report, true, Exit::Signal(2));
        let summary = value(&ReportLine::line("summary", &summary).expect("encodes"));
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["stop_reason"], "cancel");
        assert_eq!(summary["exit_code"], 130);
        assert_eq!(summary["dry_run"], true);
        assert_eq!(summary["movers"]["buffered"], json!({ "files": 990, "bytes": 1_u64 << 30 }));
    }
}
