//! Access rules of shares, and what becomes of them on each instance.
//!
//! Rows are locked in the order instance, rule, mapping, which is the share manager's order for the last two.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Expr, ExprTrait as _, LockType, Query, SelectStatement, UpdateStatement};
use sea_orm::{FromQueryResult, JoinType, Order, Value};

use super::operation::{Cx, Fault, Operation};
use super::{AccessRule, DatabaseError, Mapping, NewRule};

const INSTANCES: &str = "share_instances";
const RULES: &str = "share_access_map";
const MAPPINGS: &str = "share_instance_access_map";

const QUEUED_TO_APPLY: &str = "queued_to_apply";
const QUEUED_TO_DENY: &str = "queued_to_deny";
const DENYING: &str = "denying";
const SYNCING: &str = "syncing";

/// Most identifiers in one statement; PostgreSQL and SQLite count parameters, and a job has a handful of mappings.
const IDS_MAX: usize = 500;

#[derive(Debug, FromQueryResult)]
struct MappingRow {
    id: String,
    share_instance_id: Option<String>,
    access_id: Option<String>,
    state: Option<String>,
}

impl From<MappingRow> for Mapping {
    fn from(row: MappingRow) -> Self {
        Self { id: row.id, instance_id: row.share_instance_id.unwrap_or_default(), state: row.state }
    }
}

#[derive(Debug, FromQueryResult)]
struct InstanceRow {
    id: String,
    share_id: Option<String>,
    access_rules_status: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct RuleRow {
    id: String,
    share_id: String,
    deleted: Option<String>,
}

#[derive(Debug, FromQueryResult)]
struct IdRow {
    id: String,
}

fn select_mappings() -> SelectStatement {
    Query::select()
        .columns(["id", "share_instance_id", "access_id", "state"])
        .from(MAPPINGS)
        .and_where(Expr::col("deleted").eq("False"))
        .order_by("id", Order::Asc)
        .to_owned()
}

/// The instance, if it is not deleted, locked until the transaction ends.
async fn lock_instance(cx: &Cx<'_>, id: &str) -> Result<Option<InstanceRow>, Fault> {
    let query = Query::select()
        .columns(["id", "share_id", "access_rules_status"])
        .from(INSTANCES)
        .and_where(Expr::col("id").eq(cx.fitting(id)))
        .and_where(Expr::col("deleted").eq("False"))
        .lock(LockType::Update)
        .to_owned();
    Ok(cx.first::<InstanceRow>(&query).await?.filter(|row| row.id == id))
}

/// Says that the share manager has something to do with the instance's rules.
async fn set_syncing(cx: &Cx<'_>, instance: &InstanceRow) -> Result<(), Fault> {
    if instance.access_rules_status.as_deref() != Some(SYNCING) {
        let values = [("access_rules_status", SYNCING.into())];
        cx.update(&update(cx, INSTANCES, values, &[&instance.id])).await?;
    }
    Ok(())
}

fn update<const N: usize>(
    cx: &Cx<'_>,
    table: &'static str,
    values: [(&'static str, Value); N],
    ids: &[&str],
) -> UpdateStatement {
    let values = values.map(|(column, value)| (column, Expr::value(value)));
    Query::update()
        .table(table)
        .values(values)
        .value("updated_at", cx.now())
        .and_where(Expr::col("id").is_in(ids.iter().copied()))
        .to_owned()
}

pub(super) struct FindRules<'a> {
    pub(super) share_id: &'a str,
    pub(super) access_type: &'a str,
    pub(super) access_to: &'a str,
}

#[derive(Debug, FromQueryResult)]
struct RuleWithMapping {
    id: String,
    share_id: String,
    access_type: Option<String>,
    access_to: Option<String>,
    access_level: Option<String>,
    mapping_id: Option<String>,
    mapping_instance_id: Option<String>,
    mapping_state: Option<String>,
}

impl Operation for FindRules<'_> {
    type Answer = Vec<AccessRule>;

    const WHAT: &'static str = "read access rules";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let query = Query::select()
            .columns(["id", "share_id", "access_type", "access_to", "access_level"].map(|column| (RULES, column)))
            .expr_as(Expr::col((MAPPINGS, "id")), "mapping_id")
            .expr_as(Expr::col((MAPPINGS, "share_instance_id")), "mapping_instance_id")
            .expr_as(Expr::col((MAPPINGS, "state")), "mapping_state")
            .from(RULES)
            .join(
                JoinType::LeftJoin,
                MAPPINGS,
                Expr::col((MAPPINGS, "access_id"))
                    .equals((RULES, "id"))
                    .and(Expr::col((MAPPINGS, "deleted")).eq("False")),
            )
            .and_where(Expr::col((RULES, "share_id")).eq(cx.fitting(self.share_id)))
            .and_where(Expr::col((RULES, "access_type")).eq(cx.fitting(self.access_type)))
            .and_where(Expr::col((RULES, "access_to")).eq(cx.fitting(self.access_to)))
            .and_where(Expr::col((RULES, "deleted")).eq("False"))
            .order_by((RULES, "id"), Order::Asc)
            .order_by((MAPPINGS, "id"), Order::Asc)
            .to_owned();
        let mut rules: Vec<AccessRule> = Vec::new();
        for row in cx.all::<RuleWithMapping>(&query).await? {
            // MySQL takes for equal what differs in case or in blanks at the end; a back end does not.
            let is_meant = row.share_id == self.share_id
                && row.access_type.as_deref() == Some(self.access_type)
                && row.access_to.as_deref() == Some(self.access_to);
            if !is_meant {
                continue;
            }
            if rules.last().is_none_or(|rule| rule.id != row.id) {
                rules.push(AccessRule { id: row.id, access_level: row.access_level, mappings: Vec::new() });
            }
            if let (Some(rule), Some(id)) = (rules.last_mut(), row.mapping_id) {
                let instance_id = row.mapping_instance_id.unwrap_or_default();
                rule.mappings.push(Mapping { id, instance_id, state: row.mapping_state });
            }
        }
        Ok(rules)
    }
}

