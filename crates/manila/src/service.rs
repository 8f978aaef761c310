//! The data service of Manila, put together: its row among the services, what an earlier one left behind, requests,
//! heartbeats, in upstream's order.
//!
//! It starts also while database or broker are away, and waits for them; jobs and the other front doors do not wait
//! with it.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use job::DataService;
use oslo::messaging::rabbit::{LinkState, LinkStatus, RabbitStatus, RabbitTransport};
use oslo::messaging::{Server, ServerOptions, Transport};
use tokio::select;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, error, info, warn};

use crate::backup::{self, BackupAction};
use crate::endpoint::Endpoint;
use crate::heartbeat::{BINARY, Heartbeat, JobStore, Pulse};
use crate::lock::InstanceLocks;
use crate::migration::Peers;
use crate::settings::BackupDriver;
use crate::startup;

/// Between two tries to reach the database, or to listen at a broker that refuses.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// So many heartbeats may be missed before that is a trouble: others take the service for dead after six.
const BEATS_MISSED_MAX: u32 = 3;

/// What the service is made of.
#[derive(Clone, Debug)]
pub struct Parts {
    pub peers: Peers,
    pub jobs: Arc<dyn DataService>,
    pub transport: Arc<dyn Transport>,
    /// Of the same transport.
    pub broker: Arc<dyn BrokerHealth>,
    pub server: ServerOptions,
    pub job_store: JobStore,
}

/// Tells how the connections to the message broker are.
pub trait BrokerHealth: Send + Sync + fmt::Debug {
    /// One line for each that is not as it should be: since when, and why.
    fn troubles(&self) -> Vec<String>;
}

impl BrokerHealth for RabbitTransport {
    fn troubles(&self) -> Vec<String> {
        let RabbitStatus { listeners, sender } = self.status();
        listeners.iter().chain(&sender).filter_map(link_trouble).collect()
    }
}

fn link_trouble(link: &LinkStatus) -> Option<String> {
    let state = match &link.state {
        LinkState::Connected { .. } => return None,
        LinkState::Connecting => "there is no connection to a message broker".to_owned(),
        LinkState::Blocked { broker } => format!("the message broker {broker} takes no messages"),
    };
    let seconds = link.since.elapsed().unwrap_or_default().as_secs();
    let why = link.last_error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    Some(format!("for {seconds} s now {state} ({}){why}", link.purpose))
}

/// The service at work. Dropped, it breaks off.
#[derive(Debug)]
pub struct ManilaService {
    stop: CancellationToken,
    /// Also where it broke off.
    ended: CancellationToken,
    broker: Arc<dyn BrokerHealth>,
    state: Arc<Mutex<State>>,
    report_interval: Duration,
}

/// How far the service has come.
#[derive(Debug)]
enum State {
    /// What it waits for, and why that has failed so far.
    Starting {
        what: &'static str,
        since: Instant,
        trouble: Option<String>,
    },
    Serving {
        pulse: Pulse,
    },
}

impl ManilaService {
    /// Returns at once: what cannot be reached yet is waited for by the service itself.
    pub fn start(parts: Parts) -> Self {
        let stop = CancellationToken::new();
        let state = Arc::new(Mutex::new(State::starting(REGISTERING)));
        let (broker, report_interval) = (parts.broker.clone(), parts.peers.settings.report_interval);
        let run = Run { parts, stop: stop.clone(), state: state.clone(), tasks: TaskTracker::new() };
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let task = async move {
            let _end = end;
            run.run().await;
        };
        tokio::spawn(task.in_current_span());
        Self { stop, ended, broker, state, report_interval }
    }

    /// Whether requests are taken.
    pub fn is_serving(&self) -> bool {
        matches!(*lock(&self.state), State::Serving { .. }) && !self.ended.is_cancelled()
    }

    /// What keeps the service from doing its work, one line each; nothing: all is well.
    pub fn troubles(&self) -> Vec<String> {
        let mut troubles = self.broker.troubles();
        if self.ended.is_cancelled() {
            troubles.push("requests of Manila are not taken any more".into());
            return troubles;
        }
        match &*lock(&self.state) {
            State::Starting { what, since, trouble } => {
                let why = trouble.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                troubles.push(format!("for {} s now the service waits for {what}{why}", since.elapsed().as_secs()));
            }
            State::Serving { pulse } => {
                let silence = pulse.last_beat().elapsed();
                if !self.report_interval.is_zero() && silence > self.report_interval * BEATS_MISSED_MAX {
                    let seconds = silence.as_secs();
                    troubles.push(format!("Manila's database has taken no heartbeat for {seconds} s"));
                }
            }
        }
        troubles
    }

    /// Takes no more requests, and then shows itself stopped. What is not acknowledged by then stays at the broker.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.ended.cancelled().await;
    }
}

