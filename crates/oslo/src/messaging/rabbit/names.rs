//! Names of queues that belong to one process: random ones, or the lasting ones of the queue manager.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use uuid::Uuid;

use super::options::QueueManagerOptions;

/// Where oslo.messaging counts.
const COUNTERS: &str = "/dev/shm";

/// Gives the part of a queue's name that makes it one process's own.
#[derive(Clone, Debug)]
pub(super) enum Namer {
    Random,
    Counted { host: String, process: String, counters: PathBuf, lock_path: PathBuf },
}

impl Namer {
    pub(super) fn new(options: Option<&QueueManagerOptions>, lock_path: Option<&Path>) -> Result<Self, String> {
        let Some(options) = options else { return Ok(Self::Random) };
        let Some(lock_path) = lock_path else {
            return Err("`use_queue_manager` in [oslo_messaging_rabbit] needs `lock_path` in [oslo_concurrency]".into());
        };
        let machine = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Self::Counted {
            host: options.host_name.clone().unwrap_or_else(machine),
            process: options.process_name.clone().unwrap_or_else(program_name),
            counters: COUNTERS.into(),
            lock_path: lock_path.into(),
        })
    }

    /// The next name, as `<32 hex>` or `<host>:<process>:<number>`.
    pub(super) fn next(&self) -> io::Result<String> {
        match self {
            Self::Random => Ok(Uuid::new_v4().simple().to_string()),
            Self::Counted { host, process, counters, lock_path } => {
                let (group, start) = service_identity()?;
                // A slash in a name would lead elsewhere.
                let words = format!("{host}_{process}").replace('/', "_");
                std::fs::create_dir_all(lock_path)?;
                let lock = open(&lock_path.join(format!("oslo_read_shm_{words}")))?;
                // Held until the file is closed; lock files are shared with Python services, which leave them, too.
                rustix::fs::fcntl_lock(&lock, FlockOperation::LockExclusive)?;
                let mut counter = open(&counters.join(format!("{words}_qmanager")))?;
                let number = count(&mut counter, group, start)?;
                drop(lock);
                Ok(format!("{host}:{process}:{number}"))
            }
        }
    }
}

/// The base name of the program, as oslo.messaging takes it from `argv[0]`.
pub(super) fn program_name() -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // The directory of counters can be written by all: what somebody else left there as a link is not followed.
    options.read(true).write(true).create(true).truncate(false).mode(0o644);
    options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32).open(path)
}

/// Counts on for the same run of the service, from 1 for another.
fn count(file: &mut File, group: i32, start: u64) -> io::Result<u64> {
    let mut text = String::new();
    // What is no counter counts as none.
    let _ = (&mut *file).take(256).read_to_string(&mut text);
    let number = match parse(&text) {
        Some((of_group, number, of_start)) if (of_group, of_start) == (group, start) => number + 1,
        _ => 1,
    };
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(format!("{group}:{number}:{start}").as_bytes())?;
    Ok(number)
}

fn parse(text: &str) -> Option<(i32, u64, u64)> {
    let mut words = text.lines().next()?.split(':').map(str::trim);
    let parsed = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(parsed)
}

/// The process group, and when its leader started (in ticks since boot): both together are one run of the service.
fn service_identity() -> io::Result<(i32, u64)> {
    let group = rustix::process::getpgrp().as_raw_nonzero().get();
    let own = || std::fs::read_to_string("/proc/self/stat");
    // The leader can be gone, or out of sight in a container.
    let stat = std::fs::read_to_string(format!("/proc/{group}/stat")).or_else(|_| own())?;
    // The name of the program, in parentheses, can hold anything.
    let after_name = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let start = after_name.split_whitespace().nth(19).and_then(|word| word.parse().ok());
    let start = start.ok_or_else(|| io::Error::other("the kernel does not tell when the service started"))?;
    Ok((group, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_32_hex() {
        let name = Namer::Random.next().unwrap();
        assert!(name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
        assert_ne!(name, Namer::Random.next().unwrap());
    }

    #[test]
    fn lasting_names_count_within_one_run_of_the_service() {
        let dir = testkit::disk::TempDir::new();
        let namer = Namer::Counted {
            host: "h".into(),
            process: "p".into(),
            counters: dir.path().into(),
            lock_path: dir.path().join("locks"),
        };
        assert_eq!(namer.next().unwrap(), "h:p:1");
        assert_eq!(namer.next().unwrap(), "h:p:2");
        let counter = dir.path().join("h_p_qmanager");
        let text = std::fs::read_to_string(&counter).unwrap();
        let (group, start) = service_identity().unwrap();
        assert_eq!(text, format!("{group}:2:{start}"));
        assert!(dir.path().join("locks/oslo_read_shm_h_p").exists());

        std::fs::write(&counter, format!("{group}:7:{}", start + 1)).unwrap();
        assert_eq!(namer.next().unwrap(), "h:p:1", "another run");
        std::fs::write(&counter, format!("{}:7:{start}", group + 1)).unwrap();
        assert_eq!(namer.next().unwrap(), "h:p:1", "another group");
        std::fs::write(&counter, "nonsense\n").unwrap();
        assert_eq!(namer.next().unwrap(), "h:p:1");
        std::fs::write(&counter, format!("{group}:7:{start}\n")).unwrap();
        assert_eq!(namer.next().unwrap(), "h:p:8");
    }

    #[test]
    fn the_queue_manager_needs_a_place_for_locks() {
        let options = QueueManagerOptions { host_name: Some("h".into()), process_name: None };
        assert!(Namer::new(Some(&options), None).unwrap_err().contains("lock_path"));
        let namer = Namer::new(Some(&options), Some(Path::new("/tmp"))).unwrap();
        assert!(matches!(namer, Namer::Counted { process, .. } if process == program_name()));
    }
}
