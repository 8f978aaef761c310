//! What every job store promises, one promise each. Each test gets a store of its own that is empty.

use std::time::Duration;

use job::documents::Progress;
use job::{
    Created, Delivery, EventSeq, Generation, Hold, Intent, JobFilter, JobId, JobStore, Outcome, State, StateName,
    StopReason, StoreError, Version,
};

use crate::kit::{
    PASSWORD, SIGNING_KEY, at, directory, ended, event, failed, job, kept, key, node, number_of, numbers, saved,
    secretive_job, version_of, with_spec,
};

const LEASE: Duration = Duration::from_hours(1);

pub(crate) async fn a_new_job_is_kept_as_it_is(store: &dyn JobStore) {
    let mut job = secretive_job(1);
    let created = store.create(&job, None).await.unwrap();
    assert_eq!(created, Created::New(Version(1)));
    job.version = Version(1);
    assert_eq!(store.get(job.id).await.unwrap(), Some(job));
    assert_eq!(store.get(JobId::from_u128(2)).await.unwrap(), None);
}

pub(crate) async fn an_identifier_is_taken_once(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let again = store.create(&job, None).await;
    assert!(matches!(again, Err(StoreError::Failed { .. })), "{again:?}");
    assert_eq!(store.get(job.id).await.unwrap(), Some(job));
}

pub(crate) async fn the_same_request_makes_one_job(store: &dyn JobStore) {
    let key_of_a = key("a", "k", "body");
    let first = job(1);
    assert_eq!(store.create(&first, Some(&key_of_a)).await.unwrap(), Created::New(Version(1)));
    match store.create(&job(2), Some(&key_of_a)).await.unwrap() {
        Created::Known(known) => assert_eq!(known.id, first.id),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.create(&job(3), Some(&key("a", "k", "another body"))).await.unwrap(), Created::KeyReused);
    // Keys of different requesters, and different keys, have nothing to do with each other.
    assert_eq!(store.create(&job(4), Some(&key("b", "k", "body"))).await.unwrap(), Created::New(Version(1)));
    assert_eq!(store.create(&job(5), Some(&key("a", "K", "body"))).await.unwrap(), Created::New(Version(1)));
    assert_eq!(numbers(store, &JobFilter::default(), None, 10).await, [5, 4, 1]);
}

pub(crate) async fn a_removed_job_takes_its_key_with_it(store: &dyn JobStore) {
    let key = key("a", "k", "body");
    store.create(&job(1), Some(&key)).await.unwrap();
    let mut first = store.get(JobId::from_u128(1)).await.unwrap().unwrap();
    first = ended(store, first, Outcome::Cancelled).await;
    store.remove(first.id).await.unwrap();
    assert_eq!(store.create(&job(2), Some(&key)).await.unwrap(), Created::New(Version(1)));
}

pub(crate) async fn a_save_replaces_the_job_and_raises_its_version(store: &dyn JobStore) {
    let mut job = kept(store, job(1)).await;
    job.state = State::Granting;
    job.intent = Intent::Stop(StopReason::Pause);
    job.holds = vec![Hold::Workspace { path: "/state/workspace/1".into() }];
    job.started_at = Some(at(5));
    job.updated_at = at(6);
    assert_eq!(store.save(&job, &[]).await.unwrap(), Version(2));
    job.version = Version(2);
    assert_eq!(store.get(job.id).await.unwrap(), Some(job));
}

pub(crate) async fn who_saw_an_older_version_saves_nothing(store: &dyn JobStore) {
    let old = kept(store, job(1)).await;
    let mut new = old.clone();
    saved(store, &mut new, &[]).await;
    let events = store.last_event().await.unwrap();
    let late = store.save(&old, &[event(1, "late")]).await;
    assert!(matches!(late, Err(StoreError::Conflict)), "{late:?}");
    let future = job::Job { version: Version(99), ..old.clone() };
    assert!(matches!(store.save(&future, &[]).await, Err(StoreError::Conflict)));
    assert_eq!(store.get(old.id).await.unwrap(), Some(new));
    assert_eq!(store.last_event().await.unwrap(), events, "its events are not kept either");
    let unknown = store.save(&job(7), &[]).await;
    assert!(matches!(unknown, Err(StoreError::NotFound)), "{unknown:?}");
}

