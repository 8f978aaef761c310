//! What doors see: refusals, views, events, waiting, figures.

use std::time::Duration;

use job::{
    DataService as _, DoorError, EventKind, EventSeq, IdempotencyKey, JobFilter, JobId, Kind, LiveEvent, Origin,
    Outcome, Page, StateName,
};

use crate::fake::{Script, World, ended, soon, spec, until};

#[test]
fn a_request_that_cannot_be_carried_out_is_refused_with_every_reason() {
    let world = World::new();
    world.run(async |service| {
        let mut bad = spec(Kind::Copy, "");
        bad.options.workers = Some(0);
        bad.retry_of = Some(JobId::from_u128(1));
        let Err(DoorError::BadSpec(reasons)) = service.submit(bad, Origin::default(), None).await else {
            panic!("must be refused");
        };
        assert_eq!(reasons.len(), 3, "{reasons:?}");
        assert!(matches!(service.get(JobId::from_u128(1)).await, Err(DoorError::NoSuchJob(_))));
        assert!(matches!(service.cancel(JobId::from_u128(1)).await, Err(DoorError::NoSuchJob(_))));
    });
    assert_eq!(world.store.jobs().len(), 0);
}

#[test]
fn one_request_makes_one_job_however_often_it_is_sent() {
    let world = World::new();
    world.run(async |service| {
        let key = |fingerprint: &str| {
            Some(IdempotencyKey { requester: "r".into(), key: "k".into(), fingerprint: fingerprint.into() })
        };
        let submit =
            async |fingerprint| service.submit(spec(Kind::Copy, "s"), Origin::default(), key(fingerprint)).await;
        let first = submit("a").await.expect("is taken");
        let again = submit("a").await.expect("is known");
        assert_eq!((first.is_known, again.is_known), (false, true));
        assert_eq!(first.view.job.id, again.view.job.id);
        assert!(matches!(submit("b").await, Err(DoorError::KeyReused)));
        ended(service, first.view.job.id).await;
    });
}

#[test]
fn every_change_of_state_is_an_event_in_order_and_is_heard_live() {
    let world = World::new();
    world.run(async |service| {
        let mut live = service.subscribe();
        let id = soon(service, spec(Kind::Copy, "s")).await;
        ended(service, id).await;
        use StateName::{Accepted, Completed, Granting, Mounting, Releasing, Working};
        let expected = [
            (EventKind::Created, Accepted),
            (EventKind::StateChanged, Granting),
            (EventKind::StateChanged, Mounting),
            (EventKind::StateChanged, Working),
            (EventKind::PassEnded, Releasing),
            (EventKind::StateChanged, Releasing),
            (EventKind::Ended, Completed),
        ];
        assert_eq!(world.store.messages(id), expected);
        let (mut heard, mut progress) = (Vec::new(), 0);
        while heard.len() < expected.len() {
            match live.recv().await.expect("does not lag") {
                LiveEvent::Stored(stored) => heard.push((stored.event.kind, stored.event.state)),
                LiveEvent::Progress { .. } => progress += 1,
            }
        }
        assert_eq!(heard, expected);
        assert!(progress > 0);
        let last = service.last_event().await.expect("answers");
        let after = service.events_after(EventSeq(last.0 - 2), Some(id), 10).await.expect("answers");
        assert_eq!(after.len(), 2);
    });
}

#[test]
fn waiting_answers_at_the_end_or_when_the_time_is_over() {
    let world = World::new();
    world.executor.script("s", [Script::complete(30)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        let begun = tokio::time::Instant::now();
        let early = service.wait(id, Duration::from_secs(5)).await.expect("is there");
        assert!(!early.job.state.is_ended() && begun.elapsed() >= Duration::from_secs(5));
        let view = service.wait(id, Duration::from_hours(1)).await.expect("is there");
        assert_eq!(view.job.outcome(), Some(&Outcome::Completed));
        assert!(begun.elapsed() < Duration::from_mins(1));
    });
}

#[test]
fn progress_is_seen_while_it_works_and_stays_known() {
    let world = World::new();
    world.executor.script("s", [Script::complete(10)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        let copied = |view: &job::JobView| view.progress.as_ref().map_or(0, |progress| progress.copied_files);
        until(service, id, |view| copied(view) >= 3).await;
        ended(service, id).await;
        assert_eq!(copied(&service.get(id).await.expect("is there")), 10, "the last progress is stored too");
        let figures = service.figures().await.expect("figures");
        assert_eq!((figures.copied_bytes, figures.workers_started, figures.workers_lost), (1000, 1, 0));
        assert!(figures.jobs_by_state.contains(&(StateName::Completed, 1)));
    });
}

#[test]
fn lists_come_in_pages_the_newest_first() {
    let world = World::new();
    world.run(async |service| {
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            ids.push(soon(service, spec(Kind::Copy, name)).await);
        }
        ids.reverse();
        let page = |after| Page { after, size: 2 };
        let listed = async |after| {
            let views = service.list(&JobFilter::default(), &page(after)).await.expect("answers");
            views.into_iter().map(|view| view.job.id).collect::<Vec<_>>()
        };
        assert_eq!(listed(None).await, ids[..2]);
        assert_eq!(listed(Some(ids[1])).await, ids[2..]);
    });
}

#[test]
fn what_cannot_be_now_is_refused_in_words() {
    let world = World::new();
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        let Err(DoorError::NotNow(why)) = service.cutover(id).await else { panic!("must be refused") };
        assert!(why.contains("only a migration"), "{why}");
        ended(service, id).await;
        let Err(DoorError::NotNow(why)) = service.resume(id).await else { panic!("must be refused") };
        assert_eq!(why, "the job is completed and cannot go on");
    });
}

#[test]
fn warnings_of_a_worker_are_events_up_to_a_bound() {
    let world = World::new();
    world.executor.script("s", [Script::Warns(150)]);
    world.run(async |service| {
        let id = soon(service, spec(Kind::Copy, "s")).await;
        ended(service, id).await;
        let warnings = world.store.messages(id).into_iter().filter(|(kind, _)| *kind == EventKind::Warning).count();
        assert_eq!(warnings, job::LIMITS.warnings_per_pass as usize);
    });
}

#[test]
fn many_threads_change_the_same_jobs_and_all_of_them_end() {
    let world = World::new();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let service = job::Service::start(world.ports(), world.settings()).await.expect("starts");
        let mut ids = Vec::new();
        for number in 0..60 {
            let name = number.to_string();
            world.executor.script(&name, [Script::complete(0)]);
            ids.push(soon(&service, spec(Kind::Copy, &name)).await);
        }
        let mut askers = tokio::task::JoinSet::new();
        for (number, id) in ids.iter().copied().enumerate() {
            let service = service.clone();
            askers.spawn(async move {
                if number % 3 == 0 {
                    service.pause(id).await.expect("is accepted");
                    // It may have ended before.
                    let _ = service.resume(id).await;
                } else if number % 3 == 1 {
                    service.cancel(id).await.expect("is accepted");
                }
                let view = service.wait(id, Duration::from_mins(2)).await.expect("is there");
                assert!(view.job.state.is_ended(), "{view:?}");
            });
        }
        while let Some(asked) = askers.join_next().await {
            asked.expect("no asker panics");
        }
        assert_eq!(service.shut_down(Duration::from_mins(1)).await, 0);
    });
    world.check_nothing_left();
}
