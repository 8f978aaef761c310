//! How fast work goes at the moment, and what an entry weighs beside its bytes: one rule for everything that tells of
//! its progress.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Rates are over this much of the past.
const WINDOW: Duration = Duration::from_secs(5);
/// An entry is work too: as much as so many bytes.
pub const ENTRY_BYTES: f64 = 16.0 * 1024.0;

/// What was done at some moments of the last seconds.
#[derive(Debug, Default)]
pub struct Rates(VecDeque<(Instant, f64, f64)>);

impl Rates {
    /// Notes what is done by now, and answers bytes and entries per second; zero until there is something to compare.
    pub fn look(&mut self, bytes: f64, entries: f64) -> (f64, f64) {
        let now = Instant::now();
        self.0.push_back((now, bytes, entries));
        while self.0.len() > 2 && now.duration_since(self.0[0].0) > WINDOW {
            self.0.pop_front();
        }
        let (start, first_bytes, first_entries) = self.0[0];
        let seconds = now.duration_since(start).as_secs_f64();
        if seconds < 0.05 {
            return (0.0, 0.0);
        }
        ((bytes - first_bytes) / seconds, (entries - first_entries) / seconds)
    }
}
