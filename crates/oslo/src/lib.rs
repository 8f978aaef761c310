//! What OpenStack's services have in common, for services written in Rust. Knows nothing of shares, jobs and Manila.

pub mod config;
pub mod log;
pub mod messaging;
