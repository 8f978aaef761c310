//! Backup, unchanged backup, restore and check against restic itself, and rustic where it is installed, on trees made for
//! it, with the repositories on a local file system.
//!
//! `cargo bench -p backup -- [--dir DIR] [--rounds N] [small|mixed]...`; see the page on performance for what was found.
//! They run one after the other, in changing order, each in a process of its own, so that time, processor
//! time and memory are those of the command alone. Needs `restic`, and in DIR 4 GB and 4 GB more for each round of each program. Delete
//! no large trees there shortly before.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark owns its trees")]

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup::restic::{
    BackupContext, BackupOptions, CheckOptions, LATEST, LocalStore, Parent, Repository, SecretString, SnapshotFilter,
};
use copy::{CopyContext, CopyOptions, Ending, LocalTree, NoMonitor, RelPath, Sparse, StopToken, Throttle, copy_tree};

const PASSWORD: &str = "not a secret of anybody";
/// Between two looks at the memory of a command.
const LOOK: Duration = Duration::from_millis(2);

/// Removed when the benchmark ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Its name says whose it is.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command took.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: f64,
    /// Until everything that it wrote is on storage.
    durable: f64,
    cpu: f64,
    peak_mib: f64,
    repository_mib: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["--child", what, repository, path] = words[..] {
        return child(what, Path::new(repository), Path::new(path));
    }
    let (mut base, mut rounds, mut wanted) = (std::env::temp_dir(), 3, Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "--dir" => base = words.next().expect("a directory follows --dir").into(),
            "--rounds" => rounds = words.next().expect("a number follows --rounds").parse().unwrap(),
            // What `cargo bench` itself says to the program.
            "--bench" => {}
            tree => wanted.push(tree),
        }
    }
    let scratch = Scratch(base.join(format!("manila-data-bench-{}", std::process::id())));
    fs::create_dir(&scratch.0).unwrap();
    for (name, make) in [("small", small as fn(&Path)), ("mixed", mixed)] {
        if wanted.is_empty() || wanted.contains(&name) {
            let scratch = scratch.0.join(name);
            fs::create_dir(&scratch).unwrap();
            let tree = scratch.join("tree");
            make(&tree);
            tree_rounds(name, &scratch, &tree, rounds);
        }
    }
}

/// 100,000 files of about 4 KiB in 1,000 directories, half of them compressible.
fn small(root: &Path) {
    let mut random = Random(1);
    for dir in 0..1000 {
        let dir = root.join(format!("{:02}/{:02}", dir / 100, dir % 100));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..100 {
            let bytes = 3000 + random.below(2400);
            fs::write(dir.join(format!("file-{file}")), random.content(bytes as usize, file % 2 == 0)).unwrap();
        }
    }
}

