//! Content of a regular file in blocks, so that a hole is a block that is not there and huge sparse files cost nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// Granularity of holes; that of the file systems which tests use.
pub const BLOCK_BYTES: u64 = 4096;

/// Bytes of a file, its holes and its allocated but never written stretches.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    size_bytes: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// In blocks.
    unwritten: RangeSet,
}

impl Content {
    pub fn new() -> Self {
        Self::default()
    }

    /// A file without holes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Self::default();
        content.write_at(bytes, 0);
        content
    }

    /// A file of `size_bytes` with data at the given offsets and holes elsewhere.
    pub fn sparse(size_bytes: u64, extents: &[(u64, &[u8])]) -> Self {
        let mut content = Self::default();
        for (offset, bytes) in extents {
            content.write_at(bytes, *offset);
        }
        content.set_len(size_bytes);
        content
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn allocated_bytes(&self) -> u64 {
        (self.blocks.len() as u64 + self.unwritten.total()) * BLOCK_BYTES
    }

    /// Blocks that writing `range` would newly take.
    pub fn blocks_needed(&self, range: &Range<u64>) -> u64 {
        let blocks = block_range(range);
        blocks.end - blocks.start - self.blocks.range(blocks.clone()).count() as u64 - self.unwritten.overlap(&blocks)
    }

    pub fn write_at(&mut self, bytes: &[u8], offset: u64) {
        let mut rest = bytes;
        let mut at = offset;
        while !rest.is_empty() {
            let (block, start) = (at / BLOCK_BYTES, (at % BLOCK_BYTES) as usize);
            let (part, after) = rest.split_at(rest.len().min(BLOCK_BYTES as usize - start));
            let data = self.blocks.entry(block).or_insert_with(|| vec![0; BLOCK_BYTES as usize].into());
            data[start..start + part.len()].copy_from_slice(part);
            self.unwritten.remove(block..block + 1);
            at += part.len() as u64;
            rest = after;
        }
        if !bytes.is_empty() {
            self.size_bytes = self.size_bytes.max(at);
        }
    }

    /// Fills the buffer from `offset` on; less than its length at the end of the file only.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> usize {
        let len = self.size_bytes.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let buffer = &mut buffer[..len];
        buffer.fill(0);
        let range = offset..offset + len as u64;
        for (block, data) in self.blocks.range(block_range(&range)) {
            let start = block * BLOCK_BYTES;
            let (from, to) = (range.start.max(start), range.end.min(start + BLOCK_BYTES));
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&data[(from - start) as usize..(to - start) as usize]);
        }
        len
    }

    /// All bytes; for small files.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.size_bytes).unwrap()];
        self.read_at(&mut bytes, 0);
        bytes
    }

    pub fn set_len(&mut self, size_bytes: u64) {
        if size_bytes < self.size_bytes {
            let keep = size_bytes.div_ceil(BLOCK_BYTES);
            self.blocks.split_off(&keep);
            self.unwritten.remove(keep..u64::MAX);
            if let Some(last) = self.blocks.get_mut(&(size_bytes / BLOCK_BYTES)) {
                last[(size_bytes % BLOCK_BYTES) as usize..].fill(0);
            }
        }
        self.size_bytes = size_bytes;
    }

    /// Takes space for the range and leaves size and bytes as they are.
    pub fn allocate(&mut self, range: &Range<u64>) {
        self.unwritten.insert(block_range(range));
        let written: Vec<u64> = self.blocks.range(block_range(range)).map(|(block, _)| *block).collect();
        for block in written {
            self.unwritten.remove(block..block + 1);
        }
    }

    /// Bytes that are allocated and were never written.
    pub fn unwritten(&self) -> Vec<Range<u64>> {
        self.unwritten.iter().map(|r| r.start * BLOCK_BYTES..r.end * BLOCK_BYTES).collect()
    }

    /// As `SEEK_DATA` followed by `SEEK_HOLE`.
    pub fn next_data(&self, from: u64) -> Option<Range<u64>> {
        if from >= self.size_bytes {
            return None;
        }
        let mut blocks = self.blocks.range(from / BLOCK_BYTES..).map(|(block, _)| *block);
        let first = blocks.next()?;
        let mut end = first + 1;
        while blocks.next() == Some(end) {
            end += 1;
        }
        Some(from.max(first * BLOCK_BYTES)..(end * BLOCK_BYTES).min(self.size_bytes))
    }

    /// Every stretch of data, in order.
    pub fn data_ranges(&self) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Some(range) = self.next_data(at) {
            at = range.end;
            ranges.push(range);
        }
        ranges
    }

    /// What a crash can leave of a file whose data did not reach storage: the size, and zeros.
    pub fn lose_data(&mut self) {
        self.blocks.clear();
    }

    /// Offset of the first byte that differs, holes being zeros; the shorter one's end where that is all.
    pub fn first_difference(&self, other: &Self) -> Option<u64> {
        let end = self.size_bytes.min(other.size_bytes);
        let zeros = vec![0; BLOCK_BYTES as usize].into_boxed_slice();
        let keys: std::collections::BTreeSet<u64> = self.blocks.keys().chain(other.blocks.keys()).copied().collect();
        for block in keys {
            let a = self.blocks.get(&block).unwrap_or(&zeros);
            let b = other.blocks.get(&block).unwrap_or(&zeros);
            if let Some(at) = a.iter().zip(b).position(|(a, b)| a != b) {
                let offset = block * BLOCK_BYTES + at as u64;
                return Some(offset.min(if self.size_bytes == other.size_bytes { offset } else { end }));
            }
        }
        (self.size_bytes != other.size_bytes).then_some(end)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.size_bytes)?;
        for range in self.data_ranges().iter().take(8) {
            let mut head = [0; 8];
            let read = self.read_at(&mut head, range.start);
            write!(f, " [{}..{} {:02x?}..]", range.start, range.end, &head[..read])?;
        }
        if self.unwritten.total() > 0 {
            write!(f, " unwritten {:?}", self.unwritten())?;
        }
        Ok(())
    }
}

