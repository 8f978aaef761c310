//! Trees in memory, faults on demand, disks and processes for tests.
//!
//! [`memory`] is a tree that is stricter than a file system, [`model`] a tree as plain data, [`faulty`] fails chosen
//! operations of any tree and [`fuse`] those of a mount, [`disk`] lends real file systems to tests that run as root, and
//! [`servers`] brokers and databases. Never part of a release.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

pub mod acl;
mod calls;
mod content;
pub mod disk;
pub mod faulty;
pub mod fuse;
pub mod memory;
pub mod model;
pub mod random;
pub mod reboot;
pub mod servers;

pub use calls::{Call, Calls, Side};
pub use content::{BLOCK_BYTES, Content, RangeSet};
