//! Access rules of the instances that a migration or a backup works on: made before its mounts, removed after them.
//!
//! A hold names every rule and mapping that may come to exist, so that it alone says what to remove, whenever the
//! service ends in between. Rules of the tenant are never changed: where one lets this machine in already, it is used.

mod give_back;
mod grant;
mod steps;
mod take;

use std::sync::Arc;

use async_trait::async_trait;
use job::{AccessError, Hold, Job, PassKind, ShareAccess, Side};
use oslo::messaging::Context;

use crate::database::Database;
use crate::endpoint::Task;
use crate::lock::InstanceLocks;
use crate::settings::Settings;
use crate::share_manager::ShareManager;
use grant::{Grant, Identity};
use steps::{StepError, Work, World};

/// Lets this machine in to the instances of a migration or a backup, by access rules that their share managers apply.
///
/// Takes part in Manila's jobs alone; the others need nothing of it.
#[derive(Debug)]
pub struct ManilaAccess {
    world: World,
    identity: Identity,
}

impl ManilaAccess {
    pub fn new(database: Arc<dyn Database>, share_manager: Arc<dyn ShareManager>, settings: &Settings) -> Self {
        let locks = InstanceLocks::new(settings.lock_path.clone());
        let limit = settings.data_access_wait_access_rules_timeout;
        let world = World { database, share_manager, locks, limit };
        Self { world, identity: Identity::of(settings) }
    }
}

#[async_trait]
impl ShareAccess for ManilaAccess {
    fn needed(&self, job: &Job, _: PassKind) -> Vec<Hold> {
        match Task::of(job) {
            Some(Task::Migration(migration)) => grant::holds(&migration, &self.identity),
            Some(Task::Backup(backup)) => grant::holds_of_backup(&backup, &self.identity),
            None => Vec::new(),
        }
    }

    async fn take(&self, job: &Job, hold: &Hold) -> Result<Hold, AccessError> {
        let Hold::Access { side, grant } = hold else {
            return Err(AccessError { side: None, message: format!("{} is not Manila's", hold.what()) });
        };
        let grant = Grant::of(grant).map_err(failed(*side))?;
        let context = context(job);
        let work = Work::new(&self.world, &grant.instance, &context);
        take::take(&work, &grant, *side).await.map_err(|error: StepError| failed(*side)(error.to_string()))?;
        Ok(hold.clone())
    }

    async fn give_back(&self, job: &Job, hold: &Hold) -> Result<(), AccessError> {
        let Hold::Access { side, grant } = hold else { return Ok(()) };
        let grant = Grant::of(grant).map_err(failed(*side))?;
        let context = context(job);
        let work = Work::new(&self.world, &grant.instance, &context);
        give_back::give_back(&work, &grant).await.map_err(|error: StepError| failed(*side)(error.to_string()))
    }
}

fn failed(side: Side) -> impl Fn(String) -> AccessError {
    move |message| AccessError { side: Some(side), message }
}

/// Casts are made in the name of whoever asked for the job.
fn context(job: &Job) -> Context {
    match Task::of(job) {
        Some(Task::Migration(migration)) => migration.context,
        Some(Task::Backup(backup)) => backup.context,
        None => Context::admin(),
    }
}
