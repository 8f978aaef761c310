//! Proves the kit: a fake that is wrong makes every test above it wrong.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod disk;
mod faulty;
mod fuse;
mod memory;
mod model;
