//! The system calls that rustix has not, and the only `unsafe` of the project. One test a call shows that the kernel
//! behaves as the engine believes.
#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::ffi::{CStr, c_long, c_uint};
use std::os::fd::{AsRawFd as _, BorrowedFd, IntoRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

type SysResult<T> = Result<T, Errno>;

// Numbers of the unified table: the same on every architecture that Linux gained since 5.0 and on x86-64.
const SYS_CACHESTAT: c_long = 451;
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_GETXATTRAT: c_long = 464;
const SYS_LISTXATTRAT: c_long = 465;
const SYS_REMOVEXATTRAT: c_long = 466;

fn check(result: c_long) -> SysResult<usize> {
    if result < 0 {
        return Err(last_errno());
    }
    Ok(result as usize)
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Closes and tells what the kernel says of it; network storage reports lost writes here. The descriptor is gone in
/// any case, also after EINTR.
pub(super) fn close(fd: OwnedFd) -> SysResult<()> {
    // SAFETY: `into_raw_fd` gives up ownership, so the descriptor is closed exactly once.
    check(c_long::from(unsafe { libc::close(fd.into_raw_fd()) })).map(drop)
}

/// Asks for write-out of a range without waiting for it.
pub(super) fn start_writeback(fd: BorrowedFd<'_>, start: u64, len: u64) {
    // SAFETY: no memory is passed. The answer does not matter: `syncfs` reports failed writes later.
    unsafe {
        libc::sync_file_range(fd.as_raw_fd(), start as i64, len as i64, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[repr(C)]
struct XattrArgs {
    value: u64,
    size: u32,
    flags: u32,
}

/// Whether the `*xattrat` calls (Linux 6.13) are missing; learned once.
static NO_XATTRAT: AtomicBool = AtomicBool::new(false);

/// Where an extended attribute is: an entry below a directory, or the inode that the descriptor itself holds.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) fd: BorrowedFd<'a>,
    /// A single plain name, or empty for the descriptor itself.
    pub(super) name: &'a CStr,
    /// The descriptor is an `O_PATH` one, which the `*at` calls refuse (EBADF) and the way through /proc takes.
    pub(super) held: bool,
}

impl At<'_> {
    fn flags(self) -> c_uint {
        let empty = if self.name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        (libc::AT_SYMLINK_NOFOLLOW | empty) as c_uint
    }

    /// For kernels without the `*at` calls. The link below /proc leads to exactly the held descriptor.
    fn proc_path(self) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}", self.fd.as_raw_fd()).into_bytes();
        if !self.name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(self.name.to_bytes());
        }
        path.push(0);
        path
    }

    /// The l-calls do not follow the entry's name; the held descriptor's own link must be followed.
    fn follows(self) -> bool {
        self.name.is_empty()
    }
}

fn with_fallback(
    at: At<'_>,
    new: impl FnOnce() -> SysResult<usize>,
    old: impl FnOnce() -> SysResult<usize>,
) -> SysResult<usize> {
    if !at.held && !NO_XATTRAT.load(Ordering::Relaxed) {
        match new() {
            Err(Errno::NOSYS) => NO_XATTRAT.store(true, Ordering::Relaxed),
            answer => return answer,
        }
    }
    old()
}

/// Lists names, each ended by NUL, into `list`; its length is returned when `list` is empty.
pub(super) fn list_xattrs(at: At<'_>, list: &mut [u8]) -> SysResult<usize> {
    let (pointer, len) = (list.as_mut_ptr(), list.len());
    with_fallback(
        at,
        // SAFETY: `name` is NUL-terminated and `list` is writable for the length given.
        || {
            check(unsafe {
                libc::syscall(SYS_LISTXATTRAT, at.fd.as_raw_fd(), at.name.as_ptr(), at.flags(), pointer, len)
            })
        },
        || {
            let path = at.proc_path();
            // SAFETY: as above; `path` ends with NUL.
            check(unsafe {
                if at.follows() {
                    libc::listxattr(path.as_ptr().cast(), pointer.cast(), len)
                } else {
                    libc::llistxattr(path.as_ptr().cast(), pointer.cast(), len)
                }
            } as c_long)
        },
    )
}