pub(crate) async fn a_save_does_not_change_the_owner(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let mut claimed = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
    claimed.owner = None;
    saved(store, &mut claimed, &[]).await;
    assert_eq!(store.get(job.id).await.unwrap().unwrap().owner, Some(node("a")));
}

pub(crate) async fn secrets_go_when_they_are_not_needed_any_more(store: &dyn JobStore) {
    let job = kept(store, secretive_job(1)).await;
    let secrets = |job: &job::Job| {
        let mut spec = (*job.spec).clone();
        let webhook = spec.webhook.take().unwrap().secret.unwrap();
        (spec.lacks_secrets(), webhook.expose().to_owned())
    };
    assert_eq!(secrets(&store.get(job.id).await.unwrap().unwrap()), (false, SIGNING_KEY.into()));
    let job = ended(store, job, Outcome::Completed).await;
    let kept = store.get(job.id).await.unwrap().unwrap();
    assert_eq!(secrets(&kept), (true, SIGNING_KEY.into()), "the answer still has to be signed");
    let exposed = serde_json::to_string(&*kept.spec).unwrap();
    assert!(!exposed.contains(PASSWORD), "{exposed}");
    let tried = Delivery { tries: 1, next_try_at: Some(at(1)), last_error: Some("refused".into()) };
    store.set_delivery(job.id, &tried).await.unwrap();
    assert_eq!(secrets(&store.get(job.id).await.unwrap().unwrap()).1, SIGNING_KEY);
    store.set_delivery(job.id, &Delivery { tries: 2, ..Delivery::default() }).await.unwrap();
    assert_ne!(secrets(&store.get(job.id).await.unwrap().unwrap()).1, SIGNING_KEY);
}

pub(crate) async fn the_newest_jobs_are_listed_first_and_in_pages(store: &dyn JobStore) {
    for number in [3, 1, 5, 2, 4] {
        kept(store, job(number)).await;
    }
    let all = JobFilter::default();
    assert_eq!(numbers(store, &all, None, 2).await, [5, 4]);
    assert_eq!(numbers(store, &all, Some(JobId::from_u128(4)), 2).await, [3, 2]);
    assert_eq!(numbers(store, &all, Some(JobId::from_u128(2)), 2).await, [1]);
    assert_eq!(numbers(store, &all, Some(JobId::from_u128(1)), 2).await, [0_u32; 0]);
    // A page goes on also where the job that it goes on from is gone.
    let fourth = store.get(JobId::from_u128(4)).await.unwrap().unwrap();
    store.remove(ended(store, fourth, Outcome::Completed).await.id).await.unwrap();
    assert_eq!(numbers(store, &all, Some(JobId::from_u128(4)), 9).await, [3, 2, 1]);
}

pub(crate) async fn filters_narrow_and_add_up(store: &dyn JobStore) {
    let spec = |kind, name: Option<&str>| {
        let mut spec = job::JobSpec::new(kind, directory("/s"), directory("/d"));
        spec.name = name.map(Into::into);
        spec
    };
    use job::Kind::{Copy, Migrate, Verify};
    kept(store, with_spec(1, spec(Copy, Some("x")))).await;
    kept(store, with_spec(2, spec(Migrate, Some("x")))).await;
    let third = kept(store, with_spec(3, spec(Verify, Some("X")))).await;
    let mut fourth = with_spec(4, spec(Copy, None));
    fourth.origin.requester = "somebody".into();
    kept(store, fourth).await;
    ended(store, third, Outcome::Completed).await;

    let check = async |filter: JobFilter, expected: &[u32]| {
        assert_eq!(numbers(store, &filter, None, 10).await, expected, "{filter:?}");
    };
    let any = JobFilter::default;
    check(JobFilter { states: vec![StateName::Completed], ..any() }, &[3]).await;
    check(JobFilter { states: vec![StateName::Completed, StateName::Accepted], ..any() }, &[4, 3, 2, 1]).await;
    check(JobFilter { kinds: vec![Copy, Verify], ..any() }, &[4, 3, 1]).await;
    check(JobFilter { name: Some("x".into()), ..any() }, &[2, 1]).await;
    check(JobFilter { requester: Some("somebody".into()), ..any() }, &[4]).await;
    check(JobFilter { created_after: Some(at(2)), ..any() }, &[4, 3]).await;
    check(JobFilter { created_before: Some(at(2)), ..any() }, &[1]).await;
    let both = JobFilter { kinds: vec![Copy], name: Some("x".into()), created_before: Some(at(9)), ..any() };
    check(both, &[1]).await;
}

