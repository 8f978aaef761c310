//! Streams of events: no gap, no duplicate, and an end where there is one.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream};
use axum::http::Request;
use futures_util::StreamExt as _;
use job::documents::Progress;
use job::{EventKind, JobId, Outcome};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::ServiceExt as _;
use web::client::ClientEvent;
use web::{Limits, Settings};

use crate::kit::{Api, Mood, RunningServer, read_to_end, soon, spec, until};

fn id_of(path: &str) -> JobId {
    path.rsplit('/').next().unwrap().parse().unwrap()
}

/// `(event, id, data)` of each event of a text.
fn parse(text: &str) -> Vec<(String, Option<u64>, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(ToOwned::to_owned)
    };
    let blocks = text.split("\n\n").filter(|block| block.contains("data: "));
    blocks
        .map(|block| {
            let id = field(block, "id").map(|id| id.parse().unwrap());
            (field(block, "event").unwrap(), id, serde_json::from_str(&field(block, "data").unwrap()).unwrap())
        })
        .collect()
}

fn ids(text: &str) -> Vec<u64> {
    parse(text).into_iter().filter_map(|(_, id, _)| id).collect()
}

/// A stream that is open.
struct Open(BodyDataStream);

impl Open {
    async fn new(api: &Api, path: &str) -> Self {
        let mut request = Request::get(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(web::Peer::Unix { uid: 0 });
        let response = api.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(response.into_body().into_data_stream())
    }

    /// Sees that it has read everything stored and listens: it does so before it tells progress.
    async fn listens(&mut self, api: &Api, job: JobId) {
        api.service.report_progress(job, Progress::default());
        assert_eq!(self.next().await.unwrap().0, "progress");
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Option<u64>, Value)> {
        let chunk = soon("an event", self.0.next()).await?.unwrap();
        Some(parse(str::from_utf8(&chunk).unwrap()).remove(0))
    }
}

#[tokio::test]
async fn a_jobs_events_are_told_from_the_first_to_the_last() {
    let api = Api::new();
    let (job, other) = (api.job("copy").await, api.job("copy").await);
    let mut stream = Open::new(&api, &format!("{job}/events")).await;
    let (event, id, data) = stream.next().await.unwrap();
    assert_eq!((event.as_str(), id, &data["kind"]), ("created", Some(1), &Value::from("created")));
    assert_eq!((data["job"].as_str(), data["seq"].as_u64()), (Some(id_of(&job).to_string().as_str()), Some(1)));

    api.service.happen(id_of(&other), EventKind::Warning, "not ours");
    api.service.report_progress(id_of(&other), Progress::default());
    api.service.report_progress(id_of(&job), Progress { percent: 50.0, ..Progress::default() });
    let (event, id, data) = stream.next().await.unwrap();
    assert_eq!((event.as_str(), id, data["progress"]["percent"].as_f64()), ("progress", None, Some(50.0)));

    api.service.happen(id_of(&job), EventKind::Warning, "line one\nline two: \u{1f600}");
    assert_eq!(stream.next().await.unwrap().2["message"], "line one\nline two: \u{1f600}");
    api.service.end(id_of(&job), Outcome::Completed);
    assert_eq!(stream.next().await.unwrap().0, "ended");
    assert_eq!(stream.next().await, None, "nothing follows the end of a job");

    // Of a job that has ended everything is told, and then the end.
    let text = api.get(&format!("{job}/events")).await.text().to_owned();
    assert_eq!(ids(&text), [1, 4, 5]);
    assert_eq!(ids(api.get(&format!("{job}/events?after=4")).await.text()), [5]);
    assert!(ids(api.get(&format!("{job}/events?after=5")).await.text()).is_empty());
}

#[tokio::test]
async fn all_events_are_told_from_now_or_from_where_one_says() {
    let api = Api::new();
    let job = api.job("copy").await;
    api.job("verify").await;
    assert_eq!(ids(api.get("/v1/events?follow=false").await.text()), [1, 2]);
    assert_eq!(ids(api.get("/v1/events?follow=false&after=1").await.text()), [2]);
    let request = Request::get("/v1/events?follow=false&after=0").header("last-event-id", "1").body(Body::empty());
    assert_eq!(ids(api.send(request.unwrap()).await.text()), [2], "the header goes before the query");
    assert_eq!(ids(api.get(&format!("{job}/events?follow=false")).await.text()), [1]);

    let mut stream = Open::new(&api, "/v1/events").await;
    let mut replay = Open::new(&api, "/v1/events?after=0").await;
    api.service.end(id_of(&job), Outcome::Completed);
    assert_eq!(stream.next().await.unwrap().1, Some(3));
    for id in 1..=3 {
        assert_eq!(replay.next().await.unwrap().1, Some(id));
    }
    api.service.happen(id_of(&job), EventKind::Warning, "more");
    assert_eq!(stream.next().await.unwrap().1, Some(4), "the end of one job is not the end of all");
}

#[tokio::test]
async fn a_receiver_that_lags_reads_what_it_missed() {
    let api = Api::new();
    let job = api.job("copy").await;
    let mut stream = Open::new(&api, &format!("{job}/events")).await;
    assert_eq!(stream.next().await.unwrap().1, Some(1));
    stream.listens(&api, id_of(&job)).await;
    // Far more than the service keeps for those who do not listen.
    for number in 0..1000 {
        api.service.report_progress(id_of(&job), Progress::default());
        api.service.happen(id_of(&job), EventKind::Warning, &number.to_string());
    }
    // The last that it hears is none of what it missed.
    for _ in 0..100 {
        api.service.report_progress(id_of(&job), Progress::default());
    }
    let mut next = 2;
    while next <= 1001 {
        let (event, id, _) = stream.next().await.unwrap();
        if event != "progress" {
            assert_eq!(id, Some(next));
            next += 1;
        }
    }
}

#[tokio::test]
async fn events_that_are_heard_out_of_order_are_told_in_order() {
    let api = Api::new();
    let job = id_of(&api.job("copy").await);
    let mut stream = Open::new(&api, "/v1/events").await;
    stream.listens(&api, job).await;
    let [second, third] = ["a", "b"].map(|message| api.service.happen_quietly(job, EventKind::Warning, message));
    api.service.tell(third);
    assert_eq!(stream.next().await.unwrap().1, Some(2));
    assert_eq!(stream.next().await.unwrap().1, Some(3));
    api.service.tell(second);
    api.service.happen(job, EventKind::Warning, "c");
    assert_eq!(stream.next().await.unwrap().1, Some(4), "what was told is not told again");
}

#[tokio::test]
async fn a_store_that_fails_ends_the_stream_with_a_problem() {
    let api = Api::new();
    let job = id_of(&api.job("copy").await);
    let mut stream = Open::new(&api, "/v1/events").await;
    api.service.set_mood(Mood::StoreUnavailable);
    api.service.happen(job, EventKind::Warning, "x");
    let (event, id, data) = stream.next().await.unwrap();
    assert_eq!((event.as_str(), id, data["status"].as_u64()), ("problem", None, Some(503)));
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn streams_have_places_and_give_them_back() {
    let limits = Limits { streams_max: 2, ..Limits::default() };
    let api = Api::with(Settings { limits, ..Settings::default() });
    let first = Open::new(&api, "/v1/events").await;
    let _second = Open::new(&api, "/v1/events").await;
    let refused = api.get("/v1/events?follow=false").await;
    refused.problem(429, "too-many-streams");
    assert_ne!(refused.header("retry-after"), "");
    drop(first);
    assert_eq!(api.get("/v1/events?follow=false").await.status, 200);
}

#[tokio::test]
async fn a_stream_gives_signs_of_life_and_sees_that_its_caller_is_gone() {
    let keep_alive = std::time::Duration::from_millis(20);
    let server = RunningServer::with(|settings| settings.limits.keep_alive = keep_alive).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 1024]);
    while text.matches("\n:\n").count() < 3 {
        let count = soon("a sign of life", stream.read(&mut buffer)).await.unwrap();
        text.push_str(str::from_utf8(&buffer[..count]).unwrap());
    }
    assert_eq!(server.service.listeners(), 1);
    drop(stream);
    until("that the listener is gone", || async { (server.service.listeners() == 0).then_some(()) }).await;
    server.stop().await;
}

