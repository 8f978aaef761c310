//! What passes left behind.

use std::fs;
use std::path::Path;

use axum::body::Body;
use axum::http::Request;
use job::JobId;
use serde_json::{Value, json};
use testkit::disk::TempDir;
use web::{Limits, Settings};

use crate::kit::{Answer, Api, spec};

const ENTRY: &str = r#"{"type":"entry","schema_version":1,"path":"a","kind":"file","action":"created"}"#;
const FAULT: &str =
    r#"{"type":"fault","schema_version":1,"path":"b","operation":"open","class":"denied","errno":13,"reason":"x"}"#;

fn summary() -> Value {
    json!({ "command": "verify", "same": true, "ending": "complete", "stop_reason": null, "elapsed_seconds": 1.0,
        "counts": {}, "differences": [], "fault_classes": {}, "faults": [] })
}

/// A report as a worker leaves it.
fn write_report(dir: &Path, job: JobId, pass: u32, lines: &str) {
    let document = json!({
        "schema_version": 1, "job": job, "pass": pass, "pass_kind": "single", "spec": spec("copy"),
        "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z", "summary": summary(),
        "manifest": { "root": "beef", "files": 1, "covers": "copied", "note": "x" },
    });
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("summary.json"), document.to_string()).unwrap();
    let compressed = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    fs::write(dir.join("entries.jsonl.zst"), compressed(lines)).unwrap();
    fs::write(dir.join("faults.jsonl"), format!("{FAULT}\n")).unwrap();
    fs::write(dir.join("manifest.zst"), compressed("sum a\n")).unwrap();
}

async fn job_with_reports(api: &Api, dir: &TempDir) -> String {
    let path = api.job("copy").await;
    let id: JobId = path.rsplit('/').next().unwrap().parse().unwrap();
    let reports = [1, 2].map(|pass| (pass, dir.path().join(pass.to_string())));
    for (pass, dir) in &reports {
        write_report(dir, id, *pass, &format!("{ENTRY}\n"));
    }
    api.service.set_reports(id, reports);
    path
}

async fn get_as(api: &Api, path: &str, accept: &str) -> Answer {
    api.send(Request::get(path).header("accept", accept).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn the_summary_is_of_the_last_pass_or_of_the_one_named() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    let last = api.get(&format!("{job}/report")).await.ok();
    assert_eq!((&last["pass"], &last["summary"]["command"]), (&json!(2), &json!("verify")));
    assert_eq!(api.get(&format!("{job}/report?pass=1")).await.ok()["pass"], 1);
    api.get(&format!("{job}/report?pass=3")).await.problem(404, "no-such-report");
    let none = api.job("copy").await;
    for end in ["report", "entries", "faults", "manifest"] {
        api.get(&format!("{none}/{end}")).await.problem(404, "no-such-report");
    }
}

#[tokio::test]
async fn entries_come_as_they_are_kept_or_as_lines() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    let id = job.rsplit('/').next().unwrap();
    let kept = api.get(&format!("{job}/entries")).await;
    assert_eq!(kept.header("content-type"), "application/zstd");
    assert_eq!(kept.header("content-disposition"), format!("attachment; filename=\"{id}-pass-2-entries.jsonl.zst\""));
    assert_eq!(kept.bytes, fs::read(dir.path().join("2/entries.jsonl.zst")).unwrap());
    let lines = get_as(&api, &format!("{job}/entries?pass=1"), "application/x-ndjson").await;
    assert_eq!((lines.header("content-type"), lines.text()), ("application/x-ndjson", &*format!("{ENTRY}\n")));
    assert!(lines.header("content-disposition").ends_with("-pass-1-entries.jsonl\""));
    get_as(&api, &format!("{job}/entries"), "text/html").await.problem(406, "not-acceptable");

    assert_eq!(api.get(&format!("{job}/faults")).await.text(), format!("{FAULT}\n"));
    get_as(&api, &format!("{job}/faults"), "application/zstd").await.problem(406, "not-acceptable");
    assert_eq!(get_as(&api, &format!("{job}/manifest"), "text/plain").await.text(), "sum a\n");
    assert_eq!(api.get(&format!("{job}/manifest")).await.header("content-type"), "application/zstd");
}

#[tokio::test]
async fn entries_of_any_number_are_streamed() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    let text = format!("{ENTRY}\n").repeat(100_000);
    fs::write(dir.path().join("2/entries.jsonl.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    let lines = get_as(&api, &format!("{job}/entries"), "application/x-ndjson").await;
    assert!(lines.text() == text, "{} bytes instead of {}", lines.bytes.len(), text.len());
}

#[tokio::test]
async fn what_retention_removed_meanwhile_is_not_there() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    fs::remove_dir_all(dir.path().join("2")).unwrap();
    for end in ["report", "entries", "faults", "manifest"] {
        api.get(&format!("{job}/{end}")).await.problem(404, "no-such-report");
    }
}

#[tokio::test]
async fn a_summary_that_is_damaged_is_our_fault() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    fs::write(dir.path().join("2/summary.json"), "{").unwrap();
    let problem = api.get(&format!("{job}/report")).await.problem(500, "internal");
    assert!(!problem.to_string().contains("summary.json"), "{problem}");
}

#[tokio::test]
async fn downloads_have_places_and_give_them_back() {
    let dir = TempDir::new();
    let limits = Limits { downloads_max: 1, ..Limits::default() };
    let api = Api::with(Settings { limits, ..Settings::default() });
    let job = job_with_reports(&api, &dir).await;
    for _ in 0..3 {
        let path = format!("{job}/faults");
        let done = crate::kit::until("a place", || async {
            let answer = api.get(&path).await;
            (answer.status == 200).then_some(answer.bytes.len())
        });
        assert!(done.await > 0);
    }
    let limits = Limits { downloads_max: 0, ..Limits::default() };
    let full = Api::with(Settings { limits, ..Settings::default() });
    let job = full.job("copy").await;
    let refused = full.get(&format!("{job}/faults")).await;
    refused.problem(429, "too-many-streams");
    assert_ne!(refused.header("retry-after"), "");
}

/// Reads a body until it ends or breaks.
async fn read_broken(api: &Api, path: &str) -> Result<Value, axum::Error> {
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    let mut request = Request::get(path).header("accept", "application/x-ndjson").body(Body::empty()).unwrap();
    request.extensions_mut().insert(web::Peer::Unix { uid: 0 });
    let response = api.router().oneshot(request).await.unwrap();
    response.into_body().collect().await.map(|body| Value::from(body.to_bytes().len()))
}

#[tokio::test]
async fn a_file_that_is_cut_off_breaks_the_answer_off() {
    let (api, dir) = (Api::new(), TempDir::new());
    let job = job_with_reports(&api, &dir).await;
    let path = dir.path().join("2/entries.jsonl.zst");
    let whole = zstd::encode_all(format!("{ENTRY}\n").repeat(100_000).as_bytes(), 1).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(read_broken(&api, &format!("{job}/entries")).await.is_err(), "a part is not taken for the whole");
}
