//! The system calls that the engine makes, and no others. What is not on the list fails as if it were not permitted, so
//! that a call that somebody forgot shows as a fault of an entry and not as the death of the process.

use std::collections::BTreeMap;
use std::ffi::c_long;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::Trouble;

// Numbers of the unified table, for calls that the C library does not name yet.
const CACHESTAT: c_long = 451;
const FCHMODAT2: c_long = 452;
const SETXATTRAT: c_long = 463;
const GETXATTRAT: c_long = 464;
const LISTXATTRAT: c_long = 465;
const REMOVEXATTRAT: c_long = 466;

/// With any arguments.
const PLAIN: &[c_long] = &[
    // Trees, by descriptor.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    // Content.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_copy_file_range,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fadvise64,
    libc::SYS_sync_file_range,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_flock,
    CACHESTAT,
    // Attributes. Those with paths are the ways through /proc/self/fd that older kernels need.
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    FCHMODAT2,
    libc::SYS_utimensat,
    SETXATTRAT,
    GETXATTRAT,
    LISTXATTRAT,
    REMOVEXATTRAT,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    // Memory, threads, time. The kernel makes the next one itself, after a stop in a sleep.
    libc::SYS_restart_syscall,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    // The name of this machine, for snapshots.
    libc::SYS_uname,
    // The pipes to whoever gives the orders.
    libc::SYS_ppoll,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Another filter answers it with "there is no such call", and the C library takes `clone`, whose flags can be seen.
    libc::SYS_clone3,
];

/// What requests to a server take, where a job has one.
const REQUESTS: &[c_long] = &[
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
];

/// What only this architecture has beside the calls above.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[libc::SYS_open, libc::SYS_poll, libc::SYS_readlink, libc::SYS_renameat, libc::SYS_chmod];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[libc::SYS_renameat];

/// Linux 6.4; the C library does not name it yet.
const PR_GET_AUXV: libc::c_int = 0x4155_5856;

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

const FICLONE: u64 = 0x4004_9409;
const FIEMAP: u64 = 0xC020_660B;
const GET_FLAGS: u64 = 0x8008_6601;
const SET_FLAGS: u64 = 0x4008_6602;

/// Whether this kernel can filter calls at all.
pub(super) fn are_filtered_here() -> bool {
    // Reads the state, and fails where there is none.
    rustix::thread::secure_computing_mode().is_ok()
}

/// Installs the filters, also for all threads that are started later.
pub(super) fn filter(has_server: bool) -> Result<(), Trouble> {
    if !are_filtered_here() {
        return Err(Trouble::Missing("the kernel has no seccomp: the mover may make every system call".into()));
    }
    let error = |error: &dyn std::error::Error| Trouble::Failed(format!("cannot filter system calls: {error}"));
    for program in
        programs(has_server).map_err(|text| Trouble::Failed(format!("cannot filter system calls: {text}")))?
    {
        match seccompiler::apply_filter(&program) {
            Err(seccompiler::Error::Seccomp(cause))
                if matches!(cause.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
            {
                return Err(Trouble::Missing(
                    "the kernel has no seccomp filters: the mover may make every system call".into(),
                ));
            }
            answer => answer.map_err(|cause| error(&cause))?,
        }
    }
    Ok(())
}

/// The one for `clone3` first: of several filters the sternest answer counts, and no filter may be added after the list.
fn programs(has_server: bool) -> Result<[BpfProgram; 2], String> {
    let no_such_call = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    Ok([
        program(no_such_call, SeccompAction::Allow, unknown)?,
        program(list(has_server)?, denied, SeccompAction::Allow)?,
    ])
}

fn program(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, otherwise, listed, arch).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}

fn list(has_server: bool) -> Result<BTreeMap<c_long, Vec<SeccompRule>>, String> {
    let requests = if has_server { REQUESTS } else { &[] };
    let mut list: BTreeMap<_, _> = PLAIN.iter().chain(OLD).chain(requests).map(|call| (*call, Vec::new())).collect();
    for (call, argument, answers) in checked(has_server) {
        let rules = answers.into_iter().map(|(operator, value)| {
            let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?;
            SeccompRule::new(vec![condition])
        });
        list.insert(call, rules.collect::<Result<_, _>>().map_err(|error| error.to_string())?);
    }
    Ok(list)
}

/// A call, one of its arguments, and what this may be: any of the values.
type Checked = (c_long, u8, Vec<(SeccompCmpOp, u64)>);

fn checked(has_server: bool) -> Vec<Checked> {
    let only_in = |bits: u64, value: u64| (SeccompCmpOp::MaskedEq(bits), value);
    let equal = |value: u64| (SeccompCmpOp::Eq, value);
    let no_code = only_in(libc::PROT_EXEC as u64, 0);
    let mut controls = vec![FICLONE, FIEMAP, GET_FLAGS, SET_FLAGS];
    let mut checked = Vec::new();
    if has_server {
        controls.push(libc::FIONBIO);
        let domain = |domain: libc::c_int| equal(domain as u64);
        checked.push((libc::SYS_socket, 0, vec![domain(libc::AF_INET), domain(libc::AF_INET6)]));
        // The runtime wakes itself up through one; it leads nowhere else.
        checked.push((libc::SYS_socketpair, 0, vec![domain(libc::AF_UNIX)]));
    }
    checked.extend([
        // Threads of this process, in its own namespaces.
        (libc::SYS_clone, 0, vec![only_in((libc::CLONE_THREAD | NAMESPACES) as u64, libc::CLONE_THREAD as u64)]),
        // No memory that is written becomes code.
        (libc::SYS_mmap, 2, vec![no_code.clone()]),
        (libc::SYS_mprotect, 2, vec![no_code]),
        (libc::SYS_ioctl, 1, controls.into_iter().map(equal).collect()),
        (
            libc::SYS_fcntl,
            1,
            [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC]
                .map(|word| equal(word as u64))
                .into(),
        ),
        // Its own limits.
        (libc::SYS_prlimit64, 0, vec![equal(0)]),
        // Names of its threads, and the size of a page.
        (libc::SYS_prctl, 0, [libc::PR_SET_NAME, PR_GET_AUXV].map(|word| equal(word as u64)).into()),
        // Aborts itself.
        (libc::SYS_tgkill, 0, vec![equal(u64::from(std::process::id()))]),
    ]);
    checked
}
