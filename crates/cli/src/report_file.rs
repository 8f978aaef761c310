//! The file of `--report`: one JSON line per entry, and a summary as the last line. It has its name only once it is
//! whole; until then it is `FILE.partial`.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use copy::EntryRecord;
use job::documents::{Entry, ReportLine};
use serde::Serialize;

use crate::error::CliError;
use crate::plan::parent;

/// Lines are gathered in as many buffers as this, so that threads seldom meet.
const SHARDS: usize = 32;
/// Bytes of a buffer before it is written: a call for some hundred lines.
const SHARD_BYTES: usize = 64 << 10;

/// Takes records from any thread. A write that fails is kept for [`ReportFile::finish`]: it must not stop a copy.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    partial: PathBuf,
    shards: [Mutex<Vec<u8>>; SHARDS],
    sink: Mutex<Sink>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    failure: Option<io::Error>,
    is_empty: bool,
}

impl ReportFile {
    pub fn create(path: &Path) -> Result<Self, CliError> {
        let fail = |source| CliError::Report { attempt: "create", path: path.into(), source };
        match std::fs::metadata(path) {
            // A rename over a device or a pipe would take its place.
            Ok(meta) if !meta.is_file() => {
                return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail(error)),
        }
        let mut partial = OsString::from(path);
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        // What a killed run left is of no use. Made anew rather than truncated: the name may be a symlink that
        // somebody else put there.
        match std::fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).open(&partial).map_err(fail)?;
        let sink = Mutex::new(Sink { file, failure: None, is_empty: true });
        Ok(Self { path: path.into(), partial, shards: Default::default(), sink })
    }

    /// Adds an entry's line.
    pub fn record(&self, record: &EntryRecord) {
        let line = match ReportLine::line("entry", &Entry::from(record)) {
            Ok(line) => line,
            Err(error) => return self.fail(error.into()),
        };
        let mut shard = self.shards[shard_of_this_thread()].lock().unwrap_or_else(PoisonError::into_inner);
        shard.extend_from_slice(&line);
        if shard.len() >= SHARD_BYTES {
            self.write(&shard);
            shard.clear();
        }
    }

    /// Adds the summary, makes the file durable and gives it its name.
    pub fn finish<T: Serialize>(self, summary: &T) -> Result<(), CliError> {
        for shard in &self.shards {
            self.write(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let fail = |source| CliError::Report { attempt: "write", path: self.path.clone(), source };
        self.write(&ReportLine::line("summary", summary).map_err(|error| fail(error.into()))?);
        let sink = self.sink.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = sink.failure {
            return Err(fail(error));
        }
        sink.file.sync_all().map_err(fail)?;
        drop(sink.file);
        std::fs::rename(&self.partial, &self.path).map_err(fail)?;
        // The new name is durable with its directory.
        File::open(parent(&self.path)).and_then(|directory| directory.sync_all()).map_err(fail)
    }

    /// The run ended without a result. What was reported is kept under its partial name, nothing is not.
    pub fn abandon(self) {
        for shard in &self.shards {
            self.write(&shard.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if self.sink.into_inner().unwrap_or_else(PoisonError::into_inner).is_empty {
            // The command fails already; an empty file that stays does no harm.
            let _ = std::fs::remove_file(&self.partial);
        }
    }

    fn write(&self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        // After one failure the file is not whole whatever follows.
        if sink.failure.is_none() {
            sink.is_empty = false;
            sink.failure = sink.file.write_all(lines).err();
        }
    }

    fn fail(&self, error: io::Error) {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).failure.get_or_insert(error);
    }
}

fn shard_of_this_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    SHARD.with(|shard| {
        if shard.get() == usize::MAX {
            shard.set(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
        }
        shard.get()
    })
}

#[cfg(test)]
mod tests {
    use copy::Action;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::path;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("manila-data-report-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn record(name: &str) -> EntryRecord {
        EntryRecord {
            path: path(name.as_bytes()),
            kind: None,
            action: Some(Action::Created),
            mover: None,
            size_bytes: 0,
            mtime: None,
            copied_bytes: 0,
            checksum: None,
            losses: Vec::new(),
            differences: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_the_summary_is_last() {
        let dir = Dir::new("threads");
        let file = dir.0.join("report");
        std::fs::write(dir.0.join("report.partial"), "left behind").unwrap();
        let report = ReportFile::create(&file).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let report = &report;
                scope.spawn(move || {
                    for entry in 0..2_000 {
                        report.record(&record(&format!("{thread}-{entry}")));
                    }
                });
            }
        });
        assert!(!file.exists());
        report.finish(&json!({ "entries": 16_000 })).unwrap();
        assert!(!dir.0.join("report.partial").exists());
        let text = std::fs::read_to_string(&file).unwrap();
        let mut values: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = values.pop().unwrap();
        assert_eq!((&summary["type"], &summary["entries"]), (&json!("summary"), &json!(16_000)));
        let mut names: Vec<_> = values.iter().map(|value| value["path"].as_str().unwrap()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 16_000);
    }

    #[test]
    fn a_symlink_under_the_partial_name_is_not_followed() {
        let dir = Dir::new("symlink");
        let victim = dir.0.join("victim");
        std::fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.0.join("report.partial")).unwrap();
        ReportFile::create(&dir.0.join("report")).unwrap().finish(&json!({})).unwrap();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn what_is_no_file_is_not_replaced() {
        let error = ReportFile::create(Path::new("/dev/null")).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("--json")), "{error:?}");
    }

    #[test]
    fn a_failed_write_is_told_at_the_end_and_only_there() {
        let dir = Dir::new("full");
        let file = dir.0.join("report");
        let report = ReportFile::create(&file).unwrap();
        // Every write to this device answers that there is no space.
        report.sink.lock().unwrap().file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        (0..1_000).for_each(|entry| report.record(&record(&entry.to_string())));
        let error = report.finish(&json!({})).unwrap_err();
        assert_eq!(error.causes().len(), 1, "{error:?}");
        assert!(!file.exists());
    }

    #[test]
    fn an_abandoned_report_keeps_what_it_has() {
        let dir = Dir::new("abandoned");
        let file = dir.0.join("report");
        ReportFile::create(&file).unwrap().abandon();
        assert!(!dir.0.join("report.partial").exists());
        let report = ReportFile::create(&file).unwrap();
        report.record(&record("a"));
        report.abandon();
        assert!(dir.0.join("report.partial").exists() && !file.exists());
    }
}
