//! Gives an inode the attributes of its source: in an order in which nobody ever has more rights than there, and with
//! what the destination cannot hold named as a loss.

use std::sync::atomic::Ordering;

use super::copy::Copy;
use super::run::Worker;
use crate::error::{ErrorClass, FsError, FsOp, FsResult};
use crate::meta::{ACL_ACCESS, ACL_DEFAULT, EntryKind, InodeFlags, Metadata, Timestamp, Xattrs};
use crate::path::RelPath;
use crate::report::LossKind;
use crate::tree::DestNode;

/// The attributes that an inode shall have.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) meta: &'a Metadata,
    pub(super) xattrs: &'a Xattrs,
    pub(super) flags: Option<InodeFlags>,
}

/// What the inode has so far.
pub(super) enum Has<'a> {
    /// Just made by us.
    New {
        /// Owner and group are right already.
        owner: bool,
        /// So is the mode, because it has no special bits and the kernel keeps it.
        mode: bool,
        /// It may have got an ACL from its directory.
        inherits_acl: bool,
    },
    /// Was there before, with these.
    Old { meta: &'a Metadata, xattrs: &'a Xattrs },
}

/// Whether an error says that the destination does not take the attribute, rather than that something broke.
fn is_loss(error: FsError) -> bool {
    match error.class {
        ErrorClass::Unsupported | ErrorClass::Denied => true,
        // ext4 says ENOSPC when the values outgrow their block, and EDQUOT has no other meaning for attributes either.
        ErrorClass::NoSpace => matches!(error.op, FsOp::SetXattr),
        _ => false,
    }
}

impl Copy<'_> {
    /// Sets what differs; `true` where anything was set. The order matters: the owner before the mode, since `chown`
    /// clears setuid and capabilities; the ACL before the mode, since the mode's group bits are the ACL's mask; times
    /// after everything that changes them; and what forbids changes at the very end.
    pub(super) fn set_attributes(
        &self,
        worker: &mut Worker,
        node: &dyn DestNode,
        want: Wanted<'_>,
        has: &Has<'_>,
        path: &dyn Fn() -> RelPath,
    ) -> FsResult<bool> {
        let meta = want.meta;
        let is_link = meta.kind == EntryKind::Symlink;
        let mut changed = false;
        let mut owned = true;
        let owner_is_right = match has {
            Has::New { owner, .. } => *owner,
            Has::Old { meta: old, .. } => (old.uid, old.gid) == (meta.uid, meta.gid),
        };
        if !owner_is_right {
            owned = self.attempt(worker, LossKind::Owner, path, || node.set_owner(meta.uid, meta.gid))?;
            changed |= owned;
        }
        let (acl_lost, set) = self.set_xattrs(worker, node, want.xattrs, has, path)?;
        changed |= set;
        if !is_link {
            let mut mode = meta.mode;
            if let Some(acl) = acl_lost {
                mode = mode_without_acl(mode, acl);
            }
            if !owned {
                // A setuid program of the wrong owner would be a gift to whoever runs it.
                mode &= 0o1777;
            }
            let mode_is_right = match has {
                Has::New { mode: right, .. } => *right && mode == meta.mode,
                // `chown` cleared special bits, and setting an ACL changed the group's.
                Has::Old { meta: old, .. } => old.mode == mode && !changed,
            };
            if !mode_is_right {
                let set = self.attempt(worker, LossKind::Mode, path, || node.set_mode(mode))?;
                changed |= set;
                if set && mode != meta.mode {
                    self.run.loss(worker, LossKind::Mode, path);
                }
            }
        }
        let flags = want.flags.map(InodeFlags::carried).filter(|_| !is_link);
        let frozen = flags.filter(|flags| flags.freezes());
        if let Some(flags) = flags {
            let now = match has {
                Has::New { .. } => InodeFlags::default(),
                Has::Old { .. } => self.run.again(|| node.node_flags())?.unwrap_or_default().carried(),
            };
            if flags.without_freezing() != now {
                changed |=
                    self.attempt(worker, LossKind::InodeFlags, path, || node.set_flags(flags.without_freezing()))?;
            }
        }
        let times_are_right = matches!(has, Has::Old { meta: old, .. } if self.same_time(old.mtime, meta.mtime));
        if !times_are_right || changed {
            let set = self.attempt(worker, LossKind::Times, path, || node.set_times(meta.atime, meta.mtime))?;
            changed |= set;
            if set {
                self.check_times(worker, node, meta, path)?;
            }
        }
        if let Some(flags) = frozen {
            changed |= self.attempt(worker, LossKind::InodeFlags, path, || node.set_flags(flags))?;
        }
        Ok(changed)
    }

    /// `false`: the destination does not take it, which is noted as a loss.
    fn attempt(
        &self,
        worker: &mut Worker,
        kind: LossKind,
        path: &dyn Fn() -> RelPath,
        operation: impl FnMut() -> FsResult<()>,
    ) -> FsResult<bool> {
        match self.run.retry(worker, operation) {
            Ok(()) => Ok(true),
            Err(error) if is_loss(error) => {
                self.run.loss(worker, kind, path);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the access ACL if it could not be set, and whether anything was set.
    fn set_xattrs<'x>(
        &self,
        worker: &mut Worker,
        node: &dyn DestNode,
        want: &'x Xattrs,
        has: &Has<'_>,
        path: &dyn Fn() -> RelPath,
    ) -> FsResult<(Option<&'x [u8]>, bool)> {
        let none = Xattrs::default();
        let inherited;
        let old = match has {
            Has::New { inherits_acl: true, .. } => {
                inherited = self.run.again(|| node.node_xattrs())?;
                &inherited
            }
            Has::New { .. } => &none,
            Has::Old { xattrs, .. } => xattrs,
        };
        let mut changed = false;
        for (name, _) in old.iter().filter(|(name, _)| is_ours(name) && want.get(name).is_none()) {
            changed |= self.attempt(worker, LossKind::of_xattr(name), path, || node.remove_xattr(name))?;
        }
        let mut acl_lost = None;
        for (name, value) in want.iter().filter(|(name, value)| old.get(name) != Some(value)) {
            let set = self.attempt(worker, LossKind::of_xattr(name), path, || node.set_xattr(name, value))?;
            changed |= set;
            if !set && name == ACL_ACCESS {
                acl_lost = Some(value);
            }
        }
        Ok((acl_lost, changed))
    }

    /// Whether a destination's time is the source's, as far as the destination can tell times.
    pub(super) fn same_time(&self, dest: Timestamp, source: Timestamp) -> bool {
        dest == source || dest == cut(source, self.time_granularity.load(Ordering::Relaxed))
    }

    /// Reads the time back where it may have been cut: once per run for nanoseconds, always far from today.
    fn check_times(
        &self,
        worker: &mut Worker,
        node: &dyn DestNode,
        meta: &Metadata,
        path: &dyn Fn() -> RelPath,
    ) -> FsResult<()> {
        let far = !(0..1 << 31).contains(&meta.mtime.seconds);
        let granularity = self.time_granularity.load(Ordering::Relaxed);
        if !far && granularity == 1 && (meta.mtime.nanos == 0 || self.times_checked.swap(true, Ordering::Relaxed)) {
            return Ok(());
        }
        let kept = self.run.again(|| node.node_metadata())?.mtime;
        if kept == meta.mtime {
            return Ok(());
        }
        if granularity == 1
            && let Some(found) = [100, 1000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000]
                .into_iter()
                .find(|granularity| cut(meta.mtime, *granularity) == kept)
        {
            self.time_granularity.store(found, Ordering::Relaxed);
        }
        self.run.loss(worker, LossKind::Times, path);
        Ok(())
    }
}

/// Cuts a time to a multiple of `granularity` nanoseconds, as file systems with coarse times do.
fn cut(time: Timestamp, granularity: u64) -> Timestamp {
    match granularity {
        0 | 1 => time,
        g if g < 1_000_000_000 => Timestamp { nanos: time.nanos - time.nanos % g as u32, ..time },
        g => {
            let seconds = (g / 1_000_000_000) as i64;
            Timestamp { seconds: time.seconds - time.seconds.rem_euclid(seconds), nanos: 0 }
        }
    }
}

/// Attributes that are the user's and belong to the copy. Labels that a security module gave to the destination are
/// not removed for not being in the source.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(name, ACL_ACCESS | ACL_DEFAULT | b"security.capability")
}

