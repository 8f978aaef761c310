//! Runs mount helpers: without a shell, with an environment of ours, within a time, and with what they said in the error.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use caps::{CapSet, Capability};
use job::Side;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, kill_process_group, pidfd_open};

use super::{MountContext, MountError, argv, secrets, side_name, table};
use crate::sys;

/// Of what a helper says, the end is kept: that is where the reason stands.
const SAID_BYTES_MAX: usize = 4096;

/// How often a stop is looked for.
const GLANCE: Duration = Duration::from_millis(50);

/// How long a killed helper may take to go. One that is stuck in the kernel goes with the worker.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

enum Ending {
    Exited(ExitStatus),
    TimedOut,
    Stopped,
}

/// Runs the words of a mount command that is to mount something at `at`.
pub(super) fn run_mount(cx: &MountContext<'_>, side: Side, words: Vec<String>, at: &Path) -> Result<(), MountError> {
    let what = format!("mount command of the {}", side_name(side));
    mounting_nowhere_else(&what, at, || run(cx, &what, words, cx.is_stopped))
}

/// Runs the words of an unmount command; a stop does not keep it from cleaning up.
pub(super) fn run_unmount(cx: &MountContext<'_>, words: Vec<String>, at: &Path) -> Result<(), MountError> {
    let what = "unmount command";
    mounting_nowhere_else(what, at, || run(cx, what, words, &|| false))
}

/// Sees to it that a command changes nothing but its mount point: after anything else no program of this machine may
/// be run any more, because any of them can be another one by then.
fn mounting_nowhere_else(
    what: &str,
    at: &Path,
    run: impl FnOnce() -> Result<(), MountError>,
) -> Result<(), MountError> {
    let before = strays(at)?;
    let ended = run();
    match strays(at)?.iter().find(|(id, _)| !before.iter().any(|(known, _)| known == id)) {
        Some((_, stray)) => Err(MountError::not_safe(format!(
            "the {what} mounted something at `{}`, which is not its mount point",
            crate::shown(stray)
        ))),
        None => ended,
    }
}

/// What this worker mounted anywhere else than at or below `at`.
fn strays(at: &Path) -> Result<Vec<(u64, PathBuf)>, MountError> {
    let mounts = table::below(Path::new("/"))
        .map_err(|error| MountError::failed(format!("cannot read the table of mounts: {error}")))?;
    let strays = mounts.into_iter().filter(|mount| !mount.is_foreign && !mount.at.starts_with(at));
    Ok(strays.map(|mount| (mount.id, mount.at)).collect())
}

fn run(cx: &MountContext<'_>, what: &str, words: Vec<String>, is_stopped: &dyn Fn() -> bool) -> Result<(), MountError> {
    let cannot = |what: &str, error: std::io::Error| MountError::failed(format!("cannot {what}: {error}"));
    let hidden = secrets::hide(words).map_err(|errno| cannot("hide the secrets of a command", errno.into()))?;
    let program = argv::program(cx.settings, &hidden.words[0])?;
    let (said, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
        .map_err(|errno| cannot("make a pipe", errno.into()))?;
    // The helper's end blocks, as programs expect it.
    rustix::io::ioctl_fionbio(&writer, false).map_err(|errno| cannot("make a pipe", errno.into()))?;
    let second = writer.try_clone().map_err(|error| cannot("make a pipe", error))?;
    let mut command = Command::new(&program);
    command
        .args(&hidden.words[1..])
        .env_clear()
        .envs([("PATH", argv::PROGRAM_DIRS.join(":")), ("LC_ALL", "C.UTF-8".into())])
        .envs(hidden.environment.iter().map(|(key, value)| (*key, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(second)
        .process_group(0);
    as_root(&mut command);
    sys::prepare(&mut command, sys::Preparation::default());
    let mut child = command.spawn().map_err(|error| cannot(&format!("run `{}`", crate::shown(&program)), error))?;
    // Its own copies of the pipe's end: without them the pipe ends with the helper.
    drop(command);
    let mut words_said = Said { pipe: said, tail: Vec::new() };
    let ending = wait(&mut child, &mut words_said, cx.settings.timeout, is_stopped)
        .map_err(|error| cannot(&format!("wait for the {what}"), error))?;
    if !matches!(ending, Ending::Exited(_)) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        // Without an answer it is left to the end of the process namespace.
        let _ = wait(&mut child, &mut words_said, KILL_TIMEOUT, &|| false);
    }
    words_said.listen();
    drop(hidden.file);
    match ending {
        Ending::Exited(status) if status.success() => Ok(()),
        Ending::Stopped => Err(MountError::Stopped),
        Ending::Exited(status) => {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("failed with exit code {code}"),
                (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
            };
            Err(MountError::failed(format!("the {what} {how}{}", words_said.text(cx))))
        }
        Ending::TimedOut => Err(MountError::failed(format!(
            "the {what} did not end within {} s and was killed{}",
            cx.settings.timeout.as_secs_f64(),
            words_said.text(cx)
        ))),
    }
}

/// Mount programs ask whether they are root before they ask the kernel, whatever capabilities they have. Where the
/// service is another user that may become root, they do; without new privileges they have no more rights than it.
fn as_root(command: &mut Command) {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    if !geteuid().is_root() && has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID) {
        command.uid(0).gid(0);
    }
}

/// What a helper said, up to now.
struct Said {
    pipe: OwnedFd,
    tail: Vec<u8>,
}

impl Said {
    /// Takes what is there. The end of the pipe may never come: what the helper left running can have it too.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.pipe, &mut buffer[..]) {
                Ok(0) => return false,
                Ok(count) => {
                    self.tail.extend(&buffer[..count]);
                    let surplus = self.tail.len().saturating_sub(SAID_BYTES_MAX);
                    self.tail.drain(..surplus);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return true,
            }
        }
    }

    /// In one line, without secrets, for the end of a message.
    fn text(&self, cx: &MountContext<'_>) -> String {
        #[expect(clippy::disallowed_methods, reason = "what a program says is text for people")]
        let text = String::from_utf8_lossy(&self.tail);
        // Before lines are joined: a value that ends with its line must not grow.
        let text = cx.masker.mask(&text);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let line: String = lines.join("; ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if line.is_empty() { String::new() } else { format!(": {line}") }
    }
}

fn wait(
    child: &mut std::process::Child,
    said: &mut Said,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> std::io::Result<Ending> {
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let start = Instant::now();
    let mut is_open = true;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ending::Exited(status));
        }
        if is_stopped() {
            return Ok(Ending::Stopped);
        }
        let Some(left) = timeout.checked_sub(start.elapsed()) else { return Ok(Ending::TimedOut) };
        let slice = left.min(GLANCE).max(Duration::from_millis(1));
        let slice = slice.try_into().map_err(|_| rustix::io::Errno::RANGE)?;
        let mut polled = vec![PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)];
        if is_open {
            polled.push(PollFd::from_borrowed_fd(said.pipe.as_fd(), PollFlags::IN));
        }
        match poll(&mut polled, Some(&slice)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        is_open = is_open && said.listen();
    }
}
