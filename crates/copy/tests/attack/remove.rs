//! `--delete` while what it removes is swapped for what it must not touch.

use copy::Weakness;
use testkit::Call;
use testkit::disk::Tmpfs;
use testkit::faulty::{Faults, On};
use testkit::model::{Entry, TreeModel};

use crate::harness::{attack, build, in_order, kind_of, mirror, swap_for_symlink};

fn superfluous() -> TreeModel {
    TreeModel::new()
        .with(b"extra", Entry::dir())
        .with(b"extra/below", Entry::dir())
        .with(b"extra/below/two", Entry::file(b"2"))
        .with(b"extra/one", Entry::file(b"1"))
}

#[test]
fn a_directory_that_is_removed_becomes_a_symlink() {
    attack(Weakness::RemoveByName, |arena| {
        build(&superfluous(), &arena.dest());
        let faults = Faults::new();
        let (dir, aside, target) = (arena.dest().join("extra"), arena.beside("aside"), arena.outside().join("keep"));
        arena.before(&faults, On::dest().call(Call::Descend).name(b"extra"), move || {
            swap_for_symlink(&dir, &aside, &target);
        });
        arena.copy_with(&faults, mirror(in_order()));
    });
}

#[test]
fn a_directory_below_one_that_is_removed_becomes_a_symlink() {
    attack(Weakness::RemoveByName, |arena| {
        build(&superfluous(), &arena.dest());
        let faults = Faults::new();
        let (dir, aside) = (arena.dest().join("extra/below"), arena.beside("aside"));
        let target = arena.outside().join("keep/below");
        arena.before(&faults, On::dest().call(Call::Descend).name(b"below"), move || {
            swap_for_symlink(&dir, &aside, &target);
        });
        arena.copy_with(&faults, mirror(in_order()));
    });
}

/// A file takes the place of a directory, which is emptied for it.
#[test]
fn a_directory_that_makes_way_becomes_a_symlink() {
    attack(Weakness::RemoveByName, |arena| {
        build(&TreeModel::new().with(b"extra", Entry::file(b"now a file")), &arena.source());
        build(&superfluous(), &arena.dest());
        let faults = Faults::new();
        let (dir, aside, target) = (arena.dest().join("extra"), arena.beside("aside"), arena.outside().join("keep"));
        arena.before(&faults, On::dest().call(Call::Descend).name(b"extra"), move || {
            swap_for_symlink(&dir, &aside, &target);
        });
        arena.copy_with(&faults, mirror(in_order()));
    });
}

#[test]
fn a_mount_in_the_destination_is_not_emptied() {
    attack(Weakness::RemoveByName, |arena| {
        build(&superfluous(), &arena.dest());
        let mounted = Tmpfs::new(1 << 20, None).unwrap();
        build(&superfluous(), mounted.path());
        let point = arena.dest().join("extra/below");
        let bound = Bind::new(mounted.path(), &point);
        arena.fire();
        arena.copy_with(&Faults::new(), mirror(in_order()));
        drop(bound);
        let left = kind_of(&mounted.path().join("extra/below/two"));
        arena.note_if(left.is_none(), "what was mounted in the destination was emptied");
    });
}

/// The symlinks themselves are superfluous; what they lead to is not.
#[test]
fn symlinks_are_removed_and_not_followed() {
    attack(Weakness::None, |arena| {
        arena.fire();
        for (name, target) in [("dir", "keep"), ("file", "secret"), ("pipe", "pipe")] {
            std::os::unix::fs::symlink(arena.outside().join(target), arena.dest().join(name)).unwrap();
            std::fs::hard_link(arena.outside().join("sentinel"), arena.dest().join(format!("hard-{name}"))).unwrap();
        }
        let report = arena.copy_with(&Faults::new(), mirror(in_order())).unwrap();
        let deleted = report.counters.action(copy::Action::Deleted);
        arena.note_if(deleted != 6, format!("{deleted} of 6 names were removed"));
    });
}

struct Bind<'a>(&'a std::path::Path);

impl<'a> Bind<'a> {
    fn new(from: &std::path::Path, to: &'a std::path::Path) -> Self {
        rustix::mount::mount_bind(from, to).unwrap();
        Self(to)
    }
}

impl Drop for Bind<'_> {
    fn drop(&mut self) {
        let detach = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        if let Err(errno) = rustix::mount::unmount(self.0, detach) {
            eprintln!("cannot unmount {:?}: {errno}", self.0);
        }
    }
}
