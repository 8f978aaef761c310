//! What the tests share: two trees, a job over them, and one way to run a pass and to read its report.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use job::documents::{RepositorySummary, Summary};
use job::{Endpoint, Failure, Generation, JobId, JobSpec, Kind, PassKind, WorkEvent, WorkOrder, WorkResult};
use serde_json::Value;
use testkit::disk::TempDir;
use work::report::{ENTRIES, SUMMARY};
use work::{Live, Trees, run_pass};

/// Two trees and the places of a job.
pub(crate) struct Job {
    dir: TempDir,
    pub(crate) order: WorkOrder,
    pub(crate) live: Live,
}

impl Job {
    pub(crate) fn new(kind: Kind) -> Self {
        let dir = TempDir::new();
        let endpoint = |name| Endpoint::Directory { path: dir.subdir(name) };
        let mut spec = JobSpec::new(kind, endpoint("source"), endpoint("dest"));
        // Waiting for the machine's disk is what other tests are for.
        spec.options.sync = job::spec::Sync::Never;
        let at = |name| dir.path().join(name);
        let order = WorkOrder {
            job: JobId::from_u128(1),
            generation: Generation(1),
            pass: 1,
            pass_kind: PassKind::Single,
            spec: Arc::new(spec),
            workspace: at("work"),
            state_dir: at("state/engine"),
            report_dir: at("state/report/1"),
            retry_report_dir: None,
        };
        Self { dir, order, live: Live::default() }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut JobSpec)) -> Self {
        change(Arc::make_mut(&mut self.order.spec));
        self
    }

    /// The next pass is another one, with a report of its own.
    pub(crate) fn pass(&mut self, number: u32, kind: PassKind) {
        (self.order.pass, self.order.pass_kind) = (number, kind);
        self.order.report_dir = self.dir.path().join("state/report").join(number.to_string());
    }

    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.dir.path().join("source").join(name)
    }

    pub(crate) fn dest(&self, name: &str) -> PathBuf {
        self.dir.path().join("dest").join(name)
    }

    pub(crate) fn trees(&self) -> Trees {
        Trees { source: self.source(""), dest: self.dest("") }
    }

    pub(crate) fn try_run(&self) -> (Result<WorkResult, Failure>, Vec<WorkEvent>) {
        let told = Mutex::new(Vec::new());
        let result = run_pass(&self.order, &self.trees(), &self.live, &|event| told.lock().unwrap().push(event));
        (result, told.into_inner().unwrap())
    }

    #[track_caller]
    pub(crate) fn run(&self) -> WorkResult {
        self.try_run().0.unwrap()
    }
}

pub(crate) fn write(path: impl AsRef<Path>, content: &str) {
    std::fs::write(path, content).unwrap();
}

/// The same, and makes the directories on the way.
pub(crate) fn write_below(path: impl AsRef<Path>, content: &str) {
    std::fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    write(path, content);
}

/// The same trees, another job: what one wrote, the next one finds.
pub(crate) fn next(mut job: Job, kind: Kind) -> Job {
    job.order.job = JobId::generate();
    job.with(|spec| spec.kind = kind)
}

/// Source and destination in each other's place: the repository is what is read.
pub(crate) fn turned(job: Job) -> Job {
    let (source, dest) = (job.source(""), job.dest(""));
    let swap = dest.parent().unwrap().join("swap");
    for (from, to) in [(&source, &swap), (&dest, &source), (&swap, &dest)] {
        std::fs::rename(from, to).unwrap();
    }
    job
}

pub(crate) fn repository(told: &[WorkEvent]) -> RepositorySummary {
    let Summary::Repository(summary) = summary_of(told) else { panic!("a repository's summary") };
    *summary
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn summary_of(events: &[WorkEvent]) -> Summary {
    let mut found = events.iter().filter_map(|event| match event {
        WorkEvent::Summary(summary) => Some((**summary).clone()),
        _ => None,
    });
    let summary = found.next().unwrap();
    assert!(found.next().is_none(), "a pass has one summary");
    summary
}

pub(crate) fn read_summary(report: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(report.join(SUMMARY)).unwrap()).unwrap()
}

pub(crate) fn unpack(path: &Path) -> String {
    let mut text = String::new();
    zstd::Decoder::new(std::fs::File::open(path).unwrap()).unwrap().read_to_string(&mut text).unwrap();
    text
}

/// Lines of the entries, by type and path.
pub(crate) fn entries(report: &Path) -> BTreeMap<(String, String), Value> {
    let lines = unpack(&report.join(ENTRIES));
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| ((line["type"].as_str().unwrap().into(), line["path"].as_str().unwrap().into()), line)).collect()
}
