//! Everything that goes wrong is a problem document, and nothing inner is in it.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use web::{Limits, Settings, TcpSettings};

use crate::kit::{Answer, Api, MemoryService, Mood, PATIENCE, json_request, spec};

const NOBODY: &str = "/v1/jobs/0197c3a2-6f00-7000-8000-000000000000";

async fn send_text(api: &Api, method: &str, path: &str, media_type: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("content-type", media_type);
    api.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let api = Api::new();
    for path in ["/", "/v1", "/v1/nothing", "/v2/jobs", "/v1/jobs/x/y/z", "/v1/jobs/", "//v1/jobs"] {
        api.get(path).await.problem(404, "no-such-route");
    }
    let (get, post) = (
        ["", "/progress", "/report", "/entries", "/faults", "/manifest", "/events"],
        ["/cancel", "/pause", "/resume", "/cutover", "/retry-failed"],
    );
    for end in get {
        let answer = api.get(&format!("{NOBODY}{end}")).await;
        let problem = answer.problem(404, "no-such-job");
        assert_eq!(problem["instance"], format!("{NOBODY}{end}"));
    }
    for end in post {
        api.post(&format!("{NOBODY}{end}")).await.problem(404, "no-such-job");
    }
    api.send_json("PUT", &format!("{NOBODY}/limits"), &json!({})).await.problem(404, "no-such-job");
    let delete = Request::delete(NOBODY).body(Body::empty()).unwrap();
    api.send(delete).await.problem(404, "no-such-job");
}

#[tokio::test]
async fn a_method_that_is_not_known_is_answered_with_those_that_are() {
    let api = Api::new();
    let send = |method: &'static str, path: &'static str| {
        let api = api.clone();
        async move { api.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await }
    };
    let answer = send("PATCH", "/v1/jobs").await;
    answer.problem(405, "method-not-allowed");
    let allow = answer.header("allow");
    assert!(["GET", "POST"].iter().all(|method| allow.contains(method)), "{allow}");
    send("GET", "/v1/jobs/0197c3a2-6f00-7000-8000-000000000000/cancel").await.problem(405, "method-not-allowed");
    send("POST", "/healthz").await.problem(405, "method-not-allowed");
    send("BREW", "/v1/version").await.problem(405, "method-not-allowed");
}

#[tokio::test]
async fn ids_that_are_none_are_refused() {
    let api = Api::new();
    for id in ["x", "0197c3a2", "%2e%2e", "%ff", "..%2fetc", "0197c3a2-6f00-7000-8000-00000000000g"] {
        api.get(&format!("/v1/jobs/{id}")).await.problem(400, "bad-id");
        api.post(&format!("/v1/jobs/{id}/cancel")).await.problem(400, "bad-id");
    }
}

#[tokio::test]
async fn queries_are_understood_whole_or_refused() {
    let api = Api::new();
    for query in [
        "limit=0",
        "limit=501",
        "limit=-1",
        "limit=x",
        "limit=",
        "state=nope",
        "kind=copy,nope",
        "kind=",
        "state=working,",
        "created_after=yesterday",
        "unknown=1",
        "limit=1&limit=2",
    ] {
        api.get(&format!("/v1/jobs?{query}")).await.problem(400, "bad-query");
    }
    api.get("/v1/jobs?cursor=nope").await.problem(400, "bad-cursor");
    let job = api.job("copy").await;
    for query in ["wait=x", "wait=-1", "wait=99999999999999", "nope=1"] {
        api.get(&format!("{job}?{query}")).await.problem(400, "bad-query");
    }
    for query in ["after=x", "after=-1", "follow=maybe", "after=99999999999999999999", "after=9223372036854775808"] {
        api.get(&format!("/v1/events?{query}")).await.problem(400, "bad-query");
    }
    let request = Request::get("/v1/events").header("last-event-id", "nope").body(Body::empty()).unwrap();
    api.send(request).await.problem(400, "bad-header");
    api.get(&format!("{job}/report?pass=x")).await.problem(400, "bad-query");
}

