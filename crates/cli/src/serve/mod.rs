//! The service: wires store, workers, scheduler and doors, and lives until a signal ends it.

mod manila;
mod ports;
mod reload;
mod start;
mod supervisor;
#[cfg(feature = "otlp")]
mod traces;

use std::sync::Arc;
use std::time::Duration;

use job::{DataService as _, Service};
use oslo::log::Log;
use store::SqlStore;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Loaded, Overrides};
use crate::doctor::{self, Verdict};
use crate::error::{CliError, chain};
use crate::exit::Exit;
use crate::signals::AsyncSignals;
pub use start::StartError;

/// Its log is named after it.
const PROGRAM: &str = "manila-data";
/// From the signal to the last parked job. Those that do not come to rest are ended; they go on at the next start.
const PARKING_TIME: Duration = Duration::from_secs(8);
/// For everything behind it, so that the whole takes less than 10 s.
const ENDING_TIME: Duration = Duration::from_secs(1);
/// Between two looks whether what the supervisor shows is still so.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

pub fn run(overrides: &Overrides) -> Result<Exit, CliError> {
    web::install_crypto();
    let loaded = config::load(overrides)?;
    let config = &loaded.config;
    #[cfg(feature = "otlp")]
    let traces = config.traces.as_ref().map(|traces| traces::Traces::start(traces, &config.host));
    #[cfg(feature = "otlp")]
    let traces = traces.transpose().map_err(StartError::Traces)?;
    #[cfg(feature = "otlp")]
    let beside = traces.as_ref().map(traces::Traces::layer);
    #[cfg(not(feature = "otlp"))]
    let beside = None;
    let log = Log::start(&config.log, PROGRAM, beside).map_err(StartError::Log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), host = config.host, "manila-data starts");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let result = start::prepare_state_dir(&config.state_path).map_err(CliError::from).and_then(|()| {
        warn_of_machine(config);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
        let result = runtime.block_on(serve(overrides, &loaded, &log));
        // What still hangs then is storage that does not answer; it must not keep the process.
        runtime.shutdown_timeout(ENDING_TIME);
        result
    });
    #[cfg(feature = "otlp")]
    if let Some(traces) = traces {
        traces.finish();
    }
    match &result {
        Ok(_) => tracing::info!("manila-data has ended"),
        // Standard error has the hint, too; this line is for those who read the log alone.
        Err(error) => tracing::error!(error = chain(error), "manila-data cannot go on"),
    }
    result
}

/// What this machine lacks, a line for each.
fn warn_of_machine(config: &Config) {
    for check in doctor::machine(config).iter().filter(|check| check.verdict != Verdict::Ok) {
        let advice = check.advice.as_deref().unwrap_or_default();
        tracing::warn!(check = check.name, found = check.found, advice, "this machine could offer more");
    }
}

/// Parts that live as long as the service.
struct Running {
    store: Arc<SqlStore>,
    service: Service,
    /// `None`: the service knows no Manila.
    manila: Option<manila::Manila>,
    doors: web::Handle,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

async fn serve(overrides: &Overrides, loaded: &Loaded, log: &Log) -> Result<Exit, CliError> {
    let config = &loaded.config;
    let mut signals = Signals::listen().map_err(CliError::Signals)?;
    let mut running = start::start(config).await?;
    tracing::info!(
        socket = config.api.socket.as_deref().map(tracing::field::debug),
        listen = config.api.listen.map(tracing::field::display),
        "ready"
    );
    let mut status = Status::default();
    supervisor::ready(status.of(&running.service).await.as_deref().unwrap_or("ready"));
    let mut status_tick = interval(STATUS_INTERVAL);
    let watchdog = supervisor::watchdog_interval();
    // Without a watchdog the branch is off; an interval has to have some length.
    let mut watchdog_tick = interval(watchdog.unwrap_or(STATUS_INTERVAL));
    for tick in [&mut status_tick, &mut watchdog_tick] {
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    enum Happened {
        Ask(Asked),
        DoorsClosed,
        Status,
        Watchdog,
    }
    loop {
        let happened = tokio::select! {
            asked = signals.next() => Happened::Ask(asked),
            _ = &mut running.serving => Happened::DoorsClosed,
            _ = status_tick.tick() => Happened::Status,
            _ = watchdog_tick.tick(), if watchdog.is_some() => Happened::Watchdog,
        };
        match happened {
            Happened::Ask(Asked::Reload) => reload::reload(overrides, loaded, log, &running),
            Happened::Ask(Asked::End(number)) => {
                tracing::info!(signal = number, "ending; a second signal ends at once");
                break;
            }
            Happened::DoorsClosed => {
                park(running).await;
                return Err(StartError::DoorsClosed.into());
            }
            Happened::Status => {
                if let Some(status) = status.of(&running.service).await {
                    supervisor::status(&status);
                }
            }
            Happened::Watchdog => {
                // A service that does not answer is to be started again.
                let patience = watchdog.unwrap_or(STATUS_INTERVAL);
                if timeout(patience, running.service.figures()).await.is_ok() {
                    supervisor::is_alive();
                }
            }
        }
    }
    park(running).await;
    Ok(Exit::Done)
}

/// Lets nobody in any more, and brings every job to rest.
async fn park(running: Running) {
    supervisor::stopping("parking jobs");
    let start = Instant::now();
    running.shutdown.cancel();
    let manila = match running.manila {
        Some(manila) => Some(manila.stop().await),
        None => None,
    };
    let left = running.service.shut_down(PARKING_TIME).await;
    if left > 0 {
        tracing::warn!(jobs = left, "not all jobs came to rest; they go on at the next start");
    }
    let ended = async {
        if !running.serving.is_finished() {
            // It panicked where this fails, and has said so.
            let _ = running.serving.await;
        }
        running.store.close().await
    };
    if let Some(manila) = manila {
        manila.close().await;
    }
    match timeout(ENDING_TIME, ended).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = chain(&error), "the job store was not closed well"),
        Err(_) => tracing::warn!("callers or the job store do not come to an end"),
    }
    tracing::info!(seconds = start.elapsed().as_secs_f64(), "all jobs are parked");
}

/// The line that the supervisor shows.
#[derive(Default)]
struct Status(String);

impl Status {
    /// `None`: it is still the same, or cannot be told.
    async fn of(&mut self, service: &Service) -> Option<String> {
        let figures = timeout(STATUS_INTERVAL, service.figures()).await.ok()?.ok()?;
        let status = format!("{} running, {} queued", figures.running_jobs, figures.queued_jobs);
        if status == self.0 {
            return None;
        }
        self.0.clone_from(&status);
        Some(status)
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Reload,
    End(i32),
}

struct Signals {
    hangup: Signal,
    end: AsyncSignals,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { hangup: signal(SignalKind::hangup())?, end: AsyncSignals::listen()? })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.hangup.recv() => Asked::Reload,
            number = self.end.next() => Asked::End(number),
        }
    }
}
