//! Shares and their instances.

use sea_orm::sea_query::{Cond, Expr, ExprTrait as _, Query, SelectStatement};
use sea_orm::{FromQueryResult, JoinType, Order};

use super::operation::{Cx, Fault, Operation};
use super::{DatabaseError, ExportLocation, Share, ShareInstance, TaskStateChange};

const SHARES: &str = "shares";
const INSTANCES: &str = "share_instances";

#[derive(Debug, FromQueryResult)]
struct ShareRow {
    id: String,
    project_id: Option<String>,
    user_id: Option<String>,
    share_proto: Option<String>,
    size: Option<i32>,
    task_state: Option<String>,
}

impl From<ShareRow> for Share {
    fn from(row: ShareRow) -> Self {
        let ShareRow { id, project_id, user_id, share_proto, size, task_state } = row;
        Self { id, project_id, user_id, share_proto, size_gib: size.map(i64::from), task_state }
    }
}

#[derive(Debug, FromQueryResult)]
struct InstanceRow {
    id: String,
    share_id: Option<String>,
    host: Option<String>,
    status: Option<String>,
    access_rules_status: Option<String>,
    cast_rules_to_readonly: bool,
}

impl From<InstanceRow> for ShareInstance {
    fn from(row: InstanceRow) -> Self {
        let InstanceRow { id, share_id, host, status, access_rules_status, cast_rules_to_readonly } = row;
        let share_id = share_id.unwrap_or_default();
        Self { id, share_id, host, status, access_rules_status, cast_rules_to_readonly }
    }
}

fn select_shares() -> SelectStatement {
    Query::select()
        .columns(["id", "project_id", "user_id", "share_proto", "size", "task_state"])
        .from(SHARES)
        .and_where(Expr::col("deleted").eq("False"))
        .to_owned()
}

fn select_instances() -> SelectStatement {
    Query::select()
        .columns(["id", "share_id", "host", "status", "access_rules_status", "cast_rules_to_readonly"])
        .from(INSTANCES)
        .and_where(Expr::col("deleted").eq("False"))
        .order_by("id", Order::Asc)
        .to_owned()
}

pub(super) struct FindShare<'a> {
    pub(super) id: &'a str,
}

impl Operation for FindShare<'_> {
    type Answer = Option<Share>;

    const WHAT: &'static str = "read a share";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let query = select_shares().and_where(Expr::col("id").eq(cx.fitting(self.id))).to_owned();
        // MySQL finds an identifier in capitals, too.
        Ok(cx.first::<ShareRow>(&query).await?.filter(|row| row.id == self.id).map(Share::from))
    }
}

pub(super) struct FindInstance<'a> {
    pub(super) id: &'a str,
}

impl Operation for FindInstance<'_> {
    type Answer = Option<ShareInstance>;

    const WHAT: &'static str = "read a share instance";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let query = select_instances().and_where(Expr::col("id").eq(cx.fitting(self.id))).to_owned();
        Ok(cx.first::<InstanceRow>(&query).await?.filter(|row| row.id == self.id).map(ShareInstance::from))
    }
}

pub(super) struct ListInstances<'a> {
    pub(super) share_id: &'a str,
}

impl Operation for ListInstances<'_> {
    type Answer = Vec<ShareInstance>;

    const WHAT: &'static str = "list the instances of a share";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let query = select_instances().and_where(Expr::col("share_id").eq(cx.fitting(self.share_id))).to_owned();
        let rows = cx.all::<InstanceRow>(&query).await?.into_iter();
        Ok(rows.map(ShareInstance::from).filter(|instance| instance.share_id == self.share_id).collect())
    }
}

const LOCATIONS: &str = "share_instance_export_locations";
const LOCATIONS_METADATA: &str = "share_instance_export_locations_metadata";

#[derive(Debug, FromQueryResult)]
struct LocationRow {
    share_instance_id: Option<String>,
    path: Option<String>,
    is_admin_only: Option<bool>,
    preferred: Option<String>,
}

pub(super) struct ListExportLocations<'a> {
    pub(super) instance_id: &'a str,
}

