//! Storage that takes little, takes nothing, is full, or tells of lost writes only at `close` and `sync`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use copy::{
    Action, CopyOptions, CopyReport, Ending, EntryKind, ErrorClass, FsOp, Limits, Mover, Movers, OnFault, StopReason,
    StopToken,
};
use rustix::io::Errno;
use testkit::Call;
use testkit::faulty::{Effect, Faults, FaultyTree, Hook, On};
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Entry, TreeModel};

use crate::faults::everything;
use crate::kit::{Recorder, assert_clean, assert_holds, assert_tidy, in_order, run, run_clean, try_copy};

fn with_faults(source: &MemoryTree, dest: &MemoryTree, options: &CopyOptions, faults: &Faults) -> CopyReport {
    run(&FaultyTree::new(source.clone(), faults), &FaultyTree::new(dest.clone(), faults), options)
}

/// Every way of moving bytes that memory trees allow.
fn each_mover(check: impl Fn(&CopyOptions)) {
    let limits = Limits { range_bytes: 1, buffer_bytes: 1, ..in_order().limits };
    for mover in [Mover::Buffered, Mover::Sparse, Mover::Ranges] {
        check(&CopyOptions { movers: Movers::forced(mover), limits: limits.clone(), ..in_order() });
    }
    check(&in_order());
}

#[test]
fn short_reads_and_writes_are_gone_on_with() {
    each_mover(|options| {
        let (source, dest, faults) = (MemoryTree::from_model(&everything()), MemoryTree::new(), Faults::new());
        faults.short_reads(1234);
        faults.short_writes(777);
        assert_clean(&with_faults(&source, &dest, options, &faults));
        assert!(crate::kit::differing(&everything(), &dest.snapshot()).is_empty());
    });
}

fn three_files() -> TreeModel {
    let bytes = vec![7; 200_000];
    TreeModel::new().with("a", Entry::file(b"small")).with("b", Entry::file(&bytes)).with("c", Entry::file(b"other"))
}

/// What is expected of a copy in which only the file `b` cannot be right.
fn check_only_b(report: &CopyReport, dest: &MemoryTree, op: FsOp, class: ErrorClass) {
    assert_eq!(report.ending, Ending::WithFaults);
    let faults: Vec<_> = report.faults.iter().map(|f| (f.path.to_string(), f.error.op, f.error.class)).collect();
    assert_eq!(faults, [("b".to_owned(), op, class)]);
    let now = dest.snapshot();
    assert!(now.get("b").is_none(), "a file that is not right stays");
    assert!(now.get("a").is_some() && now.get("c").is_some());
    assert_tidy(dest);
    run_clean(&MemoryTree::from_model(&three_files()), dest, &in_order());
    assert_holds(dest, &three_files());
}

#[test]
fn a_write_that_takes_nothing_is_a_fault_and_no_endless_loop() {
    each_mover(|options| {
        let (source, dest, faults) = (MemoryTree::from_model(&three_files()), MemoryTree::new(), Faults::new());
        faults.add(On::any().call(Call::Write).name(b"b"), Effect::Short(0));
        check_only_b(&with_faults(&source, &dest, options, &faults), &dest, FsOp::Write, ErrorClass::Io);
    });
}

#[test]
fn a_read_that_gives_nothing_is_a_file_that_shrank() {
    each_mover(|options| {
        let (source, dest, faults) = (MemoryTree::from_model(&three_files()), MemoryTree::new(), Faults::new());
        faults.add(On::any().call(Call::Read).name(b"b"), Effect::Short(0));
        let report = with_faults(&source, &dest, options, &faults);
        assert_eq!(report.counters.retries, u64::from(options.limits.retries));
        check_only_b(&report, &dest, FsOp::Read, ErrorClass::Changed);
    });
}

#[test]
fn a_lost_write_that_close_tells_takes_the_file_back() {
    each_mover(|options| {
        for (errno, class) in
            [(Errno::IO, ErrorClass::Io), (Errno::NOSPC, ErrorClass::NoSpace), (Errno::DQUOT, ErrorClass::NoSpace)]
        {
            let (source, dest, faults) = (MemoryTree::from_model(&three_files()), MemoryTree::new(), Faults::new());
            faults.add(On::dest().call(Call::Close).name(b"b"), Effect::Fail(errno));
            let report = with_faults(&source, &dest, options, &faults);
            assert_eq!(report.counters.retries, 0, "a lost write is told once");
            check_only_b(&report, &dest, FsOp::Close, class);
        }
    });
}

#[test]
fn a_lost_write_of_a_frozen_file_takes_it_back_too() {
    let mut model = three_files();
    model.edit("b", |e| e.flags = copy::InodeFlags(0x10));
    let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
    faults.add(On::dest().call(Call::Close).name(b"b"), Effect::Fail(Errno::IO));
    check_only_b(&with_faults(&source, &dest, &in_order(), &faults), &dest, FsOp::Close, ErrorClass::Io);
}

/// Size and time are right when `close` tells that the bytes are not. Other names may lead to the file by then.
#[test]
fn a_lost_write_of_a_file_with_several_names_is_repaired_by_the_next_run() {
    let model = three_files().with_link("b", "b2").with_link("b", "z");
    each_mover(|options| {
        let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
        let lost = dest.clone();
        let lose: Hook = Arc::new(move |operation| lost.rot(&operation.path, 100));
        // Which name comes first is up to the listing: all but the first become links, and nothing is closed.
        for name in [&b"b"[..], b"b2", b"z"] {
            faults.add(On::dest().call(Call::Close).name(name), Effect::Run(lose.clone()));
            faults.add(On::dest().call(Call::Close).name(name), Effect::Fail(Errno::IO));
        }
        let report = with_faults(&source, &dest, options, &faults);
        assert_eq!(report.ending, Ending::WithFaults);
        assert_tidy(&dest);
        run_clean(&source, &dest, options);
        assert!(crate::kit::differing(&model, &dest.snapshot()).is_empty());
    });
}

