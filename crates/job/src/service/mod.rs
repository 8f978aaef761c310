//! The service: takes requests, keeps them, carries them out, and answers when they are done.
//!
//! A door's change is a compare and set on the stored job; then the one who must act is woken and looks at what the
//! job is now. `shared` has what all parts have in common, `doors` is what front doors ask of it, and each of the other
//! modules is one task that runs as long as the service.

mod board;
mod doors;
mod events;
mod leases;
mod retention;
mod scheduler;
mod schedules;
mod shared;
mod tell;
mod totals;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use crate::ports::StoreError;
use crate::schedule::Timetable;
use crate::settings::{Ports, Retention, Scheduling, Settings};

pub(crate) use board::RunHandle;
pub(crate) use shared::{Shared, chain, is_nothing_new};

/// Runs until [`Service::shut_down`]. Clones are the same service.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Takes up every job of this node that has not ended, and begins to work.
    pub async fn start(ports: Ports, settings: Settings) -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::new(ports, settings));
        let last_event = shared.heard(shared.ports.store.last_event().await)?;
        let tasks = &shared.tasks;
        // Before anything is claimed: a lease must be kept from its first moment.
        tasks.spawn(leases::keep(shared.clone()));
        if let Err(error) = scheduler::refresh(&shared).await {
            let started = Self { shared };
            started.shut_down(Duration::ZERO).await;
            return Err(error);
        }
        tasks.spawn(events::follow(shared.clone(), last_event));
        tasks.spawn(tell::deliver(shared.clone()));
        tasks.spawn(retention::keep_tidy(shared.clone()));
        tasks.spawn(schedules::fire(shared.clone()));
        // Among the runners, because it makes them.
        shared.runners.spawn(scheduler::schedule(shared.clone()));
        info!(node = shared.node.as_str(), "the service has started");
        Ok(Self { shared })
    }

    /// Counts what `troubles` says among the service's own, from now on: of doors and adapters that it cannot see.
    pub fn watch(&self, troubles: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.shared.watch(Box::new(troubles));
    }

    /// Takes effect on the next decision; jobs that run go on.
    pub fn reload(&self, scheduling: Scheduling, retention: Retention) {
        self.shared.reload(scheduling, retention);
    }

    /// Replaces all schedules. One that fires at the same times as before goes on; any other begins now.
    pub fn reload_schedules(&self, schedules: Vec<Timetable>) {
        self.shared.schedules.reload(schedules, self.shared.now());
    }

    /// Parks all jobs: workers stop, what is held is given back, the jobs stay unfinished. Answers how many did not
    /// come to rest in time; their work is broken off, and the next start takes them up.
    pub async fn shut_down(&self, within: Duration) -> usize {
        let shared = &self.shared;
        let deadline = Instant::now() + within;
        shared.parking.cancel();
        shared.runners.close();
        let at_rest = timeout_at(deadline, shared.runners.wait()).await;
        let restless: Vec<_> = {
            let board = shared.board();
            board.runs().iter().map(|(id, run)| (*id, run.task.clone())).collect()
        };
        if at_rest.is_err() {
            for (id, task) in &restless {
                warn!(job_id = %id, "the job did not come to rest in time");
                task.iter().for_each(tokio::task::AbortHandle::abort);
            }
        }
        shared.ended.cancel();
        shared.tasks.close();
        // What these still do is one look at the store, or one try to tell somebody.
        let _ = timeout_at(deadline, shared.tasks.wait()).await;
        info!("the service has ended");
        restless.len()
    }
}