pub(crate) async fn unfinished_jobs_are_read_the_oldest_first(store: &dyn JobStore) {
    for number in [4, 2, 3, 1] {
        kept(store, job(number)).await;
    }
    let third = store.get(JobId::from_u128(3)).await.unwrap().unwrap();
    ended(store, third, Outcome::Completed).await;
    let mut second = store.get(JobId::from_u128(2)).await.unwrap().unwrap();
    second.state = State::Releasing { next: job::Next::End(Outcome::Cancelled) };
    saved(store, &mut second, &[]).await;
    let unfinished = store.unfinished().await.unwrap();
    assert_eq!(unfinished.iter().map(|job| number_of(job.id)).collect::<Vec<_>>(), [1, 2, 4]);
}

pub(crate) async fn every_state_is_counted(store: &dyn JobStore) {
    let count = async |wanted: StateName| {
        let counts = store.count_by_state().await.unwrap();
        counts.iter().find(|(state, _)| *state == wanted).map_or(0, |(_, count)| *count)
    };
    assert_eq!(count(StateName::Accepted).await, 0);
    for number in 1..=3 {
        kept(store, job(number)).await;
    }
    let mut first = store.get(JobId::from_u128(1)).await.unwrap().unwrap();
    first.state = failed();
    saved(store, &mut first, &[]).await;
    assert_eq!((count(StateName::Accepted).await, count(StateName::Failed).await), (2, 1));
}

pub(crate) async fn a_claim_makes_an_owner_and_fences_others_out(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let claimed = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
    assert_eq!((claimed.owner.clone(), claimed.generation), (Some(node("a")), Generation(1)));
    assert_eq!(store.get(job.id).await.unwrap(), Some(claimed.clone()));
    // Neither another node, nor who saw the version before, nor one that does not exist.
    assert_eq!(store.claim(job.id, claimed.version, &node("b"), LEASE).await.unwrap(), None);
    assert_eq!(store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap(), None);
    assert_eq!(store.claim(JobId::from_u128(9), Version(1), &node("a"), LEASE).await.unwrap(), None);
    // What was read before the claim cannot be saved after it.
    assert!(matches!(store.save(&job, &[]).await, Err(StoreError::Conflict)));
}

pub(crate) async fn a_node_claims_its_own_job_again(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let before = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
    let after = store.claim(job.id, before.version, &node("a"), LEASE).await.unwrap().unwrap();
    assert_eq!(after.generation, Generation(2));
    assert!(matches!(store.save(&before, &[]).await, Err(StoreError::Conflict)), "its earlier life is fenced out");
}

pub(crate) async fn a_lease_that_ran_out_can_be_taken_over(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let old = store.claim(job.id, job.version, &node("a"), Duration::ZERO).await.unwrap().unwrap();
    let new = store.claim(job.id, old.version, &node("b"), LEASE).await.unwrap().unwrap();
    assert_eq!((new.owner, new.generation), (Some(node("b")), Generation(2)));
    assert!(matches!(store.save(&old, &[]).await, Err(StoreError::Conflict)));
    assert_eq!(store.renew(&node("a"), &[(job.id, old.generation)], LEASE).await.unwrap(), [job.id]);
}

