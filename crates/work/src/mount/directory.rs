//! Directories that callers name: each path is resolved once, through no symlink, and held from then on.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use job::Side;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{MountError, MountSettings, Use, cannot, side_name};

/// A directory, and the path at which the kernel knows it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) fd: OwnedFd,
    pub(crate) path: PathBuf,
}

/// Finds the directory of an endpoint; makes it (not its parents) where it is to be written and missing.
pub(super) fn resolve(settings: &MountSettings, side: Side, usage: Use, path: &Path) -> Result<Resolved, MountError> {
    if !path.is_absolute() {
        return Err(MountError::bad_spec(format!("the path of the {} is not absolute", side_name(side))));
    }
    let (root, below, flags) = start(settings, side, path)?;
    let fd = match open(&root, &below, flags) {
        Err(Errno::NOENT) if usage == Use::Write => make(&root, &below, flags),
        answer => answer,
    }
    .map_err(|errno| refusal(side, errno))?;
    let path = rustix::fs::readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new())
        .map_err(|errno| cannot("find the path of", side, errno))?;
    let path = PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path.as_bytes()));
    Ok(Resolved { fd, path })
}

/// Finds a directory below another that is held.
pub(super) fn resolve_below(side: Side, root: &OwnedFd, subdir: &Path) -> Result<OwnedFd, MountError> {
    let plain = subdir.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain || subdir.as_os_str().is_empty() {
        return Err(MountError::bad_spec(format!(
            "the subdirectory of the {} is not a path below the mount",
            side_name(side)
        )));
    }
    open(root, subdir, ResolveFlags::BENEATH).map_err(|errno| refusal(side, errno))
}

/// Where the resolution begins, and what is left to resolve: below the allowed root that the path names, else below
/// the machine's root.
fn start(settings: &MountSettings, side: Side, path: &Path) -> Result<(OwnedFd, PathBuf, ResolveFlags), MountError> {
    // The administrator's own words: links in them are meant.
    let hold = |root: &Path| {
        rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| cannot("open the allowed root of", side, errno))
    };
    let relative = |below: &Path| if below.as_os_str().is_empty() { PathBuf::from(".") } else { below.into() };
    if settings.allowed_roots.is_empty() {
        let below = path.strip_prefix("/").unwrap_or(path);
        return Ok((hold(Path::new("/"))?, relative(below), ResolveFlags::IN_ROOT));
    }
    let found = settings.allowed_roots.iter().find_map(|root| Some((root, path.strip_prefix(root).ok()?)));
    let Some((root, below)) = found else {
        return Err(MountError::bad_spec(format!(
            "the path of the {} lies in none of the directories that this service allows",
            side_name(side)
        )));
    };
    Ok((hold(root)?, relative(below), ResolveFlags::BENEATH))
}

fn open(root: &OwnedFd, below: &Path, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = how | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, below, flags, Mode::empty(), resolve) {
            // A rename elsewhere during the resolution; each new look is a whole one.
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
}

fn make(root: &OwnedFd, below: &Path, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let name = below.file_name().ok_or(Errno::NOENT)?;
    let parent = below.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = open(root, parent, how)?;
    match rustix::fs::mkdirat(&parent, name, Mode::RWXU) {
        // Somebody else was faster.
        Ok(()) | Err(Errno::EXIST) => open(root, below, how),
        Err(errno) => Err(errno),
    }
}

fn refusal(side: Side, errno: Errno) -> MountError {
    let side_name = side_name(side);
    match errno {
        Errno::LOOP => MountError::bad_spec(format!("a component of the path of the {side_name} is a symlink")),
        Errno::XDEV => MountError::bad_spec(format!("the path of the {side_name} leads out of its root")),
        Errno::NOENT => MountError::failed(format!("the directory of the {side_name} does not exist")),
        Errno::NOTDIR => MountError::bad_spec(format!("the path of the {side_name} is not a directory")),
        errno => cannot("open the directory of", side, errno),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own their temporary directory")]
mod tests {
    use super::*;

    fn message(error: MountError) -> String {
        match error {
            MountError::Stopped => panic!("nobody asked for a stop"),
            MountError::Failed(failure) => failure.message,
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("work-directory-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("in/a")).unwrap();
        std::fs::create_dir_all(path.join("out")).unwrap();
        std::os::unix::fs::symlink("../out", path.join("in/link")).unwrap();
        path.canonicalize().unwrap()
    }

    #[test]
    fn paths_are_resolved_within_their_root_and_through_no_symlink() {
        let base = scratch("root");
        let check = |roots: &[&Path], path: &Path, expected: Result<&Path, &str>| {
            let settings = MountSettings {
                allowed_roots: roots.iter().map(|root| root.to_path_buf()).collect(),
                ..MountSettings::default()
            };
            let found = resolve(&settings, Side::Source, Use::Read, path).map(|resolved| resolved.path);
            match (found.map_err(message), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
                (found, expected) => panic!("{}: {found:?} instead of {expected:?}", crate::shown(path)),
            }
        };
        let allowed = base.join("in");
        check(&[], &base.join("in/a"), Ok(&base.join("in/a")));
        check(&[&allowed], &base.join("in/a"), Ok(&base.join("in/a")));
        check(&[&allowed], &allowed, Ok(&allowed));
        check(&[], &base.join("in/link"), Err("symlink"));
        check(&[&allowed], &base.join("in/link"), Err("symlink"));
        check(&[&allowed], &base.join("in/../out"), Err("leads out"));
        check(&[&allowed], &base.join("out"), Err("none of the directories"));
        check(&[&allowed], &base.join("in-other"), Err("none of the directories"));
        check(&[], Path::new("in"), Err("not absolute"));
        check(&[], &base.join("in/missing"), Err("does not exist"));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_missing_destination_is_made_but_not_its_parents() {
        let base = scratch("make");
        let settings = MountSettings::default();
        let made = resolve(&settings, Side::Dest, Use::Write, &base.join("in/new")).unwrap();
        assert_eq!(made.path, base.join("in/new"));
        let error = resolve(&settings, Side::Dest, Use::Write, &base.join("no/new")).unwrap_err();
        assert!(message(error).contains("does not exist"));
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_subdirectory_never_leaves_its_mount() {
        let base = scratch("below");
        let root = super::super::open_path(&base.join("in")).unwrap();
        assert!(resolve_below(Side::Source, &root, Path::new("./a")).is_ok());
        for (path, part) in
            [("..", "not a path below"), ("/etc", "not a path below"), ("", "not a path below"), ("link", "symlink")]
        {
            let error = resolve_below(Side::Source, &root, Path::new(path)).unwrap_err();
            assert!(message(error).contains(part), "{path}");
        }
        std::fs::remove_dir_all(base).unwrap();
    }
}
