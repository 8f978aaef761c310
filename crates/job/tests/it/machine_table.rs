//! Every state against every event.

use job::machine::{Action, Event, apply};
use job::spec::RateLimits;
use job::{
    CutoverState, Endpoint, EventKind, Failure, FailureCode, Hold, Intent, Job, JobId, JobSpec, Kind, Next, Origin,
    Outcome, PassFigures, PassKind, Side, State, Step, StopReason, WorkEnding, WorkResult,
};

const NOW: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

fn workspace() -> Hold {
    Hold::Workspace { path: "/state/workspace/1".into() }
}

fn failure() -> Failure {
    Failure::new(Step::Mount, FailureCode::MountFailed, "no such host")
}

pub(crate) fn ended(ending: WorkEnding, faults: u64) -> WorkResult {
    let figures = PassFigures { faults, ..PassFigures::default() };
    WorkResult {
        ending,
        figures,
        manifest_root: None,
        first_fault: (faults > 0).then(|| "cannot write `a`: no space".into()),
    }
}

pub(crate) fn job(kind: Kind) -> Job {
    let dir = |path: &str| Endpoint::Directory { path: path.into() };
    Job::new(JobId::from_u128(1), JobSpec::new(kind, dir("/a"), dir("/b")), Origin::default(), NOW)
}

/// The states as the table names them. `R:` says what follows the releasing.
fn in_state(kind: Kind, word: &str) -> Job {
    let mut job = job(kind);
    job.state = match word {
        "A" => State::Accepted,
        "G" => State::Granting,
        "M" => State::Mounting,
        "W" => State::Working,
        "R:A" => State::Releasing { next: Next::Wait },
        "R:C" => State::Releasing { next: Next::End(Outcome::Completed) },
        "C" => State::Ended { outcome: Outcome::Completed },
        _ => panic!("no state `{word}`"),
    };
    if !matches!(word, "A" | "C") {
        job.holds = vec![workspace()];
    }
    job
}

fn word(state: &State) -> &'static str {
    match state {
        State::Accepted => "A",
        State::Granting => "G",
        State::Mounting => "M",
        State::Working => "W",
        State::Releasing { next: Next::Wait } => "R:A",
        State::Releasing { next: Next::End(Outcome::Completed) } => "R:C",
        State::Releasing { next: Next::End(Outcome::Cancelled) } => "R:X",
        State::Releasing { next: Next::End(Outcome::Failed { .. }) } => "R:F",
        State::Ended { outcome: Outcome::Completed } => "C",
        State::Ended { outcome: Outcome::Cancelled } => "X",
        State::Ended { outcome: Outcome::Failed { .. } } => "F",
    }
}

fn event(word: &str) -> Event {
    let single = |result| Event::PassEnded { pass: PassKind::Single, result };
    match word {
        "started" => Event::Started { holds: vec![workspace()] },
        "access-taken" => Event::AccessTaken(workspace()),
        "access-ready" => Event::AccessReady,
        "mounted" => Event::Mounted,
        "complete" => single(ended(WorkEnding::Complete, 0)),
        "with-faults" => single(ended(WorkEnding::WithFaults, 1)),
        "stopped-by-fault" => single(ended(WorkEnding::StoppedByFault, 1)),
        "stopped" => single(ended(WorkEnding::Stopped, 0)),
        "pass-of-another-kind" => Event::PassEnded { pass: PassKind::Final, result: ended(WorkEnding::Complete, 0) },
        "step-failed" => Event::StepFailed(failure()),
        "worker-lost" => Event::WorkerLost { why: "killed".into(), files_copied: 0 },
        "warned" => Event::Warned("slow".into()),
        "shutdown" => Event::StopAsked(StopReason::Shutdown),
        "lost-lease" => Event::StopAsked(StopReason::LostLease),
        "pause" => Event::StopAsked(StopReason::Pause),
        "deadline" => Event::StopAsked(StopReason::Deadline),
        "cancel" => Event::StopAsked(StopReason::Cancel),
        "resume" => Event::ResumeAsked,
        "cutover" | "cutover-of-a-migration" => Event::CutoverAsked,
        "limits" => Event::LimitsSet(RateLimits { operations_per_second: Some(1), ..RateLimits::default() }),
        "released" => Event::Released(workspace()),
        "release-failed" => Event::ReleaseFailed { hold: workspace(), why: "busy".into() },
        "recovered" => Event::Recovered,
        _ => panic!("no event `{word}`"),
    }
}

