//! Failures as callers see them: RFC 9457 problem details. What only operators may know goes to the log, joined with the
//! answer by the request id.

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use job::{DoorError, StoreError};
use serde::{Deserialize, Serialize};

use crate::roots::Refusal;

/// What went wrong, for programs. Each is a heading of `docs/api.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    BadJson,
    BadQuery,
    BadHeader,
    BadId,
    BadCursor,
    Unauthorized,
    Forbidden,
    PathNotAllowed,
    MountNotAllowed,
    NoSuchRoute,
    NoSuchJob,
    NoSuchReport,
    MethodNotAllowed,
    NotAcceptable,
    BodyTimeout,
    NotNow,
    BodyTooLarge,
    UnsupportedMediaType,
    BadSpec,
    KeyReused,
    TooManyRequests,
    TooManyStreams,
    Internal,
    QueueFull,
    ShuttingDown,
    StoreUnavailable,
    NoAnswer,
}

impl Kind {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 27] = [
        Self::BadJson,
        Self::BadQuery,
        Self::BadHeader,
        Self::BadId,
        Self::BadCursor,
        Self::Unauthorized,
        Self::Forbidden,
        Self::PathNotAllowed,
        Self::MountNotAllowed,
        Self::NoSuchRoute,
        Self::NoSuchJob,
        Self::NoSuchReport,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::BodyTimeout,
        Self::NotNow,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::BadSpec,
        Self::KeyReused,
        Self::TooManyRequests,
        Self::TooManyStreams,
        Self::Internal,
        Self::QueueFull,
        Self::ShuttingDown,
        Self::StoreUnavailable,
        Self::NoAnswer,
    ];

    /// The status, the name and the title, which never changes.
    pub(crate) fn words(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::BadJson => (StatusCode::BAD_REQUEST, "bad-json", "The body is not JSON"),
            Self::BadQuery => (StatusCode::BAD_REQUEST, "bad-query", "The query cannot be understood"),
            Self::BadHeader => (StatusCode::BAD_REQUEST, "bad-header", "A header cannot be understood"),
            Self::BadId => (StatusCode::BAD_REQUEST, "bad-id", "That is not a job id"),
            Self::BadCursor => (StatusCode::BAD_REQUEST, "bad-cursor", "That is not a cursor of this list"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "The token does not permit this"),
            Self::PathNotAllowed => (StatusCode::FORBIDDEN, "path-not-allowed", "The directory is not allowed"),
            Self::MountNotAllowed => (StatusCode::FORBIDDEN, "mount-not-allowed", "Mounts are not allowed"),
            Self::NoSuchRoute => (StatusCode::NOT_FOUND, "no-such-route", "There is nothing here"),
            Self::NoSuchJob => (StatusCode::NOT_FOUND, "no-such-job", "There is no such job"),
            Self::NoSuchReport => (StatusCode::NOT_FOUND, "no-such-report", "There is no such report"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This cannot be done here")
            }
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "not-acceptable", "There is no such representation"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "body-timeout", "The body did not arrive in time"),
            Self::NotNow => (StatusCode::CONFLICT, "not-now", "The job's state does not permit this"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
            }
            Self::BadSpec => (StatusCode::UNPROCESSABLE_ENTITY, "bad-spec", "This cannot be carried out as asked"),
            Self::KeyReused => (StatusCode::UNPROCESSABLE_ENTITY, "key-reused", "The idempotency key is taken"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many requests"),
            Self::TooManyStreams => (StatusCode::TOO_MANY_REQUESTS, "too-many-streams", "Too many open streams"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "The service failed"),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "queue-full", "Too many jobs wait"),
            Self::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, "shutting-down", "The service is shutting down"),
            Self::StoreUnavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", "The job store does not answer")
            }
            Self::NoAnswer => (StatusCode::SERVICE_UNAVAILABLE, "no-answer", "The service took too long"),
        }
    }

    /// Seconds after which trying again makes sense, where that is known beforehand.
    fn retry_after_seconds(self) -> Option<u64> {
        match self {
            Self::ShuttingDown | Self::StoreUnavailable | Self::NoAnswer | Self::TooManyStreams => Some(5),
            Self::QueueFull => Some(60),
            _ => None,
        }
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    errors: Vec<String>,
    retry_after_seconds: Option<u64>,
    /// For the log alone.
    internal: Option<String>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let retry_after_seconds = kind.retry_after_seconds();
        Self { kind, detail: detail.into(), errors: Vec::new(), retry_after_seconds, internal: None }
    }

    pub(crate) fn with_errors(mut self, errors: Vec<String>) -> Self {
        self.errors = errors;
        self
    }

    pub(crate) fn after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Something that is our fault; `error` with its causes is for the log.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::internal_text(chain(error))
    }

    pub(crate) fn internal_text(text: String) -> Self {
        let detail = "the reason is in the service's log, with the request id of this answer";
        Self { internal: Some(text), ..Self::new(Kind::Internal, detail) }
    }

    pub(crate) fn body(&self) -> ProblemBody {
        let (status, name, title) = self.kind.words();
        ProblemBody {
            r#type: format!("docs/api.md#{name}"),
            title: title.into(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            instance: None,
            request_id: None,
            errors: self.errors.clone(),
        }
    }

    pub(crate) fn log(&self) {
        if let Some(internal) = &self.internal {
            tracing::error!(problem = self.kind.words().1, error = %internal, "a request failed");
        }
    }
}