impl Drop for ManilaService {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const REGISTERING: &str = "Manila's database, to be registered there";
const SCANNING: &str = "Manila's database, to look for shares that were left behind";
const LISTENING: &str = "a message broker";

impl State {
    fn starting(what: &'static str) -> Self {
        Self::Starting { what, since: Instant::now(), trouble: None }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Run {
    parts: Parts,
    stop: CancellationToken,
    state: Arc<Mutex<State>>,
    tasks: TaskTracker,
}

impl Run {
    async fn run(self) {
        let Parts { peers, jobs, .. } = &self.parts;
        let (database, settings) = (&peers.database, &peers.settings);
        let register = || Heartbeat::register(database.clone(), settings, self.parts.job_store);
        let Some(heartbeat) = self.until_done(REGISTERING, register).await else { return };
        let stop_beating = CancellationToken::new();
        let server = self.begin_serving(&heartbeat, peers, jobs).await;
        // Heartbeats begin with the service: until it takes requests nobody should send any.
        let beating = tokio::spawn(heartbeat.run(stop_beating.clone()).in_current_span());
        if let Some(server) = server {
            info!(host = settings.host, "requests of Manila are taken");
            self.stop.cancelled().await;
            server.stop().await;
        }
        self.tasks.close();
        self.tasks.wait().await;
        stop_beating.cancel();
        if let Err(panic) = beating.await {
            error!(error = %panic, "the heartbeat broke off");
        }
    }

    /// `None`: the service stops.
    async fn begin_serving(&self, heartbeat: &Heartbeat, peers: &Peers, jobs: &Arc<dyn DataService>) -> Option<Server> {
        let left_behind = self.until_done(SCANNING, || startup::scan(peers, &**jobs)).await?;
        let locks = InstanceLocks::new(peers.settings.lock_path.clone());
        startup::finish(&self.tasks, peers, &locks, left_behind, &self.stop);
        let endpoint = Arc::new(Endpoint::new(peers.clone(), jobs.clone()));
        let listen = || {
            let (transport, options) = (self.parts.transport.clone(), self.parts.server.clone());
            Server::start(transport, BINARY, peers.settings.host.as_str(), endpoint.clone(), options)
        };
        let server = self.until_done(LISTENING, listen).await?;
        self.watch_backups(peers, jobs, locks);
        *lock(&self.state) = State::Serving { pulse: heartbeat.pulse() };
        Some(server)
    }

    fn watch_backups(&self, peers: &Peers, jobs: &Arc<dyn DataService>, locks: InstanceLocks) {
        let backups = &peers.settings.backup;
        if backups.driver == BackupDriver::Directory && backups.export.is_none() {
            debug!("backup_mount_export is not set: requests for backups will fail, each with that reason");
        }
        for action in [BackupAction::Create, BackupAction::Restore] {
            let shown = backup::show_progress(peers.clone(), jobs.clone(), action, self.stop.clone());
            self.tasks.spawn(shown.in_current_span());
        }
        let ended = backup::end_lost(peers.clone(), jobs.clone(), locks, self.stop.clone());
        self.tasks.spawn(ended.in_current_span());
    }

    /// Tries again and again. `None`: the service stops.
    async fn until_done<T, E, F>(&self, what: &'static str, mut attempt: impl FnMut() -> F) -> Option<T>
    where
        E: fmt::Display,
        F: Future<Output = Result<T, E>>,
    {
        *lock(&self.state) = State::starting(what);
        loop {
            let done = select! {
                done = attempt() => done,
                () = self.stop.cancelled() => return None,
            };
            match done {
                Ok(done) => return Some(done),
                Err(why) => self.note_trouble(what, &why.to_string()),
            }
            select! {
                () = sleep(RETRY_PAUSE) => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Logged when it is another one, not each time.
    fn note_trouble(&self, what: &str, why: &str) {
        if let State::Starting { trouble, .. } = &mut *lock(&self.state)
            && trouble.as_deref() != Some(why)
        {
            warn!(why, "requests of Manila are not taken yet: the service waits for {what}");
            *trouble = Some(why.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_connection_that_is_not_as_it_should_be_is_told() {
        let check = |state: LinkState, last_error: Option<&str>, expected: Option<&str>| {
            let since = SystemTime::now() - Duration::from_secs(70);
            let link = LinkStatus { purpose: "requests".into(), state, since, last_error: last_error.map(Into::into) };
            assert_eq!(link_trouble(&link).as_deref(), expected);
        };
        check(LinkState::Connected { broker: "h:5672".into() }, None, None);
        check(
            LinkState::Connecting,
            Some("connection refused"),
            Some("for 70 s now there is no connection to a message broker (requests): connection refused"),
        );
        check(
            LinkState::Blocked { broker: "h:5672".into() },
            None,
            Some("for 70 s now the message broker h:5672 takes no messages (requests)"),
        );
    }
}
