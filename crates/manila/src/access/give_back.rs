//! Taking this machine's access to one instance away again.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::grant::Grant;
use super::steps::{Pauses, StepError, Work};
use crate::database::{Database, Mapping};
use crate::lock::LockError;

/// The share manager writes its summary right after the last rule is gone. Nothing depends on it but how the instance
/// looks to whoever comes next.
const SETTLE_TIME: Duration = Duration::from_secs(10);

/// Removes what was made of a grant, and returns when it is gone. What was never made, or is gone, is fine.
pub(super) async fn give_back(work: &Work<'_>, grant: &Grant) -> Result<(), StepError> {
    let ids: Vec<&str> = grant.rules.iter().map(|rule| rule.mapping.as_str()).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let id = work.instance_id;
    let Some(host) = host(work).await? else {
        // Nobody is left who could take anything away.
        let left = work.mappings(&ids).await?.len();
        if left > 0 {
            warn!(instance = id, rules = left, "access rules stay in the database: their share instance is gone");
        }
        return Ok(());
    };
    match deny(work, &ids).await {
        Ok(()) => {}
        // Deleted since it was read.
        Err(error) if error.is_gone() => return Ok(()),
        Err(StepError::Lock(error)) => return without_lock(work, &ids, error).await,
        Err(error) => return Err(error),
    }
    if work.mappings(&ids).await?.is_empty() {
        return Ok(());
    }
    let mut told = work.tell(&host).await?;
    let mut pauses = Pauses::new();
    loop {
        let mappings = work.mappings(&ids).await?;
        let is = |mapping: &Mapping, state| mapping.state.as_deref() == Some(state);
        if mappings.is_empty() {
            break;
        }
        if mappings.iter().any(|mapping| is(mapping, "error")) {
            return Err(StepError::Said(format!(
                "the share manager of {host} could not remove the access rules of share instance {id}"
            )));
        }
        if host_is_gone(work).await? {
            return Ok(());
        }
        if !mappings.iter().all(|mapping| is(mapping, "queued_to_deny") || is(mapping, "denying")) {
            // The share manager finished what it was applying, and wrote that over our wish.
            match deny(work, &ids).await {
                Err(error) if error.is_gone() => return Ok(()),
                denied => denied?,
            }
            told = work.tell(&host).await?;
        } else if mappings.iter().any(|mapping| is(mapping, "queued_to_deny")) {
            work.tell_again(&mut told, &host).await;
        }
        if !pauses.pause(work.deadline).await {
            let seconds = work.world.limit.as_secs();
            return Err(StepError::Said(format!(
                "the share manager of {host} did not remove the access rules of share instance {id} within {seconds} s \
                 (data_access_wait_access_rules_timeout); is it running?"
            )));
        }
    }
    settle(work).await;
    info!(instance = id, rules = ids.len(), "access rules are removed");
    Ok(())
}

/// Where the share manager of the instance is. `None`: the instance, or its host, is gone.
async fn host(work: &Work<'_>) -> Result<Option<String>, StepError> {
    let instance = work.instance().await?;
    Ok(instance.and_then(|instance| instance.host).filter(|host| !host.is_empty()))
}

async fn host_is_gone(work: &Work<'_>) -> Result<bool, StepError> {
    Ok(host(work).await?.is_none())
}

async fn deny(work: &Work<'_>, ids: &[&str]) -> Result<(), StepError> {
    let instance = work.instance_id.to_owned();
    let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    let change = move |database: std::sync::Arc<dyn Database>| {
        let (instance, ids) = (instance.clone(), ids.clone());
        async move {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            database.deny(&instance, &ids).await
        }
    };
    work.change(change).await.map(|_| ())
}

/// Where no lock can be had, nothing was made either: that needed the same lock.
async fn without_lock(work: &Work<'_>, ids: &[&str], error: LockError) -> Result<(), StepError> {
    match error {
        LockError::BadId(_) => Ok(()),
        // Somebody has it, and may be about to make the rule.
        LockError::Late { .. } => Err(error.into()),
        error => {
            if work.mappings(ids).await?.is_empty() {
                Ok(())
            } else {
                Err(error.into())
            }
        }
    }
}

async fn settle(work: &Work<'_>) {
    let until = Instant::now() + SETTLE_TIME;
    let mut pauses = Pauses::new();
    while let Ok(Some(instance)) = work.instance().await {
        if instance.access_rules_status.as_deref() != Some("syncing") || !pauses.pause(until).await {
            return;
        }
    }
}
