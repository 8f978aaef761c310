//! How jobs lie in rows: the formats of the JSON columns, their versions, and the way there and back.
//!
//! Ask of each change: what does an old program make of new rows, and a new one of old rows? A field that is added to a
//! record takes a default, and an old program leaves it out; anything else is a new [`RECORD_VERSION`], which an old
//! program refuses to read.

use std::sync::Arc;

use jiff::Timestamp;
use job::spec::{RateLimits, SPEC_VERSION};
use job::{
    CutoverState, Delivery, EventSeq, Generation, Hold, Intent, Job, JobEvent, JobId, NodeName, OnBehalf, Origin, Pass,
    Secrets, State, StoreError, StoredEvent, Version,
};
use sea_orm::sea_query::SelectStatement;
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer as _};
use serde::{Deserialize, Serialize};

use crate::tables::jobs;

pub(crate) const RECORD_VERSION: u32 = 1;

/// What of a job has no column of its own.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on_behalf: Option<OnBehalf>,
    state: State,
    intent: Intent,
    holds: Vec<Hold>,
    limits: RateLimits,
    cutover: CutoverState,
    passes: Vec<Pass>,
    passes_done: u32,
    workers_lost: u32,
    not_before: Option<Timestamp>,
    release_trouble: Option<String>,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    updated_at: Timestamp,
}

/// The JSON columns of a job that is written.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) spec: String,
    /// `None`: there is none, or it is wiped.
    pub(crate) secrets: Option<String>,
    pub(crate) record: String,
}

impl Encoded {
    pub(crate) fn new(job: &Job) -> Result<Self, StoreError> {
        let mut spec = (*job.spec).clone();
        let secrets = spec.secrets();
        // What mounts needed is not needed any more; the answer to the job's end still has to be signed.
        let secrets = if job.state.is_ended() { secrets.for_answer() } else { secrets };
        let record = Record {
            request_id: job.origin.request_id.clone(),
            on_behalf: job.origin.on_behalf.clone(),
            state: job.state.clone(),
            intent: job.intent,
            holds: job.holds.clone(),
            limits: job.limits.clone(),
            cutover: job.cutover,
            passes: job.passes.clone(),
            passes_done: job.passes_done,
            workers_lost: job.workers_lost,
            not_before: job.not_before,
            release_trouble: job.release_trouble.clone(),
            created_at: job.created_at,
            started_at: job.started_at,
            ended_at: job.ended_at,
            updated_at: job.updated_at,
        };
        Ok(Self {
            spec: encode(job.id, &spec)?,
            secrets: if secrets.is_empty() { None } else { Some(encode(job.id, &secrets)?) },
            record: encode(job.id, &record)?,
        })
    }
}

/// JSON that was read back once: what goes in and does not come out (a path that is no text, a number that is none)
/// must fail its writer, not everybody who reads it later.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(id: JobId, value: &T) -> Result<String, StoreError> {
    let unwritable = |error: serde_json::Error| StoreError::Failed {
        what: format!("job {id} holds what cannot be written"),
        source: Some(Box::new(error)),
    };
    let text = serde_json::to_string(value).map_err(unwritable)?;
    serde_json::from_str::<T>(&text).map_err(unwritable)?;
    Ok(text)
}

/// A job as it is read.
#[derive(Debug, FromQueryResult)]
pub(crate) struct JobRow {
    id: String,
    version: i64,
    generation: i64,
    owner: Option<String>,
    requester: String,
    spec_version: i64,
    spec: String,
    secrets: Option<String>,
    record_version: i64,
    record: String,
}

/// The columns of a [`JobRow`].
pub(crate) const JOB_COLUMNS: [&str; 10] = [
    jobs::ID,
    jobs::VERSION,
    jobs::GENERATION,
    jobs::OWNER,
    jobs::REQUESTER,
    jobs::SPEC_VERSION,
    jobs::SPEC,
    jobs::SECRETS,
    jobs::RECORD_VERSION,
    jobs::RECORD,
];