#[test]
fn what_sync_tells_is_a_fault_and_nothing_is_called_durable() {
    for errno in [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::STALE] {
        let (source, dest, faults) = (MemoryTree::from_model(&three_files()), MemoryTree::new(), Faults::new());
        faults.sync_gives(errno);
        let report = with_faults(&source, &dest, &in_order(), &faults);
        assert_eq!((report.ending, report.durable), (Ending::WithFaults, false), "{errno}");
        let faults: Vec<_> = report.faults.iter().map(|f| (f.path.is_root(), f.error.op)).collect();
        assert_eq!(faults, [(true, FsOp::Sync)], "{errno}");
        assert_eq!(report.counters.faults, 1);
    }
    let (source, dest) = (MemoryTree::from_model(&three_files()), MemoryTree::new());
    let report = run_clean(&source, &dest, &CopyOptions { sync: copy::Sync::Never, ..in_order() });
    assert!(!report.durable);
}

#[test]
fn a_full_destination_ends_the_run_early() {
    let mut model = TreeModel::new();
    for i in 0..500 {
        model.insert(format!("{i:03}"), Entry::file(&[b'x'; 4096]));
    }
    for full in [Errno::NOSPC, Errno::DQUOT] {
        let how = MemoryOptions { capacity_bytes: 40 * 4096, full, ..MemoryOptions::default() };
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::with_options(how));
        let report = run(&source, &dest, &in_order());
        assert_eq!(report.ending, Ending::Stopped(StopReason::Fault));
        assert!(report.warnings.iter().any(|w| w.contains("full")), "{:?}", report.warnings);
        assert_eq!(report.fault_classes, [(ErrorClass::NoSpace, u64::from(in_order().limits.no_space_faults))]);
        // What is there is right, and nothing half-made is left.
        let now = dest.snapshot();
        assert_eq!(now.count(EntryKind::File), 40);
        assert!(now.iter().all(|(path, e)| path.is_empty() || Some(e) == model.get(path)));
        assert_tidy(&dest);
        assert_eq!(report.counters.action(Action::Created), 40);
    }
}

#[test]
fn no_room_for_entries_ends_the_run_early() {
    let mut model = TreeModel::new();
    for i in 0..200 {
        model.insert(format!("{i:03}"), if i % 2 == 0 { Entry::dir() } else { Entry::symlink(b"x") });
    }
    let how = MemoryOptions { capacity_entries: 50, ..MemoryOptions::default() };
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::with_options(how));
    let report = run(&source, &dest, &in_order());
    assert_eq!(report.ending, Ending::Stopped(StopReason::Fault));
    assert!(dest.snapshot().len() <= 50);
    assert_tidy(&dest);
}

#[test]
fn a_stop_at_the_first_fault_is_a_stop() {
    let mut model = TreeModel::new();
    for i in 0..100 {
        model.insert(format!("{i:03}"), Entry::file(b"x"));
    }
    let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
    faults.fail_on(FsOp::Open, b"005", Errno::ACCESS);
    let report = with_faults(&source, &dest, &CopyOptions { on_fault: OnFault::Stop, ..in_order() }, &faults);
    assert_eq!(report.ending, Ending::Stopped(StopReason::Fault));
    assert_eq!(report.counters.faults, 1);
    assert!(report.counters.done_entries < 100);
}

#[test]
fn faults_are_all_counted_and_the_first_are_kept() {
    let mut model = TreeModel::new();
    for i in 0..100 {
        model.insert(format!("{i:03}"), Entry::file(b"x"));
    }
    let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
    faults.add(On::source().call(Call::OpenFile), Effect::Fail(Errno::ACCESS));
    let mut options = in_order();
    options.limits.faults_kept = 7;
    let report = with_faults(&source, &dest, &options, &faults);
    assert_eq!((report.faults.len(), report.counters.faults), (7, 100));
    assert_eq!(report.fault_classes, [(ErrorClass::Denied, 100)]);
    assert_eq!(report.ending, Ending::WithFaults);
    assert_eq!(report.counters.action(Action::Failed), 100);
    // Whoever wants all of them is told all of them.
    let told = Recorder::default();
    let (from, to) = (FaultyTree::new(source, &faults), FaultyTree::new(MemoryTree::new(), &faults));
    try_copy(&from, &to, &options, &told, &StopToken::new()).unwrap();
    assert_eq!((told.faults().len(), told.failed().len()), (7, 100));
}

#[test]
fn retries_pause_and_end() {
    let (source, dest, faults) = (MemoryTree::from_model(&three_files()), MemoryTree::new(), Faults::new());
    faults.add(On::source().call(Call::OpenFile).name(b"a"), Effect::Fail(Errno::STALE));
    let mut options = in_order();
    options.limits.retries = 3;
    options.limits.retry_pause = Duration::from_millis(20);
    let started = Instant::now();
    let report = with_faults(&source, &dest, &options, &faults);
    assert_eq!((report.counters.faults, report.counters.retries), (1, 3));
    // 20, 40 and 80 ms.
    assert!(started.elapsed() >= Duration::from_millis(140), "{:?}", started.elapsed());
}
