//! Runs each pass in a worker of its own, a child of this process, so that whatever happens to the data plane happens
//! to one job alone.
//!
//! A worker is three processes: the outer one takes namespaces and waits (`worker`), the keeper mounts and unmounts
//! (`keeper`), the mover copies within a sandbox (`mover`). Orders go down their pipes and tidings up; the end of
//! the orders means that the service is gone, and the work stops. Killing the outer process ends all three, and
//! whatever mount helpers left running.

mod keeper;
mod lock;
mod mover;
mod worker;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use job::{
    Control, Executor, Failure, FailureCode, PassFigures, Step, WorkEnding, WorkError, WorkEvent, WorkOrder, WorkResult,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub use worker::worker_main;

use crate::mount::{Masker, MountSettings};
use crate::protocol::{self, LINE_BYTES_MAX, Order, PassDocument, ProtocolError, Told, WorkDocument};
use crate::repositories::{Repository, resolve};
use crate::sandbox::SandboxMode;
use crate::sys::{self, Preparation};
use lock::JobLock;

/// How workers are run.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The program, and the words that lead it to [`worker_main`].
    pub exe: PathBuf,
    pub args: Vec<OsString>,
    /// How long a worker that was told to stop may take.
    pub grace: Duration,
    pub mount: MountSettings,
    pub sandbox: SandboxMode,
    /// Those that jobs may name.
    pub repositories: BTreeMap<String, Repository>,
}

impl Default for ProcessSettings {
    /// This very program, with the hidden subcommand `worker`.
    fn default() -> Self {
        Self {
            exe: "/proc/self/exe".into(),
            args: vec!["worker".into()],
            grace: Duration::from_secs(10),
            mount: MountSettings::default(),
            sandbox: SandboxMode::default(),
            repositories: BTreeMap::new(),
        }
    }
}

/// Of what a worker says on its standard error, the end is kept.
const SAID_BYTES_MAX: usize = 8192;

