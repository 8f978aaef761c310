//! What must be remembered between runs, in a state directory outside both trees: which boot of the machine wrote last,
//! and up to which moment of the destination's clock everything is durable.
//!
//! One small file for each pair of trees, replaced as a whole. Nothing is kept per entry: an entry whose change time is
//! before the barrier was made durable by it.

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use xxhash_rust::xxh3;

use crate::error::CopyError;
use crate::meta::{Metadata, Timestamp};

const MAGIC: &str = "manila-data copy state 1";

/// Which entries of the destination, whose size and time are right, may be believed to have the right content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    All,
    /// Those that were last changed before this moment of the destination's clock.
    Before(Timestamp),
    Nothing,
}

impl Trust {
    pub(crate) fn covers(&self, dest: &Metadata) -> bool {
        match self {
            Self::All => true,
            // The same tick of a coarse clock may be before or after it.
            Self::Before(barrier) => dest.ctime < *barrier,
            Self::Nothing => false,
        }
    }
}

/// The remembered state of one pair of trees, locked for this process.
#[derive(Debug)]
pub(crate) struct State {
    dir: OwnedFd,
    name: String,
    key: Key,
    /// The lock lasts as long as this is open.
    _lock: OwnedFd,
    /// Writes of an earlier boot are in doubt until a run has gone to its end: no barrier of this one may cover them.
    in_doubt: bool,
    carried: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    source: Vec<u8>,
    dest: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// The boot that wrote, or nothing where that does not help.
    boot: Option<String>,
    complete: bool,
    barrier: Option<Timestamp>,
}

impl State {
    /// Opens and locks the state of a pair of trees, and tells what of the destination can be believed.
    pub(crate) fn open(dir: &Path, source: &[u8], dest: &[u8]) -> Result<(Self, Trust), CopyError> {
        let boot = boot_id();
        Self::open_on_boot(dir, source, dest, boot.as_deref())
    }

    fn open_on_boot(dir: &Path, source: &[u8], dest: &[u8], boot: Option<&str>) -> Result<(Self, Trust), CopyError> {
        let shown = crate::path::escape(dir.as_os_str().as_encoded_bytes());
        let dir = open_dir(dir).map_err(|errno| failed(format!("cannot open `{shown}`"), errno))?;
        let key = Key { source: source.to_vec(), dest: dest.to_vec() };
        // The destination alone: two copies into one tree must not run side by side, wherever they come from.
        let lock = lock(&dir, &format!("{:016x}.lock", xxh3::xxh3_64(dest)))?;
        let mut both = key.source.clone();
        both.push(0);
        both.extend_from_slice(dest);
        let name = format!("{:032x}.state", xxh3::xxh3_128(&both));
        let mut state = Self { dir, name, key, _lock: lock, in_doubt: false, carried: None };
        let (trust, carried) = match state.read()? {
            None => (Trust::All, None),
            Some(Record { complete: true, barrier, .. }) => (Trust::All, barrier),
            Some(Record { boot: wrote, barrier, .. }) if wrote.is_some() && wrote.as_deref() == boot => {
                (Trust::All, barrier)
            }
            Some(Record { barrier, .. }) => (barrier.map_or(Trust::Nothing, Trust::Before), barrier),
        };
        state.in_doubt = trust != Trust::All;
        state.carried = carried;
        state.write(&Record { boot: state.boot_to_write(boot), complete: false, barrier: carried })?;
        Ok((state, trust))
    }

    fn boot_to_write(&self, boot: Option<&str>) -> Option<String> {
        boot.filter(|_| !self.in_doubt).map(str::to_owned)
    }

    /// Everything that was changed before `at` is durable.
    pub(crate) fn barrier(&mut self, at: Timestamp) -> Result<(), CopyError> {
        if self.in_doubt {
            return Ok(());
        }
        self.carried = self.carried.max(Some(at));
        self.write(&Record { boot: boot_id(), complete: false, barrier: self.carried })
    }

