//! The ends of what there is: depth, width, descriptors, memory, space and inodes.

use std::path::Path;
use std::process::Command;

use copy::{CopyError, CopyOptions, Ending, ErrorClass, LocalTree, NoMonitor, StopReason, StopToken};
use testkit::disk::{DiskOptions, FsKind, LoopDisk, TempDir, Tmpfs};
use testkit::lend;
use testkit::model::{Entry, TreeModel, diff, snapshot_dir};

use crate::disks::{build, copy_dir};
use crate::kit::{assert_clean, in_order, options, try_copy};

const FROM: &str = "COPY_TEST_FROM";
const TO: &str = "COPY_TEST_TO";

/// Copies in a process of its own and gives its highest memory use.
fn copy_in_child(from: &Path, to: &Path, open_files: u32) -> u64 {
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -n {open_files} && exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "limits::child", "--nocapture", "--test-threads=1"])
        .env(FROM, from)
        .env(TO, to)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}\n{errors}");
    let line = text.lines().find_map(|line| line.split("VmHWM:").nth(1)).expect("the child tells its memory");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// The process that other tests start with limits of its own. By itself it has nothing to copy.
#[test]
fn child() {
    let (Some(from), Some(to)) = (std::env::var_os(FROM), std::env::var_os(TO)) else { return };
    assert_clean(&copy_dir(from.as_ref(), to.as_ref(), &options()));
    assert_clean(&copy_dir(from.as_ref(), to.as_ref(), &options()));
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
}

/// A chain of directories with a file every hundred levels.
fn chain(depth: usize) -> TreeModel {
    let mut model = TreeModel::new();
    let mut path = Vec::new();
    for level in 0..depth {
        path.extend_from_slice(if level == 0 { b"d" } else { b"/d" });
        model.insert(&path, Entry::dir().mode(0o700 + level as u32 % 64).mtime(level as i64, 5));
        if level % 100 == 99 {
            model.insert([&path, &b"/f"[..]].concat(), Entry::file(&level.to_le_bytes()));
        }
    }
    model
}

#[test]
fn five_thousand_levels_are_copied_with_few_descriptors() {
    let dir = TempDir::new();
    let (from, to) = (dir.subdir("from"), dir.path().join("to"));
    let model = chain(5000);
    build(&model, &from);
    copy_in_child(&from, &to, 128);
    assert_eq!(diff(&model, &snapshot_dir(&to).unwrap()), Vec::<String>::new());
    // Removed again, as something that is not in the source.
    let empty = dir.subdir("empty");
    let mirror = CopyOptions { delete: crate::incremental::MIRROR, ..options() };
    assert_clean(&copy_dir(&empty, &to, &mirror));
    assert!(snapshot_dir(&to).unwrap().is_empty());
}

#[test]
fn memory_stays_flat_however_wide_a_directory_is() {
    let name = "memory_stays_flat_however_wide_a_directory_is";
    let disk = lend!(name, Tmpfs::new(2 << 30, None));
    let base = {
        let from = disk.subdir("small");
        std::fs::write(from.join("f"), b"x").unwrap();
        copy_in_child(&from, &disk.path().join("small-copy"), 1024)
    };
    let from = disk.subdir("wide");
    for i in 0..200_000 {
        std::fs::File::create(from.join(format!("file-{i:06}"))).unwrap();
    }
    let to = disk.path().join("wide-copy");
    let used = copy_in_child(&from, &to, 1024);
    assert_eq!(std::fs::read_dir(&to).unwrap().count(), 200_000);
    assert!(used <= base + 16 * 1024, "{used} kB, {base} kB for one file");
}

#[test]
fn a_wide_tree_is_copied_with_few_descriptors() {
    let dir = TempDir::new();
    let (from, to) = (dir.subdir("from"), dir.path().join("to"));
    let mut model = TreeModel::new();
    for i in 0..300 {
        model.insert(format!("{i}"), Entry::dir());
        for j in 0..5 {
            model.insert(format!("{i}/{j}"), Entry::dir());
            model.insert(format!("{i}/{j}/f"), Entry::file(format!("{i} {j}").as_bytes()));
        }
    }
    build(&model, &from);
    copy_in_child(&from, &to, 128);
    assert_eq!(diff(&model, &snapshot_dir(&to).unwrap()), Vec::<String>::new());
}

/// A copy into a destination without enough room: refused before it begins, or stopped early with a clear reason.
fn check_full(from: &Path, to: &Path) {
    let (source, dest) = (LocalTree::open_source(from).unwrap(), LocalTree::open_dest(to).unwrap());
    match try_copy(&source, &dest, &in_order(), &NoMonitor, &StopToken::new()) {
        Ok(report) => {
            assert_eq!(report.ending, Ending::Stopped(StopReason::Fault), "{:?}", report.counters);
            assert!(report.faults.iter().all(|f| f.error.class == ErrorClass::NoSpace), "{:?}", report.faults);
            assert!(report.warnings.iter().any(|w| w.contains("full")), "{:?}", report.warnings);
            // What has its right size and time has its right bytes.
            let (ours, theirs) = (snapshot_dir(from).unwrap(), snapshot_dir(to).unwrap());
            for (path, entry) in theirs.iter().filter(|(_, e)| e.content().is_some()) {
                let original = ours.get(path).unwrap();
                let size = |e: &Entry| e.content().map(testkit::Content::size_bytes);
                assert!(size(entry) != size(original) || entry.mtime != original.mtime || entry.body == original.body);
            }
        }
        Err(CopyError::Preflight(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_full_disk_ends_the_run_early_and_nothing_looks_finished() {
    let name = "a_full_disk_ends_the_run_early_and_nothing_looks_finished";
    let memory = lend!(name, Tmpfs::new(256 << 20, None));
    let from = memory.subdir("from");
    let mut model = TreeModel::new();
    for i in 0..200_u32 {
        let bytes: Vec<u8> = (0..200_000_u32).map(|at| (at * 7 + i) as u8).collect();
        model.insert(format!("{i:03}"), Entry::file(&bytes));
    }
    build(&model, &from);
    let disk = lend!(name, LoopDisk::with_size(FsKind::Ext4, 16 << 20));
    check_full(&from, &disk.subdir("to"));
    let small = lend!(name, Tmpfs::new(16 << 20, None));
    check_full(&from, &small.subdir("to"));
}

#[test]
fn no_inodes_left_ends_the_run_early() {
    let name = "no_inodes_left_ends_the_run_early";
    let memory = lend!(name, Tmpfs::new(64 << 20, None));
    let from = memory.subdir("from");
    for i in 0..500 {
        std::fs::write(from.join(format!("{i:03}")), b"x").unwrap();
    }
    let few = lend!(name, Tmpfs::new(64 << 20, Some(100)));
    check_full(&from, &few.subdir("to"));
    let options = DiskOptions { size_bytes: 8 << 20, inodes: Some(64), ..DiskOptions::default() };
    let disk = lend!(name, LoopDisk::with_options(FsKind::Ext4, &options));
    check_full(&from, &disk.subdir("to"));
}
