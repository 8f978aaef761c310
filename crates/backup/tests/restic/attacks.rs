//! Shares whose tenants go on writing while a snapshot is restored into them: nothing outside is read, written or removed.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backup::restic::Snapshot;
use copy::tree::DestTree as _;
use copy::{CopyOptions, Delete, Ending, LocalTree, RelPath, StopToken};
use rustix::fs::{CWD, FileType, Mode};
use testkit::disk::TempDir;
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};

use crate::kit::{Place, assert_same, backup_clean, options, place, restore_with};

const ROUNDS: u64 = 40;

/// A repository with a snapshot, a share to restore it into, and what lies outside of that.
struct Bench {
    place: Place,
    snapshot: Snapshot,
    source: MemoryTree,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        let mut model = TreeModel::new();
        model.insert("d", Entry::dir());
        for number in 0..60 {
            model.insert(format!("d/{number}"), Entry::file(b"of the backup"));
        }
        model.insert("f", Entry::file(b"of the backup"));
        let source = MemoryTree::from_model(&model);
        let place = place();
        let snapshot = backup_clean(&place.repository, &source, &options()).snapshot.unwrap();
        let dir = TempDir::new();
        let outside = dir.subdir("outside");
        for name in ["0", "7", "secret"] {
            std::fs::write(outside.join(name), "of somebody else").unwrap();
        }
        Self { place, snapshot, source, dir }
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    fn new_share(&self) -> PathBuf {
        let share = self.dir.path().join("share");
        let _ = std::fs::remove_dir_all(&share);
        self.dir.subdir("share")
    }

    fn restore(&self, share: &Path, delete: Delete) -> Ending {
        let dest = LocalTree::open_dest(share).unwrap();
        let options = CopyOptions { delete, ..CopyOptions::default() };
        restore_with(&self.place.repository, &self.snapshot, &dest, &options).ending
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let mut names: Vec<_> =
            std::fs::read_dir(self.outside()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["0", "7", "secret"]);
        for name in names {
            assert_eq!(std::fs::read_to_string(self.outside().join(name)).unwrap(), "of somebody else");
        }
    }
}

/// Puts something at a path.
type Plant<'a> = &'a dyn Fn(&Path);

#[test]
fn what_stands_in_the_way_of_a_restore_is_replaced_and_not_followed() {
    let bench = Bench::new();
    let outside = bench.outside();
    let plants: [(&str, Plant<'_>); 6] = [
        ("d", &|at| symlink(&outside, at).unwrap()),
        ("f", &|at| symlink(outside.join("secret"), at).unwrap()),
        ("f", &|at| std::fs::hard_link(outside.join("secret"), at).unwrap()),
        ("f", &|at| rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RWXU, 0).unwrap()),
        ("f", &|at| std::fs::create_dir(at).unwrap()),
        ("d", &|at| std::fs::write(at, "a file").unwrap()),
    ];
    for (name, plant) in plants {
        for delete in [Delete::Never, Delete::Extraneous { max_entries: u64::MAX }] {
            let share = bench.new_share();
            plant(&share.join(name));
            assert_eq!(bench.restore(&share, delete), Ending::Complete, "{name}");
            bench.assert_untouched();
            assert_same(&bench.source, &LocalTree::open_dest(&share).unwrap());
        }
    }
}

/// Exchanges two names until it is told to end, and counts how often.
fn swap(share: &Path, trap: &Path, name: &str, is_over: &AtomicBool, swaps: &AtomicU64) {
    let (at, parked) = (share.join(name), share.join("parked"));
    while !is_over.load(Ordering::Relaxed) {
        if std::fs::rename(&at, &parked).is_err() {
            continue;
        }
        if symlink(trap, &at).is_ok() {
            swaps.fetch_add(1, Ordering::Relaxed);
            std::thread::yield_now();
            let _ = std::fs::remove_file(&at);
        }
        let _ = std::fs::rename(&parked, &at);
    }
}

fn race(name: &str, trap: impl Fn(&Bench) -> PathBuf + Sync) {
    let bench = Bench::new();
    let swaps = AtomicU64::new(0);
    for round in 0..ROUNDS {
        let share = bench.new_share();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| swap(&share, &trap(&bench), name, &is_over, &swaps));
            let delete = if round % 2 == 0 { Delete::Never } else { Delete::Extraneous { max_entries: u64::MAX } };
            let dest = LocalTree::open_dest(&share).unwrap();
            let options = CopyOptions { delete, ..CopyOptions::default() };
            // Whole or with faults: what the tenant does to his own share is his.
            restore_with(&bench.place.repository, &bench.snapshot, &dest, &options);
            is_over.store(true, Ordering::Relaxed);
        });
        bench.assert_untouched();
    }
    assert!(swaps.load(Ordering::Relaxed) > 0, "the tenant was never in time");
    // Left alone the share becomes what the backup says.
    let share = bench.new_share();
    assert_eq!(bench.restore(&share, Delete::Never), Ending::Complete);
}

#[test]
fn a_directory_that_becomes_a_symlink_during_a_restore_leads_nowhere() {
    race("d", Bench::outside);
}

#[test]
fn a_file_that_becomes_a_symlink_during_a_restore_leads_nowhere() {
    race("f", |bench| bench.outside().join("secret"));
}

#[test]
fn a_snapshot_cannot_name_what_is_not_below_it() {
    let bench = Bench::new();
    let stop = StopToken::new();
    for path in [&b".."[..], b"d/..", b"nothing"] {
        let path = RelPath::from_components(path.split(|byte| *byte == b'/'));
        assert!(bench.place.repository.open_tree(&bench.snapshot, &path, &stop).is_err());
    }
    assert!(!LocalTree::open_dest(&bench.new_share()).unwrap().facts().read_only);
}
