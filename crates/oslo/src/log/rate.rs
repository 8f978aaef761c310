//! The limit of lines in a time, as oslo.log counts them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::level::Level;
use super::settings::Rate;

#[derive(Debug)]
pub(super) struct RateLimit {
    rate: Rate,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    ends: Instant,
    count: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Write,
    Drop,
    /// The first one: this is told.
    DropAndTell,
}

impl RateLimit {
    pub(super) fn new(rate: Rate) -> Self {
        let ends = Instant::now() + Duration::from_secs(rate.interval_seconds);
        Self { rate, window: Mutex::new(Window { ends, count: 0 }) }
    }

    pub(super) fn admit(&self, level: Level, now: Instant) -> Admission {
        if self.rate.except.is_some_and(|except| level.number() >= except) {
            return Admission::Write;
        }
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.ends {
            *window = Window { ends: now + Duration::from_secs(self.rate.interval_seconds), count: 0 };
        }
        window.count = window.count.saturating_add(1);
        match window.count.checked_sub(self.rate.burst) {
            None | Some(0) => Admission::Write,
            Some(1) => Admission::DropAndTell,
            Some(_) => Admission::Drop,
        }
    }

    pub(super) fn message(&self) -> String {
        let Rate { burst, interval_seconds, .. } = self.rate;
        format!("Logging rate limit: drop after {burst} records/{interval_seconds} sec")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_interval_begins_anew() {
        let limit = RateLimit::new(Rate { interval_seconds: 10, burst: 2, except: Some(50) });
        let now = Instant::now();
        let admissions = || [Level::Error, Level::Info, Level::Info, Level::Info].map(|level| limit.admit(level, now));
        assert_eq!(admissions(), [Admission::Write, Admission::Write, Admission::DropAndTell, Admission::Drop]);
        assert_eq!(limit.admit(Level::Critical, now), Admission::Write);
        assert_eq!(limit.admit(Level::Info, now + Duration::from_secs(11)), Admission::Write);
    }
}
