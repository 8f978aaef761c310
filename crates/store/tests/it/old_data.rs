//! Stores of earlier versions are opened by this one. The files in `testdata` are never changed.
//!
//! The next format gets a file of its own, written by the version that brings it:
//! `MANILA_DATA_STORE_WRITE=crates/store/testdata/jobs-v1.sqlite cargo test -p store old_data`.

use std::path::{Path, PathBuf};

use job::documents::Progress;
use job::{
    CutoverState, Delivery, EventSeq, Hold, Intent, Job, JobId, JobStore, Outcome, Pass, PassFigures, PassKind, Side,
    State, StopReason,
};
use testkit::disk::TempDir;

use crate::kit::{
    PASSWORD, SIGNING_KEY, at, ended, event, failed, file_in, job, kept, key, node, open, saved, secretive_job,
};

const WRITE: &str = "MANILA_DATA_STORE_WRITE";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

/// A job in the middle of its work, with one of everything.
fn working() -> Job {
    let mut job = secretive_job(1);
    job.state = State::Working;
    job.intent = Intent::Stop(StopReason::Pause);
    job.holds = vec![
        Hold::Workspace { path: ["/var/lib/manila-data", "work", "1"].iter().collect() },
        Hold::Access { side: Side::Source, grant: "rule-1".into() },
        Hold::ReadOnly { hook: "freeze".into() },
    ];
    job.limits.bandwidth_bytes_per_second = Some(1_000_000);
    job.cutover = CutoverState::Asked;
    job.passes = vec![Pass {
        number: 1,
        kind: PassKind::Baseline,
        ended_at: at(70),
        figures: PassFigures { elapsed_seconds: 1.25, copied_bytes: 4096, ..PassFigures::default() },
    }];
    job.passes_done = 1;
    job.workers_lost = 2;
    job.release_trouble = Some("busy".into());
    job.started_at = Some(at(60));
    job.updated_at = at(80);
    job
}

/// Fills a store. What it answers for these jobs is what every later version must find.
async fn fill(store: &dyn JobStore) -> Vec<Job> {
    let first = kept(store, job(1)).await;
    let first = store.claim(first.id, first.version, &node("data1"), std::time::Duration::from_mins(1)).await;
    let first = first.unwrap().unwrap();
    let mut first = Job { version: first.version, generation: first.generation, owner: first.owner, ..working() };
    saved(store, &mut first, &[event(60, "work begins"), event(70, "the baseline is done")]).await;
    store.set_progress(first.id, first.generation, &Progress { percent: 42.5, ..Progress::default() }).await.unwrap();

    store.create(&job(2), Some(&key("tests", "once", "body"))).await.unwrap();
    let second = store.get(JobId::from_u128(2)).await.unwrap().unwrap();

    let third = ended(store, kept(store, secretive_job(3)).await, Outcome::Cancelled).await;
    let delivery = Delivery { tries: 3, next_try_at: Some(at(2000)), last_error: Some("refused".into()) };
    store.set_delivery(third.id, &delivery).await.unwrap();
    let mut fourth = kept(store, job(4)).await;
    fourth.state = failed();
    saved(store, &mut fourth, &[]).await;
    vec![first, second, third, fourth]
}

#[tokio::test]
async fn the_store_of_version_1_is_opened_and_understood() {
    if let Some(path) = std::env::var_os(WRITE) {
        let path = PathBuf::from(path);
        let store = open(&path).await;
        fill(&store).await;
        store.close().await.unwrap();
        return;
    }
    let dir = TempDir::new();
    let fresh = open(&file_in(&dir)).await;
    let mut expected = fill(&fresh).await;
    // The third has ended: its mount has no secret any more.
    expected[2] = fresh.get(expected[2].id).await.unwrap().unwrap();

    let path = dir.path().join("old.sqlite");
    std::fs::copy(fixture("jobs-v1.sqlite"), &path).unwrap();
    let old = open(&path).await;
    for expected in &expected {
        assert_eq!(old.get(expected.id).await.unwrap().as_ref(), Some(expected));
    }
    let secrets = format!("{:?}", {
        let mut spec = (*old.get(JobId::from_u128(1)).await.unwrap().unwrap().spec).clone();
        assert!(!spec.lacks_secrets());
        spec.secrets()
    });
    assert!(!secrets.contains(PASSWORD) && !secrets.contains(SIGNING_KEY), "{secrets}");
    let start = EventSeq::default();
    assert_eq!(old.events(start, None, 99).await.unwrap(), fresh.events(start, None, 99).await.unwrap());
    let first = expected[0].id;
    assert_eq!(old.progress(first).await.unwrap(), fresh.progress(first).await.unwrap());
    assert_eq!(old.undelivered(at(2000), 9).await.unwrap(), fresh.undelivered(at(2000), 9).await.unwrap());
    // It lives on: the key is known, and its jobs can be saved.
    let known = old.create(&job(9), Some(&key("tests", "once", "body"))).await.unwrap();
    assert!(matches!(known, job::Created::Known(job) if job.id == JobId::from_u128(2)));
    let mut second = expected.swap_remove(1);
    saved(&old, &mut second, &[event(90, "after the upgrade")]).await;
    old.close().await.unwrap();
    fresh.close().await.unwrap();
}