/// The error and its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        let text = error.to_string();
        match error {
            DoorError::NoSuchJob(_) => Self::new(Kind::NoSuchJob, text),
            DoorError::BadSpec(errors) => {
                Self::new(Kind::BadSpec, "the job cannot be carried out as asked").with_errors(errors)
            }
            DoorError::KeyReused => Self::new(Kind::KeyReused, text),
            DoorError::NotNow(_) => Self::new(Kind::NotNow, text),
            DoorError::QueueFull(_) => Self::new(Kind::QueueFull, text),
            DoorError::ShuttingDown => Self::new(Kind::ShuttingDown, text),
            DoorError::Store(error @ StoreError::Unavailable(_)) => {
                let internal = Some(chain(&error));
                Self { internal, ..Self::new(Kind::StoreUnavailable, "nothing was changed; try again") }
            }
            error => Self::internal(&error),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Path(text) => Self::new(Kind::PathNotAllowed, text),
            Refusal::Mount(text) => Self::new(Kind::MountNotAllowed, text),
        }
    }
}

/// Failures as RFC 9457 wants them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Relative to the source of the documentation; the part after `#` names the kind of problem.
    #[schema(example = "docs/api.md#bad-spec")]
    pub r#type: String,
    /// The same for each problem of this type.
    pub title: String,
    pub status: u16,
    /// What went wrong this time.
    pub detail: String,
    /// Path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub instance: Option<String>,
    /// For finding the request in the service's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub request_id: Option<String>,
    /// Each thing that is wrong, where there may be several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl ProblemBody {
    /// The kind of problem: the part of the type after `#`.
    pub fn name(&self) -> &str {
        self.r#type.rsplit('#').next().unwrap_or_default()
    }
}

impl fmt::Display for ProblemBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)?;
        self.errors.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}

/// A problem that has not been told where and in answer to which request it arose; the outermost layer does so.
#[derive(Clone, Debug)]
pub(crate) struct Untold(pub(crate) ProblemBody);

pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let (status, ..) = self.kind.words();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(seconds) = self.retry_after_seconds {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let mut response = (status, headers).into_response();
        response.extensions_mut().insert(Untold(self.body()));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_a_heading_of_the_documentation() {
        let documentation = include_str!("../../../docs/api.md");
        for kind in Kind::ALL {
            let (status, name, title) = kind.words();
            assert!(documentation.contains(&format!("\n#### {name}\n")), "{name} ({status}, {title})");
        }
    }

    #[test]
    fn causes_are_for_the_log_alone() {
        let secret = std::io::Error::other("/var/lib/x: disk I/O error");
        let error = DoorError::Store(StoreError::Failed { what: "read".into(), source: Some(Box::new(secret)) });
        let problem = Problem::from(error);
        assert!(problem.internal.as_deref().unwrap().ends_with("read: /var/lib/x: disk I/O error"), "{problem:?}");
        assert!(!serde_json::to_string(&problem.body()).unwrap().contains("disk"), "{problem:?}");
    }
}
