//! What stands where while a worker works, and with which protections.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use job::{Control, Endpoint, FailureCode, JobSpec, Kind};
use testkit::disk::{SkipReason, need_root};
use testkit::lend;

use crate::bench::{Bench, below, children, command, directory, mount, mounts, settings, slow};
use crate::ends::wait_until_gone;
use crate::runner::{Test, tests};
use crate::service::Service;

pub(crate) const TESTS: &[Test] = tests![
    a_directory_is_copied_and_nothing_is_left,
    directories_are_protected,
    directories_below_others_are_protected_too,
    memory_file_systems_are_protected,
    disks_are_protected,
    overlays_are_protected,
    file_systems_in_user_space_are_protected_and_end_with_their_worker,
    mount_commands_are_protected,
    a_comparison_writes_to_neither_tree,
    a_symlink_on_the_way_to_a_directory_is_refused,
    trees_in_each_other_are_refused,
    a_subdirectory_of_a_mount_is_used_alone,
    a_subdirectory_cannot_lead_out_of_its_mount,
    a_destination_that_cannot_be_written_is_refused,
    a_missing_destination_is_made,
    allowed_roots_hold,
    without_rights_directories_are_used_as_they_are,
];

const DEST_FLAGS: [&str; 4] = ["nodev", "nosuid", "noexec", "nosymfollow"];

/// Copies slowly, and looks at the mounts of the worker meanwhile.
#[track_caller]
fn check_protected(bench: &Bench, source: Endpoint, dest: Endpoint) -> Vec<i32> {
    let mut running = bench.start(settings(), bench.order(source, dest), slow());
    let processes = running.wait_until_mounted();
    let keeper = processes[1].to_string();
    let workspace = bench.workspace();
    for (name, flags) in [("source", [&DEST_FLAGS[..], &["ro"]].concat()), ("dest", DEST_FLAGS.to_vec())] {
        let found = mounts(&keeper, &workspace.join(name));
        assert!(!found.is_empty(), "nothing is mounted at {name}");
        for mount in found {
            let missing: Vec<_> = flags.iter().filter(|flag| !mount.options.contains(**flag)).collect();
            assert!(missing.is_empty(), "{mount:?} lacks {missing:?}");
        }
    }
    assert_eq!(mounts("self", &workspace), [], "seen from outside");
    let helpers: Vec<_> = children(processes[1]).into_iter().collect();
    running.control.send_replace(Control::default());
    let ran = running.end();
    ran.completed();
    wait_until_gone(&processes);
    wait_until_gone(&helpers);
    bench.assert_released();
    helpers
}

#[track_caller]
fn assert_copied(dest: &Path) {
    assert_eq!(std::fs::read_to_string(dest.join("dir/file")).unwrap(), "content");
    assert_eq!(std::fs::metadata(dest.join("slow")).map_or(4 << 20, |meta| meta.len()), 4 << 20);
}

/// An ext4 file system in a file, for mounts with `-o loop`.
fn image(bench: &Bench, name: &str, content: &Path) -> Result<PathBuf, SkipReason> {
    need_root()?;
    let image = bench.dir.path().join(name);
    std::fs::File::create_new(&image).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-d"]).arg(content).arg(&image).status();
    match made {
        Ok(status) if status.success() => Ok(image),
        other => Err(SkipReason(format!("mkfs.ext4: {other:?}"))),
    }
}

fn need_program(path: &str) -> Result<(), SkipReason> {
    need_root()?;
    if Path::new(path).exists() { Ok(()) } else { Err(SkipReason(format!("needs {path}"))) }
}

