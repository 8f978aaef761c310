//! Schedules with a service behind them: each firing makes one job, over restarts, several nodes, a store that is away
//! and a clock that is set; and what does not fire is told.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use job::{
    DataService as _, EventKind, Job, JobStore as _, Kind, Known, NodeName, OnMissed, Outcome, Retention,
    ScheduleSettings, ScheduleView, Service, Settings, StateName, Timetable,
};

use crate::fake::{Script, When, World, spec};

fn schedule(cron: &str) -> ScheduleSettings {
    ScheduleSettings {
        name: "nightly".into(),
        is_enabled: true,
        cron: cron.into(),
        time_zone: Some("UTC".into()),
        jitter: Duration::ZERO,
        on_missed: OnMissed::Run,
        spec: spec(Kind::Copy, "nightly"),
    }
}

fn timetable(settings: ScheduleSettings) -> Timetable {
    Timetable::new(settings, &Known::default()).expect("a schedule")
}

fn settings(world: &World, schedule: ScheduleSettings) -> Settings {
    Settings { schedules: vec![timetable(schedule)], ..world.settings() }
}

/// A life with a schedule. `None`: it died.
fn serve<T>(world: &World, schedule: ScheduleSettings, body: impl AsyncFnOnce(&Service) -> T) -> Option<T> {
    let settings = settings(world, schedule);
    let value = world.live(async || {
        let service = Service::start(world.ports(), settings).await.expect("starts");
        body(&service).await
    });
    world.check();
    value
}

fn minutes(count: u64) -> Duration {
    Duration::from_mins(count)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

async fn view(service: &Service) -> ScheduleView {
    service.schedules().await.expect("schedules").remove(0)
}

/// The firing that made a job, as hour and minute.
fn nominal(job: &Job) -> String {
    let key = job.origin.request_id.as_deref().expect("names the firing");
    let at: Timestamp = key.strip_prefix("nightly@").expect("the schedule's").parse().expect("a moment");
    at.strftime("%d %H:%M").to_string()
}

fn fired(world: &World) -> Vec<String> {
    world.store.jobs().iter().map(nominal).collect()
}

fn warnings(world: &World, job: &Job) -> usize {
    world.store.messages(job.id).iter().filter(|(kind, _)| *kind == EventKind::Warning).count()
}

#[test]
fn each_firing_makes_one_job_at_its_time() {
    let world = World::new();
    serve(&world, schedule("*/30 * * * *"), async |service| {
        pass(minutes(125)).await;
        let view = view(service).await;
        assert_eq!((view.counts.fired, view.counts.skipped, view.counts.missed), (4, 0, 0));
        assert_eq!(view.next[0].nominal_at.to_string(), "2026-11-02T10:30:00Z");
        assert_eq!(view.next.len(), 5);
        let last = view.last_job.expect("a job");
        assert_eq!(
            (last.state, last.nominal_at),
            (StateName::Completed, Some("2026-11-02T10:00:00Z".parse().unwrap()))
        );
        let figures = service.figures().await.expect("figures");
        assert_eq!(figures.schedules["nightly"], view.counts);
    });
    assert_eq!(fired(&world), ["02 08:30", "02 09:00", "02 09:30", "02 10:00"]);
    for job in world.store.jobs() {
        assert_eq!((job.origin.requester.as_str(), job.spec.name.as_deref()), ("schedule:nightly", Some("nightly")));
        assert_eq!(job.outcome(), Some(&Outcome::Completed));
        let late = job.created_at.as_second() % 1800;
        assert!(late <= 1, "{late} s late");
    }
    world.check_nothing_left();
}

#[test]
fn a_firing_is_skipped_and_told_while_the_job_before_has_not_ended() {
    let world = World::new();
    world.executor.script("nightly", [Script::Endless]);
    serve(&world, schedule("*/10 * * * *"), async |service| {
        pass(minutes(35)).await;
        let first = world.store.jobs().remove(0);
        let before = view(service).await;
        assert_eq!((before.counts.fired, before.counts.skipped, before.counts.missed), (1, 2, 0));
        let skipped = before.last_skipped.expect("one was skipped");
        assert_eq!((skipped.job, skipped.count), (first.id, 1));
        assert_eq!(skipped.latest_at.to_string(), "2026-11-02T08:30:00Z");
        assert_eq!(warnings(&world, &first), 1, "the first one alone is kept with the job");
        service.cancel(first.id).await.expect("is accepted");
        pass(minutes(10)).await;
    });
    assert_eq!(fired(&world), ["02 08:10", "02 08:40"]);
}

#[test]
fn what_a_service_that_was_away_missed_is_made_once_and_told() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |_| pass(minutes(61)).await);
    world.clock.step(SignedDuration::from_mins(5 * 60 + 30));
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(1)).await;
        let view = view(service).await;
        assert_eq!((view.counts.fired, view.counts.missed), (1, 5));
        let missed = view.last_missed.expect("some were missed");
        let late = world.store.jobs().pop().expect("a job");
        assert_eq!((missed.count, missed.job), (5, Some(late.id)));
        assert_eq!(missed.first_at.to_string(), "2026-11-02T10:00:00Z");
        assert_eq!(warnings(&world, &late), 1);
    });
    assert_eq!(fired(&world), ["02 09:00", "02 14:00"]);
}

