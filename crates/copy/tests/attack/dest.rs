//! The destination is prepared, or changes between the making of an entry and its use.

use std::os::unix::fs::{MetadataExt as _, symlink};

use copy::Weakness;
use testkit::Call;
use testkit::faulty::{Faults, On};
use testkit::model::{Entry, TreeModel};

use crate::harness::{
    MALLORY, attack, build, differences, in_order, kind_of, mkfifo, mode_of, swap_for_hard_link, swap_for_symlink,
};

/// What a tenant would like to see on files of others.
fn mallorys(entry: Entry) -> Entry {
    entry.mode(0o666).owner(MALLORY, MALLORY)
}

#[test]
fn a_directory_becomes_a_symlink() {
    attack(Weakness::FollowSymlinks, |arena| {
        let tree = TreeModel::new()
            .with(b"d", mallorys(Entry::dir()))
            .with(b"d/new", mallorys(Entry::file(b"planted")))
            .with(b"d/below", Entry::dir())
            .with(b"d/one", mallorys(Entry::file(b"overwritten")).xattr(b"user.mine", b"yes"));
        build(&tree, &arena.source());
        build(&TreeModel::new().with(b"d", Entry::dir()).with(b"d/old", Entry::file(b"old")), &arena.dest());
        let faults = Faults::new();
        let (dir, aside, target) = (arena.dest().join("d"), arena.beside("aside"), arena.outside().join("keep"));
        arena.before(&faults, On::dest().call(Call::Descend).name(b"d"), move || {
            swap_for_symlink(&dir, &aside, &target);
        });
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn a_symlink_is_planted_where_a_file_is_made() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&TreeModel::new().with(b"f", mallorys(Entry::file(b"overwritten"))), &arena.source());
        let faults = Faults::new();
        let (file, target) = (arena.dest().join("f"), arena.outside().join("sentinel"));
        arena.before(&faults, On::dest().call(Call::CreateFile).name(b"f"), move || symlink(target, file).unwrap());
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn a_dangling_symlink_is_planted_where_a_file_is_made() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&TreeModel::new().with(b"f", mallorys(Entry::file(b"new"))), &arena.source());
        let faults = Faults::new();
        let (file, target) = (arena.dest().join("f"), arena.outside().join("new"));
        arena.before(&faults, On::dest().call(Call::CreateFile).name(b"f"), move || symlink(target, file).unwrap());
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn symlinks_wait_under_the_names_of_the_source() {
    attack(Weakness::FollowSymlinks, |arena| {
        let tree = TreeModel::new()
            .with(b"dir", mallorys(Entry::dir()))
            .with(b"dir/new", mallorys(Entry::file(b"planted")))
            .with(b"dangling-dir", Entry::dir())
            .with(b"dangling-dir/f", Entry::file(b"f"))
            .with(b"file", mallorys(Entry::file(b"overwritten")))
            .with(b"dangling", mallorys(Entry::file(b"new")))
            .with(b"fifo", mallorys(Entry::fifo()))
            .with(b"first", mallorys(Entry::file(b"linked")))
            .with_link(b"first", b"second")
            .with(b"symlink", Entry::symlink(b"harmless").owner(MALLORY, MALLORY));
        build(&tree, &arena.source());
        let (dest, outside) = (arena.dest(), arena.outside());
        for (name, target) in [
            ("dir", "keep"),
            ("dangling-dir", "new-dir"),
            ("file", "sentinel"),
            ("dangling", "new"),
            ("fifo", "pipe"),
            ("first", "new-first"),
            ("second", "secret"),
            ("symlink", "sentinel"),
        ] {
            symlink(outside.join(target), dest.join(name)).unwrap();
        }
        arena.fire();
        let report = arena.copy_with(&Faults::new(), in_order());
        if !arena.is_weak() {
            let wrong = differences(arena);
            arena.note_if(!wrong.is_empty(), format!("the copy is wrong: {wrong:?} {:?}", report.map(|r| r.faults)));
        }
    });
}

#[test]
fn a_fifo_becomes_a_symlink_before_it_gets_its_owner() {
    attack(Weakness::AttributesByName, |arena| {
        build(&TreeModel::new().with(b"fifo", mallorys(Entry::fifo())), &arena.source());
        let faults = Faults::new();
        let (fifo, target) = (arena.dest().join("fifo"), arena.outside().join("pipe"));
        arena.before(&faults, On::dest().call(Call::Hold).name(b"fifo"), move || {
            std::fs::remove_file(&fifo).unwrap();
            symlink(target, fifo).unwrap();
        });
        arena.copy_with(&faults, in_order());
    });
}

/// A hard link needs no following: the victim itself has the name.
#[test]
fn a_fifo_becomes_a_hard_link_before_it_gets_its_owner() {
    attack(Weakness::TrustInode, |arena| {
        build(&TreeModel::new().with(b"fifo", mallorys(Entry::fifo())), &arena.source());
        let faults = Faults::new();
        let (fifo, target) = (arena.dest().join("fifo"), arena.outside().join("pipe"));
        arena.before(&faults, On::dest().call(Call::Hold).name(b"fifo"), move || swap_for_hard_link(&fifo, &target));
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn a_symlink_becomes_another_before_it_gets_its_owner() {
    attack(Weakness::TrustInode, |arena| {
        let tree = TreeModel::new().with(b"s", Entry::symlink(b"x").owner(MALLORY, MALLORY));
        build(&tree, &arena.source());
        let faults = Faults::new();
        let (link, target) = (arena.dest().join("s"), arena.outside().join("link"));
        arena.before(&faults, On::dest().call(Call::Hold).name(b"s"), move || swap_for_hard_link(&link, &target));
        arena.copy_with(&faults, in_order());
    });
}

#[test]
fn an_old_file_becomes_a_hard_link_before_it_gets_its_owner() {
    attack(Weakness::TrustInode, |arena| {
        build(&TreeModel::new().with(b"f", mallorys(Entry::file(b"same"))), &arena.source());
        build(&TreeModel::new().with(b"f", Entry::file(b"same").mode(0o600)), &arena.dest());
        let faults = Faults::new();
        let (file, target) = (arena.dest().join("f"), arena.outside().join("sentinel"));
        arena.before(&faults, On::dest().call(Call::Hold).name(b"f"), move || swap_for_hard_link(&file, &target));
        arena.copy_with(&faults, in_order());
    });
}

/// The tenant makes a file of the victim's size and time, and gives the victim that name in the destination: to a later
/// run only the owner and the mode seem to be wrong.
#[test]
fn a_hard_link_to_a_victim_waits_in_the_destination() {
    attack(Weakness::ShareInodes, |arena| {
        let twin = mallorys(Entry::file(b"DO NOT TOUCH\n")).mtime(1_500_000_000, 5).xattr(b"user.mine", b"yes");
        let tree = TreeModel::new().with(b"single", twin.clone()).with(b"one", twin).with_link(b"one", b"two");
        build(&tree, &arena.source());
        for name in ["single", "one", "two"] {
            std::fs::hard_link(arena.outside().join("sentinel"), arena.dest().join(name)).unwrap();
        }
        arena.fire();
        let faults = Faults::new();
        arena.copy_with(&faults, in_order());
        if !arena.is_weak() {
            let ino = |path: std::path::PathBuf| std::fs::symlink_metadata(path).unwrap().ino();
            let victim = ino(arena.outside().join("sentinel"));
            let (one, two) = (ino(arena.dest().join("one")), ino(arena.dest().join("two")));
            arena.note_if(one == victim || one != two, "the names are not one new inode");
            arena.note_if(mode_of(&arena.dest().join("single")) != 0o666, "the single file was not made anew");
        }
    });
}

/// Other content: the name is removed and a new file made, the victim's inode is not written to.
#[test]
fn a_hard_link_to_a_victim_is_not_overwritten() {
    attack(Weakness::None, |arena| {
        let tree = TreeModel::new()
            .with(b"f", mallorys(Entry::file(b"much longer than the victim's content")))
            .with(b"fifo", mallorys(Entry::fifo()))
            .with(b"s", Entry::symlink(b"elsewhere").owner(MALLORY, MALLORY))
            .with(b"d", Entry::dir());
        build(&tree, &arena.source());
        for (name, victim) in [("f", "sentinel"), ("fifo", "pipe"), ("s", "link"), ("d", "secret")] {
            std::fs::hard_link(arena.outside().join(victim), arena.dest().join(name)).unwrap();
        }
        arena.fire();
        arena.copy_with(&Faults::new(), in_order());
        let copied = std::fs::read(arena.dest().join("f")).unwrap();
        arena.note_if(copied != b"much longer than the victim's content", "the copy is wrong");
        let fifo = std::fs::symlink_metadata(arena.dest().join("fifo")).unwrap();
        arena.note_if((fifo.uid(), fifo.nlink()) != (MALLORY, 1), "the FIFO was not made anew");
    });
}

#[test]
fn the_first_name_of_a_hard_link_is_swapped() {
    attack(Weakness::TrustInode, |arena| {
        let tree = TreeModel::new().with(b"a", Entry::file(b"good")).with_link(b"a", b"b");
        build(&tree, &arena.source());
        let evil = arena.beside("evil");
        std::fs::write(&evil, b"evil").unwrap();
        let faults = Faults::new();
        let dest = arena.dest();
        arena.before(&faults, On::dest().call(Call::LinkFrom), move || {
            let first = if kind_of(&dest.join("a")).is_some() { "a" } else { "b" };
            swap_for_hard_link(&dest.join(first), &evil);
        });
        arena.copy_with(&faults, in_order());
        let evil = |name: &str| std::fs::read(arena.dest().join(name)).unwrap() == b"evil";
        arena.note_if(evil("a") && evil("b"), "the second name leads to the attacker's file");
    });
}

#[test]
fn the_first_name_of_a_hard_link_becomes_a_symlink() {
    attack(Weakness::TrustInode, |arena| {
        let tree = TreeModel::new().with(b"a", mallorys(Entry::file(b"good"))).with_link(b"a", b"b");
        build(&tree, &arena.source());
        let faults = Faults::new();
        let (dest, target) = (arena.dest(), arena.outside().join("secret"));
        arena.before(&faults, On::dest().call(Call::LinkFrom), move || {
            let first = if kind_of(&dest.join("a")).is_some() { "a" } else { "b" };
            std::fs::remove_file(dest.join(first)).unwrap();
            symlink(target, dest.join(first)).unwrap();
        });
        arena.copy_with(&faults, in_order());
        let links = ["a", "b"].map(|name| std::fs::symlink_metadata(arena.dest().join(name)).unwrap().is_symlink());
        arena.note_if(links == [true, true], "the second name leads to the attacker's symlink");
    });
}

/// A FIFO that stands where a file was must not keep the reading of the destination waiting.
#[test]
fn an_old_file_becomes_a_fifo_before_it_is_compared() {
    attack(Weakness::BlockOnOpen, |arena| {
        build(&TreeModel::new().with(b"f", Entry::file(b"same")), &arena.source());
        build(&TreeModel::new().with(b"f", Entry::file(b"same")), &arena.dest());
        let faults = Faults::new();
        let file = arena.dest().join("f");
        arena.before(&faults, On::dest().call(Call::OpenFile).name(b"f"), move || {
            std::fs::remove_file(&file).unwrap();
            mkfifo(&file);
        });
        let options = copy::CopyOptions { compare: copy::Compare::Content, ..in_order() };
        arena.copy_with(&faults, options);
    });
}