/// 2 GiB: two thirds in files of 64 to 256 MiB, the rest in files of 4 KiB to 8 MiB; half of all compressible.
fn mixed(root: &Path) {
    let mut random = Random(2);
    fs::create_dir(root).unwrap();
    let write = |path: &Path, bytes: u64, random: &mut Random, is_text: bool| {
        let mut out = BufWriter::new(File::create(path).unwrap());
        let mut left = bytes;
        while left > 0 {
            let part = left.min(1 << 20);
            out.write_all(&random.content(part as usize, is_text)).unwrap();
            left -= part;
        }
        out.flush().unwrap();
    };
    for (number, mebibytes) in [256_u64, 256, 192, 192, 128, 128, 64, 64].into_iter().enumerate() {
        write(&root.join(format!("large-{number}")), mebibytes << 20, &mut random, number % 2 == 0);
    }
    let (mut left, mut number) = (768_u64 << 20, 0);
    while left > 0 {
        let dir = root.join(format!("dir-{}", number / 50));
        fs::create_dir_all(&dir).unwrap();
        let bytes = ((4 << 10) << random.below(12)).min(left);
        write(&dir.join(format!("file-{number}")), bytes, &mut random, number % 2 == 0);
        left -= bytes;
        number += 1;
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Noise, or lines of a log, which zstd makes about a quarter of.
    fn content(&mut self, bytes: usize, is_text: bool) -> Vec<u8> {
        let mut data = Vec::with_capacity(bytes + 128);
        while data.len() < bytes {
            if is_text {
                let (at, host, code) = (self.next() >> 40, self.below(200), 200 + self.below(5) * 100);
                writeln!(data, "{at} host-{host}.example.org service: request {code} took {} us", host * 37).unwrap();
            } else {
                data.extend_from_slice(&self.next().to_le_bytes());
            }
        }
        data.truncate(bytes);
        data
    }
}

const STEPS: [&str; 4] = ["backup", "unchanged", "restore", "check"];

fn tree_rounds(name: &str, scratch: &Path, tree: &Path, rounds: usize) {
    let programs = programs();
    let mut costs: [[Vec<Cost>; PROGRAMS.len()]; STEPS.len()] = Default::default();
    for round in 0..rounds {
        for (step, word) in STEPS.into_iter().enumerate() {
            for turn in 0..programs {
                let who = (turn + round) % programs;
                let repository = scratch.join(PROGRAMS[who]);
                if step == 0 {
                    init(&repository);
                }
                // Removed at the end only: while ext4 remembers deleted inodes, some minutes, a new one costs it a search
                // among them, ten times the rest of a small file.
                let dest = scratch.join(format!("restored-{round}-{who}"));
                let place = if word == "restore" { &dest } else { tree };
                let mut command = [ours, restic, rustic][who](word, &repository, place);
                command.env("RESTIC_CACHE_DIR", scratch.join("cache"));
                command.env("RUSTIC_CACHE_DIR", scratch.join("cache"));
                let mut cost = measure(&mut command, scratch);
                cost.repository_mib = mebibytes(bytes_below(&repository));
                println!("{name:6} {round} {word:10} {:7} {}", PROGRAMS[who], shown(&cost));
                costs[step][who].push(cost);
            }
        }
        for place in PROGRAMS[..programs].iter().chain(&["cache"]) {
            fs::rename(scratch.join(place), scratch.join(format!("{place}-{round}"))).unwrap();
        }
    }
    println!("{name}: medians of {rounds}; ratios ours / theirs: wall, durable, CPU, repository");
    for (step, word) in STEPS.into_iter().enumerate() {
        let ours = &costs[step][0];
        println!("{name:6} {word:10} ours    {}", shown(&medians(ours)));
        for (program, theirs) in PROGRAMS.iter().zip(&costs[step]).take(programs).skip(1) {
            let ratio = |of: fn(&Cost) -> f64| median(ours.iter().zip(theirs).map(|(a, b)| of(a) / of(b)).collect());
            println!("{name:6} {word:10} {program:7} {}", shown(&medians(theirs)));
            println!(
                "{name:6} {word:10} ratio   {:.2}, {:.2}, {:.2}, {:.3}",
                ratio(|cost| cost.wall),
                ratio(|cost| cost.durable),
                ratio(|cost| cost.cpu),
                ratio(|cost| cost.repository_mib)
            );
        }
    }
}

const PROGRAMS: [&str; 3] = ["ours", "restic", "rustic"];

/// How many of them there are here; the last one is not everywhere.
fn programs() -> usize {
    let answer = Command::new("rustic").arg("--version").stdout(Stdio::null()).status();
    if answer.is_ok_and(|status| status.success()) {
        return PROGRAMS.len();
    }
    println!("rustic is not installed: it is left out");
    PROGRAMS.len() - 1
}

fn shown(cost: &Cost) -> String {
    format!(
        "{:7.2} s wall {:7.2} s durable {:7.2} s CPU {:6.0} MiB peak {:7.1} MiB repository",
        cost.wall, cost.durable, cost.cpu, cost.peak_mib, cost.repository_mib
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn medians(costs: &[Cost]) -> Cost {
    let of = |of: fn(&Cost) -> f64| median(costs.iter().map(of).collect());
    Cost {
        wall: of(|cost| cost.wall),
        durable: of(|cost| cost.durable),
        cpu: of(|cost| cost.cpu),
        peak_mib: of(|cost| cost.peak_mib),
        repository_mib: of(|cost| cost.repository_mib),
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| (entry.path(), entry.metadata().unwrap()))
        .fold(0, |bytes, (path, meta)| bytes + if meta.is_dir() { bytes_below(&path) } else { meta.len() })
}

/// restic makes the repositories of all, so that all derive their keys at the same cost.
fn init(repository: &Path) {
    let mut command = Command::new("restic");
    command.args(["--quiet", "--no-cache", "init", "--repository-version", "2", "-r"]).arg(repository);
    assert!(command.env("RESTIC_PASSWORD", PASSWORD).status().expect("restic is installed").success());
}

fn ours(word: &str, repository: &Path, place: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--child", word]).args([repository, place]);
    command
}

fn restic(word: &str, repository: &Path, place: &Path) -> Command {
    let mut command = Command::new("restic");
    command.arg("--quiet").arg("-r").arg(repository).env("RESTIC_PASSWORD", PASSWORD);
    match word {
        "backup" | "unchanged" => command.args(["backup", "--with-atime"]).arg(place),
        "restore" => command.args(["restore", "latest", "--target"]).arg(place),
        _ => command.args(["check", "--read-data"]),
    };
    command
}

fn rustic(word: &str, repository: &Path, place: &Path) -> Command {
    let mut command = Command::new("rustic");
    command.args(["--no-progress", "--log-level", "error", "-r"]).arg(repository).env("RUSTIC_PASSWORD", PASSWORD);
    match word {
        "backup" | "unchanged" => command.args(["backup", "--set-atime", "yes"]).arg(place),
        "restore" => command.args(["restore", "latest"]).arg(place),
        _ => command.args(["check", "--read-data"]),
    };
    command
}

/// Processor time of all children that ended, in seconds.
fn children_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Of the user and of the kernel, in hundredths on every Linux.
    (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0
}

/// The kernel forgets it when the process ends, so it is asked all the time.
fn peak_of(child: &Child) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().unwrap() / 1024.0)
}

fn measure(command: &mut Command, scratch: &Path) -> Cost {
    let sync = || rustix::fs::syncfs(File::open(scratch).unwrap()).unwrap();
    sync();
    let (cpu, started) = (children_cpu(), Instant::now());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let mut peak_mib = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak_mib = peak_mib.max(peak_of(&child).unwrap_or_default());
        std::thread::sleep(LOOK);
    };
    assert!(status.success(), "{command:?}: {status}");
    let wall = started.elapsed().as_secs_f64();
    sync();
    let durable = started.elapsed().as_secs_f64();
    Cost { wall, durable, cpu: children_cpu() - cpu, peak_mib, repository_mib: 0.0 }
}

