//! Schedules: shown, never changed, and without their secrets.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use job::{
    Firing, JobId, MissedFirings, OnMissed, ScheduleCounts, ScheduleJob, ScheduleSettings, ScheduleView, StateName,
};
use serde_json::{Value, json};

use crate::kit::{Api, Mood, RunningServer};

fn view() -> ScheduleView {
    let at = |text: &str| text.parse().unwrap();
    let spec = json!({
        "kind": "copy",
        "source": { "type": "mount", "fs_type": "cifs", "source": "//h/s", "options": ["password=geheim"] },
        "dest": { "type": "directory", "path": "/srv/b" },
        "webhook": { "url": "https://h.example/geheim" },
    });
    ScheduleView {
        settings: ScheduleSettings {
            name: "nightly".into(),
            is_enabled: true,
            cron: "0 3 * * *".into(),
            time_zone: None,
            jitter: Duration::from_mins(10),
            on_missed: OnMissed::Skip,
            spec: serde_json::from_value(spec).unwrap(),
        },
        time_zone: "Europe/Vienna".into(),
        next: vec![Firing { nominal_at: at("2026-11-03T02:00:00Z"), due_at: at("2026-11-03T02:04:00Z") }],
        last_job: Some(ScheduleJob {
            id: JobId::generate(),
            state: StateName::Completed,
            nominal_at: Some(at("2026-11-02T02:00:00Z")),
            created_at: at("2026-11-02T02:07:00Z"),
            ended_at: Some(at("2026-11-02T02:30:00Z")),
        }),
        last_skipped: None,
        last_missed: Some(MissedFirings {
            first_at: at("2026-10-30T02:00:00Z"),
            latest_at: at("2026-11-01T01:00:00Z"),
            count: 3,
            noticed_at: at("2026-11-01T10:00:00Z"),
            job: None,
        }),
        counts: ScheduleCounts { fired: 1, skipped: 0, missed: 3 },
        trouble: None,
    }
}

#[tokio::test]
async fn schedules_are_shown_without_their_secrets() {
    let api = Api::new();
    assert_eq!(api.get("/v1/schedules").await.ok(), json!({ "schedules": [] }));
    api.service.set_schedules(vec![view()]);
    let answer = api.get("/v1/schedules").await;
    let schedule = &answer.ok()["schedules"][0];
    assert_eq!((&schedule["name"], &schedule["cron"]), (&json!("nightly"), &json!("0 3 * * *")));
    assert_eq!((&schedule["time_zone"], &schedule["jitter_seconds"]), (&json!("Europe/Vienna"), &json!(600)));
    assert_eq!(schedule["next"][0]["due_at"], "2026-11-03T02:04:00Z");
    assert_eq!((&schedule["kind"], &schedule["on_missed"]), (&json!("copy"), &json!("skip")));
    assert_eq!(schedule["last_job"]["state"], "completed");
    assert_eq!((&schedule["last_missed"]["count"], &schedule["last_skipped"]), (&json!(3), &Value::Null));
    assert!(!answer.text().contains("geheim"), "{}", answer.text());
}

#[tokio::test]
async fn schedules_are_changed_by_the_configuration_alone() {
    let api = Api::new();
    for method in ["POST", "PUT", "DELETE"] {
        let request = Request::builder().method(method).uri("/v1/schedules").body(Body::empty()).unwrap();
        let answer = api.send(request).await;
        answer.problem(405, "method-not-allowed");
        assert!(answer.header("allow").contains("GET"), "{}", answer.header("allow"));
    }
    api.service.set_mood(Mood::StoreUnavailable);
    api.get("/v1/schedules").await.problem(503, "store-unavailable");
}

#[tokio::test]
async fn the_client_reads_what_the_service_says() {
    let server = RunningServer::new().await;
    server.service.set_schedules(vec![view()]);
    let schedules = server.client().schedules().await.unwrap().schedules;
    let (expected, found) = (view(), &schedules[0]);
    assert_eq!((&found.name, &found.next), (&"nightly".to_owned(), &expected.next));
    assert_eq!(found.last_missed, expected.last_missed);
    assert_eq!((found.fired, found.missed), (1, 3));
    server.stop().await;
}