    /// Storage lost writes: which ones is unknown, so nothing after the last barrier can be believed on any boot.
    pub(crate) fn doubt(&mut self) -> Result<(), CopyError> {
        self.in_doubt = true;
        self.write(&Record { boot: None, complete: false, barrier: self.carried })
    }

    /// The run went to its end and everything is durable.
    pub(crate) fn complete(&mut self, at: Option<Timestamp>) -> Result<(), CopyError> {
        self.write(&Record { boot: None, complete: true, barrier: self.carried.max(at) })
    }

    fn read(&self) -> Result<Option<Record>, CopyError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(format!("cannot open `{}`", self.name), errno)),
        };
        let mut text = String::new();
        let read = std::fs::File::from(fd).take(1 << 20).read_to_string(&mut text);
        if text.lines().next().is_some_and(|line| line.starts_with("manila-data copy state ") && line != MAGIC) {
            let what = format!("`{}` was written by a newer version of this program", self.name);
            return Err(CopyError::State { what, source: None });
        }
        // Damaged: nothing is known, so nothing is believed.
        let unknown = Record { boot: None, complete: false, barrier: None };
        Ok(Some(read.ok().and_then(|_| parse(&text, &self.key)).unwrap_or(unknown)))
    }

    fn write(&self, record: &Record) -> Result<(), CopyError> {
        let text = render(record, &self.key);
        let temporary = format!("{}.new", self.name);
        let write = || -> Result<(), std::io::Error> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let fd = rustix::fs::openat(&self.dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
            let mut file = std::fs::File::from(fd);
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            rustix::fs::renameat(&self.dir, &temporary, &self.dir, &self.name)?;
            rustix::fs::fsync(&self.dir)?;
            Ok(())
        };
        write()
            .map_err(|source| CopyError::State { what: format!("cannot write `{}`", self.name), source: Some(source) })
    }
}

fn failed(what: String, errno: Errno) -> CopyError {
    CopyError::State { what, source: Some(errno.into()) }
}

/// Makes the directory, and those above it, for the owner alone.
fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    let mut prefix = std::path::PathBuf::new();
    for component in path.components() {
        prefix.push(component);
        match rustix::fs::mkdirat(CWD, &prefix, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST | Errno::ROFS | Errno::ACCESS | Errno::PERM | Errno::ISDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
    rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn lock(dir: &OwnedFd, name: &str) -> Result<OwnedFd, CopyError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let error = |errno| failed(format!("cannot lock `{name}`"), errno);
    let fd = rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(error)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = [0; 20];
            let len = rustix::io::pread(&fd, &mut pid, 0).unwrap_or(0);
            let pid = std::str::from_utf8(&pid[..len]).unwrap_or("").trim().to_owned();
            return Err(CopyError::Busy { pid: if pid.is_empty() { "unknown".into() } else { pid } });
        }
        Err(errno) => return Err(error(errno)),
    }
    // For the message above only, so a failure does no harm.
    let pid = format!("{:<20}", std::process::id());
    let _ = rustix::io::pwrite(&fd, pid.as_bytes(), 0);
    Ok(fd)
}

fn boot_id() -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(CWD, "/proc/sys/kernel/random/boot_id", flags, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(fd).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    })
}

fn render(record: &Record, key: &Key) -> String {
    let barrier = record.barrier.map_or("none".into(), |t| format!("{} {}", t.seconds, t.nanos));
    let body = format!(
        "{MAGIC}\nsource {}\ndest {}\nboot {}\ncomplete {}\nbarrier {barrier}\n",
        hex(&key.source),
        hex(&key.dest),
        record.boot.as_deref().unwrap_or("none"),
        if record.complete { "yes" } else { "no" },
    );
    format!("{body}sum {:016x}\n", xxh3::xxh3_64(body.as_bytes()))
}

