//! Writing: making, linking and removing entries, and the content of files.

use std::any::Any;
use std::ops::Range;
use std::sync::{Arc, MutexGuard};

use copy::tree::{DestDir, DestFile, DestNode};
use copy::{EntryKind, FsError, FsResult};
use rustix::io::Errno;

use super::fail;
use super::handle::{Handle, Role};
use super::state::{Dir, Node, SETGID, State};
use crate::{Call, Content};

impl Handle {
    /// Makes an inode with a name here, as a process would: umask, process owner, setgid directories.
    fn make(&self, state: &mut State, call: Call, name: &[u8], node: Node, mode: u32) -> FsResult<u64> {
        let options = &self.shared.options;
        if state.lookup(self.inode, name).is_ok() {
            return fail(call, Errno::EXIST);
        }
        if options.capacity_entries != u64::MAX && state.used_entries() >= options.capacity_entries {
            return fail(call, options.full);
        }
        let is_symlink = matches!(node, Node::Symlink(_));
        let is_dir = matches!(node, Node::Dir(_));
        let (uid, mut gid) = options.process_owner;
        let mut made = if is_symlink { mode } else { mode & !options.umask };
        let dir = state.inode(self.inode);
        if dir.mode & SETGID != 0 {
            gid = dir.gid;
            made |= if is_dir { SETGID } else { 0 };
        }
        let inode = state.add_inode(node, made, (uid, gid));
        if !is_symlink {
            state.inode_mut(inode).made_with = Some(mode);
        }
        state.add_name(self.inode, name, inode);
        Ok(inode)
    }

    fn enter_write(&self, call: Call) -> FsResult<MutexGuard<'_, State>> {
        let state = self.enter(call, Role::FileWriter);
        // The descriptor of an immutable file goes on writing in Linux; the engine must not count on it.
        if state.inode(self.inode).flags.freezes() { fail(call, Errno::PERM) } else { Ok(state) }
    }
}

impl DestDir for Handle {
    fn create_dir(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        let mut state = self.enter_change(Call::CreateDir, name)?;
        let inode = self.make(&mut state, Call::CreateDir, name, Node::Dir(Dir::default()), 0o700)?;
        Ok(Arc::new(Self::new(&self.shared, state, self.side, inode, Role::Dir)))
    }

    fn descend(&self, name: &[u8]) -> FsResult<Arc<dyn DestDir>> {
        let state = self.enter_name(Call::Descend, name);
        let inode = self.find_dir(&state, Call::Descend, name)?;
        Ok(Arc::new(Self::new(&self.shared, state, self.side, inode, Role::Dir)))
    }

    fn create_file(&self, name: &[u8], mode: u32) -> FsResult<Box<dyn DestFile>> {
        let mut state = self.enter_change(Call::CreateFile, name)?;
        assert_eq!(mode & !0o777, 0, "a new file belongs to root: it must not be setuid, setgid or sticky");
        let inode = self.make(&mut state, Call::CreateFile, name, Node::File(Content::new()), mode)?;
        Ok(Box::new(Self::new(&self.shared, state, self.side, inode, Role::FileWriter)))
    }

    fn open_existing(&self, name: &[u8]) -> FsResult<Box<dyn DestFile>> {
        let mut state = self.enter_name(Call::OpenExisting, name);
        let inode = self.find_file(&mut state, Call::OpenExisting, name)?;
        if self.shared.options.read_only {
            return fail(Call::OpenExisting, Errno::ROFS);
        }
        if state.inode(inode).flags.freezes() {
            return fail(Call::OpenExisting, Errno::PERM);
        }
        Ok(Box::new(Self::new(&self.shared, state, self.side, inode, Role::FileWriter)))
    }

