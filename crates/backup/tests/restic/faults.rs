//! Every error of a source shows as a fault, and an order to stop leaves no snapshot and a sound repository.

use std::sync::Arc;
use std::time::Duration;

use copy::{Action, Ending, ErrorClass, OnFault, StopReason, StopToken};
use rustix::io::Errno;
use testkit::faulty::{Effect, Faults, FaultyTree, On};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::random::Random;
use testkit::{Call, Side};

use crate::kit::{Recorder, backup, backup_clean, options, place, reopen, restic_check, restore, try_backup};
use backup::restic::{BackupReport, Parent, SnapshotFilter};

fn model() -> TreeModel {
    let mut model = TreeModel::new();
    model.insert("d", Entry::dir().xattr(b"user.x", b"1"));
    model.insert("d/file", Entry::file(b"content").xattr(b"user.x", b"1"));
    model.insert("d/link", Entry::symlink(b"file"));
    model.insert("big", Entry::file(&Random::new(1).bytes(3_000_000)));
    model.insert("other", Entry::file(b"other"));
    model.insert("pipe", Entry::fifo());
    model
}

/// Backs up through a tree that fails once in this way.
fn faulty(on: On, errno: Errno, on_fault: OnFault) -> (BackupReport, usize) {
    let place = place();
    let faults = Faults::new();
    faults.add(on, Effect::Fail(errno));
    let source = FaultyTree::new(MemoryTree::from_model(&model()), &faults);
    let mut options = options();
    options.on_fault = on_fault;
    let report = backup(&place.repository, &source, &options);
    assert!(!faults.injected().is_empty(), "nothing failed");
    let snapshots = place.repository.snapshots(&SnapshotFilter::default()).unwrap().len();
    // What was saved can be restored, whatever is missing in it.
    if let Some(snapshot) = &report.snapshot {
        let dest = MemoryTree::new();
        assert_eq!(restore(&place.repository, snapshot, &dest).faults, Vec::new());
    }
    restic_check(&place.path());
    (report, snapshots)
}

#[test]
fn what_cannot_be_read_is_a_fault_and_stops_where_that_is_asked_for() {
    let cases = [
        ("d", On::source().call(Call::OpenDir).name(b"d")),
        ("d", On::source().call(Call::List).path(b"d")),
        ("d", On::source().call(Call::OwnXattrs).path(b"d")),
        ("d/file", On::source().call(Call::Stat).name(b"file")),
        ("d/file", On::source().call(Call::OpenFile).name(b"file")),
        ("d/file", On::source().call(Call::Read).name(b"file")),
        ("d/file", On::source().call(Call::FileXattrs).name(b"file")),
        ("d/link", On::source().call(Call::ReadLink).name(b"link")),
        ("d/link", On::source().call(Call::Xattrs).name(b"link")),
        ("pipe", On::source().call(Call::Xattrs).name(b"pipe")),
        ("big", On::source().call(Call::Read).name(b"big").after(2)),
    ];
    for (path, on) in cases {
        let what = format!("{on:?}");
        let (report, snapshots) = faulty(on.clone(), Errno::ACCESS, OnFault::Continue);
        let faults: Vec<_> = report.report.faults.iter().map(|fault| fault.path.to_string()).collect();
        assert_eq!(faults, [path], "{what}");
        assert_eq!(report.report.ending, Ending::WithFaults, "{what}");
        assert_eq!(report.report.counters.faults, 1);
        assert_eq!((report.snapshot.is_some(), snapshots), (true, 1), "{what}");
        let (report, snapshots) = faulty(on, Errno::ACCESS, OnFault::Stop);
        assert_eq!(report.report.ending, Ending::Stopped(StopReason::Fault), "{what}");
        assert_eq!((report.snapshot.is_some(), snapshots), (false, 0), "{what}");
    }
}

#[test]
fn a_passing_error_is_tried_again_and_a_vanished_entry_is_no_fault() {
    let (report, _) = faulty(On::source().call(Call::Read).name(b"big").once(), Errno::AGAIN, OnFault::Stop);
    assert_eq!(report.report.ending, Ending::Complete);
    assert_eq!(report.report.counters.retries, 1);
    for call in [Call::Stat, Call::OpenFile] {
        let (report, _) = faulty(On::source().call(call).name(b"file"), Errno::NOENT, OnFault::Stop);
        assert_eq!(report.report.ending, Ending::Complete);
        assert_eq!(report.report.counters.action(Action::Vanished), 1);
    }
}

#[test]
fn a_root_that_cannot_be_read_is_an_error() {
    let place = place();
    let faults = Faults::new();
    faults.add(On::source().call(Call::Root), Effect::Fail(Errno::ACCESS));
    let source = FaultyTree::new(MemoryTree::from_model(&model()), &faults);
    let error = try_backup(&place.repository, &source, &options(), &Recorder::default(), &StopToken::new());
    assert!(error.is_err());
}

