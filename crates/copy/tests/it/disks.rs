//! Real file systems: what memory trees promise must hold where the kernel answers.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use copy::{
    CompareOptions, CopyOptions, CopyReport, EntryKind, HashKind, InodeFlags, Limits, LocalTree, Mover, Movers, Sparse,
    Verify,
};
use testkit::disk::{FsKind, LoopDisk, Tmpfs, need_root};
use testkit::model::{
    Body, DiffOptions, Entry, TreeModel, TreeShape, diff, diff_with, materialise, sample_trees, snapshot_dir,
};
use testkit::{Content, lend};

use crate::faults::everything;
use crate::incremental::MIRROR;
use crate::kit::{assert_clean, compare, options, run};

pub(crate) fn copy_dir(from: &Path, to: &Path, options: &CopyOptions) -> CopyReport {
    let (source, dest) = (LocalTree::open_source(from).unwrap(), LocalTree::open_dest(to).unwrap());
    run(&source, &dest, options)
}

#[track_caller]
pub(crate) fn build(model: &TreeModel, root: &Path) {
    assert_eq!(materialise(model, root).unwrap().left_out, Vec::<String>::new());
}

/// The copy is the model, the next run has nothing to do, and the comparison agrees.
#[track_caller]
fn check_copy(model: &TreeModel, from: &Path, to: &Path, options: &CopyOptions) {
    assert_clean(&copy_dir(from, to, options));
    let lines = diff(&without_link_times(model), &without_link_times(&snapshot_dir(to).unwrap()));
    assert!(lines.is_empty(), "{} {:?}:\n{}", to.file_name().unwrap().display(), options.movers, lines.join("\n"));
    let again = copy_dir(from, to, options);
    assert_clean(&again);
    assert_eq!((again.counters.copied_files, again.counters.opened_files), (0, 0), "{:?}", again.counters);
    let (source, dest) = (LocalTree::open_source(from).unwrap(), LocalTree::open_dest(to).unwrap());
    let report = compare(&source, &dest, &CompareOptions::default());
    assert!(report.is_same(), "{:?} {:?}", report.differences, report.faults);
}

/// Reading a symlink changes its access time; nothing can spare that, and the next copy takes it over.
fn without_link_times(model: &TreeModel) -> TreeModel {
    let mut out = model.clone();
    for (path, _) in model.iter().filter(|(_, e)| e.kind() == EntryKind::Symlink) {
        out.edit(path, |e| e.atime = copy::Timestamp::default());
    }
    out
}

/// All that a tenant may have, beyond what fits in memory trees' tests.
fn rich() -> TreeModel {
    let mut model = everything()
        .with([b'n'; 255], Entry::file(b"the longest name"))
        .with("x\n..", Entry::dir())
        .with("p", Entry::file(b"1"))
        .with("q", Entry::file(b"2"))
        .with("p\nq", Entry::file(b"3"))
        .with(b"\xff\xfe", Entry::symlink(b"\xff"))
        .with("early", Entry::file(b"1901").mtime(-2_000_000_000, 1))
        .with("late", Entry::file(b"2200").mtime(7_258_118_400, 999_999_999))
        .with("ghost", Entry::file(b"nobody").mode(0).owner(u32::MAX - 1, u32::MAX - 1))
        .with("suid", Entry::file(b"#!").owner(7, 7).mode(0o6755))
        .with("sticky", Entry::dir().mode(0o1777));
    // As `setcap cap_net_raw=ep` writes it.
    let capability = b"\x01\x00\x00\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    model.insert("ping", Entry::file(b"ELF").xattr(b"security.capability", capability));
    model.edit("p", |e| e.flags = InodeFlags(0x10));
    model
}

#[test]
fn every_file_system_gets_random_trees() {
    let shape = TreeShape { steps_max: 100, ..TreeShape::default() };
    for kind in FsKind::ALL {
        let disk = lend!("every_file_system_gets_random_trees", LoopDisk::new(kind));
        for (round, model) in sample_trees(&shape, 2).into_iter().enumerate() {
            let from = disk.subdir(&format!("from{round}"));
            build(&model, &from);
            check_copy(&model, &from, &disk.path().join(format!("to{round}")), &options());
        }
    }
}

#[test]
fn every_file_system_gets_everything_and_every_mover_moves_it() {
    for kind in FsKind::ALL {
        let disk = lend!("every_file_system_gets_everything_and_every_mover_moves_it", LoopDisk::new(kind));
        let (model, from) = (rich(), disk.subdir("from"));
        build(&model, &from);
        let hash = |kind| CopyOptions { hash: Some(kind), verify: Verify::Content, ..options() };
        let forced = |mover| CopyOptions { movers: Movers::forced(mover), ..options() };
        let tiny = Limits { workers: Some(4), range_bytes: 1, buffer_bytes: 1, small_bytes: 1, ..options().limits };
        let mut ways = vec![
            options(),
            hash(HashKind::Xxh3Blocks),
            hash(HashKind::Sha256),
            CopyOptions { sparse: Sparse::Detect, ..options() },
            CopyOptions { limits: tiny.clone(), ..options() },
            CopyOptions { limits: tiny, ..forced(Mover::Ranges) },
            forced(Mover::Buffered),
            forced(Mover::Sparse),
            forced(Mover::CopyFileRange),
        ];
        if kind != FsKind::Ext4 {
            ways.push(forced(Mover::Reflink));
        }
        for (round, options) in ways.iter().enumerate() {
            check_copy(&model, &from, &disk.path().join(format!("to{round}")), options);
        }
    }
}

