//! Reads all extended attributes of an inode, however large they are.

use std::cell::RefCell;
use std::ffi::CString;

use rustix::io::Errno;

use super::sys::{self, At};
use crate::error::{Context as _, ErrorClass, FsError, FsOp, FsResult};
use crate::meta::Xattrs;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The kernel's own limits (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`) are 64 KiB; FUSE and later kernels may allow more.
const LIST_BYTES_MAX: usize = 4 << 20;

/// Reads names and values. A file system without attributes has none.
pub(super) fn read_all(at: At<'_>) -> FsResult<Xattrs> {
    BUFFER.with_borrow_mut(|buffer| {
        let len = match grow(buffer, |list| sys::list_xattrs(at, list)) {
            Ok(len) => len,
            Err(Errno::OPNOTSUPP) => 0,
            Err(errno) => return Err(FsError::new(FsOp::ListXattrs, errno)),
        };
        if len == 0 {
            return Ok(Xattrs::default());
        }
        let names: Vec<CString> = buffer[..len]
            .split(|b| *b == 0)
            .filter(|n| !n.is_empty() && !is_alias(n))
            .filter_map(|n| CString::new(n).ok())
            .collect();
        let mut list = Vec::with_capacity(names.len());
        for name in names {
            match grow(buffer, |value| sys::get_xattr(at, &name, value)) {
                Ok(len) => list.push((name.to_bytes().into(), buffer[..len].into())),
                // Removed since it was listed, or listed but not readable by its own rules (system.nfs4_acl on some
                // servers, ceph's virtual attributes): it is not there for us.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(FsError::new(FsOp::GetXattr, errno)),
            }
        }
        Ok(Xattrs::new(list))
    })
}

/// XFS shows its ACLs twice: as ACLs, and under the names that they have on disk.
fn is_alias(name: &[u8]) -> bool {
    matches!(name, b"trusted.SGI_ACL_FILE" | b"trusted.SGI_ACL_DEFAULT")
}

/// Calls with a larger buffer until the answer fits.
fn grow(buffer: &mut Vec<u8>, mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<usize, Errno> {
    if buffer.is_empty() {
        buffer.resize(1024, 0);
    }
    loop {
        match call(buffer) {
            Err(Errno::RANGE) if buffer.len() < LIST_BYTES_MAX => {
                let len = buffer.len() * 8;
                buffer.resize(len, 0);
            }
            answer => return answer,
        }
    }
}

pub(super) fn set(at: At<'_>, name: &[u8], value: &[u8]) -> FsResult<()> {
    let name = c_name(name, FsOp::SetXattr)?;
    sys::set_xattr(at, &name, value).op(FsOp::SetXattr)
}

pub(super) fn remove(at: At<'_>, name: &[u8]) -> FsResult<()> {
    let name = c_name(name, FsOp::RemoveXattr)?;
    match sys::remove_xattr(at, &name) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(errno) => Err(FsError::new(FsOp::RemoveXattr, errno)),
    }
}

pub(super) fn c_name(name: &[u8], op: FsOp) -> FsResult<CString> {
    CString::new(name).map_err(|_| FsError::found(op, ErrorClass::Unsupported))
}
