//! The service, its workers, or both killed at any moment: every job ends with the same tree, and nothing is left.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::disk::{Place, need_root};
use testkit::lend;
use testkit::model::TreeModel;
use testkit::random::{Random, seed};
use testkit::reboot::{barrier, change_boot};

use crate::daemon::{Daemon, is_ended};
use crate::kit::{ROOM, build, check_same, spec};

const FILES: usize = 20_000;
/// About what a job would take without an interruption: long beside the start of a process.
const RUN: Duration = Duration::from_millis(2500);

fn kills() -> u32 {
    std::env::var("MANILA_DATA_CRASH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// Whom a round kills.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Service,
    Worker,
    Both,
}

#[derive(Default)]
struct Tally {
    services: AtomicU32,
    workers: AtomicU32,
    too_late: AtomicU32,
}

#[test]
fn jobs_whose_service_or_worker_is_killed_again_and_again_end_as_they_should() {
    lend!("jobs_whose_service_or_worker_is_killed_again_and_again_end_as_they_should", need_root());
    let (seed, kills) = (seed(), kills());
    eprintln!("MANILA_DATA_CRASH_SEED={seed} MANILA_DATA_CRASH_KILLS={kills}");
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    let source = build(&source_dir, FILES, &mut Random::new(seed));
    let tally = Tally::default();
    let done = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (place, source, source_dir, tally, done) = (&place, &source, &source_dir, &tally, &done);
            scope.spawn(move || {
                let mut random = Random::new(seed ^ (thread + 1) << 40);
                let mut daemon = Daemon::start(&place.path(&format!("service{thread}")), &["stop_grace_seconds=5"]);
                let mut round = 0;
                while done.load(Ordering::Relaxed) < kills {
                    let dest = place.path(&format!("dest{thread}-{round}"));
                    done.fetch_add(
                        interrupted_job(&mut daemon, source_dir, source, &dest, &mut random, tally),
                        Ordering::Relaxed,
                    );
                    std::fs::remove_dir_all(&dest).unwrap();
                    round += 1;
                }
            });
        }
    });
    let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
    eprintln!(
        "killed the service {} times, workers {} times; {} moments came too late",
        count(&tally.services),
        count(&tally.workers),
        count(&tally.too_late)
    );
    assert!(count(&tally.services) > 0 && count(&tally.workers) > 0, "both kinds of kill happened");
}

/// One job, interrupted one to three times; how often it was.
fn interrupted_job(
    daemon: &mut Daemon,
    source_dir: &std::path::Path,
    source: &TreeModel,
    dest: &std::path::Path,
    random: &mut Random,
    tally: &Tally,
) -> u32 {
    let kind = if random.below(4) == 0 { "migrate" } else { "copy" };
    let rate = (FILES as f64 / RUN.as_secs_f64()) as u64;
    let mut more = json!({ "limits": { "operations_per_second": rate }, "options": { "verify": "content" } });
    if kind == "migrate" {
        more["migrate"] = json!({ "cutover": "automatic", "interval_seconds": 0 });
    }
    let id = daemon.create(&spec(kind, source_dir, dest, &more));
    let kills = 1 + random.below(3);
    for _ in 0..kills {
        std::thread::sleep(Duration::from_micros(random.below(RUN.as_micros() as u64)));
        let victim = [Victim::Service, Victim::Worker, Victim::Both][random.below(3) as usize];
        strike(daemon, victim, random, tally);
    }
    let job = daemon.ended(&id);
    assert_eq!(job["state"], "completed", "{job:#}");
    check_same(source, dest);
    daemon.check_nothing_left();
    kills as u32
}

