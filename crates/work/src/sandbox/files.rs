//! Landlock: which files can be opened, made and removed, and whom the process can reach beside files.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, make_bitflags,
};
use rustix::fs::{CWD, Mode, OFlags};

use super::{SandboxSpec, Trouble, network};
use crate::shown;

/// The newest interface whose every part is used: files with truncation and links between directories, device ioctls,
/// TCP, signals and abstract sockets. On an older kernel there is as much of it as that has.
const USED: ABI = ABI::V6;

/// Without it files outside can be cut to nothing.
const LEAST: ABI = ABI::V3;

/// The process's own directory, for links to its descriptors and facts of its mounts. What other processes show there
/// stays out of reach.
const SELF: &str = "/proc/self";
/// Tells the engine whether the machine was started anew.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub(super) fn restrict(spec: &SandboxSpec) -> Result<(), Trouble> {
    let missing =
        |what: &str| Trouble::Missing(format!("the kernel {what}: files outside both trees are not out of reach"));
    let status = restrict_to(spec).map_err(Trouble::Failed)?;
    match status.landlock {
        LandlockStatus::NotEnabled => Err(missing("has Landlock switched off")),
        LandlockStatus::NotImplemented => Err(missing("has no Landlock")),
        LandlockStatus::Available { effective_abi, .. } if effective_abi < LEAST => {
            Err(missing("has a Landlock before Linux 6.2"))
        }
        LandlockStatus::Available { .. } if status.ruleset == RulesetStatus::NotEnforced => {
            Err(missing("did not enforce Landlock"))
        }
        LandlockStatus::Available { .. } => Ok(()),
    }
}

/// Takes as much as the kernel has.
fn restrict_to(spec: &SandboxSpec) -> Result<RestrictionStatus, String> {
    let error = |error: landlock::RulesetError| format!("cannot enter Landlock: {error}");
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    // Its own directories hold plain files alone.
    let own = read | make_bitflags!(AccessFs::{WriteFile | MakeReg | RemoveFile | Truncate});
    // Nothing in a tree is run, and no device is worked.
    let write = AccessFs::from_all(USED) & !make_bitflags!(AccessFs::{Execute | IoctlDev});
    let mut rules = vec![
        (spec.source.as_path(), read),
        (&spec.dest, if spec.dest_is_written { write } else { read }),
        (&spec.state_dir, own),
        (&spec.report_dir, own),
        (Path::new(SELF), read),
    ];
    rules.extend(spec.retry_report_dir.as_deref().map(|dir| (dir, read)));
    if spec.server_port.is_some() {
        rules.extend(network::dirs().map(|dir| (dir, read)));
        rules.extend(network::files().map(|file| (file, AccessFs::ReadFile.into())));
    }
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(USED))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(USED)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(USED)))
        .and_then(Ruleset::create)
        .map_err(error)?;
    for (path, access) in rules {
        ruleset = ruleset.add_rule(beneath(path, access)?).map_err(error)?;
    }
    for port in spec.server_port.into_iter().flat_map(|port| [port, network::DNS_PORT]) {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::ConnectTcp)).map_err(error)?;
    }
    // Containers may hide it; the engine then trusts nothing of an earlier run that was not made durable.
    if let Ok(rule) = beneath(Path::new(BOOT_ID), AccessFs::ReadFile.into()) {
        ruleset = ruleset.add_rule(rule).map_err(error)?;
    }
    hold_own_directory()?;
    ruleset.restrict_self().map_err(error)
}

fn beneath(path: &Path, access: BitFlags<AccessFs>) -> Result<PathBeneath<PathFd>, String> {
    let fd = PathFd::new(path).map_err(|error| format!("cannot open `{}`: {error}", shown(path)))?;
    Ok(PathBeneath::new(fd, access))
}

/// The rule for `/proc/self` is one for its inode, which the kernel forgets when nobody holds it and makes anew for the
/// next look. So it is held until the process ends.
fn hold_own_directory() -> Result<(), String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let held =
        rustix::fs::openat(CWD, SELF, flags, Mode::empty()).map_err(|errno| format!("cannot hold {SELF}: {errno}"))?;
    std::mem::forget(held);
    Ok(())
}
