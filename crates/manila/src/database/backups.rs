//! Backups: what manila-api asks for, and what becomes of it.
//!
//! Rows are locked in the order backup, share, instance.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Cond, Expr, ExprTrait as _, LockType, Query, SelectStatement, SimpleExpr, UpdateStatement};
use sea_orm::{FromQueryResult, JoinType, Order, Value};

use super::operation::{Cx, Fault, Operation};
use super::{Backup, BackupChange, BackupEnd, BackupWork, DatabaseError};
use crate::status::{
    AVAILABLE, BACKUP_CREATING, BACKUP_RESTORING, BACKUP_RESTORING_ERROR, CREATING, DELETING, ERROR, ERROR_DELETING,
    RESTORING,
};
use crate::task_state::{COPYING, DATA_COPYING_COMPLETED, DATA_COPYING_ERROR};

pub(super) const BACKUPS: &str = "share_backups";
const SHARES: &str = "shares";
const INSTANCES: &str = "share_instances";

/// What `fail_reason` holds, in characters. Manila's own model says 1023; the column is older.
const REASON_CHARS_MAX: usize = 255;

#[derive(Debug, FromQueryResult)]
pub(super) struct BackupRow {
    pub(super) id: String,
    share_id: Option<String>,
    pub(super) project_id: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) size: Option<i32>,
    host: Option<String>,
    topic: Option<String>,
    pub(super) status: Option<String>,
    progress: Option<String>,
    restore_progress: Option<String>,
    fail_reason: Option<String>,
}

impl From<BackupRow> for Backup {
    fn from(row: BackupRow) -> Self {
        Self {
            id: row.id,
            share_id: row.share_id.unwrap_or_default(),
            project_id: row.project_id,
            user_id: row.user_id,
            size_gib: row.size.map(i64::from),
            host: row.host,
            topic: row.topic,
            status: row.status,
            progress: row.progress,
            restore_progress: row.restore_progress,
        }
    }
}

#[derive(Debug, FromQueryResult)]
struct ShareRow {
    id: String,
    task_state: Option<String>,
    source_backup_id: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct IdRow {
    id: String,
}

fn select(cx: &Cx<'_>) -> Result<SelectStatement, DatabaseError> {
    if !cx.schema.has_backups {
        return Err(DatabaseError::NoBackups);
    }
    Ok(Query::select()
        .columns([
            "id",
            "share_id",
            "project_id",
            "user_id",
            "size",
            "host",
            "topic",
            "status",
            "progress",
            "restore_progress",
            "fail_reason",
        ])
        .from(BACKUPS)
        .and_where(Expr::col("deleted").eq("False"))
        .order_by("id", Order::Asc)
        .to_owned())
}

async fn find(cx: &Cx<'_>, id: &str, lock: bool) -> Result<Option<BackupRow>, Fault> {
    let mut query = select(cx)?;
    query.and_where(Expr::col("id").eq(cx.fitting(id)));
    if lock {
        query.lock(LockType::Update);
    }
    Ok(cx.first::<BackupRow>(&query).await?.filter(|row| row.id == id))
}

/// The row, locked until the transaction ends.
pub(super) async fn lock(cx: &Cx<'_>, id: &str) -> Result<Option<BackupRow>, Fault> {
    find(cx, id, true).await
}

pub(super) fn update(cx: &Cx<'_>, id: &str, values: Vec<(&'static str, SimpleExpr)>) -> UpdateStatement {
    Query::update()
        .table(BACKUPS)
        .values(values)
        .value("updated_at", cx.now())
        .and_where(Expr::col("id").eq(cx.fitting(id)))
        .and_where(Expr::col("deleted").eq("False"))
        .to_owned()
}

