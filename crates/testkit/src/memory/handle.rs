//! A held inode: one type for directories, open files and nodes, and the setting of attributes through it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use copy::tree::DestNode;
use copy::{ACL_ACCESS, ACL_DEFAULT, EntryKind, FsResult, InodeFlags, Metadata, Timestamp, Xattrs, escape};
use copy::{FsError, is_plain_name};
use rustix::io::Errno;

use super::state::{SETGID, SETUID, State};
use super::{Shared, fail};
use crate::{Call, Side, acl};

/// What a handle was opened for; using it for anything else is an error of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dir,
    FileReader,
    FileWriter,
    Node,
}

#[derive(Debug)]
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) side: Side,
    pub(super) inode: u64,
    role: Role,
    closed: AtomicBool,
}

impl Handle {
    pub(super) fn new(
        shared: &Arc<Shared>,
        mut state: MutexGuard<'_, State>,
        side: Side,
        inode: u64,
        role: Role,
    ) -> Self {
        state.open_handles += 1;
        state.open_handles_max = state.open_handles_max.max(state.open_handles);
        Self { shared: Arc::clone(shared), side, inode, role, closed: AtomicBool::new(role != Role::FileWriter) }
    }

    /// Counts a call on this handle.
    pub(super) fn enter(&self, call: Call, role: Role) -> MutexGuard<'_, State> {
        let state = self.shared.enter(self.side, call);
        assert_eq!(self.role, role, "{call:?} on a handle of another kind");
        state
    }

    /// Counts a call on a name below this directory; a name that is not plain is an error of the engine.
    pub(super) fn enter_name(&self, call: Call, name: &[u8]) -> MutexGuard<'_, State> {
        let mut state = self.enter(call, Role::Dir);
        if !is_plain_name(name) {
            let what = format!("{call:?} with the name `{}`", escape(name));
            state.violations.push(what.clone());
            drop(state);
            panic!("{what}");
        }
        state
    }

    /// As [`enter_name`](Self::enter_name), for calls that change this directory.
    pub(super) fn enter_change(&self, call: Call, name: &[u8]) -> FsResult<MutexGuard<'_, State>> {
        let state = self.enter_name(call, name);
        assert_eq!(self.side, Side::Dest, "{call:?} on a source");
        if self.shared.options.read_only {
            return fail(call, Errno::ROFS);
        }
        if name.len() > self.shared.options.name_bytes_max as usize {
            return fail(call, Errno::NAMETOOLONG);
        }
        let dir = state.inode(self.inode);
        if self.inode != State::ROOT && dir.links == 0 {
            return fail(call, Errno::NOENT);
        }
        let adds = !matches!(call, Call::RemoveFile | Call::RemoveDir);
        let append_only = dir.flags.freezes() && dir.flags.0 & IMMUTABLE == 0;
        if dir.flags.freezes() && !(adds && append_only) {
            return fail(call, Errno::PERM);
        }
        Ok(state)
    }

    pub(super) fn mark_closed(&self) -> bool {
        self.closed.swap(true, Ordering::Relaxed)
    }

    /// Counts a change of attributes, and refuses it on frozen inodes and read-only trees.
    fn enter_attributes(&self, call: Call) -> FsResult<MutexGuard<'_, State>> {
        let state = self.shared.enter(self.side, call);
        assert_eq!(self.side, Side::Dest, "{call:?} on a source");
        assert_ne!(self.role, Role::FileReader, "{call:?} on a file that was opened for reading");
        if self.shared.options.read_only {
            return fail(call, Errno::ROFS);
        }
        if call != Call::SetFlags && state.inode(self.inode).flags.freezes() {
            return fail(call, Errno::PERM);
        }
        Ok(state)
    }

    pub(super) fn flags(&self, state: &State) -> Option<InodeFlags> {
        let inode = state.inode(self.inode);
        let has_flags = matches!(inode.node.kind(), EntryKind::File | EntryKind::Dir);
        (self.shared.options.inode_flags && has_flags).then_some(inode.flags)
    }

    /// Extended attributes as this file system tells them; one without them has none.
    pub(super) fn list_xattrs(&self, state: &State, inode: u64) -> Xattrs {
        if self.shared.options.xattrs { state.xattrs(inode) } else { Xattrs::default() }
    }
}

const IMMUTABLE: u32 = 0x10;

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open_handles -= 1;
        if !*self.closed.get_mut() {
            state.unclosed_files += 1;
        }
    }
}

impl DestNode for Handle {
    fn node_metadata(&self) -> FsResult<Metadata> {
        Ok(self.shared.enter(self.side, Call::NodeMetadata).metadata(self.inode))
    }

