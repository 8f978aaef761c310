//! The interface from outside: routes without a socket, and real sockets where those are what matters.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod client;
mod events;
mod faults;
mod jobs;
mod kit;
mod random;
mod reports;
mod schedules;
mod secrets;
mod shutdown;
mod sockets;
mod tls;
mod webhooks;
