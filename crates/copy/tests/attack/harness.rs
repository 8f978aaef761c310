//! The ring: two trees, victims beside them, a child process for every fight, and a judge.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use copy::{
    CopyContext, CopyError, CopyOptions, CopyReport, LocalTree, NoMonitor, StopToken, Sync, Throttle, Weakness,
    copy_tree, weaken,
};
use rustix::fs::{CWD, FileType, Mode};
use testkit::disk::{Tmpfs, need_root, skip};
use testkit::faulty::{Effect, Faults, FaultyTree, On, Operation};
use testkit::model::{DiffOptions, Entry, TreeModel, diff_with, materialise, snapshot_dir};

/// What only root may read outside; it must never be seen in the destination.
pub(crate) const SECRET: &[u8] = b"TOP SECRET: the key to the kingdom\n";
/// The tenant.
pub(crate) const MALLORY: u32 = 4242;

/// Tells a child process which half of its test it is, and where it may work.
const HALF: &str = "MANILA_DATA_ATTACK_HALF";
const PLACE: &str = "MANILA_DATA_ATTACK_PLACE";
/// No attack takes as long; the child is killed and the attack has succeeded.
const CHILD_TIMEOUT: Duration = Duration::from_secs(100);
/// A copy of a small tree that takes longer hangs.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an attack is tried again where it needs luck.
const LUCK_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs an attack without and, in a weakened build, with the weakness that it needs. With [`Weakness::None`] there is
/// no protection to remove: the attack is only shown to fail.
#[track_caller]
pub(crate) fn attack<F: Fn(&Arena) + Send>(weakness: Weakness, body: F) {
    let path = std::any::type_name::<F>();
    let (_, path) = path.split_once("::").expect("a closure in a test of this crate");
    let name = path.strip_suffix("::{{closure}}").expect("the body is a closure");
    match std::env::var(HALF).as_deref() {
        Ok("sound") => fight(Weakness::None, Path::new(&std::env::var_os(PLACE).unwrap()), body),
        Ok("weak") => fight(weakness, Path::new(&std::env::var_os(PLACE).unwrap()), body),
        _ => referee(name, weakness),
    }
}

/// The parent's part: lends a file system, starts the children, and waits for them with a limit.
fn referee(name: &str, weakness: Weakness) {
    if let Err(reason) = need_root() {
        return skip(name, &reason);
    }
    let mut halves = vec!["sound"];
    if weaken(Weakness::None) && weakness != Weakness::None {
        halves.push("weak");
    }
    for half in halves {
        let disk = match Tmpfs::new(1 << 30, None) {
            Ok(disk) => disk,
            Err(reason) => return skip(name, &reason),
        };
        let started = Instant::now();
        let (ended, said) = run_child(name, half, disk.path());
        let outcome = match ended {
            Some(status) if status.success() => "as it should be".to_owned(),
            Some(status) => format!("wrong ({status})"),
            None => "hung".to_owned(),
        };
        let notes: Vec<&str> = said.lines().filter(|line| line.starts_with("  ")).collect();
        eprintln!("{name} [{half}]: {outcome}, {:.1} s\n{}", started.elapsed().as_secs_f64(), notes.join("\n"));
        assert_eq!(outcome, "as it should be", "{name} [{half}] said:\n{said}");
    }
}

