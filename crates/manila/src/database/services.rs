//! The rows that show services alive, and the availability zones that they refer to.

use std::time::Duration;

use chrono::NaiveDateTime;
use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, Query, SelectStatement, SimpleExpr, UpdateStatement};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, FromQueryResult, Value};
use uuid::Uuid;

use super::operation::{Cx, Fault, Operation};
use super::{DatabaseError, ServiceId, ServiceIdentity, ServiceRow};

const SERVICES: &str = "services";
const ZONES: &str = "availability_zones";

const UP: &str = "up";
const DOWN: &str = "down";
const STOPPED: &str = "stopped";

#[derive(Debug, FromQueryResult)]
struct Row {
    id: i32,
    host: Option<String>,
    state: Option<String>,
    disabled: Option<bool>,
    availability_zone_id: Option<String>,
    created_at: Option<NaiveDateTime>,
    updated_at: Option<NaiveDateTime>,
}

#[derive(Debug, FromQueryResult)]
struct Zone {
    id: String,
    name: Option<String>,
}

/// Rows that are not deleted; `state` is NULL where the schema has none.
fn select(cx: &Cx<'_>) -> SelectStatement {
    let mut query = Query::select();
    query
        .columns(["id", "host", "disabled", "availability_zone_id", "created_at", "updated_at"])
        .from(SERVICES)
        .and_where(Expr::col("deleted").eq(0))
        .order_by("id", sea_orm::Order::Asc);
    if cx.schema.has_service_state {
        query.column("state");
    } else {
        query.expr_as(Expr::cust("NULL"), "state");
    }
    query
}

/// The row of a host and binary. MySQL takes hosts for the same that differ in case.
async fn find(cx: &Cx<'_>, service: &ServiceIdentity) -> Result<Option<Row>, DbErr> {
    let host = cx.fitting(&service.host);
    let query = select(cx)
        .and_where(Expr::col("host").eq(&*host))
        .and_where(Expr::col("binary").eq(cx.fitting(&service.binary)))
        .to_owned();
    Ok(cx.all::<Row>(&query).await?.into_iter().find(|row| row.host.as_deref() == Some(&*host)))
}

/// The zone of that name, else one that the database takes for the same: beside it there can be no other.
async fn find_zone(cx: &Cx<'_>, name: &str, lock: bool) -> Result<Option<String>, DbErr> {
    let name = cx.fitting(name);
    let mut query = Query::select();
    query
        .columns(["id", "name"])
        .from(ZONES)
        .and_where(Expr::col("name").eq(&*name))
        .and_where(Expr::col("deleted").eq("False"));
    if lock {
        query.lock(LockType::Update);
    }
    let mut zones = cx.all::<Zone>(&query).await?;
    zones.sort_by_key(|zone| zone.name.as_deref() != Some(&*name));
    Ok(zones.into_iter().next().map(|zone| zone.id))
}

/// An update of one row that is not deleted.
fn update(cx: &Cx<'_>, id: i32, values: Vec<(&'static str, SimpleExpr)>) -> UpdateStatement {
    Query::update()
        .table(SERVICES)
        .values(values)
        .value("updated_at", cx.now())
        .and_where(Expr::col("id").eq(id))
        .and_where(Expr::col("deleted").eq(0))
        .to_owned()
}

/// Identifiers of that table have 32 bits; others are none of its rows'.
fn row_id(id: ServiceId) -> Result<i32, DatabaseError> {
    i32::try_from(id.0).map_err(|_| not_found(id))
}

fn not_found(id: ServiceId) -> DatabaseError {
    DatabaseError::NotFound { what: "service", id: id.0.to_string() }
}

/// Shows the row of this host and binary `down`, if there is one.
pub(super) struct Register<'a> {
    pub(super) service: &'a ServiceIdentity,
}

impl Operation for Register<'_> {
    type Answer = Option<ServiceId>;

    const WHAT: &'static str = "find the row of this service";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let Some(row) = find(cx, self.service).await? else { return Ok(None) };
        if cx.schema.has_service_state && row.state.as_deref() != Some(DOWN) {
            cx.update(&update(cx, row.id, vec![("state", DOWN.into())])).await?;
        }
        Ok(Some(ServiceId(row.id.into())))
    }
}

/// Makes the row, `up`, unless it is there. `None`: there is no such zone yet.
pub(super) struct Create<'a> {
    pub(super) service: &'a ServiceIdentity,
}

impl Operation for Create<'_> {
    type Answer = Option<ServiceId>;

    const WHAT: &'static str = "make the row of this service";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        // No unique index keeps two from making the same row; the lock on their zone does.
        let Some(zone_id) = find_zone(cx, &self.service.availability_zone, true).await? else { return Ok(None) };
        if let Some(row) = find(cx, self.service).await? {
            return Ok(Some(ServiceId(row.id.into())));
        }
        let mut columns = vec![
            "host",
            "binary",
            "topic",
            "report_count",
            "disabled",
            "availability_zone_id",
            "created_at",
            "deleted",
        ];
        let mut values: Vec<Value> = vec![
            cx.fitting(&self.service.host).into(),
            cx.fitting(&self.service.binary).into(),
            cx.fitting(&self.service.topic).into(),
            0.into(),
            (!self.service.is_enabled).into(),
            zone_id.into(),
            cx.now(),
            0.into(),
        ];
        if cx.schema.has_service_state {
            columns.push("state");
            values.push(UP.into());
        }
        let mut insert = Query::insert();
        insert.into_table(SERVICES).columns(columns).values_panic(values.into_iter().map(SimpleExpr::from));
        let id = if cx.backend() == DbBackend::MySql {
            cx.transaction.execute(&insert).await?.last_insert_id() as i64
        } else {
            let row = cx.transaction.query_one(insert.returning_col("id")).await?;
            let row = row.ok_or_else(|| DbErr::Custom("the new row has no identifier".into()))?;
            row.try_get::<i32>("", "id")?.into()
        };
        Ok(Some(ServiceId(id)))
    }
}

