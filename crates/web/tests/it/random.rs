//! Whatever bytes come, no answer is the service's fault, and every failure is a problem document.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Method, Request, Uri};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::kit::{Api, spec};

const PATHS: [&str; 14] = [
    "/v1/jobs",
    "/v1/jobs/ID",
    "/v1/jobs/ID/progress",
    "/v1/jobs/ID/report",
    "/v1/jobs/ID/entries",
    "/v1/jobs/ID/faults",
    "/v1/jobs/ID/manifest",
    "/v1/jobs/ID/limits",
    "/v1/jobs/ID/pause",
    "/v1/jobs/ID/resume",
    "/v1/jobs/ID/cutover",
    "/v1/jobs/ID/events",
    "/v1/events",
    "/v1/version",
];

const HEADERS: [&str; 7] =
    ["idempotency-key", "last-event-id", "accept", "x-request-id", "content-type", "authorization", "content-length"];

#[derive(Clone, Debug)]
struct Asked {
    method: Method,
    path: String,
    query: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

/// A good specification with one value replaced, removed or added, cut somewhere, or with a byte changed.
fn nearly_good() -> impl Strategy<Value = Vec<u8>> {
    let keys =
        ["kind", "source", "dest", "options", "limits", "schedule", "migrate", "webhook", "retry_of", "name", "x"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let object = proptest::collection::btree_map("[a-z_]{1,8}", inner.clone(), 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()));
        prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::from), object]
    });
    (proptest::sample::select(keys.to_vec()), value, any::<u16>(), any::<u8>(), 0..4).prop_map(
        |(key, value, at, byte, way)| {
            let mut spec = spec("migrate");
            spec[key] = value;
            let mut bytes = spec.to_string().into_bytes();
            let at = usize::from(at) % bytes.len();
            match way {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => {}
            }
            bytes
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let methods =
        [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::OPTIONS];
    let path = prop_oneof![
        8 => proptest::sample::select(PATHS.to_vec()).prop_map(ToOwned::to_owned),
        1 => "/[!-~]{0,30}",
        1 => "/v1/jobs/[!-~]{0,40}(/[a-z-]{0,12})?",
    ];
    let query = prop_oneof![
        "[!-~]{0,40}",
        "(limit|cursor|state|kind|wait|after|follow|pass|name|created_after)=[!-%'-~]{0,20}",
    ];
    let header = (proptest::sample::select(HEADERS.to_vec()), proptest::collection::vec(any::<u8>(), 0..40));
    let body = prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), nearly_good()];
    (proptest::sample::select(methods.to_vec()), path, query, proptest::collection::vec(header, 0..4), body)
        .prop_map(|(method, path, query, headers, body)| Asked { method, path, query, headers, body })
}

impl Asked {
    /// `None`: that is no request that a server would ever see.
    fn request(&self, id: &str) -> Option<Request<Body>> {
        let uri: Uri = format!("{}?{}", self.path.replace("ID", id), self.query).parse().ok()?;
        let mut request = Request::builder().method(&self.method).uri(uri).body(Body::from(self.body.clone())).ok()?;
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        for (name, value) in &self.headers {
            request.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).ok()?);
        }
        Some(request)
    }

    /// Answers only when something happens, which is no failure.
    fn waits(&self) -> bool {
        self.path.ends_with("/events") || self.query.contains("wait")
    }
}

#[test]
fn no_request_is_answered_with_a_failure_of_the_service() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() });
    let api = runtime.block_on(async { Api::new() });
    let id = runtime.block_on(api.job("migrate")).rsplit('/').next().unwrap().to_owned();
    let passed = runner.run(&asked(), |mut asked| {
        if asked.waits() {
            asked.query = "follow=false".into();
        }
        let Some(request) = asked.request(&id) else { return Ok(()) };
        let answer = runtime.block_on(api.send(request));
        prop_assert!(answer.status.as_u16() < 500, "{} {}", answer.status, answer.text());
        if !answer.status.is_success() && asked.method != Method::HEAD {
            prop_assert_eq!(answer.header("content-type"), "application/problem+json");
            prop_assert!(answer.json()["request_id"].is_string());
        }
        Ok(())
    });
    // The failure names the input, shrunk; the generator's seed is of no use beside it.
    passed.unwrap_or_else(|failure| panic!("{failure}"));
}
