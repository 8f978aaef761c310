//! Access rules against a database in memory and share managers that act as upstream's do, races included; the lock
//! against Python's; the heartbeat on a clock that is set by hand.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod combinations;
mod crashes;
mod heartbeat;
mod kit;
mod lock;
mod ports;
mod share_manager;
mod taking;
mod world;
