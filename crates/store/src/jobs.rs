//! Jobs themselves: made, replaced by compare and set, found, removed.

use job::spec::SPEC_VERSION;
use job::{Created, IdempotencyKey, Job, JobEvent, JobFilter, JobId, Page, StateName, StoreError, Version};
use sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, FromQueryResult};

use crate::dialect::{self, Trouble};
use crate::events;
use crate::retry::{Fault, retried};
use crate::rows::{self, Encoded, JOB_COLUMNS, JobRow, RECORD_VERSION, nanoseconds};
use crate::sql_store::Database;
use crate::tables::{jobs, progress, requests};

pub(crate) async fn create(
    database: &Database,
    job: &Job,
    key: Option<&IdempotencyKey>,
) -> Result<Created, StoreError> {
    let encoded = Encoded::new(job)?;
    retried("keep a new job", || async {
        let transaction = dialect::begin(&database.writer).await?;
        if let Some(key) = key
            && let Some(known) = known(&transaction, key).await?
        {
            return Ok(known);
        }
        insert(&transaction, job, &encoded).await?;
        if let Some(key) = key {
            remember(&transaction, key, job.id).await?;
        }
        transaction.commit().await?;
        Ok(Created::New(raised(job.version)))
    })
    .await
}

#[derive(Debug, FromQueryResult)]
struct RequestRow {
    fingerprint: String,
    job_id: String,
}

/// What the same request made earlier.
async fn known(transaction: &DatabaseTransaction, key: &IdempotencyKey) -> Result<Option<Created>, Fault> {
    let query = Query::select()
        .columns([requests::FINGERPRINT, requests::JOB_ID])
        .from(requests::TABLE)
        .and_where(Expr::col(requests::REQUESTER).eq(key.requester.as_str()))
        .and_where(Expr::col(requests::REQUEST_KEY).eq(key.key.as_str()))
        .take();
    let Some(request) = rows::one::<RequestRow>(transaction, &query).await? else { return Ok(None) };
    if request.fingerprint != key.fingerprint {
        return Ok(Some(Created::KeyReused));
    }
    let row = rows::one::<JobRow>(transaction, &select_one(rows::job_id(&request.job_id)?)).await?;
    // A request goes together with its job.
    row.map(|row| Ok(Created::Known(Box::new(row.decode()?)))).transpose()
}

async fn insert(transaction: &DatabaseTransaction, job: &Job, encoded: &Encoded) -> Result<(), Fault> {
    let mut insert = Query::insert();
    insert
        .into_table(jobs::TABLE)
        .columns([
            jobs::ID,
            jobs::VERSION,
            jobs::GENERATION,
            jobs::STATE,
            jobs::KIND,
            jobs::NAME,
            jobs::REQUESTER,
            jobs::PRIORITY,
            jobs::CREATED_AT_NS,
            jobs::SPEC_VERSION,
            jobs::SPEC,
            jobs::SECRETS,
            jobs::RECORD_VERSION,
            jobs::RECORD,
        ])
        .values_panic([
            job.id.to_string().into(),
            number(raised(job.version).0),
            number(job.generation.0),
            job.state.name().as_str().into(),
            job.spec.kind.as_str().into(),
            job.spec.name.clone().into(),
            job.origin.requester.as_str().into(),
            job.spec.schedule.priority.into(),
            nanoseconds(job.created_at).into(),
            SPEC_VERSION.into(),
            encoded.spec.as_str().into(),
            encoded.secrets.clone().into(),
            RECORD_VERSION.into(),
            encoded.record.as_str().into(),
        ]);
    transaction.execute(&insert).await?;
    let mut insert = Query::insert();
    insert.into_table(progress::TABLE).columns([progress::JOB_ID]).values_panic([job.id.to_string().into()]);
    transaction.execute(&insert).await?;
    Ok(())
}

