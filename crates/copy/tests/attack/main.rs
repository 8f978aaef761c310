//! Attacks on a copy that runs as root while a tenant changes the trees.
//!
//! Each attack runs in a process of its own, so that a hang or a crash is told from a refusal. In a normal build every
//! attack must fail. With `--features weakened` each runs twice: with all protections, where it must fail, and without
//! the one that stops it, where it must do harm: that is the proof that the attack is a real one.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]
#![allow(clippy::print_stderr, reason = "an attack tells how it went")]
#![allow(clippy::unnecessary_debug_formatting, reason = "quoted and escaped is how odd paths are read")]
#![expect(clippy::disallowed_methods, reason = "tests own the directories that they name by path")]

use std::path::Path;

use copy::{CopyError, LocalTree};

mod ancestors;
mod deep;
mod dest;
mod harness;
mod lying;
mod moves;
mod names;
mod races;
mod remove;
mod rights;
mod source;
mod swapper;

/// What is copied from. The tests of backups run these attacks too, and restore a snapshot of the source.
fn open_source(path: &Path) -> Result<LocalTree, CopyError> {
    LocalTree::open_source(path)
}

/// What an attacker met before the copy itself began.
fn met_before() -> u64 {
    0
}
