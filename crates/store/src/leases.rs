//! Who owns a job, and until when: claimed by compare and set, by the database's clock.

use std::time::Duration;

use job::{Generation, Job, JobId, NodeName, StoreError, Version};
use sea_orm::ConnectionTrait as _;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};

use crate::dialect;
use crate::jobs::{number, select_one};
use crate::retry::retried;
use crate::rows::{self, JobRow};
use crate::sql_store::Database;
use crate::tables::jobs;

/// Raises the version too: what an earlier owner saw cannot be saved any more.
pub(crate) async fn claim(
    database: &Database,
    id: JobId,
    version: Version,
    node: &NodeName,
    lease: Duration,
) -> Result<Option<Job>, StoreError> {
    let is_free = Expr::col(jobs::OWNER)
        .is_null()
        .or(Expr::col(jobs::OWNER).eq(node.as_str()))
        .or(Expr::col(jobs::LEASE_UNTIL_MS).lte(now(database)));
    let update = Query::update()
        .table(jobs::TABLE)
        .value(jobs::OWNER, node.as_str())
        .value(jobs::LEASE_UNTIL_MS, end_of(database, lease))
        .value(jobs::GENERATION, Expr::col(jobs::GENERATION).add(1))
        .value(jobs::VERSION, Expr::col(jobs::VERSION).add(1))
        .and_where(Expr::col(jobs::ID).eq(id.to_string()))
        .and_where(Expr::col(jobs::VERSION).eq(number(version.0)))
        .and_where(is_free)
        .take();
    let row: Option<JobRow> = retried("claim a job", || async {
        let transaction = dialect::begin(&database.writer).await?;
        if transaction.execute(&update).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let row = rows::one(&transaction, &select_one(id)).await?;
        transaction.commit().await?;
        Ok(row)
    })
    .await?;
    row.map(JobRow::decode).transpose()
}

/// A lease that has run out is prolonged too, as long as nobody else took the job.
pub(crate) async fn renew(
    database: &Database,
    node: &NodeName,
    held: &[(JobId, Generation)],
    lease: Duration,
) -> Result<Vec<JobId>, StoreError> {
    // Always in the same order, so that two nodes never wait for each other.
    let mut held = held.to_vec();
    held.sort_unstable();
    retried("renew leases", || async {
        let transaction = dialect::begin(&database.writer).await?;
        let mut lost = Vec::new();
        for (id, generation) in &held {
            let update = Query::update()
                .table(jobs::TABLE)
                .value(jobs::LEASE_UNTIL_MS, end_of(database, lease))
                .and_where(Expr::col(jobs::ID).eq(id.to_string()))
                .and_where(Expr::col(jobs::GENERATION).eq(number(generation.0)))
                .and_where(Expr::col(jobs::OWNER).eq(node.as_str()))
                .take();
            if transaction.execute(&update).await?.rows_affected() == 0 {
                lost.push(*id);
            }
        }
        transaction.commit().await?;
        Ok(lost)
    })
    .await
}

/// Of a later generation, or of a job that is gone, there is nothing to give back.
pub(crate) async fn disown(database: &Database, id: JobId, generation: Generation) -> Result<(), StoreError> {
    let update = Query::update()
        .table(jobs::TABLE)
        .value(jobs::OWNER, None::<String>)
        .value(jobs::LEASE_UNTIL_MS, None::<i64>)
        .and_where(Expr::col(jobs::ID).eq(id.to_string()))
        .and_where(Expr::col(jobs::GENERATION).eq(number(generation.0)))
        .take();
    retried("give a job back", || async { Ok(database.writer.execute(&update).await?) }).await?;
    Ok(())
}

fn now(database: &Database) -> SimpleExpr {
    dialect::clock_ms(database.writer.get_database_backend())
}

fn end_of(database: &Database, lease: Duration) -> SimpleExpr {
    now(database).add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX / 2))
}
