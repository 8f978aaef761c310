//! What a run tells on the way, and how it is slowed down and stopped.

use std::time::{Duration, Instant};

use copy::{
    CopyContext, CopyOptions, CopyReport, Ending, EntryKind, Limits, Mover, Movers, Progress, Stage, StopReason,
    StopToken, Throttle, Verify, copy_tree,
};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};

use crate::kit::{Recorder, assert_holds, assert_tidy, in_order, options, run_clean};

fn files(count: u32, bytes: usize) -> TreeModel {
    let mut model = TreeModel::new().with("d", Entry::dir());
    for i in 0..count {
        model.insert(format!("d/{i:04}"), Entry::file(&vec![i as u8 | 1; bytes]));
    }
    model
}

/// A copy under a throttle, with `meanwhile` running beside it.
fn run_beside(
    model: &TreeModel,
    options: &CopyOptions,
    throttle: &Throttle,
    meanwhile: impl FnOnce(&StopToken, &Throttle) + Send,
) -> (CopyReport, Recorder, MemoryTree) {
    let (source, dest, recorder) = (MemoryTree::from_model(model), MemoryTree::new(), Recorder::default());
    let stop = StopToken::new();
    let report = std::thread::scope(|scope| {
        let (token, beside) = (&stop, throttle);
        scope.spawn(move || meanwhile(token, beside));
        let cx = CopyContext { source: &source, dest: &dest, monitor: &recorder, stop: &stop, throttle };
        copy_tree(&cx, options).unwrap()
    });
    (report, recorder, dest)
}

fn check_progress(all: &[Progress], ending: Ending) {
    assert!(all.len() >= 3, "{} looks", all.len());
    for pair in all.windows(2) {
        assert!(pair[0].percent <= pair[1].percent, "{} then {}", pair[0].percent, pair[1].percent);
        assert!(pair[0].stage <= pair[1].stage);
        // The verification counts for itself.
        let same_stage = pair[0].stage == pair[1].stage;
        assert!(!same_stage || pair[0].counters.done_entries <= pair[1].counters.done_entries);
        assert!(!same_stage || pair[0].elapsed <= pair[1].elapsed);
    }
    for look in all {
        assert!((0.0..=100.0).contains(&look.percent));
        assert_eq!(look.percent >= 100.0, look.stage == Stage::Done, "{look:?}");
    }
    assert_eq!(all.iter().filter(|look| look.stage == Stage::Done).count(), usize::from(ending == Ending::Complete));
}

#[test]
fn percent_only_rises_and_is_100_at_the_end_only() {
    for (workers, movers, verify) in [
        (Some(1), Movers::default(), Verify::None),
        (Some(3), Movers::forced(Mover::Ranges), Verify::Content),
        (None, Movers::default(), Verify::Attributes),
    ] {
        let limits = Limits { workers, buffer_bytes: 1, ..options().limits };
        let options = CopyOptions { movers, verify, limits, ..options() };
        let (report, recorder, _) =
            run_beside(&files(60, 100_000), &options, &Throttle::new(Some(8_000_000), None), |_, _| {});
        assert_eq!(report.ending, Ending::Complete);
        let all = recorder.progress();
        check_progress(&all, report.ending);
        let last = all.last().unwrap();
        assert_eq!(last.counters.done_entries, report.counters.done_entries);
        assert_eq!(last.total_entries, Some(62));
        assert!(all.iter().any(|look| look.current.is_some()), "nobody says which file");
        assert!(all.iter().any(|look| look.bytes_per_second > 1_000_000.0 && look.bytes_per_second < 40_000_000.0));
    }
}

#[test]
fn a_stopped_run_never_says_100() {
    let (report, recorder, dest) =
        run_beside(&files(100, 50_000), &in_order(), &Throttle::new(Some(4_000_000), None), |stop, _| {
            std::thread::sleep(Duration::from_millis(500));
            stop.stop(StopReason::Cancel);
        });
    assert_eq!((report.ending, report.counters.faults), (Ending::Stopped(StopReason::Cancel), 0));
    let all = recorder.progress();
    assert!(all.iter().all(|look| look.percent < 100.0 && look.stage != Stage::Done));
    assert_tidy(&dest);
}

