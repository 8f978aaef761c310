//! Privileges: none can be gained any more, and of those at hand only what copying needs is kept.

use caps::{CapSet, Capability, CapsHashSet};

use super::Trouble;

/// What reading takes that is not one's own: any file, and without a trace in its access time.
const TO_READ: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_FOWNER];

/// What making a faithful copy takes: entries of others in directories of others, owners, modes with set-ID bits,
/// devices, file capabilities, and the immutable and append-only flags.
const TO_WRITE: [Capability; 6] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_LINUX_IMMUTABLE,
    Capability::CAP_MKNOD,
    Capability::CAP_SETFCAP,
];

/// Reading and writing `trusted.*` and most of `security.*` takes this one, which is far more than that. What else it
/// allows are system calls that the filter does not let through, so it is kept only where there is one.
const TO_KEEP_XATTRS: Capability = Capability::CAP_SYS_ADMIN;

pub(super) fn cut(dest_is_written: bool, calls_are_filtered: bool) -> Result<(), Trouble> {
    rustix::thread::set_no_new_privs(true)
        .map_err(|errno| Trouble::Failed(format!("cannot refuse privileges: {errno}")))?;
    cut_capabilities(dest_is_written, calls_are_filtered)
        .map_err(|error| Trouble::Failed(format!("cannot give up capabilities: {error}")))
}

fn cut_capabilities(dest_is_written: bool, calls_are_filtered: bool) -> Result<(), caps::errors::CapsError> {
    let writing = TO_WRITE.into_iter().filter(|_| dest_is_written);
    let xattrs = calls_are_filtered.then_some(TO_KEEP_XATTRS);
    let needed: CapsHashSet = TO_READ.into_iter().chain(writing).chain(xattrs).collect();
    let held = caps::read(None, CapSet::Permitted)?;
    // An ordinary user has nothing to give up, and may not touch the bounding set either: with no new privileges it
    // bounds nothing.
    if held.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding)?.difference(&needed) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    let kept = held.intersection(&needed).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
