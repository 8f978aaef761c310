//! Jobs: make, find, look at, steer, remove.
#![expect(unused_qualifications, reason = "the description's macro writes full paths")]

use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use job::spec::{Kind as JobKind, RateLimits};
use job::{IdempotencyKey, JobFilter, JobId, JobSpec, JobView, Page, StateName, Submitted};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

use crate::app::App;
use crate::bodies::{JobBody, JobListBody, ProgressBody};
use crate::extract::{Asked, Id, Json};
use crate::guard::Caller;
use crate::hex::hex;
use crate::problem::{Kind, Problem};
use crate::roots;

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// UUIDs have 36; what others make of names and dates stays below.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Take a job
///
/// It is durable once this is answered. With an `Idempotency-Key` the same request makes one job, however often it is
/// sent: later answers have status 200.
#[utoipa::path(
    post,
    operation_id = "create_job",
    path = "/v1/jobs",
    tag = "jobs",
    request_body = JobSpec,
    params(("Idempotency-Key" = Option<String>, Header, nullable = false, description = "Names the request: 1 to 255 printable ASCII characters",
        min_length = 1, max_length = 255, pattern = "^[!-~]+$")),
    responses(
        (status = 201, description = "A new job", body = JobBody, headers(("Location" = String, description = "Its path"))),
        (status = 200, description = "The job that the same request made earlier", body = JobBody,
            headers(("Location" = String, description = "Its path"))),
    )
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    Json { value: spec, bytes }: Json<JobSpec>,
) -> Result<Response, Problem> {
    if spec.retry_of.is_some() {
        return Err(bad_spec("`retry_of` is set by the service: POST /v1/jobs/{id}/retry-failed"));
    }
    if spec.lacks_secrets() {
        return Err(bad_spec("a secret is masked (`***`): give the secret itself"));
    }
    roots::check(&spec, app.current().permits(&caller.peer))?;
    let key = idempotency_key(&headers, &caller, &bytes)?;
    let submitted = app.service().submit(spec, caller.origin(), key).await?;
    Ok(submitted_answer(&submitted))
}

fn bad_spec(error: &str) -> Problem {
    Problem::new(Kind::BadSpec, "the job cannot be carried out as asked").with_errors(vec![error.into()])
}

fn idempotency_key(headers: &HeaderMap, caller: &Caller, body: &[u8]) -> Result<Option<IdempotencyKey>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let is_good = |text: &&str| {
        !text.is_empty() && text.len() <= IDEMPOTENCY_KEY_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let key = value.to_str().ok().filter(is_good).ok_or_else(|| {
        let detail = format!("`Idempotency-Key` has 1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
        Problem::new(Kind::BadHeader, detail)
    })?;
    let fingerprint = hex(&Sha256::digest(body));
    Ok(Some(IdempotencyKey { requester: caller.requester.clone(), key: key.into(), fingerprint }))
}

fn submitted_answer(submitted: &Submitted) -> Response {
    let status = if submitted.is_known { StatusCode::OK } else { StatusCode::CREATED };
    let location = format!("/v1/jobs/{}", submitted.view.job.id);
    let location = HeaderValue::from_str(&location).expect("ids are plain ASCII");
    (status, [(header::LOCATION, location)], Answer(JobBody::from(&submitted.view))).into_response()
}

/// Jobs to find.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// In any of these states, separated by commas.
    #[serde(default, deserialize_with = "comma_separated")]
    #[param(style = Form, explode = false)]
    state: Vec<StateName>,
    /// Of any of these kinds, separated by commas.
    #[serde(default, deserialize_with = "comma_separated")]
    #[param(style = Form, explode = false)]
    kind: Vec<JobKind>,
    /// Of this name.
    #[param(nullable = false)]
    name: Option<String>,
    /// Made by this requester: `uid:1000`, `token:name`.
    #[param(nullable = false)]
    requester: Option<String>,
    /// Made after this moment.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    created_after: Option<Timestamp>,
    /// Made before this moment.
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    created_before: Option<Timestamp>,
    /// Jobs on a page.
    #[param(minimum = 1, maximum = 500, default = 50, nullable = false)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(nullable = false, format = "uuid")]
    cursor: Option<String>,
}

