//! The executor without processes.

use std::time::Duration;

use job::{Control, Endpoint, Executor as _, FailureCode, Kind, StopReason, WorkEnding, WorkError, WorkEvent};
use tokio::sync::{mpsc, watch};
use work::run::InProcess;

use crate::kit::{Job, names, write};

/// What is waited for comes long before, or never.
const LONG: Duration = Duration::from_secs(30);

fn controls() -> (watch::Sender<Control>, watch::Receiver<Control>) {
    watch::channel(Control::default())
}

#[tokio::test]
async fn a_pass_runs_and_tells() {
    let job = Job::new(Kind::Copy);
    write(job.source("f"), "content");
    let (_control, obeyed) = controls();
    let (events, mut told) = mpsc::channel(64);
    let result = InProcess.run(job.order.clone(), obeyed, events).await.unwrap();
    assert_eq!((result.ending, names(&job.dest(""))), (WorkEnding::Complete, vec!["f".to_owned()]));
    assert_eq!(told.recv().await, Some(WorkEvent::Mounted));
    let mut last = None;
    while let Some(event) = told.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(WorkEvent::Summary(_))), "{last:?}");
}

/// So slow that it ends only if it is told to.
fn endless() -> Job {
    let job = Job::new(Kind::Copy);
    (0..100).for_each(|n| write(job.source(&n.to_string()), "content"));
    job
}

#[tokio::test]
async fn a_cancel_stops_it() {
    let job = endless();
    let (control, obeyed) = controls();
    let slow = Control { operations_per_second: Some(1), ..Control::default() };
    control.send(slow.clone()).unwrap();
    let (events, mut told) = mpsc::channel(64);
    let running = tokio::spawn(InProcess.run(job.order.clone(), obeyed, events));
    assert_eq!(told.recv().await, Some(WorkEvent::Mounted));
    control.send(Control { stop: Some(StopReason::Cancel), ..slow }).unwrap();
    let result = tokio::time::timeout(LONG, running).await.unwrap().unwrap().unwrap();
    assert_eq!(result.ending, WorkEnding::Stopped);
}

#[tokio::test]
async fn whoever_does_not_wait_for_it_any_more_stops_it() {
    let job = endless();
    let (control, obeyed) = controls();
    control.send(Control { operations_per_second: Some(1), ..Control::default() }).unwrap();
    let (events, mut told) = mpsc::channel(64);
    let running = tokio::spawn(InProcess.run(job.order.clone(), obeyed, events));
    assert_eq!(told.recv().await, Some(WorkEvent::Mounted));
    running.abort();
    // The thread lets go of the channel when it ends.
    let gone = async { while told.recv().await.is_some() {} };
    tokio::time::timeout(LONG, gone).await.unwrap();
    assert!(names(&job.dest("")).len() < 100);
}

#[tokio::test]
async fn what_must_be_mounted_is_refused() {
    let job = Job::new(Kind::Copy).with(|spec| {
        spec.source =
            Endpoint::Mount { fs_type: "nfs".into(), source: "host:/".into(), options: Vec::new(), subdir: None };
    });
    let (_control, obeyed) = controls();
    let (events, _told) = mpsc::channel(1);
    let Err(WorkError::Failed(failure)) = InProcess.run(job.order.clone(), obeyed, events).await else {
        panic!("must be refused")
    };
    assert_eq!(failure.code, FailureCode::BadSpec);
}

#[tokio::test]
async fn a_workspace_is_removed_when_nothing_is_in_it() {
    let job = Job::new(Kind::Copy);
    let workspace = &job.order.workspace;
    InProcess.release(workspace).await.unwrap();
    std::fs::create_dir(workspace).unwrap();
    write(workspace.join("left"), "");
    assert!(InProcess.release(workspace).await.is_err());
    std::fs::remove_file(workspace.join("left")).unwrap();
    InProcess.release(workspace).await.unwrap();
    assert!(!workspace.exists());
}
