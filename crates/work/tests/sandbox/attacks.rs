//! What a mover that went wrong tries. Each attack fails in the sandbox, fails in each layer alone that is there to
//! stop it, and succeeds when just those layers are away.
#![expect(unsafe_code, reason = "an attacker has no wrapper for his system calls")]

use std::ffi::{CString, c_long, c_void};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command};

use rustix::fs::{AtFlags, CWD, FileType, Mode};
use serde::{Deserialize, Serialize};
use testkit::disk::{TempDir, need_root};
use testkit::lend;
use work::sandbox::Layer::{self, Calls, Files, Rights, View};

use crate::child::{Task, User, What, give_to_nobody, run};
use crate::runner::{Test, tests};

/// What there is to be attacked outside the sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Victim {
    /// A process with memory and an environment.
    pid: i32,
    port: u16,
    abstract_name: String,
}

pub(crate) struct Attack {
    name: &'static str,
    /// Each alone is enough.
    stopped_by: &'static [Layer],
    /// Where it needs root to succeed at all.
    by_root: bool,
    /// Before the sandbox: what a mover may hold when it enters.
    pub(crate) prepare: fn(&Path, &Victim) -> Option<OwnedFd>,
    pub(crate) attempt: fn(&Path, &Victim, Option<OwnedFd>) -> io::Result<()>,
}

type Attempt = fn(&Path, &Victim, Option<OwnedFd>) -> io::Result<()>;

const fn attack(name: &'static str, stopped_by: &'static [Layer], attempt: Attempt) -> Attack {
    Attack { name, stopped_by, by_root: false, prepare: |_, _| None, attempt }
}

const fn by_root(name: &'static str, stopped_by: &'static [Layer], attempt: Attempt) -> Attack {
    Attack { by_root: true, ..attack(name, stopped_by, attempt) }
}

fn check(answer: c_long) -> io::Result<()> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

fn expect_secret(mut file: impl io::Read) -> io::Result<()> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    assert_eq!(text, "secret");
    Ok(())
}

pub(crate) const TESTS: &[Test] = tests![
    what_a_mover_with_the_rights_of_root_tries_fails,
    what_a_mover_of_an_ordinary_user_tries_fails,
    a_mover_whose_repository_is_on_a_server_reaches_that_server_alone,
    the_kernel_says_what_a_mover_gave_up,
];

