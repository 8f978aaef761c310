//! Whatever the tree: what was backed up is what comes back, through our own restore and through restic's.

use copy::tree::SourceTree as _;
use copy::{Action, Difference, DifferenceKind, LocalTree, RelPath, StopToken};
use proptest::prelude::*;
use testkit::disk::TempDir;
use testkit::memory::MemoryTree;
use testkit::model::{Body, Entry, TreeModel, TreeShape, any_tree, materialise};
use testkit::{Call, Side};

use crate::kit::{assert_same, backup_clean, cases, options, place, restic_check, restic_ok, restore};
use backup::restic::{Parent, SnapshotFilter};

fn shape() -> TreeShape {
    // Inode flags have no place in a snapshot, and are told as losses.
    TreeShape { file_bytes_max: 300_000, flags: false, chain_max: 8, ..TreeShape::default() }
}

fn without_far_times(model: &TreeModel) -> bool {
    model.iter().all(|(_, entry)| {
        [entry.mtime, entry.atime].iter().all(|time| (-60_000_000_000..253_000_000_000).contains(&time.seconds))
    })
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn a_snapshot_is_its_source_and_the_next_one_opens_no_file(model in any_tree(&shape())) {
        prop_assume!(without_far_times(&model));
        let place = place();
        let source = MemoryTree::from_model(&model);
        let first = backup_clean(&place.repository, &source, &options());
        prop_assert_eq!(first.report.losses, Vec::new());
        source.assert_no_violations();
        prop_assert_eq!(source.open_handles(), 0);
        let counters = &first.report.counters;
        prop_assert_eq!(counters.done_entries as usize, model.len());
        prop_assert_eq!(counters.done_entries, counters.scanned_entries);
        let snapshot = first.snapshot.unwrap();
        let dest = MemoryTree::new();
        let report = restore(&place.repository, &snapshot, &dest);
        prop_assert_eq!(&report.faults, &Vec::new());
        prop_assert_eq!(&report.losses, &Vec::new());
        assert_same(&source, &dest);
        let stored = place.repository.open_tree(&snapshot, &RelPath::root(), &StopToken::new()).unwrap();
        assert_same(&stored, &dest);
        assert_same(&stored, &source);
        // Nothing changed, so nothing is opened, and nothing is added but the snapshot.
        source.reset_calls();
        let again = copy_options(Parent::This(snapshot.clone().into()));
        let second = backup_clean(&place.repository, &source, &again);
        prop_assert_eq!(second.report.counters.opened_files, 0);
        prop_assert_eq!(source.calls(Side::Source).of(Call::OpenFile), 0);
        prop_assert_eq!(second.report.counters.actions, actions_of(&second));
        prop_assert_eq!((second.added.data_blobs, second.added.tree_blobs), (0, 0));
        prop_assert_eq!(second.parent, Some(snapshot.id));
        // The root's own entry is compared with nothing.
        let unchanged = second.report.counters.action(Action::Unchanged);
        prop_assert_eq!(unchanged as usize + 1, model.len());
    }
}

fn copy_options(parent: Parent) -> backup::restic::BackupOptions {
    let mut options = options();
    options.parent = parent;
    options
}

fn actions_of(report: &backup::restic::BackupReport) -> [u64; 9] {
    let counters = &report.report.counters;
    let mut actions = [0; 9];
    for action in [Action::Unchanged, Action::Updated] {
        actions[action as usize] = counters.action(action);
    }
    actions
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn restic_reads_checks_and_restores_what_we_wrote(model in any_tree(&shape())) {
        prop_assume!(without_far_times(&model));
        let place = place();
        let source = TempDir::new();
        let left_out = materialise(&model, source.path()).unwrap();
        prop_assert_eq!(left_out.left_out, Vec::<String>::new());
        let tree = LocalTree::open_source(source.path()).unwrap();
        backup_clean(&place.repository, &tree, &options());
        restic_check(&place.path());
        let dest = TempDir::new();
        restic_ok(&place.path(), &["restore", "latest", "--target", dest.path().to_str().unwrap()]);
        let restored = LocalTree::open_dest(&dest.path().join("srv/share")).unwrap();
        let report = crate::kit::compare(&tree, &restored);
        for difference in &report.differences {
            // What restic 0.14 itself does not bring back.
            let kinds = difference.paths.iter().map(|path| model.get(path.as_bytes()).map(Entry::kind));
            prop_assert!(tolerated(difference, &model), "{:?} {:?}", difference, kinds.collect::<Vec<_>>());
        }
        let ours = TempDir::new();
        let snapshot = place.repository.find_snapshot("latest", &SnapshotFilter::default()).unwrap();
        let report = restore(&place.repository, &snapshot, &LocalTree::open_dest(ours.path()).unwrap());
        prop_assert_eq!(&report.faults, &Vec::new());
        assert_same(&tree, &LocalTree::open_dest(ours.path()).unwrap());
    }
}

