//! Namespaces of a worker: mounts that nobody else sees, and processes that end with the first of them.

use caps::{CapSet, Capability};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::sys;

/// Where a worker's mounts and processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// In namespaces of its own.
    Private,
    /// Among all others: nothing can be mounted.
    Shared,
}

impl Isolation {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Shared => "shared",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Private, Self::Shared].into_iter().find(|isolation| isolation.as_str() == text)
    }
}

/// Gives this process a mount namespace of its own, and its next child the first place of a process namespace. The
/// caller has one thread.
pub(crate) fn enter() -> Result<Isolation, Errno> {
    if !caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap_or(false) {
        return Ok(Isolation::Shared);
    }
    match sys::unshare_mounts_and_processes() {
        Ok(()) => {}
        // A container that has the capability and may not use it.
        Err(Errno::PERM | Errno::NOSYS) => return Ok(Isolation::Shared),
        Err(errno) => return Err(errno),
    }
    // What others unmount goes here too, so that nothing is kept busy; what is mounted here stays here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(Isolation::Private)
}
