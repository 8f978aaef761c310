//! Second runs: only what differs is done, other names of an inode are never touched by accident, and removal keeps
//! its limits.

use std::collections::BTreeMap;

use copy::{Action, Compare, CopyOptions, Delete, DifferenceKind, Ending, EntryKind, ErrorClass, Filter, FsOp};
use proptest::prelude::*;
use proptest::sample::Index;
use testkit::Side;
use testkit::memory::MemoryTree;
use testkit::model::{Body, DiffOptions, Entry, TreeModel, any_tree, diff_with};

use crate::kit::{
    any_limits, assert_clean, assert_holds, assert_holds_with, assert_nothing_to_do, assert_tidy, cases, in_order,
    options, run, run_clean, run_recorded, small_trees,
};

pub(crate) const MIRROR: Delete = Delete::Extraneous { max_entries: u64::MAX };

/// Changes that a tenant makes between two runs.
#[derive(Clone, Debug)]
enum Edit {
    Remove(Index),
    Rewrite(Index, Vec<u8>),
    /// Content with the size as it was; the time tells.
    Flip(Index),
    Chmod(Index, u32),
    Chown(Index, u32, u32),
    Xattr(Index, bool),
    /// Another kind under the same name.
    Become(Index, Body),
    Link(Index, Index),
    /// One name of an inode becomes a file of its own.
    Separate(Index),
    Touch(Index, i64),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let bytes = prop::collection::vec(any::<u8>(), 0..20_000);
    let body = prop_oneof![
        Just(Body::Dir),
        Just(Body::Fifo),
        Just(Body::Socket),
        Just(Body::CharDevice(0x105)),
        Just(Body::Symlink(b"elsewhere".to_vec())),
        Just(Body::File(testkit::Content::from_bytes(b"was something else"))),
    ];
    prop_oneof![
        2 => at().prop_map(Edit::Remove),
        2 => (at(), bytes).prop_map(|(at, bytes)| Edit::Rewrite(at, bytes)),
        1 => at().prop_map(Edit::Flip),
        1 => (at(), 0_u32..=0o7777).prop_map(|(at, mode)| Edit::Chmod(at, mode)),
        1 => (at(), 0_u32..9, 0_u32..9).prop_map(|(at, uid, gid)| Edit::Chown(at, uid, gid)),
        1 => (at(), any::<bool>()).prop_map(|(at, set)| Edit::Xattr(at, set)),
        3 => (at(), body).prop_map(|(at, body)| Edit::Become(at, body)),
        3 => (at(), at()).prop_map(|(of, at)| Edit::Link(of, at)),
        2 => at().prop_map(Edit::Separate),
        1 => (at(), 1_000_000_000_i64..1_700_000_000).prop_map(|(at, seconds)| Edit::Touch(at, seconds)),
    ]
}

