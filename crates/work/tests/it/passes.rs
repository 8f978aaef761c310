//! Passes: what is told, how they end, what fails them, and what a retry takes up.

use std::sync::Arc;
use std::time::Duration;

use job::documents::Summary;
use job::spec::{Hash, OnFault, ReportEntries, Sync, Verify};
use job::{Control, FailureCode, Kind, PassKind, Step, StopReason, WorkEnding, WorkEvent, WorkOrder};
use work::Live;
use work::report::failed_entries;

use crate::kit::{Job, names, read_summary, summary_of, write};

#[test]
fn a_pass_tells_how_far_it_is_and_last_that_it_is_done() {
    let job = Job::new(Kind::Copy).with(|spec| spec.options.sync = Sync::AtEnd);
    (0..300).for_each(|n| write(job.source(&n.to_string()), "content"));
    let (result, told) = job.try_run();
    let result = result.unwrap();
    assert_eq!(
        (result.ending, result.figures.scanned_entries, result.figures.copied_bytes),
        (WorkEnding::Complete, 301, 2100)
    );
    assert_eq!((result.figures.changed_entries, result.figures.scanned_bytes), (301, 2100));
    let percents: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            WorkEvent::Progress(progress) => Some((progress.percent, progress.stage.clone())),
            _ => None,
        })
        .collect();
    assert!(percents.is_sorted_by(|a, b| a.0 <= b.0), "{percents:?}");
    assert_eq!(percents.last(), Some(&(100.0, "done".to_owned())));
    assert!(matches!(told.last(), Some(WorkEvent::Summary(_))), "the summary is the last word");
    let Summary::Copy(summary) = summary_of(&told) else { panic!("a copy's summary") };
    assert_eq!((summary.ending.as_str(), summary.durable, summary.actions["created"]), ("complete", true, 300));
}

#[test]
fn a_stop_ends_the_pass_and_the_next_one_goes_on() {
    for (reason, expected) in [
        (StopReason::Shutdown, "shutdown"),
        (StopReason::LostLease, "shutdown"),
        (StopReason::Pause, "shutdown"),
        (StopReason::Deadline, "deadline"),
        (StopReason::Cancel, "cancel"),
    ] {
        let mut job = Job::new(Kind::Copy);
        write(job.source("f"), "content");
        job.live.obey(&Control { stop: Some(reason), ..Control::default() });
        let (result, told) = job.try_run();
        assert_eq!(result.unwrap().ending, WorkEnding::Stopped);
        let Summary::Copy(summary) = summary_of(&told) else { panic!("a copy's summary") };
        assert_eq!(summary.stop_reason.as_deref(), Some(expected));
        assert_eq!(read_summary(&job.order.report_dir)["summary"]["ending"], "stopped");
        job.live = Live::default();
        assert_eq!(job.run().ending, WorkEnding::Complete);
        assert_eq!(read_summary(&job.order.report_dir)["summary"]["ending"], "complete");
    }
}

#[test]
fn limits_are_taken_over_and_taken_back() {
    let live = Live::default();
    let limits = Control { bandwidth_bytes_per_second: Some(5), operations_per_second: Some(6), stop: None };
    live.obey(&limits);
    assert_eq!((live.throttle.bandwidth(), live.throttle.operations()), (Some(5), Some(6)));
    live.obey(&Control::default());
    assert_eq!((live.throttle.bandwidth(), live.throttle.operations(), live.stop.reason()), (None, None, None));
}

fn check_failure(job: &Job, step: Step, code: FailureCode, words: &[&str]) {
    let failure = job.try_run().0.unwrap_err();
    assert_eq!((failure.step, failure.code), (step, code), "{failure}");
    assert_eq!(failure.message.lines().count(), 1, "{failure}");
    for word in words {
        assert!(failure.message.contains(word), "`{word}` in {failure}");
    }
}

#[test]
fn what_cannot_begin_says_why() {
    let job = Job::new(Kind::Copy);
    std::fs::remove_dir(job.source("")).unwrap();
    let gone = job.source("").display().to_string();
    check_failure(&job, Step::Copy, FailureCode::EngineFailed, &["cannot open the source", "no such file", &gone]);

    let job = Job::new(Kind::Verify);
    std::fs::remove_dir(job.dest("")).unwrap();
    check_failure(&job, Step::Verify, FailureCode::EngineFailed, &["cannot open the destination", "no such file"]);
    assert!(!job.dest("").exists(), "a comparison makes nothing");

    let job = Job::new(Kind::Copy).with(|spec| spec.options.dry_run = true);
    std::fs::remove_dir(job.dest("")).unwrap();
    check_failure(&job, Step::Copy, FailureCode::EngineFailed, &["cannot open the destination"]);
    assert!(!job.dest("").exists(), "a dry run makes nothing");

    let job = Job::new(Kind::Copy);
    std::fs::remove_dir(job.dest("")).unwrap();
    std::os::unix::fs::symlink(job.source(""), job.dest("").parent().unwrap().join("dest")).unwrap();
    check_failure(&job, Step::Copy, FailureCode::EngineFailed, &["refused", "the same directory"]);
}

#[test]
fn a_report_directory_that_cannot_be_made_fails_the_pass() {
    let mut job = Job::new(Kind::Copy);
    write(job.source("f"), "content");
    job.order.report_dir = job.source("f").join("report");
    check_failure(&job, Step::Report, FailureCode::ReportFailed, &["cannot write the report"]);
}

