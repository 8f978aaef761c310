//! Races against a second process that swaps entries without pause: many chances at moments that no hook reaches.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copy::{Action, CopyOptions, CopyReport, ErrorClass, Weakness};
use rustix::fs::FileType;
use testkit::model::{Entry, TreeModel};

use crate::harness::{Arena, MALLORY, attack, build, kind_of, mirror, mkfifo, mknod, quick};
use crate::swapper::Swapper;

/// Time for one race; without the protection it ends at the first harm.
const RACE: Duration = Duration::from_secs(3);
/// Fewer swaps than that would be no race.
const SWAPS_MIN: u64 = 200;

const FILES: usize = 12;
const FIFOS: usize = 6;
const DIRS: usize = 4;

pub(crate) fn tree() -> TreeModel {
    let mut tree = TreeModel::new();
    for d in 0..DIRS {
        tree.insert(format!("d{d}"), Entry::dir().mode(0o777).owner(MALLORY, MALLORY));
        for f in 0..FILES {
            let file = Entry::file(b"harmless").mode(0o666).owner(MALLORY, MALLORY).xattr(b"user.mine", b"yes");
            tree.insert(format!("d{d}/f{f}"), file);
        }
        for f in 0..FIFOS {
            tree.insert(format!("d{d}/p{f}"), Entry::fifo().mode(0o666).owner(MALLORY, MALLORY));
        }
        tree.insert(format!("d{d}/link"), Entry::symlink(b"f0").owner(MALLORY, MALLORY));
        tree.insert(format!("d{d}/below"), Entry::dir().mode(0o777).owner(MALLORY, MALLORY));
        tree.insert(format!("d{d}/below/secret"), Entry::file(b"harmless, too").mode(0o666).owner(MALLORY, MALLORY));
    }
    tree
}

/// A path in a tree, what the attacker swaps with it, and where that leads if it is a symlink.
pub(crate) struct Trap {
    path: PathBuf,
    decoy: PathBuf,
    target: Option<PathBuf>,
}

impl Trap {
    fn symlink(path: PathBuf, decoy: PathBuf, target: PathBuf) -> Self {
        let trap = Self { path, decoy, target: Some(target) };
        trap.lay();
        trap
    }

    pub(crate) fn other(path: PathBuf, decoy: PathBuf) -> Self {
        Self { path, decoy, target: None }
    }

    /// Lays the symlink out again where the engine has removed it, as it may.
    fn lay(&self) {
        let Some(target) = &self.target else { return };
        if [&self.path, &self.decoy].into_iter().all(|path| kind_of(path) != Some(FileType::Symlink)) {
            // The swapper may be quicker; then the next round lays it.
            let _ = std::fs::remove_dir_all(&self.decoy);
            let _ = std::fs::remove_file(&self.decoy);
            let _ = std::os::unix::fs::symlink(target, &self.decoy);
        }
    }
}

/// What changed under the engine's eyes: entries looked at anew, in the way, refused, or gone.
pub(crate) fn met(report: &CopyReport) -> u64 {
    let refused = report.fault_classes.iter().filter(|(class, _)| {
        matches!(class, ErrorClass::Changed | ErrorClass::Escape | ErrorClass::NotFound | ErrorClass::Exists)
    });
    let replaced = report.counters.action(Action::Replaced);
    report.counters.retries + replaced + refused.map(|(_, count)| count).sum::<u64>()
}

/// Copies again and again while the traps are swapped in and out. Before each round, `prepare` sets the destination up.
pub(crate) fn race(arena: &Arena, traps: &[Trap], options: &CopyOptions, prepare: impl Fn()) {
    let pairs: Vec<_> = traps.iter().map(|trap| (trap.path.clone(), trap.decoy.clone())).collect();
    let mut swapper = Swapper::start(&pairs);
    let started = Instant::now();
    let (mut rounds, mut collisions, mut swaps) = (0_u64, 0_u64, 0_u64);
    while started.elapsed() < RACE || (swaps < SWAPS_MIN || collisions == 0) && started.elapsed() < 5 * RACE {
        prepare();
        traps.iter().for_each(Trap::lay);
        let Some(report) = arena.copy(options.clone()) else { break };
        rounds += 1;
        collisions += met(&report) + crate::met_before();
        if rounds % 8 == 0 || arena.is_weak() {
            swaps += swapper.finish();
            // Judged while nothing moves.
            let harm = arena.harm();
            if !harm.is_empty() {
                for harm in harm {
                    arena.note(harm);
                }
                arena.fire();
                eprintln!("  {rounds} rounds, {swaps} swaps, {collisions} collisions, then harm");
                return;
            }
            swapper = Swapper::start(&pairs);
        }
    }
    swaps += swapper.finish();
    eprintln!("  {rounds} rounds, {swaps} swaps, {collisions} collisions");
    if !arena.is_weak() {
        assert!(swaps >= SWAPS_MIN, "only {swaps} swaps in {rounds} rounds");
        assert!(collisions > 0, "the attacker never met the engine");
    }
    arena.fire();
}

