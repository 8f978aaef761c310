//! The layout that the NFS driver of Manila shares with us, in both directions.

use std::process::Command;

use backup::directory::{DirectoryError, Proof};
use testkit::disk::need_root;
use testkit::lend;
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};

use crate::kit::{Bench, assert_same, id, model};

const ID: &str = "6ed8bd27-7c1d-4a5e-9d4b-2f8a1b0f9a01";

fn run(program: &str, args: &[&std::path::Path]) {
    let output = Command::new(program).arg("-a").args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_upstream_wrote_is_restored_listed_read_and_deleted() {
    lend!("what_upstream_wrote_is_restored_listed_read_and_deleted", need_root());
    let bench = Bench::new();
    let model = model();
    let _ = bench.source(&model);
    run("cp", &[&bench.place.path("source"), &bench.path(ID)]);
    bench.assert_holds(ID, &model);
    assert_eq!(bench.export.list().unwrap()[0].proof, Proof::None);
    let checked = bench.check(ID);
    assert!(checked.is_readable() && !checked.is_proven());
    assert_eq!(checked.report.counters.verified_files, 7);
    bench.delete(ID);
}

#[test]
fn upstream_finds_the_share_and_nothing_else_in_what_we_wrote() {
    lend!("upstream_finds_the_share_and_nothing_else_in_what_we_wrote", need_root());
    let bench = Bench::new();
    let model = model();
    bench.create(ID, &MemoryTree::from_model(&model));
    // As it does: every entry below the directory of that name, into the mounted share.
    run("cp", &[&bench.path(ID).join("."), &bench.place.path("share")]);
    assert_same(&model, &bench.place.path("share"));
}

#[test]
fn what_upstream_deleted_leaves_a_manifest_that_is_in_nobodys_way() {
    let bench = Bench::new();
    bench.create(ID, &MemoryTree::from_model(&model()));
    std::fs::remove_dir_all(bench.path(ID)).unwrap();
    assert!(matches!(bench.export.tree(&id(ID)), Err(DirectoryError::NotFound(_))));
    let other = TreeModel::new().with("only", Entry::file(b"this"));
    bench.create(ID, &MemoryTree::from_model(&other));
    bench.assert_proven(ID);
    bench.assert_holds(ID, &other);
}

#[test]
fn deleting_what_is_not_there_is_said_and_is_fine() {
    let bench = Bench::new();
    let deleted = bench.delete("never");
    assert!(!deleted.found && deleted.report.is_none());
}
