//! `serve`: starts, tells its supervisor, reloads, parks, and refuses what cannot be right.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::daemon::{Daemon, PATIENCE, has_content, large_tree};
use crate::support::{Outcome, Sandbox, entries, wait_for};

#[test]
fn a_running_job_is_parked_within_ten_seconds_and_goes_on_at_the_next_start() {
    let sandbox = Sandbox::new("serve-park");
    large_tree(&sandbox, 100, 40_000);
    let mut daemon = Daemon::new(&sandbox).started();
    let (source, dest) = (sandbox.path("source"), sandbox.path("dest"));
    let job = daemon.create("copy source dest --bandwidth-limit 1M");
    wait_for("the first files", PATIENCE, || has_content(&dest));
    let start = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.ended();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert_ne!(entries(&source), entries(&dest), "it was still under way");

    daemon.start();
    assert!(daemon.show(&job)["outcome"].is_null(), "{}", daemon.log());
    daemon.jobs(&format!("limits {job} --bandwidth-limit none")).expect(0);
    daemon.jobs(&format!("wait {job} --timeout 60s")).expect(0);
    assert_eq!(entries(&source), entries(&dest));
    let passes = &daemon.show(&job)["passes"];
    let copied = passes[0]["figures"]["copied_bytes"].as_u64().unwrap();
    assert!(copied < 4_000_000, "what was done was not done again: {passes}");
    assert_eq!(passes.as_array().unwrap().len(), 1);
}

#[test]
fn jobs_outlive_the_service() {
    let sandbox = Sandbox::new("serve-restart");
    sandbox.small_tree();
    let mut daemon = Daemon::new(&sandbox).started();
    let job = daemon.create("copy source dest --name home");
    daemon.jobs(&format!("wait {job}")).expect(0);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(0));
    daemon.start();
    assert_eq!(daemon.show(&job)["name"], "home");
    daemon.jobs(&format!("report {job}")).expect(0);
}

#[test]
fn the_supervisor_is_told_what_happens() {
    let sandbox = Sandbox::new("serve-notify");
    let daemon = Daemon::new(&sandbox);
    let path = daemon.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut daemon = daemon
        .with_environment("NOTIFY_SOCKET", path.to_str().unwrap())
        .with_environment("WATCHDOG_USEC", "1000000")
        .started();
    let expect = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
            let message = std::str::from_utf8(&buffer[..length]).unwrap();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message.to_owned();
            }
        }
    };
    assert!(expect("READY=1").contains("STATUS=0 running, 0 queued"));
    expect("WATCHDOG=1");
    expect("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    assert!(expect("RELOADING=1").contains("MONOTONIC_USEC="));
    expect("READY=1");
    daemon.signal(Signal::TERM);
    expect("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(0));
}

#[test]
fn sighup_takes_over_what_can_be_changed_and_names_what_cannot() {
    let sandbox = Sandbox::new("serve-reload");
    sandbox.small_tree();
    let log = sandbox.path("service.log");
    let conf = |more: &str| format!("[DEFAULT]\nlog_file = {}\nuse_json = true\n{more}", log.display());
    sandbox.write("conf", conf("").as_bytes());
    let daemon = Daemon::new(&sandbox).started();
    let line = |wanted: &str| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.rev().find(|line| line["message"].as_str().is_some_and(|text| text.contains(wanted)))
    };
    wait_for("the log", PATIENCE, || line("ready").is_some());
    // As a rotation does.
    fs::rename(&log, sandbox.path("service.log.1")).unwrap();
    sandbox.write("conf", conf("debug = true\n[data_service]\njobs_max = 9\nlease_seconds = 99\n").as_bytes());
    daemon.signal(Signal::HUP);
    wait_for("the new log", PATIENCE, || line("reloaded").is_some());
    let warning = line("only a restart").expect("a warning");
    assert_eq!(warning["options"], "`lease_seconds` in [data_service]", "{warning}");
    let job = daemon.create("copy source dest");
    daemon.jobs(&format!("wait {job}")).expect(0);
    let debug = |text: &str| text.lines().any(|line| line.contains("\"level\":\"DEBUG\""));
    wait_for("debug lines", PATIENCE, || debug(&fs::read_to_string(&log).unwrap()));
    assert!(fs::read_to_string(&log).unwrap().contains(&job), "lines of a job name it");

    // What is wrong changes nothing.
    sandbox.write("conf", conf("[data_service]\njobs_max = 0\n").as_bytes());
    daemon.signal(Signal::HUP);
    wait_for("the refusal", PATIENCE, || line("nothing was reloaded").is_some());
    daemon.jobs("list").expect(0);
}

