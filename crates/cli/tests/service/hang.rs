//! Storage that stops answering costs one job and nothing else.

use std::time::{Duration, Instant};

use serde_json::json;
use testkit::disk::Place;
use testkit::fuse::{Answer, FuseFs, FuseOp, FuseOptions, Rule};
use testkit::lend;
use testkit::random::Random;

use crate::daemon::Daemon;
use crate::kit::{ROOM, build, check_same, spec};

const GRACE_SECONDS: u64 = 3;

/// A service, a share with a file whose read never returns, and a job that waits for it.
struct Stuck {
    place: Place,
    fs: Option<FuseFs>,
    daemon: Daemon,
    job: String,
}

impl Stuck {
    fn new(fs: FuseFs, answer: Answer) -> Self {
        let place = Place::new(ROOM);
        std::fs::write(fs.path().join("file"), b"content").unwrap();
        fs.set_rules([Rule::always(FuseOp::Read, answer).named(b"file")]);
        let grace = format!("stop_grace_seconds={GRACE_SECONDS}");
        let mut daemon = Daemon::start(&place.path("service"), &[&grace]);
        let job = daemon.create(&spec("copy", fs.path(), &place.path("dest"), &json!({})));
        daemon.wait_for("the file that hangs", |_| !fs.fired().is_empty());
        Self { place, fs: Some(fs), daemon, job }
    }

    /// Another job runs to its end meanwhile.
    fn check_others_run(&mut self) {
        let source_dir = self.place.path("other");
        let source = build(&source_dir, 50, &mut Random::new(4));
        let dest = self.place.path("other-dest");
        let other = self.daemon.create(&spec("copy", &source_dir, &dest, &json!({})));
        assert_eq!(self.daemon.ended(&other)["state"], "completed");
        check_same(&source, &dest);
    }

    fn cancel(&self) {
        let start = Instant::now();
        self.daemon.call("POST", &format!("/v1/jobs/{}/cancel", self.job), None, 200);
        assert!(start.elapsed() < Duration::from_secs(2), "the answer took {:?}", start.elapsed());
    }
}

#[test]
fn a_cancel_is_answered_at_once_and_ends_a_job_whose_storage_hangs() {
    let fs =
        lend!("a_cancel_is_answered_at_once_and_ends_a_job_whose_storage_hangs", FuseFs::mount(FuseOptions::default()));
    let mut stuck = Stuck::new(fs, Answer::Hang);
    stuck.check_others_run();
    stuck.cancel();
    let start = Instant::now();
    assert_eq!(stuck.daemon.ended(&stuck.job)["state"], "cancelled");
    // The grace, and as much again for a machine that does other things too.
    assert!(start.elapsed() < Duration::from_secs(2 * GRACE_SECONDS + 4), "{:?}", start.elapsed());
    stuck.daemon.check_nothing_left();
}

#[test]
fn a_service_whose_storage_hangs_ends_when_it_is_told_to() {
    let fs = lend!("a_service_whose_storage_hangs_ends_when_it_is_told_to", FuseFs::mount(FuseOptions::default()));
    let mut stuck = Stuck::new(fs, Answer::Hang);
    let took = stuck.daemon.terminate();
    assert!(took < Duration::from_secs(10), "{took:?}");
    stuck.daemon.check_nothing_left();
    // The storage answers again, and the job goes on.
    stuck.fs.as_ref().unwrap().clear_rules();
    stuck.daemon.start_again();
    assert_eq!(stuck.daemon.ended(&stuck.job)["state"], "completed");
    stuck.daemon.check_nothing_left();
}

#[test]
fn storage_that_not_even_a_kill_can_leave_keeps_its_own_job_only() {
    let fs =
        lend!("storage_that_not_even_a_kill_can_leave_keeps_its_own_job_only", FuseFs::mount(FuseOptions::default()));
    let mut stuck = Stuck::new(fs, Answer::HangForGood);
    stuck.cancel();
    stuck.check_others_run();
    // Only when the storage is gone can its worker end; no job is said to have ended while something of it goes on.
    drop(stuck.fs.take());
    assert_eq!(stuck.daemon.ended(&stuck.job)["state"], "cancelled");
    stuck.daemon.check_nothing_left();
}
