//! The comparison names exactly what differs, finds every way in which trees can differ, and finds nothing in copies.

use std::collections::BTreeMap;

use copy::{
    CompareOptions, CompareReport, CopyOptions, DifferenceKind as Kind, Ending, HashKind, InodeFlags, Records, Verify,
};
use proptest::prelude::*;
use rustix::io::Errno;
use testkit::faulty::{Effect, Faults, FaultyTree, On};
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, Entry, TreeModel, any_tree};
use testkit::{Call, Content, Side, acl};

use crate::faults::everything;
use crate::kit::{
    any_limits, assert_tidy, cases, compare, in_order, options, quick, run_clean, run_recorded, small_trees,
};

/// A change of the second tree, and what must be found, by path.
type Case = (&'static str, fn(&mut TreeModel), &'static [(&'static str, Kind)]);

fn model() -> TreeModel {
    let bytes: Vec<u8> = (0..50_000_u32).map(|i| (i / 4096 * 7 + i) as u8 | 1).collect();
    let sparse = Content::sparse(8 << 20, &[(0, &bytes), (4 << 20, &bytes)]);
    everything()
        .with("f", Entry::file(&bytes))
        .with("g", Entry::file(b"single"))
        .with("l1", Entry::file(b"linked"))
        .with_link("l1", "l2")
        .with("sparse", Entry::new(Body::File(sparse)))
}

fn found(report: &CompareReport) -> Vec<(String, Kind)> {
    let mut all: Vec<_> =
        report.differences.iter().flat_map(|d| d.paths.iter().map(|path| (path.to_string(), d.kind))).collect();
    all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    all
}

fn check(options: &CompareOptions, (name, change, expected): Case) {
    let ours = model();
    let mut theirs = ours.clone();
    change(&mut theirs);
    let (source, dest) = (MemoryTree::from_model(&ours), MemoryTree::from_model(&theirs));
    let report = compare(&source, &dest, options);
    let expected: Vec<_> = expected.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect();
    assert_eq!(found(&report), expected, "{name}");
    assert_eq!(report.counters.differences, expected.len() as u64, "{name}");
    assert_eq!(report.ending, Ending::Complete, "{name}");
    assert_eq!(report.is_same(), expected.is_empty(), "{name}");
    // It looks and does not touch.
    assert_eq!(dest.calls(Side::Dest).changes(), 0, "{name}");
    assert_tidy(&dest);
}

fn content(entry: &mut Entry) -> &mut Content {
    match &mut entry.body {
        Body::File(content) => content,
        _ => panic!("a file"),
    }
}

const CASES: &[Case] = &[
    ("nothing", |_| {}, &[]),
    ("a file is missing", |m| m.remove("g"), &[("g", Kind::Missing)]),
    ("a directory is missing", |m| m.remove("d/deep"), &[("d/deep", Kind::Missing)]),
    ("an extra file", |m| m.insert("d/new", Entry::file(b"")), &[("d/new", Kind::Extra)]),
    (
        "an extra directory with something in it",
        |m| {
            m.insert("new", Entry::dir());
            m.insert("new/below", Entry::fifo());
        },
        &[("new", Kind::Extra)],
    ),
    (
        "a file for a directory",
        |m| {
            m.remove("d/deep");
            m.insert("d/deep", Entry::file(b""));
        },
        &[("d/deep", Kind::Kind)],
    ),
    (
        "a directory for a file",
        |m| {
            m.remove("g");
            m.insert("g", Entry::dir());
        },
        &[("g", Kind::Kind)],
    ),
    (
        "a fifo for a socket",
        |m| {
            m.remove("d/socket");
            m.insert("d/socket", Entry::fifo().owner(3, 4));
        },
        &[("d/socket", Kind::Kind)],
    ),
    ("size", |m| m.edit("f", |e| content(e).set_len(49_999)), &[("f", Kind::Size)]),
    (
        "content, size and time as they were",
        |m| m.edit("f", |e| content(e).write_at(b"\0", 40_000)),
        &[("f", Kind::Content)],
    ),
    (
        "content of both names",
        |m| m.edit("l1", |e| content(e).write_at(b"X", 0)),
        &[("l1", Kind::Content), ("l2", Kind::Content)],
    ),
    (
        "content behind a hole",
        |m| m.edit("sparse", |e| content(e).write_at(b"\0", (4 << 20) + 7)),
        &[("sparse", Kind::Content)],
    ),
    ("content in a hole", |m| m.edit("sparse", |e| content(e).write_at(b"X", 2 << 20)), &[("sparse", Kind::Content)]),
    (
        "filled holes",
        |m| m.edit("sparse", |e| content(e).write_at(&vec![0; 3 << 20], 1 << 20)),
        &[("sparse", Kind::Holes)],
    ),
    ("mode", |m| m.edit("g", |e| e.mode = 0o600), &[("g", Kind::Mode)]),
    ("mode of a directory", |m| m.edit("d", |e| e.mode = 0o775), &[("d", Kind::Mode)]),
    ("lost setuid", |m| m.edit("d/big", |e| e.mode = 0o755), &[("d/big", Kind::Mode)]),
    ("owner", |m| m.edit("d/socket", |e| e.uid = 9), &[("d/socket", Kind::Owner)]),
    ("group of a symlink", |m| m.edit("d/link", |e| e.gid = 9), &[("d/link", Kind::Owner), ("link-too", Kind::Owner)]),
    ("nanoseconds", |m| m.edit("g", |e| e.mtime.nanos += 1), &[("g", Kind::Mtime)]),
    ("time of a directory", |m| m.edit("e", |e| e.mtime.seconds = 0), &[("e", Kind::Mtime)]),
    ("the root", |m| m.edit("", |e| e.mode = 0o700), &[(".", Kind::Mode)]),
    ("a lost attribute", |m| m.edit("d", |e| e.xattrs.clear()), &[("d", Kind::Xattr)]),
    (
        "another value",
        |m| m.edit("d/sparse", |e| drop(e.xattrs.insert(b"trusted.t".into(), b"3".into()))),
        &[("d/sparse", Kind::Xattr)],
    ),
    (
        "an attribute more",
        |m| m.edit("g", |e| drop(e.xattrs.insert(b"user.x".into(), b"".into()))),
        &[("g", Kind::Xattr)],
    ),
    ("a label of the system", |m| m.edit("g", |e| drop(e.xattrs.insert(b"security.selinux".into(), b"x".into()))), &[]),
    (
        "an ACL",
        |m| m.edit("d/acl", |e| drop(e.xattrs.insert(copy::ACL_ACCESS.into(), acl::with_user(0o640, 8, 6)))),
        &[("d/acl", Kind::Acl), ("e/acl-too", Kind::Acl)],
    ),
    ("a default ACL", |m| m.edit("e", |e| e.xattrs.clear()), &[("e", Kind::Acl)]),
    (
        "where a symlink leads",
        |m| m.edit("d/link", |e| e.body = Body::Symlink(b"../b".into())),
        &[("d/link", Kind::SymlinkTarget), ("link-too", Kind::SymlinkTarget)],
    ),
    ("a device number", |m| m.edit("d/device", |e| e.body = Body::CharDevice(0x104)), &[("d/device", Kind::Device)]),
    ("flags", |m| m.edit("a", |e| e.flags = InodeFlags(0)), &[("a", Kind::InodeFlags)]),
    (
        "several at once",
        |m| m.edit("g", |e| *e = Entry::file(b"SINGLE").mode(0o600).owner(4, 4).mtime(5, 5).xattr(b"user.x", b"")),
        &[("g", Kind::Content), ("g", Kind::Mode), ("g", Kind::Owner), ("g", Kind::Mtime), ("g", Kind::Xattr)],
    ),
    ("access times do not count", |m| m.edit("g", |e| e.atime.seconds = 0), &[]),
];

#[test]
fn each_difference_is_found_and_named_exactly() {
    for workers in [1, 4] {
        let mut options = CompareOptions::default();
        options.limits = quick(options.limits);
        options.limits.workers = Some(workers);
        options.limits.buffer_bytes = 30_000;
        for case in CASES {
            check(&options, *case);
        }
    }
}

#[test]
fn access_times_count_where_they_are_asked_for() {
    let options = CompareOptions { atime: true, ..CompareOptions::default() };
    check(&options, ("atime", |m| m.edit("g", |e| e.atime.seconds = 0), &[("g", Kind::Atime)]));
}

#[test]
fn without_content_no_file_is_opened() {
    let options = CompareOptions { content: false, ..CompareOptions::default() };
    check(&options, ("content", |m| m.edit("f", |e| content(e).write_at(b"\0", 40_000)), &[]));
    let (source, dest) = (MemoryTree::from_model(&model()), MemoryTree::from_model(&model()));
    assert!(compare(&source, &dest, &options).is_same());
    assert_eq!(source.calls(Side::Source).opened_files() + dest.calls(Side::Dest).opened_files(), 0);
}

#[test]
fn extra_entries_may_be_none_of_our_business() {
    let options = CompareOptions { extra: false, ..CompareOptions::default() };
    check(&options, ("extra", |m| m.insert("new", Entry::fifo()), &[]));
}

#[test]
fn links_are_compared_in_both_directions() {
    let joined = || TreeModel::new().with("a", Entry::file(b"x")).with_link("a", "b").with_link("a", "c");
    let parted =
        TreeModel::new().with("a", Entry::file(b"x")).with("b", Entry::file(b"x")).with("c", Entry::file(b"x"));
    let crossed = |first: &str, second: &str, third: &str, fourth: &str| {
        TreeModel::new()
            .with(first, Entry::file(b"x"))
            .with_link(first, second)
            .with(third, Entry::file(b"x"))
            .with_link(third, fourth)
    };
    let differ = |a: &TreeModel, b: &TreeModel| {
        let report = compare(&MemoryTree::from_model(a), &MemoryTree::from_model(b), &CompareOptions::default());
        assert!(report.differences.iter().all(|d| d.kind == Kind::HardLinks), "{:?}", report.differences);
        report.counters.differences
    };
    assert_eq!(differ(&joined(), &joined()), 0);
    assert_eq!(differ(&joined(), &parted), 2);
    assert_eq!(differ(&parted, &joined()), 2);
    assert!(differ(&crossed("a", "b", "c", "d"), &crossed("a", "c", "b", "d")) > 0);
    assert_eq!(differ(&crossed("a", "b", "c", "d"), &crossed("c", "d", "a", "b")), 0);
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn a_copy_is_the_same_and_a_changed_copy_is_not(
        model in any_tree(&small_trees()),
        limits in any_limits(),
        at: prop::sample::Index,
    ) {
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::new());
        run_clean(&source, &dest, &options());
        let compare_options = CompareOptions { atime: true, limits, ..CompareOptions::default() };
        let report = compare(&source, &dest, &compare_options);
        prop_assert!(report.is_same(), "{:?} {:?}", report.differences, report.faults);
        prop_assert_eq!(report.counters.done_entries as usize, model.len());
        let files: Vec<_> = model.iter().filter(|(_, e)| e.content().is_some_and(|c| c.size_bytes() > 0)).collect();
        if !files.is_empty() {
            let (path, entry) = at.get(&files);
            dest.rot(path, at.index(entry.content().unwrap().size_bytes() as usize) as u64);
            let report = compare(&source, &dest, &compare_options);
            let kinds: BTreeMap<_, _> = report.differences.iter().map(|d| (d.kind, d.count)).collect();
            let names = entry.link_group.map_or(1, |group| model.iter().filter(|(_, e)| e.link_group == Some(group)).count());
            prop_assert_eq!(kinds, BTreeMap::from([(Kind::Content, names as u64)]));
        }
    }
}

#[test]
fn a_copy_that_rots_before_it_is_verified_does_not_end_as_complete() {
    let (source, dest, faults) = (MemoryTree::from_model(&model()), MemoryTree::new(), Faults::new());
    let rotten = dest.clone();
    faults.before_first(On::dest().call(Call::Sync), move || rotten.rot("f", 123));
    let to = FaultyTree::new(dest.clone(), &faults);
    for (verify, ending) in [(Verify::Content, Ending::WithFaults), (Verify::Attributes, Ending::Complete)] {
        let report = crate::kit::run(&source, &to, &CopyOptions { verify, ..in_order() });
        assert_eq!(report.ending, ending, "{verify:?}");
        let verification = report.verification.unwrap();
        assert_eq!(verification.is_same(), verify == Verify::Attributes);
        if verify == Verify::Content {
            assert_eq!(found(&verification), [("f".to_owned(), Kind::Content)]);
        }
    }
}

#[test]
fn what_cannot_be_read_is_a_fault_and_not_the_same() {
    let (source, dest) = (MemoryTree::from_model(&model()), MemoryTree::from_model(&model()));
    for (side, call, path) in [
        (Side::Source, Call::Read, "f"),
        (Side::Dest, Call::Read, "f"),
        (Side::Dest, Call::Stat, "g"),
        (Side::Source, Call::OpenDir, "d"),
        (Side::Dest, Call::Descend, "d"),
        (Side::Source, Call::List, "d"),
        (Side::Dest, Call::List, "d"),
        (Side::Dest, Call::Xattrs, "g"),
        (Side::Dest, Call::OwnXattrs, "d"),
    ] {
        let faults = Faults::new();
        faults.add(On::any().side(side).call(call).path(path.as_bytes()), Effect::Fail(Errno::IO));
        let (from, to) = (FaultyTree::new(source.clone(), &faults), FaultyTree::new(dest.clone(), &faults));
        let report = compare(&from, &to, &CompareOptions { limits: in_order().limits, ..CompareOptions::default() });
        assert!(!report.is_same(), "{side:?} {call:?}");
        assert_eq!(report.ending, Ending::WithFaults, "{side:?} {call:?}");
        assert!(
            report.faults.iter().any(|f| f.path.as_bytes() == path.as_bytes()),
            "{side:?} {call:?}: {:?}",
            report.faults
        );
    }
}

#[test]
fn trees_without_attributes_are_compared_by_the_rest() {
    let how = MemoryOptions { xattrs: false, acls: false, inode_flags: false, ..MemoryOptions::default() };
    let plain = TreeModel::new().with("f", Entry::file(b"x")).with("d", Entry::dir());
    let mut rich = plain.clone();
    rich.edit("f", |e| drop(e.xattrs.insert(b"user.a".into(), b"1".into())));
    let (a, b) = (MemoryTree::from_model_with(&plain, how.clone()), MemoryTree::from_model_with(&plain, how));
    assert!(compare(&a, &b, &CompareOptions { records: Records::None, ..CompareOptions::default() }).is_same());
    let report = compare(&MemoryTree::from_model(&rich), &b, &CompareOptions::default());
    assert_eq!(found(&report), [("f".to_owned(), Kind::Xattr)], "{:?}", report.faults);
    assert!(compare(&MemoryTree::from_model(&plain), &b, &CompareOptions::default()).is_same());
    assert!(compare(&a, &MemoryTree::from_model(&plain), &CompareOptions::default()).is_same());
}

/// Checksums by path, from the records that a copy and from those that its verification told.
fn checksums(records: &[copy::EntryRecord]) -> BTreeMap<String, String> {
    records.iter().filter_map(|r| Some((r.path.to_string(), r.checksum?.to_string()))).collect()
}

#[test]
fn a_verification_gives_every_file_the_checksum_that_copying_it_would_have() {
    let model = model().with("empty", Entry::file(b""));
    for kind in [HashKind::Xxh3Blocks, HashKind::Blake3, HashKind::Sha256] {
        for buffer_bytes in [1, 100_000, 1 << 20] {
            let source = MemoryTree::from_model(&model);
            let mut options = CopyOptions { hash: Some(kind), verify: Verify::Content, ..options() };
            options.limits.buffer_bytes = buffer_bytes;
            let (_, copied) = run_recorded(&source, &MemoryTree::new(), &options);
            let in_flight = checksums(&copied.records());
            assert!(copied.verified().is_empty(), "nobody asked for more than what differs");
            options = CopyOptions { hash: None, verify_hash: Some(kind), ..options };
            let dest = MemoryTree::new();
            for run in ["first", "unchanged"] {
                let (report, told) = run_recorded(&source, &dest, &options);
                assert!(report.verification.unwrap().is_same());
                let mut verified = checksums(&told.verified());
                // A further name of a file is read again, but was not copied again.
                verified.retain(|path, _| in_flight.contains_key(path));
                assert_eq!(verified, in_flight, "{kind:?} {run} {buffer_bytes}");
            }
        }
    }
}

#[test]
fn what_differs_has_no_checksum_and_is_told() {
    let source = MemoryTree::from_model(&TreeModel::new().with("a", Entry::file(b"1")).with("b", Entry::file(b"2")));
    let dest = MemoryTree::from_model(&TreeModel::new().with("a", Entry::file(b"x")).with("b", Entry::file(b"2")));
    for verify_hash in [None, Some(HashKind::Xxh3Blocks)] {
        // Size and time are the same, so only the verification sees it.
        let options = CopyOptions { verify: Verify::Content, verify_hash, ..in_order() };
        let (report, told) = run_recorded(&source, &dest, &options);
        assert_eq!(report.ending, Ending::WithFaults);
        let told = told.verified();
        let different = told.iter().find(|r| r.path.as_bytes() == b"a").unwrap();
        assert_eq!((&different.differences[..], different.checksum), (&[Kind::Content][..], None));
        assert_eq!(told.len(), if verify_hash.is_some() { 3 } else { 1 }, "{told:?}");
    }
}
