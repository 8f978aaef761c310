//! The service itself: what it is, whether it is well, what it counted.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::app::App;
use crate::bodies::{HealthBody, VersionBody};
use crate::openapi;
use crate::problem::Problem;

/// Read this description
#[utoipa::path(
    get,
    operation_id = "show_description",
    path = "/v1/openapi.json",
    tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub(super) async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::text()).into_response()
}

/// See which service this is
#[utoipa::path(
    get,
    operation_id = "show_version",
    path = "/v1/version",
    tag = "service",
    responses((status = 200, description = "Name and versions", body = VersionBody))
)]
pub(super) async fn version() -> Answer<VersionBody> {
    Answer(VersionBody::ours())
}

/// See whether the process lives
#[utoipa::path(
    get,
    operation_id = "show_health",
    path = "/healthz",
    tag = "service",
    security(()),
    responses((status = 200, description = "It does", body = HealthBody))
)]
pub(super) async fn health() -> Answer<HealthBody> {
    Answer(HealthBody { status: "alive".into(), troubles: Vec::new() })
}

/// See whether the service can work
#[utoipa::path(
    get,
    operation_id = "show_readiness",
    path = "/readyz",
    tag = "service",
    security(()),
    responses(
        (status = 200, description = "It can", body = HealthBody),
        (status = 503, description = "It cannot, for these reasons", body = HealthBody),
    )
)]
pub(super) async fn ready(State(app): State<App>) -> Response {
    let troubles = app.service().troubles().await;
    let (status, word) =
        if troubles.is_empty() { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    (status, Answer(HealthBody { status: word.into(), troubles })).into_response()
}

/// Read the figures
///
/// As Prometheus reads them. On TCP a token is needed unless the operator decided otherwise.
#[utoipa::path(
    get,
    operation_id = "show_metrics",
    path = "/metrics",
    tag = "service",
    responses((status = 200, description = "The figures", body = String, content_type = "application/openmetrics-text"))
)]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let figures = app.service().figures().await?;
    let text = app.metrics().encode(figures).map_err(|error| Problem::internal(&error))?;
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, media_type)], text).into_response())
}
