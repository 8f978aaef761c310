//! Proves directory backups: random trees there and back, hostile exports, faults and kills at every step, damage that a
//! check must find, and the layout that other programs share.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod attacks;
mod checks;
mod crash;
mod faults;
mod kit;
mod resume;
mod round_trip;
mod upstream;
