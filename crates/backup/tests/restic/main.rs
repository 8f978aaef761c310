//! Backups in a restic repository, judged by restic itself.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod attacks;
mod child;
mod crash;
mod faults;
mod kit;
mod remote;
mod repository;
mod scale;
mod trees;
