//! Whatever the tree, the limits and the way the bytes travel: the copy is the source, and the next run has no work.

use std::collections::BTreeMap;

use copy::{BLOCK, CopyOptions, EntryKind, HashKind, Limits, Mover, Movers, Records, Sparse, Verify};
use proptest::prelude::*;
use sha2::Digest as _;
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, DiffOptions, Entry, TreeModel, any_tree};
use testkit::{BLOCK_BYTES, Content};
use xxhash_rust::xxh3;

use crate::kit::{
    any_limits, assert_clean, assert_holds, assert_holds_with, assert_nothing_to_do, assert_tidy, cases, in_order,
    options, run_clean, run_recorded, small_trees,
};

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_copy_is_its_source_and_the_next_run_has_no_work(
        model in any_tree(&small_trees()),
        limits in any_limits(),
        kinds_in_lists: bool,
        is_network: bool,
        umask in prop::sample::select(vec![0o077, 0o022, 0]),
    ) {
        let how = MemoryOptions { kinds_in_lists, is_network, umask, ..MemoryOptions::default() };
        let source = MemoryTree::from_model_with(&model, how.clone());
        let dest = MemoryTree::with_options(how);
        let options = CopyOptions { limits, ..options() };
        let (report, recorder) = run_recorded(&source, &dest, &options);
        assert_clean(&report);
        assert_holds(&dest, &model);
        assert_tidy(&source);
        prop_assert_eq!(dest.unclosed_files(), 0);
        prop_assert!(report.durable);
        let done = &report.counters;
        prop_assert_eq!(done.done_entries, done.scanned_entries);
        prop_assert_eq!(done.done_entries as usize, model.len());
        prop_assert_eq!(done.actions.iter().sum::<u64>(), done.done_entries);
        for kind in EntryKind::ALL {
            prop_assert_eq!(done.kind(kind) as usize, model.count(kind), "{}", kind);
        }
        prop_assert_eq!(done.mover_files.iter().sum::<u64>(), done.copied_files);
        prop_assert_eq!(done.mover_bytes.iter().sum::<u64>(), done.copied_bytes);
        let mut told: Vec<_> = recorder.records().iter().map(|r| r.path.as_bytes().to_vec()).collect();
        told.sort();
        prop_assert_eq!(told, model.iter().map(|(path, _)| path.to_vec()).collect::<Vec<_>>());
        assert_nothing_to_do(&source, &dest, &options);
    }

    #[test]
    fn every_way_of_moving_bytes_moves_the_same(
        model in any_tree(&small_trees()),
        limits in any_limits(),
        movers in any_movers(),
        sparse in prop::sample::select(vec![Sparse::Auto, Sparse::Detect, Sparse::Keep]),
        hash in prop::sample::select(vec![None, Some(HashKind::Xxh3Blocks), Some(HashKind::Blake3), Some(HashKind::Sha256)]),
        reports_holes: bool,
    ) {
        // A digest over bytes in order and ranges in any order exclude each other.
        prop_assume!(movers.forced != Some(Mover::Ranges) || hash.is_none_or(|kind| !kind.is_sequential()));
        let source = MemoryTree::from_model_with(&model, MemoryOptions { reports_holes, ..MemoryOptions::default() });
        let dest = MemoryTree::new();
        let options = CopyOptions { limits, movers, sparse, hash, verify: Verify::Content, ..options() };
        let (report, recorder) = run_recorded(&source, &dest, &options);
        assert_clean(&report);
        prop_assert!(report.verification.as_ref().is_some_and(copy::CompareReport::is_same));
        let holes = DiffOptions { holes: true, ..DiffOptions::default() };
        match (sparse, reports_holes) {
            _ if movers.forced == Some(Mover::Buffered) && sparse != Sparse::Detect => {
                assert_holds_with(&dest, &model, &DiffOptions::default());
            }
            (Sparse::Detect, _) | (Sparse::Auto, false) => assert_holds_with(&dest, &without_zeros(&model), &holes),
            (Sparse::Auto | Sparse::Keep, true) => assert_holds(&dest, &model),
            (Sparse::Keep, false) => assert_holds_with(&dest, &model, &DiffOptions::default()),
        }
        for mover in Mover::ALL {
            let files = report.counters.mover_files[mover as usize];
            prop_assert!(movers.allows(mover) || files == 0, "{} files by {}", files, mover.as_str());
        }
        if let Some(kind) = hash {
            for record in recorder.records().iter().filter(|r| r.checksum.is_some()) {
                let content = model.get(record.path.as_bytes()).and_then(Entry::content).unwrap();
                prop_assert_eq!(record.checksum.unwrap().to_string(), digest(kind, content), "{}", record.path);
            }
            let summed = recorder.records().iter().filter(|r| r.checksum.is_some()).count();
            prop_assert_eq!(summed, first_names(&model));
        }
    }
}

/// What can be forced or forbidden where there are no descriptors. Something must be left that can move anything.
fn any_movers() -> impl Strategy<Value = Movers> {
    prop::sample::select(vec![
        Movers::default(),
        Movers::forced(Mover::Buffered),
        Movers::forced(Mover::Sparse),
        Movers::default().without(Mover::Ranges),
        Movers::default().without(Mover::Reflink).without(Mover::CopyFileRange),
        Movers::default().without(Mover::Buffered),
        Movers::default().without(Mover::Buffered).without(Mover::Ranges),
        Movers::default().without(Mover::Sparse),
        Movers::forced(Mover::Ranges),
    ])
}

/// Regular files with each inode counted once.
fn first_names(model: &TreeModel) -> usize {
    let mut groups = std::collections::BTreeSet::new();
    model
        .iter()
        .filter(|(_, entry)| entry.kind() == EntryKind::File)
        .filter(|(_, entry)| entry.link_group.is_none_or(|group| groups.insert(group)))
        .count()
}

