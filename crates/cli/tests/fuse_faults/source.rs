//! The source breaks.

use testkit::fuse::{Answer, FuseOp, FuseOptions, Rule};
use testkit::lend;

use crate::harness::{Bench, ERRORS, Met, Side};

/// Every kind of request that a copy sends to a source. `Flush` and `Release` are none of them: closing what was only
/// read can lose nothing.
const READING: [FuseOp; 11] = [
    FuseOp::Lookup,
    FuseOp::GetAttr,
    FuseOp::Open,
    FuseOp::Read,
    FuseOp::OpenDir,
    FuseOp::ReadDir,
    FuseOp::ReadLink,
    FuseOp::GetXattr,
    FuseOp::ListXattr,
    FuseOp::Seek,
    FuseOp::StatFs,
];

#[test]
fn every_read_can_fail() {
    let mut bench = lend!("every_read_can_fail", Bench::new(Side::Source, FuseOptions::default()));
    for op in READING {
        let mut met = false;
        for errno in ERRORS {
            for rule in [
                Rule::always(op, Answer::Error(errno)),
                Rule::nth(op, 1, Answer::Error(errno)),
                Rule::nth(op, 5, Answer::Error(errno)),
            ] {
                met |= !matches!(bench.check(&[rule]), Met::Nothing);
            }
        }
        assert!(met, "a copy sends no {op:?}");
    }
}

#[test]
fn one_broken_file_is_the_only_one_that_is_missing() {
    let mut bench =
        lend!("one_broken_file_is_the_only_one_that_is_missing", Bench::new(Side::Source, FuseOptions::default()));
    let rules = [Rule::always(FuseOp::Read, Answer::Error(rustix::io::Errno::IO)).named(b"owned")];
    match bench.check(&rules) {
        Met::Fault(faults) => {
            let [fault] = &faults[..] else { panic!("{faults:?}") };
            assert_eq!(
                (&fault["path"], &fault["operation"], &fault["class"]),
                (&"owned".into(), &"read".into(), &"io".into())
            );
        }
        other => panic!("{other:?}"),
    }
}
