//! The `manila-data` command: reads the command line, runs a command, ends with its exit code.

#![expect(unreachable_pub, reason = "a binary exports nothing; `pub` says that other modules use it")]

mod args;
mod commands;
mod empty_dest;
mod error;
mod exit;
mod paths;
mod plan;
mod report_file;
mod signals;
#[cfg(test)]
mod testing;
mod trees;
mod ui;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let exit = commands::run(args::Cli::parse());
    if let exit::Exit::Signal(signal) = exit {
        signals::die_of(signal);
    }
    exit.into()
}