    fn set_owner(&self, uid: u32, gid: u32) -> FsResult<()> {
        let mut state = self.enter_attributes(Call::SetOwner)?;
        assert!(uid != u32::MAX && gid != u32::MAX, "the kernel would read -1 as: leave it");
        let inode = state.inode(self.inode);
        let changes = (inode.uid, inode.gid) != (uid, gid);
        if changes && !self.shared.options.owners {
            return fail(Call::SetOwner, Errno::PERM);
        }
        let was_privileged = inode.mode & (SETUID | SETGID) != 0 && !matches!(inode.node.kind(), EntryKind::Dir);
        if changes && was_privileged && inode.made_with.is_some() && !inode.owner_was_set {
            state.violations.push(format!("a new file was setuid or setgid before it belonged to {uid}:{gid}"));
        }
        // Linux spares a root's setgid without group execution; stricter here.
        state.drop_privileges(self.inode);
        let inode = state.inode_mut(self.inode);
        (inode.uid, inode.gid, inode.owner_was_set) = (uid, gid, true);
        state.changed(self.inode);
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> FsResult<()> {
        let mut state = self.enter_attributes(Call::SetMode)?;
        assert_eq!(mode & !0o7777, 0, "a mode has twelve bits");
        let inode = state.inode(self.inode);
        if inode.node.kind() == EntryKind::Symlink {
            return fail(Call::SetMode, Errno::OPNOTSUPP);
        }
        if let Some(made_with) = inode.made_with
            && made_with & 0o077 & !mode != 0
        {
            state.violations.push(format!("an entry was made with mode {made_with:04o} and ends with {mode:04o}"));
        }
        state.set_mode(self.inode, mode);
        Ok(())
    }

    fn set_times(&self, atime: Timestamp, mtime: Timestamp) -> FsResult<()> {
        let mut state = self.enter_attributes(Call::SetTimes)?;
        let options = &self.shared.options;
        let keep = |time: Timestamp| {
            assert!(time.nanos < 1_000_000_000, "nanoseconds are below a second");
            // At the very edge, Linux cuts the nanoseconds off.
            if time.seconds <= options.seconds_min {
                Timestamp { seconds: options.seconds_min, nanos: 0 }
            } else if time.seconds >= options.seconds_max {
                Timestamp { seconds: options.seconds_max, nanos: 0 }
            } else {
                Timestamp { nanos: time.nanos - time.nanos % options.time_granularity_nanos, ..time }
            }
        };
        let inode = state.inode_mut(self.inode);
        (inode.atime, inode.mtime) = (keep(atime), keep(mtime));
        state.changed(self.inode);
        Ok(())
    }

    fn node_xattrs(&self) -> FsResult<Xattrs> {
        let state = self.shared.enter(self.side, Call::NodeXattrs);
        Ok(self.list_xattrs(&state, self.inode))
    }

    fn set_xattr(&self, name: &[u8], value: &[u8]) -> FsResult<()> {
        let call = Call::SetXattr;
        let mut state = self.enter_attributes(call)?;
        let options = &self.shared.options;
        let kind = state.inode(self.inode).node.kind();
        assert!(!name.is_empty() && !name.contains(&0), "not a name of an extended attribute");
        if !options.xattrs {
            return fail(call, Errno::OPNOTSUPP);
        }
        if name.len() > 255 {
            return fail(call, Errno::RANGE);
        }
        if value.len() > options.xattr_value_bytes_max {
            return fail(call, if value.len() > 64 << 10 { Errno::TOOBIG } else { Errno::NOSPC });
        }
        match name {
            ACL_ACCESS | ACL_DEFAULT => {
                if !options.acls || kind == EntryKind::Symlink {
                    return fail(call, Errno::OPNOTSUPP);
                }
                if name == ACL_DEFAULT && kind != EntryKind::Dir {
                    return fail(call, Errno::ACCESS);
                }
                let Some((mode, says_no_more)) = acl::mode_of(value) else { return fail(call, Errno::INVAL) };
                if name == ACL_ACCESS {
                    let inode = state.inode_mut(self.inode);
                    inode.mode = inode.mode & 0o7000 | mode;
                    if says_no_more {
                        inode.xattrs.remove(name);
                        state.changed(self.inode);
                        return Ok(());
                    }
                }
            }
            n if n.starts_with(b"user.") && !matches!(kind, EntryKind::File | EntryKind::Dir) => {
                return fail(call, Errno::PERM);
            }
            n if [&b"user."[..], b"trusted.", b"security."].iter().any(|p| n.starts_with(p) && n.len() > p.len()) => {}
            _ => return fail(call, Errno::OPNOTSUPP),
        }
        state.inode_mut(self.inode).xattrs.insert(name.into(), value.into());
        state.changed(self.inode);
        Ok(())
    }

    fn remove_xattr(&self, name: &[u8]) -> FsResult<()> {
        let mut state = self.enter_attributes(Call::RemoveXattr)?;
        if !self.shared.options.xattrs {
            return fail(Call::RemoveXattr, Errno::OPNOTSUPP);
        }
        if state.inode_mut(self.inode).xattrs.remove(name).is_none() {
            return fail(Call::RemoveXattr, Errno::NODATA);
        }
        state.changed(self.inode);
        Ok(())
    }

    fn node_flags(&self) -> FsResult<Option<InodeFlags>> {
        let state = self.shared.enter(self.side, Call::NodeFlags);
        Ok(self.flags(&state))
    }

    fn set_flags(&self, flags: InodeFlags) -> FsResult<()> {
        let mut state = self.enter_attributes(Call::SetFlags)?;
        if self.flags(&state).is_none() {
            return Err(FsError::new(Call::SetFlags.op(), Errno::NOTTY));
        }
        state.inode_mut(self.inode).flags = flags;
        state.changed(self.inode);
        Ok(())
    }
}