/// The process that is measured: one operation of ours.
fn child(what: &str, repository: &Path, place: &Path) {
    let store = Arc::new(LocalStore::open(repository).unwrap());
    let repository = Repository::open(store, &SecretString::from(PASSWORD.to_owned())).unwrap();
    let (monitor, stop, throttle) = (&NoMonitor, &StopToken::new(), &Throttle::default());
    match what {
        "backup" | "unchanged" => {
            let source = &LocalTree::open_source(place).unwrap();
            let path = RelPath::parse(b"tree").unwrap();
            let mut options = BackupOptions::new(path, "bench", jiff::Timestamp::now());
            options.parent = Parent::Latest(SnapshotFilter::default());
            let done = repository.backup(&BackupContext { source, monitor, stop, throttle }, &options).unwrap();
            assert_eq!(done.report.ending, Ending::Complete);
            assert!(what == "backup" || done.report.counters.opened_files == 0);
            println!("{} workers, {:?}", done.report.workers_max, done.report.elapsed);
        }
        "restore" => {
            let snapshot = repository.find_snapshot(LATEST, &SnapshotFilter::default()).unwrap();
            let source = &repository.open_tree(&snapshot, &RelPath::root(), stop).unwrap();
            fs::create_dir(place).unwrap();
            let dest = &LocalTree::open_dest(place).unwrap();
            let options = CopyOptions { sparse: Sparse::Detect, ..CopyOptions::default() };
            let done = copy_tree(&CopyContext { source, dest, monitor, stop, throttle }, &options).unwrap();
            assert_eq!(done.ending, Ending::Complete);
            println!("{} workers, {:?}, of it {:?} for the sync", done.workers_max, done.elapsed, done.sync_elapsed);
        }
        _ => {
            let report = repository.check(CheckOptions { read_percent: 100.0 }, monitor, stop).unwrap();
            assert!(report.is_sound());
        }
    }
}
