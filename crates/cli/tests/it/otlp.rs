//! Traces: where the build can send them they reach the collector, and a collector that is away disturbs nothing; where
//! it cannot, it says so.

use rustix::process::Signal;

use crate::daemon::Daemon;
use crate::support::Sandbox;

#[cfg(not(feature = "otlp"))]
#[test]
fn a_build_without_otlp_says_once_that_it_sends_no_traces() {
    let sandbox = Sandbox::new("otlp-none");
    sandbox.write("conf", b"[DEFAULT]\notlp_endpoint = http://127.0.0.1:4318\n");
    let mut daemon = Daemon::new(&sandbox).started();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    let log = daemon.log();
    assert_eq!(log.matches("`otlp_endpoint` has no effect").count(), 1, "{log}");
}

#[test]
fn otlp_options_that_cannot_be_right_are_refused() {
    let sandbox = Sandbox::new("otlp-options");
    for (option, problem) in [
        ("otlp_endpoint=127.0.0.1:4318", "must begin with http:// or https://"),
        ("otlp_sample_ratio=1.5", "must be from 0.0 to 1.0"),
        ("otlp_sample_ratio=-0.1", "must be from 0.0 to 1.0"),
    ] {
        let outcome = sandbox.run(&format!("config show --option {option}"));
        assert_ne!(outcome.code(), Some(0), "{option}");
        assert!(outcome.stderr.contains(problem), "{option}: {outcome:?}");
    }
}

#[cfg(feature = "otlp")]
mod sent {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::{Daemon, Sandbox, Signal};
    use crate::support::Outcome;

    /// First line and body.
    type Message = (String, Vec<u8>);

    /// Takes every message.
    struct Collector {
        address: String,
        messages: Arc<Mutex<Vec<Message>>>,
    }

    impl Collector {
        /// Its threads end with the process of the tests.
        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let messages = Arc::new(Mutex::new(Vec::new()));
            let kept = Arc::clone(&messages);
            std::thread::spawn(move || {
                for caller in listener.incoming() {
                    let kept = Arc::clone(&kept);
                    std::thread::spawn(move || answer(&caller.unwrap(), &kept));
                }
            });
            Self { address, messages }
        }

        fn holds(&self, words: &[&str]) -> bool {
            let has = |body: &[u8], word: &str| body.windows(word.len()).any(|part| part == word.as_bytes());
            self.messages.lock().unwrap().iter().any(|(_, body)| words.iter().all(|word| has(body, word)))
        }
    }

    fn answer(caller: &TcpStream, kept: &Mutex<Vec<Message>>) {
        let mut reader = BufReader::new(caller);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            let first = std::mem::take(&mut line);
            let mut length = 0;
            while reader.read_line(&mut line).unwrap() > 2 {
                let header = std::mem::take(&mut line).to_ascii_lowercase();
                if let Some(value) = header.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            line.clear();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push((first, body));
            let mut writer = caller;
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    }

    /// A copy with this collector, to the end of the service; its job and its log.
    fn copied(sandbox: &Sandbox, endpoint: &str, more: &str) -> (String, String) {
        sandbox.small_tree();
        sandbox.write("conf", format!("[DEFAULT]\notlp_endpoint = {endpoint}\n{more}").as_bytes());
        let mut daemon = Daemon::new(sandbox).started();
        let job = daemon.create("copy source dest");
        daemon.jobs(&format!("wait {job}")).expect(0);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
        (job, daemon.log())
    }

    #[test]
    fn a_collector_gets_the_spans_of_requests_and_jobs() {
        let (sandbox, collector) = (Sandbox::new("otlp-sent"), Collector::start());
        // Levels are the log's alone.
        let (job, log) = copied(&sandbox, &collector.address, "log_levels = job=error, web=error\n");
        // The name of a span is the fifth field of its message.
        let words = ["service.name", "manila-data", "*\x03job", "job_id", &job, "request_id"];
        assert!(collector.holds(&words), "{:?}\n{log}", collector.messages.lock());
        assert!(collector.holds(&["*\x07request", "route", "/v1/jobs"]), "{log}");
        let messages = collector.messages.lock().unwrap();
        assert!(messages.iter().all(|(first, _)| first == "POST /v1/traces HTTP/1.1\r\n"), "{messages:?}");
        assert!(!log.contains("the collector"), "{log}");
    }

    #[test]
    fn an_endpoint_that_is_no_url_is_refused_at_the_start() {
        let sandbox = Sandbox::new("otlp-url");
        let outcome = Outcome::of(Daemon::new(&sandbox).with("--option otlp_endpoint=http://[").serve());
        assert_ne!(outcome.code(), Some(0));
        assert!(outcome.stderr.contains("look at `otlp_endpoint` in [DEFAULT]"), "{outcome:?}");
    }

    #[test]
    fn what_is_not_in_the_sample_is_not_sent() {
        let (sandbox, collector) = (Sandbox::new("otlp-sample"), Collector::start());
        let (_, log) = copied(&sandbox, &collector.address, "otlp_sample_ratio = 0.0\n");
        assert!(collector.messages.lock().unwrap().is_empty(), "{log}");
    }

    #[test]
    fn a_collector_that_is_away_costs_one_line_of_the_log() {
        let sandbox = Sandbox::new("otlp-away");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (_, log) = copied(&sandbox, &format!("http://127.0.0.1:{port}"), "");
        assert_eq!(log.matches("the collector takes no traces").count(), 1, "{log}");
    }

    #[test]
    fn a_collector_that_does_not_answer_does_not_hold_the_service() {
        let sandbox = Sandbox::new("otlp-mute");
        // It is connected to and never reads.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_, log) = copied(&sandbox, &format!("http://{}", listener.local_addr().unwrap()), "");
        let is_told =
            ["the last traces were not sent", "the collector takes no traces"].iter().any(|told| log.contains(told));
        assert!(is_told, "{log}");
        assert!(log.contains("manila-data has ended"), "{log}");
    }
}
