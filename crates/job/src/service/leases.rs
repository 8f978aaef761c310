//! Keeps what this node owns its own, and stops work on what cannot be proved to be.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::shared::Shared;
use crate::id::{Generation, JobId};
use crate::ports::StoreError;

/// Renews all leases at a third of their time. When the store gave no sign for two thirds, work stops: the last third
/// is for stopping, before anybody else may begin.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut renewed_at = Instant::now();
    loop {
        let asked_at = Instant::now();
        let rest = match timeout(shared.lease / 3, renew(&shared)).await {
            Ok(Ok(())) => {
                renewed_at = asked_at;
                shared.lease / 3
            }
            Ok(Err(_)) | Err(_) => shared.lease / 12,
        };
        give_up_unproved(&shared, renewed_at);
        select! {
            () = sleep(rest) => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

async fn renew(shared: &Shared) -> Result<(), StoreError> {
    let held: Vec<(JobId, Generation)> = shared.board().runs().iter().map(|(id, run)| (*id, run.generation)).collect();
    if held.is_empty() {
        return Ok(());
    }
    let lost = shared.heard(shared.ports.store.renew(&shared.node, &held, shared.lease).await)?;
    let board = shared.board();
    for (id, generation) in held.iter().filter(|(id, _)| lost.contains(id)) {
        // It may have ended, and another run of it begun, while the store was asked.
        if let Some(run) = board.runs().get(id).filter(|run| run.generation == *generation) {
            warn!(job_id = %id, "another node owns the job now");
            run.handle.lost.cancel();
        }
    }
    Ok(())
}

fn give_up_unproved(shared: &Shared, renewed_at: Instant) {
    let proof_max: Duration = shared.lease * 2 / 3;
    for (id, run) in shared.board().runs() {
        if run.since.max(renewed_at).elapsed() > proof_max && !run.handle.lost.is_cancelled() {
            warn!(job_id = %id, "the lease could not be renewed in time");
            run.handle.lost.cancel();
        }
    }
}
