//! Rates of the engine without root and without a disk: trees in memory, one process, no command line.
//!
//! `cargo bench -p copy`; an argument picks the workloads whose name contains it. Each is run a few times on a fresh
//! destination and the median is printed, so that two builds can be compared on one machine. What storage costs is
//! measured elsewhere, with disks and peers.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark owns its trees")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use copy::{CompareOptions, CopyContext, CopyOptions, Ending, LocalTree, NoMonitor, StopToken, Throttle};

/// Runs of each workload; the first one, which warms caches, is not among them.
const ROUNDS: usize = 5;
/// Workloads stop early beyond this: all of them together stay below a minute.
const TIME_EACH: Duration = Duration::from_secs(7);

/// Removed when the benchmark ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let dir = base.join(format!("manila-data-bench-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is in memory only, and its name says whose it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Copy,
    /// The destination is up to date.
    CopyAgain,
    Verify,
}

struct Workload {
    name: &'static str,
    work: Work,
    build: fn(&Path),
}

const WORKLOADS: [Workload; 7] = [
    Workload { name: "small files, 20,000 of 4 KiB", work: Work::Copy, build: small_files },
    Workload { name: "empty files, 40,000", work: Work::Copy, build: empty_files },
    Workload { name: "hard links, 5,000 inodes x 4", work: Work::Copy, build: hard_links },
    Workload { name: "one large file, 512 MiB", work: Work::Copy, build: large_file },
    Workload { name: "sparse, 16 of 1 GiB with 4 MiB", work: Work::Copy, build: sparse_files },
    Workload { name: "unchanged, 20,000 files", work: Work::CopyAgain, build: small_files },
    Workload { name: "verify, 20,000 files", work: Work::Verify, build: small_files },
];

fn in_dirs(root: &Path, files: usize, mut make: impl FnMut(PathBuf)) {
    for number in 0..files {
        let dir = root.join(format!("dir{}", number / 500));
        if number % 500 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        make(dir.join(format!("file{number}")));
    }
}

fn small_files(root: &Path) {
    let content = noise(4096);
    in_dirs(root, 20_000, |path| fs::write(path, &content).unwrap());
}

fn empty_files(root: &Path) {
    in_dirs(root, 40_000, |path| drop(fs::File::create(path).unwrap()));
}

fn hard_links(root: &Path) {
    let mut count = 0;
    let mut first = PathBuf::new();
    in_dirs(root, 20_000, |path| {
        if count % 4 == 0 {
            fs::write(&path, b"linked").unwrap();
            first = path;
        } else {
            fs::hard_link(&first, path).unwrap();
        }
        count += 1;
    });
}

fn large_file(root: &Path) {
    let mut file = fs::File::create(root.join("large")).unwrap();
    let content = noise(1 << 20);
    for _ in 0..512 {
        file.write_all(&content).unwrap();
    }
}

fn sparse_files(root: &Path) {
    let content = noise(1 << 20);
    for number in 0..16 {
        let file = fs::File::create(root.join(format!("sparse{number}"))).unwrap();
        file.set_len(1 << 30).unwrap();
        for part in 0..4 {
            file.write_all_at(&content, part * (250 << 20)).unwrap();
        }
    }
}

/// Bytes without runs of zeros.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 | 1).collect()
}

/// One run: how long it took, entries, and bytes moved or read.
fn run(work: Work, source: &Path, dest: &Path) -> (Duration, u64, u64) {
    let (source, dest) = (LocalTree::open_source(source).unwrap(), LocalTree::open_dest(dest).unwrap());
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    let cx = CopyContext { source: &source, dest: &dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let start = Instant::now();
    if work == Work::Verify {
        let report = copy::compare_trees(&cx, &CompareOptions::default()).unwrap();
        assert!(report.is_same(), "{report:?}");
        return (start.elapsed(), report.counters.done_entries, report.counters.verified_bytes);
    }
    let report = copy::copy_tree(&cx, &CopyOptions::default()).unwrap();
    assert_eq!(report.ending, Ending::Complete, "{report:?}");
    (start.elapsed(), report.counters.done_entries, report.counters.copied_bytes)
}

/// The most memory that the process held since the last call, in KiB.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak = line.trim().strip_suffix(" kB")?.parse().ok();
    fs::write("/proc/self/clear_refs", "5").ok()?;
    peak
}

fn measure(scratch: &Scratch, workload: &Workload) -> String {
    let (source, dest) = (scratch.path("source"), scratch.path("dest"));
    fs::create_dir(&source).unwrap();
    (workload.build)(&source);
    if workload.work != Work::Copy {
        run(Work::Copy, &source, &dest);
    }
    // Memory that building and the workloads before took is not this one's.
    let _ = peak_kib();
    let (mut times, mut entries, mut bytes) = (Vec::new(), 0, 0);
    let began = Instant::now();
    for round in 0..=ROUNDS {
        let (time, e, b) = run(workload.work, &source, &dest);
        (entries, bytes) = (e, b);
        if workload.work == Work::Copy {
            fs::remove_dir_all(&dest).unwrap();
        }
        if round > 0 {
            times.push(time);
        }
        if round > 0 && began.elapsed() > TIME_EACH {
            break;
        }
    }
    let peak = peak_kib().map_or("-".into(), |kib| format!("{:.1}", kib as f64 / 1024.0));
    fs::remove_dir_all(&source).unwrap();
    let _ = fs::remove_dir_all(&dest);
    times.sort_unstable();
    let (median, best) = (times[times.len() / 2].as_secs_f64(), times[0].as_secs_f64());
    format!(
        "{:<32} {:>9.1} {:>9.1} {:>12.0} {:>9.1} {:>9} {:>6}",
        workload.name,
        median * 1000.0,
        best * 1000.0,
        entries as f64 / median,
        bytes as f64 / median / 1e6,
        peak,
        times.len(),
    )
}

fn main() {
    // cargo passes `--bench`; what is no option is a choice.
    let chosen: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let scratch = Scratch::new();
    println!(
        "{:<32} {:>9} {:>9} {:>12} {:>9} {:>9} {:>6}",
        "workload", "median ms", "best ms", "entries/s", "MB/s", "peak MiB", "rounds"
    );
    for workload in &WORKLOADS {
        if chosen.is_empty() || chosen.iter().any(|word| workload.name.contains(word.as_str())) {
            println!("{}", measure(&scratch, workload));
        }
    }
}
