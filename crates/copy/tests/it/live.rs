//! A source that somebody works in: what changes while it is read is read again or named, what vanishes is counted,
//! and what becomes another kind is never followed or opened.

use std::sync::Arc;

use copy::{Action, CopyOptions, CopyReport, Ending, EntryKind, ErrorClass, FsOp, Limits, Mover, Movers};
use testkit::faulty::{Effect, Faults, FaultyTree, Hook, On};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel, diff};
use testkit::{Call, Side};

use crate::incremental::MIRROR;
use crate::kit::{Recorder, assert_clean, assert_tidy, differing, in_order, run_clean, run_recorded};

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|i| (i / 4096 * 7 + i) as u8 ^ seed).collect()
}

fn tree() -> TreeModel {
    TreeModel::new()
        .with("a", Entry::file(b"a"))
        .with("d", Entry::dir())
        .with("d/f", Entry::file(&bytes(300_000, 1)))
        .with("d/g", Entry::file(b"g"))
        .with("z", Entry::symlink(b"a"))
}

/// A copy during which `act` is run before the `skip`-th matching operation, once or each time.
struct Live {
    source: MemoryTree,
    dest: MemoryTree,
    report: CopyReport,
    recorder: Recorder,
}

fn live(options: &CopyOptions, model: &TreeModel, on: On, act: impl Fn(&MemoryTree) + Send + Sync + 'static) -> Live {
    let (source, dest, faults) = (MemoryTree::from_model(model), MemoryTree::new(), Faults::new());
    let tenant = source.clone();
    let hook: Hook = Arc::new(move |_| act(&tenant));
    faults.add(on, Effect::Run(hook));
    let from = FaultyTree::new(source.clone(), &faults);
    let to = FaultyTree::new(dest.clone(), &faults);
    let (report, recorder) = run_recorded(&from, &to, options);
    assert_tidy(&source);
    assert_tidy(&dest);
    Live { source, dest, report, recorder }
}

/// Ways of moving the content, with buffers small enough that a file of 300 kB takes several steps.
fn ways() -> Vec<CopyOptions> {
    let limits = Limits { range_bytes: 1, buffer_bytes: 1, small_bytes: 1, ..in_order().limits };
    let several = Limits { workers: Some(4), ..limits.clone() };
    let forced =
        |mover, limits: &Limits| CopyOptions { movers: Movers::forced(mover), limits: limits.clone(), ..in_order() };
    vec![
        forced(Mover::Buffered, &limits),
        forced(Mover::Sparse, &limits),
        forced(Mover::Ranges, &limits),
        forced(Mover::Ranges, &several),
        in_order(),
    ]
}

fn reading_f() -> On {
    On::source().call(Call::Read).path(b"d/f")
}

/// The file is changed once while it is read: the copy is the file as it is in the end.
fn check_changed_once(act: impl Fn(&MemoryTree) + Send + Sync + Copy + 'static) {
    for options in ways() {
        for skip in [0, 1] {
            // One read is all that it takes where the buffer is large enough.
            if skip == 1 && options.movers.forced.is_none() {
                continue;
            }
            let live = live(&options, &tree(), reading_f().after(skip).once(), act);
            assert_clean(&live.report);
            assert!(live.report.counters.retries > 0, "nobody noticed: {:?}", options.movers);
            assert_eq!(
                differing(&live.source.snapshot(), &live.dest.snapshot()),
                [b"d".to_vec()]
                    .into_iter()
                    .filter(|_| {
                        // Attributes of a directory are those of before it was read.
                        live.source.snapshot().get("d").unwrap().mtime != tree().get("d").unwrap().mtime
                    })
                    .collect(),
                "{:?}",
                options.movers
            );
        }
    }
}

#[test]
fn a_file_that_changes_once_is_read_again() {
    check_changed_once(|tenant| tenant.write("d/f", 10, b"changed"));
    check_changed_once(|tenant| tenant.write_secretly("d/f", 10, b"changed"));
    check_changed_once(|tenant| tenant.write("d/f", 299_999, b"changed and longer"));
    check_changed_once(|tenant| tenant.write("d/f", 900_000, b"far beyond"));
    check_changed_once(|tenant| tenant.truncate("d/f", 5));
    check_changed_once(|tenant| tenant.truncate("d/f", 0));
    check_changed_once(|tenant| tenant.chmod("d/f", 0o600));
}

#[test]
fn a_file_that_is_replaced_is_copied_as_a_whole() {
    for options in ways() {
        let live = live(&options, &tree(), reading_f().once(), |tenant| {
            tenant.put("d/new", &Entry::file(&bytes(250_000, 9)));
            tenant.rename("d/new", "d/f");
        });
        assert_eq!(live.report.counters.faults, 0, "{:?}", live.report.faults);
        let copied = live.dest.snapshot().get("d/f").unwrap().content().unwrap().to_bytes();
        // Either of the two, never a mixture.
        assert!([bytes(300_000, 1), bytes(250_000, 9)].contains(&copied), "{:?}", options.movers);
    }
}

