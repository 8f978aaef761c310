//! A request to stop that threads see at every entry and every chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why a run stops. Ordered: a stronger reason replaces a weaker one, never the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum StopReason {
    /// The process ends; the work goes on later.
    Shutdown = 1,
    /// The time that was given is over.
    Deadline = 2,
    /// Somebody does not want the work any more.
    Cancel = 3,
    /// A fault under `OnFault::Stop`, or the destination is full.
    Fault = 4,
}

/// Shared flag with the strongest reason so far.
#[derive(Clone, Debug, Default)]
pub struct StopToken(Arc<AtomicU8>);

impl StopToken {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for a stop; a weaker reason than the one already given changes nothing.
    pub fn stop(&self, reason: StopReason) {
        self.0.fetch_max(reason as u8, Ordering::SeqCst);
    }

    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub fn reason(&self) -> Option<StopReason> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            1 => Some(StopReason::Shutdown),
            2 => Some(StopReason::Deadline),
            3 => Some(StopReason::Cancel),
            _ => Some(StopReason::Fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_only_rises() {
        let token = StopToken::new();
        assert_eq!(token.reason(), None);
        token.stop(StopReason::Cancel);
        token.stop(StopReason::Shutdown);
        assert_eq!(token.reason(), Some(StopReason::Cancel));
        assert!(token.clone().is_stopped());
    }
}
