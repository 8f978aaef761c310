//! Every operation of a run fails once. Whatever fails, an entry that is not right is named, and the next run makes it
//! right: there is no silent loss.

use std::collections::BTreeSet;

use copy::{
    Action, CopyError, CopyOptions, CopyReport, Ending, HashKind, InodeFlags, Limits, Movers, Records, Sparse,
    StopToken, Verify,
};
use proptest::prelude::*;
use rustix::io::Errno;
use testkit::faulty::{Effect, Faults, FaultyTree, On, Operation};
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, Entry, TreeModel, TreeShape, any_tree};
use testkit::{Call, Content, acl};

use crate::incremental::MIRROR;
use crate::kit::{Recorder, any_limits, assert_tidy, cases, differing, in_order, run, small_trees, try_copy};

/// A run that can be made again and again, the same each time.
struct Scenario {
    name: &'static str,
    source: TreeModel,
    dest: TreeModel,
    options: CopyOptions,
}

impl Scenario {
    fn trees(&self) -> (MemoryTree, MemoryTree) {
        // No kinds in listings: more ways to fail.
        let how = MemoryOptions { kinds_in_lists: self.name != "replace", ..MemoryOptions::default() };
        (MemoryTree::from_model_with(&self.source, how.clone()), MemoryTree::from_model_with(&self.dest, how))
    }

    /// The operations of a run in which nothing fails.
    fn operations(&self) -> Vec<Operation> {
        let attempt = self.attempt(|_| {});
        assert_eq!(attempt.report.unwrap().ending, Ending::Complete);
        assert_eq!(differing(&self.source, &attempt.dest.snapshot()), BTreeSet::new(), "{}", self.name);
        attempt.faults.record()
    }

    fn attempt(&self, prepare: impl FnOnce(&Faults)) -> Attempt {
        let ((source, dest), faults, recorder) = (self.trees(), Faults::new(), Recorder::default());
        prepare(&faults);
        let from = FaultyTree::new(source.clone(), &faults);
        let to = FaultyTree::new(dest.clone(), &faults);
        let options = CopyOptions { records: Records::All, ..self.options.clone() };
        let report = try_copy(&from, &to, &options, &recorder, &StopToken::new());
        Attempt { source, dest, faults, recorder, report }
    }
}

struct Attempt {
    source: MemoryTree,
    dest: MemoryTree,
    faults: Faults,
    recorder: Recorder,
    report: Result<CopyReport, CopyError>,
}

impl Attempt {
    /// Every entry that is not as in the source was named, and a further run makes everything right.
    fn judge(&self, scenario: &Scenario, what: &str) {
        let what = format!("{}: {what}: {:?}", scenario.name, self.faults.injected().first());
        assert_tidy(&self.dest);
        assert_tidy(&self.source);
        let wrong = differing(&scenario.source, &self.dest.snapshot());
        if let Ok(report) = &self.report {
            let named = self.named(report, &scenario.source);
            let stopped = matches!(report.ending, Ending::Stopped(_));
            // What a stopped run did not come to is nobody's fault.
            let silent = wrong.iter().filter(|path| !stopped && !is_covered(path, &named));
            let silent: Vec<_> = silent.map(|path| copy::escape(path)).collect();
            assert!(silent.is_empty(), "{what}\nlost in silence: {silent:?}\nnamed: {named:?}");
            let told = report.counters.faults + report.counters.losses + report.counters.action(Action::Vanished);
            assert!(wrong.is_empty() || told > 0, "{what}");
            // What was named as lost differs, which the loss has said already.
            let is_verified = report.verification.as_ref().is_none_or(|found| found.ending == Ending::Complete)
                && report.unexplained_differences() == 0;
            let complete = report.counters.faults == 0 && is_verified;
            assert_eq!(report.ending == Ending::Complete, complete, "{what}: {:?}", report.ending);
            assert_eq!(report.faults.len() as u64, report.counters.faults, "{what}");
            let by_class: u64 = report.fault_classes.iter().map(|(_, count)| count).sum();
            assert_eq!(by_class, report.counters.faults, "{what}");
        }
        let again = run(&self.source, &self.dest, &scenario.options);
        let still = differing(&scenario.source, &self.dest.snapshot());
        assert_eq!(still, BTreeSet::new(), "{what}: the next run does not repair it: {:?}", again.faults);
        assert_eq!(again.ending, Ending::Complete, "{what}: {:?}", again.faults);
    }

