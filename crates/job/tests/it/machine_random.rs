//! Random events in any order: whatever happens, the rules hold, and the job can be brought to its end.

use job::machine::{Event, apply};
use job::spec::{Cutover, RateLimits};
use job::{
    Failure, FailureCode, Hold, Intent, Job, Kind, Next, Outcome, PassFigures, PassKind, Side, State, Step, StopReason,
    WorkEnding, WorkResult,
};
use proptest::prelude::*;

use crate::machine_table::job;

fn holds() -> [Hold; 4] {
    [
        Hold::Workspace { path: "/w".into() },
        Hold::Access { side: Side::Source, grant: String::new() },
        Hold::Access { side: Side::Dest, grant: String::new() },
        Hold::ReadOnly { hook: "freeze".into() },
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let hold = || prop::sample::select(holds().to_vec());
    let stop = prop::sample::select(vec![
        StopReason::Shutdown,
        StopReason::LostLease,
        StopReason::Pause,
        StopReason::Deadline,
        StopReason::Cancel,
    ]);
    let ending = prop::sample::select(vec![
        WorkEnding::Complete,
        WorkEnding::WithFaults,
        WorkEnding::Stopped,
        WorkEnding::StoppedByFault,
    ]);
    let kind = prop::sample::select(vec![PassKind::Single, PassKind::Baseline, PassKind::Incremental, PassKind::Final]);
    let pass =
        (ending, kind, 0..3_u64, 0..2_u64, 0..100_u64).prop_map(|(ending, pass, faults, differences, changed)| {
            let figures = PassFigures {
                elapsed_seconds: 10.0,
                changed_entries: changed,
                copied_bytes: changed,
                faults,
                differences,
                ..PassFigures::default()
            };
            Event::PassEnded { pass, result: WorkResult { ending, figures, manifest_root: None, first_fault: None } }
        });
    prop_oneof![
        3 => Just(Event::Started { holds: holds().to_vec() }),
        2 => hold().prop_map(Event::AccessTaken),
        3 => Just(Event::AccessReady),
        3 => Just(Event::Mounted),
        4 => pass,
        1 => Just(Event::StepFailed(Failure::new(Step::Mount, FailureCode::MountFailed, "x"))),
        1 => (0..2_u64).prop_map(|files_copied| Event::WorkerLost { why: "x".into(), files_copied }),
        1 => Just(Event::Warned("x".into())),
        2 => stop.prop_map(Event::StopAsked),
        2 => Just(Event::ResumeAsked),
        1 => Just(Event::CutoverAsked),
        1 => Just(Event::LimitsSet(RateLimits::default())),
        6 => hold().prop_map(Event::Released),
        1 => hold().prop_map(|hold| Event::ReleaseFailed { hold, why: "x".into() }),
        1 => Just(Event::Recovered),
    ]
}

fn any_job() -> impl Strategy<Value = Job> {
    (prop::sample::select(Kind::ALL.to_vec()), any::<bool>(), prop::option::of(1..4_u32)).prop_map(
        |(kind, automatic, passes_max)| {
            let mut job = job(kind);
            let mut spec = (*job.spec).clone();
            spec.options.faults_accepted = 1;
            spec.migrate.cutover = if automatic { Cutover::Automatic } else { Cutover::Manual };
            spec.migrate.passes_max = passes_max;
            job.spec = spec.into();
            job
        },
    )
}

/// What must be true of every single step.
fn check_step(before: &Job, event: &Event, after: &Job) {
    let context = || format!("{event:?}\nbefore: {before:?}\nafter: {after:?}");
    if after.stop_reason() < before.stop_reason() {
        let is_passing = matches!(before.stop_reason(), Some(StopReason::Shutdown | StopReason::LostLease));
        let is_resumed = *event == Event::ResumeAsked && before.intent == Intent::Stop(StopReason::Pause);
        assert!(is_passing || is_resumed, "a stop was forgotten: {}", context());
    }
    for hold in before.holds.iter().filter(|hold| !after.holds.iter().any(|kept| kept.is_same(hold))) {
        let is_released = matches!(event, Event::Released(released) if released.is_same(hold));
        let completes = matches!(
            after.state,
            State::Releasing { next: Next::End(Outcome::Completed) } | State::Ended { outcome: Outcome::Completed }
        );
        let stays = matches!(hold, Hold::ReadOnly { .. }) && completes;
        assert!(is_released || stays, "a hold was forgotten: {}", context());
    }
    if after.holds.len() > before.holds.len() {
        assert!(matches!(event, Event::Started { .. }), "a hold came from nowhere: {}", context());
    }
    let idle = matches!(after.state, State::Accepted | State::Ended { .. });
    assert!(!idle || after.holds.is_empty(), "something is held: {}", context());
    if before.state.is_ended() {
        assert_eq!(before.state, after.state, "an end is no end: {}", context());
    }
    let completed = |state: &State| *state == State::Releasing { next: Next::End(Outcome::Completed) };
    if completed(&after.state) && !completed(&before.state) {
        let Event::PassEnded { pass, result } = event else { panic!("completed by nothing: {}", context()) };
        assert!(pass.is_last() && result.figures.faults <= 1 && result.figures.differences == 0, "{}", context());
        assert!(before.stop_reason() < Some(StopReason::Deadline), "a stop was overtaken: {}", context());
    }
    assert!(after.passes.len() <= job::PASSES_KEPT && after.passes_done >= before.passes_done, "{}", context());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_hold_whatever_happens_and_every_job_can_be_ended(
        mut job in any_job(),
        events in prop::collection::vec(any_event(), 0..120),
    ) {
        let mut now = jiff::Timestamp::UNIX_EPOCH;
        let mut step = |job: &mut Job, event: &Event| {
            now += std::time::Duration::from_secs(7);
            let before = job.clone();
            match apply(job, event.clone(), now) {
                Ok(_) => check_step(&before, event, job),
                Err(_) => assert_eq!(before, *job, "refused, and changed all the same"),
            }
        };
        for event in &events {
            step(&mut job, event);
        }
        step(&mut job, &Event::StopAsked(StopReason::Cancel));
        step(&mut job, &Event::Recovered);
        while let Some(hold) = job.holds.last().cloned() {
            step(&mut job, &Event::Released(hold));
        }
        prop_assert!(job.state.is_ended(), "no end: {:?}", job);
    }
}
