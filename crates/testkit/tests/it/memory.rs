//! The tree in memory keeps POSIX's rules and the engine's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use copy::tree::{DestDir, DestTree, ListCursor, NameBatch, SourceTree};
use copy::{ACL_ACCESS, EntryKind, ErrorClass, FsOp, InodeFlags, Timestamp};
use rustix::io::Errno;
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, Entry, TreeModel, TreeShape, any_tree, diff};
use testkit::{Call, Content, Side, acl};

use proptest::prelude::*;

fn dest(tree: &MemoryTree) -> Arc<dyn DestDir> {
    DestTree::root(tree).unwrap()
}

fn names(dir: &dyn DestDir, limit: usize) -> Vec<Vec<u8>> {
    let (mut cursor, mut batch) = (ListCursor::default(), NameBatch::new());
    while !dir.list(&mut cursor, limit, &mut batch).unwrap() {}
    batch.iter().map(|(name, _)| name.to_vec()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_model_comes_back_from_memory_as_it_went_in(model in any_tree(&TreeShape { flags: true, ..TreeShape::default() })) {
        let tree = MemoryTree::from_model(&model);
        let back = tree.snapshot();
        prop_assert_eq!(diff(&model, &back), Vec::<String>::new());
        prop_assert_eq!(model.link_sets(), back.link_sets());
        prop_assert_eq!(tree.calls(Side::Source).total() + tree.calls(Side::Dest).total(), 0);
    }

    #[test]
    fn a_listing_tells_each_name_once_while_others_go(names_in in proptest::collection::btree_set("[a-z]{1,3}", 1..40), limit in 1usize..10) {
        let tree = MemoryTree::new();
        for name in &names_in {
            tree.put(name, &Entry::fifo());
        }
        let root = dest(&tree);
        let (mut cursor, mut seen) = (ListCursor::default(), Vec::new());
        loop {
            let mut batch = NameBatch::new();
            let ended = root.list(&mut cursor, limit, &mut batch).unwrap();
            for (name, kind) in batch.iter() {
                prop_assert_eq!(kind, Some(EntryKind::Fifo));
                seen.push(String::from_utf8(name.to_vec()).unwrap());
                root.remove_file(name).unwrap();
            }
            if ended {
                break;
            }
        }
        seen.sort();
        prop_assert_eq!(seen, names_in.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_file_is_made_written_and_described() {
    let tree = MemoryTree::new();
    let root = dest(&tree);
    let before = root.metadata().unwrap();
    let file = root.create_file(b"f", 0o640).unwrap();
    let empty = file.node_metadata().unwrap();
    assert_eq!((empty.mode, empty.uid, empty.size_bytes), (0o600, 0, 0), "the umask takes what it can");
    assert_eq!(file.write_at(b"hello", 8192).unwrap(), 5);
    let written = file.node_metadata().unwrap();
    assert_eq!((written.size_bytes, written.allocated_bytes), (8197, 4096));
    assert!(written.mtime > empty.mtime && written.ctime > empty.ctime);
    assert!(root.metadata().unwrap().mtime > before.mtime, "a new entry changes its directory");
    let time = Timestamp { seconds: -5, nanos: 7 };
    file.set_times(time, time).unwrap();
    let timed = file.node_metadata().unwrap();
    assert_eq!((timed.mtime, timed.atime), (time, time));
    assert!(timed.ctime > written.ctime);
    file.close().unwrap();
    assert_eq!(tree.unclosed_files(), 0);
    assert_eq!(root.create_file(b"f", 0o600).unwrap_err().class, ErrorClass::Exists);
    drop(root.open_existing(b"f").unwrap());
    assert_eq!(tree.unclosed_files(), 1);

    let source = SourceTree::root(&tree).unwrap();
    let (file, metadata) = source.open_file(b"f").unwrap();
    assert_eq!(metadata.size_bytes, 8197);
    assert_eq!(file.next_data(0).unwrap(), Some(8192..8197));
    assert_eq!(file.next_data(8197).unwrap(), None);
    let mut buffer = [0; 16];
    assert_eq!(file.read_at(&mut buffer, 8190).unwrap(), 7);
    assert_eq!(&buffer[..7], b"\0\0hello");
    assert_eq!(tree.calls(Side::Source).opened_files(), 1);
    assert_eq!(tree.calls(Side::Dest).of(Call::CreateFile), 2);
    assert_eq!(tree.calls(Side::Dest).of_op(FsOp::Write), 1);
    tree.assert_no_violations();
}

#[test]
fn an_owner_change_takes_setuid_and_capabilities() {
    let tree = MemoryTree::from_model(
        &TreeModel::new()
            .with("f", Entry::file(b"").mode(0o6755).xattr(b"security.capability", b"x"))
            .with("d", Entry::dir().mode(0o2755)),
    );
    let root = dest(&tree);
    root.hold(b"f").unwrap().set_owner(1, 2).unwrap();
    root.hold(b"d").unwrap().set_owner(1, 2).unwrap();
    let now = tree.snapshot();
    assert_eq!(now.get("f").unwrap().mode, 0o755);
    assert!(now.get("f").unwrap().xattrs.is_empty());
    assert_eq!(now.get("d").unwrap().mode, 0o2755);
    tree.assert_no_violations();
    // On a new file it is a door that stood open.
    let file = root.create_file(b"new", 0o600).unwrap();
    file.set_mode(0o4755).unwrap();
    file.set_owner(1, 2).unwrap();
    file.close().unwrap();
    assert_eq!(tree.violations().len(), 1);
}

#[test]
fn what_the_engine_must_not_do_is_remembered() {
    let tree = MemoryTree::from_model(&TreeModel::new().with("p", Entry::fifo()).with("l", Entry::symlink(b"p")));
    let root = dest(&tree);
    assert_eq!(root.open_file(b"l").unwrap_err().class, ErrorClass::Changed);
    tree.assert_no_violations();
    assert_eq!(root.open_file(b"p").unwrap_err().class, ErrorClass::Changed);
    assert_eq!(root.open_existing(b"p").unwrap_err().class, ErrorClass::Changed);
    assert_eq!(tree.violations(), ["OpenFile of the fifo `p`", "OpenExisting of the fifo `p`"]);
    for name in [&b".."[..], b".", b"", b"a/b", b"a\0"] {
        assert!(catch_unwind(AssertUnwindSafe(|| root.stat(name))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| root.create_dir(name))).is_err());
    }
    assert_eq!(tree.violations().len(), 12);
    let wide = root.create_file(b"w", 0o644).unwrap();
    wide.set_mode(0o600).unwrap();
    assert_eq!(tree.violations().len(), 13);
}

#[test]
fn names_are_removed_as_posix_says() {
    let tree = MemoryTree::new();
    let root = dest(&tree);
    let dir = root.create_dir(b"d").unwrap();
    assert_eq!(dir.metadata().unwrap().mode, 0o700);
    dir.create_symlink(b"target", b"l").unwrap();
    assert!(root.remove_dir(b"d").unwrap_err().is(Errno::NOTEMPTY));
    assert!(root.remove_file(b"d").unwrap_err().is(Errno::ISDIR));
    assert!(dir.remove_dir(b"l").unwrap_err().is(Errno::NOTDIR));
    assert!(root.remove_file(b"none").unwrap_err().is(Errno::NOENT));
    assert_eq!(dir.read_link(b"l").unwrap(), b"target");
    dir.remove_file(b"l").unwrap();
    root.remove_dir(b"d").unwrap();
    assert!(dir.create_file(b"x", 0o600).unwrap_err().is(Errno::NOENT), "nothing is made in what is gone");
    assert!(tree.snapshot().is_empty());
}

#[test]
fn links_share_one_inode() {
    let tree = MemoryTree::from_model(&TreeModel::new().with("d", Entry::dir()).with("d/a", Entry::file(b"x")));
    let root = dest(&tree);
    let dir = root.descend(b"d").unwrap();
    root.link_from(&*dir, b"a", b"b").unwrap();
    let (a, b) = (dir.stat(b"a").unwrap(), root.stat(b"b").unwrap());
    assert_eq!((a.id, a.links), (b.id, 2));
    assert!(root.link_from(&*dir, b"a", b"b").unwrap_err().is(Errno::EXIST));
    assert!(dir.link_from(&*root, b"d", b"x").unwrap_err().is(Errno::PERM));
    let sets = tree.snapshot();
    assert_eq!(sets.link_sets().into_iter().map(Vec::from_iter).collect::<Vec<_>>(), [[&b"b"[..], b"d/a"]]);
    root.remove_file(b"b").unwrap();
    assert_eq!(dir.stat(b"a").unwrap().links, 1);
}

#[test]
fn xattrs_have_the_kernels_limits() {
    let tree =
        MemoryTree::from_model(&TreeModel::new().with("f", Entry::file(b"").mode(0o640)).with("p", Entry::fifo()));
    let root = dest(&tree);
    let (file, fifo) = (root.hold(b"f").unwrap(), root.hold(b"p").unwrap());
    file.set_xattr(b"user.a", b"1").unwrap();
    assert!(fifo.set_xattr(b"user.a", b"1").unwrap_err().is(Errno::PERM));
    fifo.set_xattr(b"trusted.a", b"1").unwrap();
    assert!(file.set_xattr(b"odd.a", b"1").unwrap_err().is(Errno::OPNOTSUPP));
    assert!(file.set_xattr(ACL_ACCESS, b"nonsense").unwrap_err().is(Errno::INVAL));
    file.set_xattr(ACL_ACCESS, &acl::with_user(0o660, 7, 6)).unwrap();
    assert_eq!(file.node_metadata().unwrap().mode, 0o660, "the ACL's mask is the group's permission");
    file.set_mode(0o600).unwrap();
    assert_eq!(file.node_xattrs().unwrap().get(ACL_ACCESS), Some(&*acl::with_user(0o600, 7, 6)));
    file.remove_xattr(b"user.a").unwrap();
    assert!(file.remove_xattr(b"user.a").unwrap_err().is(Errno::NODATA));
}

#[test]
fn frozen_inodes_stay_as_they_are() {
    let tree = MemoryTree::from_model(&TreeModel::new().with("f", Entry::file(b"x")));
    let root = dest(&tree);
    let file = root.hold(b"f").unwrap();
    file.set_flags(InodeFlags(0x10)).unwrap();
    assert!(root.stat(b"f").unwrap().is_immutable_or_append());
    assert!(file.set_mode(0o600).unwrap_err().is(Errno::PERM));
    assert!(root.remove_file(b"f").unwrap_err().is(Errno::PERM));
    assert!(root.open_existing(b"f").unwrap_err().is(Errno::PERM));
    file.set_flags(InodeFlags(0)).unwrap();
    root.remove_file(b"f").unwrap();
}

#[test]
fn a_poor_file_system_says_what_it_lacks() {
    let options = MemoryOptions {
        capacity_bytes: 3 * 4096,
        capacity_entries: 4,
        full: Errno::DQUOT,
        owners: false,
        hard_links: false,
        special_files: false,
        inode_flags: false,
        reports_holes: false,
        kinds_in_lists: false,
        case_insensitive: true,
        time_granularity_nanos: 1_000_000_000,
        seconds_min: 0,
        name_bytes_max: 10,
        ..MemoryOptions::default()
    };
    let tree = MemoryTree::with_options(options);
    let root = dest(&tree);
    let file = root.create_file(b"Name", 0o600).unwrap();
    assert_eq!(file.write_at(&vec![1; 5 * 4096], 0).unwrap(), 3 * 4096, "what fits is taken");
    assert!(file.write_at(&[1; 10], 3 * 4096).unwrap_err().is(Errno::DQUOT));
    assert!(file.set_owner(5, 5).unwrap_err().is(Errno::PERM));
    file.set_times(Timestamp { seconds: -9, nanos: 1 }, Timestamp { seconds: 9, nanos: 1 }).unwrap();
    let now = file.node_metadata().unwrap();
    assert_eq!((now.atime, now.mtime), (Timestamp::default(), Timestamp { seconds: 9, nanos: 0 }));
    assert_eq!(file.node_flags().unwrap(), None);
    assert!(root.create_file(b"nAME", 0o600).unwrap_err().is(Errno::EXIST));
    assert!(root.create_dir(b"0123456789a").unwrap_err().is(Errno::NAMETOOLONG));
    assert!(root.create_node(b"p", EntryKind::Fifo, 0).unwrap_err().is(Errno::PERM));
    assert!(root.link_from(&*root, b"name", b"x").unwrap_err().is(Errno::PERM));
    root.create_dir(b"a").unwrap();
    root.create_dir(b"b").unwrap();
    assert!(root.create_dir(b"c").unwrap_err().is(Errno::DQUOT));
    let (mut cursor, mut batch) = (ListCursor::default(), NameBatch::new());
    root.list(&mut cursor, 9, &mut batch).unwrap();
    assert!(batch.iter().all(|(_, kind)| kind.is_none()));
    assert_eq!(DestTree::facts(&tree).free_entries, Some(3));
}

#[test]
fn the_tenant_changes_things_under_a_handle() {
    let tree = MemoryTree::from_model(&TreeModel::new().with("d", Entry::dir()).with("d/f", Entry::file(b"abc")));
    let source = SourceTree::root(&tree).unwrap();
    let dir = source.open_dir(b"d").unwrap();
    let (file, before) = dir.open_file(b"f").unwrap();
    tree.write_secretly("d/f", 0, b"x");
    let after = file.metadata().unwrap();
    assert!(after.mtime == before.mtime && !before.same_content_state(&after));
    tree.put("d/f", &Entry::fifo());
    assert_eq!(dir.stat(b"f").unwrap().kind, EntryKind::Fifo);
    let mut buffer = [0; 3];
    assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 3, "the old file lives as long as it is held");
    tree.rename("d", "e");
    tree.remove("e");
    assert!(dir.stat(b"f").unwrap_err().is(Errno::NOENT));
    tree.lie("", b"../etc", Some(EntryKind::Dir));
    assert_eq!(names(&*dest(&tree), 1), [b"../etc"]);
}

#[test]
fn a_crash_loses_the_data_that_no_sync_covered() {
    let tree = MemoryTree::new();
    let root = dest(&tree);
    for name in [b"old", b"new"] {
        let file = root.create_file(name, 0o600).unwrap();
        file.write_at(b"data", 0).unwrap();
        file.close().unwrap();
        if name == b"old" {
            DestTree::sync(&tree).unwrap();
        }
    }
    tree.crash();
    let after = tree.snapshot();
    assert_eq!(after.get("old").unwrap().content().unwrap().to_bytes(), b"data");
    assert_eq!(after.get("new").unwrap().content().unwrap().to_bytes(), [0; 4]);
    assert_eq!(after.get("new").unwrap().body, Body::File(Content::sparse(4, &[])));
}