/// Applies an edit; those that fit no entry do nothing.
fn apply(model: &mut TreeModel, edit: Edit, clock: i64) {
    let names = |model: &TreeModel, pick: &dyn Fn(&Entry) -> bool| -> Vec<Vec<u8>> {
        model.iter().filter(|(path, e)| !path.is_empty() && pick(e)).map(|(path, _)| path.to_vec()).collect()
    };
    let choose = |at: Index, list: Vec<Vec<u8>>| (!list.is_empty()).then(|| at.get(&list).clone());
    let is_file = |e: &Entry| e.kind() == EntryKind::File;
    let touch = |entry: &mut Entry| entry.mtime.seconds = clock;
    let any = |model: &TreeModel, at| choose(at, names(model, &|_| true));
    let file = |model: &TreeModel, at| choose(at, names(model, &is_file));
    match edit {
        Edit::Remove(at) => {
            if let Some(path) = any(model, at) {
                model.remove(path);
            }
        }
        Edit::Rewrite(at, bytes) => {
            if let Some(path) = file(model, at) {
                model.edit(path, |e| {
                    e.body = Entry::file(&bytes).body;
                    touch(e);
                });
            }
        }
        Edit::Flip(at) => {
            if let Some(path) = file(model, at) {
                model.edit(path, |e| {
                    if let Body::File(content) = &mut e.body
                        && content.size_bytes() > 0
                    {
                        let mut byte = [0];
                        content.read_at(&mut byte, 0);
                        content.write_at(&[!byte[0]], 0);
                    }
                    touch(e);
                });
            }
        }
        Edit::Chmod(at, mode) => {
            let without_acl = |e: &Entry| e.kind() != EntryKind::Symlink && !e.xattrs.contains_key(copy::ACL_ACCESS);
            if let Some(path) = choose(at, names(model, &without_acl)) {
                model.edit(path, |e| e.mode = mode);
            }
        }
        Edit::Chown(at, uid, gid) => {
            if let Some(path) = any(model, at) {
                model.edit(path, |e| (e.uid, e.gid) = (uid, gid));
            }
        }
        Edit::Xattr(at, set) => {
            if let Some(path) = choose(at, names(model, &|e| matches!(e.kind(), EntryKind::File | EntryKind::Dir))) {
                model.edit(path, |e| {
                    if set {
                        e.xattrs.insert(b"user.new".to_vec(), b"value".to_vec());
                    } else {
                        e.xattrs.retain(|name, _| name == copy::ACL_ACCESS);
                    }
                });
            }
        }
        Edit::Become(at, body) => {
            if let Some(path) = any(model, at) {
                model.remove(&path);
                let mut entry = Entry::new(body);
                touch(&mut entry);
                model.insert(path, entry);
            }
        }
        Edit::Link(of, at) => {
            let others = names(model, &|e| e.kind() != EntryKind::Dir);
            let (Some(of), Some(at)) = (choose(of, others.clone()), choose(at, others)) else { return };
            if of != at {
                model.remove(&at);
                model.link(of, at);
            }
        }
        Edit::Separate(at) => {
            if let Some(path) = choose(at, names(model, &|e| e.link_group.is_some())) {
                let mut entry = model.get(&path).unwrap().clone();
                entry.link_group = None;
                model.insert(path, entry);
            }
        }
        Edit::Touch(at, seconds) => {
            if let Some(path) = any(model, at) {
                model.edit(path, |e| e.mtime.seconds = seconds);
            }
        }
    }
}

fn any_edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(any_edit(), 1..25)
}

