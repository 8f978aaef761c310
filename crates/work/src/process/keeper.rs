//! The first process of a worker's namespaces: it mounts, starts the mover, passes on what goes up and down, and takes
//! away what it mounted. When it ends, for whatever reason, the kernel ends everything that it started.

use std::ffi::OsString;
use std::io::{BufReader, Write as _, stdin, stdout};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use job::{Endpoint, Failure, FailureCode, JobSpec, PassFigures, Side, Step, WorkEnding, WorkOrder, WorkResult};
use rustix::io::Errno;
use rustix::process::WaitOptions;

use super::lock::{JobLock, ProcessId};
use super::worker::{name_process, start_mover};
use super::workspace;
use crate::mount::{self, Masker, MountContext, MountError, MountSettings, Mounted, Use};
use crate::namespace::Isolation;
use crate::protocol::{self, ControlDocument, MoveDocument, Order, PassDocument, Told, WorkDocument};
use crate::run::Trees;
use crate::sys;

/// How long an earlier worker of the same job may still be there. It was ended before this one began.
const LOCK_TIMEOUT: Duration = Duration::from_secs(15);

/// When the orders end, the service is gone. The mover gets this long to make durable what it has.
const ORPHAN_GRACE: Duration = Duration::from_secs(3);

/// What a mount helper left running may have to write yet, once its mount is gone.
const DAEMONS_TIMEOUT: Duration = Duration::from_secs(10);

/// Works through one order. What goes wrong with the job is told; an error is one of the worker itself.
pub(super) fn run(prefix: &[OsString], isolation: Isolation, worker: &ProcessId) -> Result<ExitCode, String> {
    name_process(c"data-keeper");
    let mut orders = BufReader::new(stdin());
    let document = match protocol::read(&mut orders) {
        Ok(Some(Order::Work(document))) => document,
        Ok(_) => return Err("the keeper was not told what to do".into()),
        Err(error) => return Err(error.to_string()),
    };
    let state = Arc::new(Orders::default());
    let obeying = state.clone();
    std::thread::Builder::new()
        .name("orders".into())
        .spawn(move || obeying.obey(&mut orders))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let WorkDocument { pass, secrets, mount, sandbox } = *document;
    let order = pass.into_order(&secrets);
    let lock = take_lock(&order, worker);
    let mut keeper = Keeper {
        prefix,
        isolation,
        masker: Arc::new(Masker::new(&order.spec)),
        order,
        settings: mount,
        sandbox,
        orders: state,
        mounted: Vec::new(),
    };
    let last_word = match &lock {
        Err(failure) => Told::Failed { failure: failure.clone() },
        Ok(lock) => {
            let last_word = keeper.work(lock);
            keeper.clean_up();
            last_word
        }
    };
    tell(&last_word);
    // Until here: whoever gets it finds nothing of this worker.
    drop(lock);
    Ok(ExitCode::SUCCESS)
}

fn take_lock(order: &WorkOrder, worker: &ProcessId) -> Result<JobLock, Failure> {
    let failure = |message: String| Failure::new(Step::Mount, FailureCode::Internal, message);
    let mut lock = JobLock::take(&order.workspace, LOCK_TIMEOUT)
        .map_err(|errno| failure(format!("cannot lock the workspace `{}`: {errno}", crate::shown(&order.workspace))))?
        .ok_or_else(|| {
            let message = "an earlier worker of this job is still there; its storage may not answer";
            Failure::new(Step::Mount, FailureCode::WorkerLost, message)
        })?;
    lock.record(worker).map_err(|error| failure(format!("cannot write the lock of the workspace: {error}")))?;
    Ok(lock)
}

/// Says something to the service. If it is gone, the orders have ended too.
fn tell(told: &Told) {
    let _ = protocol::write(&mut stdout(), told);
}

