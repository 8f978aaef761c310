//! The checksums of a pass, one line a file, and the root hash over them.
//!
//! Files are done in any order by many threads, and a tree may have a hundred million of them, so neither the order of
//! the lines nor all of them at once may be needed: see decision 0006.

use std::io::{self, BufRead as _, BufReader, Write};
use std::path::Path;

use copy::{Checksum, RelPath};

use super::files::{PartialFile, ReportDir};

pub const NAME: &str = "manifest.zst";

/// `LtHash`: each line is stretched to 1024 numbers of 16 bits, and the numbers of all lines are added up.
const LANES: usize = 1024;

/// A hash over a set of lines that does not depend on their order.
#[derive(Clone)]
pub(super) struct SetHash {
    lanes: Box<[u16; LANES]>,
    count: u64,
}

impl SetHash {
    pub(super) fn new() -> Self {
        Self { lanes: Box::new([0; LANES]), count: 0 }
    }

    /// Adds a line, without its end.
    pub(super) fn add(&mut self, line: &[u8]) {
        let mut stretched = [0; 2 * LANES];
        blake3::Hasher::new().update(line).finalize_xof().fill(&mut stretched);
        for (lane, bytes) in self.lanes.iter_mut().zip(stretched.as_chunks::<2>().0) {
            *lane = lane.wrapping_add(u16::from_le_bytes(*bytes));
        }
        self.count += 1;
    }

    /// The root: a hash of the sums and of the number of lines, without which 65,536 equal lines would count as none.
    pub(super) fn root(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for lane in &*self.lanes {
            hasher.update(&lane.to_le_bytes());
        }
        hasher.update(&self.count.to_le_bytes());
        hasher.finalize()
    }
}

/// A finished manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// In hexadecimal.
    pub root: String,
    /// Lines.
    pub files: u64,
}

impl From<&SetHash> for Manifest {
    fn from(hash: &SetHash) -> Self {
        Self { root: hash.root().to_hex().to_string(), files: hash.count }
    }
}

/// A manifest that is being written.
pub(super) struct ManifestWriter {
    file: zstd::Encoder<'static, PartialFile>,
    hash: SetHash,
}

impl ManifestWriter {
    pub(super) fn new(dir: &ReportDir) -> io::Result<Self> {
        Ok(Self { file: zstd::Encoder::new(dir.create(NAME)?, super::LEVEL)?, hash: SetHash::new() })
    }

    pub(super) fn add(&mut self, path: &RelPath, size_bytes: u64, checksum: &Checksum) -> io::Result<()> {
        let mut line = format!("{checksum} {} {size_bytes} {path}", checksum.kind.as_str()).into_bytes();
        self.hash.add(&line);
        line.push(b'\n');
        self.file.write_all(&line)
    }

    pub(super) fn finish(self, dir: &ReportDir) -> io::Result<Manifest> {
        dir.publish(self.file.finish()?)?;
        Ok(Manifest::from(&self.hash))
    }
}

/// A path may be of any length; one of more than this stands in no tree that can be walked in a lifetime.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Computes the root again from the manifest in a report directory.
pub fn verify_manifest(report_dir: &Path) -> io::Result<Manifest> {
    let dir = ReportDir::open(report_dir)?;
    let file = dir.read(NAME)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let mut lines = BufReader::new(zstd::Decoder::new(file)?);
    let (mut hash, mut line) = (SetHash::new(), Vec::new());
    loop {
        line.clear();
        io::Read::take(&mut lines, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        match line.split_last() {
            None => return Ok(Manifest::from(&hash)),
            Some((b'\n', line)) => hash.add(line),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "the manifest's last line has no end")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root<'a>(lines: impl IntoIterator<Item = &'a str>) -> blake3::Hash {
        let mut hash = SetHash::new();
        lines.into_iter().for_each(|line| hash.add(line.as_bytes()));
        hash.root()
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        assert_eq!(root(["a", "b", "c"]), root(["c", "a", "b"]));
    }

    #[test]
    fn a_line_that_changed_is_missing_or_was_added_changes_the_root() {
        let whole = root(["a", "b", "c"]);
        for other in [&["a", "b"][..], &["a", "b", "d"], &["a", "b", "c", ""], &["a", "b", "c", "c"], &["ab", "c"], &[]]
        {
            assert_ne!(root(other.iter().copied()), whole, "{other:?}");
        }
    }

    #[test]
    fn so_many_equal_lines_that_their_sum_is_zero_are_noticed() {
        let mut hash = SetHash::new();
        (0..1 << 16).for_each(|_| hash.add(b"x"));
        assert!(hash.lanes.iter().all(|lane| *lane == 0));
        assert_ne!(hash.root(), root([]));
    }

    /// Computed with another implementation of BLAKE3; see decision 0006.
    #[test]
    fn the_root_is_what_the_decision_says() {
        assert_eq!(
            root(["a", "b"]).to_hex().as_str(),
            "54893f39328a3356fb78f1b78c91587f8db9de9a436c3c864cbb9b6beaad9949"
        );
    }
}
