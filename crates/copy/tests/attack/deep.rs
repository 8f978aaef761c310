//! Trees so deep that a recursion would end in a crash, and that no path can name.

use std::os::fd::OwnedFd;
use std::path::Path;

use copy::{Action, Ending, Weakness};
use rustix::fs::{CWD, Mode, OFlags};

use crate::harness::{Arena, attack, limit_open_files, mirror, quick};

const DIR: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A chain with a file at its end, and `files` in every directory.
fn make_chain(root: &Path, depth: usize, files: usize) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let mut dir: OwnedFd = rustix::fs::openat(CWD, root, DIR, Mode::empty()).unwrap();
    for _ in 0..depth {
        for file in 0..files {
            rustix::fs::openat(&dir, format!("f{file}"), flags, Mode::RUSR).unwrap();
        }
        rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, "d", DIR, Mode::empty()).unwrap();
    }
    rustix::fs::openat(&dir, "bottom", flags, Mode::RUSR).unwrap();
}

/// How deep a chain is, and whether the file is at its end.
fn measure(root: &Path) -> (usize, bool) {
    let mut dir: OwnedFd = rustix::fs::openat(CWD, root, DIR, Mode::empty()).unwrap();
    let mut depth = 0;
    while let Ok(next) = rustix::fs::openat(&dir, "d", DIR, Mode::empty()) {
        dir = next;
        depth += 1;
    }
    let bottom = rustix::fs::statat(&dir, "bottom", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    (depth, bottom)
}

fn copy_and_remove(arena: &Arena, depth: usize, files: usize) {
    make_chain(&arena.source(), depth, files);
    arena.fire();
    let report = arena.copy(quick()).unwrap();
    arena.note_if(
        report.ending != Ending::Complete,
        format!(
            "{:?}: {} faults {:?}",
            report.ending,
            report.faults.len(),
            report.faults.first().map(|fault| fault.error)
        ),
    );
    let copied = measure(&arena.dest());
    arena.note_if(copied != (depth, true), format!("copied: {copied:?}"));
    // Again, when there is nothing to do but to walk both.
    let report = arena.copy(mirror(quick())).unwrap();
    let unchanged = report.counters.action(Action::Unchanged);
    arena.note_if(
        unchanged != (depth * (1 + files) + 2) as u64,
        format!("{unchanged} unchanged, {} faults", report.faults.len()),
    );
    // And away with it.
    std::fs::rename(arena.source(), arena.beside("full")).unwrap();
    std::fs::create_dir(arena.source()).unwrap();
    let report = arena.copy(mirror(quick())).unwrap();
    arena.note_if(
        report.ending != Ending::Complete,
        format!(
            "{:?}: {} faults {:?}",
            report.ending,
            report.faults.len(),
            report.faults.first().map(|fault| fault.error)
        ),
    );
    arena.note_if(measure(&arena.dest()) != (0, false), "the chain was not removed");
}

#[test]
fn a_chain_of_20000_directories() {
    attack(Weakness::None, |arena| copy_and_remove(arena, 20_000, 0));
}

/// Far deeper than descriptors reach.
#[test]
fn a_chain_of_2000_directories_with_100_descriptors() {
    attack(Weakness::None, |arena| {
        limit_open_files(100);
        copy_and_remove(arena, 2_000, 2);
    });
}
