//! The summary at the end, as text: what was copied, how, how fast, and what was lost or failed.

use std::fmt::Write as _;

use copy::{
    Action, CompareReport, CopyReport, Counters, Difference, Ending, EntryKind, ErrorClass, Fault, Loss, Mover,
    RelPath, StopReason,
};

use super::console::Palette;
use super::units::{Bytes, Count, Rate, Time, counted};

/// Faults that are shown in full. The report file has all of them.
const FAULTS_SHOWN: usize = 10;
/// Paths that are shown of each loss and each difference.
const PATHS_SHOWN: usize = 3;

/// Lines of a copy's summary. `shown` are warnings that were printed while the run went on.
pub fn copy(report: &CopyReport, dry_run: bool, shown: &[String], palette: Palette) -> Vec<String> {
    let counters = &report.counters;
    let mut lines = vec![copy_headline(report, dry_run, palette)];
    lines.extend(kinds(counters));
    let actions: Vec<_> = Action::ALL
        .into_iter()
        .filter(|action| counters.action(*action) > 0)
        .map(|action| format!("{} {}", Count(counters.action(action)), action.as_str()))
        .collect();
    if !actions.is_empty() {
        lines.push(row(if dry_run { "would be" } else { "done" }, &actions.join(", ")));
    }
    let movers: Vec<_> = Mover::ALL
        .into_iter()
        .map(|mover| (mover, counters.mover_files[mover as usize], counters.mover_bytes[mover as usize]))
        .filter(|(_, files, _)| *files > 0)
        .map(|(mover, files, bytes)| format!("{} {} ({})", mover.as_str(), counted(files, "file"), Bytes(bytes)))
        .collect();
    if !movers.is_empty() {
        lines.push(row("by", &movers.join(", ")));
    }
    if counters.filtered > 0 {
        lines.push(row("left out", &format!("{} by filters", counted(counters.filtered, "entry"))));
    }
    if !dry_run {
        let durable = if report.durable {
            format!("yes, the last wait for storage took {}", Time(report.sync_elapsed))
        } else {
            palette.attention("no: what was written can still be lost in a crash of the machine")
        };
        lines.push(row("durable", &durable));
    }
    if let Some(verification) = &report.verification {
        lines.push(row("verified", &verdict(verification, palette)));
        lines.extend(differences(&verification.differences));
        lines.extend(faults(verification.counters.faults, &verification.fault_classes, &verification.faults, palette));
    }
    lines.extend(losses(&report.losses, palette));
    for warning in report.warnings.iter().filter(|warning| !shown.contains(warning)) {
        lines.push(row("note", warning));
    }
    lines.extend(faults(counters.faults, &report.fault_classes, &report.faults, palette));
    lines
}

/// Lines of a comparison's summary.
pub fn verify(report: &CompareReport, palette: Palette) -> Vec<String> {
    let mut lines = vec![format!("{}; {}", verdict(report, palette), Time(report.elapsed))];
    lines.extend(kinds(&report.counters));
    if report.counters.filtered > 0 {
        lines.push(row("left out", &format!("{} by filters", counted(report.counters.filtered, "entry"))));
    }
    lines.extend(differences(&report.differences));
    lines.extend(faults(report.counters.faults, &report.fault_classes, &report.faults, palette));
    lines
}

/// One line for those who want nothing but errors; none when all is well.
pub fn copy_failure(report: &CopyReport) -> Option<String> {
    let counters = &report.counters;
    match report.ending {
        Ending::Stopped(reason) => Some(stopped(reason).into()),
        _ if counters.faults > 0 => Some(format!("{} could not be copied", counted(counters.faults, "entry"))),
        Ending::WithFaults => Some(format!("attributes of {} were lost", counted(counters.losses, "entry"))),
        Ending::Complete => report.verification.as_ref().and_then(compare_failure),
    }
}

/// The same for a comparison.
pub fn compare_failure(report: &CompareReport) -> Option<String> {
    let counters = &report.counters;
    match report.ending {
        Ending::Stopped(reason) => Some(stopped(reason).into()),
        _ if counters.differences > 0 => {
            Some(format!("the trees are not the same: {}", counted(counters.differences, "difference")))
        }
        Ending::WithFaults => Some(format!("{} could not be compared", counted(counters.faults, "entry"))),
        Ending::Complete => None,
    }
}

fn copy_headline(report: &CopyReport, dry_run: bool, palette: Palette) -> String {
    let counters = &report.counters;
    let state = match report.ending {
        Ending::Complete if dry_run => palette.good("dry run, nothing was changed"),
        Ending::Complete => palette.good("done"),
        Ending::WithFaults if counters.faults > 0 => {
            palette.bad(&format!("ended with {}", counted(counters.faults, "fault")))
        }
        Ending::WithFaults => palette.bad("ended with losses"),
        Ending::Stopped(reason) => palette.attention(stopped(reason)),
    };
    let moved = format!("{} in {}", Bytes(counters.copied_bytes), counted(counters.copied_files, "file"));
    let copied = if dry_run { String::new() } else { format!(": copied {moved}") };
    let rate = match Rate::mean(counters.copied_bytes, report.elapsed) {
        Some(rate) if counters.copied_bytes > 0 && !dry_run => format!(", {rate}"),
        _ => String::new(),
    };
    format!("{state}{copied}; {}{rate}", Time(report.elapsed))
}

