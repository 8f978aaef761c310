//! Kills and stops at random moments, spread over whole runs, one or several in a row.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testkit::disk::Place;
use testkit::model::TreeModel;
use testkit::random::{Random, seed};

use crate::harness::{Job, Report, words};
use crate::tree;

fn rounds() -> u32 {
    std::env::var("MANILA_DATA_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// How long an interrupted run would take: long beside the start of a process, short enough for hundreds.
const RUN: Duration = Duration::from_millis(450);
/// What a stopped run may take to end; a second is promised, the rest is for a machine that does other things too.
const STOP: Duration = Duration::from_secs(3);

/// How rounds went, to see that the moments were spread.
#[derive(Default)]
struct Tally {
    too_late: AtomicU32,
    /// Runs by the tenths of the files that were there after them.
    tenths: [AtomicU32; 11],
    kept: AtomicU32,
    /// Attributes of files whose content was complete already were set.
    updated: AtomicU32,
}

#[test]
fn a_copy_that_is_killed_again_and_again_is_whole_in_the_end() {
    let (seed, rounds) = (seed(), rounds());
    eprintln!("MANILA_DATA_CRASH_SEED={seed} MANILA_DATA_CRASH_ROUNDS={rounds}");
    let place = Place::new(2 << 30);
    let source_dir = place.path("source");
    std::fs::create_dir(&source_dir).unwrap();
    let source = tree::build(&source_dir, &mut Random::new(seed));
    let tally = Tally::default();
    let next = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= rounds {
                        break;
                    }
                    let job = Job::new(&source_dir, place.path(&format!("round{number}")));
                    round(&job, &source, number, &mut Random::new(seed ^ u64::from(number) << 32), &tally);
                    job.remove();
                }
            });
        }
    });
    let files = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    eprintln!(
        "runs by tenths of the files that were complete when they were ended: {:?}; {} came too late; {} complete files \
         kept, of which {} got attributes",
        tally.tenths.each_ref().map(files),
        files(&tally.too_late),
        files(&tally.kept),
        files(&tally.updated),
    );
}

fn round(job: &Job, source: &TreeModel, number: u32, random: &mut Random, tally: &Tally) {
    let runs = if random.below(3) == 0 { 2 + random.below(3) } else { 1 };
    let mut finished = BTreeMap::new();
    for _ in 0..runs {
        let options = pace(source, random);
        let moment = Duration::from_micros(random.below(RUN.as_micros() as u64));
        let signal = match number % 10 {
            3 => Signal::TERM,
            7 => Signal::INT,
            _ => Signal::KILL,
        };
        let mut child = job.command(&options).spawn().unwrap();
        std::thread::sleep(moment);
        if child.try_wait().unwrap().is_some() {
            tally.too_late.fetch_add(1, Ordering::Relaxed);
        } else {
            kill_process(Pid::from_child(&child), signal).unwrap();
        }
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < STOP, "round {number} took {:?} to end by {signal:?}", start.elapsed());
        let ended = (output.status.code(), output.status.signal());
        assert!(
            ended == (Some(0), None) || ended == (None, Some(signal.as_raw())),
            "round {number} {options:?} {moment:?}: {}",
            words(&output)
        );
        let before = finished;
        finished = job.finished(source);
        let files = source.count(copy::EntryKind::File);
        tally.tenths[finished.len() * 10 / files].fetch_add(1, Ordering::Relaxed);
        let lost: Vec<_> = before.keys().filter(|path| !finished.contains_key(*path)).collect();
        assert!(lost.is_empty(), "round {number}: a run took away what one before it had finished: {lost:?}");
    }
    let report = job.complete();
    job.check_result(source);
    check_work(source, &finished, &report, number, tally);
}

/// Options that make a run last about [`RUN`], bound by operations, by bytes or by neither.
fn pace(source: &TreeModel, random: &mut Random) -> Vec<String> {
    let for_a_run = |amount: u64| (amount as f64 / RUN.as_secs_f64()) as u64;
    let mut options = match random.below(5) {
        0 => vec![],
        1 => vec!["--bandwidth-limit".into(), for_a_run(40 << 20).to_string()],
        _ => vec!["--ops-limit".into(), for_a_run(source.len() as u64).to_string()],
    };
    if random.below(2) == 0 {
        options.extend(["--workers".into(), (1 + random.below(8)).to_string()]);
    }
    options
}

/// What was complete before the last run is left as it was; of several names of an inode, one that is complete is enough.
fn check_work(
    source: &TreeModel,
    finished: &BTreeMap<String, (i64, i64)>,
    report: &Report,
    number: u32,
    tally: &Tally,
) {
    let mut again = Vec::new();
    for path in finished.keys().filter(|path| report.was_copied(path)) {
        again.push(format!("{path}: {}", report.entries.get(path).map_or(String::new(), ToString::to_string)));
    }
    for names in source.link_sets() {
        let names: Vec<_> = names.iter().filter_map(|name| str::from_utf8(name).ok()).collect();
        if !names.iter().any(|name| finished.contains_key(*name)) {
            continue;
        }
        for name in names.iter().filter(|name| report.was_copied(name)) {
            again.push(format!("{name}, a further name of a complete file: {}", report.action(name)));
        }
    }
    assert!(again.is_empty(), "round {number}: copied again although complete:\n{}", again.join("\n"));
    tally.kept.fetch_add(finished.len() as u32, Ordering::Relaxed);
    let updated = finished.keys().filter(|path| report.action(path) == "updated").count();
    tally.updated.fetch_add(updated as u32, Ordering::Relaxed);
}