/// The model with every block of zeros made a hole.
fn without_zeros(model: &TreeModel) -> TreeModel {
    let mut out = model.clone();
    let files: Vec<_> = model.iter().filter_map(|(path, entry)| Some((path, entry.content()?))).collect();
    for (path, content) in files {
        let mut block = vec![0; BLOCK_BYTES as usize];
        let mut thin = Content::new();
        for range in content.data_ranges() {
            let mut at = range.start;
            while at < range.end {
                let read = content.read_at(&mut block, at);
                if block[..read].iter().any(|b| *b != 0) {
                    thin.write_at(&block[..read], at);
                }
                at += BLOCK_BYTES;
            }
        }
        thin.set_len(content.size_bytes());
        out.edit(path, |entry| entry.body = Body::File(thin));
    }
    out
}

/// The digest as its definition says, over the whole content at once.
fn digest(kind: HashKind, content: &Content) -> String {
    let bytes = content.to_bytes();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, b| format!("{text}{b:02x}"));
    match kind {
        HashKind::Xxh3Blocks => {
            let blocks = bytes.chunks(BLOCK as usize).enumerate();
            let sum = blocks
                .filter(|(_, block)| block.iter().any(|b| *b != 0))
                .map(|(i, block)| xxh3::xxh3_128_with_seed(block, i as u64 * BLOCK))
                .fold(xxh3::xxh3_128(&content.size_bytes().to_le_bytes()), u128::wrapping_add);
            hex(&sum.to_be_bytes())
        }
        HashKind::Blake3 => blake3::hash(&bytes).to_hex().to_string(),
        HashKind::Sha256 => hex(&sha2::Sha256::digest(&bytes)),
    }
}

/// One file of several ranges with a hole in the middle and at its end, and a dense one.
fn large() -> TreeModel {
    let bytes: Vec<u8> = (0..700_000_u32).map(|i| (i / 4096 * 7 + i) as u8 | 1).collect();
    let sparse = Content::sparse(900_000, &[(0, &bytes[..70_000]), (300_000, &bytes[..200_000])]);
    TreeModel::new().with("dense", Entry::file(&bytes)).with("sparse", Entry::new(Body::File(sparse)))
}

fn ranged(movers: Movers) -> CopyOptions {
    let limits = Limits { workers: Some(4), range_bytes: BLOCK, buffer_bytes: 1, ..options().limits };
    CopyOptions { movers, limits, records: Records::All, ..options() }
}

fn check_mover(movers: Movers, hash: Option<HashKind>, expected: [(&str, Mover); 2]) {
    let (model, dest) = (large(), MemoryTree::new());
    let source = MemoryTree::from_model(&model);
    let (report, recorder) = run_recorded(&source, &dest, &CopyOptions { hash, ..ranged(movers) });
    assert_clean(&report);
    let holes = movers.forced != Some(Mover::Buffered);
    assert_holds_with(&dest, &model, &DiffOptions { holes, ..DiffOptions::default() });
    for (name, mover) in expected {
        assert_eq!(recorder.record(name.as_bytes()).mover, Some(mover), "{name} with {movers:?} {hash:?}");
    }
}

#[test]
fn the_mover_that_fits_is_taken_and_told() {
    use Mover::{Buffered, Ranges, Sparse};
    let both = |dense, sparse| [("dense", dense), ("sparse", sparse)];
    check_mover(Movers::default(), None, both(Ranges, Sparse));
    check_mover(Movers::forced(Ranges), None, both(Ranges, Ranges));
    check_mover(Movers::forced(Buffered), None, both(Buffered, Buffered));
    check_mover(Movers::forced(Sparse), None, both(Sparse, Sparse));
    check_mover(Movers::default().without(Ranges), None, both(Buffered, Sparse));
    check_mover(Movers::default().without(Buffered).without(Sparse), None, both(Ranges, Ranges));
    check_mover(Movers::default(), Some(HashKind::Xxh3Blocks), both(Ranges, Sparse));
    // A digest over bytes in order needs one worker from start to end.
    check_mover(Movers::default(), Some(HashKind::Sha256), both(Buffered, Sparse));
}

#[test]
fn a_forced_mover_that_cannot_move_a_file_is_a_fault() {
    for mover in [Mover::Reflink, Mover::CopyFileRange] {
        let (source, dest) = (MemoryTree::from_model(&large()), MemoryTree::new());
        let report = crate::kit::run(&source, &dest, &CopyOptions { movers: Movers::forced(mover), ..in_order() });
        assert_eq!(report.counters.faults, 2, "{}", mover.as_str());
        // What was begun is taken away.
        assert!(dest.snapshot().is_empty(), "{:?}", dest.snapshot());
        assert_tidy(&dest);
    }
}

#[test]
fn what_each_file_costs_in_calls_is_known() {
    let mut model = TreeModel::new().with("d", Entry::dir());
    for i in 0..100 {
        model.insert(format!("d/{i}"), Entry::file(b"content"));
    }
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::new());
    run_clean(&source, &dest, &in_order());
    assert_holds(&dest, &model);
    let calls: BTreeMap<_, _> =
        source.calls(testkit::Side::Source).iter().chain(dest.calls(testkit::Side::Dest).iter()).collect();
    let dear: Vec<_> =
        calls.iter().filter(|(_, count)| **count >= 100).map(|(call, count)| (*call, count / 100)).collect();
    let total: u64 = dear.iter().map(|(_, count)| count).sum();
    // Source: open with its attributes, read, look again, xattrs, flags. Dest: create, write, mode, times, close.
    assert!(total <= 10, "{total} calls a file: {dear:?}");
}
