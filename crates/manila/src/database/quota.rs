//! The end of a backup's row, and the quota that comes free by it.
//!
//! Upstream reserves and commits in two transactions, in the name of whoever asks; here it is one, in the name of the
//! backup's owner, with the same rows at its end.

use chrono::TimeDelta;
use sea_orm::sea_query::{Expr, ExprTrait as _, Func, LockType, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, FromQueryResult};
use uuid::Uuid;

use super::backups::{BACKUPS, lock, update};
use super::operation::{Cx, Fault, Operation};
use super::{BackupChange, QuotaSettings};
use crate::status::{CREATING, DELETED, RESTORING};

const USAGES: &str = "quota_usages";
const RESERVATIONS: &str = "reservations";

const COUNT: &str = "backups";
const SIZE: &str = "backup_gigabytes";

#[derive(Debug, FromQueryResult)]
struct UsageRow {
    id: i32,
    project_id: Option<String>,
    user_id: Option<String>,
    resource: Option<String>,
    in_use: i32,
}

#[derive(Debug, FromQueryResult)]
struct Sum {
    sum: Option<i64>,
}

/// Whose quota it is.
struct Owner<'a> {
    project_id: &'a str,
    user_id: &'a str,
}

/// Quota of one resource that comes free.
struct Release {
    resource: &'static str,
    amount: i32,
}

pub(super) struct Delete<'a> {
    pub(super) id: &'a str,
    pub(super) quota: &'a QuotaSettings,
}

impl Operation for Delete<'_> {
    type Answer = BackupChange;

    const WHAT: &'static str = "delete a share backup";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<BackupChange, Fault> {
        let Some(row) = lock(cx, self.id).await? else { return Ok(BackupChange::Same) };
        if matches!(row.status.as_deref(), Some(CREATING | RESTORING)) {
            return Ok(BackupChange::Other(row.status));
        }
        if let (true, Some(project_id), Some(user_id)) = (self.quota.is_counted, &row.project_id, &row.user_id) {
            let owner = Owner { project_id, user_id };
            let size = row.size.unwrap_or_default();
            for release in [Release { resource: COUNT, amount: 1 }, Release { resource: SIZE, amount: size }] {
                self.give_back(cx, &owner, &release).await?;
            }
        }
        let values = vec![("deleted", Expr::col("id")), ("deleted_at", cx.now().into()), ("status", DELETED.into())];
        cx.update(&update(cx, &row.id, values)).await?;
        Ok(BackupChange::Changed)
    }
}

impl Delete<'_> {
    async fn give_back(&self, cx: &Cx<'_>, owner: &Owner<'_>, release: &Release) -> Result<(), Fault> {
        let (usage_id, in_use) = match find_usage(cx, owner, release.resource).await? {
            Some(usage) if usage.in_use >= 0 => (usage.id, usage.in_use),
            Some(usage) => (usage.id, used(cx, owner, release.resource).await?),
            None => {
                let in_use = used(cx, owner, release.resource).await?;
                (add_usage(cx, owner, release.resource, in_use).await?, in_use)
            }
        };
        let reservation = Uuid::new_v4().to_string();
        let expire = TimeDelta::from_std(self.quota.reservation_expire).unwrap_or(TimeDelta::MAX);
        // A time that no calendar has is never.
        let expire = cx.now.checked_add_signed(expire).map(|time| cx.time(time));
        let columns: [(&str, SimpleExpr); 8] = [
            ("uuid", reservation.as_str().into()),
            ("usage_id", usage_id.into()),
            ("project_id", cx.fitting(owner.project_id).into()),
            ("user_id", cx.fitting(owner.user_id).into()),
            ("resource", release.resource.into()),
            ("delta", release.amount.saturating_neg().into()),
            ("created_at", cx.now().into()),
            ("deleted", 0.into()),
        ];
        let (mut names, mut values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        if let Some(expire) = expire {
            names.push("expire");
            values.push(expire.into());
        }
        let insert = Query::insert().into_table(RESERVATIONS).columns(names).values_panic(values).to_owned();
        cx.insert(&insert).await?;
        let end = Query::update()
            .table(RESERVATIONS)
            .value("deleted", Expr::col("id"))
            .value("deleted_at", cx.now())
            .and_where(Expr::col("uuid").eq(reservation))
            .to_owned();
        cx.update(&end).await?;
        let update = Query::update()
            .table(USAGES)
            .value("in_use", Ord::max(in_use.saturating_sub(release.amount), 0))
            .value("updated_at", cx.now())
            .and_where(Expr::col("id").eq(usage_id))
            .to_owned();
        cx.update(&update).await?;
        Ok(())
    }
}

