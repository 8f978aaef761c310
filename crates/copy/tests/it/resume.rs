//! Stopped, killed and crashed runs: the next one ends with the same tree and does nothing twice that was proven done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use copy::{
    Action, CopyOptions, CopyReport, Ending, EntryKind, FsOp, Records, RelPath, StopReason, StopToken, Throttle,
};
use rustix::io::Errno;
use testkit::disk::TempDir;
use testkit::faulty::{Effect, Faults, FaultyTree, On};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::{Call, Side};
use xxhash_rust::xxh3;

use crate::faults::{everything, outdated};
use crate::incremental::MIRROR;
use crate::kit::{Recorder, assert_tidy, differing, in_order, run_clean, run_recorded, try_copy};

fn remembering(state: &TempDir) -> CopyOptions {
    CopyOptions { state_dir: Some(state.path().join("state")), delete: MIRROR, ..in_order() }
}

/// A run that is stopped before the operation of that number.
fn stopped_at(source: &MemoryTree, dest: &MemoryTree, options: &CopyOptions, number: u64) -> (CopyReport, Recorder) {
    let (faults, stop, recorder) = (Faults::new(), StopToken::new(), Recorder::default());
    let token = stop.clone();
    faults.before(number, move || token.stop(StopReason::Cancel));
    let (from, to) = (FaultyTree::new(source.clone(), &faults), FaultyTree::new(dest.clone(), &faults));
    let options = CopyOptions { records: Records::All, ..options.clone() };
    let report = try_copy(&from, &to, &options, &recorder, &stop).unwrap();
    (report, recorder)
}

fn operations(source: &TreeModel, dest: &TreeModel, options: &CopyOptions) -> u64 {
    let (source, dest, faults) = (MemoryTree::from_model(source), MemoryTree::from_model(dest), Faults::new());
    run_clean(&FaultyTree::new(source, &faults), &FaultyTree::new(dest, &faults), options);
    faults.count()
}

fn files_with(recorder: &Recorder, actions: &[Action]) -> BTreeSet<RelPath> {
    let records = recorder.records().into_iter();
    records
        .filter(|r| r.kind == Some(EntryKind::File) && r.action.is_some_and(|a| actions.contains(&a)))
        .map(|r| r.path)
        .collect()
}

#[test]
fn a_run_that_is_stopped_anywhere_is_gone_on_with() {
    let bare = CopyOptions { delete: MIRROR, ..in_order() };
    for (name, before) in [("fresh", TreeModel::new()), ("replace", outdated())] {
        for workers in [1, 4] {
            for number in (0..operations(&everything(), &before, &bare)).step_by(5) {
                let state = TempDir::new();
                let mut options = remembering(&state);
                options.limits.workers = Some(workers);
                let (source, dest) = (MemoryTree::from_model(&everything()), MemoryTree::from_model(&before));
                let (first, done) = stopped_at(&source, &dest, &options, number);
                assert_tidy(&dest);
                let what = format!("{name} {workers} workers, stopped at {number}: {:?}", first.faults);
                // Cancelled is not failed.
                assert_eq!(first.counters.faults, 0, "{what}");
                assert!(matches!(first.ending, Ending::Stopped(StopReason::Cancel) | Ending::Complete), "{what}");
                let (second, again) = run_recorded(&source, &dest, &options);
                assert_eq!(second.ending, Ending::Complete, "{what} {:?}", second.faults);
                assert_eq!(differing(&everything(), &dest.snapshot()), BTreeSet::new(), "{what}");
                let twice: Vec<_> = files_with(&done, &[Action::Created, Action::Replaced])
                    .intersection(&files_with(&again, &[Action::Created, Action::Replaced]))
                    .cloned()
                    .collect();
                assert!(twice.is_empty(), "{what}: copied twice: {twice:?}");
            }
        }
    }
}

fn many_files(names: std::ops::Range<u32>) -> TreeModel {
    let mut model = TreeModel::new().with("d", Entry::dir());
    for i in names {
        let bytes: Vec<u8> = (0..10_000_u32).map(|at| (at + i) as u8 | 1).collect();
        model.insert(format!("d/{i:03}"), Entry::file(&bytes));
    }
    model
}

