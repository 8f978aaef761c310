//! The source changes between the look at an entry and its use.

use std::io::Write as _;

use copy::Weakness;
use rustix::fs::FileType;
use testkit::Call;
use testkit::faulty::{Faults, On};
use testkit::model::{Entry, TreeModel};

use crate::harness::{attack, build, in_order, kind_of, mkfifo, mknod, swap_for_symlink};

fn tree() -> TreeModel {
    TreeModel::new()
        .with(b"f", Entry::file(b"harmless").mode(0o644))
        .with(b"d", Entry::dir())
        .with(b"d/f", Entry::file(b"harmless, too"))
}

#[test]
fn a_directory_becomes_a_symlink() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        let faults = Faults::new();
        let (dir, aside, target) = (arena.source().join("d"), arena.beside("aside"), arena.outside().join("keep"));
        arena.before(&faults, On::source().call(Call::OpenDir).name(b"d"), move || {
            swap_for_symlink(&dir, &aside, &target);
        });
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn a_file_becomes_a_symlink() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        let faults = Faults::new();
        let (file, aside, target) = (arena.source().join("f"), arena.beside("aside"), arena.outside().join("secret"));
        arena.before(&faults, On::source().call(Call::OpenFile).name(b"f"), move || {
            swap_for_symlink(&file, &aside, &target);
        });
        arena.copy_with(&faults, in_order());
        // Looked at again, it is copied as what it is now.
        arena.note_if(kind_of(&arena.dest().join("f")) != Some(FileType::Symlink), "the symlink was not made anew");
    });
}

#[test]
fn a_file_becomes_a_symlink_in_a_later_run() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        build(&TreeModel::new().with(b"f", Entry::file(b"older")), &arena.dest());
        let faults = Faults::new();
        let (file, aside, target) = (arena.source().join("f"), arena.beside("aside"), arena.outside().join("secret"));
        arena.before(&faults, On::source().call(Call::OpenFile).name(b"f"), move || {
            swap_for_symlink(&file, &aside, &target);
        });
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn a_file_becomes_a_fifo_without_a_writer() {
    attack(Weakness::BlockOnOpen, |arena| {
        build(&tree(), &arena.source());
        let faults = Faults::new();
        let file = arena.source().join("f");
        arena.before(&faults, On::source().call(Call::OpenFile).name(b"f"), move || {
            std::fs::remove_file(&file).unwrap();
            mkfifo(&file);
        });
        arena.copy_with(&faults, in_order());
        arena.note_if(kind_of(&arena.dest().join("f")) != Some(FileType::Fifo), "the FIFO was not made anew");
    });
}

#[test]
fn a_file_becomes_a_fifo_that_is_written_to() {
    attack(Weakness::TrustListing, |arena| {
        build(&tree(), &arena.source());
        let faults = Faults::new();
        let file = arena.source().join("f");
        let (sender, receiver) = std::sync::mpsc::channel();
        arena.before(&faults, On::source().call(Call::OpenFile).name(b"f"), move || {
            std::fs::remove_file(&file).unwrap();
            mkfifo(&file);
            // Open for both, so that there is a writer at all times and the data waits for a reader.
            let mut fifo = std::fs::File::options().read(true).write(true).open(&file).unwrap();
            fifo.write_all(b"from the fifo").unwrap();
            sender.send(fifo).unwrap();
        });
        arena.copy_with(&faults, in_order());
        let copied = arena.dest().join("f");
        arena.note_if(kind_of(&copied) != Some(FileType::Fifo), "the FIFO was opened and taken for a file");
        drop(receiver);
    });
}

#[test]
fn a_file_becomes_a_device() {
    attack(Weakness::TrustListing, |arena| {
        let names = ["zero", "null", "disk"];
        let mut model = TreeModel::new();
        for name in names {
            model.insert(name, Entry::file(b"harmless"));
        }
        build(&model, &arena.source());
        let faults = Faults::new();
        // The block device's number is reserved for examples: there is none, and asking for it loads no driver.
        let devices =
            [(FileType::CharacterDevice, 1, 5), (FileType::CharacterDevice, 1, 3), (FileType::BlockDevice, 42, 7)];
        for (name, (kind, major, minor)) in names.into_iter().zip(devices) {
            let file = arena.source().join(name);
            arena.before(&faults, On::source().call(Call::OpenFile).name(name.as_bytes()), move || {
                std::fs::remove_file(&file).unwrap();
                mknod(&file, kind, rustix::fs::makedev(major, minor));
            });
        }
        let report = arena.copy_with(&faults, in_order());
        for (name, (kind, ..)) in names.into_iter().zip(devices) {
            let found = kind_of(&arena.dest().join(name));
            arena.note_if(found != Some(kind), format!("the device `{name}` was opened and became {found:?}"));
        }
        arena.note_if(report.is_some_and(|report| report.counters.copied_bytes > 0), "bytes were read from a device");
    });
}

#[test]
fn special_files_are_never_opened() {
    attack(Weakness::None, |arena| {
        arena.fire();
        let source = arena.source();
        mkfifo(&source.join("fifo"));
        mknod(&source.join("socket"), FileType::Socket, 0);
        mknod(&source.join("zero"), FileType::CharacterDevice, rustix::fs::makedev(1, 5));
        mknod(&source.join("disk"), FileType::BlockDevice, rustix::fs::makedev(42, 7));
        let faults = Faults::new();
        let report = arena.copy_with(&faults, in_order()).unwrap();
        let opened = faults.record().iter().filter(|operation| operation.call.opens_file()).count();
        arena.note_if(opened > 0, format!("{opened} special files were opened"));
        arena.note_if(report.counters.action(copy::Action::Created) != 4, "not all were made anew");
    });
}

/// An entry that is a symlink at one look and a file at the next must not get the attributes of where it leads.
#[test]
fn a_symlink_is_looked_at_and_not_followed() {
    attack(Weakness::FollowSymlinks, |arena| {
        std::os::unix::fs::symlink(arena.outside().join("secret"), arena.source().join("f")).unwrap();
        std::os::unix::fs::symlink(arena.outside().join("keep"), arena.source().join("d")).unwrap();
        arena.fire();
        let faults = Faults::new();
        arena.copy_with(&faults, in_order());
        for name in ["f", "d"] {
            let found = kind_of(&arena.dest().join(name));
            arena.note_if(found != Some(FileType::Symlink), format!("the symlink `{name}` became {found:?}"));
        }
    });
}