#[test]
fn trees_go_from_each_file_system_to_each_other() {
    let name = "trees_go_from_each_file_system_to_each_other";
    let disks = [
        lend!(name, LoopDisk::new(FsKind::Ext4)),
        lend!(name, LoopDisk::new(FsKind::Xfs)),
        lend!(name, LoopDisk::new(FsKind::Btrfs)),
    ];
    let memory = lend!(name, Tmpfs::new(1 << 30, None));
    let mut model = rich();
    // What only disks have.
    let frozen: Vec<_> = model.iter().filter(|(_, e)| !e.flags.is_empty()).map(|(path, _)| path.to_vec()).collect();
    for path in &frozen {
        model.edit(path, |e| e.flags = InodeFlags(0));
    }
    let roots: Vec<_> = disks.iter().map(LoopDisk::path).chain([memory.path()]).collect();
    for (i, from) in roots.iter().enumerate() {
        let source = from.join("from");
        std::fs::create_dir(&source).unwrap();
        build(&model, &source);
        for to in roots.iter().filter(|to| *to != from) {
            check_copy(&model, &source, &to.join(format!("to{i}")), &options());
        }
    }
}

#[test]
fn the_mover_that_fits_is_found_without_being_told() {
    let name = "the_mover_that_fits_is_found_without_being_told";
    let bytes = vec![5; 1 << 20];
    let model = TreeModel::new().with("large", Entry::file(&bytes)).with("small", Entry::file(b"small"));
    for (kind, large) in
        [(FsKind::Ext4, Mover::Buffered), (FsKind::Xfs, Mover::Reflink), (FsKind::Btrfs, Mover::Reflink)]
    {
        let disk = lend!(name, LoopDisk::new(kind));
        let from = disk.subdir("from");
        build(&model, &from);
        let report = copy_dir(&from, &disk.path().join("to"), &options());
        assert_clean(&report);
        assert_eq!(
            report.counters.mover_files[large as usize],
            if large == Mover::Buffered { 2 } else { 1 },
            "{}",
            kind.as_str()
        );
        assert_eq!(diff(&model, &snapshot_dir(&disk.path().join("to")).unwrap()), Vec::<String>::new());
    }
}

#[test]
fn space_set_aside_stays_set_aside_and_holes_stay_holes() {
    for kind in [FsKind::Ext4, FsKind::Xfs] {
        let disk = lend!("space_set_aside_stays_set_aside_and_holes_stay_holes", LoopDisk::new(kind));
        let mut reserved = Content::sparse(8 << 20, &[(0, &[1; 4096]), (4 << 20, &[2; 4096])]);
        reserved.allocate(&(0..8 << 20));
        let sparse = Content::sparse(64 << 20, &[(10 << 20, &[3; 8192]), ((64 << 20) - 4096, &[4; 4096])]);
        let model = TreeModel::new()
            .with("reserved", Entry::new(Body::File(reserved)))
            .with("sparse", Entry::new(Body::File(sparse)));
        let from = disk.subdir("from");
        build(&model, &from);
        for (round, hash) in [None, Some(HashKind::Xxh3Blocks), Some(HashKind::Blake3)].into_iter().enumerate() {
            let to = disk.path().join(format!("to{round}"));
            // Reflinks would share the extents, which proves nothing.
            let movers = Movers::default().without(Mover::Reflink);
            check_copy(&model, &from, &to, &CopyOptions { hash, movers, ..options() });
            let allocated = |path: &Path| std::fs::symlink_metadata(path).unwrap().blocks() * 512;
            let (ours, theirs) = (allocated(&from.join("reserved")), allocated(&to.join("reserved")));
            assert!(theirs >= 8 << 20 && theirs <= ours + 65_536, "{}: {ours} {theirs}", kind.as_str());
            assert!(allocated(&to.join("sparse")) <= allocated(&from.join("sparse")) + 65_536);
            let exact = DiffOptions { holes: true, ..DiffOptions::default() };
            rustix::fs::sync();
            let lines = diff_with(&snapshot_dir(&from).unwrap(), &snapshot_dir(&to).unwrap(), &exact);
            assert_eq!(lines, Vec::<String>::new(), "{} {hash:?}", kind.as_str());
        }
    }
}

