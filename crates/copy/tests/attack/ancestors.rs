//! Directories far up are moved while the engine is deep below them and has given their descriptors back.
//!
//! On the way back it opens a parent by `..`, which leads to wherever the directory is by then.

use copy::Weakness;
use testkit::Call;
use testkit::faulty::{Faults, On};
use testkit::model::{Entry, TreeModel};

use crate::harness::{Arena, MALLORY, attack, build, in_order, limit_open_files, mirror};

/// Deeper than the descriptors that are left reach.
const DEPTH: usize = 80;
/// Where the chain is cut.
const CUT: usize = 40;
const OPEN_FILES: u64 = 90;

fn path(depth: usize) -> String {
    vec!["d"; depth].join("/")
}

fn chain(entry: &Entry) -> TreeModel {
    let mut model = TreeModel::new();
    for depth in 1..=DEPTH {
        model.insert(path(depth), entry.clone());
    }
    model
}

/// When the engine lists the deepest directory, the one at the cut moves out, into the victims' directory.
fn cut(arena: &Arena, faults: &Faults, on: On, root: std::path::PathBuf) {
    // Under its old name, so that a removal by the wrong parent finds it.
    let moved = arena.outside().join("d");
    arena.before(faults, on.call(Call::List).path(path(DEPTH).as_bytes()), move || {
        std::fs::rename(root.join(path(CUT)), moved).unwrap();
    });
}

/// Takes the moved directory away again, so that the judge sees what happened to the others.
fn take_back(arena: &Arena) {
    let _ = std::fs::rename(arena.outside().join("d"), arena.beside("moved"));
    restore_times(arena);
}

/// The attacker's own renames changed the time of the directory that holds the victims.
fn restore_times(arena: &Arena) {
    let time = Entry::dir().mtime;
    let spec = rustix::fs::Timespec { tv_sec: time.seconds, tv_nsec: i64::from(time.nanos) };
    let times = rustix::fs::Timestamps { last_access: spec, last_modification: spec };
    rustix::fs::utimensat(rustix::fs::CWD, arena.outside(), &times, rustix::fs::AtFlags::empty()).unwrap();
}

#[test]
fn a_source_directory_moves_out_and_its_parent_is_taken_for_another() {
    attack(Weakness::TrustInode, |arena| {
        limit_open_files(OPEN_FILES);
        // A file that waits above the cut until everything below is done; the victims have one of that name.
        let tree = chain(&Entry::dir()).with(format!("{}/z", path(CUT - 1)), Entry::file(b"harmless"));
        build(&tree, &arena.source());
        let faults = Faults::new();
        cut(arena, &faults, On::source(), arena.source());
        let report = arena.copy_with(&faults, in_order()).unwrap();
        take_back(arena);
        if !arena.is_weak() {
            let copied = std::fs::read(arena.dest().join(path(CUT - 1)).join("z"));
            arena.note_if(copied.ok().as_deref() != Some(b"harmless"), format!("not copied: {:?}", report.faults));
        }
    });
}

#[test]
fn a_dest_directory_moves_out_and_its_parent_is_taken_for_another() {
    attack(Weakness::TrustInode, |arena| {
        limit_open_files(OPEN_FILES);
        build(&chain(&Entry::dir().mode(0o777).owner(MALLORY, MALLORY)), &arena.source());
        let faults = Faults::new();
        cut(arena, &faults, On::source(), arena.dest());
        arena.copy_with(&faults, in_order());
        take_back(arena);
    });
}

#[test]
fn a_directory_that_is_removed_moves_out_and_its_parent_is_taken_for_another() {
    attack(Weakness::TrustInode, |arena| {
        limit_open_files(OPEN_FILES);
        build(&chain(&Entry::dir()), &arena.dest());
        let faults = Faults::new();
        cut(arena, &faults, On::dest(), arena.dest());
        arena.copy_with(&faults, mirror(in_order()));
        take_back(arena);
    });
}

/// Another directory takes the place of one that waits; what is in it was not there when the place was walked.
#[test]
fn a_directory_that_waits_is_replaced() {
    attack(Weakness::None, |arena| {
        limit_open_files(OPEN_FILES);
        let tree = chain(&Entry::dir()).with(format!("{}/z", path(CUT - 1)), Entry::file(b"harmless"));
        build(&tree, &arena.source());
        let other = arena.beside("other");
        std::fs::create_dir_all(other.join("d")).unwrap();
        std::fs::write(other.join("z"), crate::harness::SECRET).unwrap();
        let faults = Faults::new();
        let (taken, aside) = (arena.source().join(path(CUT - 1)), arena.beside("aside"));
        arena.before(&faults, On::source().call(Call::List).path(path(DEPTH).as_bytes()), move || {
            // Its child goes elsewhere, so that `..` does not lead back to it; another directory takes its place.
            std::fs::rename(taken.join("d"), aside).unwrap();
            std::fs::remove_file(taken.join("z")).unwrap();
            std::fs::remove_dir(&taken).unwrap();
            std::fs::rename(&other, &taken).unwrap();
        });
        arena.copy_with(&faults, in_order());
    });
}