fn edited(model: &TreeModel, edits: Vec<Edit>) -> TreeModel {
    let mut out = model.clone();
    for (edit, clock) in edits.into_iter().zip(1_750_000_000..) {
        apply(&mut out, edit, clock);
    }
    out
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn a_mirror_of_an_edited_tree_is_the_edited_tree(
        before in any_tree(&small_trees()),
        edits in any_edits(),
        limits in any_limits(),
        by_content: bool,
    ) {
        let after = edited(&before, edits);
        let dest = MemoryTree::from_model(&before);
        let source = MemoryTree::from_model(&after);
        let compare = if by_content { Compare::Content } else { Compare::SizeAndTime };
        let options = CopyOptions { delete: MIRROR, compare, limits, ..options() };
        assert_clean(&run(&source, &dest, &options));
        assert_holds_with(&dest, &after, &DiffOptions { atime: false, ..DiffOptions::default() });
        assert_nothing_to_do(&source, &dest, &CopyOptions { compare: Compare::SizeAndTime, ..options });
    }

    #[test]
    fn without_deletion_what_the_source_lacks_stays(
        before in any_tree(&small_trees()),
        edits in any_edits(),
        limits in any_limits(),
    ) {
        let after = edited(&before, edits);
        let (dest, source) = (MemoryTree::from_model(&before), MemoryTree::from_model(&after));
        let report = run(&source, &dest, &CopyOptions { limits, ..options() });
        // A directory with entries does not make way for something else.
        prop_assert!(report.faults.iter().all(|f| f.error.op == FsOp::Remove && f.error.class == ErrorClass::Exists));
        prop_assert_eq!(report.ending, if report.faults.is_empty() { Ending::Complete } else { Ending::WithFaults });
        let now = dest.snapshot();
        let blocked = |path: &[u8]| report.faults.iter().any(|f| {
            path.strip_prefix(f.path.as_bytes()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        });
        for (path, entry) in after.iter().filter(|(path, _)| !blocked(path)) {
            let alone = |e: &Entry| TreeModel::new().with("x", Entry { link_group: None, ..e.clone() });
            let copied = now.get(path).map(alone).unwrap_or_default();
            let lines = diff_with(&alone(entry), &copied, &DiffOptions { atime: false, ..DiffOptions::default() });
            prop_assert!(lines.is_empty(), "`{}` {:?}", copy::escape(path), lines);
        }
        for (path, entry) in before.iter().filter(|(path, _)| after.get(path).is_none()) {
            let under_other = (1..path.len()).filter(|at| path[*at] == b'/')
                .any(|at| after.get(&path[..at]).is_some_and(|e| e.kind() != EntryKind::Dir));
            if !under_other {
                prop_assert_eq!(now.get(path).map(Entry::kind), Some(entry.kind()));
            }
        }
        assert_tidy(&dest);
    }

    #[test]
    fn a_dry_run_changes_nothing_and_says_what_the_run_does(
        before in any_tree(&small_trees()),
        edits in any_edits(),
    ) {
        let after = edited(&before, edits);
        let (dest, source) = (MemoryTree::from_model(&before), MemoryTree::from_model(&after));
        let real = CopyOptions { delete: MIRROR, ..in_order() };
        let (dry, told) = run_recorded(&source, &dest, &CopyOptions { dry_run: true, ..real.clone() });
        assert_clean(&dry);
        prop_assert_eq!(dest.calls(Side::Dest).changes(), 0);
        prop_assert_eq!(diff_with(&before, &dest.snapshot(), &DiffOptions { holes: true, ..DiffOptions::default() }), Vec::<String>::new());
        let (wet, done) = run_recorded(&source, &dest, &real);
        assert_clean(&wet);
        let (mut told, mut done) = (actions(&told), actions(&done));
        // Names that are parted: the real run finds fewer of them on the old inode each time it has replaced one.
        let parted = |path: &copy::RelPath| before.get(path.as_bytes()).is_some_and(|e| e.link_group.is_some());
        told.retain(|path, _| !parted(path));
        done.retain(|path, _| !parted(path));
        prop_assert_eq!(told, done);
    }
}

/// What was done with each entry. Whether a directory's times had to be set again because of changes in it shows only
/// in a real run.
fn actions(recorder: &crate::kit::Recorder) -> BTreeMap<copy::RelPath, Option<Action>> {
    let action = |r: &copy::EntryRecord| match (r.kind, r.action) {
        (Some(EntryKind::Dir), Some(Action::Updated)) => Some(Action::Unchanged),
        (_, action) => action,
    };
    recorder.records().iter().map(|r| (r.path.clone(), action(r))).collect()
}

fn check_change(before: &TreeModel, after: &TreeModel, expected: &[(&str, Action)]) {
    let (dest, source) = (MemoryTree::from_model(before), MemoryTree::from_model(after));
    let options = CopyOptions { delete: MIRROR, ..in_order() };
    let (report, recorder) = run_recorded(&source, &dest, &options);
    assert_clean(&report);
    assert_holds_with(&dest, after, &DiffOptions { atime: false, ..DiffOptions::default() });
    for (path, action) in expected {
        assert_eq!(recorder.record(path.as_bytes()).action, Some(*action), "`{path}`");
    }
    assert_nothing_to_do(&source, &dest, &options);
}

#[test]
fn each_kind_becomes_each_other() {
    let kinds = [
        Entry::file(b"a file"),
        Entry::dir(),
        Entry::symlink(b"target"),
        Entry::fifo(),
        Entry::new(Body::Socket),
        Entry::new(Body::CharDevice(0x501)),
        Entry::new(Body::BlockDevice(0x801)),
    ];
    for old in &kinds {
        for new in kinds.iter().filter(|new| new.kind() != old.kind()) {
            let mut before = TreeModel::new().with("x", old.clone());
            if old.kind() == EntryKind::Dir {
                before.insert("x/below", Entry::file(b"goes with it"));
            }
            let action = if new.kind() == EntryKind::Dir { Action::Created } else { Action::Replaced };
            check_change(&before, &TreeModel::new().with("x", new.clone()), &[("x", action)]);
        }
    }
}

#[test]
fn links_are_joined_and_parted_without_touching_other_names() {
    let one = Entry::file(b"same bytes");
    let two = TreeModel::new().with("a", one.clone()).with("b", one.clone()).with("c", one.clone());
    let joined = TreeModel::new().with("a", one.clone()).with_link("a", "b").with_link("a", "c");
    check_change(&two, &joined, &[]);
    check_change(&joined, &two, &[]);
    // Parted and changed: the bytes of the one name must not reach the other.
    for changed in ["a", "b", "c"] {
        let mut after = two.clone();
        after.insert(changed, Entry::file(b"other bytes, longer").mtime(1_600_000_000, 1));
        check_change(&joined, &after, &[(changed, Action::Replaced)]);
        let mut after = two.clone();
        after.insert(changed, one.clone().mode(0o600).owner(7, 7));
        check_change(&joined, &after, &[]);
    }
    // Partners change.
    let pairs = |x: &str, y: &str, z: &str| TreeModel::new().with(x, one.clone()).with_link(x, y).with(z, one.clone());
    for (x, y, z) in [("a", "b", "c"), ("b", "c", "a"), ("a", "c", "b")] {
        check_change(&pairs("a", "b", "c"), &pairs(x, y, z), &[]);
    }
}

#[test]
fn only_what_differs_is_done() {
    let mut before = TreeModel::new().with("d", Entry::dir());
    for name in ["same", "content", "mode", "owner", "time", "xattr", "setuid"] {
        before.insert(format!("d/{name}"), Entry::file(b"bytes"));
    }
    before.insert("d/link", Entry::symlink(b"here"));
    before.insert("d/extra", Entry::fifo());
    let mut after = before.clone();
    after.edit("d/content", |e| *e = Entry::file(b"other").mtime(1_600_000_000, 0));
    after.edit("d/mode", |e| e.mode = 0o711);
    // Equal size and time do not prove that the owner wrote what now gets his rights.
    after.edit("d/setuid", |e| e.mode = 0o4755);
    after.edit("d/owner", |e| e.uid = 5);
    after.edit("d/time", |e| e.mtime.nanos = 1);
    after.edit("d/xattr", |e| drop(e.xattrs.insert(b"user.a".into(), b"b".into())));
    after.edit("d/link", |e| *e = Entry::symlink(b"there"));
    after.remove("d/extra");
    use Action::{Deleted, Replaced, Unchanged, Updated};
    let expected = [
        ("d/same", Unchanged),
        ("d/content", Replaced),
        ("d/mode", Updated),
        ("d/setuid", Replaced),
        ("d/owner", Updated),
        ("d/time", Replaced),
        ("d/xattr", Updated),
        ("d/link", Replaced),
        ("d/extra", Deleted),
    ];
    check_change(&before, &after, &expected);
}

#[test]
fn content_that_lies_about_its_time_is_found_by_content() {
    let model = TreeModel::new().with("f", Entry::file(b"0123456789"));
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model(&model));
    source.write_secretly("f", 3, b"X");
    run_clean(&source, &dest, &in_order());
    assert_eq!(dest.snapshot().get("f").unwrap().content().unwrap().to_bytes(), b"0123456789");
    run_clean(&source, &dest, &CopyOptions { compare: Compare::Content, ..in_order() });
    assert_holds(&dest, &source.snapshot());
}