    fn hold(&self, name: &[u8]) -> FsResult<Box<dyn DestNode>> {
        let state = self.enter_name(Call::Hold, name);
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(Call::Hold.op(), errno))?;
        Ok(Box::new(Self::new(&self.shared, state, self.side, inode, Role::Node)))
    }

    fn create_symlink(&self, target: &[u8], name: &[u8]) -> FsResult<()> {
        let mut state = self.enter_change(Call::CreateSymlink, name)?;
        assert!(!target.contains(&0), "a target ends at a NUL");
        if target.is_empty() {
            return fail(Call::CreateSymlink, Errno::NOENT);
        }
        if target.len() > 4095 {
            return fail(Call::CreateSymlink, Errno::NAMETOOLONG);
        }
        if !self.shared.options.symlinks {
            return fail(Call::CreateSymlink, Errno::PERM);
        }
        self.make(&mut state, Call::CreateSymlink, name, Node::Symlink(target.into()), 0o777).map(drop)
    }

    fn create_node(&self, name: &[u8], kind: EntryKind, rdev: u64) -> FsResult<()> {
        let mut state = self.enter_change(Call::CreateNode, name)?;
        assert!(kind.is_special(), "a {kind} is not made as a node");
        assert!(kind.is_device() || rdev == 0, "a {kind} has no device number");
        if !self.shared.options.special_files {
            return fail(Call::CreateNode, Errno::PERM);
        }
        self.make(&mut state, Call::CreateNode, name, Node::Special(kind, rdev), 0o600).map(drop)
    }

    fn link_from(&self, from: &dyn DestDir, from_name: &[u8], name: &[u8]) -> FsResult<()> {
        let call = Call::LinkFrom;
        let from = from.as_any().downcast_ref::<Self>().expect("a link joins two directories of one tree");
        assert!(Arc::ptr_eq(&self.shared, &from.shared), "a link joins two directories of one tree");
        assert!(copy::is_plain_name(from_name), "{call:?} from a name that is not plain");
        let mut state = self.enter_change(call, name)?;
        let inode = state.lookup(from.inode, from_name).map_err(|errno| FsError::new(call.op(), errno))?;
        let target = state.inode(inode);
        if !self.shared.options.hard_links || target.node.kind() == EntryKind::Dir || target.flags.freezes() {
            return fail(call, Errno::PERM);
        }
        if target.links >= self.shared.options.links_max {
            return fail(call, Errno::MLINK);
        }
        if state.lookup(self.inode, name).is_ok() {
            return fail(call, Errno::EXIST);
        }
        state.add_name(self.inode, name, inode);
        Ok(())
    }

    fn remove_file(&self, name: &[u8]) -> FsResult<()> {
        let call = Call::RemoveFile;
        let mut state = self.enter_change(call, name)?;
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(call.op(), errno))?;
        let inode = state.inode(inode);
        if inode.node.kind() == EntryKind::Dir {
            return fail(call, Errno::ISDIR);
        }
        if inode.flags.freezes() {
            return fail(call, Errno::PERM);
        }
        state.remove_name(self.inode, name);
        Ok(())
    }

    fn remove_dir(&self, name: &[u8]) -> FsResult<()> {
        let call = Call::RemoveDir;
        let mut state = self.enter_change(call, name)?;
        let inode = self.find_dir(&state, call, name)?;
        if !state.is_empty_dir(inode) {
            return fail(call, Errno::NOTEMPTY);
        }
        if state.inode(inode).flags.freezes() {
            return fail(call, Errno::PERM);
        }
        state.remove_name(self.inode, name);
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl DestFile for Handle {
    fn write_at(&self, buffer: &[u8], offset: u64) -> FsResult<usize> {
        let mut state = self.enter_write(Call::Write)?;
        assert!(!buffer.is_empty(), "a write of nothing tells nothing");
        let mut range = offset..offset + buffer.len() as u64;
        if range.end > self.shared.options.file_bytes_max {
            if range.start >= self.shared.options.file_bytes_max {
                return fail(Call::Write, Errno::FBIG);
            }
            range.end = self.shared.options.file_bytes_max;
        }
        // A full disk takes what still fits, as the kernel does: a short write first, the error with the next one.
        while let Err(errno) = self.shared.check_space(&state, state.content(self.inode).blocks_needed(&range)) {
            range.end = (range.end - 1) / crate::BLOCK_BYTES * crate::BLOCK_BYTES;
            if range.end <= range.start {
                return fail(Call::Write, errno);
            }
        }
        let taken = (range.end - range.start) as usize;
        state.content_mut(self.inode).write_at(&buffer[..taken], offset);
        state.inode_mut(self.inode).dirty = true;
        state.drop_privileges(self.inode);
        state.modified(self.inode);
        Ok(taken)
    }

    fn set_len(&self, size_bytes: u64) -> FsResult<()> {
        let mut state = self.enter_write(Call::SetLen)?;
        if size_bytes > self.shared.options.file_bytes_max {
            return fail(Call::SetLen, Errno::FBIG);
        }
        state.content_mut(self.inode).set_len(size_bytes);
        state.inode_mut(self.inode).dirty = true;
        state.drop_privileges(self.inode);
        state.modified(self.inode);
        Ok(())
    }

    fn allocate(&self, range: Range<u64>) -> FsResult<()> {
        let mut state = self.enter_write(Call::Allocate)?;
        if range.is_empty() {
            return fail(Call::Allocate, Errno::INVAL);
        }
        let needed = state.content(self.inode).blocks_needed(&range);
        self.shared.check_space(&state, needed).map_err(|errno| FsError::new(Call::Allocate.op(), errno))?;
        state.content_mut(self.inode).allocate(&range);
        state.modified(self.inode);
        Ok(())
    }

    fn start_writeback(&self, _range: Range<u64>) {
        drop(self.enter(Call::StartWriteback, Role::FileWriter));
    }

    fn close(self: Box<Self>) -> FsResult<()> {
        drop(self.enter(Call::Close, Role::FileWriter));
        assert!(!self.mark_closed(), "a file is closed once");
        Ok(())
    }
}
