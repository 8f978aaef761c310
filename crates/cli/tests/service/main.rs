//! The service as a process: killed, flooded, and given storage that hangs.

#![expect(unreachable_pub, reason = "`pub` says that other modules use it")]
#![expect(clippy::print_stderr, reason = "a test says how it went where people look")]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod crash;
mod daemon;
mod hang;
mod kit;
mod queue;
mod shares;