    /// Paths of faults, losses and vanished entries, with the other names of the same inodes.
    fn named(&self, report: &CopyReport, model: &TreeModel) -> BTreeSet<Vec<u8>> {
        let mut named: BTreeSet<Vec<u8>> = report.faults.iter().map(|f| f.path.as_bytes().to_vec()).collect();
        named.extend(report.losses.iter().flat_map(|l| &l.paths).map(|p| p.as_bytes().to_vec()));
        let vanished = self.recorder.records().into_iter().filter(|r| r.action == Some(Action::Vanished));
        named.extend(vanished.map(|r| r.path.as_bytes().to_vec()));
        for names in model.link_sets() {
            if names.iter().any(|name| is_covered(name, &named)) {
                named.extend(names.iter().map(|name| name.to_vec()));
            }
        }
        named
    }
}

/// A fault of a directory stands for everything below it.
fn is_covered(path: &[u8], named: &BTreeSet<Vec<u8>>) -> bool {
    named.contains(path)
        || named.contains(&b""[..])
        || (0..path.len()).any(|at| path[at] == b'/' && named.contains(&path[..at]))
}

/// A little of everything.
pub(crate) fn everything() -> TreeModel {
    let bytes: Vec<u8> = (0..150_000_u32).map(|i| (i / 4096 * 7 + i) as u8 | 1).collect();
    let sparse = Content::sparse(400_000, &[(0, &bytes[..5000]), (200_000, &bytes[..70_000])]);
    let mut reserved = Content::from_bytes(&bytes[..10_000]);
    reserved.allocate(&(0..80_000));
    let mut model = TreeModel::new()
        .with("a", Entry::file(b"alone"))
        .with("d", Entry::dir().mode(0o2775).owner(10, 20).xattr(b"user.d", b"1"))
        .with("d/big", Entry::file(&bytes).owner(1, 2).mode(0o4755))
        .with("d/empty", Entry::file(b""))
        .with("d/reserved", Entry::new(Body::File(reserved)))
        .with("d/sparse", Entry::new(Body::File(sparse)).xattr(b"trusted.t", b"2"))
        .with("d/acl", Entry::file(b"acl").mode(0o640).xattr(copy::ACL_ACCESS, &acl::with_user(0o640, 7, 6)))
        .with("d/deep", Entry::dir().mode(0))
        .with("d/deep/locked", Entry::file(b"locked").mode(0))
        .with("d/fifo", Entry::fifo())
        .with("d/socket", Entry::new(Body::Socket).owner(3, 4))
        .with("d/device", Entry::new(Body::CharDevice(0x103)).mode(0o666))
        .with("d/link", Entry::symlink(b"../a").owner(5, 6))
        .with("e", Entry::dir().xattr(copy::ACL_DEFAULT, &acl::with_user(0o750, 8, 7)))
        .with("e/inside", Entry::file(b"inherits nothing"))
        .with_link("d/acl", "e/acl-too")
        .with_link("d/fifo", "e/fifo-too")
        .with_link("d/link", "link-too");
    for (path, flags) in [("a", 0x40), ("d/empty", 0x20), ("e", 0x40)] {
        model.edit(path, |entry| entry.flags = InodeFlags(flags));
    }
    model
}

/// What an earlier copy and other people left: other kinds, other content, other links, and things to remove.
pub(crate) fn outdated() -> TreeModel {
    let mut model = everything();
    model.remove("d/deep");
    model.insert("d/deep", Entry::file(b"was a file"));
    model.insert("d/link", Entry::dir());
    model.insert("d/link/below", Entry::file(b"in the way"));
    model.insert("e/inside", Entry::fifo());
    model.insert("e/acl-too", Entry::file(b"a file of its own"));
    model.edit("d/big", |e| e.body = Entry::file(b"old").body);
    model.edit("d/device", |e| e.body = Body::CharDevice(0x109));
    model.edit("d", |e| e.uid = 99);
    model.edit("a", |e| e.mode = 0o600);
    model.edit("d/empty", |e| e.uid = 3);
    model.edit("d/sparse", |e| e.xattrs.clear());
    model.insert("old", Entry::dir());
    model.insert("old/1", Entry::file(b"goes"));
    model.insert("old/sub", Entry::dir());
    model.insert("old/sub/2", Entry::fifo());
    model.insert("d/old", Entry::symlink(b"goes"));
    model
}

fn scenarios() -> Vec<Scenario> {
    let base = CopyOptions { delete: MIRROR, ..in_order() };
    let limits = Limits { range_bytes: 1, buffer_bytes: 1, small_bytes: 1, ..base.limits.clone() };
    let new = |name, options| Scenario { name, source: everything(), dest: TreeModel::new(), options };
    vec![
        new("fresh", base.clone()),
        new(
            "ranges",
            CopyOptions {
                movers: Movers::forced(copy::Mover::Ranges),
                hash: Some(HashKind::Xxh3Blocks),
                limits,
                ..base.clone()
            },
        ),
        new("detect", CopyOptions { sparse: Sparse::Detect, verify: Verify::Content, ..base.clone() }),
        Scenario { name: "replace", source: everything(), dest: outdated(), options: base.clone() },
        Scenario {
            name: "by content",
            source: everything(),
            dest: outdated(),
            options: CopyOptions { compare: copy::Compare::Content, ..base },
        },
    ]
}

