//! SIGINT and SIGTERM: the first one asks the engine to stop, the second one ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread::JoinHandle;

use copy::{StopReason, StopToken};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::ui::console::Console;

/// Listens until it is finished or dropped.
#[derive(Debug)]
pub struct StopSignals {
    received: Arc<AtomicI32>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl StopSignals {
    pub fn listen(stop: StopToken, console: Arc<Console>) -> io::Result<Self> {
        end_at_the_second()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        let handle = signals.handle();
        let received = Arc::new(AtomicI32::new(0));
        let first = Arc::clone(&received);
        let thread = std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in &mut signals {
                // Stored before the stop, so that who sees the stop finds the signal.
                first.store(signal, Ordering::SeqCst);
                stop.stop(if signal == SIGINT { StopReason::Cancel } else { StopReason::Shutdown });
                console.note("stopping ... (press again to exit at once)");
            }
        })?;
        Ok(Self { received, handle, thread: Some(thread) })
    }

    /// Ends the listening, and tells which signal came, if one did.
    pub fn finish(mut self) -> Option<i32> {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It ends by itself once the handle is closed; it does nothing that can panic.
            let _ = thread.join();
        }
        Some(self.received.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
    }
}

/// The second SIGINT or SIGTERM ends the process, even where no thread gets to run.
fn end_at_the_second() -> io::Result<()> {
    // Set by the first signal, in the handler itself. Order matters: the check comes before the setting.
    let armed = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&armed))?;
        signal_hook::flag::register(signal, Arc::clone(&armed))?;
    }
    Ok(())
}

/// The same two signals for what is asynchronous: each is told, the second one ends the process.
#[derive(Debug)]
pub struct AsyncSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl AsyncSignals {
    /// Within a runtime.
    pub fn listen() -> io::Result<Self> {
        end_at_the_second()?;
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The number of the next one. Nothing is lost where the future is dropped.
    pub async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SIGINT,
            _ = self.terminate.recv() => SIGTERM,
        }
    }
}

/// Ends the process by `signal`, so that the parent sees what happened. Returns only where that cannot be done.
pub fn die_of(signal: i32) {
    // An error leaves the caller with the exit code, which says the same to a shell.
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
