//! Many jobs at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::disk::{Place, need_root};
use testkit::lend;
use testkit::random::Random;

use crate::daemon::Daemon;
use crate::kit::{ROOM, build, check_same, spec};

const JOBS: usize = 200;
const LIMIT: usize = 4;

#[test]
fn two_hundred_jobs_end_four_at_a_time_while_the_interface_answers() {
    lend!("two_hundred_jobs_end_four_at_a_time_while_the_interface_answers", need_root());
    let place = Place::new(ROOM);
    let source_dir = place.path("source");
    let source = build(&source_dir, 100, &mut Random::new(3));
    let mut daemon = Daemon::start(&place.path("service"), &[&format!("jobs_max={LIMIT}")]);
    let dest = |number: usize| place.path(&format!("dest{number}"));
    let mut answers = Vec::new();
    let mut timed = |daemon: &Daemon, method: &str, path: &str, body: Option<&Value>, status: u16| {
        let start = Instant::now();
        let answer = daemon.call(method, path, body, status);
        answers.push(start.elapsed());
        answer
    };
    let mut ids = Vec::new();
    for number in 0..JOBS {
        let spec = spec("copy", &source_dir, &dest(number), &json!({}));
        ids.push(timed(&daemon, "POST", "/v1/jobs", Some(&spec), 201)["id"].as_str().unwrap().to_owned());
    }
    let mut running_max = 0;
    let start = Instant::now();
    let mut next = 0;
    loop {
        let jobs = timed(&daemon, "GET", "/v1/jobs?limit=200", None, 200);
        let jobs = jobs["jobs"].as_array().unwrap();
        let of = |states: &[&str]| jobs.iter().filter(|job| states.contains(&job["state"].as_str().unwrap())).count();
        running_max = running_max.max(of(&["granting", "mounting", "working"]));
        if of(&["completed", "failed", "cancelled"]) == JOBS {
            assert_eq!(of(&["completed"]), JOBS);
            break;
        }
        for _ in 0..5 {
            timed(&daemon, "GET", &format!("/v1/jobs/{}", ids[next % JOBS]), None, 200);
            next += 37;
        }
        assert!(start.elapsed() < Duration::from_mins(5), "{} of {JOBS} have ended", of(&["completed"]));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!((1..=LIMIT).contains(&running_max), "{running_max} ran at once");
    for number in (0..JOBS).step_by(20) {
        check_same(&source, &dest(number));
    }
    daemon.check_nothing_left();
    answers.sort();
    let at = |percent: usize| answers[(answers.len() - 1) * percent / 100];
    // Told and not asserted: a time decides no test.
    eprintln!(
        "{JOBS} jobs in {:?}; {} answers: median {:?}, 99 of 100 within {:?}, the slowest {:?}",
        start.elapsed(),
        answers.len(),
        at(50),
        at(99),
        at(100)
    );
}
