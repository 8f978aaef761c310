//! The end of a server: nobody is left hanging, and nothing hangs.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::kit::{Mood, RunningServer, read_to_end, soon, spec, until};

#[tokio::test]
async fn streams_and_waits_end_with_the_service() {
    let server = RunningServer::new().await;
    let job = server.client().create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job.id;
    let mut streams = Vec::new();
    for path in ["/v1/events?after=0".to_owned(), format!("/v1/jobs/{job}/events"), format!("/v1/jobs/{job}?wait=60")] {
        let mut stream = server.connect().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut first = [0; 1];
        if !path.ends_with("wait=60") {
            soon("a first byte", stream.read_exact(&mut first)).await.unwrap();
        }
        streams.push(stream);
    }
    // A connection that rests between two requests.
    let mut idle = server.connect().await;
    idle.write_all(b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    idle.read_exact(&mut [0; 1]).await.unwrap();
    until("that somebody waits", || async { (server.service.waiters() == 1).then_some(()) }).await;

    let socket = server.socket.clone();
    server.stop().await;
    let mut texts = Vec::new();
    for stream in &mut streams {
        texts.push(read_to_end(stream).await);
    }
    assert!(texts[..2].iter().all(|text| text.ends_with("0\r\n\r\n")), "streams end as they should: {texts:?}");
    assert!(texts[2].starts_with("HTTP/1.1 200") && texts[2].contains("\"outcome\":null"), "{}", texts[2]);
    read_to_end(&mut idle).await;
    assert!(UnixStream::connect(socket).await.is_err(), "nobody new is let in");
}

#[tokio::test]
async fn an_answer_under_way_is_finished() {
    let server = RunningServer::new().await;
    let body = spec("copy").to_string();
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut continues = [0; 25];
    soon("that the body is read", stream.read_exact(&mut continues)).await.unwrap();
    assert!(continues.starts_with(b"HTTP/1.1 100"));
    server.shut_down();
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    server.ended().await;
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_hangs_up() {
    let server = RunningServer::new().await;
    server.service.set_mood(Mood::Waits);
    let body = spec("copy").to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stream = server.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    until("that it has begun", || async { (server.service.hanging() == 1).then_some(()) }).await;
    drop(stream);
    // Answered by a connection of its own, so the server has seen the end of the first one.
    server.client().version().await.unwrap();
    server.service.set_mood(Mood::Good);
    until("the job", || async { (server.service.job_count() == 1).then_some(()) }).await;
    server.stop().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let server = RunningServer::with(|settings| settings.limits.shutdown_time = Duration::from_millis(50)).await;
    server.service.set_mood(Mood::Hangs);
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/jobs HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until("that it hangs", || async { (server.service.hanging() == 1).then_some(()) }).await;
    server.stop().await;
    assert_eq!(read_to_end(&mut stream).await, "");
}
