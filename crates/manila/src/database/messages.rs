//! Messages to users.

use sea_orm::FromQueryResult;
use sea_orm::sea_query::{Expr, ExprTrait as _, Query, SimpleExpr};

use super::UserMessage;
use super::operation::{Cx, Fault, Operation};

const MESSAGES: &str = "messages";

#[derive(Debug, FromQueryResult)]
struct Row {
    id: String,
}

/// Adds a message, unless it is there.
pub(super) struct Add<'a> {
    pub(super) message: &'a UserMessage,
}

impl Operation for Add<'_> {
    type Answer = bool;

    const WHAT: &'static str = "add a message to the user";
    const WRITES: bool = true;

    async fn run(&self, cx: &Cx<'_>) -> Result<bool, Fault> {
        if !cx.schema.has_messages {
            return Ok(false);
        }
        let find = Query::select()
            .column("id")
            .from(MESSAGES)
            .and_where(Expr::col("id").eq(cx.fitting(&self.message.id)))
            .to_owned();
        if cx.first::<Row>(&find).await?.is_some_and(|row| row.id == cx.fitting(&self.message.id)) {
            return Ok(true);
        }
        let message = self.message;
        let text = |text: &str| cx.fitting(text).into();
        let keep = chrono::TimeDelta::from_std(message.keep).unwrap_or(chrono::TimeDelta::MAX);
        // A time that no calendar has is never.
        let expires_at = cx.now.checked_add_signed(keep).map(|time| cx.time(time));
        let columns = [
            ("id", text(&message.id)),
            ("project_id", text(&message.project_id)),
            ("request_id", message.request_id.as_deref().map(|id| cx.fitting(id)).into()),
            ("resource_type", text(&message.resource_type)),
            ("resource_id", text(&message.resource_id)),
            ("action_id", text(&message.action_id)),
            ("detail_id", text(&message.detail_id)),
            ("message_level", text(&message.level)),
            ("created_at", cx.now().into()),
            ("deleted", "False".into()),
        ];
        let mut insert = Query::insert();
        let mut names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
        let mut values: Vec<SimpleExpr> = columns.into_iter().map(|(_, value)| value).collect();
        if let Some(expires_at) = expires_at {
            names.push("expires_at");
            values.push(expires_at.into());
        }
        insert.into_table(MESSAGES).columns(names).values_panic(values);
        cx.insert(&insert).await?;
        Ok(true)
    }
}