/// Reads one value into `value`; its length is returned when `value` is empty.
pub(super) fn get_xattr(at: At<'_>, name: &CStr, value: &mut [u8]) -> SysResult<usize> {
    let (pointer, len) = (value.as_mut_ptr(), value.len());
    with_fallback(
        at,
        || {
            let args = XattrArgs { value: pointer as u64, size: len as u32, flags: 0 };
            // SAFETY: both names are NUL-terminated; `args` outlives the call and names a buffer of `len` bytes.
            check(unsafe {
                libc::syscall(
                    SYS_GETXATTRAT,
                    at.fd.as_raw_fd(),
                    at.name.as_ptr(),
                    at.flags(),
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            })
        },
        || {
            let path = at.proc_path();
            // SAFETY: as above; `path` ends with NUL.
            check(unsafe {
                if at.follows() {
                    libc::getxattr(path.as_ptr().cast(), name.as_ptr(), pointer.cast(), len)
                } else {
                    libc::lgetxattr(path.as_ptr().cast(), name.as_ptr(), pointer.cast(), len)
                }
            } as c_long)
        },
    )
}

pub(super) fn set_xattr(at: At<'_>, name: &CStr, value: &[u8]) -> SysResult<()> {
    with_fallback(
        at,
        || {
            let args = XattrArgs { value: value.as_ptr() as u64, size: value.len() as u32, flags: 0 };
            // SAFETY: both names are NUL-terminated; `args` outlives the call and names `value`, which is only read.
            check(unsafe {
                libc::syscall(
                    SYS_SETXATTRAT,
                    at.fd.as_raw_fd(),
                    at.name.as_ptr(),
                    at.flags(),
                    name.as_ptr(),
                    &raw const args,
                    size_of::<XattrArgs>(),
                )
            })
        },
        || {
            let path = at.proc_path();
            let set = if at.follows() { libc::setxattr } else { libc::lsetxattr };
            // SAFETY: as above; `path` ends with NUL.
            check(c_long::from(unsafe {
                set(path.as_ptr().cast(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
            }))
        },
    )
    .map(drop)
}

pub(super) fn remove_xattr(at: At<'_>, name: &CStr) -> SysResult<()> {
    with_fallback(
        at,
        // SAFETY: both names are NUL-terminated.
        || {
            check(unsafe {
                libc::syscall(SYS_REMOVEXATTRAT, at.fd.as_raw_fd(), at.name.as_ptr(), at.flags(), name.as_ptr())
            })
        },
        || {
            let path = at.proc_path();
            let remove = if at.follows() { libc::removexattr } else { libc::lremovexattr };
            // SAFETY: as above; `path` ends with NUL.
            check(c_long::from(unsafe { remove(path.as_ptr().cast(), name.as_ptr()) }))
        },
    )
    .map(drop)
}

/// Sets the mode of the inode that an `O_PATH` descriptor holds (`fchmod` refuses those).
pub(super) fn chmod_held(fd: BorrowedFd<'_>, mode: u32) -> SysResult<()> {
    // SAFETY: the empty name is NUL-terminated.
    let answer = check(unsafe {
        libc::syscall(SYS_FCHMODAT2, fd.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH as c_uint)
    });
    if answer != Err(Errno::NOSYS) {
        return answer.map(drop);
    }
    // Before Linux 6.6: the link below /proc leads to exactly the held inode.
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    path.push(0);
    // SAFETY: `path` ends with NUL.
    check(c_long::from(unsafe { libc::chmod(path.as_ptr().cast(), mode) })).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct CachestatRange {
    offset: u64,
    len: u64,
}

#[repr(C)]
#[derive(Default)]
struct Cachestat {
    cached: u64,
    dirty: u64,
    writeback: u64,
    evicted: u64,
    recently_evicted: u64,
}

/// Pages of the file's first `len` bytes that are in memory; `None` where the kernel (before 6.5) does not tell.
pub(super) fn cached_pages(fd: BorrowedFd<'_>, len: u64) -> Option<u64> {
    let range = CachestatRange { offset: 0, len };
    let mut stat = Cachestat::default();
    // SAFETY: both structures have the kernel's layout and outlive the call.
    let answer =
        check(unsafe { libc::syscall(SYS_CACHESTAT, fd.as_raw_fd(), &raw const range, &raw mut stat, 0 as c_uint) });
    answer.ok().map(|_| stat.cached)
}

/// Room for this many extents in one call.
const EXTENTS: usize = 64;
const FS_IOC_FIEMAP: u64 = 0xC020_660B;
const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;
const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; EXTENTS],
}

/// Calls `each` with the start and length of every extent that is allocated and was never written.
pub(super) fn unwritten_extents(fd: BorrowedFd<'_>, mut each: impl FnMut(u64, u64)) -> SysResult<()> {
    let mut start = 0;
    loop {
        let mut map = Fiemap {
            start,
            length: u64::MAX - start,
            flags: FIEMAP_FLAG_SYNC,
            mapped: 0,
            count: EXTENTS as u32,
            reserved: 0,
            extents: [FiemapExtent::default(); EXTENTS],
        };
        // SAFETY: the structure has the kernel's layout, with room for as many extents as `count` says.
        check(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) }))?;
        let mapped = &map.extents[..(map.mapped as usize).min(EXTENTS)];
        for extent in mapped.iter().filter(|e| e.flags & FIEMAP_EXTENT_UNWRITTEN != 0) {
            each(extent.logical, extent.length);
        }
        match mapped.last() {
            Some(last) if last.flags & FIEMAP_EXTENT_LAST == 0 && last.logical + last.length > start => {
                start = last.logical + last.length;
            }
            _ => return Ok(()),
        }
    }
}

