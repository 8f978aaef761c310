//! The destination breaks.

use testkit::fuse::{Answer, FuseOp, FuseOptions, Rule};
use testkit::lend;

use crate::harness::{Bench, ERRORS, Met, Side};

/// Every kind of request that a copy sends to a destination. `Release` is none of them: its answer is told to nobody.
const WRITING: [FuseOp; 10] = [
    FuseOp::Create,
    FuseOp::Write,
    FuseOp::Flush,
    FuseOp::SetAttr,
    FuseOp::SetXattr,
    FuseOp::MakeDir,
    FuseOp::MakeNode,
    FuseOp::Symlink,
    FuseOp::Link,
    FuseOp::Allocate,
];
const LOOKING: [FuseOp; 8] = [
    FuseOp::Lookup,
    FuseOp::GetAttr,
    FuseOp::Open,
    FuseOp::OpenDir,
    FuseOp::ReadDir,
    FuseOp::GetXattr,
    FuseOp::ListXattr,
    FuseOp::StatFs,
];

fn check_all(name: &str, ops: &[FuseOp], optional: &[FuseOp]) {
    let mut bench = lend!(name, Bench::new(Side::Dest, FuseOptions::default()));
    for op in ops {
        let mut met = false;
        for errno in ERRORS {
            for rule in [
                Rule::always(*op, Answer::Error(errno)),
                Rule::nth(*op, 1, Answer::Error(errno)),
                Rule::nth(*op, 4, Answer::Error(errno)),
            ] {
                met |= !matches!(bench.check(&[rule]), Met::Nothing);
            }
        }
        assert!(met || optional.contains(op), "a copy sends no {op:?}");
    }
}

#[test]
fn every_change_can_fail() {
    check_all("every_change_can_fail", &WRITING, &[FuseOp::Allocate]);
}

#[test]
fn every_look_can_fail() {
    // Nothing is opened in a fresh destination but what is created.
    check_all("every_look_can_fail", &LOOKING, &[FuseOp::Open, FuseOp::GetXattr]);
}

/// What an update does beyond a first copy: it removes, replaces and compares.
#[test]
fn every_step_of_an_update_can_fail() {
    let ops = [FuseOp::Unlink, FuseOp::Create, FuseOp::SetAttr, FuseOp::Lookup, FuseOp::RemoveXattr, FuseOp::ListXattr];
    let mut bench = lend!("every_step_of_an_update_can_fail", Bench::new(Side::Dest, FuseOptions::default()));
    for op in ops {
        let mut met = 0;
        for errno in ERRORS {
            for nth in [1, 3] {
                bench.anew();
                assert_eq!(bench.run().status.code(), Some(0));
                bench.spoil();
                met +=
                    u32::from(!matches!(bench.check_again(&[Rule::nth(op, nth, Answer::Error(errno))]), Met::Nothing));
            }
        }
        assert!(met > 0, "an update sends no {op:?}");
    }
}

#[test]
fn a_write_that_takes_less_is_continued() {
    let mut bench = lend!("a_write_that_takes_less_is_continued", Bench::new(Side::Dest, FuseOptions::default()));
    for bytes in [1000, 1] {
        let rules = [Rule { times: 500, ..Rule::always(FuseOp::Write, Answer::Short(bytes)) }];
        assert!(matches!(bench.check(&rules), Met::Passed));
    }
    // Nothing taken and no error named: a fault, not an endless loop.
    let rules = [Rule::always(FuseOp::Write, Answer::Short(0))];
    match bench.check(&rules) {
        Met::Fault(faults) => assert!(faults.iter().all(|fault| fault["operation"] == "write"), "{faults:?}"),
        other => panic!("{other:?}"),
    }
}

/// ENOSPC after some of a file went out: what is there must not look finished.
#[test]
fn a_full_destination_is_told_and_ends_the_copy() {
    let mut bench =
        lend!("a_full_destination_is_told_and_ends_the_copy", Bench::new(Side::Dest, FuseOptions::default()));
    let rules = [Rule { from: 3, ..Rule::always(FuseOp::Write, Answer::Error(rustix::io::Errno::NOSPC)) }];
    match bench.check(&rules) {
        Met::Fault(faults) => {
            assert!(
                faults.iter().all(|fault| fault["class"] == "no_space" && fault["operation"] == "write"),
                "{faults:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}