#[test]
fn a_file_that_never_rests_is_a_fault_and_leaves_nothing_half_made() {
    for options in ways() {
        let live = live(&options, &tree(), reading_f(), |tenant| tenant.write("d/f", 5, b"again"));
        assert_eq!(live.report.ending, Ending::WithFaults);
        let faults: Vec<_> = live.report.faults.iter().map(|f| (f.path.to_string(), f.error.class)).collect();
        assert_eq!(faults, [("d/f".to_owned(), ErrorClass::Changed)], "{:?}", options.movers);
        assert_eq!(live.report.counters.retries, u64::from(options.limits.retries));
        assert!(live.dest.snapshot().get("d/f").is_none(), "{:?}", options.movers);
        assert_eq!(live.recorder.record(b"d/f").action, Some(Action::Failed));
        run_clean(&live.source, &live.dest, &options);
        assert_eq!(differing(&live.source.snapshot(), &live.dest.snapshot()).len(), 0);
    }
}

/// Something happens to `d/f` right before an operation on it. The run must come to its end without a fault.
fn check_meanwhile(on: &On, act: impl Fn(&MemoryTree) + Send + Sync + Copy + 'static, expected: Option<EntryKind>) {
    for options in ways() {
        let live = live(&options, &tree(), on.clone().once(), act);
        let what = format!("{on:?} {:?}: {:?}", options.movers, live.report.faults);
        assert_eq!(live.report.counters.faults, 0, "{what}");
        assert_eq!(live.report.ending, Ending::Complete, "{what}");
        assert_eq!(live.dest.snapshot().get("d/f").map(Entry::kind), expected, "{what}");
        if expected.is_none() {
            assert_eq!(live.recorder.record(b"d/f").action, Some(Action::Vanished), "{what}");
            assert_eq!(live.report.counters.action(Action::Vanished), 1, "{what}");
        }
        let now = live.source.snapshot();
        assert!(diff(&now, &live.dest.snapshot()).iter().all(|line| line.starts_with("`d`")), "{what}");
    }
}

fn opening_f() -> On {
    On::source().call(Call::OpenFile).path(b"d/f")
}

#[test]
fn a_file_that_vanishes_after_it_was_listed_is_counted_and_no_fault() {
    check_meanwhile(&opening_f(), |tenant| tenant.remove("d/f"), None);
}

#[test]
fn a_file_that_vanishes_while_it_is_read_is_still_copied() {
    // Somebody holds it: the engine. All of it can be read.
    for options in ways() {
        let live = live(&options, &tree(), reading_f().once(), |tenant| tenant.remove("d/f"));
        assert_eq!(live.report.counters.faults, 0, "{:?}", live.report.faults);
    }
}

#[test]
fn an_entry_that_becomes_another_kind_is_copied_as_what_it_is() {
    let becomes = |entry: fn() -> Entry| move |tenant: &MemoryTree| tenant.put("d/f", &entry());
    check_meanwhile(&opening_f(), becomes(|| Entry::symlink(b"../../etc/passwd")), Some(EntryKind::Symlink));
    check_meanwhile(&opening_f(), becomes(Entry::dir), Some(EntryKind::Dir));
    check_meanwhile(&opening_f(), becomes(|| Entry::file(b"another")), Some(EntryKind::File));
}

#[test]
fn special_files_that_take_a_files_place_are_noticed() {
    // That one was opened is the kernel's doing: it happened between the listing and the opening. The port says that
    // such an opening gives `Changed`, and the tree notes each try.
    for entry in [Entry::fifo(), Entry::new(testkit::model::Body::Socket)] {
        for options in ways() {
            let (source, dest, faults) = (MemoryTree::from_model(&tree()), MemoryTree::new(), Faults::new());
            let (tenant, new) = (source.clone(), entry.clone());
            faults.before_first(opening_f(), move || tenant.put("d/f", &new));
            let (report, _) = run_recorded(
                &FaultyTree::new(source.clone(), &faults),
                &FaultyTree::new(dest.clone(), &faults),
                &options,
            );
            assert_clean(&report);
            assert_eq!(dest.snapshot().get("d/f").map(Entry::kind), Some(entry.kind()));
            assert_eq!(source.violations().len(), 1, "opened again after it was known: {:?}", source.violations());
        }
    }
}

#[test]
fn a_symlink_that_becomes_a_file_is_copied_as_one() {
    let on = On::source().call(Call::ReadLink).path(b"z").once();
    let live = live(&in_order(), &tree(), on, |tenant| tenant.put("z", &Entry::file(b"now a file")));
    assert_eq!(live.report.counters.faults, 0, "{:?}", live.report.faults);
    assert_eq!(live.dest.snapshot().get("z").map(Entry::kind), Some(EntryKind::File));
}

