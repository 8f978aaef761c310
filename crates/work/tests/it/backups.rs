//! Backups as plain directories: made, given back, looked through and taken away, as jobs.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use job::documents::Summary;
use job::{BackupPlan, FailureCode, Format, Kind, WorkEnding};

use crate::kit::{Job, next, read_summary, repository, summary_of, turned, write_below};

/// A job on backup `b1` of an export.
fn job(kind: Kind) -> Job {
    Job::new(kind).with(|spec| {
        spec.backup = Some(BackupPlan { format: Format::Directory, id: Some("b1".into()), ..BackupPlan::default() });
    })
}

fn backed_up() -> Job {
    let job = job(Kind::Backup);
    write_below(job.source("a/f"), "content");
    symlink("f", job.source("a/link")).unwrap();
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert_eq!(std::fs::read_to_string(job.dest("b1/a/f")).unwrap(), "content");
    job
}

#[test]
fn what_was_backed_up_comes_back() {
    let job = turned(backed_up());
    for name in std::fs::read_dir(job.dest("")).unwrap() {
        let path = name.unwrap().path();
        std::fs::remove_dir_all(path).unwrap();
    }
    write_below(job.dest("kept"), "of the share");
    let job = next(job, Kind::Restore);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert_eq!(std::fs::read_to_string(job.dest("a/f")).unwrap(), "content");
    assert_eq!(std::fs::read_link(job.dest("a/link")).unwrap(), PathBuf::from("f"));
    assert!(job.dest("kept").exists(), "what the backup has not stays");
    let job = next(job, Kind::Restore).with(|spec| spec.options.delete = true);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert!(!job.dest("kept").exists(), "unless it is to go");
}

#[test]
fn a_backup_tells_its_name_and_is_made_once() {
    let job = backed_up();
    let document = read_summary(&job.order.report_dir);
    assert_eq!(document["summary"]["backup"]["id"], "b1");
    assert!(document["summary"]["backup"]["manifest_root"].is_string());
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    let Summary::Copy(summary) = summary_of(&told) else { panic!("a copy's summary") };
    assert!(summary.backup.unwrap().was_there, "the same job again has nothing to do");
    let failure = next(job, Kind::Backup).try_run().0.unwrap_err();
    assert_eq!(failure.code, FailureCode::BadSpec);
    assert!(failure.message.contains("made by another request"), "{failure}");
}

#[test]
fn paths_are_restored_alone() {
    let job = job(Kind::Backup);
    for name in ["a/x", "a/y/z", "b"] {
        write_below(job.source(name), name);
    }
    job.run();
    let job = turned(job);
    std::fs::remove_dir_all(job.dest("a")).unwrap();
    std::fs::remove_file(job.dest("b")).unwrap();
    let job = next(job, Kind::Restore).with(|spec| spec.backup.as_mut().unwrap().paths = vec!["a/y".into()]);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    assert!(job.dest("a/y/z").exists() && !job.dest("a/x").exists() && !job.dest("b").exists());
}

#[test]
fn a_repository_below_the_endpoint_is_made_and_reached_through_no_link() {
    let below = |spec: &mut job::JobSpec| spec.backup.as_mut().unwrap().subdir = Some("p/q".into());
    let job = job(Kind::Backup).with(below);
    write_below(job.source("f"), "content");
    job.run();
    assert!(job.dest("p/q/b1/f").exists());
    std::fs::rename(job.dest("p"), job.dest("elsewhere")).unwrap();
    symlink("elsewhere", job.dest("p")).unwrap();
    let failure = next(job, Kind::Delete).with(below).try_run().0.unwrap_err();
    assert!(failure.message.contains("of the repository"), "{failure}");
}

#[test]
fn a_check_finds_what_changed_and_what_was_never_proven() {
    let job = turned(backed_up());
    let check = |job: Job| next(job, Kind::Check).with(|spec| spec.backup.as_mut().unwrap().read_data_percent = 100);
    let job = check(job);
    assert_eq!(job.run().ending, WorkEnding::Complete);
    write_below(job.source("b1/a/f"), "changed");
    let job = check(job);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::WithFaults);
    assert!(repository(&told).counts.differences > 0);
    std::fs::remove_file(job.source(".b1.manifest.zst")).unwrap();
    let (result, told) = check(job).try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert!(repository(&told).findings[0].contains("has no manifest"), "{:?}", repository(&told).findings);
    assert_eq!(repository(&told).findings.len(), 1);
}

#[test]
fn a_check_of_all_backups_tells_what_is_none_yet() {
    let job = turned(backed_up());
    write_below(job.source(".b2.partial/f"), "half");
    let job = next(job, Kind::Check).with(|spec| spec.backup.as_mut().unwrap().id = None);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert_eq!(repository(&told).kept_backups, 1);
    assert!(repository(&told).findings[0].contains("`b2` is no complete backup"), "{:?}", repository(&told).findings);
}

#[test]
fn a_deleted_backup_leaves_nothing_and_deleting_it_again_is_fine() {
    let job = next(backed_up(), Kind::Delete);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert_eq!(repository(&told).removed_backups, 1);
    assert_eq!(std::fs::read_dir(job.dest("")).unwrap().count(), 0);
    let (result, told) = next(job, Kind::Delete).try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert!(repository(&told).findings[0].contains("no backup `b1`"));
}

#[test]
fn a_prune_goes_on_with_what_was_being_deleted_and_keeps_the_rest() {
    let job = backed_up();
    write_below(job.dest(".old.deleting/f"), "left");
    let job = next(job, Kind::Prune).with(|spec| spec.backup.as_mut().unwrap().id = None);
    let (result, told) = job.try_run();
    assert_eq!(result.unwrap().ending, WorkEnding::Complete);
    assert_eq!((repository(&told).removed_backups, repository(&told).kept_backups), (1, 1));
    assert!(!job.dest(".old.deleting").exists() && job.dest("b1").exists());
    let job = next(job, Kind::Prune).with(|spec| spec.backup.as_mut().unwrap().keep.last = Some(1));
    assert!(job.try_run().0.unwrap_err().message.contains("backup.keep"));
}

#[test]
fn a_backup_that_is_not_there_cannot_be_restored() {
    let failure = turned(job(Kind::Restore)).try_run().0.unwrap_err();
    assert_eq!(failure.code, FailureCode::BadSpec);
    assert!(failure.message.contains("no backup `b1`"), "{failure}");
}
