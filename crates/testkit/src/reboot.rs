//! Plays a crash of the machine: what the engine remembers of a run looks as if another boot had written it.

use std::fs;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// The one state file in a directory of the engine.
pub fn state_file(state_dir: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(state_dir).ok()?.map(|entry| entry.unwrap().path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "state"))
}

/// The last barrier, as seconds and nanoseconds of the destination's clock, once one was set.
pub fn barrier(state_dir: &Path) -> Option<(i64, i64)> {
    let text = fs::read_to_string(state_file(state_dir)?).ok()?;
    let (seconds, nanos) = text.lines().find_map(|line| line.strip_prefix("barrier "))?.split_once(' ')?;
    Some((seconds.parse().unwrap(), nanos.parse().unwrap()))
}

/// As if the run had been on another boot of the machine.
pub fn change_boot(state_dir: &Path) {
    let path = state_file(state_dir).expect("a run left its state");
    let text = fs::read_to_string(&path).unwrap();
    let (body, _) = text.split_at(text.rfind("sum ").unwrap());
    let lines = body.lines().map(|line| if line.starts_with("boot ") { "boot 00000000-another" } else { line });
    let body: String = lines.flat_map(|line| [line, "\n"]).collect();
    fs::write(&path, format!("{body}sum {:016x}\n", xxh3_64(body.as_bytes()))).unwrap();
}
