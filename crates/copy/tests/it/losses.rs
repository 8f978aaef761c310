//! What a destination cannot hold is named, counted, and never turned into more rights than the source gives.

use copy::{
    Action, Compare, CopyOptions, CopyReport, Devices, Ending, EntryKind, ErrorClass, InodeFlags, LossKind, OnLoss,
    Verify,
};
use proptest::prelude::*;
use rustix::io::Errno;
use testkit::faulty::{Effect, Faults, FaultyTree, On};
use testkit::memory::{MemoryOptions, MemoryTree};
use testkit::model::{Body, DiffOptions, Entry, TreeModel, any_tree, diff_with};
use testkit::{Call, Content, acl};

use crate::kit::{any_limits, assert_clean, assert_tidy, cases, in_order, options, run, run_recorded, small_trees};

/// Losses by kind with their counts and first paths.
fn lost(report: &CopyReport) -> Vec<(LossKind, u64, Vec<String>)> {
    let mut all: Vec<_> = report
        .losses
        .iter()
        .map(|l| {
            let mut paths: Vec<_> = l.paths.iter().map(ToString::to_string).collect();
            paths.sort();
            (l.kind, l.count, paths)
        })
        .collect();
    all.sort();
    all
}

/// A destination that lacks something loses exactly what is expected, and all else is right.
fn check(
    model: &TreeModel,
    change: impl Fn(&mut MemoryOptions),
    expected: &[(LossKind, &[&str])],
    kept: &DiffOptions,
) -> TreeModel {
    let mut how = MemoryOptions::default();
    change(&mut how);
    let (source, dest) = (MemoryTree::from_model(model), MemoryTree::with_options(how));
    let (report, recorder) = run_recorded(&source, &dest, &in_order());
    let mut expected: Vec<_> = expected
        .iter()
        .map(|(kind, paths)| (*kind, paths.len() as u64, paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()))
        .collect();
    expected.sort();
    assert_eq!(lost(&report), expected, "{:?}", report.faults);
    assert_eq!(report.counters.losses, expected.iter().map(|(_, count, _)| count).sum::<u64>());
    // A loss that is reported is no fault.
    assert_eq!((report.ending, report.counters.faults), (Ending::Complete, 0));
    assert_tidy(&dest);
    for (kind, _, paths) in &expected {
        for path in paths {
            let path = if path == "." { "" } else { path };
            assert!(recorder.record(path.as_bytes()).losses.contains(kind), "{path}");
        }
    }
    let now = dest.snapshot();
    assert_eq!(diff_with(model, &now, kept), Vec::<String>::new());
    let strict = CopyOptions { on_loss: OnLoss::Fail, ..in_order() };
    let mut how = MemoryOptions::default();
    change(&mut how);
    let report = run(&source, &MemoryTree::with_options(how), &strict);
    let ending = if expected.is_empty() { Ending::Complete } else { Ending::WithFaults };
    assert_eq!((report.ending, report.counters.faults), (ending, 0));
    now
}

fn all() -> DiffOptions {
    DiffOptions::default()
}

