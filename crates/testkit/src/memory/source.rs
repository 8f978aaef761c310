//! Reading: directories and files.

use std::ops::Range;
use std::sync::Arc;

use copy::tree::{ListCursor, NameBatch, SourceDir, SourceFile};
use copy::{EntryKind, ErrorClass, FsError, FsResult, InodeFlags, Metadata, Xattrs, escape};
use rustix::io::Errno;

use super::fail;
use super::handle::{Handle, Role};
use super::state::{Node, State};
use crate::{Call, Side};

impl Handle {
    /// Finds a directory, as `openat` with `O_DIRECTORY | O_NOFOLLOW` does.
    pub(super) fn find_dir(&self, state: &State, call: Call, name: &[u8]) -> FsResult<u64> {
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(call.op(), errno))?;
        match state.inode(inode).node.kind() {
            EntryKind::Dir => Ok(inode),
            _ => fail(call, Errno::NOTDIR),
        }
    }

    /// Finds a regular file. The port says what anything else must give; that it was tried is remembered.
    pub(super) fn find_file(&self, state: &mut State, call: Call, name: &[u8]) -> FsResult<u64> {
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(call.op(), errno))?;
        let kind = state.inode(inode).node.kind();
        if kind.is_special() {
            state.violations.push(format!("{call:?} of the {kind} `{}`", escape(name)));
        }
        if kind != EntryKind::File {
            return Err(FsError::found(call.op(), ErrorClass::Changed));
        }
        Ok(inode)
    }
}

impl SourceDir for Handle {
    fn metadata(&self) -> FsResult<Metadata> {
        Ok(self.enter(Call::DirMetadata, Role::Dir).metadata(self.inode))
    }

    fn own_xattrs(&self) -> FsResult<Xattrs> {
        let state = self.enter(Call::OwnXattrs, Role::Dir);
        Ok(self.list_xattrs(&state, self.inode))
    }

    fn own_flags(&self) -> FsResult<Option<InodeFlags>> {
        let state = self.enter(Call::OwnFlags, Role::Dir);
        Ok(self.flags(&state))
    }

    fn list(&self, cursor: &mut ListCursor, limit: usize, names: &mut NameBatch) -> FsResult<bool> {
        let state = self.enter(Call::List, Role::Dir);
        assert!(limit > 0, "a listing of nothing never ends");
        let (found, at, ended) = state.list(self.inode, cursor.0, limit);
        for (name, kind) in found {
            names.push(&name, kind.filter(|_| self.shared.options.kinds_in_lists));
        }
        cursor.0 = at;
        Ok(ended)
    }

    fn stat(&self, name: &[u8]) -> FsResult<Metadata> {
        let state = self.enter_name(Call::Stat, name);
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(Call::Stat.op(), errno))?;
        Ok(state.metadata(inode))
    }

    fn open_dir(&self, name: &[u8]) -> FsResult<Arc<dyn SourceDir>> {
        let state = self.enter_name(Call::OpenDir, name);
        let inode = self.find_dir(&state, Call::OpenDir, name)?;
        Ok(Arc::new(Self::new(&self.shared, state, self.side, inode, Role::Dir)))
    }

    fn open_file(&self, name: &[u8]) -> FsResult<(Box<dyn SourceFile>, Metadata)> {
        let mut state = self.enter_name(Call::OpenFile, name);
        let inode = self.find_file(&mut state, Call::OpenFile, name)?;
        let metadata = state.metadata(inode);
        Ok((Box::new(Self::new(&self.shared, state, self.side, inode, Role::FileReader)), metadata))
    }

    fn read_link(&self, name: &[u8]) -> FsResult<Vec<u8>> {
        let state = self.enter_name(Call::ReadLink, name);
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(Call::ReadLink.op(), errno))?;
        match &state.inode(inode).node {
            Node::Symlink(target) => Ok(target.clone()),
            _ => fail(Call::ReadLink, Errno::INVAL),
        }
    }

    fn xattrs(&self, name: &[u8]) -> FsResult<Xattrs> {
        let state = self.enter_name(Call::Xattrs, name);
        let inode = state.lookup(self.inode, name).map_err(|errno| FsError::new(Call::Xattrs.op(), errno))?;
        Ok(self.list_xattrs(&state, inode))
    }
}

impl SourceFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> FsResult<usize> {
        let state = self.enter(Call::Read, Role::FileReader);
        assert!(!buffer.is_empty(), "a read into nothing looks like the end of the file");
        Ok(state.content(self.inode).read_at(buffer, offset))
    }

    fn next_data(&self, from: u64) -> FsResult<Option<Range<u64>>> {
        let state = self.enter(Call::NextData, Role::FileReader);
        let content = state.content(self.inode);
        if self.shared.options.reports_holes {
            return Ok(content.next_data(from));
        }
        Ok((from < content.size_bytes()).then(|| from..content.size_bytes()))
    }

    fn metadata(&self) -> FsResult<Metadata> {
        Ok(self.enter(Call::FileMetadata, Role::FileReader).metadata(self.inode))
    }

    fn xattrs(&self) -> FsResult<Xattrs> {
        let state = self.enter(Call::FileXattrs, Role::FileReader);
        Ok(self.list_xattrs(&state, self.inode))
    }

    fn flags(&self) -> FsResult<Option<InodeFlags>> {
        let state = self.enter(Call::FileFlags, Role::FileReader);
        Ok(Handle::flags(self, &state))
    }

    fn thaw(&self) -> FsResult<()> {
        let mut state = self.enter(Call::Thaw, Role::FileReader);
        assert_eq!(self.side, Side::Dest, "a source is not changed");
        if self.shared.options.read_only {
            return fail(Call::Thaw, Errno::ROFS);
        }
        let inode = state.inode_mut(self.inode);
        if inode.flags.freezes() {
            inode.flags = inode.flags.without_freezing();
            state.changed(self.inode);
        }
        Ok(())
    }

    fn unwritten(&self) -> FsResult<Vec<Range<u64>>> {
        let state = self.enter(Call::Unwritten, Role::FileReader);
        Ok(state.content(self.inode).unwritten())
    }
}