#[test]
fn a_stop_in_the_middle_of_a_file_takes_less_than_a_second() {
    let model = files(1, 20_000_000);
    for mover in [Mover::Buffered, Mover::Sparse, Mover::Ranges] {
        let limits = Limits { workers: Some(2), ..options().limits };
        let options = CopyOptions { movers: Movers::forced(mover), limits, ..options() };
        let stopped = std::sync::Mutex::new(None);
        let (report, _, dest) = run_beside(&model, &options, &Throttle::new(Some(1_000_000), None), |stop, _| {
            std::thread::sleep(Duration::from_millis(400));
            *stopped.lock().unwrap() = Some(Instant::now());
            stop.stop(StopReason::Shutdown);
        });
        let took = stopped.lock().unwrap().unwrap().elapsed();
        assert!(took < Duration::from_secs(1), "{took:?} by {}", mover.as_str());
        assert_eq!(
            (report.ending, report.counters.faults),
            (Ending::Stopped(StopReason::Shutdown), 0),
            "{:?}",
            report.faults
        );
        assert_tidy(&dest);
        // What is there of it does not look finished, and the next run finishes it.
        let now = dest.snapshot();
        if let Some(part) = now.get("d/0000") {
            assert_ne!(part.mtime, model.get("d/0000").unwrap().mtime);
        }
        run_clean(&MemoryTree::from_model(&model), &dest, &in_order());
        assert_holds(&dest, &model);
    }
}

#[test]
fn a_stop_before_the_run_does_nothing() {
    let (source, dest, stop) = (MemoryTree::from_model(&files(5, 5)), MemoryTree::new(), StopToken::new());
    stop.stop(StopReason::Deadline);
    let report = crate::kit::try_copy(&source, &dest, &in_order(), &copy::NoMonitor, &stop).unwrap();
    assert_eq!(report.ending, Ending::Stopped(StopReason::Deadline));
    assert!(dest.snapshot().is_empty());
}

#[test]
fn the_bandwidth_limit_holds() {
    let mut options = in_order();
    options.limits.bandwidth_bytes_per_second = Some(2_000_000);
    let started = Instant::now();
    let (report, ..) = run_beside(&files(20, 100_000), &options, &Throttle::default(), |_, _| {});
    let took = started.elapsed();
    assert_eq!(report.ending, Ending::Complete);
    // 2 MB at 2 MB/s; a tenth of a second may be ahead.
    assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn the_operations_limit_holds() {
    let mut options = options();
    options.limits.operations_per_second = Some(200);
    let started = Instant::now();
    let (report, ..) = run_beside(&files(150, 1), &options, &Throttle::default(), |_, _| {});
    let took = started.elapsed();
    assert_eq!(report.ending, Ending::Complete);
    assert!(took >= Duration::from_millis(550) && took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn limits_can_be_changed_while_somebody_waits() {
    let throttle = Throttle::new(Some(10), Some(100));
    let started = Instant::now();
    let (report, ..) = run_beside(&files(50, 100_000), &options(), &throttle, |_, throttle| {
        std::thread::sleep(Duration::from_millis(300));
        throttle.set_bandwidth(Some(100_000_000));
        throttle.set_operations(None);
    });
    assert_eq!(report.ending, Ending::Complete);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn an_empty_tree_is_done_at_once() {
    let (report, recorder, dest) = run_beside(&TreeModel::new(), &options(), &Throttle::default(), |_, _| {});
    assert_eq!(report.ending, Ending::Complete);
    assert_eq!(report.counters.kind(EntryKind::Dir), 1);
    assert_eq!(recorder.progress().last().map(|look| look.percent), Some(100.0));
    assert_holds(&dest, &TreeModel::new());
    assert_eq!((recorder.faults().len(), recorder.warnings().len()), (0, 0));
}

#[test]
fn a_fixed_number_of_workers_is_kept() {
    for workers in [1, 2, 7] {
        let limits = Limits { workers: Some(workers), ..options().limits };
        let (report, recorder, _) = run_beside(
            &files(50, 20_000),
            &CopyOptions { limits, ..options() },
            &Throttle::new(Some(4_000_000), None),
            |_, _| {},
        );
        assert_eq!(report.workers_max, workers);
        assert!(recorder.progress().iter().all(|look| look.workers == workers));
    }
}

#[test]
fn of_one_large_file_it_is_known_how_far_it_is() {
    for mover in [Mover::Buffered, Mover::Ranges] {
        let limits = Limits { workers: Some(2), buffer_bytes: 1, ..options().limits };
        let options = CopyOptions { movers: Movers::forced(mover), limits, ..options() };
        let (report, recorder, _) =
            run_beside(&files(1, 12_000_000), &options, &Throttle::new(Some(6_000_000), None), |_, _| {});
        assert_eq!(report.ending, Ending::Complete);
        let all = recorder.progress();
        check_progress(&all, report.ending);
        let looks = all.iter().filter_map(|look| Some((look.percent, look.current.as_ref()?.percent?)));
        let looks: Vec<_> = looks.collect();
        assert!(looks.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{looks:?}");
        // The file is nearly all there is to do, so the whole is about as far as the file.
        let near = looks.iter().filter(|(whole, file)| *file > 20.0 && (whole - file).abs() < 10.0).count();
        assert!(near >= 2, "{} {looks:?}", mover.as_str());
    }
}
