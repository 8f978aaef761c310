//! Exports in which somebody else writes: whatever stands under a name, nothing outside is read, written or removed.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use backup::directory::{Created, DirectoryError};
use copy::{Ending, FsOp, StopToken};
use rustix::fs::Mode;
use testkit::disk::{Tmpfs, need_root};
use testkit::faulty::{Faults, FaultyTree, On};
use testkit::lend;
use testkit::memory::MemoryTree;
use testkit::model::TreeModel;

use crate::kit::{Bench, assert_same, id, model, options};

const NAMES: [&str; 6] = ["b", ".b.partial", ".b.deleting", ".b.manifest.zst", ".b.manifest.new", ".b.checksums"];

/// A directory outside the export that must stay as it is.
struct Outside(TreeModel);

impl Outside {
    fn new(bench: &Bench) -> Self {
        let model = model();
        let _ = bench.source(&model);
        Self(model)
    }

    fn path(bench: &Bench) -> std::path::PathBuf {
        bench.place.path("source")
    }

    #[track_caller]
    fn assert_untouched(&self, bench: &Bench) {
        assert_same(&self.0, &Self::path(bench));
    }
}

/// Whatever is planted, a creation ends with a whole backup or an error, and a deletion with nothing.
fn plant(plant: impl Fn(&Bench, &Path)) {
    for name in NAMES {
        let bench = Bench::new();
        let outside = Outside::new(&bench);
        plant(&bench, &bench.path(name));
        match bench.try_create("b", &MemoryTree::from_model(&model()), &options(), &StopToken::new()) {
            Ok(Created::Published { .. }) => {
                assert_ne!(name, "b");
                bench.assert_proven("b");
                bench.assert_holds("b", &model());
                std::fs::remove_dir_all(bench.place.path("share")).unwrap();
            }
            Ok(other) => panic!("{name}: {other:?}"),
            Err(error) => assert!(
                matches!(
                    error,
                    DirectoryError::Planted { .. } | DirectoryError::Exists { .. } | DirectoryError::BeingDeleted(_)
                ),
                "{name}: {error}"
            ),
        }
        outside.assert_untouched(&bench);
        let _ = bench.export.list().unwrap();
        bench.delete("b");
        outside.assert_untouched(&bench);
    }
}

#[test]
fn a_symlink_to_a_directory_outside_is_not_followed() {
    plant(|bench, at| symlink(Outside::path(bench), at).unwrap());
}

#[test]
fn a_symlink_to_a_file_outside_is_not_followed() {
    plant(|bench, at| symlink(Outside::path(bench).join("zero"), at).unwrap());
}

#[test]
fn a_file_a_fifo_and_a_full_directory_are_in_nobodys_way_for_long() {
    plant(|_, at| std::fs::write(at, "planted").unwrap());
    plant(|_, at| rustix::fs::mknodat(rustix::fs::CWD, at, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap());
    plant(|bench, at| {
        std::fs::create_dir(at).unwrap();
        std::fs::write(at.join("in it"), "planted").unwrap();
        symlink(Outside::path(bench), at.join("dir")).unwrap();
        std::fs::hard_link(Outside::path(bench).join("zero"), at.join("link")).unwrap_or_default();
        let _ = std::fs::remove_file(at.join("link"));
    });
}

#[test]
fn a_restore_does_not_follow_what_stands_in_the_place_of_a_backup() {
    let bench = Bench::new();
    let _outside = Outside::new(&bench);
    symlink(Outside::path(&bench), bench.path("b")).unwrap();
    let error = bench.export.tree(&id("b")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`b` in the export is a symlink, which no program for backups makes: look at it, and remove it"
    );
}

#[test]
fn a_directory_that_takes_the_place_of_a_copy_is_not_published() {
    let bench = Bench::new();
    let (partial, aside) = (bench.path(".b.partial"), bench.path("aside"));
    let faults = Faults::new();
    let source = FaultyTree::new(MemoryTree::from_model(&model()), &faults);
    faults.before_first(On::source().op(FsOp::Read), move || {
        std::fs::rename(&partial, aside).unwrap();
        std::fs::create_dir(&partial).unwrap();
        std::fs::write(partial.join("evil"), "evil").unwrap();
    });
    let error = bench.try_create("b", &source, &options(), &StopToken::new()).unwrap_err();
    assert!(matches!(error, DirectoryError::Swapped { .. }), "{error}");
    // Whatever stands there now is nobody's proven backup, and not taken for ours.
    let again = bench.try_create("b", source.inner(), &options(), &StopToken::new()).unwrap_err();
    assert!(matches!(again, DirectoryError::Exists { .. }), "{again}");
}

#[test]
fn a_backup_that_comes_while_ours_is_made_is_not_replaced() {
    let bench = Bench::new();
    let published = bench.path("b");
    let faults = Faults::new();
    let source = FaultyTree::new(MemoryTree::from_model(&model()), &faults);
    faults.before_first(On::source().op(FsOp::Read), move || {
        std::fs::create_dir(&published).unwrap();
        std::fs::write(published.join("theirs"), "theirs").unwrap();
    });
    let error = bench.try_create("b", &source, &options(), &StopToken::new()).unwrap_err();
    assert!(matches!(error, DirectoryError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(bench.path("b/theirs")).unwrap(), b"theirs");
    assert!(!bench.check("b").is_proven());
}

#[test]
fn directories_that_become_symlinks_while_they_are_deleted_lead_nowhere() {
    let bench = Bench::new();
    let outside = Outside::new(&bench);
    for round in 0..5 {
        let root = bench.path("b");
        for dir in 0..50 {
            std::fs::create_dir_all(root.join(format!("d{dir}/sub"))).unwrap();
            for file in 0..20 {
                std::fs::write(root.join(format!("d{dir}/sub/f{file}")), "x").unwrap();
            }
        }
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (ended, bench) = (&ended, &bench);
            scope.spawn(move || {
                let mut n = round;
                while !ended.load(Ordering::Relaxed) {
                    n = (n + 7) % 50;
                    for root in ["b", ".b.deleting"] {
                        let dir = bench.path(root).join(format!("d{n}"));
                        if std::fs::rename(&dir, dir.with_extension("aside")).is_ok() {
                            let _ = symlink(Outside::path(bench), &dir);
                        }
                    }
                }
            });
            // The other one may be so quick that something is left once.
            for _ in 0..20 {
                if bench.try_delete("b", &StopToken::new()).is_ok_and(|deleted| deleted.gone) {
                    break;
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        bench.delete("b");
        outside.assert_untouched(&bench);
    }
}

#[test]
fn what_is_mounted_in_a_backup_is_not_emptied() {
    lend!("what_is_mounted_in_a_backup_is_not_emptied", need_root());
    let bench = Bench::new();
    bench.create("b", &MemoryTree::from_model(&model()));
    let disk = lend!("what_is_mounted_in_a_backup_is_not_emptied", Tmpfs::new(1 << 20, None));
    std::fs::write(disk.path().join("precious"), "precious").unwrap();
    let target = bench.path("b/dir/deep");
    rustix::mount::mount_bind(disk.path(), &target).unwrap();
    let deleted = bench.try_delete("b", &StopToken::new()).unwrap();
    let kept = std::fs::read(disk.path().join("precious"));
    rustix::mount::unmount(bench.path(".b.deleting/dir/deep"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(kept.unwrap(), b"precious");
    assert!(!deleted.gone && deleted.report.unwrap().ending == Ending::WithFaults);
    bench.delete("b");
}