/// Locked until the transaction ends.
async fn find_usage(cx: &Cx<'_>, owner: &Owner<'_>, resource: &str) -> Result<Option<UsageRow>, DbErr> {
    let query = Query::select()
        .columns(["id", "project_id", "user_id", "resource", "in_use"])
        .from(USAGES)
        .and_where(Expr::col("project_id").eq(cx.fitting(owner.project_id)))
        .and_where(Expr::col("user_id").eq(cx.fitting(owner.user_id)))
        .and_where(Expr::col("resource").eq(resource))
        .and_where(Expr::col("share_type_id").is_null())
        .and_where(Expr::col("deleted").eq(0))
        .order_by("id", sea_orm::Order::Asc)
        .lock(LockType::Update)
        .to_owned();
    // MySQL takes for equal what differs in case.
    let is_meant = |row: &UsageRow| {
        row.project_id.as_deref() == Some(owner.project_id)
            && row.user_id.as_deref() == Some(owner.user_id)
            && row.resource.as_deref() == Some(resource)
    };
    Ok(cx.all::<UsageRow>(&query).await?.into_iter().find(is_meant))
}

/// As the rows of backups say, the one that is being deleted among them.
async fn used(cx: &Cx<'_>, owner: &Owner<'_>, resource: &str) -> Result<i32, DbErr> {
    let sum: SimpleExpr = if resource == SIZE { Func::sum(Expr::col("size")).into() } else { Expr::col("id").count() };
    // The sum of integers is a decimal number for MySQL, and anything at all for others.
    let integer = if cx.backend() == DbBackend::MySql { "signed" } else { "bigint" };
    let query: SelectStatement = Query::select()
        .expr_as(sum.cast_as(integer), "sum")
        .from(BACKUPS)
        .and_where(Expr::col("project_id").eq(cx.fitting(owner.project_id)))
        .and_where(Expr::col("user_id").eq(cx.fitting(owner.user_id)))
        .and_where(Expr::col("deleted").eq("False"))
        .to_owned();
    let sum = cx.first::<Sum>(&query).await?.and_then(|row| row.sum).unwrap_or_default();
    Ok(i32::try_from(sum).unwrap_or(i32::MAX))
}

async fn add_usage(cx: &Cx<'_>, owner: &Owner<'_>, resource: &str, in_use: i32) -> Result<i32, DbErr> {
    let values: [SimpleExpr; 7] = [
        cx.fitting(owner.project_id).into(),
        cx.fitting(owner.user_id).into(),
        resource.into(),
        in_use.into(),
        0.into(),
        cx.now().into(),
        0.into(),
    ];
    let mut insert = Query::insert()
        .into_table(USAGES)
        .columns(["project_id", "user_id", "resource", "in_use", "reserved", "created_at", "deleted"])
        .values_panic(values)
        .to_owned();
    if cx.backend() == DbBackend::MySql {
        let id = cx.transaction.execute(&insert).await?.last_insert_id();
        return i32::try_from(id)
            .map_err(|_| DbErr::Custom("the new row has an identifier of more than 32 bits".into()));
    }
    let row = cx.transaction.query_one(insert.returning_col("id")).await?;
    row.ok_or_else(|| DbErr::Custom("the new row has no identifier".into()))?.try_get("", "id")
}
