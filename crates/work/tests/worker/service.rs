//! A service that can be killed: it runs one job in a process of its own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};

use job::{Executor as _, JobSpec};
use work::ProcessExecutor;

use crate::bench::{Bench, settings, slow};

/// Runs the order in the file that it is given, slowly, and prints how it ended.
pub(crate) fn main(args: &[OsString]) -> ExitCode {
    let path = PathBuf::from(&args[0]);
    let spec: JobSpec = serde_json::from_slice(&std::fs::read(path.join("spec.json")).unwrap()).unwrap();
    let (pass, state) = (1, path.join("state"));
    let order = job::WorkOrder {
        job: job::JobId::from_u128(1),
        generation: job::Generation(1),
        pass,
        pass_kind: job::PassKind::Single,
        spec: spec.into(),
        workspace: state.join("work/job"),
        state_dir: state.join("jobs/job/engine"),
        report_dir: state.join("jobs/job/report/1"),
        retry_report_dir: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let control = if args.len() > 1 { job::Control::default() } else { slow() };
    let (_control, receiver) = tokio::sync::watch::channel(control);
    let (sender, mut events) = tokio::sync::mpsc::channel(16);
    let ended = runtime.block_on(async {
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                println!("{event:?}");
            }
        });
        ProcessExecutor::new(settings()).run(order, receiver, sender).await
    });
    println!("{ended:?}");
    ExitCode::SUCCESS
}

/// Starts one for the specification, which is ended with the value.
pub(crate) struct Service(pub(crate) Child);

impl Service {
    pub(crate) fn command(bench: &Bench, spec: &JobSpec) -> Command {
        let path = bench.dir.path();
        std::fs::write(path.join("spec.json"), serde_json::to_vec(spec).unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("service").arg(path).stdout(Stdio::null());
        command
    }

    pub(crate) fn start(bench: &Bench, spec: &JobSpec) -> Self {
        Self(Self::command(bench, spec).spawn().unwrap())
    }

    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself, or by the test.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
