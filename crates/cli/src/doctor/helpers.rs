//! Programs that mount: which are there, and which Debian package brings those that are not.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Check;
use crate::config::WorkerConfig;

/// Where helpers lie. Not `PATH`: a service has a shorter one than the person who asks.
const DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// File systems of shares: what is needed to mount them, and the package that brings it.
const HELPERS: [(&str, &str, &str); 6] = [
    ("nfs", "mount.nfs", "nfs-common"),
    ("cifs", "mount.cifs", "cifs-utils"),
    ("ceph", "mount.ceph", "ceph-common"),
    ("ceph-fuse", "ceph-fuse", "ceph-fuse"),
    ("glusterfs", "mount.glusterfs", "glusterfs-client"),
    ("fuse", "fusermount3", "fuse3"),
];

pub(super) fn checks(config: &WorkerConfig) -> Vec<Check> {
    let mut checks = vec![match find("mount") {
        Some(path) => Check::ok("mount", path.display().to_string()),
        None => Check::fail("mount", "not found", "install the package `mount`: nothing can be mounted without it"),
    }];
    checks.extend(HELPERS.iter().map(|(name, program, package)| match find(program) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::warn(
            name,
            format!("`{program}` not found"),
            format!("install the package `{package}` (Debian) if shares of this kind are to be mounted"),
        ),
    }));
    // Names are a list of what may be used; a path says that somebody means to.
    let named = config.mount_helpers.iter().filter(|helper| helper.starts_with('/'));
    checks.extend(named.filter(|helper| find(helper).is_none()).map(|helper| {
        Check::warn("mount_helpers", format!("`{helper}` is no program"), "correct `mount_helpers`, or install it")
    }));
    checks
}

/// The program of this name, or at this path.
fn find(program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(is_program);
    }
    DIRECTORIES.iter().map(|dir| Path::new(dir).join(program)).find(is_program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert!(find("/bin/sh").is_some());
        assert_eq!(find("/etc/passwd"), None, "not every file is a program");
        assert_eq!(find("no-such-helper"), None);
    }
}
