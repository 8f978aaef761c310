//! Jobs: made, found, looked at, steered, removed.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use crate::kit::{Api, json_request, soon, spec, until};

fn with_key(key: &str, body: &Value) -> Request<Body> {
    let mut request = json_request("POST", "/v1/jobs", body);
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn a_job_is_made_and_found_where_the_answer_says() {
    let api = Api::new();
    let mut request = json_request("POST", "/v1/jobs", &spec("copy"));
    request.headers_mut().insert("x-request-id", "req-4711".parse().unwrap());
    let answer = api.send(request).await;
    assert_eq!(answer.status, 201);
    let made = answer.ok();
    assert_eq!(made["state"], "accepted");
    assert_eq!(made["requester"], "uid:1000");
    assert_eq!(made["request_id"], "req-4711");
    assert_eq!((answer.header("x-request-id"), answer.header("cache-control")), ("req-4711", "no-store"));
    assert_eq!(answer.header("location"), format!("/v1/jobs/{}", made["id"].as_str().unwrap()));
    assert_eq!(api.get(answer.header("location")).await.ok(), made);
}

#[tokio::test]
async fn the_same_request_makes_one_job() {
    let api = Api::new();
    let first = api.send(with_key("k-1", &spec("copy"))).await;
    let second = api.send(with_key("k-1", &spec("copy"))).await;
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (201, 200));
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(api.service.job_count(), 1);
    api.send(with_key("k-1", &spec("verify"))).await.problem(422, "key-reused");
    assert_eq!(api.send(with_key("k-2", &spec("copy"))).await.status, 201);
    for bad in ["", "two words", &"x".repeat(256), "gr\u{fc}n"] {
        let mut request = json_request("POST", "/v1/jobs", &spec("copy"));
        request.headers_mut().insert("idempotency-key", bad.parse().unwrap());
        api.send(request).await.problem(400, "bad-header");
    }
}

#[tokio::test]
async fn pages_lead_through_all_jobs_the_newest_first() {
    let api = Api::new();
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(api.job("copy").await.rsplit('/').next().unwrap().to_owned());
    }
    made.reverse();
    let (mut found, mut path) = (Vec::new(), "/v1/jobs?limit=3&kind=copy,verify".to_owned());
    loop {
        let answer = api.get(&path).await;
        let page = answer.ok();
        let jobs = page["jobs"].as_array().unwrap();
        found.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
        let link = answer.header("link");
        assert_eq!(link.is_empty(), page["next_cursor"].is_null(), "both or neither lead on");
        let Some(next) = link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")) else { break };
        assert_eq!(jobs.len(), 3);
        path = next.to_owned();
    }
    assert_eq!(found, made);
}

#[tokio::test]
async fn filters_leave_out_what_does_not_match() {
    let api = Api::new();
    let copy = api.job("copy").await;
    let mut named = spec("verify");
    named["name"] = "nightly check & more".into();
    api.send_json("POST", "/v1/jobs", &named).await.ok();
    api.post(&format!("{copy}/cancel")).await.ok();
    let count = |query: &'static str| {
        let api = api.clone();
        async move { api.get(&format!("/v1/jobs?{query}")).await.ok()["jobs"].as_array().unwrap().len() }
    };
    assert_eq!(count("").await, 2);
    assert_eq!(count("state=cancelled").await, 1);
    assert_eq!(count("state=accepted,cancelled").await, 2);
    assert_eq!(count("kind=migrate").await, 0);
    assert_eq!(count("name=nightly%20check+%26%20more").await, 1);
    assert_eq!(count("requester=uid:1000").await, 2);
    assert_eq!(count("requester=token:x").await, 0);
    assert_eq!(count("created_after=2020-01-01T00:00:00Z&created_before=2090-01-01T00:00:00Z").await, 2);
    assert_eq!(count("created_before=2020-01-01T00:00:00%2B01:00").await, 0);
}

