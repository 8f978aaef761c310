//! The entries that failed, for whoever tries them again.

use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use copy::RelPath;
use job::documents::FaultEntry;

use super::files::ReportDir;

pub const NAME: &str = "faults.jsonl";

/// Longest line that is believed to be one of ours.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// The entries that a pass could not copy, or that differed in the end, as its report names them; each once.
pub fn failed_entries(report_dir: &Path) -> io::Result<Vec<RelPath>> {
    let file = ReportDir::open(report_dir)?.read(NAME)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut lines = BufReader::new(file);
    let (mut paths, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let fault: FaultEntry = serde_json::from_slice(&line)?;
        let path = fault.path.parse().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("`{NAME}` names something that is no path"))
        })?;
        paths.push(path);
    }
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}
