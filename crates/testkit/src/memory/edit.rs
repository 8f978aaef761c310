//! The tenant's hands: changes to a tree from outside the engine, by path, uncounted, with the times that a real
//! change would leave. For trees that change while they are copied.

use copy::{EntryKind, Timestamp, is_plain_name};

use super::MemoryTree;
use super::state::State;
use crate::model::{Entry, split};

impl MemoryTree {
    /// Overwrites part of a file.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<[u8]>, offset: u64, bytes: &[u8]) {
        self.change(path.as_ref(), |state, inode| {
            state.content_mut(inode).write_at(bytes, offset);
            state.modified(inode);
        });
    }

    /// Overwrites part of a file and puts its mtime back, as an archiver would; the ctime tells.
    #[track_caller]
    pub fn write_secretly(&self, path: impl AsRef<[u8]>, offset: u64, bytes: &[u8]) {
        self.change(path.as_ref(), |state, inode| {
            let mtime = state.inode(inode).mtime;
            state.content_mut(inode).write_at(bytes, offset);
            state.modified(inode);
            state.inode_mut(inode).mtime = mtime;
        });
    }

    /// Flips a bit of a file without any trace, as failing storage would.
    #[track_caller]
    pub fn rot(&self, path: impl AsRef<[u8]>, offset: u64) {
        self.change(path.as_ref(), |state, inode| {
            let mut byte = [0];
            let content = state.content_mut(inode);
            assert_eq!(content.read_at(&mut byte, offset), 1, "the file is shorter");
            content.write_at(&[byte[0] ^ 1], offset);
        });
    }

    #[track_caller]
    pub fn truncate(&self, path: impl AsRef<[u8]>, size_bytes: u64) {
        self.change(path.as_ref(), |state, inode| {
            state.content_mut(inode).set_len(size_bytes);
            state.modified(inode);
        });
    }

    #[track_caller]
    pub fn chmod(&self, path: impl AsRef<[u8]>, mode: u32) {
        self.change(path.as_ref(), |state, inode| state.set_mode(inode, mode));
    }

    #[track_caller]
    pub fn chown(&self, path: impl AsRef<[u8]>, uid: u32, gid: u32) {
        self.change(path.as_ref(), |state, inode| {
            let node = state.inode_mut(inode);
            (node.uid, node.gid) = (uid, gid);
            state.drop_privileges(inode);
            state.changed(inode);
        });
    }

    #[track_caller]
    pub fn set_mtime(&self, path: impl AsRef<[u8]>, mtime: Timestamp) {
        self.change(path.as_ref(), |state, inode| {
            state.inode_mut(inode).mtime = mtime;
            state.changed(inode);
        });
    }

    /// Adds an entry, or puts another inode in the place of what has the name.
    #[track_caller]
    pub fn put(&self, path: impl AsRef<[u8]>, entry: &Entry) {
        let path = path.as_ref();
        let (dir, name) = split(path);
        assert!(is_plain_name(name), "not a plain name");
        self.change(dir, |state, dir| {
            if state.lookup(dir, name).is_ok() {
                remove_all(state, dir, name);
            }
            state.add_entry(dir, name, entry);
        });
    }

    /// Removes an entry with everything below it.
    #[track_caller]
    pub fn remove(&self, path: impl AsRef<[u8]>) {
        let (dir, name) = split(path.as_ref());
        self.change(dir, |state, dir| remove_all(state, dir, name));
    }

    /// Moves an entry, over another one where there is one.
    #[track_caller]
    pub fn rename(&self, from: impl AsRef<[u8]>, to: impl AsRef<[u8]>) {
        let (from_dir, from_name) = split(from.as_ref());
        let (to_dir, to_name) = split(to.as_ref());
        self.change(from_dir, |state, from_dir| {
            let to_dir = state.resolve(to_dir).expect("a directory to move to");
            let inode = state.lookup(from_dir, from_name).expect("an entry to move");
            if state.lookup(to_dir, to_name).is_ok() {
                remove_all(state, to_dir, to_name);
            }
            state.remove_name(from_dir, from_name);
            state.add_name(to_dir, to_name, inode);
        });
    }

    /// Lets the listing of a directory tell a name that is not there, plain or not.
    #[track_caller]
    pub fn lie(&self, dir: impl AsRef<[u8]>, name: &[u8], kind: Option<EntryKind>) {
        self.change(dir.as_ref(), |state, dir| state.dir_mut(dir).lies.push((name.into(), kind)));
    }

    #[track_caller]
    fn change<T>(&self, path: &[u8], act: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.shared.lock();
        let inode = state.resolve(path);
        let inode = inode.unwrap_or_else(|errno| panic!("`{}`: {errno}", copy::escape(path)));
        act(&mut state, inode)
    }
}

fn remove_all(state: &mut State, dir: u64, name: &[u8]) {
    let inode = state.lookup(dir, name).expect("an entry to remove");
    let mut emptied = vec![inode];
    // Everything below loses its name, so that who holds a directory finds it empty.
    while let Some(inode) = emptied.pop() {
        if state.inode(inode).node.kind() == EntryKind::Dir {
            for name in state.dir(inode).names() {
                emptied.push(state.remove_name(inode, &name));
            }
        }
    }
    state.remove_name(dir, name);
}