fn comma_separated<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    use serde::de::IntoDeserializer as _;
    let text = String::deserialize(deserializer)?;
    text.split(',').map(str::trim).map(|word| T::deserialize(word.to_owned().into_deserializer())).collect()
}

/// Find jobs
///
/// The newest first. The header `Link` and `next_cursor` lead to the next page.
#[utoipa::path(
    get,
    operation_id = "list_jobs",
    path = "/v1/jobs",
    tag = "jobs",
    params(ListQuery),
    responses((status = 200, description = "A page of jobs", body = JobListBody,
        headers(("Link" = Option<String>, description = "The next page, as `rel=\"next\"`"))))
)]
pub(super) async fn list(
    State(app): State<App>,
    uri: axum::http::Uri,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, Problem> {
    let current = app.current();
    let (size, size_max) =
        (query.limit.unwrap_or(current.settings.limits.page_size), current.settings.limits.page_size_max);
    if !(1..=size_max).contains(&size) {
        return Err(Problem::new(Kind::BadQuery, format!("`limit` is 1 to {size_max}")));
    }
    let cursor = query.cursor.as_deref().map(str::parse::<JobId>).transpose();
    let after = cursor.map_err(|_| Problem::new(Kind::BadCursor, "take `next_cursor` of the page before as it is"))?;
    let filter = JobFilter {
        states: query.state,
        kinds: query.kind,
        name: query.name,
        requester: query.requester,
        created_after: query.created_after,
        created_before: query.created_before,
    };
    // One more than is shown tells whether there is a next page.
    let mut views = app.service().list(&filter, &Page { after, size: size + 1 }).await?;
    let has_next = views.len() > size as usize;
    views.truncate(size as usize);
    let next_cursor = views.last().filter(|_| has_next).map(|view| view.job.id.to_string());
    let mut headers = HeaderMap::new();
    if let Some(cursor) = &next_cursor {
        let link = next_link(uri.query().unwrap_or_default(), cursor);
        headers.extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
    }
    Ok((headers, Answer(JobListBody { jobs: views.iter().map(JobBody::from).collect(), next_cursor })).into_response())
}

/// The same query with another cursor.
fn next_link(query: &str, cursor: &str) -> String {
    let others = query.split('&').filter(|part| !part.is_empty() && !part.starts_with("cursor="));
    let cursor = format!("cursor={cursor}");
    let query: Vec<_> = others.chain([cursor.as_str()]).collect();
    format!("</v1/jobs?{}>; rel=\"next\"", query.join("&"))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    /// Answers when the job has ended, or after so many seconds.
    #[param(minimum = 0, maximum = 60, nullable = false)]
    wait: Option<u32>,
}

/// Look at a job
///
/// With `wait` this is the answer to "when is it done": ask again while `outcome` is null.
#[utoipa::path(
    get,
    operation_id = "show_job",
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job"), ShowQuery),
    responses((status = 200, description = "The job", body = JobBody))
)]
pub(super) async fn show(
    State(app): State<App>,
    Id(id): Id,
    Asked(query): Asked<ShowQuery>,
) -> Result<Answer<JobBody>, Problem> {
    let time = Duration::from_secs(query.wait.unwrap_or(0).into());
    let wait_max = app.current().settings.limits.wait_max;
    if time > wait_max {
        return Err(Problem::new(Kind::BadQuery, format!("`wait` is at most {} seconds", wait_max.as_secs())));
    }
    if time.is_zero() {
        return answer(app.service().get(id).await);
    }
    let waited = tokio::select! {
        view = app.service().wait(id, time) => Some(view),
        // The service ends before the job does: the caller learns what is known now.
        () = app.ending().cancelled() => None,
    };
    match waited {
        Some(view) => answer(view),
        None => answer(app.service().get(id).await),
    }
}

fn answer(view: Result<JobView, job::DoorError>) -> Result<Answer<JobBody>, Problem> {
    Ok(Answer(JobBody::from(&view?)))
}

