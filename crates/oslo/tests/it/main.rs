//! Proves that configuration is read as oslo.config reads it.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod files;
mod kit;
mod properties;
mod values;