pub(super) struct Allow<'a> {
    pub(super) rule: &'a NewRule,
}

impl Operation for Allow<'_> {
    type Answer = bool;

    const WHAT: &'static str = "queue an access rule";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<bool, Fault> {
        let refused = |why: &str| Fault::Final(DatabaseError::Failed(format!("cannot {}: {why}", Self::WHAT)));
        let NewRule { rule_id, mapping_id, share_id, instance_id, access_type, access_to } = self.rule;
        // Any other text would be another rule, or let somebody else in.
        if let Some(odd) = [rule_id, mapping_id, access_type, access_to].into_iter().find(|text| !cx.fits(text)) {
            return Err(refused(&format!("`{odd}` has characters that Manila's tables cannot hold")));
        }
        let Some(instance) = lock_instance(cx, instance_id).await? else {
            return Err(DatabaseError::NotFound { what: "share instance", id: instance_id.clone() }.into());
        };
        if instance.share_id.as_deref() != Some(share_id) {
            return Err(refused(&format!("instance {instance_id} is none of share {share_id}")));
        }
        let has_mapping = Query::select()
            .column("id")
            .from(MAPPINGS)
            .and_where(Expr::col("id").eq(cx.fitting(mapping_id)))
            .to_owned();
        if cx.first::<IdRow>(&has_mapping).await?.is_some_and(|row| row.id == *mapping_id) {
            return Ok(false);
        }
        let find_rule = Query::select()
            .columns(["id", "share_id", "deleted"])
            .from(RULES)
            .and_where(Expr::col("id").eq(cx.fitting(rule_id)))
            .lock(LockType::Update)
            .to_owned();
        match cx.first::<RuleRow>(&find_rule).await?.filter(|row| row.id == *rule_id) {
            None => {
                let insert = Query::insert()
                    .into_table(RULES)
                    .columns(["id", "deleted", "share_id", "access_type", "access_to", "access_level", "created_at"])
                    .values_panic([
                        rule_id.into(),
                        "False".into(),
                        share_id.into(),
                        access_type.into(),
                        access_to.into(),
                        "rw".into(),
                        cx.now().into(),
                    ])
                    .to_owned();
                cx.insert(&insert).await?;
            }
            Some(rule) if rule.deleted.as_deref() != Some("False") => {
                return Err(DatabaseError::NotFound { what: "access rule", id: rule_id.clone() }.into());
            }
            Some(rule) if rule.share_id != *share_id => {
                return Err(refused(&format!("rule {rule_id} is none of share {share_id}")));
            }
            Some(_) => {}
        }
        let insert = Query::insert()
            .into_table(MAPPINGS)
            .columns(["id", "deleted", "share_instance_id", "access_id", "state", "created_at"])
            .values_panic([
                mapping_id.into(),
                "False".into(),
                instance_id.into(),
                rule_id.into(),
                QUEUED_TO_APPLY.into(),
                cx.now().into(),
            ])
            .to_owned();
        cx.insert(&insert).await?;
        set_syncing(cx, &instance).await?;
        Ok(true)
    }
}