#[test]
fn the_largest_apparent_file_costs_no_time() {
    for (kind, size) in [(FsKind::Ext4, (16 << 40) - 4096), (FsKind::Xfs, i64::MAX as u64)] {
        let disk = lend!("the_largest_apparent_file_costs_no_time", LoopDisk::new(kind));
        let (from, to) = (disk.subdir("from"), disk.path().join("to"));
        let content =
            Content::sparse(size, &[(0, b"begin"), (1 << 40, b"middle"), (size / 4096 * 4096 - 8192, b"end")]);
        let model = TreeModel::new().with("huge", Entry::new(Body::File(content)));
        build(&model, &from);
        let started = Instant::now();
        check_copy(
            &model,
            &from,
            &to,
            &CopyOptions { hash: Some(HashKind::Xxh3Blocks), verify: Verify::Content, ..options() },
        );
        let ranges = CopyOptions { movers: Movers::forced(Mover::Ranges), ..options() };
        check_copy(&model, &from, &disk.path().join("to2"), &ranges);
        assert!(started.elapsed() < Duration::from_secs(20), "{}: {:?}", kind.as_str(), started.elapsed());
    }
}

#[test]
fn frozen_files_are_made_frozen_and_replaced_when_they_change() {
    for kind in FsKind::ALL {
        let disk = lend!("frozen_files_are_made_frozen_and_replaced_when_they_change", LoopDisk::new(kind));
        let mut before = TreeModel::new()
            .with("immutable", Entry::file(b"first"))
            .with("append", Entry::file(b"first"))
            .with("moded", Entry::file(b"same"))
            .with("thawed", Entry::file(b"same"))
            .with("goes", Entry::file(b"is not in the source"));
        for (path, flags) in [("immutable", 0x10), ("append", 0x20), ("moded", 0x10), ("thawed", 0x10), ("goes", 0x10)]
        {
            before.edit(path, |e| e.flags = InodeFlags(flags));
        }
        let mut after = before.clone();
        for path in ["immutable", "append"] {
            after.edit(path, |e| {
                e.body = Entry::file(b"second, longer").body;
                e.mtime.seconds += 5;
            });
        }
        after.edit("moded", |e| e.mode = 0o600);
        after.edit("thawed", |e| e.flags = InodeFlags(0));
        after.remove("goes");
        let (first, second, to) = (disk.subdir("first"), disk.subdir("second"), disk.path().join("to"));
        build(&before, &first);
        build(&after, &second);
        check_copy(&before, &first, &to, &options());
        check_copy(&after, &second, &to, &CopyOptions { delete: MIRROR, ..options() });
    }
}

#[test]
fn incremental_copies_of_random_trees_are_mirrors() {
    let disk = lend!("incremental_copies_of_random_trees_are_mirrors", LoopDisk::new(FsKind::Ext4));
    let shape = TreeShape { steps_max: 60, ..TreeShape::default() };
    let to = disk.path().join("to");
    // Each over the remains of the one before.
    for (round, model) in sample_trees(&shape, 5).into_iter().enumerate() {
        let from = disk.subdir(&format!("from{round}"));
        build(&model, &from);
        let report = copy_dir(&from, &to, &CopyOptions { delete: MIRROR, ..options() });
        assert_clean(&report);
        let kept = DiffOptions { atime: false, ..DiffOptions::default() };
        assert_eq!(diff_with(&model, &snapshot_dir(&to).unwrap(), &kept), Vec::<String>::new(), "round {round}");
    }
}

#[test]
fn an_unprivileged_copy_of_what_it_may_read_is_right() {
    if need_root().is_ok() {
        // Root has its own tests; without privileges this one is all there is.
        return;
    }
    let dir = testkit::disk::TempDir::new();
    let (from, to) = (dir.subdir("from"), dir.path().join("to"));
    let model = sample_trees(&TreeShape::unprivileged(), 1).remove(0);
    build(&model, &from);
    check_copy(&model, &from, &to, &options());
    assert_eq!(model.count(EntryKind::CharDevice), 0);
}

/// XFS sets space aside behind a file that grows, which must not stay in the holes of the copy.
#[test]
fn holes_of_a_large_sparse_file_hold_no_space_set_aside() {
    let name = "holes_of_a_large_sparse_file_hold_no_space_set_aside";
    let (from, to) = (lend!(name, LoopDisk::new(FsKind::Xfs)), lend!(name, LoopDisk::new(FsKind::Xfs)));
    let data = vec![7; 1 << 20];
    // Of all sizes and distances: how much is set aside depends on what was written just before.
    let extents: Vec<(u64, &[u8])> = (0..100_u64).map(|i| (i * (50 << 20), &data[..4096 << (i * 7 % 9)])).collect();
    let model = TreeModel::new().with("f", Entry::new(Body::File(Content::sparse(5 << 30, &extents))));
    let (source, dest) = (from.subdir("source"), to.subdir("dest"));
    build(&model, &source);
    assert_clean(&copy_dir(&source, &dest, &options()));
    let blocks = |dir: &Path| std::fs::metadata(dir.join("f")).unwrap().blocks() * 512;
    assert!(blocks(&dest) <= blocks(&source) + (1 << 20), "{} and {}", blocks(&source), blocks(&dest));
}
