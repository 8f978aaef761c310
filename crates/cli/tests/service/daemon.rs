//! A service of one test: started, killed and started again over the same state, and spoken to over its socket by a
//! client that knows nothing but HTTP.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Daemon {
    dir: PathBuf,
    options: Vec<String>,
    child: Option<Child>,
}

impl Daemon {
    /// Starts a service with its state below `dir`. Each option is `name=value` of the group `data_service`.
    pub fn start(dir: &Path, options: &[&str]) -> Self {
        fs::create_dir_all(dir).unwrap();
        let options = options.iter().map(ToString::to_string).collect();
        let mut daemon = Self { dir: dir.into(), options, child: None };
        daemon.start_again();
        daemon
    }

    pub fn state_path(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("api/socket")
    }

    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_manila-data"));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("serve");
        // A machine that has no certificates of authorities is enough.
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/dev/null");
        command.arg("--state-path").arg(self.state_path()).arg("--socket").arg(self.socket());
        // No file of the machine's own takes part.
        fs::write(self.dir.join("conf"), "").unwrap();
        command.arg("--config-file").arg(self.dir.join("conf"));
        for option in &self.options {
            command.arg("-o").arg(option);
        }
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.wait_for("the service is ready", Self::is_ready);
    }

    fn is_ready(&mut self) -> bool {
        if let Some(status) = self.child.as_mut().expect("it runs").try_wait().unwrap() {
            panic!("the service ended with {status}:\n{}", self.log());
        }
        self.request("GET", "/readyz", None).is_ok_and(|(status, _)| status == 200)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Asks it to end, and tells how long it took.
    pub fn terminate(&mut self) -> Duration {
        let mut child = self.child.take().expect("it runs");
        let start = Instant::now();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}:\n{}", self.log());
        start.elapsed()
    }

    /// One request; its status and its body.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> std::io::Result<(u16, String)> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let wrong = || std::io::Error::other(format!("no answer: {answer:?}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(wrong)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
        let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            dechunked(body)
        } else {
            body.into()
        };
        Ok((status, body))
    }

    /// A request that must be answered with `status`.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>, status: u16) -> Value {
        let (found, text) = self.request(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        assert_eq!(found, status, "{method} {path}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Makes a job; its id.
    #[track_caller]
    pub fn create(&self, spec: &Value) -> String {
        self.call("POST", "/v1/jobs", Some(spec), 201)["id"].as_str().expect("an id").to_owned()
    }

    #[track_caller]
    pub fn job(&self, id: &str) -> Value {
        self.call("GET", &format!("/v1/jobs/{id}"), None, 200)
    }

    /// The job once it has ended.
    #[track_caller]
    pub fn ended(&mut self, id: &str) -> Value {
        let mut job = Value::Null;
        self.wait_for(&format!("job {id} has ended"), |daemon| {
            job = daemon.job(id);
            is_ended(&job)
        });
        job
    }

    #[track_caller]
    pub fn wait_for(&mut self, what: &str, mut condition: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !condition(self) {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            assert!(
                start.elapsed() < PATIENCE,
                "not within {PATIENCE:?}: {what}\n{}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processes that work for this service, its own aside: found by their ancestors, and by the state directory in
    /// what they have mounted, so that one which lost its parent is found too.
    pub fn workers(&self) -> BTreeSet<i32> {
        let state = self.state_path();
        let state = state.to_str().unwrap();
        let own = self.child.as_ref().map(|child| child.id() as i32);
        let mut workers = BTreeSet::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            if Some(pid) == own {
                continue;
            }
            let read = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
            let parent = parent_of(&read("stat"));
            let mounts = String::from_utf8_lossy(&read("mountinfo")).into_owned();
            let is_child = own.is_some() && parent == own;
            if is_child || mounts.contains(state) || workers.contains(&parent.unwrap_or_default()) {
                workers.insert(pid);
            }
        }
        workers
    }

    /// Nothing is mounted, nothing runs, nothing lies around that is no job's.
    #[track_caller]
    pub fn check_nothing_left(&mut self) {
        self.wait_for("no worker is left", |daemon| daemon.workers().is_empty());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let state = self.state_path();
        assert!(!mounts.contains(state.to_str().unwrap()), "something is mounted:\n{mounts}");
        let left: Vec<_> = fs::read_dir(state.join("work")).into_iter().flatten().flatten().map(|e| e.path()).collect();
        assert!(left.is_empty(), "left in the directory of workspaces: {left:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself; the answers change nothing here.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the service:\n{}", self.log());
        }
    }
}

pub fn is_ended(job: &Value) -> bool {
    matches!(job["state"].as_str(), Some("completed" | "cancelled" | "failed"))
}

fn parent_of(stat: &[u8]) -> Option<i32> {
    let stat = String::from_utf8_lossy(stat).into_owned();
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn dechunked(body: &str) -> String {
    let (mut whole, mut rest) = (String::new(), body);
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || after.len() < size {
            break;
        }
        whole.push_str(&after[..size]);
        rest = after[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    whole
}