/// Columns of one row that are to have another value than they have.
#[derive(Default)]
struct Values(Vec<(&'static str, SimpleExpr)>);

impl Values {
    fn set(&mut self, column: &'static str, is: Option<&str>, to: Option<&str>) {
        if is != to {
            self.0.push((column, Value::from(to.map(ToOwned::to_owned)).into()));
        }
    }

    async fn write(self, cx: &Cx<'_>, id: &str) -> Result<bool, Fault> {
        if self.0.is_empty() {
            return Ok(false);
        }
        cx.update(&update(cx, id, self.0)).await?;
        Ok(true)
    }
}

fn changed(is_changed: bool) -> BackupChange {
    if is_changed { BackupChange::Changed } else { BackupChange::Same }
}

/// Any text as the column holds it: one line, of so many characters, of those that the engine knows.
fn reason(cx: &Cx<'_>, text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = line.take(REASON_CHARS_MAX + 1).collect();
    if let Some((at, _)) = cut.char_indices().nth(REASON_CHARS_MAX) {
        const MORE: &str = "...";
        let end = cut[..at].char_indices().rev().nth(MORE.len() - 1).map_or(0, |(index, _)| index);
        cut.truncate(end);
        cut.push_str(MORE);
    }
    cx.fitting(&cut)
}

pub(super) struct Find<'a> {
    pub(super) id: &'a str,
}

impl Operation for Find<'_> {
    type Answer = Option<Backup>;

    const WHAT: &'static str = "read a share backup";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        Ok(find(cx, self.id, false).await?.map(Backup::from))
    }
}

pub(super) struct ListByStatus<'a> {
    pub(super) statuses: &'a [&'a str],
}

impl Operation for ListByStatus<'_> {
    type Answer = Vec<Backup>;

    const WHAT: &'static str = "list share backups by their status";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let mut query = select(cx)?;
        if self.statuses.is_empty() {
            return Ok(Vec::new());
        }
        query.and_where(Expr::col("status").is_in(self.statuses.iter().map(|status| cx.fitting(status))));
        Ok(cx.all::<BackupRow>(&query).await?.into_iter().map(Backup::from).collect())
    }
}

pub(super) struct FindTargets<'a> {
    pub(super) backup_id: &'a str,
}

impl Operation for FindTargets<'_> {
    type Answer = Vec<String>;

    const WHAT: &'static str = "find the shares that a backup is restored to";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        if !cx.schema.has_backups {
            return Err(DatabaseError::NoBackups.into());
        }
        let query = Query::select()
            .columns(["id", "task_state", "source_backup_id"].map(|column| (SHARES, column)))
            .from(SHARES)
            .join(
                JoinType::InnerJoin,
                INSTANCES,
                Expr::col((INSTANCES, "share_id"))
                    .equals((SHARES, "id"))
                    .and(Expr::col((INSTANCES, "deleted")).eq("False"))
                    .and(Expr::col((INSTANCES, "status")).eq(BACKUP_RESTORING)),
            )
            .and_where(Expr::col((SHARES, "deleted")).eq("False"))
            .and_where(Expr::col((SHARES, "source_backup_id")).eq(cx.fitting(self.backup_id)))
            .order_by((SHARES, "id"), Order::Asc)
            .to_owned();
        let rows = cx.all::<ShareRow>(&query).await?.into_iter();
        let meant = rows.filter(|row| row.source_backup_id.as_deref() == Some(self.backup_id));
        Ok(meant.map(|row| row.id).collect::<BTreeSet<_>>().into_iter().collect())
    }
}

pub(super) struct Begin<'a> {
    pub(super) id: &'a str,
    pub(super) status: &'a str,
    pub(super) host: Option<&'a str>,
}

impl Operation for Begin<'_> {
    type Answer = BackupChange;

    const WHAT: &'static str = "write that a share backup begins";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<BackupChange, Fault> {
        let Some(row) = lock(cx, self.id).await? else { return Ok(BackupChange::Gone) };
        if row.status.as_deref() != Some(self.status) {
            return Ok(BackupChange::Other(row.status));
        }
        let mut values = Values::default();
        if let Some(host) = self.host {
            values.set("host", row.host.as_deref(), Some(&cx.fitting(host)));
        }
        // Nobody writes 100 while the work goes on.
        if self.status == RESTORING && row.restore_progress.as_deref() == Some("100") {
            values.set("restore_progress", row.restore_progress.as_deref(), Some("0"));
        }
        Ok(changed(values.write(cx, &row.id).await?))
    }
}

