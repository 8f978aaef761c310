//! The unix socket and its bounds.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use testkit::disk::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use web::{Limits, ServeError, Server, Settings, TcpSettings};

use crate::kit::{MemoryService, RunningServer, read_to_end, request_on, soon, spec};

const GET: &str = "GET /v1/version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

async fn bind(settings: Settings) -> Result<Server, ServeError> {
    Server::bind(Arc::new(MemoryService::default()), settings).await
}

#[tokio::test]
async fn the_socket_is_private_and_its_callers_are_known() {
    let server = RunningServer::new().await;
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&server.socket), mode(server.socket.parent().unwrap())), (0o600, 0o700));
    let job = server.client().create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job;
    let uid = fs::metadata("/proc/self").unwrap().uid();
    assert_eq!(job.requester, format!("uid:{uid}"));
    let socket = server.socket.clone();
    server.stop().await;
    assert!(!socket.exists(), "nothing is left behind");
}

#[tokio::test]
async fn a_dead_owners_socket_is_replaced_and_a_live_one_is_not() {
    let dir = TempDir::new();
    let socket = dir.path().join("api.sock");
    let settings = Settings { socket: Some(socket.clone()), ..Settings::default() };
    // A socket whose owner is gone stays in the directory.
    drop(UnixListener::bind(&socket).unwrap());
    let first = bind(settings.clone()).await.unwrap();
    assert!(matches!(bind(settings.clone()).await, Err(ServeError::SocketInUse { .. })));
    // Also when somebody took the socket away below its owner.
    fs::remove_file(&socket).unwrap();
    assert!(matches!(bind(settings.clone()).await, Err(ServeError::SocketInUse { .. })));
    drop(first);
    drop(bind(settings.clone()).await.unwrap());

    // Another program holds no lock of ours, but answers.
    fs::remove_file(&socket).unwrap();
    let other = UnixListener::bind(&socket).unwrap();
    assert!(matches!(bind(settings.clone()).await, Err(ServeError::SocketInUse { .. })));
    drop(other);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "precious").unwrap();
    assert!(matches!(bind(settings).await, Err(ServeError::NotASocket { .. })));
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn doors_that_cannot_be_opened_say_why() {
    let dir = TempDir::new();
    assert!(matches!(bind(Settings::default()).await, Err(ServeError::NoDoor)));
    fs::write(dir.path().join("file"), "").unwrap();
    let below_a_file = Settings { socket: Some(dir.path().join("file/x.sock")), ..Settings::default() };
    assert!(matches!(bind(below_a_file).await, Err(ServeError::Socket { .. })));
    let long = Settings { socket: Some(dir.path().join("x".repeat(200))), ..Settings::default() };
    assert!(matches!(bind(long).await, Err(ServeError::Socket { .. })));

    let tokens = dir.path().join("tokens");
    let tcp = |address: &str| {
        let tcp = TcpSettings::new(address.parse().unwrap(), None, tokens.clone());
        Settings { tcp: Some(tcp), ..Settings::default() }
    };
    let error = bind(tcp("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(error, ServeError::PlainTcp { .. }), "{error}");
    assert!(matches!(bind(tcp("127.0.0.1:0")).await, Err(ServeError::Tokens(_))), "there is no file of tokens");
    fs::write(&tokens, "").unwrap();
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o644)).unwrap();
    let error = bind(tcp("127.0.0.1:0")).await.unwrap_err();
    assert!(error.to_string().contains("mode 0600"), "{error}");
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).unwrap();
    let first = bind(tcp("127.0.0.1:0")).await.unwrap();
    let taken = first.tcp_address().unwrap().to_string();
    assert!(matches!(bind(tcp(&taken)).await, Err(ServeError::Tcp { .. })));
    let mut allowed = tcp("0.0.0.0:0");
    allowed.tcp.as_mut().unwrap().allow_plain = true;
    drop(bind(allowed).await.unwrap());
}

#[tokio::test]
async fn headers_have_bounds_of_size_number_and_time() {
    let header_time = Duration::from_millis(200);
    let limits = Limits { header_time, header_bytes_max: 8192, headers_max: 20, ..Limits::default() };
    let server = RunningServer::with(|settings| settings.limits = limits).await;
    let with_headers =
        |headers: String| format!("GET /v1/version HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
    let ask = |request: String| {
        let server = &server;
        async move { request_on(&mut server.connect().await, &request).await }
    };
    assert!(ask(with_headers(String::new())).await.starts_with("HTTP/1.1 200"));
    let many = "x-one: 1\r\n".repeat(30);
    let answer = ask(with_headers(many)).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = ask(with_headers(format!("x-long: {}\r\n", "x".repeat(9000)))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = ask(format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(9000))).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");

    // One byte now and then is no header; nothing at all neither, nor between two requests.
    for beginning in ["GET /v1/vers", "", "GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let mut stream = server.connect().await;
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let drip = tokio::spawn(async move {
            while !beginning.is_empty() && writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(header_time / 8).await;
            }
        });
        let answer = read_to_end(&mut reader).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), usize::from(beginning.ends_with('\n')), "{answer}");
        drip.abort();
    }
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_drips_is_not_waited_for() {
    let body_time = Duration::from_millis(200);
    let server = RunningServer::with(|settings| settings.limits.body_time = body_time).await;
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(body_time / 8).await;
        }
    });
    let answer = read_to_end(&mut reader).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    drip.abort();
    server.stop().await;
}

#[tokio::test]
async fn a_caller_that_reads_nothing_loses_its_place() {
    let server = RunningServer::with(|settings| {
        settings.limits.write_time = Duration::from_millis(100);
        settings.limits.keep_alive = Duration::from_millis(10);
    })
    .await;
    let job = server.client().create(&serde_json::from_value(spec("copy")).unwrap(), None).await.unwrap().job.id;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let service = &server.service;
    crate::kit::until("the listener", || async { (service.listeners() == 1).then_some(()) }).await;
    // More than the socket holds for somebody who does not read.
    for _ in 0..200 {
        service.happen(job, job::EventKind::Warning, &"x".repeat(10_000));
    }
    crate::kit::until("that it is given up", || async { (service.listeners() == 0).then_some(()) }).await;
    drop(stream);
    server.stop().await;
}

#[tokio::test]
async fn callers_beyond_the_limit_wait_for_a_place() {
    let server = RunningServer::with(|settings| settings.limits.connections_max = 1).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /v1/version HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 1024];
    assert!(first.read(&mut buffer).await.unwrap() > 0, "the first has the place");
    let mut second = server.connect().await;
    second.write_all(GET.as_bytes()).await.unwrap();
    let unanswered = tokio::time::timeout(Duration::from_millis(100), second.read(&mut buffer)).await;
    assert!(unanswered.is_err(), "the second is not answered");
    drop(first);
    let answer = read_to_end(&mut second).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_http_hurts_nobody() {
    let server = RunningServer::new().await;
    for nonsense in [
        "\0\0\0\0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET http://\u{fc} HTTP/9.9\r\n\r\n",
        "\r\n\r\n\r\nx y\r\n\r\n",
    ] {
        let answer = request_on(&mut server.connect().await, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let twice = "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}";
    let answer = request_on(&mut server.connect().await, twice).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let version = soon("an answer", request_on(&mut server.connect().await, GET)).await;
    assert!(version.starts_with("HTTP/1.1 200"), "{version}");
    server.stop().await;
}
