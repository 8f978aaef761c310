//! The steps that taking and giving back have in common: asking the database again while it is away, changing rules
//! under their lock, telling the share manager, and waiting for it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use oslo::messaging::Context;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::database::{Database, DatabaseError, Mapping, ShareInstance};
use crate::lock::{InstanceLocks, LockError};
use crate::share_manager::ShareManager;

/// Between two looks at what the share manager has done: it often takes well below a second, and never needs to be found
/// out sooner than a person notices.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A share manager may have set a message aside because another change of the same instance was under way, which then
/// failed; and brokers lose messages. After so long it is told again what it has not begun with.
const TELL_AGAIN_AFTER: Duration = Duration::from_secs(20);

/// One operation of the database, even where the time for all of them is over.
const OPERATION_TIME: Duration = Duration::from_secs(10);

/// Why a step could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("{}", chain(.0))]
    Lock(#[from] LockError),
    #[error("Manila's database did not answer within {} s", .0.as_secs())]
    DatabaseSilent(Duration),
    /// In words for people.
    #[error("{0}")]
    Said(String),
}

impl StepError {
    pub(super) fn is_gone(&self) -> bool {
        matches!(self, Self::Database(DatabaseError::NotFound { .. }))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What the steps work with.
#[derive(Debug)]
pub(super) struct World {
    pub(super) database: Arc<dyn Database>,
    pub(super) share_manager: Arc<dyn ShareManager>,
    pub(super) locks: InstanceLocks,
    /// `data_access_wait_access_rules_timeout`
    pub(super) limit: Duration,
}

/// The work on one instance, with its time.
#[derive(Debug)]
pub(super) struct Work<'a> {
    pub(super) world: &'a World,
    pub(super) instance_id: &'a str,
    pub(super) context: &'a Context,
    pub(super) deadline: Instant,
}

/// Growing pauses between two looks.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Ends at the deadline at the latest; `false`: it had passed.
    pub(super) async fn pause(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        sleep(self.0.min(left)).await;
        self.0 = (self.0 * 5 / 4).min(PAUSE_MAX);
        true
    }
}

/// When the share manager was told, and that it is told again.
#[derive(Debug)]
pub(super) struct Told(Instant);

impl<'a> Work<'a> {
    pub(super) fn new(world: &'a World, instance_id: &'a str, context: &'a Context) -> Self {
        Self { world, instance_id, context, deadline: Instant::now() + world.limit }
    }

    /// Asks the database until it answers or the time is over.
    pub(super) async fn ask<T, F>(&self, mut question: impl FnMut() -> F) -> Result<T, StepError>
    where
        F: Future<Output = Result<T, DatabaseError>>,
    {
        let mut pauses = Pauses::new();
        loop {
            let limit = self.deadline.max(Instant::now() + OPERATION_TIME);
            match timeout_at(limit, question()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error @ DatabaseError::Unavailable(_))) => {
                    if !pauses.pause(self.deadline).await {
                        return Err(error.into());
                    }
                }
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(StepError::DatabaseSilent(self.world.limit)),
            }
        }
    }

    pub(super) async fn instance(&self) -> Result<Option<ShareInstance>, StepError> {
        self.ask(|| self.world.database.instance(self.instance_id)).await
    }

    pub(super) async fn mappings(&self, ids: &[&str]) -> Result<Vec<Mapping>, StepError> {
        self.ask(|| self.world.database.mappings(ids)).await
    }

    /// Changes rules of the instance under its lock. A change that has begun goes on to its end also when nobody waits
    /// for it any more, and keeps the lock until then: whoever gives back afterwards finds all that was made.
    pub(super) async fn change<T, C, F>(&self, change: C) -> Result<T, StepError>
    where
        T: Send + 'static,
        C: Fn(Arc<dyn Database>) -> F,
        F: Future<Output = Result<T, DatabaseError>> + Send + 'static,
    {
        self.ask_locked(change).await?.map_err(StepError::from)
    }

    async fn ask_locked<T, C, F>(&self, change: C) -> Result<Result<T, DatabaseError>, StepError>
    where
        T: Send + 'static,
        C: Fn(Arc<dyn Database>) -> F,
        F: Future<Output = Result<T, DatabaseError>> + Send + 'static,
    {
        let mut pauses = Pauses::new();
        loop {
            let lock = self.world.locks.lock(self.instance_id, self.deadline).await?;
            let changing = change(self.world.database.clone());
            let task = tokio::spawn(async move {
                let answer = changing.await;
                drop(lock);
                answer
            });
            let limit = self.deadline.max(Instant::now() + OPERATION_TIME);
            let answer = match timeout_at(limit, task).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(broken)) => {
                    return Err(StepError::Said(format!("a change of access rules broke off: {broken}")));
                }
                Err(_) => return Err(StepError::DatabaseSilent(self.world.limit)),
            };
            let is_away = matches!(answer, Err(DatabaseError::Unavailable(_)));
            if !is_away || !pauses.pause(self.deadline).await {
                return Ok(answer);
            }
        }
    }

    /// Tells the share manager that there is something to do, until the broker took it or the time is over.
    pub(super) async fn tell(&self, host: &str) -> Result<Told, StepError> {
        let mut pauses = Pauses::new();
        loop {
            match self.world.share_manager.update_access(self.context, host, self.instance_id).await {
                Ok(()) => return Ok(Told(Instant::now())),
                Err(error) => {
                    warn!(instance = self.instance_id, %error, "the share manager cannot be told of access rules");
                    if !pauses.pause(self.deadline).await {
                        let message = format!("the share manager of {host} cannot be told of access rules: {error}");
                        return Err(StepError::Said(message));
                    }
                }
            }
        }
    }

    /// Tells it again, once, where it was told long ago and has not begun. That a broker is away now is no reason to end
    /// the wait.
    pub(super) async fn tell_again(&self, told: &mut Told, host: &str) {
        if told.0.elapsed() < TELL_AGAIN_AFTER {
            return;
        }
        told.0 = Instant::now();
        warn!(instance = self.instance_id, host, "the share manager has not begun with access rules; it is told again");
        if let Err(error) = self.world.share_manager.update_access(self.context, host, self.instance_id).await {
            warn!(instance = self.instance_id, %error, "the share manager cannot be told of access rules");
        }
    }
}