async fn remember(transaction: &DatabaseTransaction, key: &IdempotencyKey, id: JobId) -> Result<(), Fault> {
    let mut insert = Query::insert();
    insert
        .into_table(requests::TABLE)
        .columns([requests::REQUESTER, requests::REQUEST_KEY, requests::FINGERPRINT, requests::JOB_ID])
        .values_panic([
            key.requester.as_str().into(),
            key.key.as_str().into(),
            key.fingerprint.as_str().into(),
            id.to_string().into(),
        ]);
    match transaction.execute(&insert).await {
        Ok(_) => Ok(()),
        // The same request came twice at once, and the other one was first. Looked at again, it is known.
        Err(error) if dialect::trouble(&error) == Trouble::Duplicate => Err(Fault::Overtaken(error)),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn save(database: &Database, job: &Job, events: &[JobEvent]) -> Result<Version, StoreError> {
    let encoded = Encoded::new(job)?;
    retried("save a job", || async {
        let transaction = dialect::begin(&database.writer).await?;
        if !replace(&transaction, job, &encoded).await? {
            let is_there = rows::one::<JobRow>(&transaction, &select_one(job.id)).await?.is_some();
            return Err(if is_there { StoreError::Conflict } else { StoreError::NotFound }.into());
        }
        events::add(&transaction, job.id, events).await?;
        transaction.commit().await?;
        Ok(raised(job.version))
    })
    .await
}

/// Answers whether the job was as `job` says. Its owner is not written here: that is changed by claims alone.
async fn replace(transaction: &DatabaseTransaction, job: &Job, encoded: &Encoded) -> Result<bool, DbErr> {
    let mut update = Query::update();
    update
        .table(jobs::TABLE)
        .values([
            (jobs::VERSION, number(raised(job.version).0)),
            (jobs::STATE, job.state.name().as_str().into()),
            (jobs::KIND, job.spec.kind.as_str().into()),
            (jobs::NAME, job.spec.name.clone().into()),
            (jobs::REQUESTER, job.origin.requester.as_str().into()),
            (jobs::PRIORITY, job.spec.schedule.priority.into()),
            (jobs::CREATED_AT_NS, nanoseconds(job.created_at).into()),
            (jobs::SPEC_VERSION, SPEC_VERSION.into()),
            (jobs::SPEC, encoded.spec.as_str().into()),
            (jobs::SECRETS, encoded.secrets.clone().into()),
            (jobs::RECORD_VERSION, RECORD_VERSION.into()),
            (jobs::RECORD, encoded.record.as_str().into()),
        ])
        .and_where(Expr::col(jobs::ID).eq(job.id.to_string()))
        .and_where(Expr::col(jobs::VERSION).eq(number(job.version.0)))
        .and_where(Expr::col(jobs::GENERATION).eq(number(job.generation.0)));
    Ok(transaction.execute(&update).await?.rows_affected() == 1)
}

pub(crate) async fn get(database: &Database, id: JobId) -> Result<Option<Job>, StoreError> {
    let query = select_one(id);
    let row: Option<JobRow> =
        retried("read a job", || async { Ok(rows::one(&database.reader, &query).await?) }).await?;
    row.map(JobRow::decode).transpose()
}

pub(crate) async fn list(database: &Database, filter: &JobFilter, page: &Page) -> Result<Vec<Job>, StoreError> {
    let mut query = select();
    if !filter.states.is_empty() {
        query.and_where(Expr::col(jobs::STATE).is_in(filter.states.iter().map(|state| state.as_str())));
    }
    if !filter.kinds.is_empty() {
        query.and_where(Expr::col(jobs::KIND).is_in(filter.kinds.iter().map(|kind| kind.as_str())));
    }
    query
        .and_where_option(filter.name.as_deref().map(|name| Expr::col(jobs::NAME).eq(name)))
        .and_where_option(filter.requester.as_deref().map(|requester| Expr::col(jobs::REQUESTER).eq(requester)))
        .and_where_option(filter.created_after.map(|time| Expr::col(jobs::CREATED_AT_NS).gt(nanoseconds(time))))
        .and_where_option(filter.created_before.map(|time| Expr::col(jobs::CREATED_AT_NS).lt(nanoseconds(time))))
        .and_where_option(page.after.map(|id| Expr::col(jobs::ID).lt(id.to_string())))
        .order_by(jobs::ID, Order::Desc)
        .limit(page.size.into());
    read_all(database, "list jobs", &query).await
}

pub(crate) async fn unfinished(database: &Database) -> Result<Vec<Job>, StoreError> {
    let mut query = select();
    query
        .and_where(Expr::col(jobs::STATE).is_in(state_names(|state| !state.is_ended())))
        .order_by(jobs::ID, Order::Asc);
    read_all(database, "read the unfinished jobs", &query).await
}

async fn read_all(database: &Database, what: &str, query: &SelectStatement) -> Result<Vec<Job>, StoreError> {
    let rows: Vec<JobRow> = retried(what, || async { Ok(rows::all(&database.reader, query).await?) }).await?;
    rows.into_iter().map(JobRow::decode).collect()
}

#[derive(Debug, FromQueryResult)]
struct CountRow {
    state: String,
    count: i64,
}

pub(crate) async fn count_by_state(database: &Database) -> Result<Vec<(StateName, u64)>, StoreError> {
    let mut query = Query::select();
    query.column(jobs::STATE).expr_as(Expr::col(jobs::ID).count(), "count").from(jobs::TABLE).group_by_col(jobs::STATE);
    let rows: Vec<CountRow> =
        retried("count jobs", || async { Ok(rows::all(&database.reader, &query).await?) }).await?;
    // Every state has a count, so that a figure that falls to nothing is seen to do so.
    let count = |state: StateName| rows.iter().find(|row| row.state == state.as_str()).map_or(0, |row| row.count);
    Ok(StateName::ALL.into_iter().map(|state| (state, count(state) as u64)).collect())
}

pub(crate) async fn remove(database: &Database, id: JobId) -> Result<(), StoreError> {
    // What belongs to the job goes with it, by the foreign keys.
    let delete = Query::delete()
        .from_table(jobs::TABLE)
        .and_where(Expr::col(jobs::ID).eq(id.to_string()))
        .and_where(Expr::col(jobs::STATE).is_in(state_names(StateName::is_ended)))
        .take();
    let removed = retried("remove a job", || async { Ok(database.writer.execute(&delete).await?) }).await?;
    if removed.rows_affected() == 0 && get(database, id).await?.is_some() {
        return Err(StoreError::Failed { what: format!("job {id} has not ended and stays"), source: None });
    }
    Ok(())
}

pub(crate) fn select() -> SelectStatement {
    Query::select().columns(JOB_COLUMNS).from(jobs::TABLE).take()
}

pub(crate) fn select_one(id: JobId) -> SelectStatement {
    select().and_where(Expr::col(jobs::ID).eq(id.to_string())).take()
}

pub(crate) fn state_names(wanted: impl Fn(StateName) -> bool) -> impl Iterator<Item = &'static str> {
    StateName::ALL.into_iter().filter(move |state| wanted(*state)).map(StateName::as_str)
}

fn raised(version: Version) -> Version {
    Version(version.0 + 1)
}

/// Databases have no unsigned numbers. Versions and generations count single changes and never come near the end.
pub(crate) fn number(count: u64) -> Expr {
    i64::try_from(count).unwrap_or(i64::MAX).into()
}
