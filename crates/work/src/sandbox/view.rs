//! A root directory of the mover's own: the trees and its directories stand in it at their paths, and nothing else is
//! there to be named. In it the source is read-only, and nothing is a device, runs or leads elsewhere.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::{SandboxSpec, Trouble, network};
use crate::{shown, sys};

const INERT: u64 = sys::ATTR_NODEV | sys::ATTR_NOSUID | sys::ATTR_NOEXEC | sys::ATTR_NOSYMFOLLOW;
/// Links must be followed there: those of the kernel's own, and those of the distribution.
const SYSTEM: u64 = sys::ATTR_NODEV | sys::ATTR_NOSUID | sys::ATTR_NOEXEC | sys::ATTR_RDONLY;

/// Something that stands in the new root.
struct Part {
    /// Where it stands.
    path: PathBuf,
    /// Another name for it, from which a link leads there.
    alias: Option<PathBuf>,
    is_file: bool,
    mount: OwnedFd,
}

pub(super) fn narrow(spec: &SandboxSpec) -> Result<(), Trouble> {
    // What it is for, changing attributes of files of others, an ordinary user cannot do anyway.
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false) {
        return Ok(());
    }
    let missing = |what: &str, errno: Errno| {
        Trouble::Missing(format!("{what}: {errno}; names of files outside both trees are not hidden from the mover"))
    };
    sys::unshare_mounts().map_err(|errno| missing("cannot have a mount namespace", errno))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|errno| missing("cannot part from the mounts of others", errno))?;
    let mut parts = parts(spec)
        .map_err(|(path, errno)| missing(&format!("cannot clone the mount of `{}`", shown(&path)), errno))?;
    if parts.iter().any(|part| part.path == Path::new("/")) {
        return Err(Trouble::Missing(
            "a tree is the root directory: names of files outside both trees are not hidden from the mover".into(),
        ));
    }
    // What contains others comes before them.
    parts.sort_by_key(|part| part.path.components().count());
    let root = empty_root(&spec.report_dir).map_err(|errno| missing("cannot mount an empty root directory", errno))?;
    for part in &parts {
        place(&root, part).map_err(|errno| {
            Trouble::Failed(format!("cannot place `{}` in the new root directory: {errno}", shown(&part.path)))
        })?;
    }
    enter(&root).map_err(|errno| Trouble::Failed(format!("cannot enter the new root directory: {errno}")))
}

/// Clones of what is to be seen, with whatever is mounted in them.
fn parts(spec: &SandboxSpec) -> Result<Vec<Part>, (PathBuf, Errno)> {
    let dest = if spec.dest_is_written { INERT } else { INERT | sys::ATTR_RDONLY };
    let mut wanted = vec![
        (spec.source.as_path(), INERT | sys::ATTR_RDONLY, What::Tree),
        (&spec.dest, dest, What::Tree),
        (&spec.state_dir, INERT, What::Own),
        (&spec.report_dir, INERT, What::Own),
        (Path::new("/proc"), SYSTEM, What::Own),
    ];
    wanted.extend(spec.retry_report_dir.as_deref().map(|dir| (dir, INERT | sys::ATTR_RDONLY, What::Own)));
    if spec.server_port.is_some() {
        wanted.extend(network::dirs().map(|dir| (dir, SYSTEM, What::Own)));
        wanted.extend(network::files().map(|file| (file, SYSTEM, What::File)));
    }
    let part = |(path, attributes, what)| part(path, attributes, what).map_err(|errno| (path.to_owned(), errno));
    wanted.into_iter().map(part).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    /// Stands at the path that the kernel knows it by, whatever links led to it: by that path the engine sees whether
    /// one tree lies in the other, and remembers what it copied where.
    Tree,
    /// Stands where it is named.
    Own,
    /// The same, and is no directory.
    File,
}

fn part(named: &Path, attributes: u64, what: What) -> Result<Part, Errno> {
    let is_file = what == What::File;
    let kind = if is_file { OFlags::empty() } else { OFlags::DIRECTORY };
    let held = rustix::fs::openat(CWD, named, OFlags::PATH | kind | OFlags::CLOEXEC, Mode::empty())?;
    let path = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", held.as_raw_fd()), Vec::new())?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mount = rustix::mount::open_tree(&held, "", clone)?;
    sys::set_mount_attributes(mount.as_fd(), attributes)?;
    let known = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
    Ok(match what {
        What::Tree if known != named => Part { path: known, alias: Some(named.into()), is_file, mount },
        What::Tree | What::Own | What::File => Part { path: named.into(), alias: None, is_file, mount },
    })
}

/// An empty file system, for the moment at a directory whose clone was taken: it needs a place before anything can be
/// placed in it.
fn empty_root(at: &Path) -> Result<OwnedFd, Errno> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "mode", "0755")?;
    rustix::mount::fsconfig_set_string(fs.as_fd(), "size", "1m")?;
    rustix::mount::fsconfig_create(fs.as_fd())?;
    let root = rustix::mount::fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    rustix::mount::move_mount(&root, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(root)
}

fn place(root: &OwnedFd, part: &Part) -> Result<(), Errno> {
    let below = make_way(root.as_fd(), &part.path, !part.is_file)?;
    if part.is_file {
        rustix::fs::mknodat(root, &below, FileType::RegularFile, Mode::RUSR, 0)?;
    }
    rustix::mount::move_mount(&part.mount, "", root, &below, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let Some(alias) = &part.alias else { return Ok(()) };
    let alias = make_way(root.as_fd(), alias, false)?;
    match rustix::fs::symlinkat(&part.path, root, &alias) {
        // Another way to write the same.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Makes the directories of a path below the new root, the last one only where asked, and answers the path from there.
fn make_way(root: BorrowedFd<'_>, path: &Path, whole: bool) -> Result<PathBuf, Errno> {
    let below = path.strip_prefix("/").map_err(|_| Errno::INVAL)?;
    let way = if whole { Some(below) } else { below.parent() };
    let mut prefix = PathBuf::new();
    for component in way.into_iter().flat_map(Path::components) {
        prefix.push(component);
        match rustix::fs::mkdirat(root, &prefix, Mode::RWXU) {
            // It may lie in a part that stands already.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(below.into())
}

fn enter(root: &OwnedFd) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    // Old and new at one place: the old one then lies on top of the new one, and is taken off.
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    rustix::mount::mount_remount("/", rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY, c"")
}