#[test]
fn only_the_time_differs_and_content_is_compared() {
    let model = TreeModel::new().with("f", Entry::file(b"0123456789"));
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model(&model));
    source.set_mtime("f", copy::Timestamp { seconds: 1_234_567_890, nanos: 5 });
    let report = run_clean(&source, &dest, &CopyOptions { compare: Compare::Content, ..in_order() });
    assert_eq!((report.counters.action(Action::Updated), report.counters.copied_bytes), (1, 0));
    assert_holds(&dest, &source.snapshot());
}

/// Extraneous: 3 files, and a directory of 4 entries.
fn with_extraneous() -> (TreeModel, TreeModel) {
    let source = TreeModel::new().with("kept", Entry::file(b"x")).with("d", Entry::dir());
    let mut dest = source.clone();
    for name in ["e1", "d/e2", "d/e3"] {
        dest.insert(name, Entry::file(b"superfluous"));
    }
    dest.insert("old", Entry::dir());
    for name in ["old/1", "old/2", "old/3"] {
        dest.insert(name, Entry::file(b"superfluous"));
    }
    (source, dest)
}

#[test]
fn deletions_stop_at_their_limit_and_say_so() {
    let (model, old) = with_extraneous();
    for max_entries in 0..=7 {
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model(&old));
        let options = CopyOptions { delete: Delete::Extraneous { max_entries }, ..in_order() };
        let report = run(&source, &dest, &options);
        let removed = old.len() - dest.snapshot().len();
        assert!(removed as u64 <= max_entries, "{removed} of {max_entries}");
        let limited = report.faults.iter().filter(|f| f.error.class == ErrorClass::Limit).count();
        assert_eq!(limited as u64, report.counters.faults);
        assert_eq!(limited == 0, max_entries == 7, "{:?}", report.faults);
        assert_eq!(report.ending, if max_entries == 7 { Ending::Complete } else { Ending::WithFaults });
        // What the source has is never among it.
        assert!(model.iter().all(|(path, _)| dest.snapshot().get(path).is_some()));
        assert_tidy(&dest);
    }
}

