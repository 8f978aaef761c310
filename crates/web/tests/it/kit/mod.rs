//! What the tests share: a service in memory, requests without a socket, servers on sockets, waits for a state.

mod certificates;
mod server;
mod service;

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use web::{Handle, Peer, Settings};

pub(crate) use certificates::Certificates;
pub(crate) use server::{RunningServer, read_to_end, request_on};
pub(crate) use service::{MemoryService, Mood};

/// Longer than anything here takes on a machine that does other things too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a state, not for a change.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never saw: {what}"))
}

pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("takes for ever: {what}"))
}

/// The routes over a service in memory.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) service: Arc<MemoryService>,
    pub(crate) handle: Handle,
    router: Router,
    peer: Peer,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::with(Settings::default())
    }

    pub(crate) fn with(settings: Settings) -> Self {
        let service = Arc::new(MemoryService::default());
        let (router, handle) = web::router(service.clone(), settings).unwrap();
        Self { service, handle, router, peer: Peer::Unix { uid: 1000 } }
    }

    /// The same, asked over TCP.
    pub(crate) fn over_tcp(&self) -> Self {
        Self { peer: Peer::Tcp { address: IpAddr::from([192, 0, 2, 1]) }, ..self.clone() }
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(self.peer.clone());
        let response = soon("an answer", self.router.clone().oneshot(request)).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = soon("a body", body.collect()).await.unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, bytes }
    }

    pub(crate) fn router(&self) -> Router {
        self.router.clone()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answer {
        self.send(Request::post(path).body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn send_json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(json_request(method, path, body)).await
    }

    /// Makes a job and answers its path.
    pub(crate) async fn job(&self, kind: &str) -> String {
        let answer = self.send_json("POST", "/v1/jobs", &spec(kind)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.header("location").to_owned()
    }
}

pub(crate) fn json_request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

pub(crate) fn spec(kind: &str) -> Value {
    json!({
        "kind": kind,
        "source": { "type": "directory", "path": "/srv/a" },
        "dest": { "type": "directory", "path": "/srv/b" },
    })
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in {:?}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// A success, as JSON.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text());
        self.json()
    }

    /// A failure, complete as the standard and we want it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, name: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["type"], format!("docs/api.md#{name}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty() && !problem["detail"].as_str().unwrap().is_empty());
        assert!(problem["instance"].as_str().unwrap().starts_with('/'), "{problem}");
        assert_eq!(problem["request_id"].as_str().unwrap(), self.header("x-request-id"));
        problem
    }
}
