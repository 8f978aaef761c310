//! Checksums of the files that an unfinished copy holds so far, in the export beside it.
//!
//! A run that goes on does not read again what an earlier one copied, so what was learned there must be kept. A line
//! counts only while size and modification time are still those of the copy, which is what the engine believes, too.
//! What is lost with a process costs a comparison later, and nothing else.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use copy::{Checksum, EntryRecord, HashKind, Timestamp};

use super::line::time;
use super::sort::Sorter;

/// Lines are written together in frames, each of which is whole or does not count.
const FRAME_BYTES: usize = 1 << 20;
/// A frame holds one line more than that at most.
const FRAME_BYTES_MAX: usize = 128 << 20;
const FRAME_AGE: Duration = Duration::from_secs(5);
/// What the level takes at most for a frame.
const WINDOW_LOG_MAX: u32 = 23;
const MAGIC: &[u8; 8] = b"mdsums1\n";

/// A file of checksums that grows.
#[derive(Debug)]
pub(super) struct Sums {
    kind: HashKind,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    end: u64,
    waiting: Vec<u8>,
    began: Instant,
    /// It cannot be written any more. Files without a checksum are compared, so nobody has to be told.
    broken: bool,
}

impl Sums {
    /// Goes on with a file, behind the last of its frames that is whole.
    pub(super) fn open(file: File, kind: HashKind) -> io::Result<Self> {
        let mut magic = [0; 8];
        let fresh = file.read_exact_at(&mut magic, 0).is_err() || magic != *MAGIC;
        if fresh {
            file.set_len(0)?;
            file.write_all_at(MAGIC, 0)?;
        }
        let end = frames(&file, |_| Ok(()))?;
        file.set_len(end)?;
        let inner = Inner { file, end, waiting: Vec::new(), began: Instant::now(), broken: false };
        Ok(Self { kind, inner: Mutex::new(inner) })
    }

    /// Keeps the checksum of a file, if the record has one of the right kind.
    pub(super) fn note(&self, record: &EntryRecord) {
        if let (Some(checksum), Some(mtime), None) = (&record.checksum, record.mtime, &record.error)
            && checksum.kind == self.kind
        {
            self.add(&line(&record.path.to_string(), record.size_bytes, mtime, checksum));
        }
    }

    /// Keeps a line of [`line`]'s.
    pub(super) fn add(&self, line: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.broken {
            return;
        }
        if inner.waiting.is_empty() {
            inner.began = Instant::now();
        }
        inner.waiting.extend_from_slice(line.as_bytes());
        inner.waiting.push(b'\n');
        if inner.waiting.len() >= FRAME_BYTES || inner.began.elapsed() >= FRAME_AGE {
            inner.flush();
        }
    }

    /// Hands all checksums to a sorter, each with a last field that is higher the later it was noted.
    pub(super) fn read_into(&self, sorter: &mut Sorter) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.flush();
        let mut turn = 0_u64;
        let mut push = |lines: &[u8]| {
            turn += 1;
            lines
                .split(|b| *b == b'\n')
                .filter(|line| !line.is_empty())
                .try_for_each(|line| sorter.push(&[line, b"\t", turn.to_string().as_bytes()].concat()))
        };
        frames(&inner.file, &mut push)?;
        // Of a file that cannot be written, what is in memory still counts.
        push(&inner.waiting)
    }
}

impl Drop for Sums {
    /// Best effort: what does not get there is compared by the next run.
    fn drop(&mut self) {
        self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).flush();
    }
}

impl Inner {
    fn flush(&mut self) {
        if self.waiting.is_empty() || self.broken {
            return;
        }
        match self.write_frame() {
            Ok(len) => {
                self.end += len;
                self.waiting.clear();
            }
            Err(_) => self.broken = true,
        }
    }

    fn write_frame(&mut self) -> io::Result<u64> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1)?;
        encoder.include_checksum(true)?;
        encoder.write_all(&self.waiting)?;
        let body = encoder.finish()?;
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend_from_slice(&body);
        self.file.write_all_at(&frame, self.end)?;
        Ok(frame.len() as u64)
    }
}

/// Goes through the whole frames of a file, and tells where they end.
fn frames(file: &File, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
    let mut end = MAGIC.len() as u64;
    let len_bytes = file.metadata()?.len();
    loop {
        let mut len = [0; 4];
        if file.read_exact_at(&mut len, end).is_err() {
            return Ok(end);
        }
        let len = u32::from_le_bytes(len) as usize;
        let mut body = Vec::new();
        let whole = len <= FRAME_BYTES_MAX && end + 4 + len as u64 <= len_bytes && {
            body.resize(len, 0);
            file.read_exact_at(&mut body, end + 4).is_ok()
        };
        let Some(frame) = whole.then(|| unpack(&body)).flatten() else { return Ok(end) };
        each(&frame)?;
        end += 4 + len as u64;
    }
}

fn unpack(body: &[u8]) -> Option<Vec<u8>> {
    let mut frame = Vec::new();
    let mut decoder = zstd::Decoder::new(body).ok()?;
    decoder.window_log_max(WINDOW_LOG_MAX).ok()?;
    let read = io::Read::by_ref(&mut decoder).take(FRAME_BYTES_MAX as u64 + 1).read_to_end(&mut frame).ok()?;
    // Whatever stands in it must be lines that can be sorted as such.
    (read <= FRAME_BYTES_MAX && std::str::from_utf8(&frame).is_ok()).then_some(frame)
}

/// A checksum as a line that sorts by its path, which is escaped.
pub(super) fn line(path: &str, size_bytes: u64, mtime: Timestamp, checksum: &Checksum) -> String {
    format!("{path}\t{size_bytes}\t{}\t{}\t{checksum}", time(mtime), checksum.kind.as_str())
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use testkit::disk::TempDir;

    use super::*;

    fn open(path: &std::path::Path) -> Sums {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("opens");
        Sums::open(file, HashKind::Xxh3Blocks).expect("readable")
    }

    fn lines(sums: &Sums) -> Vec<String> {
        let dir = TempDir::new();
        let mut sorter = Sorter::new(dir.path()).expect("a sorter");
        sums.read_into(&mut sorter).expect("readable");
        let sorted = sorter.finish().expect("sorted");
        let mut merge = sorted.merge().expect("merge");
        std::iter::from_fn(|| merge.next().expect("readable"))
            .map(|line| String::from_utf8(line).expect("text"))
            .collect()
    }

    #[test]
    fn what_a_run_learned_is_there_for_the_next_one_and_a_torn_frame_is_not() {
        let dir = TempDir::new();
        let path = dir.path().join("sums");
        let of = |name: &str| line(name, 5, Timestamp { seconds: 1, nanos: 2 }, &copy::BlockSum::default().finish(5));
        let first = open(&path);
        first.add(&of("b"));
        drop(first);
        let second = open(&path);
        second.add(&of("a"));
        assert_eq!(lines(&second), [of("a") + "\t2", of("b") + "\t1"]);
        drop(second);
        let whole = std::fs::read(&path).expect("bytes");
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("torn");
            let torn = open(&path);
            assert!(lines(&torn).len() < 2, "{cut}");
            torn.add(&of("c"));
            assert!(lines(&torn).iter().any(|line| line.starts_with(&of("c"))));
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            std::fs::write(&path, &flipped).expect("damaged");
            let known = [of("a"), of("b")];
            assert!(lines(&open(&path)).iter().all(|l| known.iter().any(|known| l.starts_with(known))), "{at}");
        }
    }
}
