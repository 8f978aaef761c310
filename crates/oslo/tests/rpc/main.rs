//! Requests, replies and casts over a broker in memory.
#![expect(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod acknowledge;
mod calls;
mod hostile;
mod kit;
mod samples;
mod serve;
