//! Reports, what is removed when, and new jobs for what failed.

use std::path::PathBuf;
use std::time::Duration;

use job::{DataService as _, DoorError, JobId, Kind, Origin, Retention, Sensitive, Service, StateName, WorkEnding};

use crate::fake::{Script, World, ended, figures, soon, spec, until};

fn report(world: &World, id: JobId, pass: u32) -> PathBuf {
    world.dir.path().join("jobs").join(id.to_string()).join("report").join(pass.to_string())
}

/// What a worker would have written.
fn write_report(world: &World, id: JobId, bytes: usize) {
    let dir = report(world, id, 1);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("summary.json"), vec![b' '; bytes]).expect("a file");
    std::fs::create_dir_all(world.dir.path().join("jobs").join(id.to_string()).join("engine")).expect("a directory");
}

async fn with_faults(world: &World, service: &Service, name: &str) -> JobId {
    world.executor.script(name, [Script::End(1, WorkEnding::WithFaults, figures(10, 2))]);
    let id = soon(service, spec(Kind::Copy, name)).await;
    ended(service, id).await;
    id
}

#[test]
fn what_failed_is_tried_again_by_a_new_job() {
    let world = World::new();
    world.run(async |service| {
        let id = with_faults(&world, service, "s").await;
        write_report(&world, id, 10);
        let retry = service.retry_failed(id, Origin::default()).await.expect("is taken").view.job;
        assert_eq!((retry.spec.retry_of, &retry.spec.dest), (Some(id), &world.store.job(id).spec.dest));
        assert!(matches!(service.remove(id).await, Err(DoorError::NotNow(_))), "its report is needed");
        assert_eq!(ended(service, retry.id).await.state.name(), StateName::Completed);
        let began = world.executor.began();
        assert_eq!(began.last().expect("two passes").1.retry_report_dir, Some(report(&world, id, 1)));
    });
    world.check_nothing_left();
}

#[test]
fn a_retry_that_cannot_be_says_why() {
    let world = World::new();
    world.run(async |service| {
        let why = async |id| match service.retry_failed(id, Origin::default()).await {
            Err(DoorError::NotNow(why)) => why,
            Err(DoorError::BadSpec(reasons)) => reasons.join("; "),
            other => panic!("{other:?}"),
        };
        let sound = soon(service, spec(Kind::Copy, "sound")).await;
        assert!(why(sound).await.contains("has not ended"));
        ended(service, sound).await;
        assert!(why(sound).await.contains("nothing failed"));
        let gone = with_faults(&world, service, "gone").await;
        assert!(why(gone).await.contains("the report of the job is gone"));
        let secret = with_faults(&world, service, "secret").await;
        write_report(&world, secret, 10);
        world.store.change(secret, |job| {
            let mut spec = (*job.spec).clone();
            spec.dest = job::Endpoint::Mount {
                fs_type: "cifs".into(),
                source: "//h/s".into(),
                options: vec![Sensitive::new("password=***")],
                subdir: None,
            };
            job.spec = spec.into();
        });
        assert!(why(secret).await.contains("secrets of the job were wiped"));
    });
}

#[test]
fn a_retry_whose_report_went_away_fails_and_says_so() {
    let world = World::new();
    world.run(async |service| {
        let id = with_faults(&world, service, "s").await;
        write_report(&world, id, 10);
        let mut none = world.settings().scheduling;
        none.jobs_max = 0;
        service.reload(none, world.settings().retention);
        let retry = service.retry_failed(id, Origin::default()).await.expect("is taken").view.job.id;
        std::fs::remove_dir_all(report(&world, id, 1)).expect("was there");
        service.reload(world.settings().scheduling, world.settings().retention);
        assert_eq!(ended(service, retry).await.state.name(), StateName::Failed);
    });
    world.check_nothing_left();
}

#[test]
fn an_ended_job_is_removed_with_its_files_and_no_other() {
    let world = World::new();
    world.executor.script("endless", [Script::Endless]);
    world.run(async |service| {
        let endless = soon(service, spec(Kind::Copy, "endless")).await;
        assert!(matches!(service.remove(endless).await, Err(DoorError::NotNow(_))));
        let id = with_faults(&world, service, "s").await;
        write_report(&world, id, 10);
        assert_eq!(
            service.reports(id).await.expect("is there").into_iter().collect::<Vec<_>>(),
            [(1, report(&world, id, 1))]
        );
        service.remove(id).await.expect("has ended");
        assert!(matches!(service.get(id).await, Err(DoorError::NoSuchJob(_))));
        assert!(!world.dir.path().join("jobs").join(id.to_string()).exists());
        service.cancel(endless).await.expect("is accepted");
        ended(service, endless).await;
    });
}

#[test]
fn reports_go_by_age_and_by_size_the_oldest_first_and_jobs_later() {
    let world = World::new();
    let days = |count: u64| Duration::from_hours(24 * count);
    world.run(async |service| {
        let mut ids = Vec::new();
        for name in ["a", "b", "c", "d"] {
            let id = with_faults(&world, service, name).await;
            write_report(&world, id, 1000);
            ids.push(id);
        }
        let kept = async |retention: Retention, expected: [bool; 4]| {
            service.reload(world.settings().scheduling, retention);
            let there = || [0, 1, 2, 3].map(|index| report(&world, ids[index], 1).exists());
            let look = async {
                while there() != expected {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(10), look).await.unwrap_or_else(|_| panic!("{:?}", there()));
        };
        let all = Retention {
            interval: Duration::from_mins(1),
            report_age_max: None,
            report_bytes_max: None,
            job_age_max: None,
            event_age_max: Some(days(1)),
        };
        kept(Retention { report_bytes_max: Some(10_000), ..all.clone() }, [true; 4]).await;
        kept(Retention { report_bytes_max: Some(2500), ..all.clone() }, [false, false, true, true]).await;
        // A job that has not ended works by the oldest one that is left.
        let mut none = world.settings().scheduling;
        none.jobs_max = 0;
        service.reload(none, all.clone());
        let retry = service.retry_failed(ids[2], Origin::default()).await.expect("is taken").view.job.id;
        tokio::time::sleep(days(3)).await;
        kept(Retention { report_age_max: Some(days(2)), ..all.clone() }, [false, false, true, false]).await;
        ended(service, retry).await;
        kept(Retention { job_age_max: Some(days(1)), ..all }, [false; 4]).await;
        until(service, retry, |_| world.store.jobs().len() == 1).await;
    });
}