#[test]
fn what_cannot_be_right_is_refused_with_a_hint() {
    let sandbox = Sandbox::new("serve-refuse");
    let first = Daemon::new(&sandbox).started();
    let refused = |daemon: &Daemon, cause: &str, hint: &str| {
        let outcome = Outcome::of(daemon.serve()).expect(1);
        assert!(outcome.stderr.contains(cause), "{outcome:#?}");
        assert!(outcome.stderr.lines().any(|line| line.starts_with("hint: ") && line.contains(hint)), "{outcome:#?}");
    };
    // Another one on the same store, with a socket of its own.
    refused(&Daemon::new(&sandbox), "another manila-data", "only one service");
    first.jobs("list").expect(0);

    // Another one on the same socket, with a store of its own.
    let socket = format!("-o socket={} --state-path other", first.socket().display());
    let mut command = sandbox.command(["serve", "--config-file", "conf"]);
    let outcome = Outcome::of({
        command.args(socket.split(' '));
        command
    })
    .expect(1);
    assert!(outcome.stderr.contains("another process listens"), "{outcome:#?}");
    assert!(outcome.stderr.contains("hint: end the other service"), "{outcome:#?}");
    drop(first);

    fs::set_permissions(sandbox.path("service"), fs::Permissions::from_mode(0o750)).unwrap();
    refused(&Daemon::new(&sandbox), "is open to others (mode 0750)", "chmod 0700");
    fs::set_permissions(sandbox.path("service"), fs::Permissions::from_mode(0o700)).unwrap();

    let foreign = format!("-o job_store={}", sandbox.path("foreign").display());
    sandbox.write("foreign", b"this is no database at all, it only looks like a file of some length");
    refused(&Daemon::new(&sandbox).with(&foreign), "no SQLite database", "doctor");
    refused(&Daemon::new(&sandbox).with("-o listen=0.0.0.0:0"), "unencrypted", "tls_cert");
    refused(&Daemon::new(&sandbox).with("-o listen=127.0.0.1:0"), "cannot read the tokens", "token create");
}

#[test]
fn a_token_opens_the_tcp_door_and_its_scope_bounds_what_it_may() {
    let sandbox = Sandbox::new("serve-tcp");
    sandbox.small_tree();
    let token = |name: &str, scope: &str| {
        let outcome = sandbox.run(&format!("token create {name} --scope {scope} --tokens-file tokens")).expect(0);
        sandbox.write(name, outcome.stdout.as_bytes());
    };
    token("reader", "read");
    token("writer", "write");
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (tokens, root) = (sandbox.path("tokens"), sandbox.path(""));
    let root = root.display().to_string();
    let daemon = Daemon::new(&sandbox)
        .with(&format!(
            "-o listen=127.0.0.1:{port} -o tokens_file={} -o allowed_roots={}",
            tokens.display(),
            root.trim_end_matches('/')
        ))
        .started();
    let over = |who: &str, line: &str| {
        let url = format!("http://127.0.0.1:{port}");
        let words = ["jobs", "--url", &url, "--token-file", who].into_iter().chain(line.split_whitespace());
        Outcome::of(sandbox.command(words))
    };
    over("reader", "list").expect(0);
    let outcome = over("reader", "create copy source dest").expect(1);
    assert!(outcome.stderr.contains("scope `write`"), "{outcome:#?}");
    over("writer", "create copy source dest --watch").expect(0);
    let outcome = over("writer", "create copy /etc dest2").expect(1);
    assert!(outcome.stderr.contains("no directory that the service allows"), "{outcome:#?}");
    sandbox.write("nobody", b"mdt_nonsense\n");
    let outcome = over("nobody", "list").expect(1);
    assert!(outcome.stderr.contains("token create"), "{outcome:#?}");
    // A token that was removed is forgotten by SIGHUP.
    sandbox.run("token remove reader --tokens-file tokens").expect(0);
    daemon.signal(Signal::HUP);
    wait_for("the token to be void", PATIENCE, || over("reader", "list").code() == Some(1));
}