pub(crate) async fn a_renewed_lease_does_not_run_out(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let mine = store.claim(job.id, job.version, &node("a"), Duration::ZERO).await.unwrap().unwrap();
    // It has run out already, but nobody was faster.
    assert_eq!(store.renew(&node("a"), &[(job.id, mine.generation)], LEASE).await.unwrap(), [] as [JobId; 0]);
    assert_eq!(store.claim(job.id, mine.version, &node("b"), LEASE).await.unwrap(), None);
    assert_eq!(version_of(store, job.id).await, mine.version, "a lease is no change of the job");
}

pub(crate) async fn renewing_tells_which_jobs_are_lost(store: &dyn JobStore) {
    let mut held = Vec::new();
    for number in 1..=4 {
        let job = kept(store, job(number)).await;
        let job = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
        held.push((job.id, job.generation));
    }
    store.disown(held[1].0, held[1].1).await.unwrap();
    held[2].1 = Generation(7);
    let gone = (JobId::from_u128(99), Generation(1));
    let mut lost = store.renew(&node("a"), &[held[3], gone, held[2], held[1], held[0]], LEASE).await.unwrap();
    lost.sort_unstable();
    assert_eq!(lost, [held[1].0, held[2].0, gone.0]);
    assert_eq!(store.renew(&node("a"), &[], LEASE).await.unwrap(), [] as [JobId; 0]);
}

pub(crate) async fn a_job_that_is_given_back_can_be_claimed_at_once(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    let mine = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
    store.disown(job.id, Generation(0)).await.unwrap();
    assert_eq!(store.get(job.id).await.unwrap().unwrap().owner, Some(node("a")), "an older one gives nothing back");
    store.disown(job.id, mine.generation).await.unwrap();
    store.disown(job.id, mine.generation).await.unwrap();
    assert_eq!(store.get(job.id).await.unwrap().unwrap().owner, None);
    let theirs = store.claim(job.id, mine.version, &node("b"), LEASE).await.unwrap().unwrap();
    assert_eq!(theirs.generation, Generation(2));
    store.disown(JobId::from_u128(9), Generation(1)).await.unwrap();
}

pub(crate) async fn progress_is_of_the_current_generation_only(store: &dyn JobStore) {
    let job = kept(store, job(1)).await;
    assert_eq!(store.progress(job.id).await.unwrap(), None);
    let mine = store.claim(job.id, job.version, &node("a"), LEASE).await.unwrap().unwrap();
    let figures = |percent| Progress { percent, total_entries: Some(7), ..Progress::default() };
    store.set_progress(job.id, mine.generation, &figures(12.5)).await.unwrap();
    store.set_progress(job.id, Generation(0), &figures(1.0)).await.unwrap();
    assert_eq!(store.progress(job.id).await.unwrap(), Some(figures(12.5)));
    store.set_progress(job.id, mine.generation, &figures(13.0)).await.unwrap();
    assert_eq!(store.progress(job.id).await.unwrap(), Some(figures(13.0)));
    assert_eq!(version_of(store, job.id).await, mine.version, "progress is no change of the job");
    store.set_progress(JobId::from_u128(9), Generation(0), &figures(1.0)).await.unwrap();
    assert_eq!(store.progress(JobId::from_u128(9)).await.unwrap(), None);
}

pub(crate) async fn events_keep_their_order_and_their_job(store: &dyn JobStore) {
    assert_eq!(store.last_event().await.unwrap(), EventSeq(0));
    let mut first = kept(store, job(1)).await;
    let mut second = kept(store, job(2)).await;
    saved(store, &mut first, &[event(1, "a"), event(2, "b")]).await;
    saved(store, &mut second, &[event(3, "c")]).await;
    saved(store, &mut first, &[event(4, "d")]).await;
    let messages = async |after, job, count_max| -> String {
        let events = store.events(after, job, count_max).await.unwrap();
        assert!(events.is_sorted_by_key(|event| event.seq));
        events.into_iter().map(|event| event.event.message).collect()
    };
    let start = EventSeq::default();
    assert_eq!(messages(start, None, 10).await, "abcd");
    assert_eq!(messages(start, None, 2).await, "ab");
    assert_eq!(messages(start, Some(first.id), 10).await, "abd");
    let all = store.events(start, None, 10).await.unwrap();
    assert_eq!(messages(all[1].seq, None, 10).await, "cd");
    assert_eq!((all[2].job, &all[2].event), (second.id, &event(3, "c")));
    assert_eq!(store.last_event().await.unwrap(), all[3].seq);
    assert_eq!(messages(all[3].seq, None, 10).await, "");
}

