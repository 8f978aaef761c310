//! The engine in the sandbox: nothing that a copy needs is taken from it.

use std::path::Path;
use std::sync::Arc;

use copy::tree::{SourceTree, TreeFacts};
use copy::{EntryKind, InodeFlags, LocalTree};
use job::{Generation, JobId, JobSpec, Kind, PassKind, WorkEnding, WorkOrder, WorkResult};
use testkit::disk::{FsKind, LoopDisk, TempDir};
use testkit::model::{Body, Entry, TreeModel, TreeShape, diff, materialise, sample_trees, snapshot_dir};
use testkit::{Content, acl, lend};
use work::sandbox::{Layer, SandboxMode, SandboxSpec, enter};
use work::{Live, Trees, run_pass};

use crate::child::{Task, User, What, answer, give_to_nobody, run};
use crate::runner::{Test, tests};

/// The child's side: one pass in the sandbox.
pub(crate) fn copy(task: &Task, spec: &str, is_retry: bool) {
    let spec: JobSpec = serde_json::from_str(spec).unwrap();
    let layers = task.sandbox();
    let earlier = layers.report_dir;
    let report_dir = if is_retry { task.place.join("report-of-retry") } else { earlier.clone() };
    let order = WorkOrder {
        job: JobId::from_u128(1),
        generation: Generation(1),
        pass: 1,
        pass_kind: PassKind::Single,
        spec: Arc::new(spec),
        workspace: task.place.clone(),
        state_dir: layers.state_dir,
        report_dir,
        retry_report_dir: is_retry.then_some(earlier),
    };
    let trees = Trees { source: layers.source, dest: layers.dest };
    let sandbox = SandboxSpec { layers: layers.layers, ..SandboxSpec::of(&order, &trees, task.mode) };
    assert_eq!(enter(&sandbox).unwrap(), Vec::<String>::new());
    let result = run_pass(&order, &trees, &Live::default(), &|_| ()).unwrap();
    if order.spec.kind == Kind::Verify {
        let made = std::fs::File::create_new(trees.dest.join("made by a comparison"));
        assert_eq!(made.is_ok(), task.mode == SandboxMode::Off, "a comparison in the sandbox writes nowhere");
    }
    answer(&serde_json::to_string(&(result, facts(&trees))).unwrap());
}

/// What the engine knows of both file systems. It does without what it cannot learn, and nobody would notice.
fn facts(trees: &Trees) -> Vec<String> {
    let open = |path| LocalTree::open_source(path).unwrap();
    let trees = [open(&trees.source), open(&trees.dest)];
    let shown = |facts: &TreeFacts| {
        let TreeFacts { fs_type, umask, xattrs, acls, inode_flags, case_insensitive, .. } = facts;
        format!("{fs_type} {umask:o} {xattrs} {acls} {inode_flags} {case_insensitive}")
    };
    trees.iter().map(|tree| shown(SourceTree::facts(tree))).collect()
}

fn spec(kind: &str, place: &Path, options: &str) -> String {
    let at = |name: &str| place.join(name).to_str().unwrap().to_owned();
    format!(
        r#"{{"kind":"{kind}","source":{{"type":"directory","path":"{}"}},"dest":{{"type":"directory","path":"{}"}},
            "options":{options}}}"#,
        at("source"),
        at("dest")
    )
}

/// A place on the given file system; the sandbox's own directories are elsewhere in it.
fn place(root: &Path, name: &str) -> std::path::PathBuf {
    let place = root.join(name);
    for dir in [place.clone(), place.join("source"), place.join("dest")] {
        std::fs::create_dir(dir).unwrap();
    }
    place
}

pub(crate) const TESTS: &[Test] = tests![
    a_copy_with_everything_is_the_same_in_the_sandbox,
    an_ordinary_user_copies_in_the_sandbox_too,
    trees_are_found_through_links_that_lead_to_them,
];

/// Everything that is more than a file with bytes in it.
fn rich() -> TreeModel {
    let bytes: Vec<u8> = (0..3 << 20_u32).map(|i| (i / 4096 * 7 + i) as u8 | 1).collect();
    let capability = b"\x01\x00\x00\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let mut model = TreeModel::new()
        .with("d", Entry::dir().mode(0o2775).owner(3, 4).xattr(b"user.a", b"b"))
        .with("d/big", Entry::file(&bytes))
        .with("d/first", Entry::file(b"two names").owner(5, 6))
        .with_link("d/first", "second")
        .with("sparse", Entry::new(Body::File(Content::sparse(64 << 20, &[(0, b"begin"), (40 << 20, &bytes)]))))
        .with("suid", Entry::file(b"#!").owner(7, 7).mode(0o6755))
        .with("ping", Entry::file(b"ELF").xattr(b"security.capability", capability))
        .with("trusted", Entry::file(b"t").xattr(b"trusted.x", b"y").xattr(b"security.z", b"w"))
        .with("acl", Entry::file(b"a").mode(0o660))
        .with("frozen", Entry::file(b"i"))
        .with("appended", Entry::file(b"a"))
        .with("symlink", Entry::symlink(b"/etc/passwd").owner(8, 8))
        .with("fifo", Entry::fifo().owner(9, 9))
        .with("socket", Entry::new(Body::Socket))
        .with("null", Entry::new(Body::CharDevice(rustix::fs::makedev(1, 3))).mode(0o666))
        .with("loop", Entry::new(Body::BlockDevice(rustix::fs::makedev(7, 77))))
        .with("empty", Entry::file(b""));
    model.edit("acl", |e| {
        e.xattrs.insert(copy::ACL_ACCESS.to_vec(), acl::with_user(0o660, 42, 4));
    });
    model.edit("frozen", |e| e.flags = InodeFlags(0x10));
    model.edit("appended", |e| e.flags = InodeFlags(0x20));
    model
}