fn parse(text: &str, key: &Key) -> Option<Record> {
    let (body, sum) = text.split_at(text.rfind("sum ")?);
    if sum.trim() != format!("sum {:016x}", xxh3::xxh3_64(body.as_bytes())) {
        return None;
    }
    let mut lines = body.lines().skip(1);
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    if field("source")? != hex(&key.source) || field("dest")? != hex(&key.dest) {
        return None;
    }
    let boot = Some(field("boot")?).filter(|id| *id != "none").map(str::to_owned);
    let complete = field("complete")? == "yes";
    let barrier = match field("barrier")? {
        "none" => None,
        time => {
            let (seconds, nanos) = time.split_once(' ')?;
            Some(Timestamp { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok()? })
        }
    };
    Some(Record { boot, complete, barrier })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests own their temporary directory")]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanos: 5 }
    }

    /// A directory of this test's own, removed at the end.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("manila-data-state-{name}-{}", std::process::id()));
            Self(path)
        }

        fn open(&self, boot: &str) -> Result<(State, Trust), CopyError> {
            State::open_on_boot(&self.0, b"/a\n", b"/b", Some(boot))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_same_boot_believes_all_and_another_only_what_a_barrier_covered() {
        let scratch = Scratch::new("boot");
        let real = boot_id().expect("a boot has an id");
        let (mut state, trust) = scratch.open(&real).expect("first");
        assert_eq!(trust, Trust::All);
        state.barrier(at(100)).expect("barrier");
        drop(state);
        assert_eq!(scratch.open(&real).expect("same boot").1, Trust::All);
        assert_eq!(scratch.open("another").expect("other boot").1, Trust::Before(at(100)));
        // Doubt stays until a run is complete, whatever boot it runs on.
        let (mut state, trust) = scratch.open("another").expect("again");
        assert_eq!(trust, Trust::Before(at(100)));
        state.barrier(at(200)).expect("does not cover the doubtful");
        drop(state);
        let (mut state, trust) = scratch.open("another").expect("again");
        assert_eq!(trust, Trust::Before(at(100)));
        state.complete(Some(at(300))).expect("complete");
        drop(state);
        assert_eq!(scratch.open("third").expect("after completion").1, Trust::All);
        assert_eq!(scratch.open("fourth").expect("killed at once").1, Trust::Before(at(300)));
    }

    #[test]
    fn lost_writes_are_doubted_on_the_same_boot_too() {
        let scratch = Scratch::new("doubt");
        let real = boot_id().expect("a boot has an id");
        let (mut state, _) = scratch.open(&real).expect("first");
        state.doubt().expect("doubt");
        drop(state);
        assert_eq!(scratch.open(&real).expect("same boot").1, Trust::Nothing);
    }

    #[test]
    fn two_copies_into_one_destination_are_refused() {
        let scratch = Scratch::new("lock");
        let _first = scratch.open("x").expect("first");
        let second = State::open_on_boot(&scratch.0, b"/elsewhere", b"/b", Some("x"));
        assert!(matches!(second, Err(CopyError::Busy { .. })), "{second:?}");
    }

    #[test]
    fn a_damaged_file_is_doubted_and_a_newer_one_refused() {
        let scratch = Scratch::new("damage");
        let (mut state, _) = scratch.open("x").expect("first");
        state.complete(Some(at(1))).expect("complete");
        let path = scratch.0.join(&state.name);
        drop(state);
        let text = std::fs::read_to_string(&path).expect("text");
        std::fs::write(&path, text.replace("complete yes", "complete yed")).expect("damage");
        assert_eq!(scratch.open("x").expect("opens").1, Trust::Nothing);
        std::fs::write(&path, "manila-data copy state 2\n").expect("newer");
        let error = scratch.open("x").expect_err("must be refused");
        assert!(error.to_string().contains("newer version"), "{error}");
    }

    #[test]
    fn a_barrier_covers_what_was_changed_strictly_before() {
        let meta = |seconds| Metadata { ctime: at(seconds), ..crate::meta::tests_support::plain() };
        let trust = Trust::Before(at(10));
        assert!(trust.covers(&meta(9)) && !trust.covers(&meta(10)) && !trust.covers(&meta(11)));
    }
}