#[tokio::test]
async fn bodies_that_are_no_json_are_told_where() {
    let api = Api::new();
    let answer = send_text(&api, "POST", "/v1/jobs", "application/json", "{\n  \"kind\": copy").await;
    let detail = answer.problem(400, "bad-json")["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("line 2 column"), "{detail}");
    for body in ["", "{", "\u{feff}{}", "[1,", "nul", &"[".repeat(100_000)] {
        send_text(&api, "POST", "/v1/jobs", "application/json", body).await.problem(400, "bad-json");
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json5", "x"] {
        send_text(&api, "POST", "/v1/jobs", media_type, "{}").await.problem(415, "unsupported-media-type");
    }
    let bare = Request::post("/v1/jobs").body(Body::from("{}")).unwrap();
    api.send(bare).await.problem(415, "unsupported-media-type");
    let answer =
        send_text(&api, "POST", "/v1/jobs", "Application/JSON; charset=utf-8", &spec("copy").to_string()).await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn specifications_that_make_no_sense_are_told_why() {
    let api = Api::new();
    let mut same = spec("copy");
    same["dest"] = same["source"].clone();
    let problem = api.send_json("POST", "/v1/jobs", &same).await.problem(422, "bad-spec");
    assert_eq!(problem["errors"], json!(["source and dest are the same", "and that is bad"]));

    let mut change: Vec<(&str, Value)> =
        vec![("sorce", json!({})), ("kind", json!("nope")), ("options", json!({ "x": 1 }))];
    change.push(("limits", json!({ "bandwidth_bytes_per_second": -1 })));
    change.push(("retry_of", json!("0197c3a2-6f00-7000-8000-000000000000")));
    change.push(("webhook", json!({ "url": "http://h/", "secret": "***" })));
    for (key, value) in change {
        let mut spec = spec("copy");
        spec[key] = value;
        let problem = api.send_json("POST", "/v1/jobs", &spec).await.problem(422, "bad-spec");
        assert_eq!(problem["errors"].as_array().unwrap().len(), 1, "{problem}");
    }
    for body in ["null", "[]", "1", "\"x\"", "{}"] {
        send_text(&api, "POST", "/v1/jobs", "application/json", body).await.problem(422, "bad-spec");
    }
    assert_eq!(api.service.job_count(), 0);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let api = Api::with(Settings { limits, ..Settings::default() });
    let mut large = spec("copy");
    large["name"] = "x".repeat(1000).into();
    api.send_json("POST", "/v1/jobs", &large).await.problem(413, "body-too-large");
    let pieces = futures_util::stream::iter((0..1000).map(|_| Ok::<_, std::io::Error>("    ")));
    let mut request = json_request("POST", "/v1/jobs", &Value::Null);
    *request.body_mut() = Body::from_stream(pieces);
    api.send(request).await.problem(413, "body-too-large");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let api = Api::new();
    let mut request = json_request("POST", "/v1/jobs", &Value::Null);
    *request.body_mut() = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
    let limits = Limits { body_time: PATIENCE / 2, ..Limits::default() };
    api.handle.reload(Settings { limits, ..Settings::default() }).unwrap();
    api.send(request).await.problem(408, "body-timeout");
}

#[tokio::test]
async fn failures_of_the_service_are_told_without_its_inner_life() {
    let api = Api::new();
    let job = api.job("copy").await;
    for (mood, status, name) in [
        (Mood::QueueFull, 503, "queue-full"),
        (Mood::ShuttingDown, 503, "shutting-down"),
        (Mood::StoreUnavailable, 503, "store-unavailable"),
        (Mood::StoreFailed, 500, "internal"),
        (Mood::Panics, 500, "internal"),
    ] {
        api.service.set_mood(mood);
        for path in [job.as_str(), "/v1/jobs", "/metrics", &format!("{job}/report"), &format!("{job}/events")] {
            let answer = api.get(path).await;
            answer.problem(status, name);
            assert!(!answer.text().contains("inner"), "{}", answer.text());
            assert_eq!(answer.header("retry-after").is_empty(), status == 500, "{mood:?}");
        }
        api.send_json("POST", "/v1/jobs", &spec("copy")).await.problem(status, name);
        assert_eq!(api.get("/healthz").await.status, 200, "the process lives");
    }
    api.service.set_mood(Mood::Good);
    assert_eq!(api.get(&job).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_answered_for() {
    let api = Api::new();
    let limits = Limits { answer_time: PATIENCE / 2, ..Limits::default() };
    api.handle.reload(Settings { limits, ..Settings::default() }).unwrap();
    api.service.set_mood(Mood::Hangs);
    api.get("/v1/jobs").await.problem(503, "no-answer");
}

#[tokio::test]
async fn request_ids_that_could_spoil_a_log_are_replaced() {
    let api = Api::new();
    for (given, kept) in [
        ("req-9b8c", true),
        ("a/b=c:d.e_f+g", true),
        ("", false),
        ("two words", false),
        ("x\u{1b}[31m", false),
        (&"x".repeat(129), false),
    ] {
        let mut request = Request::get("/healthz").body(Body::empty()).unwrap();
        let Ok(value) = axum::http::HeaderValue::from_bytes(given.as_bytes()) else { continue };
        request.headers_mut().insert("x-request-id", value);
        let answer = api.send(request).await;
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn endpoints_outside_the_allowed_roots_are_refused_at_every_door() {
    let api = Api::with(Settings { allowed_roots: Some(vec!["/srv".into()]), ..Settings::default() });
    api.job("copy").await;
    let mut outside = spec("copy");
    outside["dest"]["path"] = "/srv/../etc".into();
    let problem = api.send_json("POST", "/v1/jobs", &outside).await.problem(403, "path-not-allowed");
    assert!(problem["detail"].as_str().unwrap().starts_with("dest: "), "{problem}");

    // An ended job of before the roots were set is not taken again either.
    let job = api.job("copy").await;
    api.post(&format!("{job}/cancel")).await.ok();
    api.handle.reload(Settings { allowed_roots: Some(vec![]), ..Settings::default() }).unwrap();
    api.post(&format!("{job}/retry-failed")).await.problem(403, "path-not-allowed");
}

/// Settings of a TCP door with one token of each scope.
fn tcp_settings(dir: &std::path::Path) -> (Settings, String, String) {
    let tokens = dir.join("tokens");
    let read = web::tokens::create(&tokens, "watch", web::tokens::Scope::Read, None).unwrap();
    let write = web::tokens::create(&tokens, "ops", web::tokens::Scope::Write, None).unwrap();
    let tcp = TcpSettings::new("127.0.0.1:0".parse().unwrap(), None, tokens);
    (Settings { tcp: Some(tcp), ..Settings::default() }, read, write)
}

async fn with_token(api: &Api, mut request: Request<Body>, token: &str) -> Answer {
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    api.send(request).await
}

#[tokio::test]
async fn over_tcp_a_token_decides() {
    let dir = testkit::disk::TempDir::new();
    let (mut settings, read, write) = tcp_settings(dir.path());
    let api = Api::with(settings.clone()).over_tcp();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();

    assert_eq!(api.get("/healthz").await.status, 200);
    assert_eq!(api.get("/readyz").await.status, 200);
    for path in ["/v1/jobs", "/v1/version", "/v1/openapi.json", "/metrics", "/nothing", "/v1/events"] {
        let answer = api.get(path).await;
        answer.problem(401, "unauthorized");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        with_token(&api, get(path), "mdt_wrong").await.problem(401, "unauthorized");
    }
    let mut basic = get("/v1/jobs");
    basic.headers_mut().insert("authorization", format!("Basic {read}").parse().unwrap());
    api.send(basic).await.problem(401, "unauthorized");

    assert_eq!(with_token(&api, get("/v1/jobs"), &read).await.status, 200);
    assert_eq!(with_token(&api, get("/metrics"), &read).await.status, 200);
    let post = || json_request("POST", "/v1/jobs", &spec("copy"));
    with_token(&api, post(), &read).await.problem(403, "forbidden");
    let cancel = Request::post(format!("{NOBODY}/cancel")).body(Body::empty()).unwrap();
    with_token(&api, cancel, &read).await.problem(403, "forbidden");

    // Nothing is allowed over TCP until somebody says so.
    with_token(&api, post(), &write).await.problem(403, "path-not-allowed");
    let mut mount = spec("copy");
    mount["source"] = json!({ "type": "mount", "fs_type": "nfs", "source": "h:/x" });
    let mount = || json_request("POST", "/v1/jobs", &mount);
    with_token(&api, mount(), &write).await.problem(403, "mount-not-allowed");

    settings.allowed_roots = Some(vec!["/srv".into()]);
    let tcp = settings.tcp.as_mut().unwrap();
    (tcp.allow_mounts, tcp.metrics_public) = (true, true);
    api.handle.reload(settings).unwrap();
    let made = with_token(&api, post(), &write).await;
    assert_eq!((made.status.as_u16(), &made.ok()["requester"]), (201, &json!("token:ops")));
    assert_eq!(with_token(&api, mount(), &write).await.status, 201);
    assert_eq!(api.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn tokens_are_read_again_on_reload_and_a_bad_file_changes_nothing() {
    let dir = testkit::disk::TempDir::new();
    let (settings, read, _) = tcp_settings(dir.path());
    let tokens = dir.path().join("tokens");
    let api = Api::with(settings.clone()).over_tcp();
    let status = |token: String| {
        let api = api.clone();
        async move {
            with_token(&api, Request::get("/v1/version").body(Body::empty()).unwrap(), &token).await.status.as_u16()
        }
    };
    web::tokens::revoke(&tokens, "watch").unwrap();
    let new = web::tokens::create(&tokens, "new", web::tokens::Scope::Read, None).unwrap();
    let past =
        web::tokens::create(&tokens, "past", web::tokens::Scope::Read, Some("2020-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!((status(read.clone()).await, status(new.clone()).await), (200, 401), "before the reload");
    api.handle.reload(settings.clone()).unwrap();
    assert_eq!((status(read).await, status(new.clone()).await, status(past.unwrap()).await), (401, 200, 401));

    std::fs::write(&tokens, "nonsense\n").unwrap();
    let error = api.handle.reload(settings).unwrap_err();
    assert!(error.to_string().contains("line 1 of"), "{error}");
    assert_eq!(status(new).await, 200);
}

#[tokio::test]
async fn a_caller_that_asks_too_often_waits_and_others_do_not() {
    let dir = testkit::disk::TempDir::new();
    let (mut settings, read, write) = tcp_settings(dir.path());
    let one = std::num::NonZeroU32::MIN;
    settings.limits = Limits {
        requests_per_second: one,
        requests_burst: 3.try_into().unwrap(),
        anonymous_per_second: one,
        anonymous_burst: 2.try_into().unwrap(),
        ..Limits::default()
    };
    let api = Api::with(settings).over_tcp();
    let get = || Request::get("/v1/version").body(Body::empty()).unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(with_token(&api, get(), &read).await);
    }
    let refused = answers.iter().find(|answer| answer.status != 200).expect("four in a second are too many");
    refused.problem(429, "too-many-requests");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(with_token(&api, get(), &write).await.status, 200, "another caller");

    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(with_token(&api, get(), "mdt_guess").await.status.as_u16());
    }
    assert!(statuses.starts_with(&[401, 401]) && statuses[2] == 429, "{statuses:?}");
}

#[tokio::test]
async fn a_request_without_a_peer_is_nobodys() {
    use tower::ServiceExt as _;

    let (router, _) = web::router(std::sync::Arc::new(MemoryService::default()), Settings::default()).unwrap();
    let answer = router.oneshot(Request::get("/v1/jobs").body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 500);
}