fn stopped(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Shutdown | StopReason::Cancel => "stopped; the same command goes on from here",
        StopReason::Deadline => "stopped, the time is over; the same command goes on from here",
        StopReason::Fault => "stopped by a fault",
    }
}

fn verdict(report: &CompareReport, palette: Palette) -> String {
    let counters = &report.counters;
    let state = match report.ending {
        Ending::Stopped(reason) => palette.attention(stopped(reason)),
        _ if counters.differences > 0 => palette.bad(&counted(counters.differences, "difference")),
        Ending::WithFaults => palette.bad(&format!("{} could not be compared", counted(counters.faults, "entry"))),
        Ending::Complete => palette.good("no differences"),
    };
    let mut text = format!("{state} in {}", counted(counters.done_entries, "entry"));
    if counters.verified_files > 0 {
        let _ = write!(
            text,
            ", content of {} ({}) read again",
            counted(counters.verified_files, "file"),
            Bytes(counters.verified_bytes)
        );
    }
    if counters.verified_from_cache > 0 {
        let _ = write!(text, ", {} of them perhaps from memory", Count(counters.verified_from_cache));
    }
    text
}

fn kinds(counters: &Counters) -> Option<String> {
    let kinds: Vec<_> = EntryKind::ALL
        .into_iter()
        .filter(|kind| counters.kind(*kind) > 0)
        .map(|kind| counted(counters.kind(kind), kind.as_str()))
        .collect();
    (!kinds.is_empty()).then(|| row("entries", &kinds.join(", ")))
}

fn losses(losses: &[Loss], palette: Palette) -> Vec<String> {
    losses
        .iter()
        .map(|loss| {
            let what = palette.attention(&format!("{} of {}", loss.kind.as_str(), counted(loss.count, "entry")));
            row("lost", &format!("{what}: {}", first_paths(&loss.paths, loss.count)))
        })
        .collect()
}

fn differences(differences: &[Difference]) -> Vec<String> {
    differences
        .iter()
        .map(|difference| {
            let what = format!("{} of {}", difference.kind.as_str(), counted(difference.count, "entry"));
            row("differs", &format!("{what}: {}", first_paths(&difference.paths, difference.count)))
        })
        .collect()
}

fn faults(total: u64, classes: &[(ErrorClass, u64)], faults: &[Fault], palette: Palette) -> Vec<String> {
    if total == 0 {
        return Vec::new();
    }
    let classes: Vec<_> = classes.iter().map(|(class, count)| format!("{} {}", Count(*count), words(*class))).collect();
    let mut lines = vec![row("faults", &palette.bad(&format!("{} ({})", Count(total), classes.join(", "))))];
    for fault in faults.iter().take(FAULTS_SHOWN) {
        lines.push(row("", &format!("{fault} ({})", words(fault.error.class))));
    }
    let shown = faults.len().min(FAULTS_SHOWN) as u64;
    if total > shown {
        lines.push(row("", &format!("and {} more; `--report FILE` lists all", Count(total - shown))));
    }
    lines
}

fn words(class: ErrorClass) -> String {
    class.as_str().replace('_', " ")
}

fn first_paths(paths: &[RelPath], count: u64) -> String {
    let mut text = paths.iter().take(PATHS_SHOWN).map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    let shown = paths.len().min(PATHS_SHOWN) as u64;
    if count > shown {
        let _ = write!(text, ", and {} more", Count(count - shown));
    }
    text
}

fn row(label: &str, text: &str) -> String {
    format!("  {label:<9} {text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare_report, copy_report, troubled_report};

    fn check(lines: &[String], expected: &str) {
        assert_eq!(lines.join("\n"), expected.trim_end());
    }

    #[test]
    fn a_clean_copy() {
        check(
            &copy(&copy_report(), false, &[], Palette::PLAIN),
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
            &copy(&troubled_report(), false, &[], Palette::PLAIN),
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
  faults    2 (1 io, 1 denied)
            cannot set the owner of `a/b`: operation not permitted (denied)
            cannot read `bad\\xff`: input/output error (io)
",
        );
    }

    #[test]
    fn a_dry_run_claims_nothing() {
        let lines = copy(&copy_report(), true, &[], Palette::PLAIN);
        assert!(lines[0].starts_with("dry run, nothing was changed"), "{lines:?}");
        assert!(!lines.iter().any(|line| line.contains("durable")), "{lines:?}");
    }

    #[test]
    fn warnings_are_not_said_twice() {
        let report = troubled_report();
        let lines = copy(&report, false, &report.warnings, Palette::PLAIN);
        assert!(!lines.iter().any(|line| line.contains("no ACLs")), "{lines:?}");
    }

    #[test]
    fn faults_beyond_those_shown_are_counted() {
        let mut report = troubled_report();
        report.counters.faults = 1_002;
        let lines = copy(&report, false, &[], Palette::PLAIN);
        assert!(lines.iter().any(|line| line.contains("and 1,000 more")), "{lines:?}");
    }

    #[test]
    fn a_comparison() {
        check(
            &verify(&compare_report(), Palette::PLAIN),
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
        assert_eq!(compare_failure(&compare_report()), None);
        let mut report = copy_report();
        report.verification = troubled_report().verification;
        assert_eq!(copy_failure(&report).as_deref(), Some("the trees are not the same: 1 difference"));
    }
}
