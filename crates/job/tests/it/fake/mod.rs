//! A world for the service, stricter than the real one: a store, an executor, access rules and somebody to tell, in
//! virtual time, that remember over several lives of the service and write down every broken rule.

mod execution;
mod outside;
mod store;
mod world;

pub(crate) use execution::{FakeExecutor, Script};
pub(crate) use outside::{FakeAccess, FakeFollower, FakeNotifier};
pub(crate) use store::{FakeStore, When};
pub(crate) use world::{World, ended, figures, lock, soon, spec, until};
