//! Proves the engine: trees in memory that fail and change on demand, and real file systems where root may have them.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]
#![expect(clippy::disallowed_methods, reason = "tests own the directories that they name by path")]

mod alone;
mod compare;
mod disks;
mod faults;
mod incremental;
mod kit;
mod limits;
mod live;
mod losses;
mod progress;
mod properties;
mod resume;
mod storage;
