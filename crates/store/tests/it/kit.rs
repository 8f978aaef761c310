//! Jobs and stores to test with.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use job::spec::{Kind, Webhook};
use job::{
    Created, Endpoint, EventKind, Failure, FailureCode, IdempotencyKey, Job, JobEvent, JobFilter, JobId, JobSpec,
    JobStore, NodeName, Origin, Outcome, Page, Sensitive, State, StateName, Step, Version,
};
use store::{OpenOptions, SqlStore};
use testkit::disk::TempDir;

/// Seconds after some day in 2026.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

pub(crate) fn directory(path: &str) -> Endpoint {
    Endpoint::Directory { path: path.into() }
}

/// A job whose identifier and time of making go up with `number`.
pub(crate) fn job(number: u32) -> Job {
    with_spec(number, JobSpec::new(Kind::Copy, directory("/source"), directory("/dest")))
}

pub(crate) fn with_spec(number: u32, spec: JobSpec) -> Job {
    let origin = Origin { requester: "tests".into(), request_id: Some(format!("req-{number}")), on_behalf: None };
    Job::new(JobId::from_u128(number.into()), spec, origin, at(number.into()))
}

pub(crate) const PASSWORD: &str = "geheimnisvoll";
pub(crate) const SIGNING_KEY: &str = "unterschrift";

/// A job with secrets: of a mount, and of the answer.
pub(crate) fn secretive_job(number: u32) -> Job {
    let source = Endpoint::Mount {
        fs_type: "cifs".into(),
        source: "//host/share".into(),
        options: vec![Sensitive::new("user=a"), Sensitive::new(format!("password={PASSWORD}"))],
        subdir: None,
    };
    let mut spec = JobSpec::new(Kind::Copy, source, directory("/dest"));
    spec.webhook = Some(Webhook { url: "https://example.org/".into(), secret: Some(Sensitive::secret(SIGNING_KEY)) });
    with_spec(number, spec)
}

pub(crate) fn key(requester: &str, key: &str, fingerprint: &str) -> IdempotencyKey {
    IdempotencyKey { requester: requester.into(), key: key.into(), fingerprint: fingerprint.into() }
}

pub(crate) fn event(seconds: i64, message: &str) -> JobEvent {
    JobEvent { at: at(seconds), kind: EventKind::StateChanged, message: message.into(), state: StateName::Working }
}

pub(crate) fn node(name: &str) -> NodeName {
    NodeName::new(name)
}

pub(crate) fn failed() -> State {
    let failure = Failure::new(Step::Copy, FailureCode::EngineFailed, "no space left");
    State::Ended { outcome: Outcome::Failed { failure } }
}

/// Makes a job and answers it as it is kept.
pub(crate) async fn kept(store: &dyn JobStore, mut job: Job) -> Job {
    match store.create(&job, None).await.unwrap() {
        Created::New(version) => job.version = version,
        other => panic!("{other:?}"),
    }
    job
}

/// Saves a job and gives it its new version.
pub(crate) async fn saved(store: &dyn JobStore, job: &mut Job, events: &[JobEvent]) {
    job.version = store.save(job, events).await.unwrap();
}

pub(crate) async fn ended(store: &dyn JobStore, mut job: Job, outcome: Outcome) -> Job {
    job.state = State::Ended { outcome };
    job.ended_at = Some(at(1000));
    saved(store, &mut job, &[]).await;
    job
}

pub(crate) async fn numbers(store: &dyn JobStore, filter: &JobFilter, after: Option<JobId>, size: u32) -> Vec<u32> {
    let jobs = store.list(filter, &Page { after, size }).await.unwrap();
    jobs.iter().map(|job| number_of(job.id)).collect()
}

pub(crate) fn number_of(id: JobId) -> u32 {
    u32::from_str_radix(&id.to_string()[28..], 16).unwrap()
}

pub(crate) async fn version_of(store: &dyn JobStore, id: JobId) -> Version {
    store.get(id).await.unwrap().unwrap().version
}

/// Where a store lies. The directory must outlive the store.
pub(crate) fn file_in(dir: &TempDir) -> PathBuf {
    dir.path().join("jobs.sqlite")
}

pub(crate) async fn open(path: &Path) -> SqlStore {
    SqlStore::open_file(path, &OpenOptions::default()).await.unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}