#[tokio::test]
async fn a_job_is_steered_as_its_state_permits() {
    let api = Api::new();
    let job = api.job("migrate").await;
    let act = |action: &'static str| {
        let (api, path) = (api.clone(), format!("{job}/{action}"));
        async move { api.post(&path).await }
    };
    act("resume").await.problem(409, "not-now");
    assert_eq!(act("pause").await.ok()["stop"], "pause");
    assert_eq!(act("resume").await.ok()["stop"], Value::Null);
    assert_eq!(act("cutover").await.ok()["cutover"], "asked");
    act("retry-failed").await.problem(409, "not-now");

    let limits = json!({ "bandwidth_bytes_per_second": 1000 });
    let changed = api.send_json("PUT", &format!("{job}/limits"), &limits).await.ok();
    assert_eq!(changed["limits"], limits);
    let bad = api.send_json("PUT", &format!("{job}/limits"), &json!({ "bandwidth_bytes_per_second": 0 })).await;
    assert_eq!(bad.problem(422, "bad-spec")["errors"][0], "bandwidth_bytes_per_second is at least 1");

    let delete = || Request::delete(&job).body(Body::empty()).unwrap();
    api.send(delete()).await.problem(409, "not-now");
    let ended = act("cancel").await.ok();
    assert_eq!((&ended["state"], &ended["outcome"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(act("cancel").await.ok()["outcome"], "cancelled", "once more changes nothing");
    act("pause").await.problem(409, "not-now");
    let retry = act("retry-failed").await;
    assert_eq!((retry.status.as_u16(), &retry.ok()["spec"]["retry_of"]), (201, &ended["id"]));
    let removed = api.send(delete()).await;
    assert_eq!((removed.status.as_u16(), removed.bytes.len()), (204, 0));
    api.get(&job).await.problem(404, "no-such-job");
}

#[tokio::test]
async fn waiting_answers_at_the_jobs_end_and_not_before() {
    let api = Api::new();
    let job = api.job("copy").await;
    assert_eq!(api.get(&format!("{job}?wait=0")).await.ok()["outcome"], Value::Null);
    let waiting = tokio::spawn({
        let (api, path) = (api.clone(), format!("{job}?wait=60"));
        async move { api.get(&path).await.ok() }
    });
    api.post(&format!("{job}/cancel")).await.ok();
    assert_eq!(soon("the answer", waiting).await.unwrap()["outcome"], "cancelled");
    api.get(&format!("{job}?wait=61")).await.problem(400, "bad-query");
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_its_time() {
    let api = Api::new();
    let job = api.job("copy").await;
    // Time here passes as soon as nothing else can happen.
    assert_eq!(api.get(&format!("{job}?wait=20")).await.ok()["state"], "accepted");
}

#[tokio::test]
async fn progress_is_told_alone_too() {
    let api = Api::new();
    let path = api.job("copy").await;
    assert_eq!(api.get(&format!("{path}/progress")).await.ok()["progress"], Value::Null);
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    let progress = job::documents::Progress { stage: "transfer".into(), percent: 12.5, ..Default::default() };
    api.service.report_progress(id, progress);
    let told = api.get(&format!("{path}/progress")).await.ok();
    assert_eq!((&told["progress"]["percent"], &told["queue_position"]), (&json!(12.5), &json!(1)));
    assert_eq!(api.get(&path).await.ok()["progress"], told["progress"]);
}

#[tokio::test]
async fn the_service_says_what_it_is_and_how_it_is() {
    let api = Api::new();
    api.job("copy").await;
    assert_eq!(api.get("/v1/version").await.ok()["api"], "v1");
    assert_eq!(api.get("/v1/openapi.json").await.ok()["openapi"], "3.1.0");
    assert_eq!(api.get("/healthz").await.ok()["status"], "alive");
    assert_eq!(api.get("/readyz").await.ok()["status"], "ready");
    api.service.set_troubles(&["the store is read-only"]);
    let ready = api.get("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.json(), json!({ "status": "not_ready", "troubles": ["the store is read-only"] }));

    // The count of a request follows its answer.
    let has_counts = until("the counts of the requests above", || async {
        let metrics = api.get("/metrics").await;
        assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
        let text = metrics.text().to_owned();
        text.contains("route=\"/v1/version\",status=\"200\"} 1").then_some(text)
    });
    let text = has_counts.await;
    assert!(text.contains("manila_data_jobs{state=\"accepted\"} 1"), "{text}");
}
