//! Makes both trees of a job reachable, with protections that whatever mounted them cannot leave out.
//!
//! [`mount`] makes an endpoint stand at a directory of the workspace, [`unmount`](unmount::unmount_all) takes all of it
//! away again. Everything happens in a mount namespace of the worker's own; without the right to have one, directories
//! alone can be used, as they are.

mod argv;
mod directory;
mod helper;
mod options;
mod protect;
mod secrets;
mod table;
mod template;
mod unmount;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use job::{Endpoint, Failure, FailureCode, Side, Step};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub(crate) use directory::Resolved;
pub(crate) use secrets::Masker;
pub(crate) use unmount::{detach_below, unmount_all};

/// What mounting is allowed, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSettings {
    /// Programs that mount commands may run: names that are looked up in the system's directories (`mount.*` means
    /// every name with that beginning), and absolute paths. FUSE types are checked against it too, because their type
    /// is the name of a program.
    pub helpers: Vec<String>,
    /// A mount or unmount command that takes longer is killed.
    pub timeout: Duration,
    /// Directories that directory endpoints must lie in; anywhere, where none is given.
    pub allowed_roots: Vec<PathBuf>,
    /// How long an unmount may find the tree busy before it is taken away from whoever uses it.
    pub busy_timeout: Duration,
}

/// What storage for Manila is mounted with.
const HELPERS: [&str; 10] = [
    "mount",
    "mount.*",
    "umount",
    "umount.*",
    "ceph-fuse",
    "glusterfs",
    "bindfs",
    "sshfs",
    "fusermount",
    "fusermount3",
];

impl Default for MountSettings {
    fn default() -> Self {
        Self {
            helpers: HELPERS.map(Into::into).into(),
            timeout: Duration::from_mins(1),
            allowed_roots: Vec::new(),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// What every step of mounting is told.
#[derive(Clone, Copy)]
pub(crate) struct MountContext<'a> {
    pub(crate) settings: &'a MountSettings,
    pub(crate) masker: &'a Masker,
    /// Asked again and again while something takes its time.
    pub(crate) is_stopped: &'a dyn Fn() -> bool,
}

impl fmt::Debug for MountContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MountContext").field("settings", self.settings).finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(crate) enum MountError {
    /// By order, before it stood.
    Stopped,
    Failed(Failure),
}

impl MountError {
    fn new(code: FailureCode, message: impl Into<String>) -> Self {
        Self::Failed(Failure::new(Step::Mount, code, message))
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::new(FailureCode::MountFailed, message)
    }

    fn bad_spec(message: impl Into<String>) -> Self {
        Self::new(FailureCode::BadSpec, message)
    }

    fn not_safe(message: impl Into<String>) -> Self {
        Self::new(FailureCode::MountUnsafe, message)
    }

    fn is_unsafe(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.code == FailureCode::MountUnsafe)
    }
}

/// What a tree is mounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    Write,
}

/// Something that stands below the workspace, and how it is taken away.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) at: PathBuf,
    /// Words of the command that unmounts it; the kernel's own call where there is none.
    unmount: Option<Vec<String>>,
}

impl Mounted {
    fn new(at: &Path) -> Self {
        Self { at: at.into(), unmount: None }
    }
}

pub(crate) fn side_name(side: Side) -> &'static str {
    match side {
        Side::Source => "source",
        Side::Dest => "destination",
    }
}

/// Makes `endpoint` stand at `at`, an empty directory of the workspace, with all its protections.
///
/// `mounted` is told of it as soon as there is anything to take away, also when the rest fails.
pub(crate) fn mount(
    cx: &MountContext<'_>,
    (side, usage): (Side, Use),
    endpoint: &Endpoint,
    at: &Path,
    mounted: &mut Vec<Mounted>,
) -> Result<(), MountError> {
    match endpoint {
        // An empty directory of the workspace stands for what is not there, or is reached another way.
        Endpoint::None | Endpoint::Url { .. } => return Ok(()),
        Endpoint::Repository { name } => return Err(MountError::bad_spec(not_resolved(name))),
        Endpoint::Directory { path } => {
            let tree = directory::resolve(cx.settings, side, usage, path)?;
            bind(side, usage, &tree.fd, at, mounted)?;
        }
        Endpoint::Mount { fs_type, source, options, subdir } => {
            let words = options::mount_words(cx.settings, usage, fs_type, source, options, at)?;
            run_mount(cx, side, words, Mounted::new(at), mounted)?;
            protect_path(side, usage, at)?;
            if let Some(subdir) = subdir {
                let root = open_path(at).map_err(|errno| cannot("open what was mounted for", side, errno))?;
                let below = directory::resolve_below(side, &root, subdir)?;
                bind(side, usage, &below, at, mounted)?;
            }
        }
        Endpoint::Command { mount, unmount, options } => {
            let options = options.as_ref().map(job::Sensitive::expose);
            let words = template::mount_words(cx.settings, mount.expose(), options, at)?;
            let unmount = template::unmount_words(cx.settings, unmount.as_ref().map(job::Sensitive::expose), at)?;
            run_mount(cx, side, words, Mounted { at: at.into(), unmount: Some(unmount) }, mounted)?;
            protect_path(side, usage, at)?;
        }
    }
    protect::verify(side, usage, at)?;
    if usage == Use::Write { check_writable(side, at) } else { Ok(()) }
}