#[test]
fn a_file_that_changes_each_time_is_saved_with_a_fault_and_read_again_next_time() {
    let place = place();
    let tree = MemoryTree::from_model(&model());
    let faults = Faults::new();
    for times in 0..8 {
        let tree = tree.clone();
        let on = On::source().call(Call::Read).name(b"other").after(times).once();
        faults.add(on, Effect::run_once(move || tree.write("other", 0, &[times as u8; 9])));
    }
    let source = FaultyTree::new(tree.clone(), &faults);
    let report = backup(&place.repository, &source, &options());
    let found: Vec<_> = report.report.faults.iter().map(|f| (f.path.to_string(), f.error.class)).collect();
    assert_eq!(found, [("other".to_owned(), ErrorClass::Changed)]);
    restic_check(&place.path());
    let mut again = options();
    again.parent = Parent::This(report.snapshot.unwrap().into());
    let report = backup_clean(&place.repository, &tree, &again);
    assert_eq!(report.report.counters.opened_files, 1, "only the one that changed");
    let dest = MemoryTree::new();
    restore(&place.repository, &report.snapshot.unwrap(), &dest);
    crate::kit::assert_same(&tree, &dest);
}

#[test]
fn a_file_that_changed_once_is_read_again() {
    let place = place();
    let tree = MemoryTree::from_model(&model());
    for name in ["other", "big"] {
        let faults = Faults::new();
        let edited = tree.clone();
        let on = On::source().call(Call::Read).name(name.as_bytes()).once();
        faults.add(on, Effect::run_once(move || edited.write(name, 0, b"another content")));
        let report = backup_clean(&place.repository, &FaultyTree::new(tree.clone(), &faults), &options());
        assert!(report.report.counters.retries >= 1);
        let dest = MemoryTree::new();
        restore(&place.repository, &report.snapshot.unwrap(), &dest);
        crate::kit::assert_same(&tree, &dest);
    }
}

#[test]
fn a_stop_at_any_moment_leaves_no_snapshot_and_a_sound_repository() {
    let place = place();
    let tree = MemoryTree::from_model(&model());
    let faults = Faults::new();
    let count = {
        let probe = crate::kit::place();
        backup_clean(&probe.repository, &FaultyTree::new(tree.clone(), &faults), &options());
        faults.count()
    };
    let mut stopped = 0;
    for number in 0..count {
        let (faults, stop) = (Faults::new(), StopToken::new());
        let order = stop.clone();
        faults.before(number, move || order.stop(StopReason::Cancel));
        let source = FaultyTree::new(tree.clone(), &faults);
        let report = try_backup(&place.repository, &source, &options(), &Recorder::default(), &stop);
        let snapshots = place.repository.snapshots(&SnapshotFilter::default()).unwrap();
        match report {
            Ok(report) if report.snapshot.is_none() => {
                assert_eq!(report.report.ending, Ending::Stopped(StopReason::Cancel));
                assert_eq!(snapshots, [], "stopped before operation {number}");
                stopped += 1;
            }
            Ok(report) => {
                assert_eq!(report.snapshot.as_slice(), snapshots);
                place.repository.delete_snapshots(&[snapshots[0].id]).unwrap();
            }
            Err(error) => assert!(matches!(error, backup::restic::RepositoryError::Stopped), "{error:?}"),
        }
    }
    assert!(stopped > count / 2, "{stopped} of {count}");
    restic_check(&place.path());
    backup_clean(&reopen(&place), &tree, &options());
    restic_check(&place.path());
}

#[test]
fn progress_never_falls_and_is_whole_only_at_the_end() {
    let place = place();
    let mut model = model();
    for number in 0..300 {
        model.insert(format!("d/{number}"), Entry::file(&Random::new(number).bytes(20_000)));
    }
    let faults = Faults::new();
    faults.add(
        On::source().call(Call::OpenFile).side(Side::Source),
        Effect::Run(Arc::new(|_| std::thread::sleep(Duration::from_millis(4)))),
    );
    let source = FaultyTree::new(MemoryTree::from_model(&model), &faults);
    let recorder = Arc::new(Recorder::default());
    let done = try_backup(&place.repository, &source, &options(), &*recorder, &StopToken::new()).unwrap();
    assert_eq!(done.report.ending, Ending::Complete);
    let told = recorder.progress.lock().unwrap();
    assert!(told.len() >= 3, "{}", told.len());
    assert!(told.is_sorted_by(|a, b| a.percent <= b.percent));
    assert!(told[..told.len() - 1].iter().all(|progress| progress.percent < 100.0));
    let last = told.last().unwrap();
    assert_eq!((last.percent, last.stage), (100.0, copy::Stage::Done));
    assert_eq!(last.counters.done_entries, model.len() as u64);
}