/// What was ordered so far.
#[derive(Debug, Default)]
struct Orders {
    is_stopped: AtomicBool,
    last: Mutex<ControlDocument>,
    /// Where the mover listens, while there is one.
    mover: Mutex<Option<ChildStdin>>,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Orders {
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst)
    }

    fn obey(&self, orders: &mut impl std::io::BufRead) {
        while let Ok(Some(order)) = protocol::read(orders) {
            let Order::Control(control) = order else { continue };
            *hold(&self.last) = control;
            self.pass_on();
        }
        // The service is gone. To the mover the end of its own orders says the same.
        self.is_stopped.store(true, Ordering::SeqCst);
        hold(&self.mover).take();
        std::thread::sleep(ORPHAN_GRACE);
        sys::end_process(1);
    }

    /// Tells the mover the last word. One that does not listen is not waited for.
    fn pass_on(&self) {
        let control = hold(&self.last).clone();
        if control.stop.is_some() {
            self.is_stopped.store(true, Ordering::SeqCst);
        }
        if let (Some(mover), Ok(line)) = (&mut *hold(&self.mover), protocol::encode(&Order::Control(control))) {
            // Shorter than what a pipe takes whole or not at all.
            let _ = mover.write(&line);
        }
    }
}

struct Keeper<'a> {
    prefix: &'a [OsString],
    isolation: Isolation,
    order: WorkOrder,
    settings: MountSettings,
    sandbox: crate::sandbox::SandboxMode,
    masker: Arc<Masker>,
    orders: Arc<Orders>,
    mounted: Vec<Mounted>,
}

