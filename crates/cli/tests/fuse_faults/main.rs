//! Storage that answers with errors, comes short or does not answer, as a real mount: never a silent loss, and the next
//! run makes it whole.

#![expect(unreachable_pub, reason = "`pub` says that other modules use it")]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

mod close;
mod dest;
mod hang;
mod harness;
mod source;