fn without_link_times(mut model: TreeModel) -> TreeModel {
    let links: Vec<_> =
        model.iter().filter(|(_, e)| e.kind() == EntryKind::Symlink).map(|(path, _)| path.to_vec()).collect();
    for path in links {
        model.edit(&path, |e| e.atime = copy::Timestamp::default());
    }
    model
}

/// The same tree is copied in the sandbox and without it; all that can be seen of both is the same.
fn check(root: &Path, name: &str, model: &TreeModel, options: &str, user: User) {
    let mut done = Vec::new();
    for (mode, layers) in [(SandboxMode::Off, &[][..]), (SandboxMode::Required, &Layer::ALL)] {
        let place = place(root, &format!("{name}-{mode:?}"));
        let _ = materialise(model, &place.join("source")).unwrap();
        if user == User::Nobody {
            give_to_nobody(&place);
        }
        let before = without_link_times(snapshot_dir(&place.join("source")).unwrap());
        let task = Task {
            mode,
            ..Task::new(&place, layers, What::Copy { spec: spec("copy", &place, options), is_retry: false }, user)
        };
        let (result, facts): (WorkResult, Vec<String>) = serde_json::from_str(&run(&task)).unwrap();
        assert_eq!(result.ending, WorkEnding::Complete, "{name} {options} {mode:?} {result:?}");
        let after = without_link_times(snapshot_dir(&place.join("dest")).unwrap());
        let differences = diff(&before, &after);
        assert!(differences.is_empty(), "{name} {options} {mode:?}:\n{}", differences.join("\n"));
        let manifest = work::report::verify_manifest(&place.join("report")).unwrap();
        assert_eq!(Some(manifest.root), result.manifest_root);
        let figures = job::PassFigures { elapsed_seconds: 0.0, verify_seconds: 0.0, ..result.figures };
        if mode == SandboxMode::Required {
            for is_retry in [false, true] {
                let what = What::Copy { spec: spec("verify", &place, "{}"), is_retry };
                let answer = run(&Task::new(&place, layers, what, user));
                let (result, _): (WorkResult, Vec<String>) = serde_json::from_str(&answer).unwrap();
                assert_eq!(result.ending, WorkEnding::Complete, "{name} {options} {is_retry} {result:?}");
            }
        }
        done.push((result.manifest_root, figures, facts));
    }
    assert_eq!(done[0], done[1], "{name}");
}

const WHOLE: &str = r#"{"verify":"content","hash":"blake3","workers":64}"#;

fn a_copy_with_everything_is_the_same_in_the_sandbox() {
    let name = "a_copy_with_everything_is_the_same_in_the_sandbox";
    for kind in FsKind::ALL {
        let disk = lend!(name, LoopDisk::new(kind));
        check(disk.path(), "rich", &rich(), WHOLE, User::Same);
        for mover in ["copy-file-range", "sparse", "buffered", "ranges", "reflink"] {
            if mover == "reflink" && kind == FsKind::Ext4 {
                continue;
            }
            let options = format!(r#"{{"verify":"content","mover":"{mover}","workers":8}}"#);
            let mut model = rich();
            if mover != "sparse" && mover != "reflink" {
                // Holes are filled these ways, and the verification says so.
                model.remove("sparse");
            }
            check(disk.path(), mover, &model, &options, User::Same);
        }
        for (round, model) in sample_trees(&TreeShape { flags: true, ..TreeShape::default() }, 3).iter().enumerate() {
            check(disk.path(), &format!("random{round}"), model, r#"{"verify":"content","hash":"xxh3"}"#, User::Same);
        }
    }
}

fn an_ordinary_user_copies_in_the_sandbox_too() {
    lend!("an_ordinary_user_copies_in_the_sandbox_too", testkit::disk::need_root());
    let dir = TempDir::new();
    give_to_nobody(dir.path());
    let model = TreeModel::new()
        .with("d", Entry::dir().mode(0o750))
        .with("d/f", Entry::file(b"content").xattr(b"user.a", b"b"))
        .with_link("d/f", "second")
        .with("symlink", Entry::symlink(b"d"))
        .with("fifo", Entry::fifo());
    check(dir.path(), "plain", &model, WHOLE, User::Nobody);
}

fn trees_are_found_through_links_that_lead_to_them() {
    let dir = TempDir::new();
    dir.subdir("real");
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let model = TreeModel::new().with("d", Entry::dir()).with("d/f", Entry::file(b"content"));
    check(&dir.path().join("link"), "linked", &model, WHOLE, User::Same);
}
