//! Everything the command says: to people on standard error, to programs on standard output.

pub mod backup;
pub mod console;
pub mod errors;
pub mod job;
pub mod json;
pub mod monitor;
pub mod output;
pub mod progress;
pub mod schedule;
pub mod summary;
pub mod table;
pub mod units;