impl JobRow {
    pub(crate) fn decode(self) -> Result<Job, StoreError> {
        let id = job_id(&self.id)?;
        not_newer(id, "specification", self.spec_version, SPEC_VERSION)?;
        not_newer(id, "record", self.record_version, RECORD_VERSION)?;
        let unreadable = |column: &str, error: serde_json::Error| unreadable(id, column, error);
        let spec: job::JobSpec = serde_json::from_str(&self.spec).map_err(|error| unreadable(jobs::SPEC, error))?;
        let spec = match &self.secrets {
            None => spec,
            Some(secrets) => {
                let secrets: Secrets =
                    serde_json::from_str(secrets).map_err(|error| unreadable(jobs::SECRETS, error))?;
                spec.with_secrets(&secrets)
            }
        };
        let record: Record = serde_json::from_str(&self.record).map_err(|error| unreadable(jobs::RECORD, error))?;
        Ok(Job {
            id,
            spec: Arc::new(spec),
            origin: Origin { requester: self.requester, request_id: record.request_id, on_behalf: record.on_behalf },
            state: record.state,
            intent: record.intent,
            holds: record.holds,
            limits: record.limits,
            cutover: record.cutover,
            passes: record.passes,
            passes_done: record.passes_done,
            workers_lost: record.workers_lost,
            not_before: record.not_before,
            release_trouble: record.release_trouble,
            created_at: record.created_at,
            started_at: record.started_at,
            ended_at: record.ended_at,
            updated_at: record.updated_at,
            version: Version(self.version as u64),
            generation: Generation(self.generation as u64),
            owner: self.owner.map(NodeName::new),
        })
    }
}

/// Where the answer to a job's end is on its way.
#[derive(Debug, FromQueryResult)]
#[expect(clippy::struct_field_names, reason = "columns beside those of the job")]
pub(crate) struct DeliveryRow {
    delivery_tries: i64,
    delivery_next_at_ns: Option<i64>,
    delivery_last_error: Option<String>,
}

pub(crate) const DELIVERY_COLUMNS: [&str; 3] =
    [jobs::DELIVERY_TRIES, jobs::DELIVERY_NEXT_AT_NS, jobs::DELIVERY_LAST_ERROR];

impl DeliveryRow {
    pub(crate) fn decode(self) -> Delivery {
        Delivery {
            tries: u32::try_from(self.delivery_tries).unwrap_or(u32::MAX),
            next_try_at: self.delivery_next_at_ns.map(time),
            last_error: self.delivery_last_error,
        }
    }
}

#[derive(Debug, FromQueryResult)]
pub(crate) struct EventRow {
    seq: i64,
    job_id: String,
    at_ns: i64,
    kind: String,
    state: String,
    message: String,
}

impl EventRow {
    pub(crate) fn decode(self) -> Result<StoredEvent, StoreError> {
        let job = job_id(&self.job_id)?;
        Ok(StoredEvent {
            seq: EventSeq(self.seq as u64),
            job,
            event: JobEvent {
                at: time(self.at_ns),
                kind: word(job, "kind", &self.kind)?,
                message: self.message,
                state: word(job, "state", &self.state)?,
            },
        })
    }
}

/// All rows of a query.
pub(crate) async fn all<R: FromQueryResult>(
    connection: &impl ConnectionTrait,
    query: &SelectStatement,
) -> Result<Vec<R>, DbErr> {
    connection.query_all(query).await?.iter().map(|row| R::from_query_result(row, "")).collect()
}

/// The only row of a query, if there is one.
pub(crate) async fn one<R: FromQueryResult>(
    connection: &impl ConnectionTrait,
    query: &SelectStatement,
) -> Result<Option<R>, DbErr> {
    connection.query_one(query).await?.map(|row| R::from_query_result(&row, "")).transpose()
}

pub(crate) fn job_id(text: &str) -> Result<JobId, StoreError> {
    text.parse().map_err(|error| StoreError::Failed {
        what: "a row has no identifier".into(),
        source: Some(Box::<dyn std::error::Error + Send + Sync>::from(error)),
    })
}

/// One of the words that the types of `job` are written with.
pub(crate) fn word<T: DeserializeOwned>(id: JobId, column: &str, text: &str) -> Result<T, StoreError> {
    let words: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(words).map_err(|error| unreadable(id, column, error))
}

fn unreadable(id: JobId, column: &str, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed { what: format!("cannot read `{column}` of job {id}"), source: Some(Box::new(error)) }
}

