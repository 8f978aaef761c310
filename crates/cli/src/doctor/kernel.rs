//! What the kernel can do: asked by doing it where that changes nothing, else by its version.

use std::path::Path;

use landlock::{ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::Check;
use crate::config::Sandbox;

/// Versions of Landlock, the newest first, and the kernel that brought each.
const LANDLOCK: [(ABI, u32, &str); 5] =
    [(ABI::V5, 5, "6.10"), (ABI::V4, 4, "6.7"), (ABI::V3, 3, "6.2"), (ABI::V2, 2, "5.19"), (ABI::V1, 1, "5.13")];

/// From this one on the truncation of files is restricted too, which is what makes a source read-only.
const LANDLOCK_WANTED: u32 = 3;

pub(super) fn checks(sandbox: Sandbox) -> Vec<Check> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = version(&release);
    vec![
        kernel(&release, version),
        openat2(),
        feature("mount_setattr", version, (5, 12), "mounts can be made nodev, nosuid, noexec and read-only"),
        feature("statmount", version, (6, 8), "the flags of mounts can be verified by number"),
        landlock(sandbox),
        seccomp(sandbox),
        namespaces(),
        fuse(),
    ]
}

fn kernel(release: &str, version: Option<(u32, u32)>) -> Check {
    const NAME: &str = "kernel";
    match version {
        Some(version) if version < (5, 6) => Check::fail(NAME, release, "Linux 5.6 or newer is needed"),
        Some(_) => Check::ok(NAME, release),
        None => Check::warn(NAME, release, "its version cannot be told; Linux 5.6 or newer is needed"),
    }
}

/// `6.18.5-foo` is (6, 18).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn openat2() -> Check {
    const NAME: &str = "openat2";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, ".", flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS) {
        Ok(_) => Check::ok(NAME, "works"),
        Err(error) => Check::fail(
            NAME,
            error.to_string(),
            "Linux 5.6 or newer, and a container runtime that lets it through, are needed: \
             nothing is copied without it",
        ),
    }
}

fn feature(name: &'static str, version: Option<(u32, u32)>, since: (u32, u32), what: &str) -> Check {
    if version.is_some_and(|version| version >= since) {
        Check::ok(name, what)
    } else {
        let (major, minor) = since;
        Check::warn(name, "not in this kernel", format!("with Linux {major}.{minor} {what}"))
    }
}

fn landlock(sandbox: Sandbox) -> Check {
    const NAME: &str = "landlock";
    // Makes a set of rules and drops it: nothing is restricted by that.
    let supports = |abi| {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        rules.handle_access(AccessFs::from_all(abi)).and_then(Ruleset::create).is_ok()
    };
    match LANDLOCK.into_iter().find(|(abi, _, _)| supports(*abi)) {
        Some((_, number, _)) if number >= LANDLOCK_WANTED => Check::ok(NAME, format!("ABI {number} or newer")),
        Some((_, number, since)) => {
            let found = format!("ABI {number} (Linux {since})");
            Check::warn(NAME, found, "Linux 6.2 or newer restricts workers further")
        }
        None => missing(NAME, sandbox, "enable it (CONFIG_SECURITY_LANDLOCK, `lsm=landlock,...`)"),
    }
}

fn seccomp(sandbox: Sandbox) -> Check {
    const NAME: &str = "seccomp";
    if Path::new("/proc/sys/kernel/seccomp/actions_avail").exists() {
        Check::ok(NAME, "filters can be set")
    } else {
        missing(NAME, sandbox, "use a kernel with CONFIG_SECCOMP_FILTER")
    }
}

/// A part of the sandbox that the configuration may insist on.
fn missing(name: &'static str, sandbox: Sandbox, advice: &str) -> Check {
    match sandbox {
        Sandbox::Required => {
            Check::fail(name, "not there", format!("{advice}; `sandbox = required` refuses every job until then"))
        }
        Sandbox::Auto => Check::warn(name, "not there", format!("{advice}; workers do without until then")),
        Sandbox::Off => Check::ok(name, "not there, and not wanted (`sandbox = off`)"),
    }
}

fn namespaces() -> Check {
    const NAME: &str = "namespaces";
    let absent: Vec<_> =
        ["mnt", "pid"].into_iter().filter(|name| !Path::new("/proc/self/ns").join(name).exists()).collect();
    if absent.is_empty() {
        return Check::ok(NAME, "mount and process");
    }
    Check::fail(
        NAME,
        format!("missing: {}", absent.join(", ")),
        "use a kernel with CONFIG_NAMESPACES and CONFIG_PID_NS, and mount /proc",
    )
}

fn fuse() -> Check {
    const NAME: &str = "fuse";
    if Path::new("/dev/fuse").exists() {
        Check::ok(NAME, "/dev/fuse")
    } else {
        let advice = "load the module `fuse`, or pass the device into the container, if FUSE shares are to be mounted";
        Check::warn(NAME, "/dev/fuse is not there", advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn versions_are_read() {
        let check = |release: &str, expected| assert_eq!(version(release), expected, "{release}");
        check("6.18.5-foo", Some((6, 18)));
        check("5.6", Some((5, 6)));
        check("6.1-rc1", Some((6, 1)));
        check("mine", None);
        assert_eq!(kernel("5.4.0", version("5.4.0")).verdict, Verdict::Fail);
        assert_eq!(feature("x", Some((5, 11)), (5, 12), "y").verdict, Verdict::Warn);
    }

    #[test]
    fn a_missing_part_of_the_sandbox_fails_only_where_it_is_required() {
        let verdict = |sandbox| missing("x", sandbox, "y").verdict;
        assert_eq!(verdict(Sandbox::Required), Verdict::Fail);
        assert_eq!(verdict(Sandbox::Auto), Verdict::Warn);
        assert_eq!(verdict(Sandbox::Off), Verdict::Ok);
    }
}