#[test]
fn what_was_missed_is_told_and_not_made_where_that_is_not_wanted() {
    let world = World::new();
    let skip = || ScheduleSettings { on_missed: OnMissed::Skip, ..schedule("0 * * * *") };
    serve(&world, skip(), async |_| pass(minutes(61)).await);
    world.clock.step(SignedDuration::from_mins(5 * 60 + 30));
    serve(&world, skip(), async |service| {
        pass(minutes(1)).await;
        let view = view(service).await;
        assert_eq!((view.counts.fired, view.counts.missed), (0, 5));
        assert_eq!(view.last_missed.expect("some were missed").job, None);
        pass(minutes(60)).await;
    });
    assert_eq!(fired(&world), ["02 09:00", "02 15:00"]);
}

#[test]
fn a_short_restart_at_the_time_of_a_firing_misses_nothing() {
    for on_missed in [OnMissed::Run, OnMissed::Skip] {
        let world = World::new();
        let schedule = || ScheduleSettings { on_missed, ..schedule("0 * * * *") };
        serve(&world, schedule(), async |_| pass(minutes(119)).await);
        world.clock.step(SignedDuration::from_mins(4));
        serve(&world, schedule(), async |service| {
            pass(minutes(1)).await;
            let counts = view(service).await.counts;
            assert_eq!((counts.fired, counts.missed), (1, 0));
        });
        assert_eq!(fired(&world), ["02 09:00", "02 10:00"]);
    }
}

#[test]
fn a_schedule_that_never_fired_has_missed_nothing() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |_| pass(minutes(30)).await);
    world.clock.step(SignedDuration::from_mins(5 * 60));
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(5)).await;
        assert_eq!(view(service).await.counts, job::ScheduleCounts::default());
    });
    assert!(fired(&world).is_empty());
}

#[test]
fn a_job_that_was_under_way_over_a_restart_is_not_overtaken() {
    let world = World::new();
    world.executor.script("nightly", [Script::Endless, Script::complete(600)]);
    serve(&world, schedule("0 * * * *"), async |_| pass(minutes(61)).await);
    world.clock.step(SignedDuration::from_mins(3 * 60));
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(20)).await;
        let counts = view(service).await.counts;
        assert_eq!((counts.fired, counts.skipped, counts.missed), (0, 3, 0));
        assert!(world.store.jobs()[0].state.is_ended());
    });
    // Once more: what was skipped then was not missed.
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(20)).await;
        assert_eq!(view(service).await.counts, job::ScheduleCounts::default());
    });
    assert_eq!(fired(&world), ["02 09:00"]);
}