const ATTACKS: &[Attack] = &[
    attack("reads a file outside", &[View, Files], |place, _, _| {
        expect_secret(File::open(place.join("outside/secret"))?)
    }),
    attack("lists a directory outside", &[View, Files], |place, _, _| {
        std::fs::read_dir(place.join("outside"))?.next().unwrap().map(drop)
    }),
    attack("makes a file outside", &[View, Files], |place, _, _| File::create_new(place.join("outside/new")).map(drop)),
    attack("writes a file outside", &[View, Files], |place, _, _| {
        File::options().write(true).open(place.join("outside/secret")).map(drop)
    }),
    attack("cuts a file outside", &[View, Files, Calls], |place, _, _| {
        // SAFETY: the path ends with NUL.
        check(unsafe { libc::truncate(c(place.join("outside/secret")).as_ptr(), 0) }.into())
    }),
    attack("moves a file of the tree outside", &[View, Files], |place, _, _| {
        Ok(rustix::fs::renameat(CWD, place.join("dest/file"), CWD, place.join("outside/moved"))?)
    }),
    attack("removes a file outside", &[View, Files], |place, _, _| {
        Ok(rustix::fs::unlinkat(CWD, place.join("outside/secret"), AtFlags::empty())?)
    }),
    attack("follows a link that lies in the source", &[View, Files], |place, _, _| {
        expect_secret(File::open(place.join("source/link"))?)
    }),
    attack("makes a link in the destination and follows it", &[View, Files], |place, _, _| {
        rustix::fs::symlinkat(place.join("outside/secret"), CWD, place.join("dest/link"))?;
        expect_secret(File::open(place.join("dest/link"))?)
    }),
    attack("writes to the source", &[View, Files], |place, _, _| File::create_new(place.join("source/new")).map(drop)),
    attack("changes the mode of a file outside", &[View], |place, _, _| {
        std::fs::set_permissions(place.join("outside/secret"), PermissionsExt::from_mode(0o666))
    }),
    by_root("changes the owner of a file outside", &[View], |place, _, _| {
        let owner = (Some(rustix::fs::Uid::from_raw(7)), Some(rustix::fs::Gid::from_raw(7)));
        Ok(rustix::fs::chownat(CWD, place.join("outside/secret"), owner.0, owner.1, AtFlags::empty())?)
    }),
    attack("sets an attribute of a file outside", &[View], |place, _, _| {
        let (path, value) = (c(place.join("outside/secret")), b"value");
        // SAFETY: both texts end with NUL, and the value is as long as it says.
        let set = unsafe { libc::setxattr(path.as_ptr(), c"user.x".as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        check(set.into())
    }),
    by_root("makes a device outside", &[View, Files], |place, _, _| make_null(&place.join("outside/null"))),
    by_root("makes a device in the destination and opens it", &[View], |place, _, _| {
        make_null(&place.join("dest/null"))?;
        File::open(place.join("dest/null")).map(drop)
    }),
    attack("reads through another process's root", &[Files, Rights], |place, victim, _| {
        let outside = place.join("outside/secret");
        let below = outside.strip_prefix("/").unwrap();
        expect_secret(File::open(Path::new(&format!("/proc/{}/root", victim.pid)).join(below))?)
    }),
    attack("reads another process's environment", &[Files, Rights], |_, victim, _| {
        File::open(format!("/proc/{}/environ", victim.pid))?.read_to_end(&mut Vec::new()).map(drop)
    }),
    Attack {
        prepare: |place, _| handle(place),
        ..by_root("opens a file outside by its handle", &[Files, Calls], open_handle)
    },
    by_root("mounts", &[Files, Rights, Calls], |place, _, _| {
        // SAFETY: all texts end with NUL.
        let flags = libc::MS_NOEXEC;
        check(
            unsafe {
                libc::mount(
                    c"none".as_ptr(),
                    c(place.join("dest")).as_ptr(),
                    c"tmpfs".as_ptr(),
                    flags,
                    std::ptr::null(),
                )
            }
            .into(),
        )
    }),
    by_root("unmounts", &[Files, Rights, Calls], |_, _, _| {
        // SAFETY: the text ends with NUL.
        check(unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) }.into())
    }),
    attack("makes a namespace of its own", &[Calls], |_, _, _| {
        // SAFETY: no memory is passed.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER) }.into())
    }),
    Attack {
        prepare: |_, victim| Some(File::open(format!("/proc/{}/ns/uts", victim.pid)).unwrap().into()),
        ..by_root("enters another process's namespace", &[Rights, Calls], |_, _, held| {
            // SAFETY: no memory is passed.
            check(unsafe { libc::setns(held.unwrap().as_raw_fd(), 0) }.into())
        })
    },
    attack("traces another process", &[Files, Rights, Calls], |_, victim, _| {
        let none = std::ptr::null_mut::<c_void>();
        // SAFETY: no memory is passed.
        check(unsafe { libc::ptrace(libc::PTRACE_SEIZE, victim.pid, none, none) })
    }),
    attack("reads another process's memory", &[Files, Rights, Calls], |_, victim, _| {
        let mut byte = [0_u8; 1];
        let local = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        // Nothing is at this address: whoever may look is told so, and whoever may not is refused before.
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(8), iov_len: 1 };
        // SAFETY: both vectors have one element; the kernel checks the addresses.
        match check(
            unsafe { libc::process_vm_readv(victim.pid, &raw const local, 1, &raw const remote, 1, 0) } as c_long
        ) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Ok(()),
            answer => answer,
        }
    }),
    attack("runs a program", &[View, Files, Calls], |_, _, _| {
        let arguments = [c"echo".as_ptr(), c"ANSWER succeeded".as_ptr(), std::ptr::null()];
        // SAFETY: the texts end with NUL, the list with a null pointer.
        check(unsafe { libc::execv(c"/bin/echo".as_ptr(), arguments.as_ptr()) }.into())
    }),
    attack("makes a process", &[Calls], |_, _, _| {
        // SAFETY: the child does nothing but end.
        match unsafe { libc::fork() } {
            // SAFETY: takes no memory and does not return.
            0 => unsafe { libc::_exit(0) },
            child => check(child.into()),
        }
    }),
    attack("makes a socket", &[Calls], |_, _, _| UnixStream::pair().map(drop)),
    attack("connects over TCP", &[Files, Calls], |_, victim, _| {
        TcpStream::connect(("127.0.0.1", victim.port)).map(drop)
    }),
    attack("connects to an abstract socket", &[Files, Calls], |_, victim, _| {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(&victim.abstract_name)?).map(drop)
    }),
    attack("sends another process a signal", &[Files, Calls], |_, victim, _| {
        // SAFETY: no memory is passed.
        check(unsafe { libc::kill(victim.pid, libc::SIGCONT) }.into())
    }),
    attack("makes an io_uring", &[Calls], |_, _, _| {
        let mut parameters = [0_u8; 120];
        // SAFETY: the structure of the call has 120 bytes.
        check(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) })
    }),
    by_root("makes a BPF map", &[Rights, Calls], |_, _, _| {
        // An array with keys and values of four bytes.
        let attributes: [u32; 4] = [2, 4, 4, 1];
        // SAFETY: the attributes are as long as told.
        check(unsafe { libc::syscall(libc::SYS_bpf, 0, attributes.as_ptr(), size_of_val(&attributes)) })
    }),
    attack("loads a key", &[Calls], |_, _, _| {
        // To a keyring of the process's own: `KEY_SPEC_PROCESS_KEYRING`.
        // SAFETY: the texts end with NUL, the payload has one byte.
        check(unsafe { libc::syscall(libc::SYS_add_key, c"user".as_ptr(), c"x".as_ptr(), b"x".as_ptr(), 1, -2) })
    }),
    attack("makes memory that is code", &[Calls], |_, _, _| {
        let (prot, flags) =
            (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping that nobody uses.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }),
    attack("changes the limits of another process", &[Calls], |_, victim, _| {
        let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the structure outlives the call.
        check(unsafe { libc::prlimit(victim.pid, libc::RLIMIT_CORE, &raw const limit, std::ptr::null_mut()) }.into())
    }),
];

