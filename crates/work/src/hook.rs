//! Hooks that make a source read-only for the last pass of a migration, and writable again if the job does not complete.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use job::{AccessError, Endpoint, Hold, Job, PassKind, ShareAccess, Side};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;

use crate::mount::Masker;
use crate::sys::{self, Preparation};

/// A command of the service's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program and its words. No shell comes between.
    pub command: Vec<String>,
    /// One that takes longer is killed, and has failed.
    pub timeout: Duration,
}

/// Access for a service without shares of its own: there is nothing to be granted, but hooks to be run.
#[derive(Clone, Debug, Default)]
pub struct HookAccess {
    hooks: BTreeMap<String, Hook>,
}

const READ_ONLY: &str = "read-only";
const READ_WRITE: &str = "read-write";

/// Of what a hook says, the end is kept.
const SAID_BYTES_MAX: usize = 4096;

impl HookAccess {
    pub fn new(hooks: BTreeMap<String, Hook>) -> Self {
        Self { hooks }
    }

    async fn run(&self, job: &Job, hold: &Hold, action: &str) -> Result<(), AccessError> {
        let Hold::ReadOnly { hook: name } = hold else { return Ok(()) };
        let masker = Masker::new(&job.spec);
        let error = |what: String| AccessError {
            side: Some(Side::Source),
            message: masker.mask(&format!("the hook `{name}` {what}")),
        };
        let hook = self.hooks.get(name).ok_or_else(|| error("is not configured".into()))?;
        let Some((program, words)) = hook.command.split_first() else { return Err(error("has no command".into())) };
        let mut command = std::process::Command::new(program);
        command
            .args(words)
            .env("MANILA_DATA_ACTION", action)
            .env("MANILA_DATA_HOOK", name)
            .env("MANILA_DATA_JOB_ID", job.id.to_string())
            .env("MANILA_DATA_JOB_NAME", job.spec.name.as_deref().unwrap_or_default())
            .env("MANILA_DATA_SOURCE", place(&job.spec.source))
            .env("MANILA_DATA_DEST", place(&job.spec.dest))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // A session of its own, so that all of it can be ended; what is sent to the service is not for it.
        sys::prepare(&mut command, Preparation { session: true, ..Preparation::default() });
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|reason| error(format!("cannot be run: {reason}")))?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut said = Vec::new();
        let mut pipe = child.stderr.take();
        let ended = tokio::time::timeout(hook.timeout, async {
            let mut buffer = vec![0; 1024];
            let mut status = None;
            // The pipe may outlive the hook, in a process that it left behind: its end is not waited for.
            while status.is_none() {
                let read = async {
                    match &mut pipe {
                        Some(pipe) => pipe.read(&mut buffer).await,
                        None => std::future::pending().await,
                    }
                };
                enum Look {
                    Exited(std::io::Result<std::process::ExitStatus>),
                    Said(usize),
                }
                let look = tokio::select! {
                    biased;
                    count = read => Look::Said(count.unwrap_or(0)),
                    status = child.wait() => Look::Exited(status),
                };
                match look {
                    Look::Exited(exited) => status = Some(exited),
                    Look::Said(0) => pipe = None,
                    Look::Said(count) => {
                        said.extend_from_slice(&buffer[..count]);
                        said.drain(..said.len().saturating_sub(SAID_BYTES_MAX));
                    }
                }
            }
            status
        })
        .await;
        #[expect(clippy::disallowed_methods, reason = "what a program says is text for people")]
        let said = String::from_utf8_lossy(&said);
        let said = if said.trim().is_empty() { String::new() } else { format!(": {}", said.trim().escape_debug()) };
        match ended {
            Ok(Some(Ok(status))) if status.success() => Ok(()),
            Ok(Some(Ok(status))) => Err(error(format!("failed ({status}){said}"))),
            Ok(Some(Err(reason))) => Err(error(format!("cannot be waited for: {reason}"))),
            Ok(None) | Err(_) => {
                if let Some(group) = group {
                    // It may have ended this moment.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait().await;
                Err(error(format!("did not end within {} s and was killed{said}", hook.timeout.as_secs_f64())))
            }
        }
    }
}

/// Where a tree is, in words without secrets.
#[expect(
    clippy::disallowed_methods,
    reason = "the paths of a specification are text; a program needs them as they are"
)]
fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::None => String::new(),
        Endpoint::Repository { name } => name.clone(),
        Endpoint::Url { url } => url.shown().to_owned(),
        Endpoint::Directory { path } => path.display().to_string(),
        Endpoint::Mount { source, subdir: None, .. } => source.clone(),
        Endpoint::Mount { source, subdir: Some(subdir), .. } => format!("{source} {}", subdir.display()),
        Endpoint::Command { mount, .. } => mount.shown().to_owned(),
    }
}

#[async_trait]
impl ShareAccess for HookAccess {
    fn needed(&self, job: &Job, pass: PassKind) -> Vec<Hold> {
        match &job.spec.migrate.hook {
            Some(hook) if pass == PassKind::Final => vec![Hold::ReadOnly { hook: hook.clone() }],
            _ => Vec::new(),
        }
    }

    async fn take(&self, job: &Job, hold: &Hold) -> Result<Hold, AccessError> {
        self.run(job, hold, READ_ONLY).await.map(|()| hold.clone())
    }

    async fn give_back(&self, job: &Job, hold: &Hold) -> Result<(), AccessError> {
        self.run(job, hold, READ_WRITE).await
    }
}
