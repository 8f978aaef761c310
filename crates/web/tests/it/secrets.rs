//! No secret is in any answer, wherever a caller put it.

use std::fs;

use serde_json::{Value, json};
use testkit::disk::TempDir;

use crate::kit::Api;

/// Every secret of the specification below.
const SECRETS: [&str; 8] = ["geheim1", "geheim2", "geheim3", "geheim4", "geheim5", "geheim6", "geheim7", "geheim8"];

fn spec() -> Value {
    json!({
        "kind": "migrate",
        "source": {
            "type": "mount", "fs_type": "cifs", "source": "https://user:geheim1@host/share",
            "options": ["vers=3.0", "password=geheim2", "user=a,pass=geheim3"],
        },
        "dest": {
            "type": "command", "mount": "mount -t ceph -o secret=geheim4 h:/ %(path)s",
            "unmount": "umount -o credentials=geheim5 %(path)s", "options": "secret=geheim6",
        },
        "webhook": { "url": "https://hooks.example/services/geheim7", "secret": "geheim8" },
    })
}

fn assert_clean(what: &str, text: &str) {
    for secret in SECRETS {
        assert!(!text.contains(secret), "{secret} in {what}: {text}");
    }
}

#[tokio::test]
async fn no_answer_shows_a_secret() {
    let (api, dir) = (Api::new(), TempDir::new());
    let made = api.send_json("POST", "/v1/jobs", &spec()).await;
    assert_clean("the answer", made.text());
    let body = made.ok();
    assert_eq!(body["spec"]["source"]["options"], json!(["vers=3.0", "password=***", "user=a,pass=***"]));
    let id: job::JobId = body["id"].as_str().unwrap().parse().unwrap();
    let stored = api.service.stored(id);
    let stored = (*stored.spec).clone().secrets();
    assert!(serde_json::to_string(&stored).unwrap().contains("geheim8"), "the service itself knows them");

    let report = json!({
        "schema_version": 1, "job": id, "pass": 1, "pass_kind": "baseline", "spec": *api.service.stored(id).spec,
        "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:01:00Z", "manifest": null,
        "summary": { "command": "verify", "same": true, "ending": "complete", "stop_reason": null, "elapsed_seconds": 1.0,
            "counts": {}, "differences": [], "fault_classes": {}, "faults": [] },
    });
    fs::write(dir.path().join("summary.json"), report.to_string()).unwrap();
    api.service.set_reports(id, [(1, dir.path().to_owned())]);

    let job = format!("/v1/jobs/{id}");
    for path in ["/v1/jobs", "/v1/events?after=0&follow=false", "/metrics"] {
        assert_clean(path, api.get(path).await.text());
    }
    for end in ["", "/progress", "/report", "/events?follow=false"] {
        let answer = api.get(&format!("{job}{end}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_clean(end, answer.text());
    }
    for action in ["pause", "resume", "cutover", "cancel", "retry-failed"] {
        let answer = api.post(&format!("{job}/{action}")).await;
        answer.ok();
        assert_clean(action, answer.text());
    }
}

#[tokio::test]
async fn no_refusal_repeats_a_secret() {
    let api = Api::new();
    let check = |change: fn(&mut Value)| {
        let api = api.clone();
        async move {
            let mut spec = spec();
            change(&mut spec);
            let answer = api.send_json("POST", "/v1/jobs", &spec).await;
            assert_eq!(answer.status, 422, "{}", answer.text());
            assert_clean("the refusal", answer.text());
        }
    };
    check(|spec| spec["source"]["options"] = "password=geheim1".into()).await;
    check(|spec| spec["source"] = "password=geheim1, expected".into()).await;
    check(|spec| spec["webhook"] = "geheim1".into()).await;
    check(|spec| spec["webhook"] = json!({ "url": { "geheim1": 1 } })).await;
    check(|spec| spec["dest"]["options"] = json!(["secret=geheim1"])).await;
    check(|spec| spec["dest"] = spec["source"].clone()).await;
    check(|spec| spec["limits"] = json!({ "operations_per_second": "geheim1" })).await;
}