fn check_each(effect: impl Fn(Errno) -> Effect, errnos: &[Errno], step: usize) {
    for scenario in scenarios() {
        let operations = scenario.operations();
        for errno in errnos {
            for operation in operations.iter().step_by(step) {
                let number = operation.number;
                // What is said to be gone already need not be removed.
                if *errno == Errno::NOENT && operation.op() == copy::FsOp::Remove {
                    continue;
                }
                let attempt = scenario.attempt(|faults| faults.add(On::any().number(number), effect(*errno)));
                assert_eq!(attempt.faults.injected().len(), 1, "{}: {operation:?} was not reached", scenario.name);
                attempt.judge(&scenario, "once");
            }
        }
    }
}

#[test]
fn each_operation_fails_once_with_eio() {
    check_each(Effect::Fail, &[Errno::IO], 1);
}

#[test]
fn each_operation_fails_once_with_other_errors() {
    check_each(Effect::Fail, &[Errno::NOSPC, Errno::ACCESS, Errno::NOENT], 1);
    check_each(Effect::Fail, &[Errno::DQUOT, Errno::STALE, Errno::EXIST, Errno::ROFS, Errno::INVAL], 7);
}

#[test]
fn each_operation_is_done_and_told_to_have_failed() {
    check_each(Effect::FailAfter, &[Errno::IO, Errno::STALE], 1);
}

#[test]
fn each_operation_fails_and_all_that_follow() {
    for scenario in scenarios() {
        for operation in scenario.operations().into_iter().step_by(3) {
            for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
                let attempt = scenario.attempt(|faults| faults.fail_from(operation.number, errno));
                attempt.judge(&scenario, "from then on");
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(96))]

    /// Several faults in one run of several workers, over whatever was there before.
    #[test]
    fn whatever_fails_is_named_and_right_the_next_time(
        source in any_tree(&with_visible_flags()),
        dest in any_tree(&with_visible_flags()),
        limits in any_limits(),
        rules in prop::collection::vec((0_u64..600, any_effect(), any::<bool>()), 1..8),
    ) {
        let options = CopyOptions { limits, delete: MIRROR, ..in_order() };
        let mut scenario = Scenario { name: "random", source, dest, options };
        // All faults are kept, so that each can be found by its path.
        scenario.options.limits.faults_kept = usize::MAX;
        let attempt = scenario.attempt(|faults| {
            for (number, effect, lasting) in rules {
                let on = if lasting { On::dest().changes().after(number).times(5) } else { On::any().number(number) };
                faults.add(on, effect);
            }
        });
        attempt.judge(&scenario, "at random");
    }
}

/// Whether a flag that `statx` does not show is right is seen only when something else is wrong.
fn with_visible_flags() -> TreeShape {
    TreeShape { flags: false, ..small_trees() }
}

fn any_effect() -> impl Strategy<Value = Effect> {
    let errno =
        || prop::sample::select(vec![Errno::IO, Errno::NOSPC, Errno::ACCESS, Errno::STALE, Errno::INVAL, Errno::DQUOT]);
    prop_oneof![
        3 => errno().prop_map(Effect::Fail),
        1 => errno().prop_map(Effect::FailAfter),
        1 => (0_usize..3000).prop_map(Effect::Short),
    ]
}

/// What passes by itself is tried again: the run is right, and nobody hears of it but the counter.
#[test]
fn an_error_that_passes_leaves_no_fault() {
    let mut faulted = BTreeSet::new();
    for scenario in scenarios() {
        for operation in scenario.operations() {
            for errno in [Errno::INTR, Errno::AGAIN, Errno::STALE, Errno::IO] {
                // A lost write is told once.
                if matches!(operation.call, Call::Close | Call::Sync | Call::StartWriteback) {
                    continue;
                }
                let attempt = scenario.attempt(|faults| faults.fail_nth(operation.number, errno));
                // Before there is a run, it is refused.
                let Ok(report) = &attempt.report else { continue };
                let right = differing(&scenario.source, &attempt.dest.snapshot()).is_empty();
                if report.ending != Ending::Complete || !report.losses.is_empty() || !right {
                    faulted.insert(format!("{}: {operation:?} {errno:?}: {:?}", scenario.name, report.faults.first()));
                }
            }
        }
    }
    let list: Vec<_> = faulted.into_iter().collect();
    assert!(list.is_empty(), "{} calls are not tried again:\n{}", list.len(), list.join("\n"));
}
