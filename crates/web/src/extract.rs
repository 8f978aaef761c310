//! Parts of requests, each refused as a problem that says what is wrong with it.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::{HeaderMap, header, request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use job::JobId;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::problem::{Kind, Problem};

/// The job that a path names.
pub(crate) struct Id(pub(crate) JobId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let bad = |text: String| Problem::new(Kind::BadId, text);
        let parameters =
            RawPathParams::from_request_parts(parts, state).await.map_err(|error| bad(error.body_text()))?;
        let (_, text) = parameters.iter().next().ok_or_else(|| Problem::internal_text("the route has no id".into()))?;
        text.parse().map(Self).map_err(|error: job::BadJobId| bad(error.to_string()))
    }
}

/// The query, every part of it understood.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, Problem> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|error| Problem::new(Kind::BadQuery, error.body_text()))
    }
}

/// A JSON body, and its bytes.
pub(crate) struct Json<T> {
    pub(crate) value: T,
    pub(crate) bytes: Bytes,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        check_media_type(request.headers())?;
        let bytes = read_body(request.into_body(), app).await?;
        let value = serde_json::from_slice(&bytes).map_err(|error| not_understood(&error))?;
        Ok(Self { value, bytes })
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = given.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(Kind::UnsupportedMediaType, "send `Content-Type: application/json`"))
}

async fn read_body(body: Body, app: &App) -> Result<Bytes, Problem> {
    let limits = &app.current().settings.limits;
    let too_large =
        || Problem::new(Kind::BodyTooLarge, format!("at most {} bytes are accepted", limits.body_bytes_max));
    match tokio::time::timeout(limits.body_time, Limited::new(body, limits.body_bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        // The caller hung up; it does not read the answer.
        Ok(Err(_)) => Err(Problem::new(Kind::BadJson, "the body ends too early")),
        Err(_) => Err(Problem::new(Kind::BodyTimeout, format!("it must be here in {} s", limits.body_time.as_secs()))),
    }
}

fn not_understood(error: &serde_json::Error) -> Problem {
    let text = without_value(&error.to_string());
    if error.is_data() {
        Problem::new(Kind::BadSpec, "the body is JSON, but does not describe what is asked for").with_errors(vec![text])
    } else {
        Problem::new(Kind::BadJson, text)
    }
}

/// A value of a wrong type may be a secret in a wrong place, so it is not repeated: `invalid type: string "p=1",
/// expected u32` becomes `invalid type: string, expected u32`.
fn without_value(text: &str) -> String {
    for beginning in ["invalid type: ", "invalid value: "] {
        let Some(rest) = text.strip_prefix(beginning) else { continue };
        let Some((found, expected)) = rest.rsplit_once(", expected ") else { continue };
        let found = found.split([' ', '`', '"']).next().unwrap_or_default();
        return format!("{beginning}{found}, expected {expected}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_where_but_repeat_no_value() {
        let check = |text: &str, expected: &str| {
            let error = serde_json::from_str::<job::JobSpec>(text).unwrap_err();
            assert_eq!(without_value(&error.to_string()), expected);
        };
        check(
            r#"{"kind":"copy","source":{"type":"mount","fs_type":"cifs","source":"//h/s","options":"pass=geheim"}}"#,
            "invalid type: string, expected a sequence at line 1 column 99",
        );
        check(
            r#"{"kind":"copy","webhook":{"url":"http://h","secret":123}}"#,
            "invalid type: integer, expected a string at line 1 column 55",
        );
        check("{\n  nope", "key must be a string at line 2 column 3");
    }
}
