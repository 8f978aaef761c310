//! Schedules as operators write them, and their firings.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn settings(cron: &str, jitter_seconds: u64) -> ScheduleSettings {
    let spec = json!({
        "kind": "copy",
        "source": { "type": "directory", "path": "/a" },
        "dest": { "type": "directory", "path": "/b" },
    });
    ScheduleSettings {
        name: "nightly".into(),
        is_enabled: true,
        cron: cron.into(),
        time_zone: Some("Europe/Vienna".into()),
        jitter: Duration::from_secs(jitter_seconds),
        on_missed: OnMissed::Run,
        spec: serde_json::from_value(spec).expect("a specification"),
    }
}

fn known() -> Known {
    Known { hooks: Vec::new(), repositories: vec!["vault".into()] }
}

fn timetable(cron: &str, jitter_seconds: u64) -> Timetable {
    Timetable::new(settings(cron, jitter_seconds), &known()).expect("a schedule")
}

fn moment(text: &str) -> Timestamp {
    text.parse().expect("a moment")
}

#[test]
fn what_cannot_be_is_refused() {
    let check = |change: fn(&mut ScheduleSettings), part: &str| {
        let mut settings = settings("0 3 * * *", 0);
        change(&mut settings);
        let problem = Timetable::new(settings, &known()).expect_err(part).to_string();
        assert!(problem.contains(part), "{part}: {problem}");
    };
    check(|settings| settings.name = "a/b".into(), "name");
    check(|settings| settings.name = ".a".into(), "name");
    check(|settings| settings.name = String::new(), "name");
    check(|settings| settings.name = "x".repeat(65), "name");
    check(|settings| settings.cron = "0 3 * *".into(), "4 fields");
    check(|settings| settings.time_zone = Some("Europe/Wien".into()), "time zone");
    check(|settings| settings.jitter = Duration::from_hours(25), "jitter");
    check(|settings| settings.spec.kind = Kind::Migrate, "made once");
    check(|settings| settings.spec.schedule.start_after = Some(Timestamp::UNIX_EPOCH), "start_after");
    check(|settings| settings.spec.options.atime = true, "options.atime");
    check(|settings| settings.spec.dest = settings.spec.source.clone(), "same tree");
}

fn backup(dest: &Value, plan: &Value) -> Result<Timetable, ScheduleProblem> {
    let source = json!({ "type": "directory", "path": "/a" });
    let spec = json!({ "kind": "backup", "source": source, "dest": dest, "backup": plan });
    let spec = serde_json::from_value(spec).expect("a specification");
    Timetable::new(ScheduleSettings { spec, ..settings("0 3 * * *", 0) }, &known())
}

#[test]
fn backups_are_named_after_the_schedule_and_its_time() {
    let vault = || json!({ "type": "repository", "name": "vault" });
    let timetable = backup(&vault(), &json!({ "tags": ["home"] })).expect("a schedule");
    let spec = timetable.spec_at(moment("2026-11-02T02:00:00Z"));
    assert_eq!(spec.backup.expect("a plan").id.as_deref(), Some("nightly-20261102T020000Z"));
    assert_eq!(spec.name.as_deref(), Some("nightly"));
    // Each of them needs a directory of its own.
    backup(&json!({ "type": "directory", "path": "/export" }), &json!({ "format": "directory" })).expect("a schedule");
    let fixed = backup(&vault(), &json!({ "id": "x" })).expect_err("one directory for all");
    assert!(fixed.to_string().contains("backup.id"), "{fixed}");
    let elsewhere =
        backup(&json!({ "type": "repository", "name": "elsewhere" }), &json!({})).expect_err("is not there");
    assert!(elsewhere.to_string().contains("there are: vault"), "{elsewhere}");
}