#[test]
fn attributes_are_lost_by_name() {
    let model = TreeModel::new()
        .with(
            "cap",
            Entry::file(b"x").xattr(b"security.capability", b"\x01\x00\x00\x02\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        )
        .with("d", Entry::dir().xattr(copy::ACL_DEFAULT, &acl::with_user(0o750, 8, 7)).xattr(b"user.a", b"1"))
        .with("s", Entry::file(b"x").xattr(b"security.other", b"1"))
        .with("t", Entry::symlink(b"x").xattr(b"trusted.a", b"1"))
        .with("u", Entry::file(b"x").xattr(b"user.a", b"1").xattr(b"user.b", b"2"));
    let expected: &[(LossKind, &[&str])] = &[
        (LossKind::Capability, &["cap"]),
        (LossKind::DefaultAcl, &["d"]),
        (LossKind::SecurityXattr, &["s"]),
        (LossKind::TrustedXattr, &["t"]),
    ];
    let (source, dest) = (
        MemoryTree::from_model(&model),
        MemoryTree::with_options(MemoryOptions { xattrs: false, acls: false, ..MemoryOptions::default() }),
    );
    let report = run(&source, &dest, &in_order());
    for (kind, paths) in expected {
        assert!(lost(&report).contains(&(*kind, 1, vec![paths[0].to_owned()])), "{kind:?}: {:?}", lost(&report));
    }
    // Two attributes of one entry.
    let user = lost(&report).into_iter().find(|(kind, ..)| *kind == LossKind::UserXattr).unwrap();
    assert_eq!(user.1, 3);
    assert_eq!(diff_with(&model, &dest.snapshot(), &DiffOptions { xattrs: false, ..all() }), Vec::<String>::new());
    // What can never be right does not make the next run fail.
    let again = run(&source, &dest, &in_order());
    assert_eq!((again.ending, again.counters.faults), (Ending::Complete, 0));
    assert_eq!(again.counters.losses, report.counters.losses);
}

#[test]
fn a_lost_acl_gives_the_group_no_more_than_its_own_entry() {
    // The mode's group bits are the mask, rw; the group itself has only r.
    let model = TreeModel::new()
        .with("f", Entry::file(b"x").mode(0o660).xattr(copy::ACL_ACCESS, &acl::with_user(0o660, 7, 6)))
        .with("d", Entry::dir().mode(0o770).xattr(copy::ACL_ACCESS, &acl::with_user(0o770, 7, 7)));
    let expected: &[(LossKind, &[&str])] = &[(LossKind::AccessAcl, &["d", "f"]), (LossKind::Mode, &["d", "f"])];
    let now = check(&model, |how| how.acls = false, expected, &DiffOptions { xattrs: false, mode: false, ..all() });
    assert_eq!(now.get("f").unwrap().mode, 0o640);
    assert_eq!(now.get("d").unwrap().mode, 0o740);
}

#[test]
fn a_lost_owner_takes_setuid_and_setgid_with_it() {
    let model = TreeModel::new()
        .with("suid", Entry::file(b"x").owner(5, 6).mode(0o6755))
        .with("plain", Entry::file(b"x").owner(5, 6).mode(0o644))
        .with("own", Entry::file(b"x").owner(0, 0).mode(0o4755));
    let expected: &[(LossKind, &[&str])] = &[(LossKind::Owner, &["plain", "suid"]), (LossKind::Mode, &["suid"])];
    let now = check(&model, |how| how.owners = false, expected, &DiffOptions { owner: false, mode: false, ..all() });
    assert_eq!(now.get("suid").unwrap().mode, 0o755);
    assert_eq!(now.get("plain").unwrap().mode, 0o644);
    assert_eq!(now.get("own").unwrap().mode, 0o4755);
}

#[test]
fn without_hard_links_each_name_is_a_file() {
    let model = TreeModel::new()
        .with("a", Entry::file(b"shared"))
        .with_link("a", "b")
        .with_link("a", "c")
        .with("p", Entry::fifo())
        .with_link("p", "q");
    let (source, dest) = (
        MemoryTree::from_model(&model),
        MemoryTree::with_options(MemoryOptions { hard_links: false, ..MemoryOptions::default() }),
    );
    let report = run(&source, &dest, &in_order());
    assert_eq!(report.ending, Ending::Complete);
    assert_eq!(
        lost(&report).iter().map(|(kind, count, _)| (*kind, *count)).collect::<Vec<_>>(),
        [(LossKind::HardLink, 3)]
    );
    assert_eq!(diff_with(&model, &dest.snapshot(), &DiffOptions { links: false, ..all() }), Vec::<String>::new());
    assert_eq!(report.counters.copied_files, 3);
}

#[test]
fn a_frozen_inode_that_takes_no_further_name_is_told() {
    let mut model = TreeModel::new().with("a", Entry::file(b"shared")).with_link("a", "b");
    model.edit("a", |e| e.flags = InodeFlags(0x10));
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::new());
    let report = run(&source, &dest, &in_order());
    assert_eq!((report.ending, report.counters.faults), (Ending::Complete, 0));
    assert_eq!(diff_with(&model, &dest.snapshot(), &DiffOptions { links: false, ..all() }), Vec::<String>::new());
    let told = report.losses.iter().any(|l| l.kind == LossKind::HardLink);
    assert_eq!(told, dest.snapshot().link_sets().is_empty());
}

#[test]
fn more_names_than_an_inode_takes_become_files() {
    let mut model = TreeModel::new().with("0", Entry::file(b"shared"));
    for i in 1..10 {
        model.link("0", i.to_string());
    }
    let (source, dest) = (
        MemoryTree::from_model(&model),
        MemoryTree::with_options(MemoryOptions { links_max: 4, ..MemoryOptions::default() }),
    );
    let report = run(&source, &dest, &in_order());
    assert_eq!(report.counters.faults, 0, "{:?}", report.faults);
    assert!(report.losses.iter().all(|l| l.kind == LossKind::HardLink) && !report.losses.is_empty());
    assert_eq!(diff_with(&model, &dest.snapshot(), &DiffOptions { links: false, ..all() }), Vec::<String>::new());
}

#[test]
fn special_files_that_cannot_be_made_are_skipped_and_named() {
    let model = TreeModel::new()
        .with("char", Entry::new(Body::CharDevice(0x103)))
        .with("fifo", Entry::fifo())
        .with("socket", Entry::new(Body::Socket))
        .with("file", Entry::file(b"x"));
    let (source, dest) = (
        MemoryTree::from_model(&model),
        MemoryTree::with_options(MemoryOptions { special_files: false, ..MemoryOptions::default() }),
    );
    let report = run(&source, &dest, &in_order());
    let names = vec!["char".to_owned(), "fifo".to_owned(), "socket".to_owned()];
    assert_eq!(lost(&report), [(LossKind::SpecialFile, 3, names)]);
    assert_eq!(report.counters.action(Action::Skipped), 3);
    assert_eq!(dest.snapshot().len(), 2);
}

#[test]
fn devices_are_skipped_by_policy_and_counted_without_a_loss() {
    let model = TreeModel::new()
        .with("char", Entry::new(Body::CharDevice(0x103)))
        .with("block", Entry::new(Body::BlockDevice(0x103)))
        .with("fifo", Entry::fifo());
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::new());
    let report = run(&source, &dest, &CopyOptions { devices: Devices::Skip, on_loss: OnLoss::Fail, ..in_order() });
    assert_eq!((report.ending, report.counters.action(Action::Skipped)), (Ending::Complete, 2));
    assert_eq!((report.counters.losses, dest.snapshot().count(EntryKind::Fifo)), (0, 1));
    assert_eq!(dest.snapshot().len(), 2);
}

