//! Nobody gets more rights from a copy, not for a moment: setuid programs, modes, and ACLs that directories bequeath.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use copy::{ACL_ACCESS, ACL_DEFAULT, Weakness};
use rustix::fs::{CWD, RenameFlags, XattrFlags};
use testkit::Call;
use testkit::faulty::{Faults, On};
use testkit::model::{Entry, TreeModel};

use crate::harness::{MALLORY, attack, build, differences, in_order, quick};

/// The rights that each path of the source gives: owner, group, mode.
#[derive(Clone)]
struct Rights(Arc<BTreeMap<PathBuf, (u32, u32, u32)>>);

impl Rights {
    fn of(tree: &TreeModel, root: &Path) -> Self {
        let path = |path: &[u8]| root.join(std::str::from_utf8(path).unwrap());
        Self(Arc::new(tree.iter().map(|(p, entry)| (path(p), (entry.uid, entry.gid, entry.mode))).collect()))
    }

    /// Entries that give more than their source right now.
    fn exceeded(&self) -> Vec<String> {
        self.0.iter().filter_map(|(path, right)| exceeds(path, *right)).collect()
    }
}

fn exceeds(path: &Path, (uid, gid, mode): (u32, u32, u32)) -> Option<String> {
    let now = std::fs::symlink_metadata(path).ok()?;
    if now.file_type().is_symlink() {
        return None;
    }
    let given = now.permissions().mode() & 0o7777;
    let owned = (now.uid(), now.gid()) == (uid, gid);
    // Until owner and group are right, only who made the entry may have anything, and it runs with no one's rights.
    let allowed = if owned {
        mode
    } else if now.is_dir() {
        0o3700
    } else {
        0o600
    };
    (given & !allowed != 0)
        .then(|| format!("{path:?} was {}:{} {given:04o}, its source is {uid}:{gid} {mode:04o}", now.uid(), now.gid()))
}

fn programs() -> TreeModel {
    let file = |mode, uid, gid| Entry::file(b"#!/bin/sh\nid\n").mode(mode).owner(uid, gid);
    let mut tree = TreeModel::new()
        .with(b"d", Entry::dir().mode(0o2750).owner(MALLORY, 17))
        .with(b"private", Entry::dir().mode(0o700).owner(MALLORY, MALLORY));
    for (i, dir) in ["", "d/", "private/"].into_iter().enumerate() {
        let uid = MALLORY + i as u32;
        tree.insert(format!("{dir}tenants-setuid"), file(0o4755, uid, uid));
        tree.insert(format!("{dir}tenants-setgid"), file(0o2755, uid, 17));
        tree.insert(format!("{dir}roots-setuid"), file(0o4711, 0, uid));
        tree.insert(format!("{dir}roots-private"), file(0o600, 0, 0));
        tree.insert(format!("{dir}groups"), file(0o640, 0, uid));
        tree.insert(format!("{dir}nobodys"), file(0o000, uid, uid));
        tree.insert(format!("{dir}everybodys"), file(0o666, uid, uid));
        tree.insert(format!("{dir}fifo"), Entry::fifo().mode(0o620).owner(uid, 5));
        tree.insert(
            format!("{dir}acl"),
            file(0o640, uid, uid).xattr(ACL_ACCESS, &testkit::acl::with_user(0o640, uid + 1, 4)),
        );
    }
    tree
}

/// Looks before every single operation on the destination.
#[test]
fn no_entry_has_more_rights_than_its_source_between_two_operations() {
    attack(Weakness::WideCreate, |arena| {
        let tree = programs();
        build(&tree, &arena.source());
        let seen = watch_a_copy(arena, &tree);
        arena.note_if(!seen.is_empty(), seen.join("\n"));
        let wrong = differences(arena);
        arena.note_if(!wrong.is_empty(), format!("the copy is wrong: {wrong:?}"));
    });
}

/// The same names are there with other owners and with everything allowed.
#[test]
fn no_old_entry_gets_more_rights_than_its_source() {
    attack(Weakness::WideCreate, |arena| {
        let tree = programs();
        build(&tree, &arena.source());
        let mut old = TreeModel::new().with(b"d", Entry::dir().mode(0o700)).with(b"private", Entry::dir().mode(0o700));
        for (path, entry) in tree.iter().filter(|(_, entry)| entry.content().is_some()) {
            old.insert(path, Entry::file(b"older").owner(entry.uid, entry.gid).mode(0));
        }
        build(&old, &arena.dest());
        let seen = watch_a_copy(arena, &tree);
        arena.note_if(!seen.is_empty(), seen.join("\n"));
        let wrong = differences(arena);
        arena.note_if(!wrong.is_empty(), format!("the copy is wrong: {wrong:?}"));
    });
}