#[test]
fn a_dry_run_meets_the_limit_of_deletions_where_the_run_does() {
    let (model, old) = with_extraneous();
    for max_entries in 0..=7 {
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model(&old));
        let options = CopyOptions { delete: Delete::Extraneous { max_entries }, ..in_order() };
        let (dry, told) = run_recorded(&source, &dest, &CopyOptions { dry_run: true, ..options.clone() });
        assert_eq!(dest.calls(Side::Dest).changes(), 0);
        let (wet, done) = run_recorded(&source, &dest, &options);
        assert_eq!(actions(&told), actions(&done), "at most {max_entries}");
        assert_eq!(dry.faults, wet.faults, "at most {max_entries}");
    }
}

fn filtered(names: &[&[u8]], exclude: &[&str], include: &[&str]) -> CopyOptions {
    let names: Vec<_> = names.iter().map(|n| n.to_vec()).collect();
    let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let filter = Filter::new(&names, &strings(exclude), &strings(include)).unwrap();
    CopyOptions { filter, delete: MIRROR, ..in_order() }
}

/// What a filter leaves out is neither copied nor removed, and its directories' other entries are.
fn check_filter(options: &CopyOptions, source_names: &[&str], dest_names: &[&str], expected: &[&str]) {
    let build = |names: &[&str]| {
        let mut model = TreeModel::new();
        for name in names {
            model.insert(
                name,
                if name.rsplit('/').next().unwrap().starts_with('d') {
                    Entry::dir()
                } else {
                    Entry::file(name.as_bytes())
                },
            );
        }
        model
    };
    let (source, dest) = (MemoryTree::from_model(&build(source_names)), MemoryTree::from_model(&build(dest_names)));
    let report = run_clean(&source, &dest, options);
    let now = dest.snapshot();
    let found: Vec<_> = now.iter().filter(|(p, _)| !p.is_empty()).map(|(p, _)| copy::escape(p)).collect();
    assert_eq!(found, expected, "{:?}", report.counters);
    assert_tidy(&dest);
    // The comparison leaves the same out.
    let compared = crate::kit::compare(
        &source,
        &dest,
        &copy::CompareOptions { filter: options.filter.clone(), ..copy::CompareOptions::default() },
    );
    let kinds: Vec<_> = compared.differences.iter().map(|d| d.kind).collect();
    assert!(!kinds.contains(&DifferenceKind::Missing), "{:?}", compared.differences);
}