#[test]
fn coarse_times_are_named_and_the_next_run_has_little_work() {
    let mut model = TreeModel::new();
    for i in 0..20 {
        model.insert(i.to_string(), Entry::file(b"x").mtime(1_600_000_000 + i, 123_456_789));
    }
    for granularity in [100, 1000, 1_000_000_000] {
        let how = MemoryOptions { time_granularity_nanos: granularity, ..MemoryOptions::default() };
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::with_options(how));
        let report = run(&source, &dest, &in_order());
        // All of them, and the root.
        assert_eq!(
            report.losses.iter().map(|l| (l.kind, l.count)).collect::<Vec<_>>(),
            [(LossKind::Times, 21)],
            "{granularity}"
        );
        // The first file that is made again tells how coarse the times are.
        let again = run(&source, &dest, &in_order());
        assert!(again.counters.copied_files <= 1, "{granularity}: {:?}", again.counters);
    }
}

#[test]
fn times_beyond_the_destinations_reach_are_named() {
    let model = TreeModel::new()
        .with("early", Entry::file(b"x").mtime(-5_000_000_000, 0))
        .with("late", Entry::file(b"x").mtime(20_000_000_000, 7))
        .with("now", Entry::file(b"x"));
    let limits = |how: &mut MemoryOptions| (how.seconds_min, how.seconds_max) = (-(1 << 31), (1 << 31) - 1);
    check(&model, limits, &[(LossKind::Times, &["early", "late"])], &DiffOptions { mtime: false, ..all() });
}

