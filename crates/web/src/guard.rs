//! What every request passes: it gets an id and a span, its caller is known and within the rates, and whatever fails
//! becomes a problem, a panic too.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header, request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use job::Origin;
use tracing::{Instrument as _, field};

use crate::app::{App, Current, Peer};
use crate::problem::{Kind, Problem, Untold};
use crate::tokens::Scope;

/// Names a request in answers and in the log.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// OpenStack's ids have 40 characters, those of proxies up to 128.
const REQUEST_ID_BYTES_MAX: usize = 128;

impl RequestId {
    /// The caller's own, if it can stand in a log as it is; a new one otherwise.
    fn of(request: &Request) -> Self {
        let is_sane = |text: &&str| {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:=+/".contains(c);
            !text.is_empty() && text.len() <= REQUEST_ID_BYTES_MAX && text.chars().all(is_plain)
        };
        let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_sane);
        Self(given.map_or_else(|| uuid::Uuid::now_v7().to_string(), Into::into))
    }
}

/// Who asks, and what the answer may be.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    /// `uid:1000`, `token:name`; `anonymous` where none is needed.
    pub(crate) requester: String,
    pub(crate) request_id: String,
}

impl Caller {
    pub(crate) fn origin(&self) -> Origin {
        Origin { requester: self.requester.clone(), request_id: Some(self.request_id.clone()), on_behalf: None }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Self>().cloned();
        caller.ok_or_else(|| Problem::internal_text("a route lies outside the check of callers".into()))
    }
}

/// The outermost layer.
pub(crate) async fn around(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = RequestId::of(&request);
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    request.extensions_mut().insert(id.clone());
    let limit = app.current().settings.limits.answer_time;

    let span = tracing::info_span!("request", request_id = %id.0, %method, route, requester = field::Empty);
    let answer = async {
        let response = match tokio::time::timeout(limit, to_its_end(request, next)).await {
            Ok(Ok(response)) => response,
            Ok(Err(panic)) => Problem::internal_text(format!("panicked: {}", panic_text(&*panic))).into_response(),
            Err(_) => Problem::new(Kind::NoAnswer, "the service did not answer in time").into_response(),
        };
        let response = told(response, &path, &id);
        let (status, elapsed) = (response.status(), started.elapsed());
        app.metrics().observe(&method, &route, status, elapsed);
        // Changes are an audit trail; looking on is not worth a line in a log that people read.
        let (status, elapsed_ms) = (status.as_u16(), elapsed.as_secs_f64() * 1000.0);
        if method.is_safe() {
            tracing::debug!(status, elapsed_ms, "answered");
        } else {
            tracing::info!(status, elapsed_ms, "answered");
        }
        response
    };
    answer.instrument(span).await
}

type Panic = Box<dyn Any + Send>;

/// Runs the rest. A change that has begun goes on when its caller hangs up, or is not answered in time: half of one would
/// be a job that is kept and not begun.
async fn to_its_end(request: Request, next: Next) -> Result<Response, Panic> {
    if request.method().is_safe() {
        return AssertUnwindSafe(next.run(request)).catch_unwind().await;
    }
    let ended = tokio::spawn(next.run(request).in_current_span()).await;
    ended.map_err(|error| error.try_into_panic().unwrap_or_else(|_| Box::new("the runtime ended")))
}

/// Tells problems where they arose, and every answer which request it belongs to.
fn told(mut response: Response, path: &str, id: &RequestId) -> Response {
    if let Some(Untold(mut body)) = response.extensions_mut().remove::<Untold>() {
        body.instance = Some(path.into());
        body.request_id = Some(id.0.clone());
        let bytes = serde_json::to_vec(&body).expect("a problem is plain text and numbers");
        *response.body_mut() = Body::from(bytes);
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id.0).expect("ids are plain ASCII"));
    // Answers are about now, and of nobody's business but the caller's; and none is a page.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// Answers without a token, also on TCP: what probes ask.
const PUBLIC: [&str; 2] = ["/healthz", "/readyz"];
const METRICS: &str = "/metrics";

/// Lets a request pass when its caller may ask it. What changes something needs the scope `write`, here and not at each
/// route, so that a new route cannot forget it.
pub(crate) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    match caller(&app.current(), &request) {
        Ok(caller) => {
            tracing::Span::current().record("requester", &caller.requester);
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

fn caller(current: &Current, request: &Request) -> Result<Caller, Problem> {
    let extensions = request.extensions();
    let request_id = extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let Some(peer) = extensions.get::<Peer>().cloned() else {
        return Err(Problem::internal_text("a connection has no peer".into()));
    };
    let requester = match &peer {
        Peer::Unix { uid } => format!("uid:{uid}"),
        Peer::Tcp { address } => {
            let anonymous = || current.check_anonymous(*address).map_err(too_many);
            let metrics_public = current.settings.tcp.as_ref().is_some_and(|tcp| tcp.metrics_public);
            let path = request.uri().path();
            if PUBLIC.contains(&path) || (metrics_public && path == METRICS) {
                anonymous()?;
                return Ok(Caller { peer, requester: "anonymous".into(), request_id });
            }
            let entry = match bearer(request) {
                Some(token) => current.tokens.check(token, Timestamp::now()),
                None => None,
            };
            let Some(entry) = entry else {
                anonymous()?;
                return Err(Problem::new(
                    Kind::Unauthorized,
                    "send `Authorization: Bearer` with a token that is valid",
                ));
            };
            let needed = if is_read(request.method()) { Scope::Read } else { Scope::Write };
            if entry.scope < needed {
                let detail = format!("the token `{}` may only look, and this changes something", entry.name);
                return Err(Problem::new(Kind::Forbidden, detail));
            }
            format!("token:{}", entry.name)
        }
    };
    current.check_known(&requester).map_err(too_many)?;
    Ok(Caller { peer, requester, request_id })
}

fn is_read(method: &Method) -> bool {
    method.is_safe()
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn too_many(wait: std::time::Duration) -> Problem {
    // Whole seconds are all that the header can say.
    let seconds = wait.as_secs() + 1;
    Problem::new(Kind::TooManyRequests, format!("try again in {seconds} s")).after(seconds)
}