pub(crate) async fn old_events_of_ended_jobs_are_forgotten(store: &dyn JobStore) {
    let mut over = kept(store, job(1)).await;
    let mut going = kept(store, job(2)).await;
    saved(store, &mut over, &[event(1, "a"), event(50, "b")]).await;
    saved(store, &mut going, &[event(1, "c")]).await;
    ended(store, over, Outcome::Completed).await;
    let last = store.last_event().await.unwrap();
    assert_eq!(store.forget_events(at(50)).await.unwrap(), 1);
    assert_eq!(store.forget_events(at(50)).await.unwrap(), 0);
    let left = store.events(EventSeq::default(), None, 10).await.unwrap();
    assert_eq!(left.iter().map(|event| &*event.event.message).collect::<Vec<_>>(), ["b", "c"]);
    saved(store, &mut going, &[event(60, "d")]).await;
    assert!(store.last_event().await.unwrap() > last, "a number is never given again");
}

pub(crate) async fn deliveries_are_due_at_their_time_the_longest_due_first(store: &dyn JobStore) {
    for number in 1..=4 {
        let job = kept(store, job(number)).await;
        let delivery = Delivery {
            tries: number,
            next_try_at: Some(at(100 - i64::from(number))),
            last_error: Some(format!("try {number} failed")),
        };
        store.set_delivery(job.id, &delivery).await.unwrap();
        if number != 4 {
            ended(store, job, Outcome::Cancelled).await;
        }
    }
    let due = async |now, count_max| {
        let due = store.undelivered(at(now), count_max).await.unwrap();
        due.iter().map(|(job, _)| number_of(job.id)).collect::<Vec<_>>()
    };
    assert_eq!(due(1000, 10).await, [3, 2, 1], "the fourth has not ended");
    assert_eq!(due(1000, 2).await, [3, 2]);
    assert_eq!(due(98, 10).await, [3, 2]);
    let (_, delivery) = store.undelivered(at(1000), 10).await.unwrap().remove(0);
    let expected = Delivery { tries: 3, next_try_at: Some(at(97)), last_error: Some("try 3 failed".into()) };
    assert_eq!(delivery, expected);
    store.set_delivery(JobId::from_u128(3), &Delivery::default()).await.unwrap();
    assert_eq!(due(1000, 10).await, [2, 1], "delivered, or given up");
    let unknown = store.set_delivery(JobId::from_u128(9), &Delivery::default()).await;
    assert!(matches!(unknown, Err(StoreError::NotFound)), "{unknown:?}");
}

pub(crate) async fn only_an_ended_job_is_removed_and_with_all_that_belongs_to_it(store: &dyn JobStore) {
    let mut going = kept(store, job(1)).await;
    saved(store, &mut going, &[event(1, "a")]).await;
    let refused = store.remove(going.id).await;
    assert!(matches!(refused, Err(StoreError::Failed { .. })), "{refused:?}");
    assert_eq!(store.events(EventSeq::default(), Some(going.id), 9).await.unwrap().len(), 1);
    store.set_progress(going.id, going.generation, &Progress::default()).await.unwrap();
    let over = ended(store, going, Outcome::Completed).await;
    store.remove(over.id).await.unwrap();
    store.remove(over.id).await.unwrap();
    assert_eq!(store.get(over.id).await.unwrap(), None);
    assert_eq!(store.events(EventSeq::default(), None, 9).await.unwrap(), []);
    assert_eq!(store.progress(over.id).await.unwrap(), None);
}
