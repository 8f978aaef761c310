//! An executor without processes: for directories that stand already, at a terminal and in tests.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use job::{Control, Endpoint, Executor, Failure, FailureCode, Step, WorkError, WorkEvent, WorkOrder, WorkResult};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Live, Trees, run_pass};

/// Runs each pass on a thread of this process. Mounts nothing and enters no sandbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

#[async_trait]
impl Executor for InProcess {
    async fn run(
        &self,
        order: WorkOrder,
        mut control: watch::Receiver<Control>,
        events: mpsc::Sender<WorkEvent>,
    ) -> Result<WorkResult, WorkError> {
        let trees = Trees { source: directory(&order.spec.source)?, dest: directory(&order.spec.dest)? };
        let live = Arc::new(Live::default());
        live.obey(&control.borrow_and_update());
        // Whoever does not wait for the end any more does not want the work either.
        let _stop = StopWhenDropped(live.clone());
        let (done, mut ended) = oneshot::channel();
        let thread = {
            let live = live.clone();
            let body = move || {
                let _ = events.blocking_send(WorkEvent::Mounted);
                let result = run_pass(&order, &trees, &live, &|event| tell(&events, event));
                let _ = done.send(result);
            };
            std::thread::Builder::new()
                .name("pass".into())
                .spawn(body)
                .map_err(|error| failed(FailureCode::EngineFailed, format!("cannot start a thread: {error}")))?
        };
        let mut is_told = true;
        let result = loop {
            let changed = tokio::select! {
                result = &mut ended => break result,
                changed = control.changed(), if is_told => changed,
            };
            is_told = changed.is_ok();
            live.obey(&control.borrow_and_update());
        };
        // It has said its last word; or it panicked, and says so now.
        let is_whole = thread.join().is_ok();
        match result {
            Ok(result) if is_whole => result.map_err(WorkError::Failed),
            _ => Err(failed(FailureCode::Internal, "the thread of the pass panicked".into())),
        }
    }

    async fn release(&self, workspace: &Path) -> Result<(), WorkError> {
        match rustix::fs::unlinkat(CWD, workspace, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                let message = format!("cannot remove the workspace: {errno}");
                Err(WorkError::Failed(Failure::new(Step::Release, FailureCode::Internal, message)))
            }
        }
    }
}

struct StopWhenDropped(Arc<Live>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop.stop(copy::StopReason::Shutdown);
    }
}

/// A look that nobody has time for is not missed: the next one follows.
fn tell(events: &mpsc::Sender<WorkEvent>, event: WorkEvent) {
    // Nobody listens any more where it fails.
    let _ = match event {
        WorkEvent::Progress(_) => events.try_send(event).is_ok(),
        _ => events.blocking_send(event).is_ok(),
    };
}

fn directory(endpoint: &Endpoint) -> Result<PathBuf, WorkError> {
    match endpoint {
        Endpoint::Directory { path } => Ok(path.clone()),
        Endpoint::None
        | Endpoint::Repository { .. }
        | Endpoint::Url { .. }
        | Endpoint::Mount { .. }
        | Endpoint::Command { .. } => {
            Err(failed(FailureCode::BadSpec, "only directories can be worked on without a worker process".into()))
        }
    }
}

fn failed(code: FailureCode, message: String) -> WorkError {
    WorkError::Failed(Failure::new(Step::Copy, code, message))
}
