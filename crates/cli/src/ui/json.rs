//! The JSON that programs read on standard output, and the summary line of the report. The bodies are those of
//! `job::documents`. Adding a field is no new version; changing or removing one is.

use job::documents::{Comparison, CopySummary, SCHEMA_VERSION};
use serde::Serialize;

use crate::exit::Exit;

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
        let mut line = serde_json::to_vec(&Self { name, schema_version: SCHEMA_VERSION, body })?;
        line.push(b'\n');
        Ok(line)
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

/// What a command did, in both the event and the report file.
#[derive(Debug, Serialize)]
pub struct CommandSummary<T> {
    command: &'static str,
    exit_code: u8,
    #[serde(flatten)]
    pub body: T,
}

impl<T> CommandSummary<T> {
    pub fn new(command: &'static str, body: T, exit: Exit) -> Self {
        Self { command, exit_code: exit.code(), body }
    }
}

impl CommandSummary<CopySummary> {
    pub fn copy(report: &copy::CopyReport, dry_run: bool, exit: Exit) -> Self {
        Self::new("copy", CopySummary::new(report, dry_run), exit)
    }
}

impl CommandSummary<Comparison> {
    pub fn verify(report: &copy::CompareReport, exit: Exit) -> Self {
        Self::new("verify", report.into(), exit)
    }
}

#[cfg(test)]
mod tests {
    use copy::{Ending, StopReason};
    use job::documents::{Progress, ReportLine};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{copy_report, progress, troubled_report};

    fn value(line: &[u8]) -> Value {
        assert_eq!(line.split_inclusive(|b| *b == b'\n').count(), 1, "one line");
        serde_json::from_slice(line).expect("valid JSON")
    }

    #[test]
    fn progress_events_carry_figures_and_not_texts() {
        let event = value(&Event::line("progress", &Progress::from(&progress())).expect("encodes"));
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
        let summary = value(&Event::line("summary", &CommandSummary::copy(&report, false, exit)).expect("encodes"));
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
        let summary = CommandSummary::copy(&report, true, Exit::Signal(2));
        let summary = value(&ReportLine::line("summary", &summary).expect("encodes"));
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["stop_reason"], "cancel");
        assert_eq!(summary["exit_code"], 130);
        assert_eq!(summary["dry_run"], true);
        assert_eq!(summary["movers"]["buffered"], json!({ "files": 990, "bytes": 1_u64 << 30 }));
    }
}