pub(super) struct SetProgress<'a> {
    pub(super) id: &'a str,
    pub(super) status: &'a str,
    pub(super) percent: u8,
}

impl Operation for SetProgress<'_> {
    type Answer = BackupChange;

    const WHAT: &'static str = "write how far a share backup is";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<BackupChange, Fault> {
        let Some(row) = lock(cx, self.id).await? else { return Ok(BackupChange::Gone) };
        if row.status.as_deref() != Some(self.status) {
            return Ok(BackupChange::Other(row.status));
        }
        let (column, is) = match self.status {
            RESTORING => ("restore_progress", row.restore_progress.as_deref()),
            _ => ("progress", row.progress.as_deref()),
        };
        let is_further = is.and_then(|is| is.parse::<u8>().ok()).is_none_or(|is| is < self.percent);
        let mut values = Values::default();
        if is_further {
            values.set(column, is, Some(&self.percent.to_string()));
        }
        Ok(changed(values.write(cx, &row.id).await?))
    }
}

pub(super) struct End<'a> {
    pub(super) end: &'a BackupEnd,
}

/// The words of one kind of work.
struct Words {
    backup: &'static str,
    instance: &'static str,
    backup_failed: &'static str,
    instance_failed: &'static str,
    progress: &'static str,
}

fn words(work: BackupWork) -> Words {
    match work {
        BackupWork::Create => Words {
            backup: CREATING,
            instance: BACKUP_CREATING,
            backup_failed: ERROR,
            instance_failed: AVAILABLE,
            progress: "progress",
        },
        BackupWork::Restore => Words {
            backup: RESTORING,
            instance: BACKUP_RESTORING,
            backup_failed: AVAILABLE,
            instance_failed: BACKUP_RESTORING_ERROR,
            progress: "restore_progress",
        },
    }
}

impl Operation for End<'_> {
    type Answer = BackupChange;

    const WHAT: &'static str = "write the end of a share backup";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<BackupChange, Fault> {
        let words = words(self.end.work);
        let row = lock(cx, &self.end.backup_id).await?;
        let is_ours = row.as_ref().is_some_and(|row| row.status.as_deref() == Some(words.backup));
        let mut is_changed = !self.end.keeps_share && self.free_share(cx, &words, is_ours).await?;
        let Some(row) = row else { return Ok(if is_changed { BackupChange::Changed } else { BackupChange::Gone }) };
        if is_ours {
            is_changed |= self.end_row(cx, &words, &row).await?;
        } else if !is_changed {
            return Ok(BackupChange::Other(row.status));
        }
        Ok(changed(is_changed))
    }
}

