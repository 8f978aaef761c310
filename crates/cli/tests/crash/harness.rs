//! A place for one source and many destinations, the command in it, and what its reports say.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use copy::EntryKind;
use serde_json::Value;
use testkit::model::{DiffOptions, Entry, TreeModel, diff_with, snapshot_dir};

/// One copy with all that belongs to it, in a directory of its own.
pub struct Job {
    source: PathBuf,
    dir: PathBuf,
}

impl Job {
    pub fn new(source: &Path, dir: PathBuf) -> Self {
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("reports")).unwrap();
        Self { source: source.into(), dir }
    }

    pub fn dest(&self) -> PathBuf {
        self.dir.join("dest")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn command(&self, options: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manila-data"));
        command.env_clear().arg("copy").args(options).arg("--state-dir").arg(self.state_dir());
        command.arg("--report").arg(self.dir.join("reports/report"));
        command.arg(&self.source).arg(self.dest());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end and reads the report.
    pub fn complete(&self) -> Report {
        let output = self.command(&[]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", words(&output));
        Report::read(&self.dir.join("reports/report"))
    }

    /// The copy is as the source was, and nothing else lies around.
    pub fn check_result(&self, source: &TreeModel) {
        let dest = picture(&self.dest());
        let differences = diff_with(source, &dest, &DiffOptions { holes: true, ..DiffOptions::default() });
        assert!(differences.is_empty(), "source and destination differ:\n{}", differences.join("\n"));
        assert_eq!(names(&self.dir.join("reports")), ["report"], "the report of killed runs is gone");
        let state = names(&self.state_dir());
        let kinds: Vec<_> = state.iter().filter_map(|name| Some(name.rsplit_once('.')?.1)).collect();
        assert_eq!(kinds.len(), 2, "one state and one lock: {state:?}");
        assert!(kinds.contains(&"state") && kinds.contains(&"lock"), "one state and one lock: {state:?}");
    }

    /// Files of the destination that have the size and time of the source's, by path, with the change time.
    pub fn finished(&self, source: &TreeModel) -> BTreeMap<String, (i64, i64)> {
        let mut finished = BTreeMap::new();
        for (path, entry) in source.iter() {
            let (Some(content), Ok(path)) = (entry.content(), str::from_utf8(path)) else { continue };
            let Ok(meta) = fs::symlink_metadata(self.dest().join(path)) else { continue };
            let mtime = (meta.mtime(), meta.mtime_nsec());
            let is_same = meta.is_file()
                && meta.len() == content.size_bytes()
                && mtime == (entry.mtime.seconds, i64::from(entry.mtime.nanos));
            if is_same {
                finished.insert(path.to_owned(), (meta.ctime(), meta.ctime_nsec()));
            }
        }
        finished
    }

    /// Gives the space back at once; otherwise it is held until the end of the test.
    pub fn remove(self) {
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

/// A picture of a tree. Reading a symlink changes its access time, whoever does it: that one is left out.
pub fn picture(root: &Path) -> TreeModel {
    let mut picture = snapshot_dir(root).unwrap();
    let is_link = |entry: &Entry| entry.kind() == EntryKind::Symlink;
    let links: Vec<_> = picture.iter().filter(|(_, entry)| is_link(entry)).map(|(path, _)| path.to_vec()).collect();
    for path in links {
        picture.edit(path, |entry| entry.atime = entry.mtime);
    }
    picture
}

pub fn words(output: &Output) -> String {
    format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// What a run says it did.
pub struct Report {
    /// By path; the source has no names that are not UTF-8.
    pub entries: BTreeMap<String, Value>,
    pub summary: Value,
}

impl Report {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = lines.pop().unwrap();
        assert_eq!(summary["type"], "summary");
        let entries = lines.into_iter().map(|line| (line["path"].as_str().unwrap().to_owned(), line)).collect();
        Self { entries, summary }
    }

    pub fn action(&self, path: &str) -> &str {
        self.entries.get(path).and_then(|entry| entry["action"].as_str()).unwrap_or("not reported")
    }

    /// Whether content went into this name.
    pub fn was_copied(&self, path: &str) -> bool {
        matches!(self.action(path), "created" | "replaced" | "failed" | "not reported")
    }
}