/// `-` is an event that cannot happen.
const TABLE: &str = "
    event                   A    G    M    W    R:A  R:C  C
    started                 G    -    -    -    -    -    -
    access-taken            -    G    -    -    R:A  R:C  -
    access-ready            -    M    -    -    -    -    -
    mounted                 -    -    W    -    -    -    -
    complete                -    -    R:C  R:C  -    -    -
    with-faults             -    -    R:F  R:F  -    -    -
    stopped-by-fault        -    -    R:F  R:F  -    -    -
    stopped                 -    -    R:A  R:A  -    -    -
    pass-of-another-kind    -    -    -    -    -    -    -
    step-failed             -    R:F  R:F  R:F  -    -    -
    worker-lost             -    -    R:A  R:A  -    -    -
    warned                  A    G    M    W    R:A  R:C  -
    shutdown                A    R:A  M    W    R:A  R:C  C
    lost-lease              A    R:A  M    W    R:A  R:C  C
    pause                   A    R:A  M    W    R:A  R:C  C
    deadline                F    R:F  M    W    R:F  R:C  C
    cancel                  X    R:X  M    W    R:X  R:C  C
    resume                  A    G    M    W    R:A  -    -
    cutover                 -    -    -    -    -    -    -
    cutover-of-a-migration  A    G    M    W    R:A  -    -
    limits                  A    G    M    W    R:A  R:C  -
    released                -    -    -    -    A    C    -
    release-failed          -    -    -    -    R:A  R:C  -
    recovered               A    R:A  R:A  R:A  R:A  R:C  C
";

#[test]
fn every_state_takes_the_events_of_the_table_and_no_others() {
    let mut rows = TABLE.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let states = rows.next().expect("a heading");
    for row in rows {
        let kind = if row[0] == "cutover-of-a-migration" { Kind::Migrate } else { Kind::Copy };
        for (state, expected) in states[1..].iter().zip(&row[1..]) {
            let before = in_state(kind, state);
            let mut job = before.clone();
            let case = format!("{} in {state}", row[0]);
            match apply(&mut job, event(row[0]), NOW) {
                Ok(applied) => {
                    assert_eq!(word(&job.state), *expected, "{case}");
                    let tells = applied.actions.contains(&Action::Tell);
                    let ends = job.state.is_ended() && (!before.state.is_ended() || row[0] == "recovered");
                    assert_eq!(tells, ends, "{case}: {:?}", applied.actions);
                    assert!(applied.events.iter().all(|event| event.state == job.state.name()), "{case}");
                    let changed = job.state != before.state;
                    let said =
                        applied.events.iter().any(|e| matches!(e.kind, EventKind::StateChanged | EventKind::Ended));
                    assert_eq!(changed, said, "{case}: {:?}", applied.events);
                }
                Err(illegal) => {
                    assert_eq!(*expected, "-", "{case}: {illegal}");
                    assert_eq!(job, before, "{case}: refused, and changed all the same");
                    assert_eq!(illegal.state, before.state.name());
                }
            }
        }
    }
}

fn after(mut job: Job, events: &[Event]) -> Job {
    for event in events {
        apply(&mut job, event.clone(), NOW).unwrap_or_else(|error| panic!("{error}: {event:?}"));
    }
    job
}