/// A file stands where the destination has a directory that is not empty: that is a fault, whoever copies.
fn with_a_fault(kind: Kind) -> Job {
    let job = Job::new(kind);
    std::fs::create_dir_all(job.dest("bad/below")).unwrap();
    for name in ["bad", "good", "late"] {
        write(job.source(name), name);
    }
    job
}

#[test]
fn passes_of_a_migration_go_to_their_end_over_faults_and_remove_later() {
    let mut job = with_a_fault(Kind::Migrate).with(|spec| spec.options.on_fault = OnFault::Stop);
    write(job.dest("extra"), "x");
    job.pass(1, PassKind::Baseline);
    let first = job.run();
    assert_eq!((first.ending, first.figures.faults), (WorkEnding::WithFaults, 1));
    assert_eq!(names(&job.dest("")), ["bad", "extra", "good", "late"]);
    job.pass(2, PassKind::Incremental);
    // With removal allowed, the directory that stands in the way goes, too.
    let second = job.run();
    assert_eq!((second.ending, second.figures.faults), (WorkEnding::Complete, 0));
    assert_eq!(names(&job.dest("")), ["bad", "good", "late"]);
    job.pass(3, PassKind::Final);
    let last = job.run();
    assert_eq!((last.ending, last.figures.differences), (WorkEnding::Complete, 0));
    assert!(last.figures.verify_seconds > 0.0 && last.figures.verify_seconds <= last.figures.elapsed_seconds);
}

#[test]
fn a_single_pass_stops_at_the_first_fault_where_that_is_asked_for() {
    let job = with_a_fault(Kind::Copy).with(|spec| {
        spec.options.on_fault = OnFault::Stop;
        spec.options.workers = Some(1);
    });
    assert_eq!(job.run().ending, WorkEnding::StoppedByFault);
}

#[test]
fn a_retry_takes_up_what_failed_and_nothing_else() {
    // Faults are named also where no entries are.
    let mut job = with_a_fault(Kind::Copy).with(|spec| spec.options.report_entries = ReportEntries::None);
    assert_eq!(job.run().ending, WorkEnding::WithFaults);
    assert_eq!(names(&job.order.report_dir), ["faults.jsonl", "manifest.zst", "summary.json"]);
    let failed: Vec<_> = failed_entries(&job.order.report_dir).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(failed, ["bad"]);

    std::fs::remove_dir_all(job.dest("bad")).unwrap();
    write(job.source("good"), "changed since");
    write(job.source("new"), "new since");
    job.order = WorkOrder { retry_report_dir: Some(job.order.report_dir.clone()), ..job.order };
    job.pass(2, PassKind::Single);
    let result = job.run();
    assert_eq!((result.ending, result.figures.copied_bytes), (WorkEnding::Complete, 3));
    assert_eq!(names(&job.dest("")), ["bad", "good", "late"]);
    assert_eq!(std::fs::read_to_string(job.dest("good")).unwrap(), "good");

    job.order = WorkOrder { retry_report_dir: Some(job.source("nowhere")), ..job.order };
    check_failure(&job, Step::Report, FailureCode::ReportFailed, &["which entries failed"]);
}

#[test]
fn entries_that_differ_are_tried_again_by_a_retry() {
    let mut job = Job::new(Kind::Copy).with(|spec| spec.options.verify = Some(Verify::Content));
    for name in ["same", "different"] {
        write(job.source(name), "12345");
        write(job.dest(name), if name == "same" { "12345" } else { "54321" });
        // Size and time are alike, so only the verification looks further.
        let modified = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for path in [job.source(name), job.dest(name)] {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }
    }
    let result = job.run();
    assert_eq!((result.ending, result.figures.differences), (WorkEnding::WithFaults, 1));
    assert_eq!(failed_entries(&job.order.report_dir).unwrap().len(), 1);

    job.order = WorkOrder { retry_report_dir: Some(job.order.report_dir.clone()), ..job.order };
    Arc::make_mut(&mut job.order.spec).options.checksum = true;
    job.pass(2, PassKind::Single);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert_eq!(std::fs::read_to_string(job.dest("different")).unwrap(), "12345");
}

#[test]
fn a_comparison_ends_as_its_trees_are() {
    for hash in [Hash::None, Hash::Sha256] {
        let mut job = Job::new(Kind::Verify).with(|spec| spec.options.hash = hash);
        write(job.source("f"), "content");
        let result = job.run();
        assert_eq!(result.ending, WorkEnding::WithFaults);
        // The file is missing, and the time of the root is another.
        assert!(result.figures.differences >= 1);
        let failed = failed_entries(&job.order.report_dir).unwrap();
        assert!(failed.iter().any(|path| path.as_bytes() == b"f"), "{failed:?}");
        job.order.spec = Arc::new(job::JobSpec { kind: Kind::Copy, ..(*job.order.spec).clone() });
        job.run();
        job.order.spec = Arc::new(job::JobSpec { kind: Kind::Verify, ..(*job.order.spec).clone() });
        let result = job.run();
        assert_eq!((result.ending, result.figures.differences), (WorkEnding::Complete, 0));
        assert_eq!(result.manifest_root.is_some(), hash != Hash::None);
    }
}
