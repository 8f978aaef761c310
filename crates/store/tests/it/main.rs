//! Proves the store: one suite over the port, and what SQLite adds: crashes, damage, locks, full disks, old data.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod crash;
mod kit;
mod old_data;
mod opening;
mod races;
mod round_trip;
mod sqlite;
mod storage;
mod suite;