/// What restic 0.14 itself does not bring back: sockets, hard links of what is no regular file, times outside of 1678 to
/// 2262, attributes of symlinks (which it sets on what they lead to), and names of attributes and targets of symlinks that are not UTF-8.
fn tolerated(difference: &Difference, model: &TreeModel) -> bool {
    let is_text = |bytes: &[u8]| std::str::from_utf8(bytes).is_ok();
    let is_far = |seconds: i64| !(-9_200_000_000..9_200_000_000).contains(&seconds);
    // It sets those of a symlink on what the symlink leads to.
    let is_led_to = |path: &[u8]| {
        let links =
            model.iter().filter(|(_, entry)| matches!(entry.body, Body::Symlink(_)) && !entry.xattrs.is_empty());
        links.into_iter().any(|(link, _)| leads_to(model, link.to_vec(), path))
    };
    difference.paths.iter().all(|path| {
        let entry = model.get(path.as_bytes()).unwrap();
        match difference.kind {
            DifferenceKind::Missing => entry.body == Body::Socket,
            DifferenceKind::HardLinks => entry.content().is_none(),
            DifferenceKind::Mtime => is_far(entry.mtime.seconds),
            DifferenceKind::Xattr => entry.xattrs.keys().any(|name| !is_text(name)) || is_led_to(path.as_bytes()),
            DifferenceKind::SymlinkTarget => matches!(&entry.body, Body::Symlink(target) if !is_text(target)),
            _ => false,
        }
    })
}

/// Whether a symlink, itself or by further ones, ends at a path of the model.
fn leads_to(model: &TreeModel, link: Vec<u8>, wanted: &[u8]) -> bool {
    let mut at = link;
    for _ in 0..40 {
        let Some(Body::Symlink(target)) = model.get(&at).map(|entry| &entry.body) else { return at == wanted };
        if target.starts_with(b"/") {
            return false;
        }
        let mut names: Vec<&[u8]> = at.split(|byte| *byte == b'/').collect();
        names.pop();
        for name in target.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop()),
                name => names.push(name),
            }
        }
        at = names.join(&b'/');
    }
    false
}

#[test]
fn what_restic_wrote_we_read_and_go_on_from() {
    let place = place();
    let source = TempDir::new();
    let mut model = TreeModel::new();
    model.insert("a", Entry::dir());
    model.insert("a/one", Entry::file(b"one"));
    model.insert("a/two", Entry::file(&vec![7; 3_000_000]));
    model.insert("a/link", Entry::symlink(b"one"));
    model.insert("empty", Entry::file(b""));
    let left = materialise(&model, source.path()).unwrap();
    assert_eq!(left.left_out, Vec::<String>::new());
    restic_ok(&place.path(), &["backup", "--with-atime", source.path().to_str().unwrap()]);
    let snapshot = place.repository.find_snapshot("latest", &SnapshotFilter::default()).unwrap();
    let stored = place.repository.open_tree(&snapshot, &RelPath::root(), &StopToken::new()).unwrap();
    assert!(stored.facts().read_only);
    let tree = LocalTree::open_dest(source.path()).unwrap();
    assert_same(&stored, &tree);
    let mut options = copy_options(Parent::This(snapshot.into()));
    options.path = RelPath::parse(&source.path().to_str().unwrap().as_bytes()[1..]).unwrap();
    let ours = backup_clean(&place.repository, &tree, &options);
    assert_eq!(ours.report.counters.opened_files, 0);
    assert_eq!(ours.added.data_blobs, 0);
    restic_check(&place.path());
}
