//! Work that a script carries out, and access that is written down and nothing else.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use job::documents::{PathText, Progress};
use job::{
    AccessError, Control, Executor, Failure, FailureCode, Hold, Job, PassFigures, PassKind, ShareAccess, Side, Step,
    WorkEnding, WorkError, WorkEvent, WorkOrder, WorkResult,
};
use manila::BackupTask;
use manila::backup::BackupAction;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::{Journal, lock};

/// How the work of a job goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Script {
    /// Complete after ten seconds.
    #[default]
    Completes,
    /// Works, half done, until it is told to stop.
    Endless,
    AccessFails,
    MountFails,
    /// The first file that cannot be written ends it.
    StopsByFault,
}

/// Carries out work, and lets in to shares.
#[derive(Debug)]
pub(crate) struct FakeExecutor {
    journal: Journal,
    script: Mutex<Script>,
}

impl FakeExecutor {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, script: Mutex::default() }
    }

    pub(crate) fn play(&self, script: Script) {
        *lock(&self.script) = script;
    }
}

fn half_done() -> Progress {
    Progress {
        stage: "transfer".into(),
        percent: 50.9,
        current: Some(PathText { path: Some("d1/f 2".into()), path_hex: None }),
        current_percent: Some(48.828),
        ..Progress::default()
    }
}

#[async_trait]
impl Executor for FakeExecutor {
    async fn run(
        &self,
        _: WorkOrder,
        mut control: watch::Receiver<Control>,
        events: mpsc::Sender<WorkEvent>,
    ) -> Result<WorkResult, WorkError> {
        let script = *lock(&self.script);
        self.journal.note("mount");
        if script == Script::MountFails {
            let failure = Failure::new(Step::Mount, FailureCode::MountFailed, "no route to host");
            return Err(WorkError::Failed(failure));
        }
        let tell = async |event| drop(events.send(event).await);
        tell(WorkEvent::Mounted).await;
        tell(WorkEvent::Progress(Box::new(half_done()))).await;
        let ending = match script {
            Script::StopsByFault => {
                sleep(Duration::from_secs(1)).await;
                WorkEnding::StoppedByFault
            }
            Script::Endless => {
                // Whoever gave the order may be gone: that is a stop too.
                let _ = control.wait_for(|control| control.stop.is_some()).await;
                WorkEnding::Stopped
            }
            _ => tokio::select! {
                () = sleep(Duration::from_secs(10)) => WorkEnding::Complete,
                _ = control.wait_for(|control| control.stop.is_some()) => WorkEnding::Stopped,
            },
        };
        self.journal.note("unmount");
        Ok(WorkResult { ending, figures: PassFigures::default(), manifest_root: None, first_fault: None })
    }

    async fn release(&self, _: &Path) -> Result<(), WorkError> {
        Ok(())
    }
}

#[async_trait]
impl ShareAccess for FakeExecutor {
    fn needed(&self, job: &Job, _: PassKind) -> Vec<Hold> {
        let sides = match BackupTask::of(job) {
            Some(backup) => Vec::from_iter(backup.instance_id.map(|_| backup.action)),
            None => return [Side::Source, Side::Dest].map(|side| Hold::Access { side, grant: String::new() }).into(),
        };
        let side = |action| if action == BackupAction::Create { Side::Source } else { Side::Dest };
        sides.into_iter().map(|action| Hold::Access { side: side(action), grant: String::new() }).collect()
    }

    async fn take(&self, _: &Job, hold: &Hold) -> Result<Hold, AccessError> {
        if *lock(&self.script) == Script::AccessFails {
            return Err(AccessError { side: None, message: "the driver failed".into() });
        }
        self.journal.note(format!("take {}", hold.what()));
        Ok(hold.clone())
    }

    async fn give_back(&self, _: &Job, hold: &Hold) -> Result<(), AccessError> {
        self.journal.note(format!("give back {}", hold.what()));
        Ok(())
    }
}
