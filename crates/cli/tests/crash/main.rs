//! The command killed at any moment, and started again: the same tree in the end, and nothing copied twice that was
//! there already.

#![expect(unreachable_pub, reason = "`pub` says that other modules use it")]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod harness;
mod links;
mod other_boot;
mod rounds;
mod tree;
