//! Compares lines with those of oslo.log itself, and takes from the log what it writes to: the disk, the directory, the
//! daemons.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod daemons;
mod events;
mod files;
mod hostile;
mod kit;
mod lines;
mod settings;
