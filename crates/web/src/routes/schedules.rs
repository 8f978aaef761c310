//! Schedules, as the configuration has them. Only the configuration changes them.

use axum::Json as Answer;
use axum::extract::State;

use crate::app::App;
use crate::bodies::{ScheduleBody, ScheduleListBody};
use crate::problem::Problem;

/// List the schedules
///
/// By their names, with the next firings of each, its last job, and what was skipped or missed since this service
/// started. Changing them is changing the configuration.
#[utoipa::path(
    get,
    operation_id = "list_schedules",
    path = "/v1/schedules",
    tag = "schedules",
    responses((status = 200, description = "All of them", body = ScheduleListBody))
)]
pub(super) async fn list(State(app): State<App>) -> Result<Answer<ScheduleListBody>, Problem> {
    let views = app.service().schedules().await?;
    Ok(Answer(ScheduleListBody { schedules: views.iter().map(ScheduleBody::from).collect() }))
}
