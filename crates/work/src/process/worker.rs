//! What the worker's executable does: the outer process takes namespaces and waits, the keeper mounts, the mover copies.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open};

use super::lock::ProcessId;
use super::{keeper, mover};
use crate::namespace::{self, Isolation};
use crate::sys::{self, Preparation};

/// When the service is gone, its worker stops by itself; this much later it is ended, whatever it does.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(5);

/// The words after the hidden subcommand that say which process this is.
const KEEPER: &str = "keeper";
const MOVER: &str = "mover";

/// A process of a worker, called with what follows the hidden subcommand, before any thread exists.
pub fn worker_main(args: &[OsString]) -> ExitCode {
    let all: Vec<_> = std::env::args_os().skip(1).collect();
    let prefix = &all[..all.len().saturating_sub(args.len())];
    let words: Vec<_> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    let ended = match words.as_slice() {
        [] => outer(prefix),
        [KEEPER, isolation, number, started] => match (Isolation::parse(isolation), number.parse(), started.parse()) {
            (Some(isolation), Ok(number), Ok(started)) => ProcessId::new(number, started)
                .map_err(|error| format!("cannot tell which boot this is: {error}"))
                .and_then(|worker| keeper::run(prefix, isolation, &worker)),
            _ => Err("the words of the keeper are wrong".into()),
        },
        [MOVER] => mover::run(),
        _ => Err("this command is for workers of the service alone".into()),
    };
    match ended {
        Ok(code) => code,
        Err(message) => {
            // The service reads it; nobody is left to tell if it cannot be written.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// Takes namespaces, starts the keeper in them, and waits for its end, or that of the service.
fn outer(prefix: &[OsString]) -> Result<ExitCode, String> {
    let cannot = |what: &str, error: std::io::Error| format!("cannot {what}: {error}");
    name_process(c"data-worker");
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    // Memory of a worker holds secrets and the contents of files.
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(|errno| cannot("forbid core dumps", errno.into()))?;
    let own = ProcessId::of_this_process().map_err(|error| cannot("find this process below /proc", error))?;
    let service = rustix::process::getppid().ok_or("there is no service")?;
    let service_fd =
        pidfd_open(service, PidfdFlags::empty()).map_err(|errno| cannot("watch the service", errno.into()))?;
    if rustix::process::getppid() != Some(service) {
        return Err("the service is gone".into());
    }
    let isolation = namespace::enter().map_err(|errno| cannot("take namespaces", errno.into()))?;
    let words = [KEEPER.into(), isolation.as_str().into(), own.number.to_string(), own.started_ticks.to_string()];
    let mut command = stage(prefix, &words);
    sys::prepare(&mut command, Preparation { dies_with_parent: true, deaf: true, ..Preparation::default() });
    let mut keeper = command.spawn().map_err(|error| cannot("start the keeper", error))?;
    let keeper_fd = pidfd_open(Pid::from_child(&keeper), PidfdFlags::empty())
        .map_err(|errno| cannot("watch the keeper", errno.into()))?;
    let mut orphaned: Option<Instant> = None;
    loop {
        let mut polled = vec![PollFd::from_borrowed_fd(keeper_fd.as_fd(), PollFlags::IN)];
        if orphaned.is_none() {
            polled.push(PollFd::from_borrowed_fd(service_fd.as_fd(), PollFlags::IN));
        }
        let left = orphaned.map(|since| ORPHAN_TIMEOUT.saturating_sub(since.elapsed()));
        let left = left.map(|left| left.try_into().map_err(|_| Errno::RANGE)).transpose();
        match left.and_then(|left| poll(&mut polled, left.as_ref())) {
            Ok(0) => return Err("the service is gone, and the work did not stop".into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(cannot("watch the keeper", errno.into())),
        }
        let is_service_gone = polled.get(1).is_some_and(|service| !service.revents().is_empty());
        if let Some(status) = keeper.try_wait().map_err(|error| cannot("wait for the keeper", error))? {
            return match status.signal() {
                None if status.success() => Ok(ExitCode::SUCCESS),
                None => Ok(ExitCode::FAILURE),
                Some(signal) => Err(format!("the keeper was ended by signal {signal}")),
            };
        }
        if is_service_gone {
            orphaned = Some(Instant::now());
        }
    }
}

/// The command for a further process of this worker.
fn stage(prefix: &[OsString], words: &[String]) -> Command {
    // Also where the file was replaced by a newer one meanwhile, this is the program that runs.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("manila-data").args(prefix).args(words).current_dir("/");
    command
}

/// Starts the mover; the lock of the job is the only descriptor that it has of the keeper's.
pub(super) fn start_mover(prefix: &[OsString], lock: std::os::fd::RawFd) -> std::io::Result<Child> {
    let mut command = stage(prefix, &[MOVER.into()]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let preparation = Preparation { dies_with_parent: true, deaf: true, keep: Some(lock), ..Preparation::default() };
    sys::prepare(&mut command, preparation);
    command.spawn()
}

pub(super) fn name_process(name: &std::ffi::CStr) {
    // For people who look at a list of processes.
    let _ = rustix::thread::set_name(name);
}