fn watch_a_copy(arena: &crate::harness::Arena, tree: &TreeModel) -> Vec<String> {
    let mut below = tree.clone();
    // The root is the caller's and has its own rights already.
    below.edit(b"", |root| root.mode = 0o7777);
    let rights = Rights::of(&below, &arena.dest());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let faults = Faults::new();
    let (notes, looks) = (seen.clone(), Arc::new(AtomicU64::new(0)));
    let counted = looks.clone();
    arena.before_each(&faults, On::dest(), move |operation| {
        counted.fetch_add(1, Ordering::Relaxed);
        notes.lock().unwrap().extend(rights.exceeded().into_iter().map(|line| format!("before {operation:?}: {line}")));
    });
    arena.copy_with(&faults, in_order());
    let looks = looks.load(Ordering::Relaxed);
    eprintln!("  looked {looks} times at {} entries", tree.len());
    assert!(looks > 100, "there was not much to see");
    let seen = seen.lock().unwrap();
    seen.iter().take(10).cloned().collect()
}

/// A second thread looks all the time while a large setuid program is on its way, slowly, in ranges and in one go.
#[test]
fn a_large_program_has_no_rights_while_it_is_filled() {
    attack(Weakness::WideCreate, |arena| {
        let content: Vec<u8> = (0..3 << 20).map(|i: u32| (i >> 9) as u8 | 1).collect();
        let tree = TreeModel::new()
            .with(b"large", Entry::file(&content).mode(0o4755).owner(MALLORY, MALLORY))
            .with(b"larger", Entry::file(&content).mode(0o6755).owner(MALLORY, 17));
        build(&tree, &arena.source());
        let mut below = tree.clone();
        below.edit(b"", |root| root.mode = 0o7777);
        let rights = Rights::of(&below, &arena.dest());
        let (ended, looks) = (AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut seen = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    seen.extend(rights.exceeded());
                    looks.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_micros(50));
                }
                seen
            });
            let mut options = quick();
            options.limits.bandwidth_bytes_per_second = Some(4 << 20);
            options.limits.range_bytes = 1 << 20;
            options.limits.workers = Some(2);
            arena.copy(options);
            ended.store(true, Ordering::Relaxed);
            let seen = watcher.join().unwrap();
            arena.note_if(!seen.is_empty(), seen.into_iter().take(5).collect::<Vec<_>>().join("\n"));
        });
        arena.fire();
        let looks = looks.load(Ordering::Relaxed);
        eprintln!("  looked {looks} times");
        assert!(looks > 100, "there was not much to see");
    });
}

/// The tenant puts a program of his own where the copy of a setuid one was, with its size and time. A later run must
/// not give that one the owner and the bit.
#[test]
fn a_planted_program_does_not_become_setuid() {
    attack(Weakness::KeepContent, |arena| {
        let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let tree = TreeModel::new()
            .with(b"setuid", Entry::file(b"good").mode(0o4755))
            .with(b"setgid", Entry::file(b"good").mode(0o2755))
            .with(b"capable", Entry::file(b"good").mode(0o755).xattr(b"security.capability", capability));
        build(&tree, &arena.source());
        let mut planted = TreeModel::new();
        for (path, _) in tree.iter().filter(|(path, _)| !path.is_empty()) {
            planted.insert(path, Entry::file(b"evil").mode(0o755).owner(MALLORY, MALLORY));
        }
        build(&planted, &arena.dest());
        arena.fire();
        arena.copy_with(&Faults::new(), in_order());
        for (path, _) in tree.iter().filter(|(path, _)| !path.is_empty()) {
            let path = arena.dest().join(std::str::from_utf8(path).unwrap());
            let evil = std::fs::read(&path).unwrap() == b"evil";
            arena.note_if(evil, format!("{path:?} runs the attacker's content with its owner's rights"));
        }
    });
}

fn give_default_acl(dir: &Path) {
    let acl = testkit::acl::with_user(0o777, MALLORY, 7);
    rustix::fs::setxattr(dir, ACL_DEFAULT, &acl, XattrFlags::empty()).unwrap();
}

