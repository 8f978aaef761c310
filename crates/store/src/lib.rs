//! Keeps jobs in a database: durable, and changed by compare and set alone.
//!
//! [`SqlStore`] is the adapter behind [`job::JobStore`]. It speaks SQLite today; what another database does differently
//! is in `dialect`, and everything else is built by one query layer. Knows jobs, and nothing of what they do.

mod deliveries;
mod dialect;
mod events;
mod jobs;
mod leases;
mod lock;
mod open;
mod progress;
mod retry;
mod rows;
mod sql_store;
mod tables;

pub use open::{OpenError, OpenOptions};
pub use sql_store::SqlStore;
