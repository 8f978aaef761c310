//! Errors that come late: at close, where network storage tells of quota and space, and after it.

use rustix::io::Errno;
use testkit::fuse::{Answer, FuseOp, FuseOptions, Rule};
use testkit::lend;

use crate::harness::{Bench, Met, Side};

const LATE: [Errno; 3] = [Errno::IO, Errno::NOSPC, Errno::DQUOT];

#[test]
fn an_error_at_close_is_a_fault_of_that_file() {
    let mut bench = lend!("an_error_at_close_is_a_fault_of_that_file", Bench::new(Side::Dest, FuseOptions::default()));
    for errno in LATE {
        let rules = [Rule::always(FuseOp::Flush, Answer::Error(errno)).named(b"owned")];
        match bench.check(&rules) {
            Met::Fault(faults) => {
                let [fault] = &faults[..] else { panic!("{faults:?}") };
                assert_eq!((&fault["path"], &fault["operation"]), (&"owned".into(), &"close".into()), "{fault}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The kernel took every write; the storage did not. The first that can tell is close, the last is the sync at the end:
/// `syncfs` itself does not reach a FUSE server (the kernel sends it to virtiofs and block-device servers only), but it
/// tells of writes that the kernel could not bring there.
#[test]
fn writes_that_are_lost_after_they_were_taken_are_told() {
    let mut bench = lend!(
        "writes_that_are_lost_after_they_were_taken_are_told",
        Bench::new(Side::Dest, FuseOptions { writeback_cache: true })
    );
    for errno in LATE {
        for rule in [
            Rule::always(FuseOp::Write, Answer::Error(errno)),
            Rule::nth(FuseOp::Write, 1, Answer::Error(errno)),
            Rule::nth(FuseOp::Write, 3, Answer::Error(errno)),
        ] {
            match bench.check(&[rule]) {
                Met::Fault(faults) => {
                    let late =
                        |fault: &serde_json::Value| fault["operation"] == "close" || fault["operation"] == "sync";
                    assert!(faults.iter().any(late), "{faults:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(bench.fs.count(FuseOp::SyncFs), 0, "the kernel sends it now: fail it, too");
}