pub(crate) fn named(name: &str) -> &'static Attack {
    ATTACKS.iter().find(|attack| attack.name == name).unwrap()
}

fn make_null(path: &Path) -> io::Result<()> {
    let null = rustix::fs::makedev(1, 3);
    Ok(rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), null)?)
}

const HANDLE: &str = "source/handle";

#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    body: [u8; 128],
}

/// Keeps the handle of the secret, which names its inode whatever lies between, where the attempt can read it.
fn handle(place: &Path) -> Option<OwnedFd> {
    let mut handle = Handle { bytes: 128, kind: 0, body: [0; 128] };
    let (path, mut mount) = (c(place.join("outside/secret")), 0_i32);
    // SAFETY: the path ends with NUL; the structure has as much room as it says.
    let answer = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, path.as_ptr(), &raw mut handle, &raw mut mount, 0)
    };
    check(answer).unwrap();
    let mut bytes = [handle.bytes.to_ne_bytes(), handle.kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(&handle.body);
    let path = place.join(HANDLE);
    std::fs::write(&path, bytes).unwrap();
    None
}

fn open_handle(place: &Path, _: &Victim, _: Option<OwnedFd>) -> io::Result<()> {
    let bytes = std::fs::read(place.join(HANDLE))?;
    let number = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap();
    let mut handle =
        Handle { bytes: u32::from_ne_bytes(number(0)), kind: i32::from_ne_bytes(number(4)), body: [0; 128] };
    handle.body.copy_from_slice(&bytes[8..]);
    let mount = File::open(place.join("source"))?;
    // SAFETY: the structure is as long as it says.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, libc::O_RDONLY) };
    check(fd)?;
    // SAFETY: the kernel has just given the descriptor to us.
    expect_secret(File::from(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) }))
}

/// Two trees and something outside them.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(user: User) -> Self {
        let dir = TempDir::new();
        for name in ["source", "dest", "state", "report", "outside"] {
            dir.subdir(name);
        }
        std::fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        std::fs::write(dir.path().join("dest/file"), "content").unwrap();
        symlink(dir.path().join("outside/secret"), dir.path().join("source/link")).unwrap();
        if user == User::Nobody {
            give_to_nobody(dir.path());
        }
        Self { dir }
    }
}

/// A process and two listeners, ended with the test.
struct Outside {
    process: Child,
    victim: Victim,
    _tcp: TcpListener,
    _unix: UnixListener,
}

impl Outside {
    fn new(user: User) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new("sleep");
        command.arg("600");
        if user == User::Nobody {
            command.uid(65534).gid(65534);
        }
        let process = command.spawn().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let abstract_name = format!("manila-data-sandbox-{}-{}", std::process::id(), process.id());
        let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&abstract_name).unwrap()).unwrap();
        let victim = Victim { pid: process.id() as i32, port: tcp.local_addr().unwrap().port(), abstract_name };
        Self { process, victim, _tcp: tcp, _unix: unix }
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn attempt(attack: &Attack, victim: &Victim, user: User, layers: &[Layer]) -> String {
    attempt_with(attack, victim, user, layers, None)
}

