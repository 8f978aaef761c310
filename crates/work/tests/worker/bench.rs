//! One job's directories, an executor for it, and eyes for what its worker does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use job::{
    Control, Endpoint, Executor as _, Generation, JobId, JobSpec, Kind, PassKind, Sensitive, StopReason, WorkError,
    WorkEvent, WorkOrder, WorkResult,
};
use rustix::process::{Pid, Signal, kill_process};
use testkit::disk::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use work::{ProcessExecutor, ProcessSettings};

pub(crate) const LIMIT: Duration = Duration::from_secs(30);

#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LIMIT, "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn settings() -> ProcessSettings {
    ProcessSettings { exe: std::env::current_exe().unwrap(), ..ProcessSettings::default() }
}

pub(crate) fn directory(path: &Path) -> Endpoint {
    Endpoint::Directory { path: path.into() }
}

pub(crate) fn mount(fs_type: &str, source: &str, options: &[&str]) -> Endpoint {
    let options = options.iter().map(|option| Sensitive::new(*option)).collect();
    Endpoint::Mount { fs_type: fs_type.into(), source: source.into(), options, subdir: None }
}

pub(crate) fn below(endpoint: Endpoint, below: &str) -> Endpoint {
    match endpoint {
        Endpoint::Mount { fs_type, source, options, .. } => {
            Endpoint::Mount { fs_type, source, options, subdir: Some(below.into()) }
        }
        other => other,
    }
}

pub(crate) fn command(mount: &str) -> Endpoint {
    Endpoint::Command { mount: Sensitive::new(mount), unmount: None, options: None }
}

/// Everything that one job needs. Dropped, it makes sure that nothing of it is left.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) runtime: Runtime,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir: TempDir::new(), runtime }
    }

    /// A directory of the test's own, with a few entries in it.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        let path = self.dir.subdir(name);
        std::fs::create_dir(path.join("dir")).unwrap();
        std::fs::write(path.join("dir/file"), "content").unwrap();
        path
    }

    /// The same, with a file that takes minutes at the speed of [`SLOW`].
    pub(crate) fn slow_tree(&self, name: &str) -> PathBuf {
        let path = self.tree(name);
        std::fs::write(path.join("slow"), vec![7; 4 << 20]).unwrap();
        path
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.dir.path().join("state").join("work").join("job")
    }

    pub(crate) fn order(&self, source: Endpoint, dest: Endpoint) -> WorkOrder {
        self.order_of(JobSpec::new(Kind::Copy, source, dest))
    }

    pub(crate) fn order_of(&self, spec: JobSpec) -> WorkOrder {
        WorkOrder {
            job: JobId::from_u128(1),
            generation: Generation(1),
            pass: 1,
            pass_kind: PassKind::Single,
            spec: spec.into(),
            workspace: self.workspace(),
            state_dir: self.dir.path().join("state/jobs/job/engine"),
            report_dir: self.dir.path().join("state/jobs/job/report/1"),
            retry_report_dir: None,
        }
    }

    pub(crate) fn start(&self, settings: ProcessSettings, order: WorkOrder, control: Control) -> Running<'_> {
        let (control, receiver) = watch::channel(control);
        let (sender, events) = mpsc::channel(1024);
        let executor = ProcessExecutor::new(settings);
        let handle = self.runtime.spawn(async move { executor.run(order, receiver, sender).await });
        Running { bench: self, handle, control, events, heard: Vec::new() }
    }

    /// A run from its beginning to its end.
    pub(crate) fn run(&self, settings: ProcessSettings, source: Endpoint, dest: Endpoint) -> Ran {
        self.start(settings, self.order(source, dest), Control::default()).end()
    }

    pub(crate) fn release(&self) {
        let executor = ProcessExecutor::new(settings());
        self.runtime.block_on(executor.release(&self.workspace())).unwrap();
    }

    /// Nothing is mounted below the job's directories, as this process sees it, and the workspace is gone.
    #[track_caller]
    pub(crate) fn assert_released(&self) {
        self.release();
        assert_eq!(mounts("self", self.dir.path()), Vec::<Mount>::new());
        assert_eq!(std::fs::read_dir(self.workspace().parent().unwrap()).unwrap().count(), 0);
    }
}

/// So slow that a test sees the worker at work.
pub(crate) fn slow() -> Control {
    Control { bandwidth_bytes_per_second: Some(20_000), ..Control::default() }
}

pub(crate) struct Running<'a> {
    bench: &'a Bench,
    handle: JoinHandle<Result<WorkResult, WorkError>>,
    pub(crate) control: watch::Sender<Control>,
    events: mpsc::Receiver<WorkEvent>,
    heard: Vec<WorkEvent>,
}