fn strike(daemon: &mut Daemon, victim: Victim, random: &mut Random, tally: &Tally) {
    if matches!(victim, Victim::Worker | Victim::Both) {
        let workers: Vec<_> = daemon.workers().into_iter().collect();
        if workers.is_empty() {
            tally.too_late.fetch_add(1, Ordering::Relaxed);
        } else {
            // Any of the processes that make a worker.
            let worker = workers[random.below(workers.len() as u64) as usize];
            // It may have ended since it was seen.
            if kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).is_ok() {
                tally.workers.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    if matches!(victim, Victim::Service | Victim::Both) {
        daemon.kill();
        tally.services.fetch_add(1, Ordering::Relaxed);
        // Sometimes the workers of before are still there, sometimes not.
        std::thread::sleep(Duration::from_millis(random.below(3) * 150));
        daemon.start_again();
    }
}

#[test]
fn workers_stop_writing_when_their_service_is_killed() {
    lend!("workers_stop_writing_when_their_service_is_killed", need_root());
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    build(&source_dir, 2000, &mut Random::new(1));
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let more = json!({ "limits": { "operations_per_second": 50 } });
    let id = daemon.create(&spec("copy", &source_dir, &place.path("dest"), &more));
    daemon.wait_for("the job works", |daemon| daemon.job(&id)["state"] == "working");
    daemon.kill();
    let start = Instant::now();
    daemon.wait_for("the workers are gone", |daemon| daemon.workers().is_empty());
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    daemon.start_again();
    daemon.call("PUT", &format!("/v1/jobs/{id}/limits"), Some(&json!({})), 200);
    assert_eq!(daemon.ended(&id)["state"], "completed");
    daemon.check_nothing_left();
}

#[test]
fn a_service_that_is_asked_to_end_parks_its_jobs_and_goes_on_with_them() {
    lend!("a_service_that_is_asked_to_end_parks_its_jobs_and_goes_on_with_them", need_root());
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    let source = build(&source_dir, 2000, &mut Random::new(2));
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let dest = place.path("dest");
    let more = json!({ "limits": { "operations_per_second": 400 } });
    let id = daemon.create(&spec("copy", &source_dir, &dest, &more));
    daemon.wait_for("some of it is copied", |daemon| daemon.job(&id)["progress"]["done_entries"].as_u64() > Some(100));
    let took = daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    daemon.check_nothing_left();
    daemon.start_again();
    assert!(!is_ended(&daemon.job(&id)), "parked is not ended");
    daemon.call("PUT", &format!("/v1/jobs/{id}/limits"), Some(&json!({})), 200);
    assert_eq!(daemon.ended(&id)["state"], "completed");
    check_same(&source, &dest);
    daemon.check_nothing_left();
}

#[test]
fn after_a_reboot_a_job_goes_on_and_does_not_copy_again_what_was_durable() {
    lend!("after_a_reboot_a_job_goes_on_and_does_not_copy_again_what_was_durable", need_root());
    const FILES: usize = 1500;
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    let source = build(&source_dir, FILES, &mut Random::new(8));
    let mut daemon = Daemon::start(&place.path("service"), &[]);
    let dest = place.path("dest");
    // A barrier is set every five seconds: one is behind the kill, and work on both sides of it.
    let more = json!({ "limits": { "operations_per_second": 150 } });
    let id = daemon.create(&spec("copy", &source_dir, &dest, &more));
    let engine_dir = daemon.state_path().join("jobs").join(&id).join("engine");
    daemon.wait_for("a barrier", |_| barrier(&engine_dir).is_some());
    let done = |daemon: &Daemon| daemon.job(&id)["progress"]["done_entries"].as_u64().unwrap_or_default();
    let at_barrier = done(&daemon);
    daemon.wait_for("work after the barrier", |daemon| done(daemon) > at_barrier + 50);
    for worker in daemon.workers() {
        // It ends with the others of its worker.
        let _ = kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL);
    }
    daemon.kill();
    daemon.wait_for("the workers are gone", |daemon| daemon.workers().is_empty());
    change_boot(&engine_dir);
    daemon.start_again();
    daemon.call("PUT", &format!("/v1/jobs/{id}/limits"), Some(&json!({})), 200);
    assert_eq!(daemon.ended(&id)["state"], "completed");
    check_same(&source, &dest);
    daemon.check_nothing_left();
    let report = daemon.call("GET", &format!("/v1/jobs/{id}/report"), None, 200);
    let counts = &report["summary"]["counts"];
    let (copied, opened) = (counts["copied_files"].as_u64().unwrap(), counts["opened_files"].as_u64().unwrap());
    // At least a hundred files were covered by the barrier: neither copied again nor opened.
    assert!(copied + 100 < FILES as u64 && opened + 200 < 2 * FILES as u64, "{counts:#}");
}
