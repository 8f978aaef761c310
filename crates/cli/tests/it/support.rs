//! A directory for one test, the binary in it, and trees to look at.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A directory of its own, removed unless the test fails.
pub struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    pub fn new(name: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        Self { dir }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The binary, in this directory, with nothing of the tester's environment.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manila-data"));
        command
            .args(args)
            .env_clear()
            .env("MANILA_DATA_STATE_DIR", self.path("state"))
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end; the words of `line` are the arguments.
    pub fn run(&self, line: &str) -> Outcome {
        Outcome::of(self.command(line.split_whitespace()))
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A small tree below `source` with what a tree of users has.
    pub fn small_tree(&self) {
        self.write("source/file", b"content");
        self.write("source/empty", b"");
        self.write("source/dir/sub/deep", &vec![7; 70_000]);
        self.write("source/dir/-n", b"a name like an option");
        fs::hard_link(self.path("source/file"), self.path("source/dir/again")).unwrap();
        std::os::unix::fs::symlink("../file", self.path("source/dir/link")).unwrap();
        fs::write(self.path("source").join(OsStr::from_bytes(b"odd\xff\nname")), b"odd").unwrap();
        let sparse = fs::File::create(self.path("source/sparse")).unwrap();
        sparse.write_all_at(b"end", 3 << 20).unwrap();
        for name in ["source/file", "source/dir/sub", "source/dir", "source"] {
            let time = Duration::new(1_234_567_890, 123_456_789);
            let time = std::time::UNIX_EPOCH + time;
            let times = fs::FileTimes::new().set_modified(time);
            fs::File::open(self.path(name)).unwrap().set_times(times).unwrap();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What a run left behind.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn of(mut command: Command) -> Self {
        command.spawn().unwrap().wait_with_output().unwrap().into()
    }

    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

impl From<std::process::Output> for Outcome {
    fn from(output: std::process::Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8 whatever the names are");
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[track_caller]
pub fn json_lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "the last line is whole");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// An entry as `std` sees it, which shares no code with the engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    links: u64,
    content: Vec<u8>,
}

/// Everything below `root`, the root itself as the empty path.
pub fn entries(root: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_file() {
            fs::read(&path).unwrap()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_vec()
        } else {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            Vec::new()
        };
        let entry = Entry {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            // File systems count the links of directories each in their own way.
            links: if meta.is_dir() { 0 } else { meta.nlink() },
            content,
        };
        found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), entry);
    }
    found
}

/// Looks until `condition` holds.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Compares `text` with a file under `tests/snapshots`; writes it instead where `UPDATE_SNAPSHOTS=1` is set.
#[track_caller]
pub fn check_snapshot(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some_and(|value| value == "1") {
        fs::write(&path, text).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (number, (line, expected)) in (1..).zip(text.lines().zip(expected.lines())) {
        assert_eq!(line, expected, "line {number} of {name}; UPDATE_SNAPSHOTS=1 accepts the change");
    }
    assert_eq!(text, expected, "{name}; UPDATE_SNAPSHOTS=1 accepts the change");
}
