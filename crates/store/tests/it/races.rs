//! What every job store promises when several ask at once.

use std::sync::Arc;
use std::time::Duration;

use job::{Created, EventSeq, JobFilter, JobId, JobStore, StoreError, Version};
use tokio::task::JoinSet;

use crate::kit::{event, job, kept, key, node, numbers};

const LEASE: Duration = Duration::from_hours(1);

pub(crate) async fn of_many_claims_one_wins(store: Arc<dyn JobStore>) {
    for number in 1..=10 {
        let job = kept(&*store, job(number)).await;
        let mut claims = JoinSet::new();
        for other in 0..8 {
            let store = Arc::clone(&store);
            claims.spawn(async move {
                store.claim(job.id, job.version, &node(&format!("node-{other}")), LEASE).await.unwrap()
            });
        }
        let won: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(store.get(job.id).await.unwrap().as_ref(), won.first());
    }
}

/// Each task adds one to a number in the job, and an event, until its own change went through.
pub(crate) async fn no_save_is_lost_and_each_comes_with_its_event(store: Arc<dyn JobStore>) {
    const TASKS: u32 = 50;
    let id = kept(&*store, job(1)).await.id;
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            loop {
                let mut job = store.get(id).await.unwrap().unwrap();
                job.passes_done += 1;
                match store.save(&job, &[event(i64::from(task), &job.passes_done.to_string())]).await {
                    Ok(_) => return,
                    Err(StoreError::Conflict) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    tasks.join_all().await;
    let job = store.get(id).await.unwrap().unwrap();
    assert_eq!((job.passes_done, job.version), (TASKS, Version(u64::from(TASKS) + 1)));
    let events = store.events(EventSeq::default(), Some(id), 100).await.unwrap();
    let messages: Vec<_> = events.iter().map(|event| event.event.message.clone()).collect();
    assert_eq!(messages, (1..=TASKS).map(|number| number.to_string()).collect::<Vec<_>>());
}

pub(crate) async fn one_request_sent_many_times_at_once_makes_one_job(store: Arc<dyn JobStore>) {
    let mut requests = JoinSet::new();
    for number in 1..=20 {
        let store = Arc::clone(&store);
        requests.spawn(async move { store.create(&job(number), Some(&key("a", "k", "body"))).await.unwrap() });
    }
    let answers = requests.join_all().await;
    let made = answers.iter().filter(|answer| matches!(answer, Created::New(_))).count();
    let listed = numbers(&*store, &JobFilter::default(), None, 30).await;
    assert_eq!((made, listed.len()), (1, 1));
    for answer in answers {
        if let Created::Known(job) = answer {
            assert_eq!(job.id, JobId::from_u128(listed[0].into()));
        }
    }
}

/// Two hundred jobs come in while others look: every answer is a whole job, and the list never loses one.
pub(crate) async fn reading_goes_on_while_jobs_are_written(store: Arc<dyn JobStore>) {
    let mut writers = JoinSet::new();
    for batch in 0..4 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 1..=50 {
                kept(&*store, job(batch * 50 + number)).await;
            }
        });
    }
    let mut seen = 0;
    while seen < 200 {
        let listed = numbers(&*store, &JobFilter::default(), None, 300).await.len();
        assert!(listed >= seen, "{listed} after {seen}");
        seen = listed;
        if writers.try_join_next().is_none() {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(store.unfinished().await.unwrap().len(), 200);
}
