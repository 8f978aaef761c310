//! Processes that are killed at random moments: whatever they leave, the next run completes or removes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backup::directory::{Context, Created, Export, Publish, Request};
use copy::{LocalTree, NoMonitor, StopToken, Throttle};
use testkit::model::{Entry, TreeModel};
use testkit::random::{Random, seed};

use crate::kit::{Bench, id, limits, options};

/// Tells a copy of this program what to do, and where.
const WORK: &str = "BACKUP_TEST_CRASH_WORK";
const PLACE: &str = "BACKUP_TEST_CRASH_PLACE";
/// Kills of each operation; many in a run by hand.
const KILLS: &str = "MANILA_DATA_BACKUP_KILLS";

fn kills() -> u32 {
    std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// What a killed process does. As a test of its own it has nothing to do.
#[test]
fn child() {
    let (Ok(work), Some(place)) = (std::env::var(WORK), std::env::var_os(PLACE)) else { return };
    let place = PathBuf::from(place);
    let export = Export::open(&place.join("export")).unwrap();
    let (stop, throttle, scratch) = (StopToken::new(), Throttle::default(), place.join("scratch"));
    let cx = Context { monitor: &NoMonitor, stop: &stop, throttle: &throttle, scratch: &scratch };
    let id = id("b");
    if work == "create" {
        let source = LocalTree::open_source(&place.join("source")).unwrap();
        let request = Request { id: &id, token: "job", publish: Publish::Complete };
        export.create(&cx, &request, &source, &options()).unwrap();
    } else {
        export.delete(&cx, &id, &limits()).unwrap();
    }
}

/// Runs the work in a process of its own, and kills it after a while. `true`: it came to its end before.
fn killed_after(place: &Path, work: &str, wait: Duration) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--test-threads=1"])
        .env(WORK, work)
        .env(PLACE, place)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(wait);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "the work failed: {status}");
    status.success()
}

fn model() -> TreeModel {
    let mut model = TreeModel::new();
    for dir in 0..40 {
        model = model.with(format!("d{dir}"), Entry::dir());
        for file in 0..25 {
            let content = vec![(dir * 25 + file) as u8; 1000 + file * 37];
            model = model.with(format!("d{dir}/f{file}"), Entry::file(&content).mtime(1_000_000_000, file as u32));
        }
        model = model.with_link(format!("d{dir}/f0"), format!("d{dir}/link"));
    }
    model
}

#[test]
fn a_killed_creation_is_completed_and_a_killed_deletion_too() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let bench = Bench::new();
    let model = model();
    let source = bench.source(&model);
    let place = bench.place.path("");
    let began = Instant::now();
    bench.create("b", &source);
    let whole = began.elapsed().as_micros() as u64 + 30_000;
    bench.delete("b");
    let (mut cut, mut made) = (0, 0);
    for _ in 0..kills() {
        let ended = killed_after(&place, "create", Duration::from_micros(random.below(whole)));
        cut += u32::from(!ended);
        // What has the backup's name is whole, at any time.
        if bench.path("b").exists() {
            made += 1;
            bench.assert_proven("b");
        }
        if random.below(3) == 0 {
            // Further kills on the same remains.
            continue;
        }
        let created = bench.try_create("b", &source, &options(), &StopToken::new()).unwrap();
        assert!(matches!(created, Created::Published { .. } | Created::Already { .. }), "{created:?}");
        bench.assert_proven("b");
        crate::kit::assert_same(&model, &bench.path("b"));
        let ended = killed_after(&place, "delete", Duration::from_micros(random.below(whole)));
        cut += u32::from(!ended);
        if bench.path("b").exists() {
            crate::kit::assert_same(&model, &bench.path("b"));
        } else {
            assert!(bench.export.tree(&id("b")).is_err());
        }
        bench.delete("b");
    }
    println!("{cut} processes were cut off, {made} backups were whole before that");
    assert!(cut > 0);
}