/// Raises the limit of open descriptors to what is allowed and returns it.
pub(crate) fn raise_open_files_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return limit.maximum.unwrap_or(u64::MAX);
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Processor time that this process has used, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel fills the structure; it is zeroed, so it is initialised also if the call failed.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own what they name")]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use rustix::fs::{Mode, OFlags};

    use super::*;

    /// A file without a name, so that nothing is left behind.
    fn scratch() -> OwnedFd {
        let dir = std::env::temp_dir();
        rustix::fs::open(&dir, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)).expect("temporary file")
    }

    fn at(fd: &OwnedFd) -> At<'_> {
        At { fd: fd.as_fd(), name: c"", held: false }
    }

    #[test]
    fn close_reports_success() {
        assert_eq!(close(scratch()), Ok(()));
    }

    #[test]
    fn xattrs_are_set_listed_read_and_removed_by_descriptor() {
        let fd = scratch();
        if set_xattr(at(&fd), c"user.test", b"value") == Err(Errno::OPNOTSUPP) {
            eprintln!(
                "SKIPPED xattrs_are_set_listed_read_and_removed_by_descriptor: no xattrs in the temporary directory"
            );
            return;
        }
        let mut buffer = [0; 100];
        let len = list_xattrs(at(&fd), &mut buffer).expect("list");
        assert!(buffer[..len].split(|b| *b == 0).any(|name| name == b"user.test"));
        assert_eq!(get_xattr(at(&fd), c"user.test", &mut buffer), Ok(5));
        assert_eq!(&buffer[..5], b"value");
        assert_eq!(get_xattr(at(&fd), c"user.test", &mut []), Ok(5));
        assert_eq!(remove_xattr(at(&fd), c"user.test"), Ok(()));
        assert_eq!(get_xattr(at(&fd), c"user.test", &mut buffer), Err(Errno::NODATA));
    }

    #[test]
    fn the_way_through_proc_finds_the_same_attributes() {
        let fd = scratch();
        if set_xattr(at(&fd), c"user.test", b"value").is_err() {
            eprintln!("SKIPPED the_way_through_proc_finds_the_same_attributes: no xattrs in the temporary directory");
            return;
        }
        NO_XATTRAT.store(true, Ordering::Relaxed);
        let mut buffer = [0; 100];
        let old = get_xattr(at(&fd), c"user.test", &mut buffer);
        NO_XATTRAT.store(false, Ordering::Relaxed);
        assert_eq!(old, Ok(5));
    }

    #[test]
    fn the_mode_of_a_held_inode_can_be_set() {
        let path = std::env::temp_dir().join(format!("manila-data-held-{}", std::process::id()));
        let made = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        rustix::fs::open(&path, made, Mode::from_raw_mode(0o600)).expect("file");
        let held = rustix::fs::open(&path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).expect("held");
        assert_eq!(chmod_held(held.as_fd(), 0o4711), Ok(()));
        let mode = rustix::fs::fstat(&held).expect("stat").st_mode & 0o7777;
        rustix::fs::unlink(&path).expect("removed");
        assert_eq!(mode, 0o4711);
    }

    #[test]
    fn cachestat_counts_written_pages() {
        let mut file = std::fs::File::from(scratch());
        file.write_all(&[1; 8192]).expect("write");
        let pages = cached_pages(file.as_fd(), 8192);
        assert!(pages.is_none() || pages >= Some(1), "{pages:?}");
    }

    #[test]
    fn preallocated_space_is_found_unwritten() {
        let fd = scratch();
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        if rustix::fs::fallocate(&fd, keep, 0, 1 << 20).is_err() {
            eprintln!("SKIPPED preallocated_space_is_found_unwritten: no fallocate in the temporary directory");
            return;
        }
        let mut total = 0;
        match unwritten_extents(fd.as_fd(), |_, len| total += len) {
            Err(Errno::OPNOTSUPP) => {
                eprintln!("SKIPPED preallocated_space_is_found_unwritten: no FIEMAP in the temporary directory");
            }
            answer => {
                assert_eq!(answer, Ok(()));
                assert!(total >= 1 << 20, "{total}");
            }
        }
    }

    #[test]
    fn processor_time_only_grows() {
        let before = cpu_seconds();
        assert!(cpu_seconds() >= before);
        assert!(raise_open_files_limit() > 0);
    }
}