#[test]
fn a_directory_that_vanishes_is_counted_and_no_fault() {
    for on in [
        On::source().call(Call::OpenDir).path(b"d"),
        On::source().call(Call::List).path(b"d"),
        On::source().call(Call::OpenFile).path(b"d/g"),
        On::source().call(Call::List).path(b"d").after(1),
    ] {
        let live = live(&in_order(), &tree(), on.clone().once(), |tenant| tenant.remove("d"));
        assert_eq!(live.report.counters.faults, 0, "{on:?} {:?}", live.report.faults);
        assert_eq!(live.report.ending, Ending::Complete);
        for path in ["a", "z"] {
            assert!(live.dest.snapshot().get(path).is_some());
        }
    }
}

#[test]
fn a_directory_that_becomes_something_else_is_named_and_right_the_next_time() {
    for (entry, kind) in [
        (Entry::file(b"was a directory"), EntryKind::File),
        (Entry::symlink(b"/"), EntryKind::Symlink),
        (Entry::fifo(), EntryKind::Fifo),
    ] {
        let new = entry.clone();
        let on = On::source().call(Call::OpenDir).path(b"d").once();
        let live = live(&in_order(), &tree(), on, move |tenant| tenant.put("d", &new));
        let faults: Vec<_> = live.report.faults.iter().map(|f| (f.path.to_string(), f.error.class)).collect();
        assert_eq!(faults, [("d".to_owned(), ErrorClass::Changed)]);
        run_clean(&live.source, &live.dest, &CopyOptions { delete: MIRROR, ..in_order() });
        assert_eq!(live.dest.snapshot().get("d").map(Entry::kind), Some(kind));
    }
}

#[test]
fn names_that_come_and_go_while_a_directory_is_listed_do_no_harm() {
    let mut model = TreeModel::new();
    for i in 0..300 {
        model.insert(format!("{i:03}"), Entry::file(b"x"));
    }
    let live = live(&in_order(), &model, On::source().call(Call::OpenFile), |tenant| {
        let names: Vec<Vec<u8>> = tenant.snapshot().iter().map(|(path, _)| path.to_vec()).collect();
        let number = names.len();
        if let Some(name) = names.iter().rev().find(|name| name.len() == 3 && name.ends_with(b"7")) {
            tenant.remove(name);
        }
        tenant.put(format!("new {number}"), &Entry::file(b"y"));
    });
    assert_eq!(live.report.counters.faults, 0, "{:?}", live.report.faults);
    let now = live.dest.snapshot();
    for (path, entry) in live.source.snapshot().iter().filter(|(path, _)| path.len() == 3) {
        assert_eq!(now.get(path).map(Entry::content), Some(entry.content()));
    }
}

#[test]
fn an_entry_that_appears_in_the_destination_meanwhile_is_replaced() {
    let (source, dest, faults) = (MemoryTree::from_model(&tree()), MemoryTree::new(), Faults::new());
    for path in [&b"a"[..], b"z"] {
        let tenant = dest.clone();
        let name = path.to_vec();
        let call = if path == b"a" { Call::CreateFile } else { Call::CreateSymlink };
        faults.before_first(On::dest().call(call).path(path), move || tenant.put(&name, &Entry::file(b"in the way")));
    }
    let (report, _) =
        run_recorded(&FaultyTree::new(source.clone(), &faults), &FaultyTree::new(dest.clone(), &faults), &in_order());
    let failed: Vec<_> = report.faults.iter().map(|f| (f.path.to_string(), f.error.class)).collect();
    // What cannot be made in its place is named.
    assert!(failed.iter().all(|(path, class)| path == "z" && *class == ErrorClass::Exists), "{failed:?}");
    run_clean(&source, &dest, &CopyOptions { delete: MIRROR, ..in_order() });
    assert!(differing(&source.snapshot(), &dest.snapshot()).is_empty());
}

#[test]
fn names_that_are_not_plain_are_told_and_never_used() {
    let source = MemoryTree::from_model(&tree());
    for name in [&b".."[..], b".", b"", b"a/b", b"../a", b"nul\0"] {
        source.lie("d", name, Some(EntryKind::File));
    }
    source.lie("d", b"not-there", Some(EntryKind::File));
    let dest = MemoryTree::new();
    let (report, recorder) = run_recorded(&source, &dest, &in_order());
    assert_tidy(&source);
    assert_tidy(&dest);
    assert_eq!(report.counters.faults, 6);
    assert!(report.faults.iter().all(|f| f.error.class == ErrorClass::Escape && f.error.op == FsOp::List));
    assert_eq!(recorder.record(b"d/not-there").action, Some(Action::Vanished));
    assert_eq!(differing(&tree(), &dest.snapshot()).len(), 0);
    assert_eq!(source.calls(Side::Source).of(Call::ReadLink), 1);
}