fn state_file(dir: &Path) -> PathBuf {
    let states: Vec<_> = std::fs::read_dir(dir.join("state"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "state"))
        .collect();
    assert_eq!(states.len(), 1);
    states[0].clone()
}

/// Makes what is remembered the work of an earlier boot of the machine.
fn reboot(state: &TempDir) {
    let path = state_file(state.path());
    let text = std::fs::read_to_string(&path).unwrap();
    let body: String = text
        .lines()
        .filter(|line| !line.starts_with("sum "))
        .map(|line| {
            if line.starts_with("boot ") {
                "boot 01234567-89ab-cdef-0123-456789abcdef\n".into()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    std::fs::write(&path, format!("{body}sum {:016x}\n", xxh3::xxh3_64(body.as_bytes()))).unwrap();
}

#[test]
fn after_a_crash_what_no_barrier_covered_is_compared_and_repaired() {
    for stop_after in [0, 1, 7, 20, 29] {
        let state = TempDir::new();
        let options = remembering(&state);
        let (source, dest) = (MemoryTree::from_model(&many_files(0..20)), MemoryTree::new());
        run_clean(&source, &dest, &options);
        for (path, entry) in many_files(20..50).iter().filter(|(_, e)| e.kind() == EntryKind::File) {
            source.put(path, entry);
        }
        // Number of the operation after so many new files were closed.
        let (faults, stop) = (Faults::new(), StopToken::new());
        let token = stop.clone();
        faults.before_first(On::dest().call(Call::Close).after(stop_after), move || token.stop(StopReason::Shutdown));
        let to = FaultyTree::new(dest.clone(), &faults);
        let report = try_copy(&source, &to, &options, &copy::NoMonitor, &stop).unwrap();
        assert_eq!(report.ending, Ending::Stopped(StopReason::Shutdown));
        assert!(!report.durable);
        dest.crash();
        reboot(&state);
        source.reset_calls();
        let (report, recorder) = run_recorded(&source, &dest, &options);
        assert_eq!(report.ending, Ending::Complete, "{:?}", report.faults);
        assert_eq!(differing(&source.snapshot(), &dest.snapshot()), BTreeSet::new());
        // What the barrier of the first run covered was not even opened.
        let opened = source.calls(Side::Source).of(Call::OpenFile);
        assert!(opened <= 60, "{opened}");
        for i in 0..20 {
            assert_eq!(recorder.record(format!("d/{i:03}").as_bytes()).action, Some(Action::Unchanged));
        }
        assert_eq!(files_with(&recorder, &[Action::Unchanged]).len(), 20);
    }
}

#[test]
fn without_a_crash_the_same_boot_believes_what_it_wrote() {
    let state = TempDir::new();
    let options = remembering(&state);
    let (source, dest) = (MemoryTree::from_model(&many_files(0..30)), MemoryTree::new());
    let (_, done) = stopped_at(&source, &dest, &options, 150);
    let complete = files_with(&done, &[Action::Created]);
    assert!(!complete.is_empty() && complete.len() < 30, "{}", complete.len());
    let (_, again) = run_recorded(&source, &dest, &options);
    assert_eq!(files_with(&again, &[Action::Unchanged]), complete);
}

#[test]
fn a_power_cut_with_no_barrier_at_all_loses_nothing() {
    for number in (0..400).step_by(23) {
        let state = TempDir::new();
        let options = remembering(&state);
        let (source, dest) = (MemoryTree::from_model(&many_files(0..30)), MemoryTree::new());
        stopped_at(&source, &dest, &options, number);
        dest.crash();
        reboot(&state);
        run_clean(&source, &dest, &options);
        assert_eq!(differing(&source.snapshot(), &dest.snapshot()), BTreeSet::new(), "{number}");
        run_clean(&source, &dest, &options);
    }
}

#[test]
fn writes_that_storage_lost_are_doubted_on_the_same_boot() {
    let state = TempDir::new();
    let options = remembering(&state);
    let (source, dest, faults) = (MemoryTree::from_model(&many_files(0..30)), MemoryTree::new(), Faults::new());
    // Storage loses what it had taken, and says so once.
    let lost = dest.clone();
    faults.before_first(On::dest().call(Call::Sync), move || lost.crash());
    faults.add(On::dest().call(Call::Sync).once(), Effect::Fail(Errno::IO));
    let (report, _) = run_recorded(&source, &FaultyTree::new(dest.clone(), &faults), &options);
    assert_eq!((report.ending, report.durable), (Ending::WithFaults, false));
    assert!(!differing(&source.snapshot(), &dest.snapshot()).is_empty(), "nothing was lost");
    run_clean(&source, &dest, &options);
    assert_eq!(differing(&source.snapshot(), &dest.snapshot()), BTreeSet::new());
}

/// A run slow enough for barriers on the way.
fn slowly(source: &MemoryTree, dest: &FaultyTree<MemoryTree>, options: &CopyOptions) -> CopyReport {
    let (stop, throttle) = (StopToken::new(), Throttle::new(None, Some(300)));
    let cx = copy::CopyContext { source, dest, monitor: &copy::NoMonitor, stop: &stop, throttle: &throttle };
    let mut options = options.clone();
    options.limits.barrier_interval = Duration::from_millis(40);
    copy::copy_tree(&cx, &options).unwrap()
}

#[test]
fn barriers_on_the_way_limit_what_a_crash_costs() {
    let state = TempDir::new();
    let options = remembering(&state);
    let (source, dest, faults) = (MemoryTree::from_model(&many_files(0..120)), MemoryTree::new(), Faults::new());
    faults.fail_on(FsOp::Open, b"999", Errno::IO);
    let report = slowly(&source, &FaultyTree::new(dest.clone(), &faults), &options);
    assert_eq!(report.ending, Ending::Complete);
    let syncs = faults.record().iter().filter(|o| o.call == Call::Sync).count();
    assert!(syncs >= 3, "{syncs} barriers");
    // As if the run had been killed: what is remembered is not complete, and of another boot.
    let path = state_file(state.path());
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("complete yes", "complete no")).unwrap();
    reboot(&state);
    source.reset_calls();
    run_clean(&source, &dest, &options);
    assert_eq!(source.calls(Side::Source).of(Call::OpenFile), 0, "all of it was covered");
}

#[test]
fn a_barrier_that_tells_of_lost_writes_ends_the_run() {
    let state = TempDir::new();
    let options = remembering(&state);
    let (source, dest, faults) = (MemoryTree::from_model(&many_files(0..300)), MemoryTree::new(), Faults::new());
    faults.sync_gives(Errno::IO);
    let report = slowly(&source, &FaultyTree::new(dest.clone(), &faults), &options);
    assert_eq!(report.ending, Ending::Stopped(StopReason::Fault));
    assert!(report.faults.iter().any(|f| f.error.op == FsOp::Sync), "{:?}", report.faults);
    assert!(!report.durable && report.counters.done_entries < 300);
    dest.crash();
    run_clean(&source, &dest, &options);
    assert_eq!(differing(&source.snapshot(), &dest.snapshot()), BTreeSet::new());
}

#[test]
fn a_damaged_memory_is_doubted_as_a_whole() {
    let state = TempDir::new();
    let options = remembering(&state);
    let (source, dest) = (MemoryTree::from_model(&many_files(0..10)), MemoryTree::new());
    run_clean(&source, &dest, &options);
    std::fs::write(state_file(state.path()), b"\0\0\0").unwrap();
    dest.rot("d/003", 5);
    run_clean(&source, &dest, &options);
    assert_eq!(differing(&source.snapshot(), &dest.snapshot()), BTreeSet::new());
}

#[test]
fn a_dry_run_remembers_nothing() {
    let state = TempDir::new();
    let (source, dest) = (MemoryTree::from_model(&many_files(0..3)), MemoryTree::new());
    run_clean(&source, &dest, &CopyOptions { dry_run: true, ..remembering(&state) });
    assert!(!state.path().join("state").exists());
}