#[test]
fn a_stopped_job_ends_as_the_strongest_reason_says_whatever_its_worker_says() {
    let check = |stops: &[&str], ending: &str, expected: &str| {
        let events: Vec<_> = stops.iter().copied().chain([ending]).map(event).collect();
        let job = after(in_state(Kind::Copy, "W"), &events);
        assert_eq!(word(&job.state), expected, "{stops:?}, then {ending}");
    };
    check(&["cancel"], "complete", "R:X");
    check(&["cancel"], "step-failed", "R:X");
    check(&["cancel"], "worker-lost", "R:X");
    check(&["cancel"], "with-faults", "R:X");
    check(&["cancel", "pause"], "stopped", "R:X");
    check(&["pause", "deadline"], "complete", "R:F");
    check(&["deadline", "cancel"], "stopped", "R:X");
    check(&["pause"], "stopped", "R:A");
    check(&["pause"], "worker-lost", "R:A");
    check(&["pause"], "complete", "R:C");
    check(&["pause"], "step-failed", "R:F");
    check(&["shutdown"], "stopped", "R:A");
    check(&["shutdown"], "recovered", "R:A");
    check(&["cancel"], "recovered", "R:X");
    check(&["deadline"], "recovered", "R:F");
}

#[test]
fn a_pause_outlives_the_releasing_and_a_recovery_and_a_shutdown_does_not() {
    let parked = |stop: &str| after(in_state(Kind::Copy, "W"), &[event(stop), event("stopped"), event("released")]);
    assert_eq!((word(&parked("pause").state), parked("pause").intent), ("A", Intent::Stop(StopReason::Pause)));
    assert_eq!((word(&parked("shutdown").state), parked("shutdown").intent), ("A", Intent::Run));
    let recovered = after(parked("pause"), &[event("recovered")]);
    assert_eq!(recovered.intent, Intent::Stop(StopReason::Pause));
    assert_eq!(after(recovered, &[event("resume")]).intent, Intent::Run);
    let early =
        after(in_state(Kind::Copy, "W"), &[event("pause"), event("stopped"), event("resume"), event("released")]);
    assert_eq!((word(&early.state), early.intent), ("A", Intent::Run));
}

#[test]
fn a_paused_job_gets_no_slot_and_a_cancelled_one_cannot_go_on() {
    let mut job = after(in_state(Kind::Copy, "A"), &[event("pause")]);
    apply(&mut job, event("started"), NOW).expect_err("paused");
    let mut job = after(in_state(Kind::Copy, "W"), &[event("cancel")]);
    apply(&mut job, event("resume"), NOW).expect_err("cancelled");
}

#[test]
fn holds_are_given_back_mounts_first_and_the_last_one_settles_the_job() {
    let grant = |side, grant: &str| Hold::Access { side, grant: grant.into() };
    let (source, dest) = (grant(Side::Source, ""), grant(Side::Dest, ""));
    let mut job = in_state(Kind::Copy, "A");
    let holds = vec![workspace(), source.clone(), dest.clone()];
    let started = apply(&mut job, Event::Started { holds }, NOW).expect("waits");
    assert_eq!(started.actions, [Action::TakeAccess(source), Action::TakeAccess(dest.clone())]);
    apply(&mut job, Event::AccessTaken(grant(Side::Source, "rule 7")), NOW).expect("being given");
    let applied = apply(&mut job, event("cancel"), NOW).expect("may be stopped");
    assert_eq!(applied.actions, [Action::Release(workspace())]);
    let applied = apply(&mut job, Event::Released(workspace()), NOW).expect("being given back");
    assert_eq!(applied.actions, [Action::Release(grant(Side::Source, "rule 7"))]);
    let applied = apply(&mut job, Event::Released(grant(Side::Source, "rule 7")), NOW).expect("being given back");
    assert_eq!(applied.actions, [Action::Release(dest.clone())]);
    let applied = apply(&mut job, Event::Released(dest), NOW).expect("being given back");
    assert_eq!((word(&job.state), applied.actions), ("X", vec![Action::Tell]));
}