/// What the worker's environment has: programs are looked for in the system's directories alone.
const ENVIRONMENT: [(&str, &str); 2] = [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C.UTF-8")];

/// How long the last lines of a worker that is gone may take to be read. Whoever listens may be slow.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two looks whether a worker is gone.
const PAUSE: Duration = Duration::from_millis(10);

/// One worker process for each pass.
#[derive(Debug)]
pub struct ProcessExecutor {
    settings: ProcessSettings,
    /// What was said of this machine already.
    noticed: Arc<Mutex<BTreeSet<String>>>,
}

impl ProcessExecutor {
    pub fn new(settings: ProcessSettings) -> Self {
        Self { settings, noticed: Arc::default() }
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let mut command = std::process::Command::new(&self.settings.exe);
        command
            .arg0("manila-data")
            .args(&self.settings.args)
            .env_clear()
            .envs(ENVIRONMENT)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        sys::prepare(&mut command, Preparation { session: true, deaf: true, ..Preparation::default() });
        // If the future of a run is dropped, its worker must not outlive it.
        tokio::process::Command::from(command).kill_on_drop(true).spawn()
    }
}

#[async_trait]
impl Executor for ProcessExecutor {
    async fn run(
        &self,
        mut order: WorkOrder,
        mut control: watch::Receiver<Control>,
        events: mpsc::Sender<WorkEvent>,
    ) -> Result<WorkResult, WorkError> {
        order.spec = resolve(&self.settings.repositories, &order.spec).map_err(WorkError::Failed)?.into();
        let first = first_line(&self.settings, &order)?;
        make_parent(&order.workspace)?;
        let masker = Masker::new(&order.spec);
        let lost = |text: String| WorkError::Lost(masker.mask(&text));
        let mut child = self.spawn().map_err(|error| lost(format!("cannot start it: {error}")))?;
        let (Some(orders), Some(tidings), Some(said)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(lost("it has no pipes".into()));
        };
        let writer = tokio::spawn(give_orders(orders, first, control.clone()));
        let mut reader = tokio::spawn(hear(tidings, events.clone(), self.noticed.clone()));
        let said = tokio::spawn(listen(said));

        let mut heard = None;
        let mut deadline = stop_deadline(&control, self.settings.grace);
        let mut is_controlled = true;
        let mut was_killed = false;
        let status = loop {
            enum Look {
                Exited(std::io::Result<std::process::ExitStatus>),
                Heard(Heard),
                Changed(bool),
                TooLate,
            }
            let look = tokio::select! {
                status = child.wait() => Look::Exited(status),
                answer = &mut reader, if heard.is_none() => Look::Heard(answer.unwrap_or(Ok(None))),
                changed = control.changed(), if is_controlled => Look::Changed(changed.is_ok()),
                () = until(deadline), if deadline.is_some() && !was_killed => Look::TooLate,
            };
            match look {
                Look::Exited(status) => break status,
                Look::Heard(answer) => {
                    heard = Some(answer);
                    // Nothing of it is heard any more, so that it has no reason to stay.
                    deadline = deadline.or(Some(Instant::now() + self.settings.grace));
                }
                Look::Changed(is_controlled_still) => {
                    is_controlled = is_controlled_still;
                    deadline = deadline.or(stop_deadline(&control, self.settings.grace));
                }
                Look::TooLate => {
                    was_killed = true;
                    end(&mut child);
                }
            }
        };
        writer.abort();
        let is_gone = is_gone(&order.workspace).await;
        let heard = match heard {
            Some(heard) => heard,
            None => drain(&mut reader).await.unwrap_or(Ok(None)),
        };
        let said = tokio::time::timeout(DRAIN_TIMEOUT, said).await.ok().and_then(Result::ok).unwrap_or_default();
        if !is_gone {
            return Err(lost("it was ended, but its storage still holds it".into()));
        }
        let was_told_to_stop = control.borrow().stop.is_some();
        match heard {
            Ok(Some(Told::Done { result })) => Ok(result),
            Ok(Some(Told::Failed { failure })) => Err(WorkError::Failed(failure)),
            Ok(Some(Told::Lost { text })) => Err(lost(with_said(&text, &said))),
            _ if was_killed && was_told_to_stop => {
                let text = format!(
                    "the worker did not stop within {} s and was ended by force",
                    self.settings.grace.as_secs_f64()
                );
                let _ = events.try_send(WorkEvent::Warning(text));
                Ok(WorkResult {
                    ending: WorkEnding::Stopped,
                    figures: PassFigures::default(),
                    manifest_root: None,
                    first_fault: None,
                })
            }
            Err(error) => Err(lost(with_said(&error.to_string(), &said))),
            Ok(_) => {
                let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
                Err(lost(with_said(&how, &said)))
            }
        }
    }

    async fn release(&self, workspace: &Path) -> Result<(), WorkError> {
        let workspace = workspace.to_owned();
        // Waits for a worker that was killed, which takes as long as its storage lets it.
        tokio::task::spawn_blocking(move || workspace::release(&workspace))
            .await
            .map_err(|_| WorkError::Failed(Failure::new(Step::Release, FailureCode::Internal, "the release panicked")))?
            .map_err(WorkError::Failed)
    }
}

/// The last word of a worker, or none.
type Heard = Result<Option<Told>, ProtocolError>;

/// Ends a worker by force: the outer process, which takes its namespaces with it, and where there are none, the others,
/// which are in its group too. It may have ended this moment; then there is nothing to do.
fn end(child: &mut Child) {
    // Not waited for yet, so that its number is still its own.
    if let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.start_kill();
}

fn first_line(settings: &ProcessSettings, order: &WorkOrder) -> Result<Vec<u8>, WorkError> {
    let document = WorkDocument {
        pass: PassDocument::from(order),
        secrets: job::JobSpec::clone(&order.spec).secrets(),
        mount: settings.mount.clone(),
        sandbox: settings.sandbox,
    };
    protocol::encode(&Order::Work(Box::new(document))).map_err(|error| {
        let message = format!("the job cannot be told to a worker: {error}");
        WorkError::Failed(Failure::new(Step::Mount, FailureCode::BadSpec, message))
    })
}

/// Workspaces lie in one directory, which the first of them makes.
#[expect(clippy::disallowed_methods, reason = "a path of the service's configuration, where only it may write")]
fn make_parent(workspace: &Path) -> Result<(), WorkError> {
    let Some(parent) = workspace.parent() else { return Ok(()) };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| {
        let message = format!("cannot make the directory of workspaces `{}`: {error}", crate::shown(parent));
        WorkError::Failed(Failure::new(Step::Mount, FailureCode::Internal, message))
    })
}