fn has_acl(path: &Path) -> bool {
    rustix::fs::getxattr(path, ACL_ACCESS, &mut [0; 1024][..]).is_ok()
}

/// The directory is the tenant's, the file in it is not: it must not inherit his right to read it.
#[test]
fn a_directory_gets_a_default_acl_before_a_file_is_made() {
    attack(Weakness::InheritRights, |arena| {
        let private = Entry::file(b"for root and its group").mode(0o640);
        let tree = TreeModel::new()
            .with(b"empty", Entry::dir().owner(MALLORY, MALLORY))
            .with(b"empty/f", private.clone())
            .with(b"filled", Entry::dir().owner(MALLORY, MALLORY))
            .with(b"filled/f", private)
            .with(b"filled/d", Entry::dir().mode(0o750))
            .with(b"filled/fifo", Entry::fifo().mode(0o640));
        build(&tree, &arena.source());
        let old = TreeModel::new()
            .with(b"empty", Entry::dir().owner(MALLORY, MALLORY))
            .with(b"filled", Entry::dir().owner(MALLORY, MALLORY))
            .with(b"filled/other", Entry::file(b""));
        build(&old, &arena.dest());
        let faults = Faults::new();
        for (dir, call, name) in [
            ("empty", Call::CreateFile, "empty/f"),
            ("filled", Call::CreateFile, "filled/f"),
            ("filled", Call::CreateDir, "filled/d"),
            ("filled", Call::CreateNode, "filled/fifo"),
        ] {
            let path = arena.dest().join(dir);
            arena.before(&faults, On::dest().call(call).path(name.as_bytes()), move || give_default_acl(&path));
        }
        arena.copy_with(&faults, in_order());
        for name in ["empty/f", "filled/f", "filled/d", "filled/fifo"] {
            arena.note_if(has_acl(&arena.dest().join(name)), format!("`{name}` gives rights to the attacker"));
        }
    });
}

/// Between the making and the opening of a directory the tenant puts one of his own there.
#[test]
fn a_new_directory_is_swapped_for_one_of_the_tenant() {
    attack(Weakness::InheritRights, |arena| {
        const DIRS: usize = 300;
        let (mut tree, mut traps) = (TreeModel::new(), TreeModel::new());
        for i in 0..DIRS {
            tree.insert(format!("d{i}"), Entry::dir().mode(0o755));
            tree.insert(format!("d{i}/f"), Entry::file(b"for root and its group").mode(0o640));
            traps.insert(format!("d{i}"), Entry::dir().mode(0o777).owner(MALLORY, MALLORY));
        }
        build(&tree, &arena.source());
        let evil = arena.beside("evil");
        std::fs::create_dir(&evil).unwrap();
        build(&traps, &evil);
        // In the order in which the engine will come to them.
        let names: Vec<_> =
            std::fs::read_dir(arena.source()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let inodes: Vec<u64> = names.iter().map(|name| std::fs::metadata(evil.join(name)).unwrap().ino()).collect();
        for name in &names {
            give_default_acl(&evil.join(name));
        }
        let ended = AtomicBool::new(false);
        let swaps = std::thread::scope(|scope| {
            let swapper = scope.spawn(|| {
                let mut swaps = 0;
                for name in &names {
                    let (trap, target) = (evil.join(name), arena.dest().join(name));
                    while !ended.load(Ordering::Relaxed) {
                        if rustix::fs::renameat_with(CWD, &trap, CWD, &target, RenameFlags::EXCHANGE).is_ok() {
                            swaps += 1;
                            break;
                        }
                    }
                }
                swaps
            });
            arena.copy(in_order());
            ended.store(true, Ordering::Relaxed);
            swapper.join().unwrap()
        });
        let entered = names.iter().zip(&inodes).filter(|(name, inode)| {
            let dir = arena.dest().join(name);
            std::fs::metadata(&dir).is_ok_and(|meta| meta.ino() == **inode) && dir.join("f").exists()
        });
        let entered: Vec<_> = entered.map(|(name, _)| arena.dest().join(name).join("f")).collect();
        eprintln!("  {swaps} swaps, {} of them before the engine opened the directory", entered.len());
        assert!(swaps > 10, "only {swaps} swaps");
        arena.fire();
        for file in entered {
            arena.note_if(has_acl(&file), format!("{file:?} gives rights to the attacker"));
        }
    });
}
