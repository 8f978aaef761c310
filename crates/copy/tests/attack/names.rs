//! Names that a careless program takes for something else, and names that only a lying server gives.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use copy::{EntryKind, ErrorClass, LocalTree, Weakness};
use testkit::faulty::Faults;
use testkit::model::{Entry, TreeModel};

use crate::harness::{MALLORY, attack, build, copy_trees, differences, in_order, mirror};
use crate::lying::{Lie, LyingTree};

#[test]
fn odd_names_are_copied_exactly() {
    attack(Weakness::None, |arena| {
        let mut tree = TreeModel::new();
        let mut long = vec![b'\n'; 255];
        long[0] = b'-';
        let names: [&[u8]; 20] = [
            b"x\n..",
            b"p",
            b"q",
            b"p\nq",
            b"...",
            b"....",
            b"-rf",
            b"--delete",
            b"-",
            b" ",
            b"\n",
            b"\\",
            b"*",
            b"$(reboot)",
            b"`id`",
            b"\x1b]0;owned\x07\x1b[2J",
            b"\xff\xfe",
            b"\xe2\x80\xae",
            b"a\rb\tc",
            &long,
        ];
        for name in names {
            tree.insert(name, Entry::dir());
            tree.insert([name, b"/", name].concat(), Entry::file(name));
            tree.insert([name, b"/.."].concat().iter().chain(b"\n").copied().collect::<Vec<_>>(), Entry::symlink(name));
        }
        build(&tree, &arena.source());
        // In the destination the same names wait to be removed one level up.
        build(&TreeModel::new().with(b"p", Entry::dir()).with(b"p/q", Entry::file(b"")), &arena.dest());
        arena.fire();
        let report = arena.copy_with(&Faults::new(), mirror(in_order())).unwrap();
        arena.note_if(!report.faults.is_empty(), format!("{:?}", report.faults));
        let found = differences(arena);
        arena.note_if(!found.is_empty(), format!("the copy is wrong: {found:?}"));
    });
}

#[test]
fn a_source_that_lists_ways_out_is_not_believed() {
    attack(Weakness::TrustNames, |arena| {
        let tree = TreeModel::new()
            .with(b"good", Entry::file(b"good"))
            .with(b"bait-link", Entry::symlink(b"/etc/shadow").owner(MALLORY, MALLORY))
            .with(b"bait-pipe", Entry::fifo().owner(MALLORY, MALLORY).mode(0o666))
            .with(b"bait-file", Entry::file(b"bait").owner(MALLORY, MALLORY))
            .with(b"bait-dir", Entry::dir().owner(MALLORY, MALLORY));
        build(&tree, &arena.source());
        let lie = |listed, answers, kind| Lie { listed, answers, kind: Some(kind) };
        let lies: [Lie; 11] = [
            lie(b"../outside/escaped-pipe", b"bait-pipe", EntryKind::Fifo),
            lie(b"../outside/keep/escaped-link", b"bait-link", EntryKind::Symlink),
            lie(b"../outside/escaped-file", b"bait-file", EntryKind::File),
            lie(b"../outside/sentinel", b"bait-file", EntryKind::File),
            lie(b"../outside", b"bait-dir", EntryKind::Dir),
            lie(b"..", b"bait-dir", EntryKind::Dir),
            lie(b".", b"bait-dir", EntryKind::Dir),
            lie(b"good/x", b"bait-file", EntryKind::File),
            lie(b"", b"bait-dir", EntryKind::Dir),
            lie(b"/escaped", b"bait-link", EntryKind::Symlink),
            lie(b"a\0b", b"bait-file", EntryKind::File),
        ];
        // The one that would leave the test's own place is for the build that refuses it.
        let lies: Vec<Lie> =
            lies.into_iter().filter(|lie| !arena.is_weak() || lie.listed[..1.min(lie.listed.len())] != *b"/").collect();
        let count = lies.len();
        let source = LyingTree { inner: LocalTree::open_source(&arena.source()).unwrap(), lies: lies.into() };
        arena.fire();
        let report = copy_trees(&source, &LocalTree::open_dest(&arena.dest()).unwrap(), &in_order());
        if !arena.is_weak() {
            let refused = report.faults.iter().filter(|fault| fault.error.class == ErrorClass::Escape).count();
            arena.note_if(refused != count, format!("{refused} of {count} lies were reported: {:?}", report.faults));
            let good = std::fs::read(arena.dest().join("good"));
            arena.note_if(good.ok().as_deref() != Some(b"good"), "the good file was not copied");
        }
    });
}

/// What is superfluous is told by the destination itself.
#[test]
fn a_destination_that_lists_ways_out_is_not_emptied_there() {
    attack(Weakness::TrustNames, |arena| {
        build(&TreeModel::new().with(b"good", Entry::file(b"good")), &arena.source());
        build(&TreeModel::new().with(b"extra", Entry::file(b"extra")), &arena.dest());
        let lie = |listed, kind| Lie { listed, answers: b"", kind: Some(kind) };
        let lies = [
            lie(b"../outside/sentinel", EntryKind::File),
            lie(b"../outside/keep/one", EntryKind::File),
            lie(b"../outside/keep", EntryKind::Dir),
            lie(b"../outside", EntryKind::Dir),
            lie(b"..", EntryKind::Dir),
            lie(b".", EntryKind::Dir),
            lie(b"", EntryKind::Dir),
        ];
        let count = lies.len();
        let dest = LyingTree { inner: LocalTree::open_dest(&arena.dest()).unwrap(), lies: lies.into() };
        arena.fire();
        let report = copy_trees(&LocalTree::open_source(&arena.source()).unwrap(), &dest, &mirror(in_order()));
        if !arena.is_weak() {
            let refused = report.faults.iter().filter(|fault| fault.error.class == ErrorClass::Escape).count();
            arena.note_if(refused != count, format!("{refused} of {count} lies were reported: {:?}", report.faults));
            let left = std::fs::symlink_metadata(arena.dest().join(OsStr::from_bytes(b"extra"))).is_ok();
            arena.note_if(left, "what is superfluous was not removed");
        }
    });
}