impl End<'_> {
    fn has_failed(&self) -> bool {
        self.end.fail_reason.is_some()
    }

    async fn end_row(&self, cx: &Cx<'_>, words: &Words, row: &BackupRow) -> Result<bool, Fault> {
        let mut values = Values::default();
        let progress = match self.end.work {
            BackupWork::Create => row.progress.as_deref(),
            BackupWork::Restore => row.restore_progress.as_deref(),
        };
        if !self.has_failed() {
            values.set(words.progress, progress, Some("100"));
        } else if self.end.is_lost {
            values.set(words.progress, progress, Some("0"));
        }
        values.set(
            "status",
            row.status.as_deref(),
            Some(if self.has_failed() { words.backup_failed } else { AVAILABLE }),
        );
        let reason = self.end.fail_reason.as_deref().map(|text| reason(cx, text));
        values.set("fail_reason", row.fail_reason.as_deref(), reason.as_deref());
        values.write(cx, &row.id).await
    }

    /// The share's instance, and its task state, unless somebody else works on the share by now.
    async fn free_share(&self, cx: &Cx<'_>, words: &Words, is_ours: bool) -> Result<bool, Fault> {
        let share_id = &self.end.share_id;
        let query = Query::select()
            .columns(["id", "task_state", "source_backup_id"])
            .from(SHARES)
            .and_where(Expr::col("id").eq(cx.fitting(share_id)))
            .and_where(Expr::col("deleted").eq("False"))
            .lock(LockType::Update)
            .to_owned();
        let Some(share) = cx.first::<ShareRow>(&query).await?.filter(|row| row.id == *share_id) else {
            return Ok(false);
        };
        let is_anothers = match self.end.work {
            BackupWork::Create => !is_ours && self.is_backed_up_anew(cx).await?,
            BackupWork::Restore => share.source_backup_id.as_deref() != Some(&*self.end.backup_id),
        };
        // The instance that is busy so is the one that the API has marked: there is no other way to become that.
        let busy = Query::select()
            .column("id")
            .from(INSTANCES)
            .and_where(Expr::col("share_id").eq(cx.fitting(share_id)))
            .and_where(Expr::col("status").eq(words.instance))
            .and_where(Expr::col("deleted").eq("False"))
            .order_by("id", Order::Asc)
            .lock(LockType::Update)
            .to_owned();
        let busy = cx.all::<IdRow>(&busy).await?;
        if is_anothers || busy.is_empty() {
            return Ok(false);
        }
        let is_shown =
            |state: &str| COPYING.contains(&state) || [DATA_COPYING_COMPLETED, DATA_COPYING_ERROR].contains(&state);
        if share.task_state.as_deref().is_some_and(is_shown) {
            let update = Query::update()
                .table(SHARES)
                .value("task_state", Option::<String>::None)
                .value("updated_at", cx.now())
                .and_where(Expr::col("id").eq(cx.fitting(share_id)))
                .to_owned();
            cx.update(&update).await?;
        }
        let to = if self.has_failed() { words.instance_failed } else { AVAILABLE };
        let update = Query::update()
            .table(INSTANCES)
            .value("status", to)
            .value("updated_at", cx.now())
            .and_where(Expr::col("id").is_in(busy.into_iter().map(|row| row.id)))
            .to_owned();
        cx.update(&update).await?;
        Ok(true)
    }

    /// Somebody has reset the share and this backup, and asked for another one.
    async fn is_backed_up_anew(&self, cx: &Cx<'_>) -> Result<bool, Fault> {
        let mut query = select(cx)?;
        query.cond_where(
            Cond::all()
                .add(Expr::col("share_id").eq(cx.fitting(&self.end.share_id)))
                .add(Expr::col("status").eq(CREATING))
                .add(Expr::col("id").ne(cx.fitting(&self.end.backup_id))),
        );
        Ok(cx.first::<BackupRow>(&query).await?.is_some())
    }
}

pub(super) struct FailDeletion<'a> {
    pub(super) id: &'a str,
    pub(super) reason: &'a str,
}

impl Operation for FailDeletion<'_> {
    type Answer = BackupChange;

    const WHAT: &'static str = "write that a share backup could not be deleted";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<BackupChange, Fault> {
        let Some(row) = lock(cx, self.id).await? else { return Ok(BackupChange::Gone) };
        match row.status.as_deref() {
            Some(DELETING) => {}
            Some(ERROR_DELETING) => return Ok(BackupChange::Same),
            _ => return Ok(BackupChange::Other(row.status)),
        }
        let mut values = Values::default();
        values.set("status", row.status.as_deref(), Some(ERROR_DELETING));
        values.set("fail_reason", row.fail_reason.as_deref(), Some(&reason(cx, self.reason)));
        Ok(changed(values.write(cx, &row.id).await?))
    }
}
