//! Runs over one tree: looking at it, and emptying it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Mutex;

use copy::{
    Action, ClearContext, CompareReport, Ending, EntryKind, ErrorClass, Filter, FsOp, HashKind, LocalTree, NoMonitor,
    Records, ScanContext, ScanOptions, Scanned, StopReason, StopToken, Throttle, clear_tree, scan_tree,
};
use proptest::prelude::*;
use rustix::io::Errno;
use testkit::disk::{TempDir, need_root};
use testkit::faulty::{Faults, FaultyTree, On};
use testkit::lend;
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, Entry, TreeModel, any_tree};

use crate::kit::{any_limits, assert_tidy, cases, in_order, options, run_recorded, small_trees};

fn scan(tree: &dyn copy::tree::SourceTree, options: &ScanOptions<'_>) -> (CompareReport, BTreeMap<Vec<u8>, Scanned>) {
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    let cx = ScanContext { tree, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let found = Mutex::new(BTreeMap::new());
    let report = scan_tree(&cx, options, &|entry| {
        let again = found.lock().unwrap().insert(entry.path.as_bytes().to_vec(), entry);
        assert!(again.is_none(), "{again:?}");
    })
    .unwrap();
    (report, found.into_inner().unwrap())
}

fn all_of_it() -> ScanOptions<'static> {
    ScanOptions {
        filter: Filter::default(),
        xattrs: true,
        reads: &|_, _| true,
        hash: HashKind::Xxh3Blocks,
        limits: options().limits,
    }
}

fn clear(tree: &dyn copy::tree::DestTree, limits: &copy::Limits) -> CompareReport {
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    clear_tree(&ClearContext { tree, monitor: &NoMonitor, stop: &stop, throttle: &throttle }, limits, Records::None)
        .unwrap()
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn a_scan_tells_each_entry_once_as_it_is(
        model in any_tree(&small_trees()),
        limits in any_limits(),
        kinds_in_lists: bool,
        hash in prop::sample::select(vec![HashKind::Xxh3Blocks, HashKind::Blake3, HashKind::Sha256]),
    ) {
        let how = MemoryOptions { kinds_in_lists, ..MemoryOptions::default() };
        let tree = MemoryTree::from_model_with(&model, how);
        let (report, found) = scan(&tree, &ScanOptions { limits, hash, ..all_of_it() });
        prop_assert_eq!(report.ending, Ending::Complete);
        prop_assert_eq!(report.counters.done_entries as usize, model.len());
        prop_assert_eq!(found.len(), model.len());
        // The checksum is the one that a copy computes.
        let copy = copy::CopyOptions { hash: Some(hash), ..in_order() };
        let (_, recorder) = run_recorded(&tree, &MemoryTree::new(), &copy);
        for (path, entry) in model.iter() {
            let scanned = &found[path];
            prop_assert_eq!(scanned.meta.kind, entry.kind());
            prop_assert_eq!(scanned.checksum.is_some(), entry.kind() == EntryKind::File);
            match &entry.body {
                Body::Symlink(target) => prop_assert_eq!(scanned.target.as_ref(), Some(target)),
                _ => prop_assert!(scanned.target.is_none()),
            }
            let copied = recorder.record(path);
            if copied.action == Some(Action::Created) && entry.kind() == EntryKind::File {
                prop_assert_eq!(scanned.checksum, copied.checksum);
                prop_assert_eq!(Some(scanned.meta.mtime), copied.mtime);
            }
        }
        assert_tidy(&tree);
    }

    #[test]
    fn nothing_is_left_of_a_tree_but_its_root(model in any_tree(&small_trees()), limits in any_limits()) {
        let tree = MemoryTree::from_model(&model);
        let mut removed = 0;
        loop {
            let report = clear(&tree, &limits);
            prop_assert_eq!(report.ending, Ending::Complete);
            let now = report.counters.action(Action::Deleted);
            removed += now;
            if tree.snapshot().len() == 1 {
                break;
            }
            prop_assert!(now > 0);
        }
        prop_assert_eq!(removed as usize, model.len() - 1);
        assert_tidy(&tree);
    }
}