#[test]
fn flags_that_the_destination_refuses_are_named() {
    let mut model = TreeModel::new().with("f", Entry::file(b"x"));
    model.edit("f", |e| e.flags = InodeFlags(0x40));
    let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
    faults.add(On::dest().call(Call::SetFlags), Effect::Fail(Errno::OPNOTSUPP));
    let report = run(&source, &FaultyTree::new(dest.clone(), &faults), &in_order());
    assert_eq!(lost(&report), [(LossKind::InodeFlags, 1, vec!["f".to_owned()])]);
    // Where one side has none at all, they are no part of the copy.
    let how = MemoryOptions { inode_flags: false, ..MemoryOptions::default() };
    assert_clean(&run(&source, &MemoryTree::with_options(how), &in_order()));
}

#[test]
fn space_that_cannot_be_set_aside_is_named() {
    let mut content = Content::sparse(100_000, &[(0, &[1; 4096])]);
    content.allocate(&(0..100_000));
    let model = TreeModel::new().with("f", Entry::new(Body::File(content)));
    let (source, dest, faults) = (MemoryTree::from_model(&model), MemoryTree::new(), Faults::new());
    faults.add(On::dest().call(Call::Allocate), Effect::Fail(Errno::OPNOTSUPP));
    let mut options = in_order();
    options.limits.small_bytes = 1;
    let report = run(&source, &FaultyTree::new(dest.clone(), &faults), &options);
    assert_eq!(lost(&report), [(LossKind::Preallocation, 1, vec!["f".to_owned()])]);
    // Where it can, the space is there, and is no data.
    let dest = MemoryTree::new();
    crate::kit::run_clean(&source, &dest, &options);
    let copied = dest.snapshot();
    let copied = copied.get("f").unwrap().content().unwrap();
    assert_eq!(copied.data_ranges(), std::slice::from_ref(&(0..4096)));
    assert_eq!(copied.unwritten(), model.get("f").unwrap().content().unwrap().unwritten());
}

#[test]
fn paths_of_losses_are_limited_and_all_are_counted() {
    let mut model = TreeModel::new();
    for i in 0..50 {
        model.insert(i.to_string(), Entry::file(b"x").owner(9, 9));
    }
    let how = MemoryOptions { owners: false, ..MemoryOptions::default() };
    let mut options = in_order();
    options.limits.faults_kept = 5;
    let report = run(&MemoryTree::from_model(&model), &MemoryTree::with_options(how), &options);
    assert_eq!(report.losses.iter().map(|l| (l.count, l.paths.len())).collect::<Vec<_>>(), [(50, 5)]);
}

#[test]
fn a_verification_is_not_failed_by_what_was_named_as_lost() {
    let model = TreeModel::new().with("a", Entry::file(b"x").owner(9, 9)).with("b", Entry::file(b"y").owner(9, 9));
    for (on_loss, ending) in [(OnLoss::Report, Ending::Complete), (OnLoss::Fail, Ending::WithFaults)] {
        let dest = MemoryTree::with_options(MemoryOptions { owners: false, ..MemoryOptions::default() });
        let options = CopyOptions { verify: Verify::Content, on_loss, ..in_order() };
        let report = run(&MemoryTree::from_model(&model), &dest, &options);
        let found = report.verification.as_ref().expect("a verification").counters.differences;
        assert_eq!((report.ending, report.counters.losses, found), (ending, 2, 2), "{on_loss:?}");
        assert_eq!(report.unexplained_differences(), 0);
    }
}

