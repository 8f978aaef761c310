//! A process that is killed at any moment of a backup, a restore or a prune leaves a sound repository, and the next run completes.

use std::time::Duration;

use backup::restic::SnapshotFilter;
use copy::{Ending, LocalTree};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel, materialise};
use testkit::random::{Random, seed};

use crate::child::run_child;
use crate::kit::{assert_same, backup_clean, options, place, reopen, restic_check, restore};

/// Kills of each kind; more with `MANILA_DATA_BACKUP_CRASH_ROUNDS`.
const ROUNDS: u64 = 6;
fn rounds() -> u64 {
    std::env::var("MANILA_DATA_BACKUP_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

fn model(random: &mut Random) -> TreeModel {
    let mut model = TreeModel::new();
    for dir in 0..20 {
        model.insert(format!("{dir}"), Entry::dir());
        for file in 0..50 {
            model.insert(format!("{dir}/{file}"), Entry::file(&random.bytes(8_000)));
        }
    }
    for big in 0..4 {
        model.insert(format!("big{big}"), Entry::file(&random.bytes(12_000_000)));
    }
    model
}

#[test]
fn a_backup_killed_at_any_moment_leaves_a_sound_repository() {
    let place = place();
    let seed = seed();
    let mut random = Random::new(seed);
    let source = place.dir.subdir("source");
    assert_eq!(materialise(&model(&mut random), &source).unwrap().left_out, Vec::<String>::new());
    let whole = {
        let other = crate::kit::place();
        std::os::unix::fs::symlink(&source, other.dir.path().join("source")).unwrap();
        run_child("backup", other.dir.path(), None).0
    };
    let (mut ended, mut whole) = (0, whole);
    for _ in 0..rounds() {
        let after = Duration::from_micros(random.below(whole.as_micros() as u64));
        if run_child("backup", place.dir.path(), Some(after)).1 {
            ended += 1;
            whole = whole.min(after);
        }
        restic_check(&place.path());
        // The next round must have something to store.
        for big in 0..4 {
            std::fs::write(source.join(format!("big{big}")), random.bytes(12_000_000)).unwrap();
        }
    }
    run_child("backup", place.dir.path(), None);
    restic_check(&place.path());
    let repository = reopen(&place);
    let snapshots = repository.snapshots(&SnapshotFilter::default()).unwrap();
    let dest = MemoryTree::new();
    restore(&repository, snapshots.last().unwrap(), &dest);
    assert_same(&LocalTree::open_source(&source).unwrap(), &dest);
    eprintln!("seed {seed}: {ended} of {} ended before they were killed", rounds());
}

#[test]
fn a_prune_killed_at_any_moment_leaves_a_sound_repository() {
    let place = place();
    let seed = seed();
    let mut random = Random::new(seed);
    let (kept, mut ended) = (MemoryTree::from_model(&model(&mut random)), 0);
    let first = backup_clean(&place.repository, &kept, &options()).snapshot.unwrap();
    let mut whole = Duration::from_secs(1);
    for _ in 0..rounds() {
        // Half of the files are those that stay: packs are partly used, and must be written anew.
        let mut half = model(&mut random);
        for (path, entry) in kept.snapshot().iter().filter(|(path, _)| path.ends_with(b"1")) {
            half.insert(path, entry.clone());
        }
        let gone = backup_clean(&reopen(&place), &MemoryTree::from_model(&half), &options()).snapshot.unwrap();
        place.repository.delete_snapshots(&[gone.id]).unwrap();
        let after = Duration::from_micros(random.below(whole.as_micros() as u64));
        if run_child("prune", place.dir.path(), Some(after)).1 {
            ended += 1;
        }
        restic_check(&place.path());
        whole = whole.min(run_child("prune", place.dir.path(), None).0);
        restic_check(&place.path());
    }
    let repository = reopen(&place);
    let dest = MemoryTree::new();
    assert_eq!(restore(&repository, &first, &dest).ending, Ending::Complete);
    assert_same(&kept, &dest);
    eprintln!("seed {seed}: {ended} of {} ended before they were killed", rounds());
}

#[test]
fn a_restore_killed_at_any_moment_is_completed_by_the_next() {
    let place = place();
    let seed = seed();
    let mut random = Random::new(seed);
    let (source, dest) = (place.dir.subdir("source"), place.dir.path().join("dest"));
    assert_eq!(materialise(&model(&mut random), &source).unwrap().left_out, Vec::<String>::new());
    run_child("backup", place.dir.path(), None);
    std::fs::create_dir(&dest).unwrap();
    let (mut whole, mut ended) = (run_child("restore", place.dir.path(), None).0, 0);
    for _ in 0..rounds() {
        std::fs::remove_dir_all(&dest).unwrap();
        std::fs::create_dir(&dest).unwrap();
        let after = Duration::from_micros(random.below(whole.as_micros() as u64));
        if run_child("restore", place.dir.path(), Some(after)).1 {
            ended += 1;
            whole = whole.min(after);
        }
        run_child("restore", place.dir.path(), None);
        assert_same(&LocalTree::open_source(&source).unwrap(), &LocalTree::open_dest(&dest).unwrap());
    }
    restic_check(&place.path());
    eprintln!("seed {seed}: {ended} of {} ended before they were killed", rounds());
}