fn block_range(range: &Range<u64>) -> Range<u64> {
    let start = range.start / BLOCK_BYTES;
    start..range.end.div_ceil(BLOCK_BYTES).max(start)
}

/// Disjoint ranges in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut merged = range;
        self.0.retain(|r| {
            let apart = r.end < merged.start || r.start > merged.end;
            if !apart {
                merged = merged.start.min(r.start)..merged.end.max(r.end);
            }
            apart
        });
        let at = self.0.partition_point(|r| r.start < merged.start);
        self.0.insert(at, merged);
    }

    pub fn remove(&mut self, range: Range<u64>) {
        let old = std::mem::take(&mut self.0);
        for r in old {
            for part in [r.start..r.end.min(range.start), r.start.max(range.end)..r.end] {
                if part.start < part.end {
                    self.0.push(part);
                }
            }
        }
    }

    /// How much of `range` is in the set.
    pub fn overlap(&self, range: &Range<u64>) -> u64 {
        self.0.iter().map(|r| r.end.min(range.end).saturating_sub(r.start.max(range.start))).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.0.iter()
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|r| r.end - r.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_between_extents_are_holes_and_read_as_zeros() {
        let content = Content::sparse(1 << 40, &[(10, b"abc"), (1 << 30, b"x")]);
        assert_eq!(content.data_ranges(), [0..4096, 1 << 30..(1 << 30) + 4096]);
        assert_eq!(content.allocated_bytes(), 8192);
        let mut buffer = [9; 6];
        assert_eq!(content.read_at(&mut buffer, 8), 6);
        assert_eq!(&buffer, b"\0\0abc\0");
        assert_eq!(content.read_at(&mut buffer, (1 << 40) - 2), 2);
        assert_eq!(content.read_at(&mut buffer, 1 << 40), 0);
    }

    #[test]
    fn what_was_cut_off_does_not_come_back() {
        let mut content = Content::from_bytes(&[7; 5000]);
        content.set_len(10);
        content.set_len(5000);
        assert_eq!(content.to_bytes()[..12], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0]);
        assert_eq!(content.data_ranges(), std::iter::once(0..4096).collect::<Vec<_>>());
    }

    #[test]
    fn zeros_and_holes_are_the_same_bytes() {
        let (dense, hole) = (Content::from_bytes(&[0; 9000]), Content::sparse(9000, &[]));
        assert_eq!(dense.first_difference(&hole), None);
        assert_ne!(dense, hole);
        assert_eq!(dense.first_difference(&Content::sparse(9000, &[(8999, b"x")])), Some(8999));
        assert_eq!(dense.first_difference(&Content::sparse(8999, &[])), Some(8999));
    }

    #[test]
    fn space_is_allocated_without_becoming_data() {
        let mut content = Content::from_bytes(&[1; 4096]);
        content.allocate(&(0..4096 * 4));
        assert_eq!((content.size_bytes(), content.allocated_bytes()), (4096, 4096 * 4));
        assert_eq!(content.unwritten(), std::iter::once(4096..4096 * 4).collect::<Vec<_>>());
        content.write_at(b"x", 4096 * 2);
        assert_eq!(content.unwritten(), [4096..8192, 12288..16384]);
        assert_eq!(content.blocks_needed(&(0..4096 * 5)), 1);
    }

    #[test]
    fn ranges_merge_and_split() {
        let mut set = RangeSet::default();
        for range in [5..7, 0..2, 2..4, 6..9] {
            set.insert(range);
        }
        assert_eq!(set.iter().cloned().collect::<Vec<_>>(), [0..4, 5..9]);
        set.remove(3..6);
        assert_eq!(set.iter().cloned().collect::<Vec<_>>(), [0..3, 6..9]);
    }
}
