//! The second process: it swaps pairs of paths as fast as it can until its parent closes the pipe.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};

use crate::harness::{Guard, myself};

/// Paths, two and two, one a line.
const PAIRS: &str = "MANILA_DATA_ATTACK_PAIRS";

/// Swaps in another process, from now until [`Swapper::finish`].
pub(crate) struct Swapper {
    child: Guard,
    stop: Option<ChildStdin>,
}

impl Swapper {
    pub(crate) fn start(pairs: &[(PathBuf, PathBuf)]) -> Self {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let pairs: Vec<String> = pairs.iter().flat_map(|(a, b)| [text(a), text(b)]).collect();
        let mut command = myself("swapper::swaps_until_told_to_stop");
        command.env(PAIRS, pairs.join("\n")).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = Guard(command.spawn().unwrap());
        let stop = child.0.stdin.take();
        Self { child, stop }
    }

    /// Ends it and returns how often it swapped. What only changed places is where it was.
    pub(crate) fn finish(mut self) -> u64 {
        drop(self.stop.take());
        let stdout = self.child.0.stdout.take().unwrap();
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        let count = lines.find_map(|line| line.rsplit_once("swaps=")?.1.trim().parse().ok());
        assert!(self.child.0.wait().unwrap().success());
        count.expect("it tells how often it swapped")
    }
}

/// Where one of the two is missing, the other one moves: the trap goes to a free name, or comes back.
fn swap(path: &Path, trap: &Path) -> bool {
    let rename = |from: &Path, to: &Path, flags| rustix::fs::renameat_with(CWD, from, CWD, to, flags).is_ok();
    rename(path, trap, RenameFlags::EXCHANGE)
        || rename(trap, path, RenameFlags::NOREPLACE)
        || rename(path, trap, RenameFlags::NOREPLACE)
}

/// The process's own body; nothing to do as a test.
#[test]
fn swaps_until_told_to_stop() {
    let Ok(pairs) = std::env::var(PAIRS) else { return };
    let paths: Vec<PathBuf> = pairs.lines().map(PathBuf::from).collect();
    let stopped = AtomicBool::new(false);
    let (mut swaps, mut rounds) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The end of the pipe: the parent has enough, or is gone.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            stopped.store(true, Ordering::Relaxed);
        });
        while !stopped.load(Ordering::Relaxed) || rounds % 2 == 1 {
            for pair in paths.chunks_exact(2) {
                swaps += u64::from(swap(&pair[0], &pair[1]));
            }
            rounds += 1;
        }
    });
    println!("\nswaps={swaps}");
    let _ = std::io::stdout().flush();
}