pub(crate) fn empty(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    std::fs::create_dir(dir).unwrap();
}

#[test]
fn source_directories_for_symlinks() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        let keep = arena.outside().join("keep");
        let mut traps = Vec::new();
        for d in 0..DIRS {
            let decoy = arena.beside(&format!("decoy{d}"));
            let name = if d % 2 == 0 { format!("d{d}") } else { format!("d{d}/below") };
            traps.push(Trap::symlink(arena.source().join(name), decoy, keep.clone()));
        }
        race(arena, &traps, &quick(), || empty(&arena.dest()));
    });
}

#[test]
fn source_files_for_symlinks_fifos_and_devices() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        let mut traps = Vec::new();
        for d in 0..DIRS {
            for f in 0..FILES / 2 {
                let decoy = arena.beside(&format!("decoy{d}-{f}"));
                let path = arena.source().join(format!("d{d}/f{f}"));
                match f % 4 {
                    0 | 1 => {
                        traps.push(Trap::symlink(path, decoy, arena.outside().join("secret")));
                        continue;
                    }
                    2 => mkfifo(&decoy),
                    _ => mknod(&decoy, FileType::CharacterDevice, rustix::fs::makedev(1, 5)),
                }
                traps.push(Trap::other(path, decoy));
            }
        }
        race(arena, &traps, &quick(), || empty(&arena.dest()));
    });
}

#[test]
fn dest_directories_for_symlinks() {
    attack(Weakness::FollowSymlinks, |arena| {
        build(&tree(), &arena.source());
        let keep = arena.outside().join("keep");
        let mut traps = Vec::new();
        for d in 0..DIRS {
            let decoy = arena.beside(&format!("decoy{d}"));
            let name = if d % 2 == 0 { format!("d{d}") } else { format!("d{d}/below") };
            traps.push(Trap::symlink(arena.dest().join(name), decoy, keep.clone()));
        }
        // Every round has everything to do: directories that are there, and nothing in them.
        race(arena, &traps, &quick(), || {
            for d in 0..DIRS {
                let dir = arena.dest().join(format!("d{d}"));
                // The attacker may have put his symlink there, which is for him to take away.
                if kind_of(&dir) == Some(FileType::Directory) {
                    for f in 0..FILES {
                        let _ = std::fs::remove_file(dir.join(format!("f{f}")));
                    }
                }
                let _ = std::fs::create_dir(&dir);
            }
        });
    });
}

/// FIFOs are made and then given an owner, which leaves more time than a file that is open from the start.
#[test]
fn dest_files_and_fifos_for_symlinks() {
    attack(Weakness::AttributesByName, |arena| {
        build(&tree(), &arena.source());
        let fifos = (0..FIFOS).map(|f| (format!("p{f}"), "pipe"));
        let others = [("f0", "sentinel"), ("f1", "secret"), ("f2", "new"), ("link", "keep")];
        let names: Vec<(String, &str)> = fifos.chain(others.map(|(name, victim)| (name.into(), victim))).collect();
        let mut traps = Vec::new();
        for d in 0..DIRS {
            for (name, victim) in &names {
                let decoy = arena.beside(&format!("decoy{d}-{name}"));
                let path = arena.dest().join(format!("d{d}/{name}"));
                traps.push(Trap::symlink(path, decoy, arena.outside().join(victim)));
            }
        }
        race(arena, &traps, &quick(), || {
            // The names are free: each round has to make the entries.
            for trap in &traps {
                let _ = std::fs::remove_file(&trap.path);
            }
        });
    });
}

#[test]
fn removed_directories_for_symlinks() {
    attack(Weakness::RemoveByName, |arena| {
        let keep = arena.outside().join("keep");
        let mut traps = Vec::new();
        for d in 0..DIRS {
            let decoy = arena.beside(&format!("decoy{d}"));
            let name = if d % 2 == 0 { format!("d{d}") } else { format!("d{d}/below") };
            traps.push(Trap::symlink(arena.dest().join(name), decoy, keep.clone()));
        }
        race(arena, &traps, &mirror(quick()), || {
            for d in 0..DIRS {
                // Made beside and moved in, since a path in the destination may lead anywhere by now.
                let (staged, dir) = (arena.beside("staged"), arena.dest().join(format!("d{d}")));
                let _ = std::fs::create_dir_all(staged.join("below"));
                std::fs::write(staged.join("below/one"), b"1").unwrap();
                std::fs::write(staged.join("two"), b"2").unwrap();
                let _ = std::fs::rename(&staged, &dir);
            }
        });
    });
}
