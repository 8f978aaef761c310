//! Answers to the end of jobs that are still on their way.

use jiff::Timestamp;
use job::{Delivery, JobId, StateName, StoreError};
use sea_orm::sea_query::{Expr, ExprTrait as _, Order, Query};
use sea_orm::{ConnectionTrait as _, DbErr, FromQueryResult as _, QueryResult};

use crate::jobs::{select, state_names};
use crate::retry::retried;
use crate::rows::{DELIVERY_COLUMNS, DeliveryRow, JobRow, nanoseconds};
use crate::sql_store::Database;
use crate::tables::jobs;

pub(crate) async fn undelivered(
    database: &Database,
    now: Timestamp,
    count_max: u32,
) -> Result<Vec<(job::Job, Delivery)>, StoreError> {
    let query = select()
        .columns(DELIVERY_COLUMNS)
        .and_where(Expr::col(jobs::DELIVERY_NEXT_AT_NS).lte(nanoseconds(now)))
        .and_where(Expr::col(jobs::STATE).is_in(state_names(StateName::is_ended)))
        .order_by(jobs::DELIVERY_NEXT_AT_NS, Order::Asc)
        .limit(count_max.into())
        .take();
    let rows = retried("read what is to be delivered", || async {
        let rows = database.reader.query_all(&query).await?;
        Ok(rows.iter().map(both).collect::<Result<Vec<_>, DbErr>>()?)
    });
    rows.await?.into_iter().map(|(job, delivery)| Ok((job.decode()?, delivery.decode()))).collect()
}

fn both(row: &QueryResult) -> Result<(JobRow, DeliveryRow), DbErr> {
    Ok((JobRow::from_query_result(row, "")?, DeliveryRow::from_query_result(row, "")?))
}

/// Once delivered, or given up, the key of its signature is not needed any more.
pub(crate) async fn set(database: &Database, id: JobId, delivery: &Delivery) -> Result<(), StoreError> {
    let is_ended = Expr::col(jobs::STATE).is_in(state_names(StateName::is_ended));
    let mut update = Query::update();
    update
        .table(jobs::TABLE)
        .value(jobs::DELIVERY_TRIES, i64::from(delivery.tries))
        .value(jobs::DELIVERY_NEXT_AT_NS, delivery.next_try_at.map(nanoseconds))
        .value(jobs::DELIVERY_LAST_ERROR, delivery.last_error.clone())
        .and_where(Expr::col(jobs::ID).eq(id.to_string()));
    if delivery.next_try_at.is_none() {
        let kept_while_it_runs = Expr::case(is_ended, None::<String>).finally(Expr::col(jobs::SECRETS));
        update.value(jobs::SECRETS, kept_while_it_runs);
    }
    let done = retried("note a delivery", || async { Ok(database.writer.execute(&update).await?) }).await?;
    if done.rows_affected() == 0 { Err(StoreError::NotFound) } else { Ok(()) }
}
