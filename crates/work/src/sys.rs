//! The system calls of this crate that rustix has not, and the preparation of children between fork and exec. The
//! second place of the project where `unsafe` may stand.
#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::io::Errno;

fn check(result: c_long) -> Result<(), Errno> {
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// Gives the calling process a mount namespace of its own, and its children a process namespace.
pub(crate) fn unshare_mounts_and_processes() -> Result<(), Errno> {
    // SAFETY: no memory is passed; a single-threaded caller shares no file system context with anybody.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWPID) }))
}

/// Gives the calling process a mount namespace of its own.
pub(crate) fn unshare_mounts() -> Result<(), Errno> {
    // SAFETY: no memory is passed; a single-threaded caller shares no file system context with anybody.
    check(c_long::from(unsafe { libc::unshare(libc::CLONE_NEWNS) }))
}

pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
pub(crate) const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
pub(crate) const ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes of a mount and of all mounts below it, and lets none of them take part in propagation any more.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u64) -> Result<(), Errno> {
    let attr = MountAttr { set, clear: 0, propagation: libc::MS_PRIVATE, user_namespace: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty string; `attr` outlives the call, and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })
}

/// Signals that reach a whole group or control group, where only the service is meant: it then stops its workers.
const SERVICE_SIGNALS: [c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// What a child is given between fork and exec.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Preparation {
    /// Begins a session of its own.
    pub(crate) session: bool,
    /// Is killed when its parent's thread ends.
    pub(crate) dies_with_parent: bool,
    /// Leaves to its orders what a terminal or service manager would end it for; otherwise such signals do what they
    /// do by default.
    pub(crate) deaf: bool,
    /// The only descriptor, beside the first three, that it inherits.
    pub(crate) keep: Option<RawFd>,
}

/// Lets a command prepare its child so.
pub(crate) fn prepare(command: &mut Command, preparation: Preparation) {
    let parent = rustix::process::getpid();
    let prepare = move || {
        let error = |errno: Errno| std::io::Error::from_raw_os_error(errno.raw_os_error());
        if preparation.session {
            rustix::process::setsid().map_err(error)?;
        }
        if preparation.dies_with_parent {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(error)?;
            // It may have died before the call. A parent outside the child's process namespace has no number in it.
            if rustix::process::getppid().is_some_and(|now| now != parent) {
                return Err(error(Errno::SRCH));
            }
        }
        for signal in SERVICE_SIGNALS {
            let action = if preparation.deaf { libc::SIG_IGN } else { libc::SIG_DFL };
            // SAFETY: both are dispositions without a handler.
            if unsafe { libc::signal(signal, action) } == libc::SIG_ERR {
                return Err(error(last_errno()));
            }
        }
        // SAFETY: no memory is passed; descriptors are only marked, so that nothing in this process loses one.
        check(unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })
            .map_err(error)?;
        if let Some(kept) = preparation.keep {
            // SAFETY: no memory is passed; the caller holds the descriptor open until the child was made.
            check(c_long::from(unsafe { libc::fcntl(kept, libc::F_SETFD, 0) })).map_err(error)?;
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls alone: it neither allocates nor takes a lock that another thread of the
    // parent may have held at the fork.
    unsafe { command.pre_exec(prepare) };
}

/// Ends the process at once, without a word to anybody.
pub(crate) fn end_process(code: c_int) -> ! {
    // SAFETY: takes no memory and does not return.
    unsafe { libc::_exit(code) }
}