/// Repositories of the configuration are looked up before a worker is ordered.
pub(crate) fn not_resolved(name: &str) -> String {
    format!("the repository `{}` is not configured here", name.escape_debug())
}

/// Finds the directory of an endpoint that is used as it is, where nothing can be mounted.
pub(crate) fn use_directory(
    settings: &MountSettings,
    (side, usage): (Side, Use),
    endpoint: &Endpoint,
) -> Result<Resolved, MountError> {
    let Endpoint::Directory { path } = endpoint else {
        return Err(MountError::failed(format!(
            "the {} cannot be mounted: this service lacks the capability CAP_SYS_ADMIN; directories alone can be used",
            side_name(side)
        )));
    };
    let resolved = directory::resolve(settings, side, usage, path)?;
    if usage == Use::Write {
        check_writable(side, &resolved.path)?;
    }
    Ok(resolved)
}

/// Refuses trees that lie in each other. The engine cannot see it any more once both are mounts of their own.
pub(crate) fn refuse_nested(
    settings: &MountSettings,
    source: &Endpoint,
    (dest, dest_use): (&Endpoint, Use),
) -> Result<(), MountError> {
    let (Endpoint::Directory { path: source }, Endpoint::Directory { path: dest }) = (source, dest) else {
        return Ok(());
    };
    let source = directory::resolve(settings, Side::Source, Use::Read, source)?.path;
    let dest = directory::resolve(settings, Side::Dest, dest_use, dest)?.path;
    if source == dest {
        Err(MountError::bad_spec("source and destination are the same directory"))
    } else if dest.starts_with(&source) {
        Err(MountError::bad_spec("the destination lies inside the source: it would be copied into itself without end"))
    } else if source.starts_with(&dest) {
        Err(MountError::bad_spec("the source lies inside the destination: the copy would change what it reads"))
    } else {
        Ok(())
    }
}

/// Runs a mount command and makes sure that it did what it was run for.
fn run_mount(
    cx: &MountContext<'_>,
    side: Side,
    words: Vec<String>,
    what: Mounted,
    mounted: &mut Vec<Mounted>,
) -> Result<(), MountError> {
    let at = what.at.clone();
    let before = mount_id(&at).map_err(|errno| cannot("look at the mount point of", side, errno))?;
    // Also a command that fails or is killed may have mounted something.
    mounted.push(what);
    if let Err(error) = helper::run_mount(cx, side, words, &at) {
        if error.is_unsafe() {
            for one in mounted.iter_mut() {
                one.unmount = None;
            }
        }
        return Err(error);
    }
    let after = mount_id(&at).map_err(|errno| cannot("look at what was mounted for", side, errno))?;
    if before == after {
        return Err(MountError::not_safe(format!(
            "the mount command of the {} ended without an error, but mounted nothing",
            side_name(side)
        )));
    }
    Ok(())
}

/// Mounts a directory that is held open at `at`, with the mounts below it.
fn bind(side: Side, usage: Use, directory: &OwnedFd, at: &Path, mounted: &mut Vec<Mounted>) -> Result<(), MountError> {
    use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(directory, "", flags).map_err(|errno| cannot("make a mount of", side, errno))?;
    // Before it can be reached by a path.
    protect::protect(side, usage, &tree)?;
    let place = open_path(at).map_err(|errno| cannot("open the mount point of", side, errno))?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(&tree, "", &place, "", flags).map_err(|errno| cannot("mount", side, errno))?;
    mounted.push(Mounted::new(at));
    Ok(())
}

fn protect_path(side: Side, usage: Use, at: &Path) -> Result<(), MountError> {
    let root = open_path(at).map_err(|errno| cannot("open what was mounted for", side, errno))?;
    protect::protect(side, usage, &root)
}

fn check_writable(side: Side, at: &Path) -> Result<(), MountError> {
    rustix::fs::accessat(CWD, at, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS).map_err(|errno| match errno {
        Errno::ROFS => MountError::failed(format!("the {} is read-only", side_name(side))),
        errno => cannot("write to", side, errno),
    })
}

fn cannot(what: &str, side: Side, errno: Errno) -> MountError {
    MountError::failed(format!("cannot {what} the {}: {}", side_name(side), reason(errno)))
}

/// The kernel's words, as the rest of our texts begin: in lower case, without the number.
fn reason(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Holds a directory of our own without following a link in its last component.
fn open_path(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

/// Which mount a path lies on.
fn mount_id(path: &Path) -> Result<u64, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    Ok(rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID)?.stx_mnt_id)
}
