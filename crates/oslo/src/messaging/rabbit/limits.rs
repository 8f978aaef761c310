//! Bounds of everything that waits or collects.

use std::time::Duration;

/// Each with the reason for its number in `default()`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A larger body is rejected, as a decompressed one should be.
    pub body_bytes_max: usize,
    /// Until a broker has taken us in: TCP, TLS and login.
    pub connect: Duration,
    /// Until a broker has answered one command.
    pub command: Duration,
    /// Until a broker has confirmed one message. A broker that is out of memory or disk says so and is waited for.
    pub confirm: Duration,
    /// Until messages under way are confirmed, and until connections are closed, at the end.
    pub close: Duration,
    /// How long a reply's queue that is gone is remembered.
    pub dead_queue: Duration,
    /// How many of them.
    pub dead_queues_max: usize,
    /// Until a reply is tried again whose queue is gone.
    pub reply_retry: Duration,
    /// Messages that wait between the connection and who takes them. The broker's own limit is the prefetch count.
    pub deliveries_waiting_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Requests are some kilobytes; RabbitMQ itself takes 128 MiB, which is more than anybody sends in good faith.
            body_bytes_max: 64 << 20,
            // A broker that is starting, or whose database of users is slow, takes seconds; a dead one takes for ever.
            connect: Duration::from_secs(15),
            // Quorum queues are declared by agreement of several nodes, which can be electing a leader.
            command: Duration::from_secs(30),
            // Likewise; and the disks of brokers can be slow.
            confirm: Duration::from_secs(30),
            // Shorter than the time that service managers give.
            close: Duration::from_secs(5),
            // Both as in oslo.messaging.
            dead_queue: Duration::from_mins(1),
            dead_queues_max: 200,
            reply_retry: Duration::from_millis(250),
            deliveries_waiting_max: 16,
        }
    }
}
