//! Workers as the service runs them: their mounts, their ends, and what they leave behind.
//!
//! A worker is the program itself, started anew, so this file has a `main` that is one where it is told to be; else it
//! runs the tests, each on a thread, by the names that are given as for any other test program.
#![expect(clippy::disallowed_methods, reason = "tests own the directories that they name by path")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]
#![allow(clippy::print_stdout, reason = "a test program tells its results there")]

mod bench;
mod commands;
mod ends;
mod hangs;
mod hooks;
mod mounts;
mod repositories;
mod runner;
mod secrets;
mod service;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|word| word.to_str()) {
        Some("worker") => work::worker_main(&args[1..]),
        Some("service") => service::main(&args[1..]),
        _ => runner::run(
            &[
                mounts::TESTS,
                commands::TESTS,
                secrets::TESTS,
                ends::TESTS,
                hooks::TESTS,
                hangs::TESTS,
                repositories::TESTS,
            ]
            .concat(),
        ),
    }
}
