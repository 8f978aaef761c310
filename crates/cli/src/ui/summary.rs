//! The summary at the end, as text: what was copied, how, how fast, and what was lost or failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use copy::{Action, EntryKind, FsOp, Mover};
use job::documents::{
    BackupFacts, Comparison, CopySummary, Counts, Differing, FaultEntry, Lost, PathText, RepositorySummary,
};

use super::console::Palette;
use super::units::{Bytes, Count, Rate, Time, counted};

/// Faults that are shown in full. The report file has all of them.
const FAULTS_SHOWN: usize = 10;
/// Paths that are shown of each loss and each difference.
const PATHS_SHOWN: usize = 3;

/// Endings, as `job::documents` has them.
const STOPPED: &str = "stopped";
const WITH_FAULTS: &str = "with_faults";

/// Lines of a copy's summary. `shown` are warnings that were printed while the run went on.
pub fn copy(summary: &CopySummary, shown: &[String], palette: Palette) -> Vec<String> {
    let counts = &summary.counts;
    let mut lines = vec![copy_headline(summary, palette)];
    lines.extend(kinds(counts));
    let actions: Vec<_> = Action::ALL
        .into_iter()
        .map(|action| (action.as_str(), summary.actions.get(action.as_str()).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .map(|(action, count)| format!("{} {action}", Count(count)))
        .collect();
    if !actions.is_empty() {
        lines.push(row(if summary.dry_run { "would be" } else { "done" }, &actions.join(", ")));
    }
    let movers: Vec<_> = Mover::ALL
        .into_iter()
        .map(|mover| (mover.as_str(), summary.movers.get(mover.as_str()).copied().unwrap_or_default()))
        .filter(|(_, moved)| moved.files > 0)
        .map(|(mover, moved)| format!("{mover} {} ({})", counted(moved.files, "file"), Bytes(moved.bytes)))
        .collect();
    if !movers.is_empty() {
        lines.push(row("by", &movers.join(", ")));
    }
    if counts.filtered > 0 {
        lines.push(row("left out", &format!("{} by filters", counted(counts.filtered, "entry"))));
    }
    if !summary.dry_run {
        let durable = if summary.durable {
            format!("yes, the last wait for storage took {}", time(summary.sync_seconds))
        } else {
            palette.attention("no: what was written can still be lost in a crash of the machine")
        };
        lines.push(row("durable", &durable));
    }
    lines.extend(summary.backup.as_ref().map(|backup| row("backup", &backup_facts(backup))));
    if let Some(verification) = &summary.verification {
        lines.push(row("verified", &verdict(verification, palette)));
        lines.extend(differences(&verification.differences));
        lines.extend(faults(verification.counts.faults, &verification.fault_classes, &verification.faults, palette));
    }
    lines.extend(losses(&summary.losses, palette));
    for warning in summary.warnings.iter().filter(|warning| !shown.contains(warning)) {
        lines.push(row("note", warning));
    }
    lines.extend(faults(counts.faults, &summary.fault_classes, &summary.faults, palette));
    lines
}

/// Lines of a comparison's summary.
pub fn verify(comparison: &Comparison, palette: Palette) -> Vec<String> {
    let counts = &comparison.counts;
    let mut lines = vec![format!("{}; {}", verdict(comparison, palette), time(comparison.elapsed_seconds))];
    lines.extend(kinds(counts));
    if counts.filtered > 0 {
        lines.push(row("left out", &format!("{} by filters", counted(counts.filtered, "entry"))));
    }
    lines.extend(differences(&comparison.differences));
    lines.extend(faults(counts.faults, &comparison.fault_classes, &comparison.faults, palette));
    lines
}

fn backup_facts(backup: &BackupFacts) -> String {
    let mut text = copy::escape(backup.id.as_bytes());
    if backup.was_there {
        text.push_str(", made by an earlier run of this job");
    }
    if let Some(bytes) = backup.added_bytes {
        let _ = write!(text, ", the repository grew by {}", Bytes(bytes));
    }
    text
}

/// Lines of what was done with a repository of backups.
pub fn repository(summary: &RepositorySummary, palette: Palette) -> Vec<String> {
    let counts = &summary.counts;
    let state = match summary.ending.as_str() {
        STOPPED => palette.attention(stopped(summary.stop_reason.as_deref())),
        _ if counts.differences > 0 => palette.bad(&counted(counts.differences, "difference")),
        WITH_FAULTS => palette.bad(&format!("ended with {}", counted(counts.faults, "fault"))),
        _ => palette.good("done"),
    };
    let mut lines = vec![format!("{state}; {}", time(summary.elapsed_seconds))];
    lines.extend(kinds(counts));
    if counts.verified_files > 0 {
        let read = format!("{} in {}", Bytes(counts.verified_bytes), counted(counts.verified_files, "file"));
        lines.push(row("read", &read));
    }
    if summary.removed_backups > 0 || summary.kept_backups > 0 {
        let (removed, kept) = (Count(summary.removed_backups), Count(summary.kept_backups));
        lines.push(row("backups", &format!("{removed} removed, {kept} kept")));
    }
    if summary.removed_bytes > 0 {
        lines.push(row("freed", &Bytes(summary.removed_bytes).to_string()));
    }
    lines.extend(summary.findings.iter().map(|finding| row("note", &copy::escape(finding.as_bytes()))));
    lines.extend(differences(&summary.differences));
    lines.extend(faults(counts.faults, &summary.fault_classes, &summary.faults, palette));
    lines
}

/// One line for those who want nothing but errors; none when all is well.
pub fn copy_failure(summary: &CopySummary) -> Option<String> {
    let counts = &summary.counts;
    match summary.ending.as_str() {
        STOPPED => Some(stopped(summary.stop_reason.as_deref()).into()),
        _ if counts.faults > 0 => Some(format!("{} could not be copied", counted(counts.faults, "entry"))),
        WITH_FAULTS => Some(format!("attributes of {} were lost", counted(counts.losses, "entry"))),
        _ => summary.verification.as_ref().and_then(compare_failure),
    }
}

/// The same for a comparison.
pub fn compare_failure(comparison: &Comparison) -> Option<String> {
    let counts = &comparison.counts;
    match comparison.ending.as_str() {
        STOPPED => Some(stopped(comparison.stop_reason.as_deref()).into()),
        _ if counts.differences > 0 => {
            Some(format!("the trees are not the same: {}", counted(counts.differences, "difference")))
        }
        WITH_FAULTS => Some(format!("{} could not be compared", counted(counts.faults, "entry"))),
        _ => None,
    }
}

fn copy_headline(summary: &CopySummary, palette: Palette) -> String {
    let counts = &summary.counts;
    let state = match summary.ending.as_str() {
        STOPPED => palette.attention(stopped(summary.stop_reason.as_deref())),
        WITH_FAULTS if counts.faults > 0 => palette.bad(&format!("ended with {}", counted(counts.faults, "fault"))),
        WITH_FAULTS => palette.bad("ended with losses"),
        _ if summary.dry_run => palette.good("dry run, nothing was changed"),
        _ => palette.good("done"),
    };
    let moved = format!("{} in {}", Bytes(counts.copied_bytes), counted(counts.copied_files, "file"));
    let copied = if summary.dry_run { String::new() } else { format!(": copied {moved}") };
    let rate = match Rate::mean(counts.copied_bytes, seconds(summary.elapsed_seconds)) {
        Some(rate) if counts.copied_bytes > 0 && !summary.dry_run => format!(", {rate}"),
        _ => String::new(),
    };
    format!("{state}{copied}; {}{rate}", time(summary.elapsed_seconds))
}

fn stopped(reason: Option<&str>) -> &'static str {
    match reason {
        Some("deadline") => "stopped, the time is over; the same command goes on from here",
        Some("fault") => "stopped by a fault",
        _ => "stopped; the same command goes on from here",
    }
}

fn verdict(comparison: &Comparison, palette: Palette) -> String {
    let counts = &comparison.counts;
    let state = match comparison.ending.as_str() {
        STOPPED => palette.attention(stopped(comparison.stop_reason.as_deref())),
        _ if counts.differences > 0 => palette.bad(&counted(counts.differences, "difference")),
        WITH_FAULTS => palette.bad(&format!("{} could not be compared", counted(counts.faults, "entry"))),
        _ => palette.good("no differences"),
    };
    let mut text = format!("{state} in {}", counted(counts.done_entries, "entry"));
    if counts.verified_files > 0 {
        let _ = write!(
            text,
            ", content of {} ({}) read again",
            counted(counts.verified_files, "file"),
            Bytes(counts.verified_bytes)
        );
    }
    if counts.verified_from_cache > 0 {
        let _ = write!(text, ", {} of them perhaps from memory", Count(counts.verified_from_cache));
    }
    text
}

fn kinds(counts: &Counts) -> Option<String> {
    let kinds: Vec<_> = EntryKind::ALL
        .into_iter()
        .map(|kind| (kind.as_str(), counts.kinds.get(kind.as_str()).copied().unwrap_or_default()))
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| counted(count, kind))
        .collect();
    (!kinds.is_empty()).then(|| row("entries", &kinds.join(", ")))
}

