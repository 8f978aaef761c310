//! A FUSE file system in memory whose operations fail, come short, come late or never answer, as a test wants it.
//!
//! It speaks the kernel's protocol by itself: libraries answer interrupts on their own, so that a request that never
//! returns could not be ended by a signal, as it can on network storage. `syncfs` does not arrive here: the kernel sends
//! it to virtiofs and to block-device servers only. Needs root for the mount.

mod server;
mod store;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::disk::{SkipReason, TempDir, need_root};
use store::Store;

/// Requests of the kernel, as a test names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FuseOp {
    Lookup,
    GetAttr,
    /// Size, owner, mode and times.
    SetAttr,
    ReadLink,
    Symlink,
    MakeNode,
    MakeDir,
    Unlink,
    RemoveDir,
    Rename,
    Link,
    Open,
    Read,
    Write,
    StatFs,
    /// The last close; the kernel tells its answer to nobody.
    Release,
    Fsync,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    /// Every close; its answer is that of `close`.
    Flush,
    OpenDir,
    ReadDir,
    ReleaseDir,
    Create,
    Allocate,
    Seek,
    SyncFs,
}

/// What comes instead of a right answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Error(Errno),
    /// A write takes at most this many bytes.
    Short(usize),
    /// None until the caller is interrupted, as on a network mount that a fatal signal can leave.
    Hang,
    /// None until the file system goes away: even a killed caller stays.
    HangForGood,
    /// The right one, this much later.
    Late(Duration),
}

/// Which requests get another answer.
#[derive(Clone, Debug)]
pub struct Rule {
    pub op: FuseOp,
    /// Only those about an entry of this name.
    pub name: Option<Vec<u8>>,
    /// The first of them that it applies to, from 1.
    pub from: u64,
    /// To how many it applies.
    pub times: u64,
    pub answer: Answer,
}

impl Rule {
    /// Every request of the kind.
    pub fn always(op: FuseOp, answer: Answer) -> Self {
        Self { op, name: None, from: 1, times: u64::MAX, answer }
    }

    /// One request of the kind, counted from 1.
    pub fn nth(op: FuseOp, nth: u64, answer: Answer) -> Self {
        Self { op, name: None, from: nth, times: 1, answer }
    }

    /// Only requests about entries of that name.
    #[must_use]
    pub fn named(mut self, name: &[u8]) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// How the file system is mounted.
#[derive(Clone, Copy, Debug, Default)]
pub struct FuseOptions {
    /// The kernel gathers writes and sends them later: their errors come at close. Otherwise nothing is cached, and
    /// every answer reaches the call that caused the request.
    pub writeback_cache: bool,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<(Rule, u64)>,
    counts: BTreeMap<FuseOp, u64>,
    fired: Vec<(FuseOp, Vec<u8>)>,
}

impl Plan {
    /// Counts a request, and tells what to answer instead.
    fn answer(&mut self, op: FuseOp, path: Vec<u8>) -> Option<Answer> {
        *self.counts.entry(op).or_default() += 1;
        let name = crate::model::split(&path).1;
        let mut answer = None;
        for (rule, seen) in &mut self.rules {
            if rule.op != op || rule.name.as_ref().is_some_and(|wanted| wanted != name) {
                continue;
            }
            *seen += 1;
            if answer.is_none() && *seen >= rule.from && *seen - rule.from < rule.times {
                answer = Some(rule.answer);
            }
        }
        if answer.is_some() {
            self.fired.push((op, path));
        }
        answer
    }
}

/// What the threads of a file system share.
struct Shared {
    device: File,
    store: Mutex<Store>,
    plan: Mutex<Plan>,
    hung: Mutex<BTreeSet<u64>>,
    options: FuseOptions,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted file system. Dropped, it ends whatever hangs in it, and is unmounted.
pub struct FuseFs {
    shared: Arc<Shared>,
    target: PathBuf,
    threads: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl std::fmt::Debug for FuseFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FuseFs").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Requests that are answered at once; a late answer keeps one of them.
const THREADS: usize = 16;

impl FuseFs {
    /// Mounts an empty file system.
    pub fn mount(options: FuseOptions) -> Result<Self, SkipReason> {
        need_root()?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|error| SkipReason(format!("cannot open /dev/fuse: {error}")))?;
        let dir = TempDir::new();
        let target = dir.subdir("mount");
        let data =
            format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device.as_raw_fd());
        let data = std::ffi::CString::new(data).expect("numbers hold no NUL");
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount("testkit", &target, "fuse.testkit", flags, &*data)
            .map_err(|errno| SkipReason(format!("cannot mount a FUSE file system: {errno}")))?;
        let shared = Arc::new(Shared {
            device,
            store: Mutex::new(Store::new()),
            plan: Mutex::default(),
            hung: Mutex::default(),
            options,
        });
        // Lent before the first thread, so that the mount goes away whatever happens from here on.
        let mut fs = Self { shared, target, threads: Vec::new(), _dir: dir };
        for _ in 0..THREADS {
            let shared = fs.shared.clone();
            fs.threads
                .push(std::thread::Builder::new().name("fuse".into()).spawn(move || server::serve(&shared)).unwrap());
        }
        Ok(fs)
    }

    /// The root of the file system.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// Makes a directory in it and gives its path.
    #[track_caller]
    pub fn subdir(&self, name: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// From now on requests are answered by these rules, the first that applies wins; counts begin anew.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        *lock(&self.shared.plan) = Plan { rules: rules.into_iter().map(|rule| (rule, 0)).collect(), ..Plan::default() };
    }

    /// From now on every request gets its right answer.
    pub fn clear_rules(&self) {
        self.set_rules([]);
    }

    /// Requests that a rule was applied to, with the path below the mount that they were about.
    pub fn fired(&self) -> Vec<(FuseOp, Vec<u8>)> {
        lock(&self.shared.plan).fired.clone()
    }

    /// Requests of a kind since the rules were set.
    pub fn count(&self, op: FuseOp) -> u64 {
        lock(&self.shared.plan).counts.get(&op).copied().unwrap_or_default()
    }
}

impl Drop for FuseFs {
    fn drop(&mut self) {
        // Forced, so that the kernel gives up what is not answered; detached, where somebody still holds it open.
        let forced = rustix::mount::unmount(&self.target, UnmountFlags::NOFOLLOW | UnmountFlags::FORCE);
        let result =
            forced.or_else(|_| rustix::mount::unmount(&self.target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH));
        match result {
            Ok(()) => {
                for thread in self.threads.drain(..) {
                    // It panicked: then the test has failed by an error already.
                    let _ = thread.join();
                }
            }
            Err(errno) => crate::disk::say(&format!("cannot unmount `{}`: {errno}", self.target.display())),
        }
    }
}
