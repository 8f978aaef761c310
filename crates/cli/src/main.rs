//! The `manila-data` command: reads the command line, runs a command, ends with its exit code.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` says that other modules use it")]

mod args;
mod commands;
mod config;
mod doctor;
mod empty_dest;
mod error;
mod exit;
mod job_spec;
mod paths;
mod plan;
mod report_file;
mod repository;
mod serve;
mod signals;
#[cfg(test)]
mod testing;
mod trees;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

/// The subcommand of worker processes, which the service alone starts. It is in no help text.
const WORKER: &str = "worker";

fn main() -> ExitCode {
    // First of all: a worker takes its namespaces while it has one thread, and reads no arguments of people.
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|word| word == WORKER) {
        return work::worker_main(&words.collect::<Vec<_>>());
    }
    let exit = commands::run(args::Cli::parse());
    if let exit::Exit::Signal(signal) = exit {
        signals::die_of(signal);
    }
    exit.into()
}
