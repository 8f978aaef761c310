//! How many workers: found by measuring. Local disks want about as many as there are processors, network shares and
//! cold disks dozens, and nobody knows beforehand which it is.

use std::time::{Duration, Instant};

/// Searches the number of workers with which most work is done.
#[derive(Debug)]
pub(super) struct Adapt {
    target: usize,
    most: usize,
    cores: f64,
    fixed: bool,
    /// Where the search is, and the rate at the last number that was kept.
    phase: Phase,
    kept: usize,
    kept_rate: f64,
    last: Option<Sample>,
    until: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubling as long as it helps.
    Grow,
    /// Staying, with a try now and then.
    Hold,
    TryMore,
    TryLess,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    work: f64,
    cpu: f64,
}

/// What happened up to a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) cpu_seconds: f64,
    /// Work waited for a worker.
    pub(super) backlog: bool,
}

/// While it searches: long enough for hundreds of operations, short enough for a copy of a second to profit.
const SHORT: Duration = Duration::from_millis(25);
const LONG: Duration = Duration::from_millis(1500);
/// An entry and a stretch of so many bytes count alike.
const BYTES_PER_ENTRY: f64 = 128.0 * 1024.0;
/// Processors this busy with our own work have nothing to give to more workers.
const SATURATED: f64 = 0.8;
/// Less gain than this is noise.
const GAIN: f64 = 1.08;

impl Adapt {
    pub(super) fn new(fixed: Option<usize>, most: usize, cores: usize, network: bool) -> Self {
        let most = most.max(1);
        let target = fixed.unwrap_or(if network { 64 } else { cores.max(1) }).clamp(1, fixed.unwrap_or(most).max(1));
        Self {
            target,
            most,
            cores: cores.max(1) as f64,
            fixed: fixed.is_some(),
            phase: Phase::Grow,
            kept: target,
            kept_rate: 0.0,
            last: None,
            until: SHORT,
        }
    }

    pub(super) fn target(&self) -> usize {
        self.target
    }

    /// Looks at what was done since the last look and chooses the next number.
    pub(super) fn observe(&mut self, now: Instant, work: Work) -> usize {
        let sample =
            Sample { at: now, work: work.entries as f64 + work.bytes as f64 / BYTES_PER_ENTRY, cpu: work.cpu_seconds };
        let Some(last) = self.last else {
            self.last = Some(sample);
            return self.target;
        };
        let elapsed = now.duration_since(last.at);
        if self.fixed || elapsed < self.until {
            return self.target;
        }
        self.last = Some(sample);
        let rate = (sample.work - last.work) / elapsed.as_secs_f64();
        let busy = (sample.cpu - last.cpu) / elapsed.as_secs_f64() / self.cores;
        if work.backlog {
            self.step(rate, busy);
        }
        self.target
    }

    fn step(&mut self, rate: f64, busy: f64) {
        let better = rate > self.kept_rate * GAIN;
        match self.phase {
            Phase::Grow | Phase::TryMore if busy > SATURATED => self.keep(rate),
            Phase::Grow if better => {
                self.kept = self.target;
                self.kept_rate = rate;
                self.go(self.target * 2, Phase::Grow, SHORT);
            }
            Phase::Grow => {
                self.kept_rate = self.kept_rate.max(rate);
                self.go(self.kept, Phase::Hold, LONG);
            }
            Phase::Hold => {
                // The work itself changes along the way, so the rate to beat is the one of just now.
                self.kept_rate = rate;
                if busy > SATURATED {
                    self.until = LONG;
                } else if self.kept_rate > 0.0 && self.target < self.most {
                    self.go(self.target * 3 / 2 + 1, Phase::TryMore, SHORT * 8);
                } else {
                    self.go(self.target * 3 / 4, Phase::TryLess, SHORT * 8);
                }
            }
            Phase::TryMore if better => self.keep(rate),
            Phase::TryMore => self.go(self.kept * 3 / 4, Phase::TryLess, SHORT * 8),
            Phase::TryLess if rate * GAIN > self.kept_rate => self.keep(rate),
            Phase::TryLess => self.go(self.kept, Phase::Hold, LONG),
        }
    }

    fn keep(&mut self, rate: f64) {
        self.kept = self.target;
        self.kept_rate = rate;
        self.go(self.target, Phase::Hold, LONG);
    }

    fn go(&mut self, target: usize, phase: Phase, until: Duration) {
        self.target = target.clamp(1, self.most);
        self.phase = phase;
        self.until = until;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the search against a machine whose rate is a function of the workers.
    fn settle(network: bool, rate: impl Fn(usize) -> f64, busy: f64) -> usize {
        let mut adapt = Adapt::new(None, 256, 2, network);
        let mut now = Instant::now();
        let (mut entries, mut cpu) = (0.0, 0.0);
        for _ in 0..4000 {
            now += Duration::from_millis(25);
            entries += rate(adapt.target()) * 0.025;
            cpu += busy * 2.0 * 0.025;
            adapt.observe(now, Work { entries: entries as u64, bytes: 0, cpu_seconds: cpu, backlog: true });
        }
        adapt.kept
    }

    #[test]
    fn latency_calls_for_many_and_processors_for_few() {
        // Each worker adds, up to 100 of them.
        assert!(settle(true, |n| 2000.0 * n.min(100) as f64, 0.4) >= 60);
        // A cold disk: eight help, more do not.
        let cold = settle(false, |n| 1000.0 * n.min(8) as f64, 0.3);
        assert!((6..=24).contains(&cold), "{cold}");
        // Processors are busy: stays where it is.
        assert_eq!(settle(false, |n| 30_000.0 * n.min(2) as f64, 0.98), 2);
    }

    #[test]
    fn a_fixed_number_is_kept() {
        let mut adapt = Adapt::new(Some(7), 256, 2, true);
        let work = Work { entries: 0, bytes: 0, cpu_seconds: 0.0, backlog: true };
        for i in 0..100 {
            assert_eq!(adapt.observe(Instant::now() + Duration::from_secs(i), work), 7);
        }
    }
}