impl Keeper<'_> {
    fn work(&mut self, lock: &JobLock) -> Told {
        let trees = match self.mount() {
            Ok(trees) => trees,
            Err(MountError::Failed(failure)) => return Told::Failed { failure },
            Err(MountError::Stopped) => return stopped(),
        };
        if self.orders.is_stopped() {
            return stopped();
        }
        tell(&Told::Mounted);
        self.move_bytes(trees, lock).unwrap_or_else(|text| Told::Lost { text })
    }

    fn mount(&mut self) -> Result<Trees, MountError> {
        let spec: &JobSpec = &self.order.spec;
        let dest_use = if spec.kind.writes() && !spec.options.dry_run { Use::Write } else { Use::Read };
        let uses = [(Side::Source, Use::Read, &spec.source), (Side::Dest, dest_use, &spec.dest)];
        let orders = self.orders.clone();
        let is_stopped = move || orders.is_stopped();
        let cx = MountContext { settings: &self.settings, masker: &self.masker, is_stopped: &is_stopped };
        let workspace = &self.order.workspace;
        if self.isolation == Isolation::Shared {
            let text = "without CAP_SYS_ADMIN workers have no mounts of their own: directories are used as they are";
            tell(&Told::Notice { text: text.into() });
        }
        mount::refuse_nested(cx.settings, &spec.source, (&spec.dest, dest_use))?;
        workspace::make(workspace).map_err(|errno| {
            let message = format!("cannot make the workspace `{}`: {errno}", crate::shown(workspace));
            MountError::Failed(Failure::new(Step::Mount, FailureCode::Internal, message))
        })?;
        let [source, dest]: [PathBuf; 2] = [workspace::SOURCE, workspace::DEST].map(|name| workspace.join(name));
        if self.isolation == Isolation::Shared {
            let [source, dest] = uses.map(|(side, usage, endpoint)| match endpoint {
                Endpoint::None | Endpoint::Url { .. } => Ok(if side == Side::Source { &source } else { &dest }.clone()),
                endpoint => mount::use_directory(cx.settings, (side, usage), endpoint).map(|found| found.path),
            });
            return Ok(Trees { source: source?, dest: dest? });
        }
        for ((side, usage, endpoint), at) in uses.into_iter().zip([&source, &dest]) {
            mount::mount(&cx, (side, usage), endpoint, at, &mut self.mounted)?;
        }
        Ok(Trees { source, dest })
    }

    /// Lets the mover work. `Err`: it died without a last word.
    fn move_bytes(&self, trees: Trees, lock: &JobLock) -> Result<Told, String> {
        let mut mover =
            start_mover(self.prefix, lock.descriptor()).map_err(|error| format!("cannot start the mover: {error}"))?;
        let (Some(mut orders), Some(tidings)) = (mover.stdin.take(), mover.stdout.take()) else {
            return Err("the mover has no pipes".into());
        };
        let document = Order::Move(Box::new(MoveDocument {
            pass: PassDocument::from(&self.order),
            secrets: JobSpec::clone(&self.order.spec).secrets().for_repository(),
            source: trees.source,
            dest: trees.dest,
            sandbox: self.sandbox,
        }));
        // A mover that dies at once is noticed below, with its reason.
        if protocol::write(&mut orders, &document).is_ok() {
            // From here on a mover that hangs must not keep further orders, or their end, from being seen.
            let _ = rustix::io::ioctl_fionbio(&orders, true);
            let mut listening = hold(&self.orders.mover);
            *listening = Some(orders);
        }
        self.orders.pass_on();
        if self.orders.is_stopped() {
            // They may have ended before there was anybody to tell.
            hold(&self.orders.mover).take();
        }
        let mut tidings = BufReader::new(tidings);
        let mut last_word = None;
        let heard = loop {
            match protocol::read(&mut tidings) {
                Ok(Some(told @ (Told::Done { .. } | Told::Failed { .. }))) => last_word = Some(told),
                // Not its words.
                Ok(Some(Told::Mounted | Told::Lost { .. })) => {}
                Ok(Some(told)) => tell(&told),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        if heard.is_err() {
            // It speaks nonsense, so that nothing it does can be relied on.
            let _ = mover.kill();
        }
        let status = mover.wait().map_err(|error| format!("cannot wait for the mover: {error}"))?;
        hold(&self.orders.mover).take();
        match (heard, last_word, status.signal()) {
            (Ok(()), Some(last_word), None) => Ok(last_word),
            (Err(error), ..) => Err(error),
            (_, _, Some(signal)) => Err(format!("the mover was ended by signal {signal}")),
            (_, None, None) => Err(format!("the mover ended without an answer ({status})")),
        }
    }

    /// Takes everything away, within a time: what hangs goes with this process.
    fn clean_up(&mut self) {
        let mounted = std::mem::take(&mut self.mounted);
        let (settings, masker) = (self.settings.clone(), self.masker.clone());
        let commands = u32::try_from(mounted.len()).unwrap_or(u32::MAX);
        let limit = (settings.timeout + settings.busy_timeout) * commands.max(1);
        let (sender, receiver) = mpsc::channel();
        let unmounting = std::thread::Builder::new().name("unmount".into()).spawn(move || {
            let cx = MountContext { settings: &settings, masker: &masker, is_stopped: &|| false };
            // Nobody listens any more where this took too long.
            let _ = sender.send(mount::unmount_all(&cx, mounted));
        });
        let warnings = match unmounting {
            Ok(_) => receiver.recv_timeout(limit).unwrap_or_else(|_| {
                vec!["a mount could not be taken away in time; it goes with the worker".to_owned()]
            }),
            Err(error) => vec![format!("cannot start a thread to unmount: {error}")],
        };
        let is_clean = warnings.is_empty();
        for text in warnings {
            tell(&Told::Warning { text });
        }
        if is_clean {
            wait_for_daemons();
        }
        if let Err(errno) = workspace::remove(&self.order.workspace) {
            let text = format!("the workspace `{}` is not empty yet: {errno}", crate::shown(&self.order.workspace));
            tell(&Told::Warning { text });
        }
    }
}

/// Waits for what mount helpers left running: a file system in user space may still write what its mount took.
fn wait_for_daemons() {
    let start = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(Some(_)) | Err(Errno::INTR) => {}
            _ if start.elapsed() >= DAEMONS_TIMEOUT => return,
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn stopped() -> Told {
    let figures = PassFigures::default();
    Told::Done { result: WorkResult { ending: WorkEnding::Stopped, figures, manifest_root: None, first_fault: None } }
}
