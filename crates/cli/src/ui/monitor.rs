//! Hands what the engine tells to those who want it: progress display, console, standard output, report file.

use std::sync::{Mutex, PoisonError};

use copy::{Action, EntryKind, EntryRecord, Fault, Monitor, Progress};
use job::documents::{Entry, FaultEntry};

use super::console::Console;
use super::json::WarningEvent;
use super::output::Output;
use super::progress::ProgressDisplay;
use crate::report_file::ReportFile;

/// What standard output is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stdout {
    Nothing,
    /// A line for each entry that a dry run would change.
    List,
    Events,
    /// Events, one for each entry of a dry run among them.
    EventsAndEntries,
}

#[derive(Debug)]
pub struct RunMonitor<'a> {
    pub console: &'a Console,
    pub output: &'a Output,
    pub stdout: Stdout,
    pub progress: ProgressDisplay,
    pub report: Option<&'a ReportFile>,
    /// What was warned of already, so that the summary does not repeat it.
    warned: Mutex<Vec<String>>,
}

impl<'a> RunMonitor<'a> {
    pub fn new(
        console: &'a Console,
        output: &'a Output,
        stdout: Stdout,
        progress: ProgressDisplay,
        report: Option<&'a ReportFile>,
    ) -> Self {
        Self { console, output, stdout, progress, report, warned: Mutex::default() }
    }

    pub fn warned(self) -> Vec<String> {
        self.warned.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for RunMonitor<'_> {
    fn progress(&self, progress: &Progress) {
        self.progress.show("", &progress.into(), self.output);
    }

    fn fault(&self, fault: &Fault) {
        self.console.fault(&fault.to_string());
        if matches!(self.stdout, Stdout::Events | Stdout::EventsAndEntries) {
            self.output.event("fault", &FaultEntry::from(fault));
        }
    }

    fn warning(&self, text: &str) {
        {
            let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
            if warned.iter().any(|warned| warned == text) {
                return;
            }
            warned.push(text.to_owned());
        }
        self.console.warning(text);
        if matches!(self.stdout, Stdout::Events | Stdout::EventsAndEntries) {
            self.output.event("warning", &WarningEvent { text });
        }
    }

    fn record(&self, record: EntryRecord) {
        if let Some(report) = self.report {
            report.record(&record);
        }
        match self.stdout {
            Stdout::List if is_change(&record) => self.output.line(&item(&record)),
            Stdout::EventsAndEntries if is_change(&record) => self.output.event("entry", &Entry::from(&record)),
            _ => {}
        }
    }
}

fn is_change(record: &EntryRecord) -> bool {
    record.action.is_some_and(|action| action != Action::Unchanged)
}

/// One line of a dry run's list.
fn item(record: &EntryRecord) -> String {
    let action = record.action.map_or("", Action::as_str);
    let kind = record.kind.map_or("entry", EntryKind::as_str);
    format!("{action:<9} {kind:<9} {}", record.path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::path;

    #[test]
    fn a_list_names_what_would_change_and_moves_no_cursor() {
        let mut record = EntryRecord {
            path: path(b"a\x1b[2J"),
            kind: Some(EntryKind::Dir),
            action: Some(Action::Deleted),
            mover: None,
            size_bytes: 0,
            mtime: None,
            copied_bytes: 0,
            checksum: None,
            losses: Vec::new(),
            differences: Vec::new(),
            error: None,
        };
        assert_eq!(item(&record), "deleted   directory a\\x1b[2J");
        assert!(is_change(&record));
        record.action = Some(Action::Unchanged);
        assert!(!is_change(&record));
    }
}