/// A child that does not outlive its guard.
pub(crate) struct Guard(pub(crate) Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test binary, told to run one of its tests.
pub(crate) fn myself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

fn run_child(name: &str, half: &str, place: &Path) -> (Option<std::process::ExitStatus>, String) {
    let mut command = myself(name);
    command.env(HALF, half).env(PLACE, place).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = Guard(command.spawn().unwrap());
    let mut stderr = child.0.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let _ = stderr.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let deadline = Instant::now() + CHILD_TIMEOUT;
    let ended = loop {
        match child.0.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() > deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    drop(child);
    (ended, reader.join().unwrap())
}

/// The child's part: one attack that must fail, or attacks until one succeeds.
fn fight(weakness: Weakness, place: &Path, body: impl Fn(&Arena)) {
    // A child whose parent is gone must not go on.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    weaken(weakness);
    let deadline = Instant::now() + LUCK_TIMEOUT;
    for round in 0.. {
        let arena = Arena::new(&place.join(round.to_string()), weakness);
        body(&arena);
        let harm = arena.harm();
        assert!(arena.fired.load(Ordering::SeqCst) > 0, "the attack did not take place");
        if weakness == Weakness::None {
            // A chain of directories makes long lines.
            let lines: Vec<String> = harm.iter().map(|line| line.chars().take(400).collect()).collect();
            assert!(harm.is_empty(), "harm was done:\n{}", lines.join("\n"));
            return;
        }
        if !harm.is_empty() {
            let first = harm.iter().take(3).map(|line| line.lines().next().unwrap_or_default());
            eprintln!("  without the protection: {}", first.collect::<Vec<_>>().join("; "));
            return;
        }
        assert!(Instant::now() < deadline, "{weakness:?}: the attack does no harm without the protection");
    }
}

/// Source, destination, what lies beside them, and what was seen.
pub(crate) struct Arena {
    base: PathBuf,
    victims: TreeModel,
    weakness: Weakness,
    fired: Arc<AtomicUsize>,
    noted: std::sync::Mutex<Vec<String>>,
}

/// The victims: nothing of this may be read into the destination, changed or removed.
fn victims() -> TreeModel {
    TreeModel::new()
        .with(b"sentinel", Entry::file(b"do not touch\n").mode(0o640).owner(0, 17).mtime(1_500_000_000, 5))
        .with(b"secret", Entry::file(SECRET).mode(0o600).owner(0, 0).xattr(b"trusted.label", b"red"))
        .with(b"z", Entry::file(SECRET).mode(0o600).owner(0, 0))
        .with(b"pipe", Entry::fifo().mode(0o600).owner(0, 0))
        .with(b"link", Entry::symlink(b"sentinel").owner(0, 0))
        .with(b"keep", Entry::dir().mode(0o750).owner(0, 17))
        .with(b"keep/one", Entry::file(b"one").mode(0o644).owner(0, 0))
        .with(b"keep/secret", Entry::file(SECRET).mode(0o600).owner(0, 0))
        .with(b"keep/below", Entry::dir().mode(0o700).owner(0, 0))
        .with(b"keep/below/two", Entry::file(b"two").mode(0o600).owner(0, 0))
}

impl Arena {
    fn new(base: &Path, weakness: Weakness) -> Self {
        for dir in ["", "source", "dest", "outside"] {
            std::fs::create_dir(base.join(dir)).unwrap();
        }
        let arena = Self {
            base: base.into(),
            victims: victims(),
            weakness,
            fired: Arc::default(),
            noted: std::sync::Mutex::default(),
        };
        build(&arena.victims, &arena.outside());
        arena
    }

    /// A path beside the two trees and the victims, for what attackers hold ready.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.base.join("source")
    }

    pub(crate) fn dest(&self) -> PathBuf {
        self.base.join("dest")
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.base.join("outside")
    }

    /// Whether the protection is off, so that the attack may try until it succeeds.
    pub(crate) fn is_weak(&self) -> bool {
        self.weakness != Weakness::None
    }

    /// Says that an attack took place.
    pub(crate) fn fire(&self) {
        self.fired.fetch_add(1, Ordering::SeqCst);
    }

    /// Notes harm that the judge does not see by itself.
    pub(crate) fn note(&self, harm: impl Into<String>) {
        self.noted.lock().unwrap().push(harm.into());
    }

    pub(crate) fn note_if(&self, is_harm: bool, harm: impl Into<String>) {
        if is_harm {
            self.note(harm);
        }
    }

    /// Before the first operation that `on` describes, the attacker acts.
    pub(crate) fn before(&self, faults: &Faults, on: On, act: impl FnOnce() + Send + 'static) {
        let fired = self.fired.clone();
        faults.before_first(on, move || {
            fired.fetch_add(1, Ordering::SeqCst);
            act();
        });
    }

    /// Before every operation that `on` describes, somebody looks.
    pub(crate) fn before_each(
        &self,
        faults: &Faults,
        on: On,
        look: impl Fn(&Operation) + Send + std::marker::Sync + 'static,
    ) {
        let fired = self.fired.clone();
        faults.add(
            on,
            Effect::Run(Arc::new(move |operation| {
                fired.fetch_add(1, Ordering::SeqCst);
                look(operation);
            })),
        );
    }

    /// Copies with hooks, by one worker. `None`: it hangs, which is noted as harm.
    pub(crate) fn copy_with(&self, faults: &Faults, options: CopyOptions) -> Option<CopyReport> {
        let (source, dest, faults) = (self.source(), self.dest(), faults.clone());
        self.in_time(move || {
            let source = FaultyTree::new(crate::open_source(&source)?, &faults);
            let dest = FaultyTree::new(LocalTree::open_dest(&dest)?, &faults);
            run(&source, &dest, &options)
        })
    }

    /// Copies as users do.
    pub(crate) fn copy(&self, options: CopyOptions) -> Option<CopyReport> {
        let (source, dest) = (self.source(), self.dest());
        self.in_time(move || run(&crate::open_source(&source)?, &LocalTree::open_dest(&dest)?, &options))
    }

    /// Waits for a copy on a thread of its own.
    pub(crate) fn in_time(
        &self,
        copy: impl FnOnce() -> Result<CopyReport, CopyError> + Send + 'static,
    ) -> Option<CopyReport> {
        let (sender, receiver) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _ = sender.send(copy());
        });
        match receiver.recv_timeout(if self.is_weak() { COPY_TIMEOUT / 4 } else { 4 * COPY_TIMEOUT }) {
            Ok(report) => {
                thread.join().unwrap();
                Some(report.unwrap_or_else(|error| panic!("the copy could not run: {error:?}")))
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.note("the copy hangs");
                None
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the copying thread panicked"),
        }
    }

    /// Everything that went wrong.
    pub(crate) fn harm(&self) -> Vec<String> {
        let mut harm = Vec::new();
        let options = DiffOptions { atime: false, links: false, ..DiffOptions::default() };
        match snapshot_dir(&self.outside()) {
            Ok(now) => {
                let lines = diff_with(&self.victims, &now, &options);
                harm.extend(lines.into_iter().map(|line| format!("outside changed: {line}")));
            }
            Err(error) => harm.push(format!("outside cannot be read: {error}")),
        }
        find_secret(&self.dest(), &mut harm);
        harm.append(&mut self.noted.lock().unwrap());
        harm
    }
}

