//! Sorts lines in bounded memory: what does not fit is spilled, compressed, to files without a name.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// Bytes that are sorted at once. A hundred million entries are some four hundred of them.
const RUN_BYTES: usize = 32 << 20;
/// Spills of one level that are merged to one of the next: each open one costs about a quarter of a mebibyte.
const FAN_IN: usize = 32;
/// As small as a decoder's memory should be; sorted paths repeat what is near.
const WINDOW_LOG: u32 = 17;

/// Takes lines in any order. A line has no line feed in it.
#[derive(Debug)]
pub(super) struct Sorter {
    scratch: OwnedFd,
    run_bytes: usize,
    bytes: Vec<u8>,
    lines: Vec<(usize, usize)>,
    /// Spills, by how often their lines were merged.
    levels: Vec<Vec<File>>,
    count: u64,
}

impl Sorter {
    /// `scratch`: where spills go; of our own, and large enough for the lines, compressed.
    pub(super) fn new(scratch: &Path) -> io::Result<Self> {
        Self::with_run(scratch, RUN_BYTES)
    }

    fn with_run(scratch: &Path, run_bytes: usize) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let scratch = rustix::fs::openat(CWD, scratch, flags, Mode::empty())?;
        Ok(Self { scratch, run_bytes, bytes: Vec::new(), lines: Vec::new(), levels: Vec::new(), count: 0 })
    }

    pub(super) fn push(&mut self, line: &[u8]) -> io::Result<()> {
        debug_assert!(!line.contains(&b'\n'));
        let place = size_of::<(usize, usize)>() * (self.lines.len() + 1);
        if !self.lines.is_empty() && self.bytes.len() + line.len() + place > self.run_bytes {
            self.spill()?;
        }
        self.lines.push((self.bytes.len(), line.len()));
        self.bytes.extend_from_slice(line);
        self.count += 1;
        Ok(())
    }

    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.lines.sort_unstable_by(|a, b| bytes[a.0..a.0 + a.1].cmp(&bytes[b.0..b.0 + b.1]));
    }

    fn spill(&mut self) -> io::Result<()> {
        self.sort();
        let mut spill = Spill::new(&self.scratch)?;
        for (start, len) in self.lines.drain(..) {
            spill.push(&self.bytes[start..start + len])?;
        }
        self.bytes.clear();
        self.keep(0, spill.finish()?)
    }

    fn keep(&mut self, level: usize, file: File) -> io::Result<()> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(file);
        if self.levels[level].len() < FAN_IN {
            return Ok(());
        }
        let files = std::mem::take(&mut self.levels[level]);
        let mut spill = Spill::new(&self.scratch)?;
        let mut merge = Merge::new(&files, None)?;
        while let Some(line) = merge.next()? {
            spill.push(&line)?;
        }
        drop(merge);
        self.keep(level + 1, spill.finish()?)
    }

    /// All lines are there.
    pub(super) fn finish(mut self) -> io::Result<Sorted> {
        if self.levels.is_empty() {
            self.sort();
        } else if !self.lines.is_empty() {
            self.spill()?;
        }
        let Self { bytes, lines, levels, count, .. } = self;
        Ok(Sorted { files: levels.into_iter().flatten().collect(), bytes, lines, count })
    }
}

/// Lines in the order of their bytes; they can be gone through more than once.
#[derive(Debug)]
pub(super) struct Sorted {
    files: Vec<File>,
    bytes: Vec<u8>,
    lines: Vec<(usize, usize)>,
    count: u64,
}

impl Sorted {
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn merge(&self) -> io::Result<Merge<'_>> {
        let memory = self.lines.iter().map(|(start, len)| &self.bytes[*start..start + len]);
        Merge::new(&self.files, Some(Box::new(memory)))
    }
}

type Lines<'a> = Box<dyn Iterator<Item = &'a [u8]> + 'a>;

