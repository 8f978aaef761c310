//! The process dies at every save, before and after it took effect; the next life brings every job to its end.

use std::time::Duration;

use job::{JobSpec, Kind, Outcome, StateName, WorkEnding};

use crate::fake::{Script, When, World, ended, figures, soon, spec, until};

/// A story: what is asked for, how its passes go, and how it ends however often the service dies.
struct Story {
    name: &'static str,
    spec: JobSpec,
    scripts: fn() -> Vec<Script>,
    expected: StateName,
}

fn stories() -> Vec<Story> {
    let mut hooked = spec(Kind::Migrate, "hooked");
    hooked.migrate.hook = Some("freeze".into());
    hooked.migrate.cutover = job::spec::Cutover::Automatic;
    hooked.migrate.passes_max = Some(2);
    hooked.migrate.interval_seconds = 60;
    let complete = || vec![];
    vec![
        Story { name: "copy", spec: spec(Kind::Copy, "copy"), scripts: complete, expected: StateName::Completed },
        Story {
            name: "faults",
            spec: spec(Kind::Verify, "faults"),
            // However often it is begun.
            scripts: || vec![Script::End(3, WorkEnding::WithFaults, figures(1, 2)); 50],
            expected: StateName::Failed,
        },
        Story {
            name: "refused",
            spec: spec(Kind::Copy, "refused"),
            scripts: || vec![Script::Fail; 50],
            expected: StateName::Failed,
        },
        Story {
            name: "lost",
            spec: spec(Kind::Copy, "lost"),
            scripts: || vec![Script::Lost(0), Script::Panics, Script::complete(5)],
            expected: StateName::Completed,
        },
        Story { name: "migration", spec: hooked, scripts: complete, expected: StateName::Completed },
    ]
}

fn world(story: &Story) -> World {
    let world = World::new();
    world.executor.script(story.name, (story.scripts)());
    world
}

fn webhook(mut spec: JobSpec) -> JobSpec {
    spec.webhook = Some(job::spec::Webhook { url: "https://h.example/".into(), secret: None });
    spec
}

/// Begins the story, in a life that may be short.
fn begin(world: &World, story: &Story) {
    let spec = webhook(story.spec.clone());
    world.serve(async |service| {
        let id = soon(service, spec).await;
        ended(service, id).await;
        told(world, 1).await;
    });
}

async fn told(world: &World, count: usize) {
    let look = async {
        while world.notifier.told().len() < count {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_hours(1), look).await.expect("somebody is told");
}

/// A life in which everything comes to its end.
fn finish(world: &World, story: &Story, context: &str) {
    let id = world.store.jobs().first().unwrap_or_else(|| panic!("{context}: the job is lost")).id;
    world.run(async |service| {
        let job = ended(service, id).await;
        assert_eq!(job.state.name(), story.expected, "{context}: {job:?}");
        told(world, 1).await;
        service.shut_down(Duration::from_secs(10)).await;
    });
    if story.name == "migration" {
        // The cutover took place: the source stays read-only.
        assert_eq!(world.access.taken(), [format!("the read-only source of {id}")], "{context}");
        assert_eq!(world.executor.leftovers().len(), 0, "{context}");
    } else {
        world.check_nothing_left();
    }
    assert!(world.notifier.told().iter().all(|told| *told == (id, story.expected)), "{context}");
    assert_eq!(world.store.delivery(id).next_try_at, None, "{context}");
}

#[test]
fn a_service_that_dies_at_any_save_brings_every_job_to_its_end_in_the_next_life() {
    for story in stories() {
        let sound = world(&story);
        begin(&sound, &story);
        finish(&sound, &story, story.name);
        let saves = sound.store.saves();
        assert!(saves >= 5, "{}: {saves} saves", story.name);
        for number in 1..=saves {
            for when in [When::Before, When::After] {
                let context = format!("{} dies at save {number}, {when:?}", story.name);
                let world = world(&story);
                world.store.die_at_save(number, when);
                begin(&world, &story);
                finish(&world, &story, &context);
            }
        }
    }
}

#[test]
fn a_service_that_dies_again_and_again_gets_there_too() {
    for story in stories() {
        for first in 1..=10 {
            let world = world(&story);
            world.store.die_at_save(first, When::After);
            begin(&world, &story);
            for second in [1, 2, 3, 5] {
                world.store.die_at_save(second, When::After);
                world.serve(async |service| {
                    let id = world.store.jobs()[0].id;
                    ended(service, id).await;
                    told(&world, 1).await;
                });
            }
            world.store.die_at_save(u64::MAX / 2, When::After);
            finish(&world, &story, &format!("{} dies at save {first}, and more", story.name));
        }
    }
}

#[test]
fn a_cancel_that_was_acknowledged_survives_every_death() {
    for number in 1..=8 {
        for when in [When::Before, When::After] {
            let world = World::new();
            world.executor.script("c", vec![Script::Endless; 20]);
            let mut acknowledged = false;
            world.serve(async |service| {
                let id = soon(service, spec(Kind::Copy, "c")).await;
                until(service, id, |view| view.job.state.name() == StateName::Working).await;
                world.store.die_at_save(number, when);
                acknowledged = service_cancel(service, id).await;
                ended(service, id).await;
            });
            let id = world.store.jobs()[0].id;
            world.run(async |service| {
                if !acknowledged {
                    service_cancel(service, id).await;
                }
                assert_eq!(ended(service, id).await.outcome(), Some(&Outcome::Cancelled), "{number} {when:?}");
                service.shut_down(Duration::from_secs(10)).await;
            });
            world.check_nothing_left();
        }
    }
}

async fn service_cancel(service: &job::Service, id: job::JobId) -> bool {
    job::DataService::cancel(service, id).await.is_ok()
}