#[test]
fn the_source_stays_read_only_after_a_completed_cutover_and_after_no_other_end() {
    let check = |result: WorkResult, kept: bool| {
        let mut job = job(Kind::Migrate);
        job.cutover = CutoverState::Asked;
        let holds = vec![workspace(), Hold::ReadOnly { hook: "freeze".into() }];
        let pass = Event::PassEnded { pass: PassKind::Final, result };
        let job = after(job, &[Event::Started { holds }, Event::AccessReady, Event::Mounted, pass]);
        assert_eq!(job.holds.len(), if kept { 1 } else { 2 }, "{:?}", job.state);
    };
    check(ended(WorkEnding::Complete, 0), true);
    check(ended(WorkEnding::WithFaults, 1), false);
    check(ended(WorkEnding::Stopped, 0), false);
}

#[test]
fn only_accepted_faults_let_a_job_complete() {
    let check = |ending, faults, losses, differences, expected: Option<FailureCode>| {
        let mut job = in_state(Kind::Copy, "W");
        let mut spec = (*job.spec).clone();
        spec.options.faults_accepted = 2;
        spec.options.on_loss = job::spec::OnLoss::Fail;
        job.spec = spec.into();
        let figures = PassFigures { faults, losses, differences, ..PassFigures::default() };
        let result = WorkResult { ending, figures, manifest_root: None, first_fault: None };
        let job = after(job, &[Event::PassEnded { pass: PassKind::Single, result }]);
        let code = match &job.state {
            State::Releasing { next: Next::End(Outcome::Failed { failure }) } => Some(failure.code),
            _ => None,
        };
        assert_eq!(code, expected, "{ending:?} {faults} {losses} {differences}");
    };
    use WorkEnding::{Complete, WithFaults};
    check(Complete, 0, 0, 0, None);
    check(WithFaults, 2, 0, 0, None);
    check(WithFaults, 1, 1, 0, None);
    check(WithFaults, 3, 0, 0, Some(FailureCode::FaultsFound));
    check(WithFaults, 1, 2, 0, Some(FailureCode::FaultsFound));
    check(WithFaults, 0, 0, 1, Some(FailureCode::DifferencesFound));
    check(Complete, 0, 0, 1, Some(FailureCode::DifferencesFound));
    check(Complete, 3, 0, 0, Some(FailureCode::FaultsFound));
    check(WithFaults, 0, 0, 0, Some(FailureCode::FaultsFound));
}

#[test]
fn lost_workers_are_replaced_after_growing_pauses_until_there_were_too_many_in_a_row() {
    let mut job = job(Kind::Copy);
    let begin = [event("started"), event("access-ready"), event("mounted")];
    let mut pauses = Vec::new();
    for _ in 0..job::LIMITS.workers_lost_max {
        job = after(job, &begin);
        job = after(job, &[event("worker-lost")]);
        pauses.push(job.not_before.expect("a pause").as_second());
        job = after(job, &[event("released")]);
        assert_eq!(word(&job.state), "A");
    }
    assert_eq!(pauses[..4], [1, 2, 4, 8]);
    let one_too_many = after(after(job.clone(), &begin), &[event("worker-lost")]);
    assert_eq!(word(&one_too_many.state), "R:F");
    let lost_after_files = Event::WorkerLost { why: "killed".into(), files_copied: 1 };
    let gets_on = after(after(job, &begin), &[lost_after_files]);
    assert_eq!((word(&gets_on.state), gets_on.workers_lost), ("R:A", 1));
}

#[test]
fn a_release_that_fails_is_told_once_and_tried_again() {
    let mut job = in_state(Kind::Copy, "R:C");
    let first = apply(&mut job, event("release-failed"), NOW).expect("being given back");
    assert_eq!((first.actions.len(), first.events.len()), (1, 1));
    assert!(job.release_trouble.as_ref().is_some_and(|trouble| trouble.contains("busy")));
    let second = apply(&mut job, event("release-failed"), NOW).expect("being given back");
    assert_eq!((second.actions.len(), second.events.len()), (1, 0));
    assert_eq!(after(job, &[event("released")]).release_trouble, None);
}