/// Connections are cut in the middle again and again while events go on; together they tell each event once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_make_no_gap_and_no_duplicate() {
    const EVENTS: u64 = 500;
    let server = RunningServer::new().await;
    let job = server.client().create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job.id;
    let writer = tokio::spawn({
        let service = Arc::clone(&server.service);
        async move {
            for number in 1..EVENTS {
                service.happen(job, EventKind::Warning, &"x".repeat(number as usize));
                service.report_progress(job, Progress::default());
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut told, mut cuts) = (Vec::new(), 0);
    while told.len() < EVENTS as usize {
        let mut stream = server.connect().await;
        let last = told.last().copied().unwrap_or(0);
        let request = format!("GET /v1/events HTTP/1.0\r\nlast-event-id: {last}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        // Reads some bytes and hangs up, often in the middle of an event; only whole ones count, as for every client.
        let (mut text, mut buffer, budget) = (String::new(), vec![0; 4096], 1000 + cuts * 731 % 9000);
        while text.len() < budget && !text.contains(&format!("\"seq\":{EVENTS},")) {
            let count = soon("events", stream.read(&mut buffer)).await.unwrap();
            text.push_str(str::from_utf8(&buffer[..count]).unwrap());
        }
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let whole = body.rfind("\n\n").map_or("", |end| &body[..end]);
        told.extend(ids(whole));
        cuts += 1;
    }
    assert_eq!(told, (1..=EVENTS).collect::<Vec<_>>());
    assert!(cuts > 10, "{cuts} connections were cut");
    writer.await.unwrap();
    server.stop().await;
}

/// The server itself goes away and comes back; the client notices nothing but the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_across_restarts() {
    let mut server = RunningServer::new().await;
    let service = Arc::clone(&server.service);
    let dir = Arc::clone(&server.dir);
    let spec = serde_json::from_value(spec("copy")).unwrap();
    let job = server.client().create(&spec, None).await.unwrap().job.id;
    let follower = tokio::spawn({
        let client = server.client();
        async move {
            let (mut stream, mut told) = (client.events(Some(job), None), Vec::new());
            while let Some(event) = stream.next().await {
                if let ClientEvent::Stored(event) = event.unwrap() {
                    told.push(event.seq);
                }
            }
            told
        }
    });
    for round in 0..3 {
        until("the follower", || async { (service.listeners() == 1).then_some(()) }).await;
        for number in 0..20 {
            service.happen(job, EventKind::Warning, &format!("{round} {number}"));
        }
        server.stop().await;
        service.happen(job, EventKind::Warning, "while nobody could be told");
        server = RunningServer::in_dir(Arc::clone(&dir), Arc::clone(&service), |_| {}).await;
    }
    service.end(job, Outcome::Completed);
    let told = soon("the end", follower).await.unwrap();
    assert_eq!(told, (1..=1 + 3 * 21 + 1).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test]
async fn a_stream_over_an_old_protocol_ends_with_its_connection() {
    let server = RunningServer::new().await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/events?follow=false HTTP/1.0\r\n\r\n").await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    server.stop().await;
}
