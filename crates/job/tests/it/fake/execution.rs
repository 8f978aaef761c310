//! Workers that do what a script says, and leave a workspace behind until it is released.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use job::documents::Progress;
use job::{
    Control, Executor, Failure, FailureCode, Hold, PassFigures, StateName, Step, WorkEnding, WorkError, WorkEvent,
    WorkOrder, WorkResult,
};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::store::FakeStore;
use super::world::{Life, figures, lock};

/// How one pass goes.
#[derive(Clone, Debug)]
pub(crate) enum Script {
    /// Works for so many seconds.
    End(u64, WorkEnding, PassFigures),
    /// Works until it is told to stop.
    Endless,
    /// Does not listen. Killed ten seconds after it was told to stop.
    Hangs,
    Fail,
    /// Dies after so many copied files.
    Lost(u64),
    Panics,
    /// Says so many things, and is complete.
    Warns(u32),
}

impl Script {
    pub(crate) fn complete(seconds: u64) -> Self {
        Self::End(seconds, WorkEnding::Complete, figures(10, 0))
    }
}

#[derive(Debug)]
pub(crate) struct FakeExecutor {
    store: Arc<FakeStore>,
    life: Arc<Life>,
    /// By the name of the job; what has no script is complete after ten seconds.
    scripts: Mutex<HashMap<String, VecDeque<Script>>>,
    /// Workspaces in which something is, by the destination that is worked on.
    leftovers: Mutex<BTreeMap<PathBuf, String>>,
    running: AtomicUsize,
    running_max: AtomicUsize,
    /// Jobs in the order in which their workers began, with the pass.
    began: Mutex<Vec<(String, WorkOrder)>>,
    /// Everything that workers were told.
    controls: Mutex<Vec<Control>>,
    release_failures: Mutex<u32>,
}

impl FakeExecutor {
    pub(crate) fn new(store: Arc<FakeStore>, life: Arc<Life>) -> Self {
        Self {
            store,
            life,
            scripts: Mutex::default(),
            leftovers: Mutex::default(),
            running: AtomicUsize::new(0),
            running_max: AtomicUsize::new(0),
            began: Mutex::default(),
            controls: Mutex::default(),
            release_failures: Mutex::default(),
        }
    }

    pub(crate) fn script(&self, name: &str, passes: impl IntoIterator<Item = Script>) {
        lock(&self.scripts).insert(name.into(), passes.into_iter().collect());
    }

    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        lock(&self.leftovers).keys().cloned().collect()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn running_max(&self) -> usize {
        self.running_max.load(Ordering::SeqCst)
    }

    pub(crate) fn began(&self) -> Vec<(String, WorkOrder)> {
        lock(&self.began).clone()
    }

    pub(crate) fn names_began(&self) -> Vec<String> {
        self.began().into_iter().map(|(name, _)| name).collect()
    }

    pub(crate) fn controls(&self) -> Vec<Control> {
        lock(&self.controls).clone()
    }

    pub(crate) fn fail_releases(&self, count: u32) {
        *lock(&self.release_failures) = count;
    }

    fn check_order(&self, order: &WorkOrder) {
        let job = self.store.job(order.job);
        let say = |rule: &str| self.store.broken(format!("{rule}: {order:?} for {job:?}"));
        if job.generation == order.generation && job.state.name() != StateName::Mounting {
            say("work began before its state was durable");
        }
        if job.generation == order.generation && !job.holds.contains(&Hold::Workspace { path: order.workspace.clone() })
        {
            say("a workspace was taken before it was held");
        }
        let mut leftovers = lock(&self.leftovers);
        if leftovers.contains_key(&order.workspace) {
            say("a workspace was not released");
        }
        let dest = format!("{:?}", order.spec.dest);
        if leftovers.values().any(|other| *other == dest) {
            say("two jobs work on one destination");
        }
        leftovers.insert(order.workspace.clone(), dest);
    }
}

/// A worker that ends whatever becomes of its future: the process it belonged to is gone.
struct Worker<'a>(&'a FakeExecutor);

impl<'a> Worker<'a> {
    fn begin(executor: &'a FakeExecutor) -> Self {
        let running = executor.running.fetch_add(1, Ordering::SeqCst) + 1;
        executor.running_max.fetch_max(running, Ordering::SeqCst);
        Self(executor)
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn result(ending: WorkEnding, figures: PassFigures) -> WorkResult {
    WorkResult { ending, figures, manifest_root: Some("root".into()), first_fault: None }
}

#[async_trait]
impl Executor for FakeExecutor {
    async fn run(
        &self,
        order: WorkOrder,
        mut control: watch::Receiver<Control>,
        events: mpsc::Sender<WorkEvent>,
    ) -> Result<WorkResult, WorkError> {
        self.life.go_on().await;
        self.check_order(&order);
        let _worker = Worker::begin(self);
        let name = order.spec.name.clone().unwrap_or_default();
        lock(&self.began).push((name.clone(), order.clone()));
        let script = lock(&self.scripts).get_mut(&name).and_then(VecDeque::pop_front);
        let script = script.unwrap_or(Script::complete(10));
        let progress = |copied_files| {
            WorkEvent::Progress(Box::new(Progress {
                copied_files,
                copied_bytes: 100 * copied_files,
                ..Progress::default()
            }))
        };
        let tell = async |event| drop(events.send(event).await);
        match script {
            Script::Fail => {
                return Err(WorkError::Failed(Failure::new(Step::Mount, FailureCode::MountFailed, "no route to host")));
            }
            Script::Panics => panic!("a defect of the executor"),
            Script::End(..) | Script::Endless | Script::Hangs | Script::Lost(_) | Script::Warns(_) => {}
        }
        tell(WorkEvent::Mounted).await;
        let seconds = match script {
            Script::Lost(files) => {
                if files > 0 {
                    tell(progress(files)).await;
                }
                return Err(WorkError::Lost("killed by signal 9".into()));
            }
            Script::Warns(count) => {
                for number in 0..count {
                    tell(WorkEvent::Warning(format!("warning {number}"))).await;
                }
                return Ok(result(WorkEnding::Complete, figures(1, 0)));
            }
            Script::End(seconds, ..) => seconds,
            _ => u64::MAX,
        };
        for second in 0..seconds {
            let told = control.borrow_and_update().clone();
            {
                let mut controls = lock(&self.controls);
                if controls.last() != Some(&told) {
                    controls.push(told.clone());
                }
            }
            if told.stop.is_some() {
                if matches!(script, Script::Hangs) {
                    sleep(Duration::from_secs(10)).await;
                    return Err(WorkError::Lost("did not stop in time and was killed".into()));
                }
                return Ok(result(WorkEnding::Stopped, PassFigures::default()));
            }
            tell(progress(second + 1)).await;
            tokio::select! {
                () = sleep(Duration::from_secs(1)) => {}
                changed = control.changed() => if changed.is_err() {
                    // Whoever gave the order is gone.
                    return Ok(result(WorkEnding::Stopped, PassFigures::default()));
                },
            }
        }
        match script {
            Script::End(_, ending, figures) => Ok(result(ending, figures)),
            _ => Ok(result(WorkEnding::Stopped, PassFigures::default())),
        }
    }

    async fn release(&self, workspace: &Path) -> Result<(), WorkError> {
        self.life.go_on().await;
        tokio::task::yield_now().await;
        {
            let mut failures = lock(&self.release_failures);
            if *failures > 0 {
                *failures -= 1;
                return Err(WorkError::Lost("the mount is busy".into()));
            }
        }
        lock(&self.leftovers).remove(workspace);
        Ok(())
    }
}
