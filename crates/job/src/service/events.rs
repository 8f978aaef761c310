//! Brings stored events to those who listen, in their order, also those that other nodes stored.

use std::sync::Arc;

use tokio::select;
use tokio::time::sleep;

use super::shared::Shared;
use crate::door::LiveEvent;
use crate::id::EventSeq;
use crate::limits::LIMITS;
use crate::ports::StoreError;

pub(super) async fn follow(shared: Arc<Shared>, mut last: EventSeq) {
    loop {
        let rest = match send(&shared, &mut last).await {
            Ok(()) => LIMITS.refresh_interval,
            Err(_) => LIMITS.retry_pause,
        };
        select! {
            () = shared.events_wake.notified() => {}
            () = sleep(rest) => {}
            () = shared.ended.cancelled() => {
                // What the last runners stored; nobody can be told if the store does not answer now.
                let _ = send(&shared, &mut last).await;
                return;
            }
        }
    }
}

async fn send(shared: &Shared, last: &mut EventSeq) -> Result<(), StoreError> {
    loop {
        let events = shared.heard(shared.ports.store.events(*last, None, LIMITS.event_page).await)?;
        let Some(newest) = events.last() else { return Ok(()) };
        *last = newest.seq;
        for event in events {
            // Nobody listens: fine.
            let _ = shared.live.send(LiveEvent::Stored(event));
        }
    }
}
