//! The client: all its calls, and what it says when one comes to nothing.

use std::time::Duration;

use job::spec::RateLimits;
use job::{EventKind, JobFilter, JobId, JobSpec, Kind, Outcome, StateName};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use web::OutcomeName;
use web::client::{Address, Client, ClientError, ClientEvent, ReportFile};

use crate::kit::{Mood, RunningServer, soon, spec};

fn problem<T: std::fmt::Debug>(result: Result<T, ClientError>) -> web::ProblemBody {
    match result {
        Err(ClientError::Problem(problem)) => *problem,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_call_reaches_its_route() {
    let server = RunningServer::new().await;
    let client = server.client();
    let mut migrate = spec("migrate");
    migrate["name"] = "a & b".into();
    migrate["webhook"] = json!({ "url": "https://h/x", "secret": "geheim" });
    migrate["source"] =
        json!({ "type": "mount", "fs_type": "cifs", "source": "//h/s", "options": ["a=1", "pass=geheim"] });
    let migrate: JobSpec = serde_json::from_value(migrate).unwrap();
    let made = client.create(&migrate, Some("key")).await.unwrap();
    assert!(!made.is_known && client.create(&migrate, Some("key")).await.unwrap().is_known);
    let id = made.job.id;
    assert_eq!(*server.service.stored(id).spec, migrate, "secrets arrive, though serialising masks them");

    let limits = RateLimits { operations_per_second: Some(5), ..RateLimits::default() };
    assert_eq!(client.set_limits(id, &limits).await.unwrap().limits, limits);
    assert!(client.pause(id).await.unwrap().stop.is_some());
    assert_eq!(client.resume(id).await.unwrap().stop, None);
    client.cutover(id).await.unwrap();
    assert_eq!(client.progress(id).await.unwrap().queue_position, Some(1));
    assert_eq!(client.wait(id, Duration::ZERO).await.unwrap().outcome, None);
    assert_eq!(problem(client.remove(id).await).name(), "not-now");
    assert_eq!(client.cancel(id).await.unwrap().outcome, Some(OutcomeName::Cancelled));
    assert_eq!(client.wait(id, Duration::from_mins(1)).await.unwrap().outcome, Some(OutcomeName::Cancelled));
    let retry = client.retry_failed(id).await.unwrap().job;
    assert_eq!(retry.spec.retry_of, Some(id));

    let filter = JobFilter {
        states: vec![StateName::Cancelled, StateName::Failed],
        kinds: vec![Kind::Migrate],
        name: Some("a & b".into()),
        requester: Some(made.job.requester),
        created_after: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        created_before: Some("2099-01-01T00:00:00Z".parse().unwrap()),
    };
    assert_eq!(client.list(&filter, Some(10), None).await.unwrap().jobs.len(), 1);
    let page = client.list(&JobFilter::default(), Some(1), None).await.unwrap();
    let next = client.list(&JobFilter::default(), Some(1), page.next_cursor.as_deref()).await.unwrap();
    assert_eq!((page.jobs[0].id, next.jobs[0].id, next.next_cursor), (retry.id, id, None));

    client.remove(id).await.unwrap();
    let gone = problem(client.show(id).await);
    assert_eq!((gone.name(), gone.instance.as_deref()), ("no-such-job", Some(format!("/v1/jobs/{id}").as_str())));
    assert_eq!(client.version().await.unwrap().name, "manila-data");
    assert!(client.metrics().await.unwrap().contains("manila_data_jobs"));
    assert_eq!(client.ready().await.unwrap().status, "ready");
    server.service.set_troubles(&["no room"]);
    assert_eq!(client.ready().await.unwrap().troubles, ["no room"]);
    server.stop().await;
}

#[tokio::test]
async fn files_of_reports_are_streamed() {
    let server = RunningServer::new().await;
    let client = server.client();
    let id = client.create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job.id;
    let text = "{\"path\":\"a\"}\n".repeat(50_000);
    let kept = zstd::encode_all(text.as_bytes(), 1).unwrap();
    let dir = server.dir.path().join("report");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("entries.jsonl.zst"), &kept).unwrap();
    std::fs::write(dir.join("faults.jsonl"), "f\n").unwrap();
    std::fs::write(dir.join("manifest.zst"), zstd::encode_all(&b"m\n"[..], 1).unwrap()).unwrap();
    server.service.set_reports(id, [(3, dir)]);
    for (file, expected) in [
        (ReportFile::Entries, text.as_bytes()),
        (ReportFile::CompressedEntries, &kept),
        (ReportFile::Faults, b"f\n"),
        (ReportFile::Manifest, b"m\n"),
    ] {
        let mut download = client.download(id, Some(3), file).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(chunk) = soon("a chunk", download.chunk()).await.unwrap() {
            bytes.extend(chunk);
        }
        assert!(bytes == expected, "{file:?}");
    }
    assert_eq!(problem(client.report(id, None).await).name(), "no-such-report");
    server.stop().await;
}

#[tokio::test]
async fn events_end_with_the_job_and_give_up_where_there_is_none() {
    let server = RunningServer::new().await;
    let client = server.client();
    let id = client.create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job.id;
    server.service.happen(id, EventKind::Warning, "x");
    server.service.end(id, Outcome::Completed);
    let mut stream = client.events(Some(id), Some(1));
    let mut kinds = Vec::new();
    while let Some(event) = soon("an event", stream.next()).await {
        let ClientEvent::Stored(event) = event.unwrap() else { continue };
        kinds.push(event.kind);
    }
    assert_eq!(kinds, [EventKind::Warning, EventKind::Ended]);

    let mut none = client.events(Some(JobId::generate()), None);
    assert_eq!(problem(soon("an answer", none.next()).await.unwrap()).name(), "no-such-job");
    assert!(none.next().await.is_none());
    server.stop().await;
}

#[tokio::test]
async fn failures_say_what_was_tried_and_what_helps() {
    web::install_crypto();
    let dir = testkit::disk::TempDir::new();
    let socket = dir.path().join("none.sock");
    let error = Client::new(&Address::Socket(socket.clone())).unwrap().version().await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("none.sock") && error.to_string().contains("No such file"), "{error}");
    assert!(error.hint().unwrap().contains("manila-data serve"), "{error}");

    let server = RunningServer::new().await;
    let client = server.client();
    server.service.set_mood(Mood::StoreFailed);
    let failed = ClientError::Problem(Box::new(problem(client.list(&JobFilter::default(), None, None).await)));
    let ClientError::Problem(problem) = &failed else { panic!("{failed}") };
    assert!(failed.hint().unwrap().contains(problem.request_id.as_ref().unwrap()), "{failed}");
    server.stop().await;

    let url = |url: &str, token: Option<&str>| {
        Client::new(&Address::Url { url: url.into(), token: token.map(job::Sensitive::secret), ca_file: None })
            .map(drop)
    };
    for (bad, token) in [
        ("nonsense", None),
        ("ftp://h/", None),
        ("unix:/x", None),
        ("http://h.example/", Some("mdt_x")),
        ("https://h.example/", Some("two\nlines")),
    ] {
        let error = url(bad, token).unwrap_err();
        assert!(matches!(error, ClientError::BadAddress { .. }) && error.hint().is_some(), "{error:?}");
    }
    url("http://127.0.0.1:1/", Some("mdt_x")).unwrap();
    url("http://[::1]:1/", Some("mdt_x")).unwrap();
    let no_authority = Address::Url { url: "https://h/".into(), token: None, ca_file: Some(socket) };
    assert!(matches!(Client::new(&no_authority), Err(ClientError::BadAuthority { .. })));
}

/// Answers each connection with a text, and closes.
fn answering(answer: &'static str) -> (testkit::disk::TempDir, Client, tokio::task::JoinHandle<()>) {
    web::install_crypto();
    let dir = testkit::disk::TempDir::new();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (dir, Client::new(&Address::Socket(socket)).unwrap(), task)
}

#[tokio::test]
async fn answers_of_something_else_are_told_as_such() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "another version"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", "is this the data service"),
        ("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", "status 302"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{", "lost the data service"),
        ("SSH-2.0-OpenSSH\r\n", "lost the data service"),
    ] {
        let (_dir, client, task) = answering(answer);
        let error = soon("an answer", client.version()).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{answer:?}: {error}");
        task.abort();
    }
}
