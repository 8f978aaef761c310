//! The flags that every tree has while a job uses it, whatever mounted it; set, and then looked for.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use job::Side;
use rustix::io::Errno;

use super::{MountError, Use, cannot, mount_id, side_name, table};
use crate::sys;

/// Nothing in a share is a device, runs, gains rights by running, or leads elsewhere.
const FLAGS: [(u64, &str); 4] = [
    (sys::ATTR_NODEV, "nodev"),
    (sys::ATTR_NOSUID, "nosuid"),
    (sys::ATTR_NOEXEC, "noexec"),
    (sys::ATTR_NOSYMFOLLOW, "nosymfollow"),
];
const READ_ONLY: (u64, &str) = (sys::ATTR_RDONLY, "ro");

fn flags(usage: Use) -> impl Iterator<Item = (u64, &'static str)> {
    FLAGS.into_iter().chain((usage == Use::Read).then_some(READ_ONLY))
}

/// Protects a mount and those below it; the descriptor is that of its root.
pub(super) fn protect(side: Side, usage: Use, root: &OwnedFd) -> Result<(), MountError> {
    let set = flags(usage).fold(0, |set, (flag, _)| set | flag);
    sys::set_mount_attributes(root.as_fd(), set).map_err(|errno| match errno {
        // The flag is of Linux 5.14, two versions younger than the call.
        Errno::INVAL => MountError::not_safe(format!(
            "the {} cannot be protected: the kernel does not know the mount flag nosymfollow (Linux 5.14)",
            side_name(side)
        )),
        Errno::NOSYS => MountError::not_safe(format!(
            "the {} cannot be protected: the kernel has no mount_setattr (Linux 5.12)",
            side_name(side)
        )),
        errno => {
            let MountError::Failed(failure) = cannot("protect the mount of", side, errno) else {
                return MountError::Stopped;
            };
            MountError::not_safe(failure.message)
        }
    })
}

/// Makes sure that what stands at the path, and everything below it, has its protections.
pub(super) fn verify(side: Side, usage: Use, at: &Path) -> Result<(), MountError> {
    let table = |error: std::io::Error| MountError::failed(format!("cannot read the table of mounts: {error}"));
    let mounts = table::below(at).map_err(table)?;
    let id = mount_id(at).map_err(|errno| cannot("look at the mount of", side, errno))?;
    if !mounts.iter().any(|mount| mount.id == id && mount.at == at) {
        return Err(MountError::not_safe(format!("nothing is mounted for the {}", side_name(side))));
    }
    for mount in &mounts {
        if let Some((_, missing)) = flags(usage).find(|(_, flag)| !mount.has(flag)) {
            return Err(MountError::not_safe(format!(
                "the mount of the {} lacks the flag {missing} at `{}`",
                side_name(side),
                crate::shown(&mount.at)
            )));
        }
    }
    Ok(())
}