/// See how far a job is
#[utoipa::path(
    get,
    operation_id = "show_progress",
    path = "/v1/jobs/{id}/progress",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "Its progress", body = ProgressBody))
)]
pub(super) async fn progress(State(app): State<App>, Id(id): Id) -> Result<Answer<ProgressBody>, Problem> {
    Ok(Answer(ProgressBody::from(&app.service().get(id).await?)))
}

/// Cancel a job
///
/// Accepted in every state; of a job that has ended it changes nothing. The job ends once everything is given back.
#[utoipa::path(
    post,
    operation_id = "cancel_job",
    path = "/v1/jobs/{id}/cancel",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = JobBody))
)]
pub(super) async fn cancel(State(app): State<App>, Id(id): Id) -> Result<Answer<JobBody>, Problem> {
    answer(app.service().cancel(id).await)
}

/// Pause a job
///
/// It gives back what it holds, and waits until it is resumed.
#[utoipa::path(
    post,
    operation_id = "pause_job",
    path = "/v1/jobs/{id}/pause",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = JobBody))
)]
pub(super) async fn pause(State(app): State<App>, Id(id): Id) -> Result<Answer<JobBody>, Problem> {
    answer(app.service().pause(id).await)
}

/// Let a paused job go on
#[utoipa::path(
    post,
    operation_id = "resume_job",
    path = "/v1/jobs/{id}/resume",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = JobBody))
)]
pub(super) async fn resume(State(app): State<App>, Id(id): Id) -> Result<Answer<JobBody>, Problem> {
    answer(app.service().resume(id).await)
}

/// Cut a migration over
///
/// Makes the next pass the last one, and begins it. Nothing may change the source from here on; with a hook in the
/// specification the service sees to that.
#[utoipa::path(
    post,
    operation_id = "cutover_job",
    path = "/v1/jobs/{id}/cutover",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = JobBody))
)]
pub(super) async fn cutover(State(app): State<App>, Id(id): Id) -> Result<Answer<JobBody>, Problem> {
    answer(app.service().cutover(id).await)
}

/// Take what failed again
///
/// Makes a new job, for those entries alone that failed in this ended one.
#[utoipa::path(
    post,
    operation_id = "retry_failed",
    path = "/v1/jobs/{id}/retry-failed",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The ended job")),
    responses(
        (status = 201, description = "A new job", body = JobBody, headers(("Location" = String, description = "Its path"))),
        (status = 200, description = "The job that was made for this earlier", body = JobBody,
            headers(("Location" = String, description = "Its path"))),
    )
)]
pub(super) async fn retry_failed(State(app): State<App>, caller: Caller, Id(id): Id) -> Result<Response, Problem> {
    // The ended job may be of somebody who may do more.
    let view = app.service().get(id).await?;
    roots::check(&view.job.spec, app.current().permits(&caller.peer))?;
    Ok(submitted_answer(&app.service().retry_failed(id, caller.origin()).await?))
}

/// Change a job's speed
///
/// Replaces all its bounds at once, also while it runs.
#[utoipa::path(
    put,
    operation_id = "set_limits",
    path = "/v1/jobs/{id}/limits",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The job")),
    request_body = RateLimits,
    responses((status = 200, description = "The job as it is now", body = JobBody))
)]
pub(super) async fn set_limits(
    State(app): State<App>,
    Id(id): Id,
    Json { value: limits, .. }: Json<RateLimits>,
) -> Result<Answer<JobBody>, Problem> {
    answer(app.service().set_limits(id, limits).await)
}

/// Remove an ended job
///
/// With its events and its report.
#[utoipa::path(
    delete,
    operation_id = "remove_job",
    path = "/v1/jobs/{id}",
    tag = "jobs",
    params(("id" = JobId, Path, description = "The ended job")),
    responses((status = 204, description = "It is gone"))
)]
pub(super) async fn remove(State(app): State<App>, Id(id): Id) -> Result<StatusCode, Problem> {
    app.service().remove(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_keeps_the_filter() {
        let check =
            |query, expected: &str| assert_eq!(next_link(query, "C"), format!("</v1/jobs?{expected}>; rel=\"next\""));
        check("", "cursor=C");
        check("state=working,failed&cursor=B&limit=2", "state=working,failed&limit=2&cursor=C");
    }
}