impl Operation for ListExportLocations<'_> {
    type Answer = Vec<ExportLocation>;

    const WHAT: &'static str = "list the export locations of a share instance";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let is_preference = Expr::col((LOCATIONS_METADATA, "export_location_id"))
            .equals((LOCATIONS, "id"))
            .and(Expr::col((LOCATIONS_METADATA, "key")).eq("preferred"))
            .and(Expr::col((LOCATIONS_METADATA, "deleted")).eq(0));
        let query = Query::select()
            .columns(["share_instance_id", "path", "is_admin_only"].map(|column| (LOCATIONS, column)))
            .expr_as(Expr::col((LOCATIONS_METADATA, "value")), "preferred")
            .from(LOCATIONS)
            .join(JoinType::LeftJoin, LOCATIONS_METADATA, is_preference)
            .and_where(Expr::col((LOCATIONS, "share_instance_id")).eq(cx.fitting(self.instance_id)))
            .and_where(Expr::col((LOCATIONS, "deleted")).eq(0))
            .order_by((LOCATIONS, "id"), Order::Asc)
            .to_owned();
        let rows = cx.all::<LocationRow>(&query).await?.into_iter();
        let of_instance = rows.filter(|row| row.share_instance_id.as_deref() == Some(self.instance_id));
        Ok(of_instance
            .filter_map(|row| {
                Some(ExportLocation {
                    path: row.path.filter(|path| !path.is_empty())?,
                    is_admin_only: row.is_admin_only.unwrap_or_default(),
                    is_preferred: row.preferred.is_some_and(|value| value.eq_ignore_ascii_case("true")),
                })
            })
            .collect())
    }
}

pub(super) struct ListByTaskState<'a> {
    pub(super) task_states: &'a [&'a str],
}

impl Operation for ListByTaskState<'_> {
    type Answer = Vec<Share>;

    const WHAT: &'static str = "list shares by their task state";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        if self.task_states.is_empty() {
            return Ok(Vec::new());
        }
        let query = select_shares()
            .and_where(Expr::col("is_soft_deleted").eq(false))
            .and_where(Expr::col("task_state").is_in(self.task_states.iter().map(|state| cx.fitting(state))))
            .order_by("id", Order::Asc)
            .to_owned();
        Ok(cx.all::<ShareRow>(&query).await?.into_iter().map(Share::from).collect())
    }
}

pub(super) struct SetTaskState<'a> {
    pub(super) share_id: &'a str,
    pub(super) to: Option<&'a str>,
    pub(super) from: &'a [Option<&'a str>],
}

impl Operation for SetTaskState<'_> {
    type Answer = TaskStateChange;

    const WHAT: &'static str = "write the task state of a share";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<TaskStateChange, Fault> {
        // Without the target among them: a row that has it already must keep its `updated_at`.
        let from = self.from.iter().copied().filter(|from| *from != self.to);
        let mut is_from = Cond::any();
        for from in from.clone() {
            is_from = is_from.add(match from {
                Some(state) => Expr::col("task_state").eq(state),
                None => Expr::col("task_state").is_null(),
            });
        }
        // No condition at all would be true.
        if from.clone().next().is_some() {
            let update = Query::update()
                .table(SHARES)
                .value("task_state", self.to)
                .value("updated_at", cx.now())
                .and_where(Expr::col("id").eq(cx.fitting(self.share_id)))
                .and_where(Expr::col("deleted").eq("False"))
                .cond_where(is_from)
                .to_owned();
            if cx.update(&update).await? > 0 {
                return Ok(TaskStateChange::Changed);
            }
        }
        let query = select_shares().and_where(Expr::col("id").eq(cx.fitting(self.share_id))).to_owned();
        let row = cx.first::<ShareRow>(&query).await?.filter(|row| row.id == self.share_id);
        let not_found = || DatabaseError::NotFound { what: "share", id: self.share_id.into() };
        let row = row.ok_or_else(not_found)?;
        match row.task_state {
            state if state.as_deref() == self.to => Ok(TaskStateChange::Same),
            // It came to be so between the two statements.
            state if from.clone().any(|from| from == state.as_deref()) => Err(Fault::Again),
            state => Ok(TaskStateChange::Other(state)),
        }
    }
}
