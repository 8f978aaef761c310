//! Limits of bytes and operations a second that can be changed while a run goes on.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::stop::StopToken;

/// Token buckets that all workers share. A rate of `None` costs one atomic load.
#[derive(Debug, Default)]
pub struct Throttle {
    bytes: Bucket,
    operations: Bucket,
}

impl Throttle {
    pub fn new(bytes_per_second: Option<u64>, operations_per_second: Option<u64>) -> Self {
        let throttle = Self::default();
        throttle.set_bandwidth(bytes_per_second);
        throttle.set_operations(operations_per_second);
        throttle
    }

    /// Sets what a run's own limits say, where the caller has set nothing.
    pub(crate) fn set_defaults(&self, bytes_per_second: Option<u64>, operations_per_second: Option<u64>) {
        if bytes_per_second.is_some() && self.bandwidth().is_none() {
            self.set_bandwidth(bytes_per_second);
        }
        if operations_per_second.is_some() && self.operations().is_none() {
            self.set_operations(operations_per_second);
        }
    }

    /// Takes effect within 50 ms, also for workers that wait already.
    pub fn set_bandwidth(&self, bytes_per_second: Option<u64>) {
        self.bytes.set(bytes_per_second);
    }

    pub fn set_operations(&self, operations_per_second: Option<u64>) {
        self.operations.set(operations_per_second);
    }

    pub fn bandwidth(&self) -> Option<u64> {
        self.bytes.get()
    }

    pub fn operations(&self) -> Option<u64> {
        self.operations.get()
    }

    /// Waits until `count` bytes may be moved, or the run is stopped.
    pub fn bytes(&self, count: u64, stop: &StopToken) {
        self.bytes.take(count, stop);
    }

    /// Waits until `count` operations more would be within the rate, or the run is stopped.
    pub fn operations_done(&self, count: u64, stop: &StopToken) {
        self.operations.take(count, stop);
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// 0: no limit.
    rate: AtomicU64,
    state: Mutex<Option<Level>>,
}

#[derive(Debug)]
struct Level {
    /// May be negative: who takes more than there is waits for the debt, so that one chunk may exceed the burst.
    tokens: f64,
    at: Instant,
}

/// Longest sleep before the rate and the stop are looked at again.
const SLICE: Duration = Duration::from_millis(50);
/// A bucket holds this much of a second: idle time is not saved up into a burst.
const BURST_SECONDS: f64 = 0.1;

impl Bucket {
    fn set(&self, rate: Option<u64>) {
        self.rate.store(rate.unwrap_or(0), Ordering::Relaxed);
    }

    fn get(&self) -> Option<u64> {
        Some(self.rate.load(Ordering::Relaxed)).filter(|rate| *rate != 0)
    }

    fn take(&self, count: u64, stop: &StopToken) {
        if self.get().is_none() {
            return;
        }
        let mut owed = Some(count as f64);
        while let Some(rate) = self.get() {
            let wait = {
                let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let now = Instant::now();
                let level = state.get_or_insert(Level { tokens: 0.0, at: now });
                let rate = rate as f64;
                let gained = now.duration_since(level.at).as_secs_f64() * rate;
                level.tokens = (level.tokens + gained).min(rate * BURST_SECONDS);
                level.at = now;
                if let Some(count) = owed.take() {
                    level.tokens -= count;
                }
                if level.tokens >= 0.0 {
                    return;
                }
                Duration::from_secs_f64((-level.tokens / rate).min(3600.0))
            };
            if stop.is_stopped() {
                return;
            }
            std::thread::sleep(wait.min(SLICE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_and_can_be_lifted_while_somebody_waits() {
        let throttle = Throttle::new(Some(1_000_000), None);
        let stop = StopToken::new();
        let start = Instant::now();
        for _ in 0..30 {
            throttle.bytes(10_000, &stop);
        }
        // 300 kB at 1 MB/s; the lower bound is what the limit promises.
        assert!(start.elapsed() >= Duration::from_millis(180), "{:?}", start.elapsed());
        throttle.set_bandwidth(Some(1));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| throttle.bytes(1_000_000, &stop));
            throttle.set_bandwidth(None);
            waiter.join().expect("the waiter returns");
        });
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let throttle = Throttle::new(None, Some(1));
        let stop = StopToken::new();
        stop.stop(crate::StopReason::Cancel);
        throttle.operations_done(1_000_000, &stop);
    }
}
