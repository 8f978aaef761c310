//! What happened to jobs, in one order for all of them.

use jiff::Timestamp;
use job::{EventSeq, JobEvent, JobId, StateName, StoreError, StoredEvent};
use sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use sea_orm::{ConnectionTrait, DbErr, FromQueryResult};

use crate::jobs::state_names;
use crate::retry::retried;
use crate::rows::{self, EventRow, nanoseconds};
use crate::sql_store::Database;
use crate::tables::{events, jobs};

/// Events that are removed at once. More would keep those who want to write waiting.
const FORGOTTEN_AT_ONCE: u64 = 1000;

/// Adds events of a job within the transaction that changes it.
pub(crate) async fn add(connection: &impl ConnectionTrait, id: JobId, added: &[JobEvent]) -> Result<(), DbErr> {
    if added.is_empty() {
        return Ok(());
    }
    let mut insert = Query::insert();
    insert.into_table(events::TABLE).columns([
        events::JOB_ID,
        events::AT_NS,
        events::KIND,
        events::STATE,
        events::MESSAGE,
    ]);
    for event in added {
        insert.values_panic([
            id.to_string().into(),
            nanoseconds(event.at).into(),
            event.kind.as_str().into(),
            event.state.as_str().into(),
            event.message.as_str().into(),
        ]);
    }
    connection.execute(&insert).await?;
    Ok(())
}

pub(crate) async fn after(
    database: &Database,
    after: EventSeq,
    job: Option<JobId>,
    count_max: u32,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut query = Query::select();
    query
        .columns([events::SEQ, events::JOB_ID, events::AT_NS, events::KIND, events::STATE, events::MESSAGE])
        .from(events::TABLE)
        .and_where(Expr::col(events::SEQ).gt(i64::try_from(after.0).unwrap_or(i64::MAX)))
        .and_where_option(job.map(|id| Expr::col(events::JOB_ID).eq(id.to_string())))
        .order_by(events::SEQ, Order::Asc)
        .limit(count_max.into());
    let rows: Vec<EventRow> =
        retried("read events", || async { Ok(rows::all(&database.reader, &query).await?) }).await?;
    rows.into_iter().map(EventRow::decode).collect()
}

#[derive(Debug, FromQueryResult)]
struct SeqRow {
    seq: Option<i64>,
}

pub(crate) async fn last(database: &Database) -> Result<EventSeq, StoreError> {
    let mut query = Query::select();
    query.expr_as(Expr::col(events::SEQ).max(), events::SEQ).from(events::TABLE);
    let row: Option<SeqRow> =
        retried("read the last event", || async { Ok(rows::one(&database.reader, &query).await?) }).await?;
    Ok(EventSeq(row.and_then(|row| row.seq).unwrap_or_default() as u64))
}

pub(crate) async fn forget(database: &Database, before: Timestamp) -> Result<u64, StoreError> {
    let ended = Query::select()
        .column(jobs::ID)
        .from(jobs::TABLE)
        .and_where(Expr::col(jobs::STATE).is_in(state_names(StateName::is_ended)))
        .take();
    let mut old = Query::select();
    old.column(events::SEQ)
        .from(events::TABLE)
        .and_where(Expr::col(events::AT_NS).lt(nanoseconds(before)))
        .and_where(Expr::col(events::JOB_ID).in_subquery(ended))
        .limit(FORGOTTEN_AT_ONCE);
    let mut forgotten = 0;
    loop {
        // Numbers that are read first: not every database takes a limit in a subquery. What they name stays old.
        let seqs: Vec<SeqRow> =
            retried("look for old events", || async { Ok(rows::all(&database.reader, &old).await?) }).await?;
        if seqs.is_empty() {
            return Ok(forgotten);
        }
        let delete = Query::delete()
            .from_table(events::TABLE)
            .and_where(Expr::col(events::SEQ).is_in(seqs.iter().filter_map(|row| row.seq)))
            .take();
        let done = retried("remove old events", || async { Ok(database.writer.execute(&delete).await?) }).await?;
        forgotten += done.rows_affected();
    }
}
