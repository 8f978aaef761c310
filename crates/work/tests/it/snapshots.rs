//! Backups in restic repositories: made, given back, looked through and taken away, as jobs.

use std::os::unix::fs::symlink;
use std::path::Path;

use job::documents::{CopySummary, Summary};
use job::spec::{OnFault, Verify};
use job::{BackupPlan, FailureCode, Kind, Sensitive, WorkEnding, WorkEvent};

use crate::kit::{Job, next, read_summary, repository, summary_of, turned, write_below};

/// A job on backup `b1` of share `s1`.
fn job(kind: Kind) -> Job {
    Job::new(kind).with(|spec| {
        spec.backup = Some(BackupPlan {
            id: Some("b1".into()),
            share: Some("s1".into()),
            password: Some(Sensitive::secret("not a secret of anybody")),
            init: kind == Kind::Backup,
            ..BackupPlan::default()
        });
    })
}

fn planned(job: Job, kind: Kind, change: impl FnOnce(&mut BackupPlan)) -> Job {
    next(job, kind).with(|spec| {
        let plan = spec.backup.as_mut().unwrap();
        plan.init = kind == Kind::Backup;
        change(plan);
    })
}

fn backed_up() -> Job {
    let job = job(Kind::Backup);
    write_below(job.source("a/f"), "content");
    symlink("f", job.source("a/link")).unwrap();
    assert_eq!(job.run().ending, WorkEnding::Complete);
    job
}

fn copied(told: &[WorkEvent]) -> CopySummary {
    let Summary::Copy(summary) = summary_of(told) else { panic!("a copy's summary") };
    *summary
}

fn empty(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::create_dir(dir).unwrap();
}

#[test]
fn what_was_backed_up_comes_back_whole_or_in_part() {
    let job = turned(backed_up());
    empty(&job.dest(""));
    write_below(job.dest("kept"), "of the share");
    let job = planned(job, Kind::Restore, |_| {});
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert_eq!(std::fs::read_to_string(job.dest("a/f")).unwrap(), "content");
    assert_eq!(std::fs::read_link(job.dest("a/link")).unwrap(), Path::new("f"));
    assert!(job.dest("kept").exists(), "what the backup has not stays");
    let job = next(job, Kind::Restore).with(|spec| spec.options.delete = true);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert!(!job.dest("kept").exists(), "unless it is to go");
    empty(&job.dest(""));
    let job = planned(job, Kind::Restore, |plan| plan.paths = vec!["a/link".into()]);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert!(job.dest("a/link").is_symlink() && !job.dest("a/f").exists());
}

#[test]
fn a_second_backup_opens_no_unchanged_file_and_both_can_be_restored() {
    let job = planned(backed_up(), Kind::Backup, |plan| plan.id = Some("b2".into()));
    write_below(job.source("new"), "new");
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    let summary = copied(&told);
    assert_eq!((summary.counts.opened_files, summary.counts.copied_files), (1, 1), "{summary:?}");
    let job = turned(job);
    let mut job = job;
    for (id, has_new) in [("b1", false), ("b2", true), ("latest", true)] {
        empty(&job.dest(""));
        job = planned(job, Kind::Restore, |plan| plan.id = Some(id.into()));
        assert_eq!(job.run().ending, WorkEnding::Complete);
        assert_eq!(job.dest("new").exists(), has_new, "{id}");
        assert!(job.dest("a/f").exists());
    }
}

#[test]
fn a_job_that_runs_again_finds_what_it_has_made() {
    let job = backed_up();
    let document = read_summary(&job.order.report_dir);
    let id = document["summary"]["backup"]["id"].as_str().unwrap().to_owned();
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    let facts = copied(&told).backup.unwrap();
    assert_eq!((facts.id, facts.was_there), (id, true));
    assert_eq!(std::fs::read_dir(job.dest("snapshots")).unwrap().count(), 1);
}

#[test]
fn what_was_saved_can_be_compared_with_the_share_at_once() {
    let job = job(Kind::Backup).with(|spec| spec.options.verify = Some(Verify::Content));
    write_below(job.source("a/f"), "content");
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    let verification = copied(&told).verification.unwrap();
    assert_eq!((verification.counts.verified_files, verification.counts.differences), (1, 0));
    // What the share is when the job goes on is no longer what was saved.
    write_below(job.source("a/f"), "changed");
    let (result, told) = job.try_run();
    let result = result.unwrap();
    assert_eq!(result.ending, WorkEnding::WithFaults);
    assert!(result.figures.differences > 0, "{result:?} {told:?}");
}