#[test]
fn filters_leave_out_on_both_sides() {
    check_filter(
        &filtered(&[b".snapshot"], &[], &[]),
        &["a", ".snapshot", "d", "d/.snapshot", "d/b"],
        &["old", "d", "d/.snapshot", "d/old"],
        &["a", "d", "d/.snapshot", "d/b"],
    );
    check_filter(
        &filtered(&[], &["*.tmp", "/dcache"], &[]),
        &["a.tmp", "dcache", "dcache/x", "b"],
        &["c.tmp", "c"],
        &["b", "c.tmp"],
    );
    check_filter(
        &filtered(&[], &[], &["*.c"]),
        &["x.c", "x.h", "d", "d/y.c", "d/y.h"],
        &["z.h", "z.c", "d", "d/z.h"],
        &["d", "d/y.c", "d/z.h", "x.c", "z.h"],
    );
}

#[test]
fn a_directory_that_is_removed_keeps_what_a_filter_protects() {
    check_filter(
        &filtered(&[b"keep"], &["*.tmp"], &[]),
        &["a"],
        &["d", "d/keep", "d/x", "d/deep", "d/deep/y.tmp", "d/deep/z", "d2", "d2/gone"],
        &["a", "d", "d/deep", "d/deep/y.tmp", "d/keep"],
    );
}

fn only(paths: &[&str]) -> CopyOptions {
    let paths = paths.iter().map(|path| copy::RelPath::parse(path.as_bytes()).unwrap());
    CopyOptions { filter: Filter::default().only(paths), delete: MIRROR, ..in_order() }
}

#[test]
fn a_list_of_paths_is_copied_and_nothing_else_is_touched() {
    check_filter(
        &only(&["a", "d/b", "d2", "d3/gone", "d4/d/x"]),
        &["a", "b", "d", "d/a", "d/b", "d2", "d2/new", "d3", "d3/c", "d4", "d4/d", "d4/d/x", "d4/d/y"],
        &["old", "d", "d/old", "d2", "d2/old", "d3", "d3/gone", "d3/old", "d5", "d5/old"],
        &["a", "d", "d/b", "d/old", "d2", "d2/new", "d3", "d3/old", "d4", "d4/d", "d4/d/x", "d5", "d5/old", "old"],
    );
    // The way to what was named is gone in the source: only what was named goes in the destination, too.
    check_filter(
        &only(&["d/d/x", "d2/x"]),
        &["a"],
        &["d", "d/d", "d/d/x", "d/d/y", "d2", "d2/x"],
        &["d", "d/d", "d/d/y"],
    );
}

#[test]
fn directories_that_lead_nowhere_named_are_not_listed() {
    let mut model = TreeModel::new();
    for dir in 0..50 {
        model.insert(format!("d{dir}"), Entry::dir());
        model.insert(format!("d{dir}/sub"), Entry::dir());
        model.insert(format!("d{dir}/sub/f"), Entry::file(b"content"));
    }
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model(&TreeModel::new()));
    let report = run_clean(&source, &dest, &only(&["d7/sub/f"]));
    let calls = source.calls(Side::Source);
    // The root, `d7` and `d7/sub`: each is listed until nothing more comes.
    assert_eq!((calls.of(testkit::Call::OpenDir), calls.of(testkit::Call::List)), (2, 2 * 3), "{calls:?}");
    assert_eq!((calls.opened_files(), report.counters.filtered), (1, 49));
    assert_eq!(dest.snapshot().len(), 4);
}