fn not_newer(id: JobId, what: &str, found: i64, known: u32) -> Result<(), StoreError> {
    if found <= i64::from(known) {
        return Ok(());
    }
    Err(StoreError::Failed {
        what: format!(
            "job {id} was written by a newer manila-data ({what} version {found}, this one knows {known}); start that one"
        ),
        source: None,
    })
}

/// Nanoseconds since 1970. What lies outside of the years 1677 to 2262 counts as their beginning or end.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

fn time(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits of nanoseconds lie well within jiff's range")
}

#[cfg(test)]
mod tests {
    use job::spec::Kind;
    use job::{Endpoint, EventKind, JobSpec, StateName};

    use super::*;

    fn job(source: impl Into<std::path::PathBuf>) -> Job {
        let dest = Endpoint::Directory { path: "/dest".into() };
        let spec = JobSpec::new(Kind::Copy, Endpoint::Directory { path: source.into() }, dest);
        Job::new(JobId::from_u128(1), spec, Origin::default(), Timestamp::UNIX_EPOCH)
    }

    fn row(job: &Job) -> JobRow {
        let Encoded { spec, secrets, record } = Encoded::new(job).unwrap();
        JobRow {
            id: job.id.to_string(),
            version: 1,
            generation: 0,
            owner: None,
            requester: String::new(),
            spec_version: SPEC_VERSION.into(),
            spec,
            secrets,
            record_version: RECORD_VERSION.into(),
            record,
        }
    }

    #[test]
    fn what_would_not_come_out_again_does_not_go_in() {
        use std::os::unix::ffi::OsStringExt as _;
        let not_text = std::ffi::OsString::from_vec(b"/a\xff".to_vec());
        let error = Encoded::new(&job(not_text)).unwrap_err();
        assert!(error.to_string().contains("cannot be written"), "{error}");
        let mut no_number = job("/source");
        no_number.passes.push(Pass {
            number: 1,
            kind: job::PassKind::Single,
            ended_at: Timestamp::UNIX_EPOCH,
            figures: job::PassFigures { elapsed_seconds: f64::NAN, ..job::PassFigures::default() },
        });
        assert!(Encoded::new(&no_number).is_err());
    }

    #[test]
    fn rows_of_a_newer_program_are_refused_with_both_versions() {
        let mut newer = row(&job("/source"));
        newer.record_version += 1;
        let error = newer.decode().unwrap_err().to_string();
        assert!(error.contains("record version 2, this one knows 1"), "{error}");
        let mut newer = row(&job("/source"));
        newer.spec_version += 1;
        assert!(newer.decode().unwrap_err().to_string().contains("specification version"));
    }

    #[test]
    fn a_field_that_a_newer_program_added_to_a_record_is_left_out() {
        let job = job("/source");
        let mut newer = row(&job);
        newer.record.insert_str(1, r#""mood":"good","#);
        assert_eq!(newer.decode().unwrap().state, job.state);
    }

    #[test]
    fn a_row_that_makes_no_sense_names_its_job_and_column() {
        let mut broken = row(&job("/source"));
        broken.record = "{".into();
        let error = broken.decode().unwrap_err().to_string();
        assert!(error.contains("`record` of job 00000000-0000-0000-0000-000000000001"), "{error}");
        let mut broken = row(&job("/source"));
        broken.id = "7".into();
        assert!(broken.decode().is_err());
    }

    #[test]
    fn words_are_those_of_the_types() {
        for name in StateName::ALL {
            assert_eq!(word::<StateName>(JobId::from_u128(1), "state", name.as_str()).unwrap(), name);
        }
        assert_eq!(
            word::<EventKind>(JobId::from_u128(1), "kind", EventKind::PassEnded.as_str()).unwrap(),
            EventKind::PassEnded
        );
        assert!(word::<EventKind>(JobId::from_u128(1), "kind", "dance").is_err());
    }

    #[test]
    fn times_beyond_64_bits_sort_last() {
        assert_eq!(nanoseconds(Timestamp::MAX), i64::MAX);
        assert_eq!(nanoseconds(Timestamp::MIN), i64::MIN);
        assert_eq!(time(nanoseconds(Timestamp::UNIX_EPOCH)), Timestamp::UNIX_EPOCH);
    }
}
