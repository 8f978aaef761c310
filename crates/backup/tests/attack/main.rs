//! The engine's attacks on a destination, on a restore that runs as root while a tenant changes the share; and its races
//! for the source, on a backup.
//!
//! Each source is backed up when it is opened, and what is read is the snapshot. That the attacks are real ones, the
//! engine's own suite proves in its weakened build.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]
#![allow(clippy::print_stderr, reason = "an attack tells how it went")]
#![allow(clippy::unnecessary_debug_formatting, reason = "quoted and escaped is how odd paths are read")]

#[path = "../../../copy/tests/attack/dest.rs"]
mod dest;
#[path = "../../../copy/tests/attack/harness.rs"]
#[expect(dead_code, reason = "some of the ring is for attacks that are not run here")]
mod harness;
#[path = "../../../copy/tests/attack/races.rs"]
mod races;
#[path = "../../../copy/tests/attack/remove.rs"]
mod remove;
#[path = "../../../copy/tests/attack/swapper.rs"]
mod swapper;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use backup::restic::{BackupContext, BackupOptions, LocalStore, Repository, RepositoryError, SnapshotTree};
use copy::{CopyError, LocalTree, NoMonitor, RelPath, StopToken, Throttle};

/// One for all copies of an attack, which has a process of its own.
static REPOSITORY: OnceLock<Repository> = OnceLock::new();

/// What attackers met while the source was backed up.
static MET: AtomicU64 = AtomicU64::new(0);

fn met_before() -> u64 {
    MET.swap(0, Ordering::SeqCst)
}

fn repository(beside: &Path) -> &'static Repository {
    REPOSITORY.get_or_init(|| {
        let store = LocalStore::open(&beside.parent().unwrap().join("repository")).unwrap();
        Repository::init(Arc::new(store), &"not a secret of anybody".to_owned().into()).unwrap()
    })
}

fn open_source(path: &Path) -> Result<SnapshotTree, CopyError> {
    let (repository, stop, throttle) = (repository(path), StopToken::new(), Throttle::default());
    let source = LocalTree::open_source(path)?;
    let cx = BackupContext { source: &source, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let options = BackupOptions::new(RelPath::from_components([&b"share"[..]]), "here", jiff::Timestamp::UNIX_EPOCH);
    let made = match repository.backup(&cx, &options) {
        Err(RepositoryError::Source(error)) => return Err(error),
        answer => answer.unwrap(),
    };
    MET.fetch_add(races::met(&made.report), Ordering::SeqCst);
    Ok(repository.open_tree(&made.snapshot.unwrap(), &RelPath::root(), &stop).unwrap())
}