fn attempt_with(attack: &Attack, victim: &Victim, user: User, layers: &[Layer], server_port: Option<u16>) -> String {
    let place = Place::new(user);
    let what = What::Attack { name: attack.name.into(), victim: victim.clone() };
    run(&Task { server_port, ..Task::new(place.dir.path(), layers, what, user) })
}

fn check_attack(attack: &Attack, victim: &Victim, user: User, stopped_by: &[Layer]) {
    let name = attack.name;
    let answer = attempt(attack, victim, user, &Layer::ALL);
    assert!(answer.starts_with("failed: "), "a mover in the sandbox {name}: {answer}");
    for layer in stopped_by {
        let answer = attempt(attack, victim, user, &[*layer]);
        assert!(answer.starts_with("failed: "), "a mover with {layer:?} alone {name}: {answer}");
    }
    let others: Vec<_> = Layer::ALL.into_iter().filter(|layer| !stopped_by.contains(layer)).collect();
    let answer = attempt(attack, victim, user, &others);
    assert_eq!(answer, "succeeded", "a mover with {others:?} {name}: the attack proves nothing");
}

fn what_a_mover_with_the_rights_of_root_tries_fails() {
    lend!("what_a_mover_with_the_rights_of_root_tries_fails", need_root());
    let outside = Outside::new(User::Same);
    for attack in ATTACKS {
        check_attack(attack, &outside.victim, User::Same, attack.stopped_by);
    }
}

fn what_a_mover_of_an_ordinary_user_tries_fails() {
    lend!("what_a_mover_of_an_ordinary_user_tries_fails", need_root());
    let outside = Outside::new(User::Nobody);
    for attack in ATTACKS.iter().filter(|attack| !attack.by_root) {
        // The other layers are about rights that such a user has not.
        let stopped_by: Vec<_> = attack.stopped_by.iter().copied().filter(|l| [Files, Calls].contains(l)).collect();
        if !stopped_by.is_empty() {
            check_attack(attack, &outside.victim, User::Nobody, &stopped_by);
        }
    }
}

fn a_mover_whose_repository_is_on_a_server_reaches_that_server_alone() {
    lend!("a_mover_whose_repository_is_on_a_server_reaches_that_server_alone", need_root());
    let outside = Outside::new(User::Same);
    // Nobody listens at port 1.
    let (victim, user, another) = (&outside.victim, User::Same, Some(1));
    for attack in ATTACKS.iter().filter(|attack| attack.name != "makes a socket") {
        let answer = attempt_with(attack, victim, user, &Layer::ALL, another);
        assert!(answer.starts_with("failed: "), "a mover with a server {}: {answer}", attack.name);
    }
    let connect = named("connects over TCP");
    let answer = attempt_with(connect, victim, user, &Layer::ALL, Some(victim.port));
    assert_eq!(answer, "succeeded", "it is the port of its server");
    assert!(attempt_with(connect, victim, user, &[Files], another).starts_with("failed: "));
    let answer = attempt_with(connect, victim, user, &[View, Rights, Calls], another);
    assert_eq!(answer, "succeeded", "the attack proves nothing");
}

/// A line of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap().trim()
}

fn check_status(user: User, capabilities: &str) {
    let place = Place::new(user);
    let answer = run(&Task::new(place.dir.path(), &Layer::ALL, What::Status, user));
    let [own, of_thread]: [String; 2] = serde_json::from_str(&answer).unwrap();
    for status in [own, of_thread] {
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        assert_eq!(field(&status, "Seccomp"), "2");
        for set in ["CapEff", "CapPrm"] {
            assert_eq!(field(&status, set), capabilities, "{set}");
        }
        assert_eq!((field(&status, "CapInh"), field(&status, "CapAmb")), ("0000000000000000", "0000000000000000"));
        if user == User::Same {
            assert_eq!(field(&status, "CapBnd"), capabilities);
        }
    }
}

fn the_kernel_says_what_a_mover_gave_up() {
    lend!("the_kernel_says_what_a_mover_gave_up", need_root());
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, LINUX_IMMUTABLE, SYS_ADMIN, MKNOD, SETFCAP.
    let kept: u64 = [0, 1, 2, 3, 4, 9, 21, 27, 31].iter().map(|bit| 1 << bit).sum();
    check_status(User::Same, &format!("{kept:016x}"));
    check_status(User::Nobody, "0000000000000000");
}
