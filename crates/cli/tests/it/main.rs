//! The command from outside: the binary with a cleared environment, its output, its files and its exit codes.

#![expect(unreachable_pub, reason = "`pub` says that other modules use it")]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod backup;
mod config;
mod copy;
mod daemon;
mod doctor;
mod errors;
mod help;
mod jobs;
mod manila;
mod migrate;
mod otlp;
mod report;
mod schedules;
mod serve;
mod signals;
mod support;
mod token;
mod verify;
