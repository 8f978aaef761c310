//! A service for one test, and its commands.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Outcome, Sandbox, wait_for};

/// What anything here may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Daemon<'a> {
    sandbox: &'a Sandbox,
    /// Sockets have short names, and the sandbox may have a long one.
    sockets: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    is_manilas: bool,
    child: Option<Child>,
}

impl<'a> Daemon<'a> {
    /// One that does not run yet. Its state is `service` in the sandbox, its configuration `conf`.
    pub fn new(sandbox: &'a Sandbox) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let sockets = std::env::temp_dir().join(format!("manila-data-it-{}-{number}", std::process::id()));
        fs::create_dir_all(&sockets).unwrap();
        if !sandbox.path("conf").exists() {
            sandbox.write("conf", b"");
        }
        Self { sandbox, sockets, arguments: Vec::new(), environment: Vec::new(), is_manilas: false, child: None }
    }

    pub fn with(mut self, arguments: &str) -> Self {
        self.arguments = arguments.split_whitespace().map(Into::into).collect();
        self
    }

    pub fn with_environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Started without a command, as Manila's own.
    pub fn of_manila(mut self) -> Self {
        self.is_manilas = true;
        self
    }

    pub fn started(mut self) -> Self {
        self.start();
        self
    }

    pub fn socket(&self) -> PathBuf {
        self.sockets.join("api")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// `serve` as it is started here.
    pub fn serve(&self) -> Command {
        let mut command = if self.is_manilas {
            let mut command = self.sandbox.command(["--config-file", "conf", "--state_path"]);
            command.arg(self.sandbox.path("service")).env("OS_API__SOCKET", self.socket());
            command
        } else {
            let mut command = self.sandbox.command(["serve", "--config-file", "conf", "--state-path", "service"]);
            command.arg("--socket").arg(self.socket());
            command
        };
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.sandbox.path("log")).unwrap();
        self.child = Some(self.serve().stderr(log).spawn().unwrap());
        wait_for("the service to answer", PATIENCE, || {
            assert_eq!(self.child.as_mut().unwrap().try_wait().unwrap(), None, "{}", self.log());
            UnixStream::connect(self.socket()).is_ok()
        });
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.sandbox.path("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait_for("the service to end", PATIENCE, || child.try_wait().unwrap().is_some());
        child.wait().unwrap()
    }

    /// A command that speaks to it.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.sandbox.command(arguments);
        command.env("MANILA_DATA_SOCKET", self.socket());
        command
    }

    pub fn jobs(&self, line: &str) -> Outcome {
        Outcome::of(self.command(std::iter::once("jobs").chain(line.split_whitespace())))
    }

    /// Makes a job; its identifier.
    pub fn create(&self, line: &str) -> String {
        let outcome = self.jobs(&format!("create {line}")).expect(0);
        outcome.stdout.trim_end().to_owned()
    }

    pub fn show(&self, job: &str) -> Value {
        self.jobs(&format!("show {job} --json")).expect(0).events().remove(0)
    }

    pub fn wait_for_state(&self, job: &str, state: &str) {
        wait_for(&format!("{job} to be {state}"), PATIENCE, || self.show(job)["state"] == state);
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its workers end with it.
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.sockets);
    }
}

/// A file that no mover can make short work of, so that a limited copy of it takes a while.
pub fn large_tree(sandbox: &Sandbox, files: usize, bytes: usize) {
    let mut state = 1_u64;
    for number in 0..files {
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .take(bytes)
        .collect();
        sandbox.write(&format!("source/{}/{number}", number % 10), &content);
    }
}

/// Whether something below `dir` has content.
pub fn has_content(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else { return false };
    entries.filter_map(Result::ok).any(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => has_content(&entry.path()),
        Ok(meta) => meta.len() > 0,
        Err(_) => false,
    })
}