/// Makes an availability zone, unless it is there.
pub(super) struct CreateZone<'a> {
    service: &'a ServiceIdentity,
    id: String,
}

impl<'a> CreateZone<'a> {
    pub(super) fn new(service: &'a ServiceIdentity) -> Self {
        Self { service, id: Uuid::new_v4().to_string() }
    }
}

impl Operation for CreateZone<'_> {
    type Answer = ();

    const WHAT: &'static str = "make the availability zone";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let name = &self.service.availability_zone;
        if find_zone(cx, name, false).await?.is_some() {
            return Ok(());
        }
        // Somebody who makes it at the same time makes this fail as a duplicate, and the next run finds his.
        let insert = Query::insert()
            .into_table(ZONES)
            .columns(["id", "name", "created_at", "deleted"])
            .values_panic([self.id.as_str().into(), cx.fitting(name).into(), cx.now().into(), "False".into()])
            .to_owned();
        Ok(cx.insert(&insert).await?)
    }
}

/// What became of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beaten {
    Done,
    /// The row is not there.
    Gone,
    /// The availability zone is not there.
    NoZone,
}

pub(super) struct Beat<'a> {
    pub(super) id: ServiceId,
    pub(super) service: &'a ServiceIdentity,
    pub(super) down_time: Duration,
}

impl Operation for Beat<'_> {
    type Answer = Beaten;

    const WHAT: &'static str = "write the heartbeat";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<Beaten, Fault> {
        let Ok(id) = row_id(self.id) else { return Ok(Beaten::Gone) };
        let query = select(cx).and_where(Expr::col("id").eq(id)).to_owned();
        let Some(row) = cx.first::<Row>(&query).await? else { return Ok(Beaten::Gone) };
        let Some(zone_id) = find_zone(cx, &self.service.availability_zone, false).await? else {
            return Ok(Beaten::NoZone);
        };
        let mut values = vec![("report_count", Expr::col("report_count").add(1))];
        if row.availability_zone_id.as_deref() != Some(&*zone_id) {
            values.push(("availability_zone_id", zone_id.into()));
        }
        if cx.schema.has_service_state {
            // By the row as it was: what was silent for too long is `down` once more before it is `up` again.
            let is_fresh = cx.age(row.updated_at, row.created_at) <= self.down_time;
            let state = match row.state.as_deref() {
                _ if is_fresh => UP,
                Some(STOPPED) => STOPPED,
                _ => DOWN,
            };
            if row.state.as_deref() != Some(state) {
                values.push(("state", state.into()));
            }
        }
        let found = cx.update(&update(cx, id, values)).await?;
        Ok(if found == 0 { Beaten::Gone } else { Beaten::Done })
    }
}

pub(super) struct Stop {
    pub(super) id: ServiceId,
}

impl Operation for Stop {
    type Answer = ();

    const WHAT: &'static str = "show this service stopped";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<(), Fault> {
        let id = row_id(self.id)?;
        let query = select(cx).and_where(Expr::col("id").eq(id)).to_owned();
        let row = cx.first::<Row>(&query).await?.ok_or_else(|| not_found(self.id))?;
        if cx.schema.has_service_state
            && row.state.as_deref() != Some(STOPPED)
            && cx.update(&update(cx, id, vec![("state", STOPPED.into())])).await? == 0
        {
            return Err(not_found(self.id).into());
        }
        Ok(())
    }
}

pub(super) struct RemoveStopped<'a> {
    pub(super) topic: &'a str,
    pub(super) down_time: Duration,
}

impl Operation for RemoveStopped<'_> {
    type Answer = u64;

    const WHAT: &'static str = "remove services that have stopped";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<u64, Fault> {
        if !cx.schema.has_service_state {
            return Ok(0);
        }
        let query = select(cx)
            .and_where(Expr::col("topic").eq(cx.fitting(self.topic)))
            .and_where(Expr::col("state").eq(STOPPED))
            .and_where(Expr::col("disabled").eq(false))
            .to_owned();
        let mut removed = 0;
        for row in cx.all::<Row>(&query).await? {
            if cx.age(row.updated_at, row.created_at) <= self.down_time {
                continue;
            }
            let update = update(cx, row.id, vec![("deleted", Expr::col("id")), ("deleted_at", cx.now().into())])
                // It may have come back since.
                .and_where(Expr::col("state").eq(STOPPED))
                .to_owned();
            removed += cx.update(&update).await?;
        }
        Ok(removed)
    }
}

pub(super) struct List<'a> {
    pub(super) topic: &'a str,
}

impl Operation for List<'_> {
    type Answer = Vec<ServiceRow>;

    const WHAT: &'static str = "list services";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let query = select(cx).and_where(Expr::col("topic").eq(cx.fitting(self.topic))).to_owned();
        let service = |row: Row| ServiceRow {
            id: ServiceId(row.id.into()),
            age: cx.age(row.updated_at, row.created_at),
            host: row.host.unwrap_or_default(),
            is_disabled: row.disabled.unwrap_or_default(),
            state: row.state,
        };
        Ok(cx.all::<Row>(&query).await?.into_iter().map(service).collect())
    }
}
