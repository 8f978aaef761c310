//! What cannot be entered whole: kernels that lack a part (a filter of system calls stands in for one without Landlock),
//! and trees that leave nothing outside.

use std::collections::BTreeMap;
use std::path::Path;

use job::Failure;
use seccompiler::{SeccompAction, SeccompFilter};
use testkit::disk::{TempDir, need_root};
use testkit::lend;
use work::sandbox::{Layer, SandboxMode, SandboxSpec, enter};

use crate::child::{Task, User, What, answer, run};
use crate::runner::{Test, tests};

const LANDLOCK_CREATE_RULESET: i64 = 444;

/// The child's side.
pub(crate) fn enter_without_landlock(task: &Task) {
    let rules = BTreeMap::from([(LANDLOCK_CREATE_RULESET, Vec::new())]);
    let missing = SeccompAction::Errno(38);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let filter: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&filter).unwrap();
    tell(enter(&task.sandbox()));
}

/// The child's side.
pub(crate) fn enter_with_trees(task: &Task, source: &Path, dest: &Path) {
    tell(enter(&SandboxSpec { source: source.into(), dest: dest.into(), ..task.sandbox() }));
}

fn tell(entered: Result<Vec<String>, Failure>) {
    answer(&match entered {
        Ok(lacks) => lacks.join("; "),
        Err(failure) => format!("{:?}: {failure}", failure.code),
    });
}

pub(crate) const TESTS: &[Test] = tests![
    a_kernel_without_landlock_is_told_and_refused_where_it_is_required,
    a_tree_that_is_everything_is_told_and_refused_where_a_sandbox_is_required,
    trees_that_are_not_there_are_no_lack_of_the_kernel,
];

fn answer_of(mode: SandboxMode, what: impl FnOnce(&Path) -> What) -> String {
    let place = TempDir::new();
    for name in ["source", "dest", "state", "report"] {
        place.subdir(name);
    }
    run(&Task { mode, ..Task::new(place.path(), &Layer::ALL, what(place.path()), User::Same) })
}

fn a_kernel_without_landlock_is_told_and_refused_where_it_is_required() {
    let check = |mode, expected: &str| assert_eq!(answer_of(mode, |_| What::WithoutLandlock), expected, "{mode:?}");
    let lack = "the kernel has no Landlock: files outside both trees are not out of reach";
    check(SandboxMode::Auto, lack);
    check(SandboxMode::Required, &format!("SandboxMissing: sandbox: {lack}"));
    check(SandboxMode::Off, "");
}

fn a_tree_that_is_everything_is_told_and_refused_where_a_sandbox_is_required() {
    lend!("a_tree_that_is_everything_is_told_and_refused_where_a_sandbox_is_required", need_root());
    let root = |place: &Path| What::Trees { source: "/".into(), dest: place.join("dest") };
    let lack = "a tree is the root directory: names of files outside both trees are not hidden from the mover";
    assert_eq!(answer_of(SandboxMode::Auto, root), lack);
    assert_eq!(answer_of(SandboxMode::Required, root), format!("SandboxMissing: sandbox: {lack}"));
}

fn trees_that_are_not_there_are_no_lack_of_the_kernel() {
    for mode in [SandboxMode::Auto, SandboxMode::Required] {
        let gone = |place: &Path| What::Trees { source: place.join("gone"), dest: place.join("dest") };
        let answer = answer_of(mode, gone);
        assert!(answer.starts_with("EngineFailed: copy: cannot open `") && answer.contains("/gone`: "), "{answer}");
        // A destination is made, but not those above it.
        let new = |place: &Path| What::Trees { source: place.join("source"), dest: place.join("new") };
        assert_eq!(answer_of(mode, new), "");
        let below = |place: &Path| What::Trees { source: place.join("source"), dest: place.join("new/below") };
        assert!(answer_of(mode, below).starts_with("EngineFailed: "));
    }
}