fn losses(losses: &[Lost], palette: Palette) -> Vec<String> {
    losses
        .iter()
        .map(|loss| {
            let what = palette.attention(&format!("{} of {}", loss.attribute, counted(loss.count, "entry")));
            row("lost", &format!("{what}: {}", first_paths(&loss.paths, loss.count)))
        })
        .collect()
}

fn differences(differences: &[Differing]) -> Vec<String> {
    differences
        .iter()
        .map(|difference| {
            let what = format!("{} of {}", difference.kind, counted(difference.count, "entry"));
            row("differs", &format!("{what}: {}", first_paths(&difference.paths, difference.count)))
        })
        .collect()
}

fn faults(total: u64, classes: &BTreeMap<String, u64>, faults: &[FaultEntry], palette: Palette) -> Vec<String> {
    if total == 0 {
        return Vec::new();
    }
    let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{} {}", Count(*count), words(class))).collect();
    let mut lines = vec![row("faults", &palette.bad(&format!("{} ({})", Count(total), classes.join(", "))))];
    for fault in faults.iter().take(FAULTS_SHOWN) {
        lines.push(row("", &fault_line(fault)));
    }
    let shown = faults.len().min(FAULTS_SHOWN) as u64;
    if total > shown {
        lines.push(row("", &format!("and {} more; the report lists all", Count(total - shown))));
    }
    lines
}

