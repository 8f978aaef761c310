//! Any job comes back as it went in.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use job::documents::Progress;
use job::spec::{BandwidthWindow, Day, Kind, MigratePlan, Options, RateLimits, Schedule, Webhook};
use job::{
    BackupPlan, CutoverState, Endpoint, Failure, FailureCode, Generation, Hold, Intent, Job, JobId, JobSpec,
    JobStore as _, Keep, Next, OnBehalf, Origin, Outcome, Pass, PassFigures, PassKind, Sensitive, Side, State, Step,
    StopReason, Version,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use testkit::disk::TempDir;

use crate::kit::{file_in, kept, open, runtime, saved};

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(|nanoseconds| Timestamp::from_nanosecond(nanoseconds.into()).unwrap())
}

fn fraction() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), proptest::num::f64::NORMAL, proptest::num::f64::SUBNORMAL]
}

fn sensitive() -> impl Strategy<Value = Sensitive> {
    prop_oneof![
        any::<String>().prop_map(Sensitive::new),
        any::<String>().prop_map(|secret| Sensitive::new(format!("a=1,password={secret},b"))),
        any::<String>().prop_map(|secret| Sensitive::new(format!("mount -o secret='{secret}' h:/ %(path)s"))),
        any::<String>().prop_map(Sensitive::secret),
    ]
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let path = || any::<String>().prop_map(PathBuf::from);
    prop_oneof![
        Just(Endpoint::None),
        any::<String>().prop_map(|name| Endpoint::Repository { name }),
        any::<String>().prop_map(|host| Endpoint::Url { url: Sensitive::new(format!("rest:https://u:geheim@{host}")) }),
        path().prop_map(|path| Endpoint::Directory { path }),
        (any::<String>(), any::<String>(), vec(sensitive(), 0..4), option::of(path()))
            .prop_map(|(fs_type, source, options, subdir)| Endpoint::Mount { fs_type, source, options, subdir }),
        (sensitive(), option::of(sensitive()), option::of(sensitive()))
            .prop_map(|(mount, unmount, options)| Endpoint::Command { mount, unmount, options }),
    ]
}

fn limits() -> impl Strategy<Value = RateLimits> {
    let window = (any::<String>(), any::<String>(), any::<Option<u64>>()).prop_map(|(from, to, bandwidth)| {
        BandwidthWindow { days: vec![Day::Sat], from, to, bandwidth_bytes_per_second: bandwidth }
    });
    (any::<Option<u64>>(), any::<Option<u64>>(), vec(window, 0..3), any::<Option<String>>()).prop_map(
        |(bandwidth_bytes_per_second, operations_per_second, windows, time_zone)| RateLimits {
            bandwidth_bytes_per_second,
            operations_per_second,
            windows,
            time_zone,
        },
    )
}

fn plan() -> impl Strategy<Value = BackupPlan> {
    let text = any::<Option<String>>;
    let keep = any::<Option<u32>>().prop_map(|daily| Keep { daily, ..Keep::default() });
    (text(), text(), text(), vec(any::<String>(), 0..3), text(), keep, any::<u8>()).prop_map(
        |(subdir, id, share, tags, password, keep, read_data_percent)| BackupPlan {
            subdir: subdir.map(PathBuf::from),
            id,
            share,
            password: password.map(Sensitive::secret),
            paths: tags.iter().map(PathBuf::from).collect(),
            tags,
            read_data_percent,
            keep,
            ..BackupPlan::default()
        },
    )
}

fn spec() -> impl Strategy<Value = JobSpec> {
    let webhook = (any::<String>(), any::<Option<String>>())
        .prop_map(|(url, secret)| Webhook { url, secret: secret.map(Sensitive::secret) });
    let schedule = (any::<i32>(), option::of(time()), option::of(time()))
        .prop_map(|(priority, start_after, deadline)| Schedule { priority, start_after, deadline });
    let options = (vec(any::<String>(), 0..3), any::<bool>(), any::<Option<u64>>())
        .prop_map(|(exclude, delete, max_delete)| Options { exclude, delete, max_delete, ..Options::default() });
    let migrate = (any::<u32>(), any::<Option<String>>()).prop_map(|(interval_seconds, hook)| MigratePlan {
        interval_seconds,
        hook,
        ..MigratePlan::default()
    });
    let rest = (option::of(plan()), option::of(webhook), option::of(any::<u128>()));
    let ends = (proptest::sample::select(&Kind::ALL[..]), any::<Option<String>>(), endpoint(), endpoint());
    (ends, options, limits(), schedule, migrate, rest).prop_map(
        |((kind, name, source, dest), options, limits, schedule, migrate, (backup, webhook, retry_of))| JobSpec {
            kind,
            name,
            source,
            dest,
            options,
            limits,
            schedule,
            migrate,
            backup,
            webhook,
            retry_of: retry_of.map(JobId::from_u128),
        },
    )
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let failure = any::<String>().prop_map(|message| Failure::new(Step::Mount, FailureCode::MountFailed, message));
    prop_oneof![
        Just(Outcome::Completed),
        Just(Outcome::Cancelled),
        failure.prop_map(|failure| Outcome::Failed { failure }),
    ]
}

