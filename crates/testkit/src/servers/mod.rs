//! Servers on loan: brokers and databases as children of the test, on free ports of the loopback device.
//!
//! Each is a process group of its own. It ends with its guard, and if the test process dies without running any guard
//! (it is killed, or the guard is in a `static`), a watchdog ends it and removes its directory.

pub mod mariadb;
pub mod postgres;
pub mod rabbitmq;
pub mod rclone;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::disk::SkipReason;

/// Waits on its standard input, which ends with the test process. A line before that calls it off.
const WATCHDOG: &str = r#"read -r called_off && exit 0
kill -s KILL -- "-$1" 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$2" 2>/dev/null && exit 0; sleep 0.5; done"#;

/// How long a small server may take to start, on a machine that has much else to do.
pub const START_LIMIT: Duration = Duration::from_mins(2);
/// How much of a log is shown when its server fails.
const LOG_TAIL_BYTES: u64 = 4096;

/// One program that runs until the guard is dropped, in a process group of its own.
#[derive(Debug)]
pub struct Server {
    name: &'static str,
    child: Child,
    watchdog: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a program. What it prints is appended to `<dir>/<name>.log`; `dir` goes away with the test process.
    #[track_caller]
    pub fn spawn(name: &'static str, mut command: Command, dir: &Path) -> Self {
        let log = dir.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        // What it leaves where it stands, such as a core, is left there.
        command.current_dir(dir).process_group(0);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, "watchdog", &child.id().to_string()]).arg(dir).stdin(Stdio::piped());
        // In a group of its own: an interrupt from the terminal ends the test process, and then it has work to do.
        let watchdog = watchdog.process_group(0).spawn().unwrap();
        Self { name, child, watchdog, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the whole group.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(self.child.id() as i32).expect("a child has a process id");
        rustix::process::kill_process_group(group, signal).unwrap();
    }

    /// Stops the whole group; returns when the last of its threads stands still, which may be a while after the signal.
    #[track_caller]
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let end = Instant::now() + START_LIMIT;
        while !stands_still(self.child.id()) {
            assert!(Instant::now() < end, "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Kills the whole group, which cannot notice, and waits for its end.
    pub fn kill(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }

    /// Ends the program by SIGTERM, and kills its group if that takes longer than `grace`.
    #[track_caller]
    pub fn stop(&mut self, grace: Duration) -> ExitStatus {
        if let Some(status) = self.child.try_wait().unwrap() {
            return status;
        }
        let leader = Pid::from_child(&self.child);
        rustix::process::kill_process(leader, Signal::TERM).unwrap();
        let end = Instant::now() + grace;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.kill();
        ExitStatus::from_raw(Signal::KILL.as_raw())
    }

    /// Waits for a condition; panics with the end of the log when the program ends before, or after `limit`.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + limit;
        while !is_so() {
            let status = self.child.try_wait().unwrap();
            let name = self.name;
            assert!(status.is_none(), "{name} ended before it was {what} ({status:?}):\n{}", self.log_tail());
            assert!(Instant::now() < end, "{name} was not {what} within {limit:?}:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until somebody can connect to it at this port of the loopback device.
    #[track_caller]
    pub fn wait_until_it_listens(&mut self, port: u16, limit: Duration) {
        self.wait_until("ready", limit, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    }

    /// The last lines that it printed.
    pub fn log_tail(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&self.log) {
            let length = file.metadata().map_or(0, |it| it.len());
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut input) = self.watchdog.stdin.take() {
            let _ = input.write_all(b"called off\n");
        }
        let _ = self.watchdog.wait();
    }
}

/// Whether every thread of every process of a group is stopped, or has ended.
fn stands_still(group: u32) -> bool {
    let words = |path: PathBuf| {
        // The name of the program is in parentheses, and may hold anything.
        let text = std::fs::read_to_string(path).ok()?;
        let rest = text.rsplit_once(')')?.1.to_owned();
        Some(rest.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>())
    };
    let is_still = |path: PathBuf| words(path).is_none_or(|words| ["T", "t", "Z", "X"].contains(&&*words[0]));
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_group = |process: &PathBuf| words(process.join("stat")).is_some_and(|words| words[2] == group.to_string());
    entries(Path::new("/proc"))
        .filter(of_group)
        .all(|process| entries(&process.join("task")).all(|thread| is_still(thread.join("stat"))))
}

/// Ports of the loopback device that nobody listens to.
///
/// They lie below those that the kernel gives to outgoing connections: a client that tries a dead port again and again
/// would else be given that very port some day, and be connected to itself.
#[track_caller]
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 21_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Where each process begins, so that test programs at the same time do not try the same ones.
    let start = std::process::id().wrapping_mul(97);
    std::array::from_fn(|_| {
        for _ in 0..COUNT {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let port = (FIRST + start.wrapping_add(next) % COUNT) as u16;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
        panic!("no free port on the loopback device");
    })
}

/// The first of the paths that exists, or why a test has to go without.
pub fn find_program(paths: &[&'static str]) -> Result<&'static Path, SkipReason> {
    let found = paths.iter().copied().map(|path: &'static str| Path::new(path)).find(|path| path.exists());
    found.ok_or_else(|| SkipReason(format!("none of {} is installed", paths.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::TempDir;

    #[test]
    fn a_server_does_not_outlive_a_test_process_that_dies() {
        let dir = TempDir::new();
        let own = dir.subdir("own");
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & wait"]);
        let mut server = Server::spawn("sleeper", command, &own);
        // As the kernel does it for a process that ends.
        drop(server.watchdog.stdin.take());
        assert_eq!(server.child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert!(server.watchdog.wait().unwrap().success());
        assert!(!own.exists());
    }

    #[test]
    fn a_frozen_server_stands_still_until_it_is_thawed() {
        let dir = TempDir::new();
        let file = dir.path().join("file");
        let mut command = Command::new("sh");
        command.args(["-c", "while :; do echo x; done > file"]);
        let server = Server::spawn("writer", command, dir.path());
        let bytes = || std::fs::metadata(&file).map_or(0, |meta| meta.len());
        let wait_for_more = |than| {
            while bytes() <= than {
                std::thread::yield_now();
            }
        };
        wait_for_more(0);
        server.freeze();
        let before = bytes();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(bytes(), before);
        server.signal(Signal::CONT);
        wait_for_more(before);
    }

    #[test]
    fn ports_are_not_given_twice() {
        let [a, b, c] = free_ports();
        assert!(a != b && b != c && a != c);
    }
}