pub(super) struct Deny<'a> {
    pub(super) instance_id: &'a str,
    pub(super) mapping_ids: &'a [&'a str],
}

impl Operation for Deny<'_> {
    type Answer = u64;

    const WHAT: &'static str = "queue the end of access rules";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<u64, Fault> {
        if self.mapping_ids.is_empty() {
            return Ok(0);
        }
        let Some(instance) = lock_instance(cx, self.instance_id).await? else { return Ok(0) };
        let query = select_mappings()
            .and_where(Expr::col("id").is_in(self.mapping_ids.iter().map(|id| cx.fitting(id))))
            .and_where(Expr::col("share_instance_id").eq(cx.fitting(self.instance_id)))
            .to_owned();
        let rows = cx.all::<MappingRow>(&query).await?;
        let rule_ids: BTreeSet<_> = rows.iter().filter_map(|row| row.access_id.as_deref()).collect();
        if rule_ids.is_empty() {
            return Ok(0);
        }
        let lock_rules = Query::select()
            .column("id")
            .from(RULES)
            .and_where(Expr::col("id").is_in(rule_ids))
            .order_by("id", Order::Asc)
            .lock(LockType::Update)
            .to_owned();
        cx.all::<IdRow>(&lock_rules).await?;
        // Once more, now that nobody can change them.
        let query = query.clone().lock(LockType::Update).to_owned();
        let mut rows = cx.all::<MappingRow>(&query).await?;
        rows.retain(|row| {
            let is_on_its_way_out = matches!(row.state.as_deref(), Some(QUEUED_TO_DENY | DENYING));
            self.mapping_ids.contains(&row.id.as_str()) && !is_on_its_way_out
        });
        if rows.is_empty() {
            return Ok(0);
        }
        let rule_ids: BTreeSet<_> = rows.iter().filter_map(|row| row.access_id.as_deref()).collect();
        let rule_ids: Vec<_> = rule_ids.into_iter().collect();
        cx.update(&update(cx, RULES, [], &rule_ids)).await?;
        let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
        cx.update(&update(cx, MAPPINGS, [("state", QUEUED_TO_DENY.into())], &ids)).await?;
        set_syncing(cx, &instance).await?;
        Ok(rows.len() as u64)
    }
}

pub(super) struct FindMappings<'a> {
    pub(super) mapping_ids: &'a [&'a str],
}

impl Operation for FindMappings<'_> {
    type Answer = Vec<Mapping>;

    const WHAT: &'static str = "read the states of access rules";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Self::Answer, Fault> {
        let mut mappings = Vec::new();
        for ids in self.mapping_ids.chunks(IDS_MAX) {
            let query =
                select_mappings().and_where(Expr::col("id").is_in(ids.iter().map(|id| cx.fitting(id)))).to_owned();
            let rows = cx.all::<MappingRow>(&query).await?.into_iter();
            mappings.extend(rows.filter(|row| ids.contains(&row.id.as_str())).map(Mapping::from));
        }
        Ok(mappings)
    }
}
