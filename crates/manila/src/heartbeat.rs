//! The row in `services` that shows this service alive, and what it tells of other data services.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::database::{Database, DatabaseError, ServiceId, ServiceIdentity};
use crate::settings::Settings;

/// What the row says that the service is, and the topic that it listens to; the API looks for this very word.
pub const BINARY: &str = "manila-data";

/// One statement or two of a database that answers; a beat that takes longer is one that was missed.
const OPERATION_TIME: Duration = Duration::from_secs(30);

/// Whether jobs are stored where other data services find them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStore {
    /// Requests for a job of another service are answered, too.
    Shared,
    /// Any request may come to any service, and only one of them knows the job.
    OfThisHost,
}

/// When the service was last seen alive, for whoever watches its health. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Pulse {
    last: Arc<Mutex<Instant>>,
}

impl Pulse {
    fn new() -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())) }
    }

    fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// The registration counts.
    pub fn last_beat(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the row of this service.
#[derive(Debug)]
pub struct Heartbeat {
    database: Arc<dyn Database>,
    identity: ServiceIdentity,
    id: ServiceId,
    report_interval: Duration,
    cleanup_interval: Duration,
    down_time: Duration,
    job_store: JobStore,
    pulse: Pulse,
    /// Other data services that were alive at the last look.
    neighbours: BTreeSet<String>,
    /// The database failed, and that was said.
    is_away: bool,
}

impl Heartbeat {
    /// Finds or makes the row. Requests may be taken afterwards.
    pub async fn register(
        database: Arc<dyn Database>,
        settings: &Settings,
        job_store: JobStore,
    ) -> Result<Self, DatabaseError> {
        let identity = ServiceIdentity {
            host: settings.host.clone(),
            binary: BINARY.into(),
            topic: BINARY.into(),
            availability_zone: settings.storage_availability_zone.clone(),
            is_enabled: settings.enable_new_services,
        };
        let id = within_time(database.register(&identity)).await?;
        let mut heartbeat = Self {
            database,
            identity,
            id,
            report_interval: settings.report_interval,
            cleanup_interval: settings.cleanup_interval,
            down_time: settings.service_down_time,
            job_store,
            pulse: Pulse::new(),
            neighbours: BTreeSet::new(),
            is_away: false,
        };
        heartbeat.look_around().await?;
        Ok(heartbeat)
    }

    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Beats until `stop`; the row then says `stopped`. The first beat comes after one interval.
    pub async fn run(mut self, stop: CancellationToken) {
        let every = |time: Duration| {
            let mut ticks = interval_at(Instant::now() + time, time);
            // After a time asleep one beat is as good as many.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut beats = (!self.report_interval.is_zero()).then(|| every(self.report_interval));
        let mut cleanups = (!self.cleanup_interval.is_zero()).then(|| every(self.cleanup_interval));
        enum Next {
            Beat,
            Cleanup,
            Stop,
        }
        loop {
            let next = tokio::select! {
                biased;
                () = stop.cancelled() => Next::Stop,
                () = tick(&mut beats) => Next::Beat,
                () = tick(&mut cleanups) => Next::Cleanup,
            };
            let done = match next {
                Next::Stop => break,
                Next::Beat => self.beat().await,
                Next::Cleanup => self.clean_up().await,
            };
            self.heard(done);
        }
        if let Err(error) = within_time(self.database.set_stopped(self.id)).await {
            error!(%error, "the list of services goes on to show this one as it was: its end cannot be written");
        }
    }

    async fn beat(&mut self) -> Result<(), DatabaseError> {
        let id = within_time(self.database.beat(self.id, &self.identity, self.down_time)).await?;
        if id != self.id {
            warn!(
                host = self.identity.host,
                "somebody removed this service from the list of services; it is there again"
            );
            self.id = id;
        }
        self.pulse.beat();
        self.look_around().await
    }

    /// Says which other data services appear.
    async fn look_around(&mut self) -> Result<(), DatabaseError> {
        if self.job_store == JobStore::Shared {
            return Ok(());
        }
        let rows = within_time(self.database.services(&self.identity.topic)).await?;
        let is_alive = |age: Duration, state: Option<&str>| age <= self.down_time && state != Some("stopped");
        let now: BTreeSet<String> = rows
            .into_iter()
            .filter(|row| row.host != self.identity.host && is_alive(row.age, row.state.as_deref()))
            .map(|row| row.host)
            .collect();
        for host in now.difference(&self.neighbours) {
            error!(
                host,
                "another data service is alive, and this one keeps its jobs for itself: requests for progress and \
                 cancellation reach either of the two, and only one of them knows the job; give both the same job store \
                 ([data_service] job_store), or stop one"
            );
        }
        self.neighbours = now;
        Ok(())
    }

    async fn clean_up(&self) -> Result<(), DatabaseError> {
        let removed = within_time(self.database.remove_stopped(&self.identity.topic, self.down_time)).await?;
        if removed > 0 {
            info!(removed, "data services that were stopped are removed from the list of services");
        }
        Ok(())
    }

    /// Says once that the database fails, and once that it works again.
    fn heard(&mut self, done: Result<(), DatabaseError>) {
        match done {
            Err(error) if !self.is_away => {
                error!(%error, "no heartbeat: others will take this service for dead; tried again");
                self.is_away = true;
            }
            Ok(()) if self.is_away => {
                info!("heartbeats work again");
                self.is_away = false;
            }
            Ok(()) | Err(_) => {}
        }
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}

async fn within_time<T>(operation: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    let silent = || DatabaseError::Unavailable(format!("no answer within {} s", OPERATION_TIME.as_secs()));
    timeout(OPERATION_TIME, operation).await.unwrap_or_else(|_| Err(silent()))
}