/// One entry that could not be copied, in one line.
pub fn fault_line(fault: &FaultEntry) -> String {
    let operation = FsOp::ALL.into_iter().find(|op| op.as_str() == fault.operation).map_or("handle", FsOp::phrase);
    format!("cannot {operation} `{}`: {} ({})", shown_path(&fault.path), fault.reason, words(&fault.class))
}

fn words(class: &str) -> String {
    class.replace('_', " ")
}

/// A path, safe to print.
pub fn shown_path(path: &PathText) -> String {
    path.parse().map_or_else(|| "?".into(), |path| path.to_string())
}

fn first_paths(paths: &[PathText], count: u64) -> String {
    let shown: Vec<_> = paths.iter().take(PATHS_SHOWN).map(|path| format!("`{}`", shown_path(path))).collect();
    let mut text = shown.join(", ");
    if count > shown.len() as u64 {
        let _ = write!(text, ", and {} more", Count(count - shown.len() as u64));
    }
    text
}

/// Seconds of a document, which hold no nonsense unless somebody else wrote them.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

fn time(elapsed: f64) -> Time {
    Time(seconds(elapsed))
}

pub fn row(label: &str, text: &str) -> String {
    format!("  {label:<9} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, compare_report};

    fn copy_report() -> CopySummary {
        CopySummary::new(&testing::copy_report(), false)
    }

    fn troubled_report() -> CopySummary {
        CopySummary::new(&testing::troubled_report(), false)
    }

    fn check(lines: &[String], expected: &str) {
        assert_eq!(lines.join("\n"), expected.trim_end());
    }

    #[test]
    fn a_clean_copy() {
        check(
            &copy(&copy_report(), &[], Palette::PLAIN),
            "\
done: copied 2.0 GiB in 1,000 files; 8.0 s, 256.0 MiB/s
  entries   1,200 files, 30 directories, 4 symlinks
  done      1,000 created, 230 unchanged, 4 linked
  by        buffered 990 files (1.0 GiB), ranges 10 files (1.0 GiB)
  durable   yes, the last wait for storage took 0.4 s
",
        );
    }

    #[test]
    fn a_copy_in_which_everything_went_wrong() {
        check(
            &copy(&troubled_report(), &[], Palette::PLAIN),
            "\
ended with 2 faults: copied 2.0 GiB in 1,000 files; 8.0 s, 256.0 MiB/s
  entries   1,200 files, 30 directories, 4 symlinks
  done      1,000 created, 230 unchanged, 4 linked, 2 failed
  by        buffered 990 files (1.0 GiB), ranges 10 files (1.0 GiB)
  durable   no: what was written can still be lost in a crash of the machine
  verified  1 difference in 1,234 entries, content of 1,200 files (3.0 GiB) read again
  differs   mode of 1 entry: `m`
  lost      owner of 12 entries: `a`, `c\\x0a`, and 10 more
  note      the destination has no ACLs
  faults    2 (1 denied, 1 io)
            cannot set the owner of `a/b`: operation not permitted (denied)
            cannot read `bad\\xff`: input/output error (io)
",
        );
    }

    #[test]
    fn a_dry_run_claims_nothing() {
        let dry = CopySummary::new(&testing::copy_report(), true);
        let lines = copy(&dry, &[], Palette::PLAIN);
        assert!(lines[0].starts_with("dry run, nothing was changed"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("durable")), "{lines:?}");
    }

    #[test]
    fn warnings_are_not_said_twice() {
        let report = troubled_report();
        let lines = copy(&report, &report.warnings, Palette::PLAIN);
        assert!(!lines.iter().any(|line| line.contains("no ACLs")), "{lines:?}");
    }

    #[test]
    fn faults_beyond_those_shown_are_counted() {
        let mut report = troubled_report();
        report.counts.faults = 1_002;
        let lines = copy(&report, &[], Palette::PLAIN);
        assert!(lines.iter().any(|line| line.contains("and 1,000 more")), "{lines:?}");
    }

    #[test]
    fn a_comparison() {
        check(
            &verify(&Comparison::from(&compare_report()), Palette::PLAIN),
            "\
no differences in 1,234 entries, content of 1,200 files (3.0 GiB) read again; 4.0 s
  entries   1,200 files, 30 directories, 4 symlinks
",
        );
    }

    #[test]
    fn only_what_went_wrong_has_a_line_of_its_own() {
        assert_eq!(copy_failure(&copy_report()), None);
        assert_eq!(copy_failure(&troubled_report()).as_deref(), Some("2 entries could not be copied"));
        assert_eq!(compare_failure(&Comparison::from(&compare_report())), None);
        let mut report = copy_report();
        report.verification = troubled_report().verification;
        assert_eq!(copy_failure(&report).as_deref(), Some("the trees are not the same: 1 difference"));
    }
}