fn run(
    source: &dyn copy::tree::SourceTree,
    dest: &dyn copy::tree::DestTree,
    options: &CopyOptions,
) -> Result<CopyReport, CopyError> {
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    copy_tree(&CopyContext { source, dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle }, options)
}

/// Copies between trees of the caller's making.
pub(crate) fn copy_trees(
    source: &dyn copy::tree::SourceTree,
    dest: &dyn copy::tree::DestTree,
    options: &CopyOptions,
) -> CopyReport {
    run(source, dest, options).unwrap()
}

/// One worker and no pauses: the order of operations is the same each time.
pub(crate) fn in_order() -> CopyOptions {
    let mut options = quick();
    options.limits.workers = Some(1);
    options
}

/// No pauses, and nothing made durable.
pub(crate) fn quick() -> CopyOptions {
    let mut options = CopyOptions { sync: Sync::Never, ..CopyOptions::default() };
    options.limits.retry_pause = Duration::from_micros(100);
    options
}

pub(crate) fn mirror(options: CopyOptions) -> CopyOptions {
    CopyOptions { delete: copy::Delete::Extraneous { max_entries: u64::MAX }, ..options }
}

/// Builds a tree, all of it.
pub(crate) fn build(model: &TreeModel, root: &Path) {
    let built = materialise(model, root).unwrap();
    assert!(built.left_out.is_empty(), "{:?}", built.left_out);
}

/// How the destination differs from the source, in what a copy can keep for certain.
pub(crate) fn differences(arena: &Arena) -> Vec<String> {
    let options = DiffOptions { atime: false, ..DiffOptions::default() };
    diff_with(&snapshot_dir(&arena.source()).unwrap(), &snapshot_dir(&arena.dest()).unwrap(), &options)
}

/// Looks for the secret in all regular files below a directory, past symlinks.
fn find_secret(dir: &Path, harm: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            find_secret(&path, harm);
        } else if kind.is_file()
            && std::fs::read(&path).is_ok_and(|content| content.windows(SECRET.len()).any(|window| window == SECRET))
        {
            harm.push(format!("the secret is in {path:?}"));
        }
    }
}

pub(crate) fn mkfifo(path: &Path) {
    mknod(path, FileType::Fifo, 0);
}

pub(crate) fn mknod(path: &Path, kind: FileType, rdev: u64) {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), rdev).unwrap();
}

/// Puts a symlink where something else was, which is kept beside the trees.
pub(crate) fn swap_for_symlink(path: &Path, aside: &Path, target: &Path) {
    std::fs::rename(path, aside).unwrap();
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// Puts a further name of another file where something was.
pub(crate) fn swap_for_hard_link(path: &Path, existing: &Path) {
    std::fs::remove_file(path).unwrap();
    std::fs::hard_link(existing, path).unwrap();
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub(crate) fn kind_of(path: &Path) -> Option<FileType> {
    let meta = std::fs::symlink_metadata(path).ok()?;
    Some(FileType::from_raw_mode(meta.permissions().mode()))
}

/// Lets this process hold few descriptors, so that directories are given back and reopened.
pub(crate) fn limit_open_files(count: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum: Some(count) }).unwrap();
}
