//! What a check finds: every kind of damage, by its path, and nothing where nothing is wrong.

use std::os::unix::fs::{FileExt as _, PermissionsExt, chown, symlink};
use std::path::Path;

use backup::directory::{CheckOptions, DataShare, Proof};
use copy::{DifferenceKind, Ending};
use testkit::memory::MemoryTree;

use crate::kit::{Bench, limits, model};

fn check(damage: impl FnOnce(&Path), path: &str, kinds: &[DifferenceKind]) {
    let bench = Bench::new();
    bench.create("b", &MemoryTree::from_model(&model()));
    bench.assert_proven("b");
    damage(&bench.path("b"));
    let checked = bench.check("b");
    assert!(!checked.is_proven() && !checked.is_readable());
    assert_eq!(checked.report.ending, Ending::Complete);
    // Damage may change the time of the directory as well.
    let mut found: Vec<_> = checked
        .report
        .differences
        .iter()
        .filter(|difference| difference.paths.iter().any(|found| found.as_bytes() == path.as_bytes()))
        .map(|difference| difference.kind)
        .collect();
    found.sort();
    assert_eq!(found, kinds, "{checked:?}");
    for difference in &checked.report.differences {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent).as_bytes();
        let known = |found: &copy::RelPath| found.as_bytes() == path.as_bytes() || found.as_bytes() == parent;
        assert!(difference.paths.iter().all(known), "{difference:?}");
        assert_eq!(difference.count as usize, difference.paths.len());
    }
}

/// Changes content without a trace in size and times.
fn keep_times(path: &Path, change: impl FnOnce(&std::fs::File)) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    change(&file);
    file.set_modified(mtime).unwrap();
}

fn flip(file: &std::fs::File, offset: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn every_kind_of_damage_is_found_and_named() {
    use DifferenceKind::{Content, Extra, Kind, Missing, Mode, Mtime, Owner, Size, SymlinkTarget};
    check(|b| keep_times(&b.join("dir/large"), |file| flip(file, 200_001)), "dir/large", &[Content]);
    check(|b| keep_times(&b.join("zero"), |file| flip(file, 0)), "zero", &[Content]);
    check(|b| keep_times(&b.join("dir/large"), |file| file.set_len(299_999).unwrap()), "dir/large", &[Size]);
    check(|b| keep_times(&b.join("empty"), |file| file.set_len(1).unwrap()), "empty", &[Size]);
    check(|b| std::fs::set_permissions(b.join("zero"), PermissionsExt::from_mode(0o777)).unwrap(), "zero", &[Mode]);
    check(|b| std::fs::set_permissions(b.join("dir"), PermissionsExt::from_mode(0o777)).unwrap(), "dir", &[Mode]);
    check(|b| chown(b.join("zero"), Some(77), None).unwrap(), "zero", &[Owner]);
    check(|b| std::fs::write(b.join("dir/new"), "x").unwrap(), "dir/new", &[Extra]);
    check(|b| std::fs::remove_file(b.join("dir/large")).unwrap(), "dir/large", &[Missing]);
    check(
        |b| {
            std::fs::remove_file(b.join("link")).unwrap();
            symlink("elsewhere", b.join("link")).unwrap();
        },
        "link",
        &[Owner, Mtime, SymlinkTarget],
    );
    check(
        |b| {
            std::fs::remove_file(b.join("zero")).unwrap();
            symlink("elsewhere", b.join("zero")).unwrap();
        },
        "zero",
        &[Kind],
    );
}

#[test]
fn a_further_name_of_a_file_is_found_at_both() {
    let bench = Bench::new();
    bench.create("b", &MemoryTree::from_model(&model()));
    std::fs::hard_link(bench.path("b/zero"), bench.path("b/dir/zero")).unwrap();
    let checked = bench.check("b");
    let found = checked.report.differences.iter().find(|d| d.kind == DifferenceKind::HardLinks).unwrap();
    assert_eq!(found.paths.iter().map(ToString::to_string).collect::<Vec<_>>(), ["zero"]);
}

#[test]
fn only_the_chosen_share_of_the_data_is_read_and_shares_together_find_everything() {
    let bench = Bench::new();
    bench.create("b", &MemoryTree::from_model(&model()));
    keep_times(&bench.path("b/dir/large"), |file| flip(file, 5));
    let share = |percent, from_percent| {
        let data = DataShare { percent, from_percent };
        bench.check_with("b", &CheckOptions { data, limits: limits(), ..CheckOptions::default() })
    };
    let none = share(0.0, 0.0);
    assert!(none.is_proven() && none.report.counters.opened_files == 0, "{none:?}");
    let found: Vec<_> = (0..4).map(|n| share(25.0, f64::from(n) * 25.0)).collect();
    assert_eq!(found.iter().filter(|checked| !checked.is_proven()).count(), 1);
    let read: u64 = found.iter().map(|checked| checked.report.counters.verified_files).sum();
    // Names of one file are read by themselves.
    assert_eq!(read, 7);
}

#[test]
fn damage_of_the_manifest_is_no_damage_of_the_backup_and_is_told() {
    let bench = Bench::new();
    let (_, _, root) = bench.create("b", &MemoryTree::from_model(&model()));
    let path = bench.path(".b.manifest.zst");
    let whole = std::fs::read(&path).unwrap();
    let mut unseen = 0;
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x20;
        std::fs::write(&path, &flipped).unwrap();
        match bench.check("b").proof {
            Proof::Damaged(_) => {}
            // A few bits of a compressed stream say nothing: every line is still what it was.
            Proof::Manifest { root: found, .. } => {
                assert_eq!(found.as_ref(), Some(&root));
                unseen += 1;
            }
            Proof::None => panic!("byte {at}"),
        }
    }
    assert!(unseen < 8, "{unseen}");
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(!bench.check("b").is_proven(), "cut at {len}");
    }
    std::fs::write(&path, [&whole[..], &whole[..]].concat()).unwrap();
    assert!(!bench.check("b").is_proven(), "twice");
    std::fs::remove_file(&path).unwrap();
    let checked = bench.check("b");
    assert!(checked.is_readable() && !checked.is_proven() && checked.proof == Proof::None);
    // What cannot be proven can be restored all the same.
    bench.assert_holds("b", &model());
}

#[test]
fn the_manifest_of_another_backup_proves_nothing() {
    let bench = Bench::new();
    bench.create("a", &MemoryTree::from_model(&model()));
    bench.create("b", &MemoryTree::from_model(&model()));
    std::fs::rename(bench.path(".a.manifest.zst"), bench.path(".b.manifest.zst")).unwrap();
    assert!(matches!(bench.check("b").proof, Proof::Damaged(_)));
}
