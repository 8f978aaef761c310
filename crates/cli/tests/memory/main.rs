//! The command's memory: flat however many entries there are, and little for each inode with several names.
//!
//! A binary of its own: trees of this size beside other tests would slow all of them.

#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]
#![expect(clippy::print_stderr, reason = "figures for who looks at them")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::disk::Tmpfs;
use testkit::lend;

/// Entries of the large tree. A million and more show the same and take minutes on two slow cores.
fn entries() -> usize {
    std::env::var("MANILA_DATA_MEMORY_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(400_000)
}

/// 16 MiB and the buffers of the workers; a test build's code and the allocator's spare room are in it, too.
const PEAK_BYTES_MAX: u64 = 32 << 20;
/// Between trees of different size: what differs with the number of workers that the search comes to.
const SLACK_BYTES: u64 = 4 << 20;

/// What the kernel says of a process's greatest memory so far; `None` once it has ended.
fn peak_of(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().unwrap() << 10)
}

/// The most memory that a copy held. Looked at while it runs: the figure that a process leaves behind when it has ended
/// counts what its parent held before the program was started.
fn peak_of_copy(root: &Path, source: &str, dest: &str, entries: u64) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manila-data"));
    command.env_clear().args(["copy", "--json", "--no-progress", "--no-state"]);
    command.arg(root.join(source)).arg(root.join(dest)).stdin(Stdio::null()).stdout(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(peak_of(&child).unwrap_or_default());
        std::thread::sleep(Duration::from_millis(3));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let summary: serde_json::Value =
        serde_json::from_slice(output.stdout.split(|b| *b == b'\n').nth_back(1).unwrap()).unwrap();
    assert!(summary["counts"]["done_entries"].as_u64().unwrap() >= entries, "{summary}");
    eprintln!("{source} -> {dest}: {entries} entries, {:.1} MiB, {:?}", mebibytes(peak), start.elapsed());
    peak
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

/// Empty files, half of them in one directory and the rest in many.
fn empty_files(root: &Path, count: usize) {
    fs::create_dir(root).unwrap();
    fs::create_dir(root.join("flat")).unwrap();
    for number in 0..count / 2 {
        fs::File::create(root.join(format!("flat/{number}"))).unwrap();
    }
    for number in 0..count - count / 2 {
        let dir = root.join(format!("dir{}", number / 500));
        if number % 500 == 0 {
            fs::create_dir(&dir).unwrap();
        }
        fs::File::create(dir.join(number.to_string())).unwrap();
    }
}

#[test]
fn memory_is_flat_and_small_for_links() {
    // One test, so that the two measurements do not disturb each other.
    let name = "memory_is_flat_and_small_for_links";
    let memory = lend!(name, Tmpfs::new(8 << 30, None));
    let (root, large) = (memory.path(), entries());
    let small = large / 10;
    empty_files(&root.join("small"), small);
    empty_files(&root.join("large"), large);
    let small_peak = peak_of_copy(root, "small", "small-copy", small as u64);
    let large_peak = peak_of_copy(root, "large", "large-copy", large as u64);
    let again_peak = peak_of_copy(root, "large", "large-copy", large as u64);
    for peak in [small_peak, large_peak, again_peak] {
        assert!(peak < PEAK_BYTES_MAX, "{:.1} MiB", mebibytes(peak));
    }
    for peak in [large_peak, again_peak] {
        assert!(peak < small_peak + SLACK_BYTES, "{:.1} MiB, then {:.1}", mebibytes(small_peak), mebibytes(peak));
    }

    let inodes = large / 2;
    fs::create_dir(root.join("links")).unwrap();
    for number in 0..inodes {
        let (a, b) = (root.join(format!("links/a{}", number / 1000)), root.join(format!("links/b{}", number / 1000)));
        if number % 1000 == 0 {
            fs::create_dir(&a).unwrap();
            fs::create_dir(&b).unwrap();
        }
        fs::File::create(a.join(number.to_string())).unwrap();
        fs::hard_link(a.join(number.to_string()), b.join(number.to_string())).unwrap();
    }
    let links_peak = peak_of_copy(root, "links", "links-copy", 2 * inodes as u64);
    let links_again = peak_of_copy(root, "links", "links-copy", 2 * inodes as u64);
    for peak in [links_peak, links_again] {
        let more = peak.saturating_sub(small_peak);
        eprintln!("{:.0} bytes for each of {inodes} inodes with two names", more as f64 / inodes as f64);
        assert!(more < 64 * inodes as u64 + SLACK_BYTES, "{:.1} MiB for {inodes} inodes", mebibytes(more));
    }
}