#[test]
fn only_chosen_files_are_opened_and_a_broken_one_is_told_with_what_is_known() {
    let model = TreeModel::new()
        .with("good", Entry::file(b"good"))
        .with("bad", Entry::file(b"bad"))
        .with("other", Entry::file(b"other"));
    let faults = Faults::new();
    faults.fail_on(FsOp::Read, b"bad", Errno::IO);
    let tree = FaultyTree::new(MemoryTree::from_model(&model), &faults);
    let reads: copy::Choice<'_> = &|path, _| path.as_bytes() != b"other";
    let (report, found) = scan(&tree, &ScanOptions { reads, ..all_of_it() });
    assert_eq!((report.ending, report.counters.faults, report.counters.verified_files), (Ending::WithFaults, 1, 1));
    assert_eq!(report.faults[0].path.as_bytes(), b"bad");
    assert!(found[&b"good"[..]].checksum.is_some());
    assert!(found[&b"bad"[..]].checksum.is_none() && found[&b"bad"[..]].meta.size_bytes == 3);
    assert!(found[&b"other"[..]].checksum.is_none());
    assert!(!faults.record().iter().any(|operation| operation.op() == FsOp::Open && operation.name() == b"other"));
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    let tree = MemoryTree::from_model(&TreeModel::new().with("file", Entry::file(b"first")));
    let faults = Faults::new();
    let changing = tree.clone();
    faults.before_first(On::source().op(FsOp::Read), move || changing.put("file", &Entry::file(b"second one")));
    let (report, found) = scan(&FaultyTree::new(tree.clone(), &faults), &all_of_it());
    assert_eq!((report.ending, report.counters.retries), (Ending::Complete, 1));
    let (_, again) = scan(&tree, &all_of_it());
    assert_eq!(found[&b"file"[..]].checksum, again[&b"file"[..]].checksum);
    assert_eq!(found[&b"file"[..]].meta.size_bytes, 10);
}

#[test]
fn a_stopped_removal_says_so_and_the_next_one_goes_on() {
    let mut model = TreeModel::new();
    for n in 0..500 {
        model = model.with(format!("f{n}"), Entry::file(b"x"));
    }
    let tree = MemoryTree::from_model(&model);
    let faults = Faults::new();
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    let token = stop.clone();
    faults.before(200, move || token.stop(StopReason::Cancel));
    let faulty = FaultyTree::new(tree.clone(), &faults);
    let cx = ClearContext { tree: &faulty, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let report = clear_tree(&cx, &in_order().limits, Records::None).unwrap();
    assert_eq!(report.ending, Ending::Stopped(StopReason::Cancel));
    assert!((2..501).contains(&tree.snapshot().len()));
    while tree.snapshot().len() > 1 {
        assert!(clear(&tree, &in_order().limits).counters.action(Action::Deleted) > 0);
    }
}

/// A directory with more in it, nothing of which may be changed; `None` where the file system has no such flags.
fn frozen(dir: &TempDir, test_name: &str) -> Option<std::path::PathBuf> {
    let root = dir.subdir("root");
    std::fs::create_dir_all(root.join("frozen/below")).unwrap();
    std::fs::write(root.join("frozen/file"), "x").unwrap();
    for path in ["frozen/file", "frozen/below", "frozen", ""] {
        let fd = std::fs::File::open(root.join(path)).unwrap();
        if let Err(errno) = rustix::fs::ioctl_setflags(&fd, rustix::fs::IFlags::IMMUTABLE) {
            testkit::disk::skip(test_name, &format!("no inode flags in the temporary directory: {errno}"));
            return None;
        }
    }
    Some(root)
}

#[test]
fn flags_that_forbid_changes_do_not_keep_a_tree_from_being_emptied() {
    const NAME: &str = "flags_that_forbid_changes_do_not_keep_a_tree_from_being_emptied";
    lend!(NAME, need_root());
    let dir = TempDir::new();
    let Some(root) = frozen(&dir, NAME) else { return };
    let held: OwnedFd = std::fs::File::open(&root).unwrap().into();
    let report = clear(&LocalTree::from_dir(held.as_fd()).unwrap(), &options().limits);
    assert_eq!(report.ending, Ending::Complete, "{report:?}");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn flags_that_forbid_changes_do_not_keep_what_the_source_has_not() {
    const NAME: &str = "flags_that_forbid_changes_do_not_keep_what_the_source_has_not";
    lend!(NAME, need_root());
    let dir = TempDir::new();
    let Some(root) = frozen(&dir, NAME) else { return };
    let delete = copy::Delete::Extraneous { max_entries: u64::MAX };
    let options = copy::CopyOptions { delete, ..options() };
    let report = crate::kit::run(&MemoryTree::new(), &LocalTree::open_dest(&root).unwrap(), &options);
    assert_eq!(report.faults, []);
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
}

#[test]
fn a_tree_of_a_held_directory_stays_that_directory_whatever_its_name_leads_to() {
    let dir = TempDir::new();
    let root = dir.subdir("root");
    std::fs::write(root.join("file"), "held").unwrap();
    let held: OwnedFd = std::fs::File::open(&root).unwrap().into();
    std::fs::rename(&root, dir.path().join("aside")).unwrap();
    std::os::unix::fs::symlink("/", &root).unwrap();
    let (_, found) = scan(&LocalTree::from_dir(held.as_fd()).unwrap(), &all_of_it());
    assert_eq!(found.keys().map(Vec::as_slice).collect::<Vec<_>>(), [&b""[..], b"file"]);
    let file: OwnedFd = std::fs::File::open(dir.path().join("aside/file")).unwrap().into();
    assert_eq!(LocalTree::from_dir(file.as_fd()).unwrap_err().class, ErrorClass::Changed);
}
