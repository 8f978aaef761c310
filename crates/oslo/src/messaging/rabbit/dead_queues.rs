//! Queues of replies that are known to be gone, for a while.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The newest of them. Whoever called from there has long given up.
#[derive(Debug)]
pub(super) struct DeadQueues {
    /// Oldest first.
    queues: VecDeque<(Instant, String)>,
    remember: Duration,
    count_max: usize,
}

impl DeadQueues {
    pub(super) fn new(remember: Duration, count_max: usize) -> Self {
        Self { queues: VecDeque::new(), remember, count_max }
    }

    pub(super) fn insert(&mut self, queue: &str) {
        self.forget();
        if self.contains(queue) {
            return;
        }
        if self.queues.len() >= self.count_max {
            self.queues.pop_front();
        }
        self.queues.push_back((Instant::now(), queue.into()));
    }

    pub(super) fn contains(&mut self, queue: &str) -> bool {
        self.forget();
        self.queues.iter().any(|(_, dead)| dead == queue)
    }

    fn forget(&mut self) {
        while self.queues.front().is_some_and(|(since, _)| since.elapsed() >= self.remember) {
            self.queues.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_dead_for_a_minute() {
        let mut dead = DeadQueues::new(Duration::from_mins(1), 3);
        dead.insert("reply_a");
        assert!(dead.contains("reply_a") && !dead.contains("reply_b"));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert!(dead.contains("reply_a"));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!dead.contains("reply_a"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_goes_when_there_are_too_many() {
        let mut dead = DeadQueues::new(Duration::from_mins(1), 2);
        for queue in ["a", "b", "b", "c"] {
            dead.insert(queue);
        }
        assert!(!dead.contains("a") && dead.contains("b") && dead.contains("c"));
    }
}