fn a_directory_is_copied_and_nothing_is_left() {
    lend!("a_directory_is_copied_and_nothing_is_left", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    bench.run(settings(), directory(&source), directory(&dest)).completed();
    assert_copied(&dest);
    assert!(!bench.workspace().exists(), "the worker removes its mount points");
    bench.assert_released();
}

fn directories_are_protected() {
    lend!("directories_are_protected", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    check_protected(&bench, directory(&source), directory(&dest));
    assert_copied(&dest);
}

fn directories_below_others_are_protected_too() {
    lend!("directories_below_others_are_protected_too", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    let inner = testkit::disk::Tmpfs::new(1 << 20, None);
    let inner = lend!("directories_below_others_are_protected_too", inner);
    std::fs::create_dir(inner.path().join("x")).unwrap();
    // The source is the file system's root with a mount below it.
    std::fs::create_dir(source.join("inner")).unwrap();
    rustix::mount::mount_bind(inner.path(), source.join("inner")).unwrap();
    let undo = Undo(source.join("inner"));
    check_protected_below(&bench, &source, &dest);
    drop(undo);
}

struct Undo(PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        // The directory cannot be removed otherwise, which the test then says.
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[track_caller]
fn check_protected_below(bench: &Bench, source: &Path, dest: &Path) {
    let mut running = bench.start(settings(), bench.order(directory(source), directory(dest)), slow());
    let keeper = running.wait_until_mounted()[1].to_string();
    let found = mounts(&keeper, &bench.workspace().join("source"));
    assert_eq!(found.len(), 2, "{found:?}");
    for mount in found {
        let flags: BTreeSet<_> = [&DEST_FLAGS[..], &["ro"]].concat().into_iter().map(String::from).collect();
        assert!(mount.options.is_superset(&flags), "{mount:?}");
    }
    running.stop();
    running.end().stopped();
}

fn memory_file_systems_are_protected() {
    lend!("memory_file_systems_are_protected", need_root());
    let bench = Bench::new();
    let source = bench.slow_tree("a");
    // Whatever it is asked to be.
    check_protected(&bench, directory(&source), mount("tmpfs", "none", &["size=64m", "dev", "suid", "exec"]));
}

fn disks_are_protected() {
    let bench = Bench::new();
    let tree = bench.slow_tree("a");
    let empty = bench.dir.subdir("empty");
    let name = "disks_are_protected";
    let (source, dest) = (lend!(name, image(&bench, "1", &tree)), lend!(name, image(&bench, "2", &empty)));
    let disk = |path: &Path| mount("ext4", path.to_str().unwrap(), &["loop"]);
    check_protected(&bench, disk(&source), disk(&dest));
    // What was written is on the disk.
    let found = bench.dir.subdir("found");
    bench.run(settings(), disk(&dest), directory(&found)).completed();
    assert_copied(&found);
}

fn overlays_are_protected() {
    lend!("overlays_are_protected", need_root());
    let bench = Bench::new();
    let (lower, dest) = (bench.slow_tree("lower"), bench.dir.subdir("b"));
    let memory = lend!("overlays_are_protected", testkit::disk::Tmpfs::new(1 << 20, None));
    let [upper, work] = ["upper", "work"].map(|name| memory.subdir(name));
    std::fs::write(upper.join("more"), "x").unwrap();
    let options = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    let options = options.map(|(key, path)| format!("{key}={}", path.display()));
    check_protected(&bench, mount("overlay", "overlay", &options.each_ref().map(String::as_str)), directory(&dest));
    assert_copied(&dest);
    assert!(dest.join("more").exists());
}

fn file_systems_in_user_space_are_protected_and_end_with_their_worker() {
    let name = "file_systems_in_user_space_are_protected_and_end_with_their_worker";
    lend!(name, need_program("/usr/bin/bindfs"));
    let bench = Bench::new();
    let (source, dest) = (bench.slow_tree("a"), bench.dir.subdir("b"));
    let bindfs = |path: &Path| mount("fuse.bindfs", path.to_str().unwrap(), &[]);
    let helpers = check_protected(&bench, bindfs(&source), bindfs(&dest));
    assert!(helpers.len() >= 3, "the mover and two file systems: {helpers:?}");
    assert_copied(&dest);
}

fn mount_commands_are_protected() {
    let name = "mount_commands_are_protected";
    let bench = Bench::new();
    let (tree, dest) = (bench.slow_tree("a b"), bench.dir.subdir("b"));
    let image = lend!(name, image(&bench, "an image", &tree));
    lend!(name, need_program("/usr/bin/bindfs"));
    let source = Endpoint::Command {
        mount: job::Sensitive::new(format!("mount -vt ext4 %(options)s '{}' %(path)s", image.display())),
        unmount: Some(job::Sensitive::new("umount -v %(path)s")),
        options: Some(job::Sensitive::new("-o loop,suid -o dev")),
    };
    check_protected(&bench, source, command(&format!("bindfs {} %(path)s", dest.display())));
    assert_copied(&dest);
}

fn a_comparison_writes_to_neither_tree() {
    lend!("a_comparison_writes_to_neither_tree", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.slow_tree("a"), bench.slow_tree("b"));
    let order = bench.order_of(JobSpec::new(Kind::Verify, directory(&source), directory(&dest)));
    let mut running = bench.start(settings(), order, slow());
    let keeper = running.wait_until_mounted()[1].to_string();
    let found = mounts(&keeper, &bench.workspace());
    assert!(found.len() == 2 && found.iter().all(|mount| mount.options.contains("ro")), "{found:?}");
    running.stop();
    running.end().stopped();
    // Nor is one made.
    let missing = bench.dir.path().join("missing");
    let order = bench.order_of(JobSpec::new(Kind::Verify, directory(&source), directory(&missing)));
    let ran = bench.start(settings(), order, Control::default()).end();
    ran.failed(FailureCode::MountFailed, "the directory of the destination does not exist");
}

fn a_symlink_on_the_way_to_a_directory_is_refused() {
    lend!("a_symlink_on_the_way_to_a_directory_is_refused", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    std::os::unix::fs::symlink(&source, bench.dir.path().join("link")).unwrap();
    for path in ["link", "link/dir"] {
        let ran = bench.run(settings(), directory(&bench.dir.path().join(path)), directory(&dest));
        ran.failed(FailureCode::BadSpec, "a component of the path of the source is a symlink");
    }
    bench.assert_released();
}

fn trees_in_each_other_are_refused() {
    lend!("trees_in_each_other_are_refused", need_root());
    let bench = Bench::new();
    let outer = bench.tree("a");
    let inner = outer.join("dir");
    for (source, dest, part) in [
        (&outer, &inner, "lies inside the source"),
        (&inner, &outer, "lies inside the destination"),
        (&outer, &outer, "the same directory"),
    ] {
        bench.run(settings(), directory(source), directory(dest)).failed(FailureCode::BadSpec, part);
    }
    bench.assert_released();
}

fn a_subdirectory_of_a_mount_is_used_alone() {
    let bench = Bench::new();
    let (tree, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    std::fs::create_dir(tree.join("dir/sub")).unwrap();
    let image = lend!("a_subdirectory_of_a_mount_is_used_alone", image(&bench, "1", &tree));
    let source = below(mount("ext4", image.to_str().unwrap(), &["loop"]), "dir");
    let ran = bench.run(settings(), source, directory(&dest));
    ran.completed();
    assert_eq!(std::fs::read_to_string(dest.join("file")).unwrap(), "content");
    assert!(dest.join("sub").is_dir() && !dest.join("dir").exists());
    bench.assert_released();
}

fn a_subdirectory_cannot_lead_out_of_its_mount() {
    let bench = Bench::new();
    let (tree, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    std::os::unix::fs::symlink("/etc", tree.join("link")).unwrap();
    let image = lend!("a_subdirectory_cannot_lead_out_of_its_mount", image(&bench, "1", &tree));
    let disk = mount("ext4", image.to_str().unwrap(), &["loop"]);
    for (subdir, part) in [
        ("link", "is a symlink"),
        ("link/ssl", "is a symlink"),
        ("../..", "not a path below the mount"),
        ("/etc", "not a path below the mount"),
        ("dir/file", "is not a directory"),
    ] {
        let ran = bench.run(settings(), below(disk.clone(), subdir), directory(&dest));
        ran.failed(FailureCode::BadSpec, part);
    }
    bench.assert_released();
}

fn a_destination_that_cannot_be_written_is_refused() {
    lend!("a_destination_that_cannot_be_written_is_refused", need_root());
    let bench = Bench::new();
    let source = bench.tree("a");
    let ran = bench.run(settings(), directory(&source), mount("tmpfs", "none", &["ro"]));
    ran.failed(FailureCode::MountFailed, "the destination is read-only");
    bench.assert_released();
}

fn a_missing_destination_is_made() {
    lend!("a_missing_destination_is_made", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.path().join("new"));
    bench.run(settings(), directory(&source), directory(&dest)).completed();
    assert_copied(&dest);
}

fn allowed_roots_hold() {
    lend!("allowed_roots_hold", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    let mut settings = settings();
    settings.mount.allowed_roots = vec![source.clone()];
    let ran = bench.run(settings.clone(), directory(&source), directory(&dest));
    ran.failed(FailureCode::BadSpec, "the destination lies in none of the directories");
    settings.mount.allowed_roots.push(dest.clone());
    bench.run(settings, directory(&source), directory(&dest)).completed();
}

/// As an ordinary user there are no namespaces: what can be done without them is done.
fn without_rights_directories_are_used_as_they_are() {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65_534;
    lend!("without_rights_directories_are_used_as_they_are", need_root());
    let bench = Bench::new();
    let (source, dest) = (bench.tree("a"), bench.dir.subdir("b"));
    let state = bench.dir.subdir("state");
    for path in [bench.dir.path(), &source, &source.join("dir"), &source.join("dir/file"), &dest, &state] {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let run = |spec: &JobSpec| {
        let mut command = Service::command(&bench, spec);
        let output = command.arg("fast").stdout(std::process::Stdio::piped()).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = run(&JobSpec::new(Kind::Copy, directory(&source), directory(&dest)));
    assert!(said.contains("ending: Complete"), "{said}");
    assert_eq!(said.matches("without CAP_SYS_ADMIN").count(), 1, "{said}");
    assert_copied(&dest);
    let said = run(&JobSpec::new(Kind::Copy, mount("tmpfs", "none", &[]), directory(&dest)));
    assert!(said.contains("MountFailed") && said.contains("lacks the capability CAP_SYS_ADMIN"), "{said}");
    bench.assert_released();
}