/// Goes through sorted lines.
pub(super) struct Merge<'a> {
    spills: Vec<BufReader<zstd::Decoder<'static, BufReader<At<'a>>>>>,
    memory: Option<Lines<'a>>,
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
}

impl<'a> Merge<'a> {
    fn new(files: &'a [File], memory: Option<Lines<'a>>) -> io::Result<Self> {
        let mut spills = Vec::with_capacity(files.len());
        for file in files {
            spills.push(BufReader::new(zstd::Decoder::new(At { file, offset: 0 })?));
        }
        let mut merge = Self { spills, memory, heads: BinaryHeap::new() };
        for source in 0..=files.len() {
            merge.refill(source, Vec::new())?;
        }
        Ok(merge)
    }

    fn refill(&mut self, source: usize, mut line: Vec<u8>) -> io::Result<()> {
        line.clear();
        if let Some(spill) = self.spills.get_mut(source) {
            if spill.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            line.pop();
        } else {
            let Some(next) = self.memory.as_mut().and_then(Iterator::next) else { return Ok(()) };
            line.extend_from_slice(next);
        }
        self.heads.push(Reverse((line, source)));
        Ok(())
    }

    /// Not an iterator: an error ends it, and must not be taken for the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(Reverse((line, source))) = self.heads.pop() else { return Ok(None) };
        self.refill(source, Vec::with_capacity(line.len()))?;
        Ok(Some(line))
    }
}

/// A sorted run that is being written.
struct Spill(zstd::Encoder<'static, io::BufWriter<File>>);

impl Spill {
    fn new(scratch: &OwnedFd) -> io::Result<Self> {
        let mut encoder = zstd::Encoder::new(io::BufWriter::with_capacity(64 << 10, nameless(scratch)?), 1)?;
        encoder.window_log(WINDOW_LOG)?;
        Ok(Self(encoder))
    }

    fn push(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.write_all(line)?;
        self.0.write_all(b"\n")
    }

    fn finish(self) -> io::Result<File> {
        self.0.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
    }
}

/// A file that goes away with its descriptor, whatever becomes of the process.
fn nameless(dir: &OwnedFd) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(dir, ".", OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(file) => return Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!(".sort-{}-{count}", std::process::id());
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, &name, flags, mode)?;
    rustix::fs::unlinkat(dir, &name, AtFlags::empty())?;
    Ok(file.into())
}

/// Reads a file from a place of its own, so that several can read one.
struct At<'a> {
    file: &'a File,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use testkit::disk::TempDir;
    use testkit::random::Random;

    use super::*;

    fn check(run_bytes: usize, mut lines: Vec<Vec<u8>>) {
        let dir = TempDir::new();
        let mut sorter = Sorter::with_run(dir.path(), run_bytes).expect("a sorter");
        for line in &lines {
            sorter.push(line).expect("room");
        }
        let sorted = sorter.finish().expect("sorted");
        assert_eq!(sorted.count(), lines.len() as u64);
        lines.sort();
        for _ in 0..2 {
            let mut merge = sorted.merge().expect("a merge");
            for line in &lines {
                assert_eq!(merge.next().expect("readable").as_ref(), Some(line));
            }
            assert_eq!(merge.next().expect("readable"), None);
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0, "spills have no name");
    }

    #[test]
    fn lines_come_back_in_order_from_memory_one_spill_and_several_levels() {
        let mut random = Random::new(7);
        let lines: Vec<Vec<u8>> =
            (0..6000).map(|_| (0..random.below(40)).map(|_| b'a' + random.below(20) as u8).collect()).collect();
        check(RUN_BYTES, lines.clone());
        check(100 << 10, lines.clone());
        // Some 1,500 spills: two levels of merging.
        check(140, lines);
        check(RUN_BYTES, Vec::new());
        check(10, vec![b"longer than a run".to_vec(), Vec::new(), Vec::new()]);
    }
}