#[test]
fn a_job_says_which_firing_made_it() {
    let timetable = timetable("0 3 * * *", 0);
    let at = moment("2026-11-02T02:00:00Z");
    let origin = timetable.origin(at);
    assert_eq!(origin.requester, "schedule:nightly");
    assert_eq!(origin.request_id.as_deref(), Some("nightly@2026-11-02T02:00:00Z"));
    let job = Job::new(crate::JobId::generate(), timetable.spec_at(at), origin, at);
    let made = made(&job).expect("a firing");
    assert_eq!(made.nominal_at, at);
    assert!(timetable.is_of(&made));
    assert!(!self::timetable("0 4 * * *", 0).is_of(&made));
}

#[test]
fn jitter_is_the_same_everywhere_and_spreads() {
    let (here, there) = (timetable("0 3 * * *", 3600), timetable("0 3 * * *", 3600));
    let mut at = moment("2026-01-01T00:00:00Z");
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..100 {
        at = here.next_after(at).expect("another one");
        assert_eq!(here.due_at(at), there.due_at(at));
        let delay = here.due_at(at).duration_since(at).as_secs();
        assert!((0..=3600).contains(&delay), "{delay}");
        delays.insert(delay / 600);
    }
    assert_eq!(delays.len(), 6 + usize::from(delays.contains(&6)), "each part of the hour has its share: {delays:?}");
    let mut other = settings("0 3 * * *", 3600);
    other.name = "other".into();
    let other = Timetable::new(other, &known()).expect("a schedule");
    assert_ne!(other.due_at(at), here.due_at(at));
}

#[test]
fn what_was_missed_is_counted_up_to_a_bound() {
    let timetable = timetable("* * * * *", 0);
    let after = moment("2026-01-01T00:00:00Z");
    let pending = |now: &str| timetable.pending(after, moment(now));
    assert_eq!(pending("2026-01-01T00:00:59Z"), None);
    let minute = moment("2026-01-01T00:01:00Z");
    assert_eq!(pending("2026-01-01T00:01:00Z"), Some(Pending { first: minute, latest: minute, count: 1 }));
    let year = pending("2027-01-01T00:00:30Z").expect("many");
    assert_eq!((year.first, year.latest), (minute, moment("2027-01-01T00:00:00Z")));
    assert_eq!(year.count, LIMITS.missed_count_max as u64);
}

#[test]
fn a_schedule_that_is_not_enabled_never_fires() {
    let timetable = Timetable::new(ScheduleSettings { is_enabled: false, ..settings("* * * * *", 0) }, &known());
    let timetable = timetable.expect("a schedule");
    assert_eq!(timetable.next_after(Timestamp::UNIX_EPOCH), None);
    assert_eq!(timetable.pending(Timestamp::UNIX_EPOCH, moment("2026-01-01T00:00:00Z")), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the looks at the clock fall, each firing is found once, in order, and not before it is due.
    #[test]
    fn looks_at_any_moments_find_each_firing_once(
        cron in proptest::sample::select(&["* * * * *", "*/7 * * * *", "0 */3 * * *", "30 2 * * *", "0 2,3 * * 0"][..]),
        jitter in prop_oneof![Just(0_u64), 1..100_u64, 100..86_400_u64],
        // Around both changes of the clock.
        start in prop_oneof![Just("2026-03-28T20:00:00Z"), Just("2026-10-24T20:00:00Z")],
        looks in proptest::collection::vec(1..20_000_i64, 1..20),
    ) {
        let timetable = timetable(cron, jitter);
        let start = moment(start);
        let (mut decided, mut now) = (start, start);
        let mut count = 0;
        for look in looks {
            now += SignedDuration::from_secs(look);
            if let Some(pending) = timetable.pending(decided, now) {
                prop_assert!(decided < pending.first && pending.first <= pending.latest);
                prop_assert!(timetable.due_at(pending.latest) <= now);
                (decided, count) = (pending.latest, count + pending.count);
            }
            let next = timetable.next_after(decided).expect("another one");
            prop_assert!(timetable.due_at(next) > now, "nothing that is due is left");
        }
        let all = std::iter::successors(timetable.next_after(start), |at| timetable.next_after(*at));
        prop_assert_eq!(all.take_while(|at| timetable.due_at(*at) <= now).count() as u64, count);
    }
}
