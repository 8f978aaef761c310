//! In which order brokers are tried, and how long we wait in between.

use std::time::Duration;

use uuid::Uuid;

use super::options::{Failover, RabbitOptions};
use super::url::Host;

/// All brokers of a URL, as one connection goes through them.
#[derive(Debug)]
pub(super) struct Hosts {
    list: Vec<Host>,
    next: usize,
    failover: Failover,
    pauses: Pauses,
    /// Rounds through all hosts without a connection.
    rounds: u32,
    /// Whether there was a connection or an attempt before: the very first attempt does not wait.
    tried: bool,
}

/// How long to wait before another attempt.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    first: Duration,
    more_each_time: Duration,
    longest: Duration,
    delay: Duration,
    splay: Duration,
}

impl Hosts {
    pub(super) fn new(mut hosts: Vec<Host>, options: &RabbitOptions) -> Self {
        // Services that start together should not all go to the first broker.
        shuffle(&mut hosts);
        let pauses = Pauses {
            first: options.retry_interval,
            more_each_time: options.retry_backoff,
            longest: options.interval_max,
            delay: options.reconnect_delay,
            splay: options.reconnect_splay,
        };
        Self { list: hosts, next: 0, failover: options.failover, pauses, rounds: 0, tried: false }
    }

    /// The broker to try, and how long to wait before.
    pub(super) fn next(&mut self) -> (Host, Duration) {
        let mut pause = Duration::ZERO;
        if self.next == 0 && self.tried {
            pause = self.pauses.after(self.rounds);
            if self.failover == Failover::Shuffle {
                shuffle(&mut self.list);
            }
        }
        self.tried = true;
        let host = self.list[self.next].clone();
        self.next = (self.next + 1) % self.list.len();
        if self.next == 0 {
            self.rounds = self.rounds.saturating_add(1);
        }
        (host, pause)
    }

    /// A connection stood: the next loss is the first one again.
    pub(super) fn connected(&mut self) {
        self.rounds = 0;
    }
}

impl Pauses {
    fn after(&self, rounds: u32) -> Duration {
        let backoff = match rounds {
            0 => Duration::ZERO,
            rounds => (self.first + self.more_each_time.saturating_mul(rounds - 1)).min(self.longest),
        };
        backoff + self.delay + self.splay.mul_f64(random_fraction())
    }
}

fn shuffle(hosts: &mut [Host]) {
    for last in (1..hosts.len()).rev() {
        hosts.swap(last, (random_fraction() * (last + 1) as f64) as usize);
    }
}

/// From 0 to just below 1.
fn random_fraction() -> f64 {
    // The first 32 bits of an identifier of version 4 are all random.
    f64::from(Uuid::new_v4().as_fields().0) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messaging::rabbit::TransportUrl;

    fn hosts(url: &str, options: &RabbitOptions) -> Hosts {
        Hosts::new(TransportUrl::parse(url).unwrap().hosts, options)
    }

    fn seconds(hosts: &mut Hosts, count: usize) -> Vec<f64> {
        (0..count).map(|_| hosts.next().1.as_secs_f64()).collect()
    }

    #[test]
    fn one_broker_is_tried_less_and_less_often() {
        let mut hosts = hosts("rabbit://h/", &RabbitOptions::default());
        let pauses = seconds(&mut hosts, 17);
        assert_eq!(pauses[..4], [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(pauses[15..], [30.0, 31.0]);
        hosts.connected();
        assert_eq!(hosts.next().1, Duration::from_secs(1), "the delay alone");
        assert_eq!(hosts.next().1, Duration::from_secs(2));
    }

    #[test]
    fn all_brokers_are_tried_before_any_is_waited_for() {
        for failover in [Failover::RoundRobin, Failover::Shuffle] {
            let options = RabbitOptions { failover, ..Default::default() };
            let mut hosts = hosts("rabbit://a,b,c/", &options);
            for pause in [0, 2, 4] {
                let round: Vec<_> = (0..3).map(|_| hosts.next()).collect();
                let mut names: Vec<_> = round.iter().map(|(host, _)| host.name.as_str()).collect();
                names.sort_unstable();
                assert_eq!(names, ["a", "b", "c"]);
                let pauses: Vec<_> = round.iter().map(|(_, pause)| pause.as_secs()).collect();
                assert_eq!(pauses, [pause, 0, 0]);
            }
        }
    }

    #[test]
    fn the_splay_is_at_random_and_bounded() {
        let options = RabbitOptions { reconnect_splay: Duration::from_secs(10), ..Default::default() };
        let pauses = Hosts::new(Vec::new(), &options).pauses;
        for _ in 0..100 {
            let pause = pauses.after(1).as_secs_f64();
            assert!((2.0..12.0).contains(&pause), "{pause}");
        }
    }
}
