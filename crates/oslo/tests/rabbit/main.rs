//! The driver for RabbitMQ against real brokers.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod flow;
mod kit;
mod login;
mod loss;
mod topology;
mod wire;
