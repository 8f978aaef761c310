//! The bytes of the FUSE protocol, as `linux/fuse.h` lays them out: what is read from and written to `/dev/fuse`.

use rustix::io::Errno;

use super::FuseOp;

/// Fields of a request, taken one after another.
#[derive(Clone, Copy)]
pub(super) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(super) fn skip(&mut self, len: usize) {
        self.take(len);
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take(4).try_into().expect("the kernel sends whole structures"))
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take(8).try_into().expect("the kernel sends whole structures"))
    }

    /// A name up to its NUL.
    pub(super) fn name(&mut self) -> &'a [u8] {
        let len = self.0.iter().position(|b| *b == 0).expect("the kernel ends names with a NUL");
        let name = self.take(len);
        self.skip(1);
        name
    }

    pub(super) fn bytes(&mut self, len: usize) -> &'a [u8] {
        self.take(len)
    }
}

/// `fuse_in_header`.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Bytes of `fuse_in_header`.
const HEADER: usize = 40;

impl Header {
    pub(super) fn read(request: &[u8]) -> (Self, Input<'_>) {
        let mut input = Input::new(&request[..HEADER]);
        input.skip(4);
        let (opcode, unique, node) = (input.u32(), input.u64(), input.u64());
        let (uid, gid) = (input.u32(), input.u32());
        (Self { opcode, unique, node, uid, gid }, Input::new(&request[HEADER..]))
    }
}

/// An answer under construction; the header comes first and is filled in at the end.
pub(super) struct Output(Vec<u8>);

impl Output {
    pub(super) fn new() -> Self {
        Self(vec![0; 16])
    }

    pub(super) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_ne_bytes())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes after the header.
    pub(super) fn len(&self) -> usize {
        self.0.len() - 16
    }

    /// The whole message.
    pub(super) fn finish(mut self, unique: u64) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..16].copy_from_slice(&unique.to_ne_bytes());
        self.0
    }
}

/// The message that says an operation failed.
pub(super) fn refusal(unique: u64, errno: Errno) -> Vec<u8> {
    let mut message = Output::new().finish(unique);
    message[4..8].copy_from_slice(&(-errno.raw_os_error()).to_ne_bytes());
    message
}

/// Requests that need no answer or an answer of their own kind.
pub(super) const FORGET: u32 = 2;
pub(super) const INIT: u32 = 26;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const DESTROY: u32 = 38;
pub(super) const BATCH_FORGET: u32 = 42;

/// What a number means; `None` for what this file system does not know.
pub(super) fn operation(opcode: u32) -> Option<FuseOp> {
    Some(match opcode {
        1 => FuseOp::Lookup,
        3 => FuseOp::GetAttr,
        4 => FuseOp::SetAttr,
        5 => FuseOp::ReadLink,
        6 => FuseOp::Symlink,
        8 => FuseOp::MakeNode,
        9 => FuseOp::MakeDir,
        10 => FuseOp::Unlink,
        11 => FuseOp::RemoveDir,
        12 => FuseOp::Rename,
        13 => FuseOp::Link,
        14 => FuseOp::Open,
        15 => FuseOp::Read,
        16 => FuseOp::Write,
        17 => FuseOp::StatFs,
        18 => FuseOp::Release,
        20 => FuseOp::Fsync,
        21 => FuseOp::SetXattr,
        22 => FuseOp::GetXattr,
        23 => FuseOp::ListXattr,
        24 => FuseOp::RemoveXattr,
        25 => FuseOp::Flush,
        27 => FuseOp::OpenDir,
        28 => FuseOp::ReadDir,
        29 => FuseOp::ReleaseDir,
        35 => FuseOp::Create,
        43 => FuseOp::Allocate,
        46 => FuseOp::Seek,
        50 => FuseOp::SyncFs,
        _ => return None,
    })
}
