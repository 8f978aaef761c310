//! Checksums of file content, computed while it passes by.

use std::fmt;

use sha2::Digest as _;
use xxhash_rust::xxh3;

/// Which checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKind {
    /// Fast and not cryptographic: finds damage, not forgery. Blocks of 64 KiB are hashed by themselves and added up,
    /// so that byte ranges can be moved in any order and holes cost nothing; see [`BlockSum`].
    Xxh3Blocks,
    /// The digest that `b3sum` prints. Files are then read from start to end by one worker.
    Blake3,
    /// The digest that `sha256sum` prints. Files are then read from start to end by one worker.
    Sha256,
}

impl HashKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Xxh3Blocks => "xxh3-blocks",
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// Whether the bytes must pass in order.
    pub fn is_sequential(self) -> bool {
        self != Self::Xxh3Blocks
    }
}

/// A file's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    pub kind: HashKind,
    digest: [u8; 32],
}

impl Checksum {
    pub fn bytes(&self) -> &[u8] {
        match self.kind {
            HashKind::Xxh3Blocks => &self.digest[..16],
            HashKind::Blake3 | HashKind::Sha256 => &self.digest,
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Unit of [`HashKind::Xxh3Blocks`]; ranges begin at multiples of it.
pub const BLOCK: u64 = 64 << 10;

/// Sum, modulo 2^128, of `xxh3_128(block, seed = offset of the block)` over all 64 KiB blocks that hold a byte other
/// than zero (the last one may be short), finished with the file's size. The order of the blocks does not matter, and
/// holes add nothing whether they are read or skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSum(u128);

impl BlockSum {
    /// Adds the blocks of `data`, which begins at `offset`, a multiple of [`BLOCK`], and ends at one or at the end of
    /// the file.
    pub fn update(&mut self, data: &[u8], offset: u64) {
        debug_assert_eq!(offset % BLOCK, 0);
        for (i, block) in data.chunks(BLOCK as usize).enumerate() {
            if !is_zero(block) {
                self.0 = self.0.wrapping_add(xxh3::xxh3_128_with_seed(block, offset + i as u64 * BLOCK));
            }
        }
    }

    pub fn add(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }

    pub fn finish(self, size_bytes: u64) -> Checksum {
        let mut digest = [0; 32];
        let sum = self.0.wrapping_add(xxh3::xxh3_128(&size_bytes.to_le_bytes()));
        digest[..16].copy_from_slice(&sum.to_be_bytes());
        Checksum { kind: HashKind::Xxh3Blocks, digest }
    }
}

/// Tells whether all bytes are zero; looks at little of what is not.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    data.chunks(4096).all(|chunk| {
        // Wide enough for the compiler to use vector registers.
        let (middle, tail) = chunk.as_chunks::<64>();
        tail.iter().all(|b| *b == 0) && middle.iter().all(|block| block.iter().fold(0, |acc, b| acc | b) == 0)
    })
}

/// A digest over bytes in order.
#[derive(Debug)]
pub(crate) enum Sequential {
    Blake3(Box<blake3::Hasher>),
    Sha256(Box<sha2::Sha256>),
}

impl Sequential {
    pub(crate) fn new(kind: HashKind) -> Option<Self> {
        match kind {
            HashKind::Xxh3Blocks => None,
            HashKind::Blake3 => Some(Self::Blake3(Box::default())),
            HashKind::Sha256 => Some(Self::Sha256(Box::default())),
        }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        match self {
            Self::Blake3(hasher) => {
                hasher.update(data);
            }
            Self::Sha256(hasher) => hasher.update(data),
        }
    }

    /// Adds `count` zero bytes: a hole.
    pub(crate) fn update_zeros(&mut self, mut count: u64) {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        while count > 0 {
            let n = count.min(ZEROS.len() as u64);
            self.update(&ZEROS[..n as usize]);
            count -= n;
        }
    }

    pub(crate) fn finish(self) -> Checksum {
        match self {
            Self::Blake3(hasher) => Checksum { kind: HashKind::Blake3, digest: *hasher.finalize().as_bytes() },
            Self::Sha256(hasher) => Checksum { kind: HashKind::Sha256, digest: hasher.finalize().into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sums_do_not_depend_on_order_or_on_holes_being_read() {
        let block = BLOCK as usize;
        let mut data = vec![0; 5 * block + 77];
        data[3] = 1;
        data[3 * block + 9] = 2;
        data[5 * block + 76] = 3;
        let mut whole = BlockSum::default();
        whole.update(&data, 0);
        let mut parts = BlockSum::default();
        parts.update(&data[3 * block..], 3 * BLOCK);
        let mut first = BlockSum::default();
        first.update(&data[..block], 0);
        parts.add(first);
        assert_eq!(parts, whole);
        assert_ne!(whole.finish(1), whole.finish(2));
    }

    #[test]
    fn blocks_that_swap_places_change_the_sum() {
        let block = BLOCK as usize;
        let (mut a, mut b) = (vec![1; 2 * block], vec![2; 2 * block]);
        a[block..].fill(2);
        b[block..].fill(1);
        let sum = |data: &[u8]| {
            let mut sum = BlockSum::default();
            sum.update(data, 0);
            sum
        };
        assert_ne!(sum(&a), sum(&b));
    }

    #[test]
    fn sequential_digests_are_the_standard_ones() {
        let digest = |kind| {
            let mut hasher = Sequential::new(kind).expect("sequential");
            hasher.update(b"ab");
            hasher.update(b"c");
            hasher.finish().to_string()
        };
        // FIPS 180-2 appendix B.1, and the BLAKE3 reference implementation.
        assert_eq!(digest(HashKind::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest(HashKind::Blake3), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        let mut data = vec![0; 9000];
        assert!(is_zero(&data));
        for i in [0, 63, 64, 4095, 4096, 8999] {
            data[i] = 1;
            assert!(!is_zero(&data), "{i}");
            data[i] = 0;
        }
    }
}