impl Running<'_> {
    pub(crate) fn stop(&self) {
        self.control.send_modify(|control| control.stop = Some(StopReason::Cancel));
    }

    /// Waits until both trees stand; answers the processes of the worker, the outer one first.
    #[track_caller]
    pub(crate) fn wait_until_mounted(&mut self) -> Vec<i32> {
        wait_for("the mounts", || {
            assert!(!self.handle.is_finished(), "it ended: {:?}", self.heard);
            while let Ok(event) = self.events.try_recv() {
                self.heard.push(event);
            }
            self.heard.contains(&WorkEvent::Mounted)
        });
        let mut processes = Vec::new();
        wait_for("the mover", || {
            processes = worker_processes(&self.bench.workspace());
            processes.len() == 3
        });
        processes
    }

    /// Drops the run, as a service that gives up does.
    pub(crate) fn abort(self) {
        self.handle.abort();
    }

    #[track_caller]
    pub(crate) fn end(self) -> Ran {
        self.end_within(LIMIT)
    }

    #[track_caller]
    pub(crate) fn end_within(mut self, limit: Duration) -> Ran {
        let ended = self.bench.runtime.block_on(async {
            let ended = tokio::time::timeout(limit, &mut self.handle);
            ended.await.expect("the run ends").expect("the run does not panic")
        });
        while let Ok(event) = self.events.try_recv() {
            self.heard.push(event);
        }
        Ran { ended, events: self.heard }
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ended: Result<WorkResult, WorkError>,
    pub(crate) events: Vec<WorkEvent>,
}

impl Ran {
    #[track_caller]
    pub(crate) fn completed(&self) {
        assert!(matches!(&self.ended, Ok(result) if result.ending == job::WorkEnding::Complete), "{self:?}");
        // The engine may warn of a small destination; the worker has nothing to warn of.
        let is_ours = |text: &str| ["mount", "workspace", "worker"].iter().any(|word| text.contains(word));
        let ours = |event: &&WorkEvent| matches!(event, WorkEvent::Warning(text) if is_ours(text));
        assert_eq!(self.events.iter().filter(ours).collect::<Vec<_>>(), Vec::<&WorkEvent>::new());
    }

    #[track_caller]
    pub(crate) fn stopped(&self) {
        assert!(matches!(&self.ended, Ok(result) if result.ending == job::WorkEnding::Stopped), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn lost(&self) -> &str {
        match &self.ended {
            Err(WorkError::Lost(text)) => text,
            _ => panic!("it was not lost: {self:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn failed(&self, code: job::FailureCode, part: &str) {
        match &self.ended {
            Err(WorkError::Failed(failure)) => {
                assert_eq!(failure.code, code, "{failure}");
                assert!(failure.message.contains(part), "{failure}");
            }
            _ => panic!("it did not fail: {self:?}"),
        }
    }
}

pub(crate) fn kill(number: i32) {
    kill_process(Pid::from_raw(number).unwrap(), Signal::KILL).unwrap();
}

/// Dead, and waited for by whoever has to.
pub(crate) fn is_gone(number: i32) -> bool {
    let state = stat(number).map(|(_, state)| state);
    matches!(state, None | Some('Z' | 'X'))
}

/// The outer process, as its lock names it, and its line of children.
pub(crate) fn worker_processes(workspace: &Path) -> Vec<i32> {
    let lock = workspace.with_extension("lock");
    let text = std::fs::read_to_string(lock).unwrap_or_default();
    let mut line: Vec<i32> = text.split_whitespace().next().and_then(|word| word.parse().ok()).into_iter().collect();
    while let Some(child) = line.last().and_then(|parent| stages(*parent).first().copied()) {
        line.push(child);
    }
    line
}

/// Children that are processes of a worker; mount helpers are none.
fn stages(parent: i32) -> Vec<i32> {
    children(parent)
        .into_iter()
        .filter(|child| {
            let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            name.starts_with("data-")
        })
        .collect()
}

pub(crate) fn children(parent: i32) -> BTreeSet<i32> {
    numbers().filter(|number| stat(*number).is_some_and(|(of, _)| of == parent)).collect()
}

/// Every process there is.
pub(crate) fn numbers() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Parent and state of a process.
fn stat(number: i32) -> Option<(i32, char)> {
    let text = std::fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    let mut words = text.rsplit_once(')')?.1.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some((words.next()?.parse().ok()?, state))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) at: PathBuf,
    pub(crate) options: BTreeSet<String>,
}

/// Mounts at or below a path, as the process sees them. The tests' paths have no character that is escaped there.
pub(crate) fn mounts(process: &str, path: &Path) -> Vec<Mount> {
    let text = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let mounts = text.lines().map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        Mount { at: words[4].into(), options: words[5].split(',').map(Into::into).collect() }
    });
    mounts.filter(|mount| mount.at.starts_with(path)).collect()
}
