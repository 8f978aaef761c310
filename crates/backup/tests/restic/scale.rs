//! Many entries and large files: what is unchanged is not opened, and memory does not grow with the tree.

use backup::restic::{Parent, SnapshotFilter};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::random::Random;

use crate::child::peak_of_child;
use crate::kit::{backup_clean, options, place};

/// What a backup and a restore may take.
const PEAK_BYTES_MAX: u64 = 128 << 20;

#[test]
fn the_second_backup_of_a_hundred_thousand_entries_opens_no_file() {
    let mut model = TreeModel::new();
    for dir in 0..200 {
        model.insert(format!("{dir}"), Entry::dir());
        for file in 0..500 {
            model.insert(format!("{dir}/{file}"), Entry::file(format!("{dir}/{file}").as_bytes()));
        }
    }
    let (place, source) = (place(), MemoryTree::from_model(&model));
    let first = backup_clean(&place.repository, &source, &options());
    assert_eq!(first.report.counters.opened_files, 100_000);
    let mut options = options();
    options.parent = Parent::Latest(SnapshotFilter::default());
    let second = backup_clean(&place.repository, &source, &options);
    let counters = &second.report.counters;
    assert_eq!((counters.opened_files, counters.copied_bytes), (0, 0));
    assert_eq!(counters.done_entries, first.report.counters.done_entries);
    // The trees are the same as well.
    assert_eq!((second.added.data_blobs, second.added.tree_blobs), (0, 0));
}

#[test]
fn backup_and_restore_take_little_memory_however_large_the_files_are() {
    let place = place();
    let source = place.dir.subdir("source");
    let mut random = Random::new(1);
    for large in 0..6 {
        let noise = random.bytes(40_000_000);
        std::fs::write(source.join(format!("noise{large}")), &noise).unwrap();
        let text: Vec<u8> = noise.iter().map(|byte| b"0123456789abcdef"[usize::from(byte % 16)]).collect();
        std::fs::write(source.join(format!("text{large}")), text).unwrap();
    }
    for what in ["backup", "restore"] {
        std::fs::create_dir_all(place.dir.path().join("dest")).unwrap();
        let peak = peak_of_child(what, place.dir.path());
        eprintln!("{what}: {} MiB", peak >> 20);
        assert!(peak <= PEAK_BYTES_MAX, "{what}: {peak} bytes");
    }
}
