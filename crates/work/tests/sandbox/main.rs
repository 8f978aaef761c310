//! Proves the sandbox: what a mover that went wrong tries fails, each attack works without the layers that stop it, and
//! a copy with everything in it ends as it would outside.
//!
//! A sandbox is entered for good and by a process of one thread, so each try is this program again, started for it.
#![expect(clippy::disallowed_methods, reason = "tests own the directories that they name by path")]
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]
#![allow(clippy::print_stdout, reason = "a test program tells its results there")]

mod attacks;
mod child;
mod copying;
mod lacking;
#[path = "../worker/runner.rs"]
mod runner;

use std::process::ExitCode;

fn main() -> ExitCode {
    match child::task() {
        Some(task) => {
            child::perform(&task);
            ExitCode::SUCCESS
        }
        None => runner::run(&[attacks::TESTS, copying::TESTS, lacking::TESTS].concat()),
    }
}