/// Tells whether two sets are the same in what a copy is answerable for.
pub(super) fn same_xattrs(source: &Xattrs, dest: &Xattrs) -> bool {
    source.iter().all(|(name, value)| dest.get(name) == Some(value))
        && dest.iter().all(|(name, _)| !is_ours(name) || source.get(name).is_some())
}

/// With an ACL, the mode's group bits are its mask, an upper bound for many. Without it they would all go to the one
/// group; give that only what its own entry says.
fn mode_without_acl(mode: u32, acl: &[u8]) -> u32 {
    const GROUP_OBJ: u16 = 4;
    let entries = acl.get(4..).unwrap_or_default().as_chunks::<8>().0;
    let group = entries
        .iter()
        .find(|entry| u16::from_le_bytes([entry[0], entry[1]]) == GROUP_OBJ)
        .map_or(0, |entry| u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 7);
    mode & !0o070 | mode & (group << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut blob = 2_u32.to_le_bytes().to_vec();
        for (tag, perm) in entries {
            blob.extend_from_slice(&tag.to_le_bytes());
            blob.extend_from_slice(&perm.to_le_bytes());
            blob.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        blob
    }

    #[test]
    fn a_lost_acl_never_widens_the_group() {
        // user::rw-, user:x:rwx, group::r--, mask::rwx, other::---
        let blob = acl(&[(1, 6), (2, 7), (4, 4), (0x10, 7), (0x20, 0)]);
        assert_eq!(mode_without_acl(0o670, &blob), 0o640);
        assert_eq!(mode_without_acl(0o610, &blob), 0o600);
        assert_eq!(mode_without_acl(0o4670, b"broken"), 0o4600);
    }

    #[test]
    fn times_are_cut_downwards_also_before_1970() {
        let t = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(cut(t(5, 123_456_789), 1), t(5, 123_456_789));
        assert_eq!(cut(t(5, 123_456_789), 100), t(5, 123_456_700));
        assert_eq!(cut(t(-1, 5), 1_000_000_000), t(-1, 0));
        assert_eq!(cut(t(-1, 0), 2_000_000_000), t(-2, 0));
    }

    #[test]
    fn labels_of_the_destination_are_no_difference() {
        let pair = |n: &str| (n.as_bytes().into(), b"v"[..].into());
        let source = Xattrs::new(vec![pair("user.a")]);
        assert!(same_xattrs(&source, &Xattrs::new(vec![pair("user.a"), pair("security.selinux")])));
        assert!(!same_xattrs(&source, &Xattrs::new(vec![pair("user.a"), pair("user.b")])));
        assert!(!same_xattrs(&source, &Xattrs::default()));
    }
}