#[test]
fn the_percentage_never_falls_and_ends_whole() {
    let job = job(Kind::Backup).with(|spec| spec.options.verify = Some(Verify::Content));
    for number in 0..200 {
        write_below(job.source(&format!("d/{number}")), &"content".repeat(1000));
    }
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    let percents = told.iter().filter_map(|event| match event {
        WorkEvent::Progress(progress) => Some(progress.percent),
        _ => None,
    });
    let percents: Vec<_> = percents.collect();
    assert!(percents.is_sorted(), "{percents:?}");
    assert!(percents.last().is_some_and(|percent| *percent >= 100.0), "{percents:?}");
}

#[test]
fn deleting_is_by_name_and_doing_it_again_is_fine() {
    let job = planned(backed_up(), Kind::Backup, |plan| plan.id = Some("b2".into()));
    job.run();
    let job = planned(job, Kind::Delete, |plan| plan.id = Some("b1".into()));
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert_eq!(repository(&told).removed_backups, 1);
    assert_eq!(std::fs::read_dir(job.dest("snapshots")).unwrap().count(), 1);
    let (result, told) = next(job, Kind::Delete).try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert!(repository(&told).findings[0].contains("no backup `b1`"));
}

#[test]
fn a_prune_keeps_what_its_rules_say_of_each_share() {
    let mut job = backed_up();
    for (id, share) in [("b2", "s1"), ("b3", "s2")] {
        job = planned(job, Kind::Backup, |plan| (plan.id, plan.share) = (Some(id.into()), Some(share.into())));
        job.run();
    }
    let job = planned(job, Kind::Prune, |plan| {
        (plan.id, plan.share) = (None, None);
        plan.keep.last = Some(1);
    });
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert_eq!((repository(&told).removed_backups, repository(&told).kept_backups), (1, 2));
}

#[test]
fn a_check_finds_damage_and_nothing_damaged_is_restored() {
    let job = turned(backed_up());
    let check = |job: Job| {
        planned(job, Kind::Check, |plan| {
            plan.id = None;
            plan.read_data_percent = 100;
        })
    };
    let job = check(job);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    for dir in std::fs::read_dir(job.source("data")).unwrap() {
        for pack in std::fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[40] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let job = check(job);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::WithFaults);
    assert!(!repository(&told).findings.is_empty());
    empty(&job.dest(""));
    let job = planned(job, Kind::Restore, |plan| plan.id = Some("b1".into()));
    let job = job.with(|spec| spec.options.on_fault = OnFault::Stop);
    let result = job.run();
    assert_eq!(result.ending, WorkEnding::StoppedByFault);
    assert!(result.first_fault.as_ref().is_some_and(|fault| fault.contains("differs from what")), "{result:?}");
    assert!(!job.dest("a/f").exists());
}

#[test]
fn what_cannot_be_opened_or_found_is_told() {
    let check = |job: Job, part: &str| {
        let failure = job.try_run().0.unwrap_err();
        assert_eq!(failure.code, FailureCode::BadSpec, "{failure}");
        assert!(failure.message.contains(part), "`{failure}` says nothing of `{part}`");
        assert!(!failure.message.contains("secret"), "{failure}");
        job
    };
    let job = planned(backed_up(), Kind::Delete, |plan| plan.password = Some(Sensitive::secret("secret of another")));
    check(job, "opens no key");
    check(self::job(Kind::Prune), "no restic repository");
    check(self::job(Kind::Backup).with(|spec| spec.backup.as_mut().unwrap().init = false), "no restic repository");
    let job = planned(turned(backed_up()), Kind::Restore, |plan| plan.id = Some("b9".into()));
    check(job, "no snapshot `b9`");
}

#[test]
fn a_repository_below_the_endpoint_is_made_and_reached_through_no_link() {
    let job = planned(job(Kind::Backup), Kind::Backup, |plan| plan.subdir = Some("p/q".into()));
    write_below(job.source("f"), "content");
    job.run();
    assert!(job.dest("p/q/config").exists());
    std::fs::rename(job.dest("p"), job.dest("elsewhere")).unwrap();
    symlink("elsewhere", job.dest("p")).unwrap();
    let failure = next(job, Kind::Backup).try_run().0.unwrap_err();
    assert!(failure.message.contains("of the repository"), "{failure}");
}

#[test]
fn an_order_to_stop_ends_each_kind_as_stopped() {
    let job = backed_up();
    job.live.stop.stop(copy::StopReason::Cancel);
    let job = next(job, Kind::Backup);
    assert_eq!(job.run().ending, WorkEnding::Stopped);
    let job = next(turned(next(job, Kind::Prune)), Kind::Check);
    assert_eq!(job.run().ending, WorkEnding::Stopped);
    let job = next(job, Kind::Restore);
    assert_eq!(job.run().ending, WorkEnding::Stopped);
}
