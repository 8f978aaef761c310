//! Webhooks against a receiver that does as it likes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Router, body::Body};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use job::{Job, JobId, Notifier as _, NotifyError, Origin, Outcome, Sensitive, State};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use web::{WebhookSettings, Webhooks};

use crate::kit::{soon, spec};

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// Writes down what it is told.
struct Receiver {
    port: u16,
    received: Received,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn new(answer: fn() -> Response) -> Self {
        let received = Received::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let notes = Arc::clone(&received);
        let hook = move |headers: HeaderMap, body: Bytes| {
            notes.lock().unwrap().push((headers, body));
            async move { answer() }
        };
        let router = Router::new().route("/hook", post(hook.clone())).route("/elsewhere", post(hook));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, received, task }
    }

    fn url(&self) -> String {
        format!("http://user:geheim@127.0.0.1:{}/hook?key=geheim", self.port)
    }

    fn count(&self) -> usize {
        self.received.lock().unwrap().len()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn job_with(webhook: &Value) -> Job {
    let mut spec = spec("copy");
    spec["webhook"] = webhook.clone();
    let spec = serde_json::from_value(spec).unwrap();
    let mut job = Job::new(JobId::generate(), spec, Origin::default(), Timestamp::now());
    job.state = State::Ended { outcome: Outcome::Completed };
    job
}

fn webhooks(settings: WebhookSettings) -> Webhooks {
    web::install_crypto();
    Webhooks::new(settings).unwrap()
}

/// Checks a signature as a receiver would, with code of its own.
fn is_signed(headers: &HeaderMap, body: &[u8], key: &str) -> bool {
    let Some(signature) = headers.get("manila-data-signature") else { return false };
    let (time, sum) = signature.to_str().unwrap().split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    let age = Timestamp::now().as_second() - time.parse::<i64>().unwrap();
    let sum: Vec<u8> = (0..sum.len()).step_by(2).map(|at| u8::from_str_radix(&sum[at..at + 2], 16).unwrap()).collect();
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(&[time.as_bytes(), b".", body].concat());
    (0..60).contains(&age) && mac.verify_slice(&sum).is_ok()
}

#[tokio::test]
async fn the_end_of_a_job_is_told_and_signed() {
    let receiver = Receiver::new(|| StatusCode::NO_CONTENT.into_response()).await;
    let own = job_with(&json!({ "url": receiver.url(), "secret": "own key" }));
    let hooks =
        webhooks(WebhookSettings { secret: Some(Sensitive::secret("service key")), ..WebhookSettings::default() });
    hooks.tell(&own).await.unwrap();
    hooks.tell(&own).await.unwrap();
    hooks.tell(&job_with(&json!({ "url": receiver.url() }))).await.unwrap();
    webhooks(WebhookSettings::default()).tell(&job_with(&json!({ "url": receiver.url() }))).await.unwrap();

    let received = receiver.received.lock().unwrap().clone();
    let message: Value = serde_json::from_slice(&received[0].1).unwrap();
    assert_eq!((&message["event"], &message["job"]["state"]), (&json!("job.ended"), &json!("completed")));
    assert_eq!(message["job"]["id"], own.id.to_string());
    assert!(message["delivered_at"].as_str().unwrap().parse::<Timestamp>().is_ok());
    assert!(!message.to_string().contains("geheim"), "{message}");
    let again: Value = serde_json::from_slice(&received[1].1).unwrap();
    assert_eq!(message["delivery_id"], again["delivery_id"], "a receiver knows it again");

    assert_eq!(received[0].0["content-type"], "application/json");
    let signed = |index: usize, key| is_signed(&received[index].0, &received[index].1, key);
    assert!(signed(0, "own key") && !signed(0, "service key"));
    assert!(signed(2, "service key"));
    assert!(!received[3].0.contains_key("manila-data-signature"), "there is no key");
    let (headers, body) = &received[0];
    assert!(!is_signed(headers, &[body, &b" "[..]].concat(), "own key"), "another body");
}

#[tokio::test]
async fn an_unwanted_webhook_is_none() {
    let without: Job =
        Job::new(JobId::generate(), serde_json::from_value(spec("copy")).unwrap(), Origin::default(), Timestamp::now());
    let hooks = webhooks(WebhookSettings::default());
    assert!(!hooks.wants(&without) && hooks.wants(&job_with(&json!({ "url": "http://h/" }))));
    hooks.tell(&without).await.unwrap();
}

async fn told(hooks: &Webhooks, webhook: Value) -> NotifyError {
    let error = soon("an answer", hooks.tell(&job_with(&webhook))).await.unwrap_err();
    assert!(!error.message.contains("geheim"), "{error}");
    error
}

#[tokio::test]
async fn what_fails_is_final_or_tried_again() {
    let hooks = webhooks(WebhookSettings::default());
    for (answer, is_final) in [
        (|| StatusCode::GONE.into_response()) as fn() -> Response,
        || StatusCode::TOO_MANY_REQUESTS.into_response(),
        || StatusCode::REQUEST_TIMEOUT.into_response(),
        || StatusCode::BAD_GATEWAY.into_response(),
    ]
    .into_iter()
    .zip([true, false, false, false])
    {
        let receiver = Receiver::new(answer).await;
        let error = told(&hooks, json!({ "url": receiver.url() })).await;
        assert_eq!((error.is_final, receiver.count()), (is_final, 1), "{error}");
    }
    let closed = { TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let error = told(&hooks, json!({ "url": format!("http://{closed}/geheim") })).await;
    assert!(!error.is_final, "{error}");
    let error = told(&hooks, json!({ "url": "gopher://geheim/" })).await;
    assert!(error.is_final, "{error}");
    let lost = told(&hooks, json!({ "url": "http://127.0.0.1:1/", "secret": "***" })).await;
    assert!(lost.is_final && lost.message.contains("key"), "{lost}");
}

#[tokio::test]
async fn redirects_lead_nowhere_and_hosts_that_are_not_allowed_hear_nothing() {
    let receiver =
        Receiver::new(|| (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response()).await;
    let error = told(&webhooks(WebhookSettings::default()), json!({ "url": receiver.url() })).await;
    assert_eq!((error.is_final, receiver.count()), (false, 1), "{error}");

    let allow = Some(vec!["hooks.example".to_owned()]);
    let error =
        told(&webhooks(WebhookSettings { allow, ..WebhookSettings::default() }), json!({ "url": receiver.url() }))
            .await;
    assert_eq!((error.is_final, receiver.count()), (true, 1), "{error}");
    let allow = Some(vec![format!("127.0.0.1:{}", receiver.port)]);
    told(&webhooks(WebhookSettings { allow, ..WebhookSettings::default() }), json!({ "url": receiver.url() })).await;
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let receiver = Receiver::new(|| {
        let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>("x".repeat(1 << 16)));
        Body::from_stream(endless).into_response()
    })
    .await;
    let hooks = webhooks(WebhookSettings::default());
    soon("the end of the telling", hooks.tell(&job_with(&json!({ "url": receiver.url() })))).await.unwrap();
}

#[tokio::test]
async fn a_receiver_that_hangs_is_tried_again_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/geheim", listener.local_addr().unwrap());
    let silent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let hooks = webhooks(WebhookSettings { time_max: Duration::from_millis(200), ..WebhookSettings::default() });
    let error = told(&hooks, json!({ "url": url })).await;
    assert!(!error.is_final, "{error}");
    soon("that the connection is closed", silent).await.unwrap();
}
