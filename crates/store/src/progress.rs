//! How far work is, for whoever asks any node. Apart from the job: a look at the figures changes nothing of it.

use job::documents::Progress;
use job::{Generation, JobId, StoreError};
use sea_orm::sea_query::{Expr, ExprTrait as _, Query};
use sea_orm::{ConnectionTrait as _, FromQueryResult};

use crate::jobs::number;
use crate::retry::retried;
use crate::rows;
use crate::sql_store::Database;
use crate::tables::{jobs, progress};

pub(crate) async fn set(
    database: &Database,
    id: JobId,
    generation: Generation,
    figures: &Progress,
) -> Result<(), StoreError> {
    let text = rows::encode(id, figures)?;
    let is_current = Query::select()
        .expr(Expr::val(1))
        .from(jobs::TABLE)
        .and_where(Expr::col(jobs::ID).eq(id.to_string()))
        .and_where(Expr::col(jobs::GENERATION).eq(number(generation.0)))
        .take();
    let update = Query::update()
        .table(progress::TABLE)
        .value(progress::PROGRESS, text)
        .and_where(Expr::col(progress::JOB_ID).eq(id.to_string()))
        .and_where(Expr::exists(is_current))
        .take();
    retried("note the progress of a job", || async { Ok(database.writer.execute(&update).await?) }).await?;
    Ok(())
}

#[derive(Debug, FromQueryResult)]
struct ProgressRow {
    progress: Option<String>,
}

pub(crate) async fn get(database: &Database, id: JobId) -> Result<Option<Progress>, StoreError> {
    let query = Query::select()
        .column(progress::PROGRESS)
        .from(progress::TABLE)
        .and_where(Expr::col(progress::JOB_ID).eq(id.to_string()))
        .take();
    let row: Option<ProgressRow> =
        retried("read the progress of a job", || async { Ok(rows::one(&database.reader, &query).await?) }).await?;
    // Figures that another version wrote are none: the next ones replace them, and a job is shown without.
    Ok(row.and_then(|row| row.progress).and_then(|text| serde_json::from_str(&text).ok()))
}