#[test]
fn a_service_that_dies_at_any_moment_makes_each_job_once() {
    for number in 1..=60 {
        for when in [When::Before, When::After] {
            let world = World::new();
            serve(&world, schedule("0 * * * *"), async |_| pass(minutes(61)).await);
            // Just before the next firing, so that the calls are those around it.
            world.clock.step(SignedDuration::from_secs(3600 - 62));
            world.store.die_at_call(number, when);
            let whole = world.live(async || {
                // It may die in the start, too.
                let service = Service::start(world.ports(), settings(&world, schedule("0 * * * *"))).await;
                let _service = service.expect("starts");
                pass(minutes(90)).await;
            });
            serve(&world, schedule("0 * * * *"), async |_| pass(minutes(150)).await);
            let fired = fired(&world);
            let expected = ["02 09:00", "02 10:00", "02 11:00", "02 12:00", "02 13:00"];
            assert_eq!(fired[..], expected[..fired.len()], "dies at call {number}, {when:?}");
            assert!(fired.len() >= 4, "dies at call {number}, {when:?}: {fired:?}");
            assert!(whole.is_none() || number > 30, "{number}");
        }
    }
}

#[test]
fn a_store_that_fails_at_any_call_costs_no_firing_and_doubles_none() {
    for number in 1..=40 {
        for when in [When::Before, When::After] {
            let world = World::new();
            serve(&world, schedule("0 * * * *"), async |_| {
                pass(Duration::from_secs(3598)).await;
                world.store.fail_call(number, when);
                pass(minutes(70)).await;
            });
            assert_eq!(fired(&world), ["02 09:00", "02 10:00"], "call {number}, {when:?}");
        }
    }
}

#[test]
fn a_store_that_is_away_delays_the_job() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(59)).await;
        world.store.be_away(true);
        pass(minutes(4)).await;
        world.store.be_away(false);
        pass(minutes(1)).await;
        let view = view(service).await;
        assert_eq!((view.counts.fired, view.counts.missed, view.trouble), (1, 0, None));
        // Longer than what is still in time.
        pass(minutes(50)).await;
        world.store.be_away(true);
        pass(minutes(30)).await;
        world.store.be_away(false);
        pass(minutes(1)).await;
    });
    assert_eq!(fired(&world), ["02 09:00", "02 10:00"]);
    assert_eq!(warnings(&world, &world.store.jobs()[1]), 1);
}

#[test]
fn a_full_queue_delays_the_job_and_is_told() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |service| {
        let mut full = world.settings().scheduling;
        full.queue_max = 0;
        service.reload(full, world.settings().retention);
        pass(minutes(62)).await;
        assert!(view(service).await.trouble.is_some_and(|trouble| trouble.contains("queue is full")));
        service.reload(world.settings().scheduling, world.settings().retention);
        pass(minutes(2)).await;
        assert_eq!(view(service).await.trouble, None);
    });
    assert_eq!(fired(&world), ["02 09:00"]);
}

#[test]
fn two_nodes_on_one_store_make_one_job_for_each_firing() {
    for jitter in [Duration::ZERO, minutes(20)] {
        let world = World::new();
        let schedule = || ScheduleSettings { jitter, ..schedule("*/30 * * * *") };
        world.live(async || {
            let here = Service::start(world.ports(), settings(&world, schedule())).await.expect("starts");
            let there = Settings { node: NodeName::new("there"), ..settings(&world, schedule()) };
            let there = Service::start(world.ports(), there).await.expect("starts");
            pass(minutes(24 * 60 + 15)).await;
            let (here, there) = (view(&here).await.counts, view(&there).await.counts);
            assert_eq!((here.fired + there.fired, here.skipped + there.skipped), (48, 0));
            assert_eq!(here.missed + there.missed, 0);
        });
        world.check();
        let mut fired = fired(&world);
        assert_eq!(fired.len(), 48);
        fired.dedup();
        assert_eq!(fired.len(), 48);
    }
}