#[test]
fn names_that_are_too_long_are_faults() {
    let model = TreeModel::new().with("short", Entry::file(b"1")).with([b'x'; 200], Entry::file(b"2"));
    let how = MemoryOptions { name_bytes_max: 143, ..MemoryOptions::default() };
    let dest = MemoryTree::with_options(how);
    let report = run(&MemoryTree::from_model(&model), &dest, &in_order());
    assert_eq!((report.counters.faults, report.ending, dest.snapshot().len()), (1, Ending::WithFaults, 2));
}

fn check_folded(before: &TreeModel) {
    let model =
        TreeModel::new().with("d", Entry::dir()).with("d/Name", Entry::file(b"1")).with("d/name", Entry::file(b"2"));
    let how = MemoryOptions { case_insensitive: true, ..MemoryOptions::default() };
    let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::from_model_with(before, how));
    for _ in 0..2 {
        let report = run(&source, &dest, &in_order());
        // One of them has no place: nobody may think that both are there.
        assert_eq!(report.ending, Ending::WithFaults, "{:?}", report.counters);
        assert!(report.faults.iter().all(|f| f.error.class == ErrorClass::Exists));
        assert_tidy(&dest);
    }
}

#[test]
fn names_that_are_one_in_the_destination_are_told() {
    check_folded(&TreeModel::new());
    check_folded(&TreeModel::new().with("d", Entry::dir()));
    check_folded(&TreeModel::new().with("d", Entry::dir()).with("d/other", Entry::file(b"3")));
}

proptest! {
    #![proptest_config(cases(64))]

    /// A destination that lacks anything at all: nothing fails, nothing gets wider rights, and what differs is named.
    #[test]
    fn a_poor_destination_gets_what_it_can_hold(
        model in any_tree(&small_trees()),
        limits in any_limits(),
        lacks: [bool; 7],
        owner in prop::sample::select(vec![(0, 0), (1000, 1000)]),
    ) {
        let how = MemoryOptions {
            xattrs: !lacks[0],
            acls: !lacks[0] && !lacks[1],
            inode_flags: !lacks[2],
            owners: !lacks[3],
            hard_links: !lacks[4],
            special_files: !lacks[5],
            time_granularity_nanos: if lacks[6] { 1_000_000_000 } else { 1 },
            process_owner: owner,
            ..MemoryOptions::default()
        };
        let (source, dest) = (MemoryTree::from_model(&model), MemoryTree::with_options(how));
        let report = run(&source, &dest, &CopyOptions { limits, ..options() });
        prop_assert_eq!(report.ending, Ending::Complete, "{:?}", report.faults);
        assert_tidy(&dest);
        let now = dest.snapshot();
        let kept = DiffOptions {
            xattrs: !lacks[0] && !lacks[1] && !lacks[3],
            flags: !lacks[2],
            owner: !lacks[3],
            mode: false,
            links: !lacks[4],
            mtime: !lacks[6],
            atime: !lacks[6],
            ..DiffOptions::default()
        };
        let mut expected = model.clone();
        if lacks[5] {
            let special: Vec<_> = model.iter().filter(|(_, e)| e.kind().is_special()).map(|(p, _)| p.to_vec()).collect();
            for path in &special {
                expected.remove(path);
            }
        }
        prop_assert_eq!(diff_with(&expected, &now, &kept), Vec::<String>::new());
        for (path, entry) in now.iter() {
            let ours = model.get(path).unwrap();
            if entry.kind() != EntryKind::Symlink {
                prop_assert_eq!(entry.mode & !ours.mode, 0, "`{}` {:o} -> {:o}", copy::escape(path), ours.mode, entry.mode);
                let foreign = (entry.uid, entry.gid) != (ours.uid, ours.gid);
                prop_assert!(!foreign || entry.kind() == EntryKind::Dir || entry.mode & 0o6000 == 0, "`{}`", copy::escape(path));
            }
        }
        let again = run(&source, &dest, &CopyOptions { compare: Compare::SizeAndTime, ..options() });
        prop_assert_eq!(again.ending, Ending::Complete, "{:?}", again.faults);
    }
}
