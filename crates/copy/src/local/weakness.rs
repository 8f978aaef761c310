//! Protections that the attack suite takes away, one at a time, to show that each attack works without it. A normal
//! build has no way to do so.

/// A protection that can be removed in a build with the feature `weakened`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weakness {
    None = 0,
    /// Names are resolved as a shell would: symlinks are followed.
    FollowSymlinks = 1,
    /// Opening waits for the other end of a FIFO.
    BlockOnOpen = 2,
    /// What was opened is used without a look at what it is.
    TrustListing = 3,
    /// Attributes are set by name instead of on the held inode.
    AttributesByName = 4,
    /// Names from the directory are used as they are, `..` and slashes included.
    TrustNames = 5,
    /// Removal goes into whatever stands under a name, other file systems too.
    RemoveByName = 6,
    /// What a name leads to is taken for what it led to before.
    TrustInode = 7,
    /// Attributes are set on an inode to which other names lead, wherever those are.
    ShareInodes = 8,
    /// An old file becomes a setuid program without its content being copied again.
    KeepContent = 9,
    /// A file has all its source's mode bits from the start.
    WideCreate = 10,
    /// The access rights that a directory of others bequeaths to a new entry stay.
    InheritRights = 11,
}

#[cfg(feature = "weakened")]
static WEAKNESS: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Removes one protection of this process. Has no effect, and says so by `false`, in a normal build.
pub fn weaken(weakness: Weakness) -> bool {
    #[cfg(feature = "weakened")]
    {
        WEAKNESS.store(weakness as u8, std::sync::atomic::Ordering::SeqCst);
        true
    }
    #[cfg(not(feature = "weakened"))]
    {
        let _ = weakness;
        false
    }
}

#[inline]
pub(crate) fn has(weakness: Weakness) -> bool {
    #[cfg(feature = "weakened")]
    {
        WEAKNESS.load(std::sync::atomic::Ordering::Relaxed) == weakness as u8
    }
    #[cfg(not(feature = "weakened"))]
    {
        let _ = weakness;
        false
    }
}

/// Leaves an attacker time between two calls, where the protection against what he does then is removed.
#[inline]
pub(crate) fn pause(weakness: Weakness) {
    if has(weakness) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}
