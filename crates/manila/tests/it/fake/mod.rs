//! Manila's other parts as the tests need them: a database, share managers, and jobs that a script carries out. What
//! they are told is written down in the order in which it happened.

mod database;
mod jobs;
mod share_manager;
mod store;
mod world;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use database::{FakeDatabase, StoredRule, Trouble};
pub(crate) use jobs::{FakeExecutor, Script};
pub(crate) use share_manager::{FakeShareManager, Manner};
pub(crate) use store::FakeStore;
pub(crate) use world::{
    BACKUP, DEST, PROJECT, SHARE, SOURCE, World, ask, backup_args, failure, instance, request, restore_args, share,
    start_args, state_of,
};

/// Writes and casts, one line each, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<String>>>);

impl Journal {
    pub(crate) fn note(&self, line: impl Into<String>) {
        lock(&self.0).push(line.into());
    }

    /// All lines since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0))
    }
}

/// Also after another test's thread panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