fn stop_deadline(control: &watch::Receiver<Control>, grace: Duration) -> Option<Instant> {
    control.borrow().stop.map(|_| Instant::now() + grace)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Whether nothing of the worker is left, which its lock tells. It is not taken: the next worker does that.
async fn is_gone(workspace: &Path) -> bool {
    let start = Instant::now();
    loop {
        match JobLock::try_take(workspace) {
            Ok(None) if start.elapsed() < workspace::GONE_TIMEOUT => tokio::time::sleep(PAUSE).await,
            Ok(None) => return false,
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

async fn give_orders(mut orders: ChildStdin, first: Vec<u8>, mut control: watch::Receiver<Control>) {
    // What cannot be written is read by nobody: then the worker is dead, which others notice.
    if orders.write_all(&first).await.is_err() {
        return;
    }
    loop {
        let document = protocol::ControlDocument::from(&*control.borrow_and_update());
        let Ok(line) = protocol::encode(&Order::Control(document)) else { return };
        if orders.write_all(&line).await.is_err() {
            return;
        }
        if control.changed().await.is_err() {
            // Nothing more will be ordered; the pipe stays open, because its end would be an order too.
            return std::future::pending().await;
        }
    }
}

/// Passes on what a worker tells, up to its last word.
async fn hear(tidings: ChildStdout, events: mpsc::Sender<WorkEvent>, noticed: Arc<Mutex<BTreeSet<String>>>) -> Heard {
    let mut tidings = BufReader::new(tidings);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut tidings).take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut line).await.map_err(ProtocolError::Pipe)?;
        if line.last() != Some(&b'\n') {
            return if line.len() == LINE_BYTES_MAX { Err(ProtocolError::TooLong) } else { Ok(None) };
        }
        let event = match protocol::decode(&line)? {
            last_word @ (Told::Done { .. } | Told::Failed { .. } | Told::Lost { .. }) => return Ok(Some(last_word)),
            Told::Mounted => WorkEvent::Mounted,
            Told::Progress { progress } => {
                // The next one is newer anyway.
                let _ = events.try_send(WorkEvent::Progress(progress));
                continue;
            }
            Told::Warning { text } => WorkEvent::Warning(text),
            Told::Summary { summary } => WorkEvent::Summary(summary),
            Told::Notice { text } => {
                if !noticed.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
                    continue;
                }
                tracing::warn!("{text}");
                WorkEvent::Warning(text)
            }
        };
        // Nobody listens any more: the run goes on, its result is what matters.
        let _ = events.send(event).await;
    }
}

async fn drain(reader: &mut tokio::task::JoinHandle<Heard>) -> Option<Heard> {
    let answer = tokio::time::timeout(DRAIN_TIMEOUT, &mut *reader).await;
    reader.abort();
    answer.ok()?.ok()
}

/// The end of what is said on a pipe.
async fn listen(mut said: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = said.read(&mut buffer).await {
        tail.extend_from_slice(&buffer[..count]);
        let surplus = tail.len().saturating_sub(SAID_BYTES_MAX);
        tail.drain(..surplus);
    }
    tail
}

fn with_said(text: &str, said: &[u8]) -> String {
    #[expect(clippy::disallowed_methods, reason = "what a program says is text for people")]
    let said = String::from_utf8_lossy(said);
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { text.into() } else { format!("{text}: {}", lines.join("; ").escape_debug()) }
}
