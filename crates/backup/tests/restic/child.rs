//! Work in a process of its own: to be killed, or to have its memory looked at.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use backup::restic::{Parent, PruneOptions, SnapshotFilter};
use copy::{Ending, LocalTree, NoMonitor, StopToken};

use crate::kit::{backup_clean, open, options, restore};

/// What the child is to do, and where: the test program starts itself.
const ORDER: &str = "MANILA_DATA_BACKUP_CHILD";

/// Not a test of its own: the process that does the work. Does nothing unless it was told what.
#[test]
fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (what, root) = order.split_once(' ').unwrap();
    let root = Path::new(root);
    let repository = open(&root.join("repository")).unwrap();
    match what {
        "backup" => {
            let source = LocalTree::open_source(&root.join("source")).unwrap();
            let mut options = options();
            options.parent = Parent::Latest(SnapshotFilter::default());
            // A snapshot may be complete although its writer was killed: the newest is the one to look at.
            options.time = jiff::Timestamp::now();
            backup_clean(&repository, &source, &options);
        }
        "restore" => {
            let snapshots = repository.snapshots(&SnapshotFilter::default()).unwrap();
            let dest = LocalTree::open_dest(&root.join("dest")).unwrap();
            let done = restore(&repository, snapshots.last().unwrap(), &dest);
            assert_eq!(done.ending, Ending::Complete, "{:?}", done.faults);
        }
        _ => {
            let options = PruneOptions { max_unused_percent: 0, instant_delete: true };
            repository.prune(options, &NoMonitor, &StopToken::new()).unwrap();
        }
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap());
}

fn command(what: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::child", "--nocapture"]).env(ORDER, format!("{what} {}", root.display()));
    command
}

/// Runs the child and kills it after a while; tells how long it ran, and whether it came to its end.
pub(crate) fn run_child(what: &str, root: &Path, kill_after: Option<Duration>) -> (Duration, bool) {
    let started = Instant::now();
    let mut child = command(what, root).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let Some(after) = kill_after else {
        assert!(child.wait().unwrap().success());
        return (started.elapsed(), true);
    };
    std::thread::sleep(after);
    // Too late for a child that is done, which is as good a moment as any.
    child.kill().unwrap();
    (started.elapsed(), child.wait().unwrap().success())
}

/// Runs the child and tells the most memory that it had, in bytes.
pub(crate) fn peak_of_child(what: &str, root: &Path) -> u64 {
    let output = command(what, root).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.split("VmHWM:").nth(1)).expect("the child tells its memory");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}
