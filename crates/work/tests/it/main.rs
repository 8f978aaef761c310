//! Proves passes and their reports on real directories.
#![expect(clippy::disallowed_methods, reason = "tests own the directories that they name by path")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod backups;
mod in_process;
mod kit;
mod passes;
mod reports;
mod snapshots;