#[test]
fn a_clock_that_is_set_loses_and_doubles_nothing() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(61)).await;
        // Forward: what it leaps over was missed.
        world.clock.step(SignedDuration::from_mins(3 * 60));
        pass(minutes(2)).await;
        assert_eq!(fired(&world), ["02 09:00", "02 12:00"]);
        assert_eq!(view(service).await.counts.missed, 2);
        // Back by a little: the same hour comes again, and makes nothing again.
        world.clock.step(SignedDuration::from_mins(-30));
        pass(minutes(60)).await;
        assert_eq!(fired(&world), ["02 09:00", "02 12:00"]);
        pass(minutes(30)).await;
        assert_eq!(fired(&world).len(), 3);
        // Back by much, as from a clock that was wrong: it does not wait for that time to come.
        world.clock.step(SignedDuration::from_mins(-10 * 24 * 60));
        pass(minutes(62)).await;
        assert_eq!(fired(&world).len(), 4);
    });
    // Neither does the next start.
    serve(&world, schedule("0 * * * *"), async |_| pass(minutes(62)).await);
    assert_eq!(fired(&world).len(), 5);
}

#[test]
fn what_fires_at_other_times_after_a_reload_begins_then() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |service| {
        pass(minutes(61)).await;
        // What it does may change at any time.
        let mut renamed = schedule("0 * * * *");
        renamed.spec.name = Some("renamed".into());
        service.reload_schedules(vec![timetable(renamed)]);
        pass(minutes(60)).await;
        assert_eq!(world.store.jobs()[1].spec.name.as_deref(), Some("renamed"));
        // At 10:01: the time of today is over, and was not missed.
        service.reload_schedules(vec![timetable(schedule("30 9 * * *"))]);
        pass(minutes(30)).await;
        assert_eq!(view(service).await.counts.missed, 0);
        let disabled = ScheduleSettings { is_enabled: false, ..schedule("30 9 * * *") };
        service.reload_schedules(vec![timetable(disabled)]);
        pass(minutes(24 * 60)).await;
        let view = view(service).await;
        assert_eq!((view.next.len(), view.counts.fired), (0, 2));
        service.reload_schedules(vec![timetable(schedule("30 9 * * *"))]);
        pass(minutes(24 * 60)).await;
        service.reload_schedules(Vec::new());
        pass(minutes(24 * 60)).await;
        assert_eq!(service.schedules().await.expect("schedules"), []);
    });
    assert_eq!(fired(&world), ["02 09:00", "02 10:00", "04 09:30"]);
}

#[test]
fn times_that_were_changed_while_the_service_was_away_were_not_missed() {
    let world = World::new();
    serve(&world, schedule("0 * * * *"), async |_| pass(minutes(61)).await);
    world.clock.step(SignedDuration::from_mins(3 * 60));
    serve(&world, schedule("30 9 * * *"), async |service| {
        pass(minutes(5)).await;
        assert_eq!(view(service).await.counts, job::ScheduleCounts::default());
    });
    assert_eq!(fired(&world), ["02 09:00"]);
}

#[test]
fn the_newest_job_of_a_schedule_outlives_its_age() {
    let world = World::new();
    serve(&world, schedule("0 9 * * *"), async |service| {
        let hour = Duration::from_hours(1);
        let retention = Retention { interval: hour, job_age_max: Some(2 * hour), ..Retention::default() };
        service.reload(world.settings().scheduling, retention);
        pass(minutes(20 * 60)).await;
        assert_eq!(fired(&world), ["02 09:00"]);
        pass(minutes(10 * 60)).await;
        assert_eq!(fired(&world), ["03 09:00"]);
    });
    // So a restart knows that nothing was missed, and makes no job again.
    serve(&world, schedule("0 9 * * *"), async |_| pass(minutes(60)).await);
    assert_eq!(fired(&world), ["03 09:00"]);
    let ids: Vec<_> = world.store.jobs().iter().map(|job| job.id).collect();
    world.live(async || world.store.remove(ids[0]).await.expect("is removed"));
}
