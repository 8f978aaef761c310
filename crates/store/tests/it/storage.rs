//! Storage that is full, or held by somebody else: the store says so, loses nothing, and goes on afterwards.

use std::fs;
use std::time::Duration;

use job::{EventSeq, Job, JobStore as _, StoreError};
use sqlx::Connection as _;
use store::{OpenOptions, SqlStore};
use testkit::disk::{TempDir, Tmpfs};
use testkit::lend;

use crate::kit::{event, file_in, job, kept, open, saved};
use crate::opening::raw;

#[tokio::test]
async fn a_full_disk_loses_nothing_that_was_answered() {
    let disk = lend!("a_full_disk_loses_nothing_that_was_answered", Tmpfs::new(2 << 20, None));
    let path = disk.path().join("jobs.sqlite");
    // Each round fills what the one before has made free: the disk ends in another place of a transaction each time.
    let ballast: Vec<_> = (0..8).map(|number| disk.path().join(format!("ballast-{number}"))).collect();
    for (path, number) in ballast.iter().zip(10..) {
        fs::write(path, vec![1; number * 10_000]).unwrap();
    }
    let store = open(&path).await;
    let mut kept_jobs: Vec<Job> = Vec::new();
    for (ballast, round) in ballast.iter().zip(1..) {
        let error = fill(&store, round, &mut kept_jobs).await;
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        all_there(&store, &kept_jobs).await;
        fs::remove_file(ballast).unwrap();
        let mut after = kept(&store, job(round * 10_000)).await;
        saved(&store, &mut after, &[event(1, "there is room")]).await;
        kept_jobs.push(after);
    }
    store.close().await.unwrap();
    drop(store);
    let store = open(&path).await;
    all_there(&store, &kept_jobs).await;
    store.close().await.unwrap();
}

/// Makes jobs until there is an error.
async fn fill(store: &SqlStore, round: u32, kept_jobs: &mut Vec<Job>) -> StoreError {
    for number in 1.. {
        let mut job = job(round * 10_000 + number);
        match store.create(&job, None).await {
            Ok(job::Created::New(version)) => job.version = version,
            Ok(other) => panic!("{other:?}"),
            Err(error) => return error,
        }
        kept_jobs.push(job.clone());
        match store.save(&job, &[event(1, &"x".repeat(700 * round as usize))]).await {
            Ok(version) => kept_jobs.last_mut().unwrap().version = version,
            Err(error) => return error,
        }
    }
    unreachable!("a disk has an end")
}

async fn all_there(store: &SqlStore, kept_jobs: &[Job]) {
    for job in kept_jobs {
        assert_eq!(store.get(job.id).await.unwrap().as_ref(), Some(job));
        let events = store.events(EventSeq::default(), Some(job.id), 9).await.unwrap().len() as u64;
        assert_eq!(events, job.version.0 - 1, "each save came with its event");
    }
}

#[tokio::test]
async fn who_waits_for_a_lock_is_told_in_the_end_and_reading_goes_on() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    let options = OpenOptions { busy_timeout: Duration::from_millis(20), ..OpenOptions::default() };
    let store = SqlStore::open_file(&path, &options).await.unwrap();
    let mut job = kept(&store, job(1)).await;

    let mut somebody = raw(&path).await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut somebody).await.unwrap();
    let error = store.save(&job, &[]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert_eq!(store.get(job.id).await.unwrap().as_ref(), Some(&job));
    sqlx::raw_sql("ROLLBACK").execute(&mut somebody).await.unwrap();
    somebody.close().await.unwrap();
    saved(&store, &mut job, &[event(1, "at last")]).await;
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_closed_store_is_unavailable() {
    let dir = TempDir::new();
    let store = open(&file_in(&dir)).await;
    let job = kept(&store, job(1)).await;
    store.close().await.unwrap();
    assert!(matches!(store.get(job.id).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.save(&job, &[]).await, Err(StoreError::Unavailable(_))));
}

/// A request that nobody waits for any more must not leave a transaction open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let dir = TempDir::new();
    let store = std::sync::Arc::new(open(&file_in(&dir)).await);
    let mut job = kept(&*store, job(1)).await;
    for round in 0..200_u32 {
        let task = tokio::spawn({
            let (store, job) = (std::sync::Arc::clone(&store), job.clone());
            async move { store.save(&job, &[event(1, "a"), event(2, "b")]).await }
        });
        for _ in 0..round % 20 {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
        job = store.get(job.id).await.unwrap().unwrap();
    }
    // The last one may still be on its way to the disk.
    saved_in_the_end(&store, job).await;
    let job = store.get(job_id()).await.unwrap().unwrap();
    let events = store.events(EventSeq::default(), Some(job.id), 1000).await.unwrap().len() as u64;
    assert_eq!(events, 2 * (job.version.0 - 2), "each save has both of its events, and the last one has none");
    store.close().await.unwrap();
}

fn job_id() -> job::JobId {
    job(1).id
}

async fn saved_in_the_end(store: &SqlStore, mut job: Job) {
    loop {
        match store.save(&job, &[]).await {
            Ok(_) => return,
            Err(StoreError::Conflict) => job = store.get(job.id).await.unwrap().unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}