fn state() -> impl Strategy<Value = State> {
    prop_oneof![
        Just(State::Accepted),
        Just(State::Granting),
        Just(State::Mounting),
        Just(State::Working),
        Just(State::Releasing { next: Next::Wait }),
        outcome().prop_map(|outcome| State::Releasing { next: Next::End(outcome) }),
        outcome().prop_map(|outcome| State::Ended { outcome }),
    ]
}

fn intent() -> impl Strategy<Value = Intent> {
    use StopReason::{Cancel, Deadline, LostLease, Pause, Shutdown};
    let reasons = [Shutdown, LostLease, Pause, Deadline, Cancel];
    prop_oneof![Just(Intent::Run), proptest::sample::select(reasons.to_vec()).prop_map(Intent::Stop)]
}

fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![
        any::<String>().prop_map(|path| Hold::Workspace { path: path.into() }),
        any::<String>().prop_map(|grant| Hold::Access { side: Side::Dest, grant }),
        any::<String>().prop_map(|hook| Hold::ReadOnly { hook }),
    ]
}

fn pass() -> impl Strategy<Value = Pass> {
    (any::<u32>(), time(), fraction(), fraction(), any::<[u64; 4]>()).prop_map(
        |(number, ended_at, elapsed_seconds, verify_seconds, [copied_bytes, faults, losses, differences])| Pass {
            number,
            kind: PassKind::Incremental,
            ended_at,
            figures: PassFigures {
                elapsed_seconds,
                verify_seconds,
                copied_bytes,
                faults,
                losses,
                differences,
                ..PassFigures::default()
            },
        },
    )
}

fn job() -> impl Strategy<Value = Job> {
    let times = (option::of(time()), time(), option::of(time()), option::of(time()), time());
    let counts = (any::<u32>(), any::<u32>(), any::<bool>(), any::<Option<String>>());
    let on_behalf =
        option::of((any::<String>(), any::<Option<String>>()).prop_map(|(of, text)| OnBehalf {
            of,
            request: serde_json::json!({ "text": text, "list": [1, null, true] }),
        }));
    let origin = (any::<String>(), any::<Option<String>>(), on_behalf)
        .prop_map(|(requester, request_id, on_behalf)| Origin { requester, request_id, on_behalf });
    (spec(), origin, state(), intent(), vec(hold(), 0..4), limits(), vec(pass(), 0..4), counts, times).prop_map(
        |(spec, origin, state, intent, holds, limits, passes, counts, times)| {
            let (passes_done, workers_lost, asked, release_trouble) = counts;
            let (not_before, created_at, started_at, ended_at, updated_at) = times;
            Job {
                id: JobId::generate(),
                spec: Arc::new(spec),
                origin,
                state,
                intent,
                holds,
                limits,
                cutover: if asked { CutoverState::Asked } else { CutoverState::NotAsked },
                passes,
                passes_done,
                workers_lost,
                not_before,
                release_trouble,
                created_at,
                started_at,
                ended_at,
                updated_at,
                version: Version::default(),
                generation: Generation::default(),
                owner: None,
            }
        },
    )
}

/// The specification as it is once the job has ended: secrets of the mounts are gone.
fn without_mount_secrets(spec: &JobSpec) -> JobSpec {
    let mut masked: JobSpec = serde_json::from_str(&serde_json::to_string(spec).unwrap()).unwrap();
    masked.webhook.clone_from(&spec.webhook);
    masked
}

#[test]
fn a_job_survives_the_round_trip_unchanged() {
    let runtime = runtime();
    let dir = TempDir::new();
    let store = runtime.block_on(open(&file_in(&dir)));
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(first in job(), second in job())| {
        runtime.block_on(async {
            let mut first = Job { state: State::Accepted, ..first };
            first = kept(&store, first).await;
            assert_eq!(store.get(first.id).await.unwrap().as_ref(), Some(&first));
            // Then everything about it changes.
            let mut second = Job { id: first.id, version: first.version, ..second };
            saved(&store, &mut second, &[]).await;
            if second.state.is_ended() {
                second.spec = Arc::new(without_mount_secrets(&second.spec));
            }
            assert_eq!(store.get(first.id).await.unwrap().as_ref(), Some(&second));
        });
    });
    runtime.block_on(store.close()).unwrap();
}

#[test]
fn progress_survives_the_round_trip_unchanged() {
    let runtime = runtime();
    let dir = TempDir::new();
    let store = runtime.block_on(open(&file_in(&dir)));
    let job = runtime.block_on(kept(&store, crate::kit::job(1)));
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(stage: String, percent in fraction(), numbers: BTreeMap<u8, u64>, total: Option<u64>)| {
        let number = |at| numbers.get(&at).copied().unwrap_or_default();
        let progress = Progress {
            stage, percent, total_bytes: total, done_bytes: number(0), faults: number(1), ..Progress::default()
        };
        runtime.block_on(async {
            store.set_progress(job.id, job.generation, &progress).await.unwrap();
            assert_eq!(store.progress(job.id).await.unwrap(), Some(progress));
        });
    });
    runtime.block_on(store.close()).unwrap();
}
