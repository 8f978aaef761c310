//! Where a file is cut: Rabin fingerprints over a window of 64 bytes, at the same places as restic and rustic cut it,
//! so that content is found again whoever wrote it first.

/// Bytes of the window whose fingerprint decides.
const WINDOW: usize = 64;
/// Stretches that are searched side by side, and their bytes. Four hide the time that the tables take to answer; the
/// block that holds the cut is searched once more.
const LANES: usize = 4;
const LANE: usize = 4096;

/// How files of one repository are cut.
#[derive(Clone, Debug)]
pub(super) struct Chunker {
    out_table: Box<[u64; 256]>,
    mod_table: Box<[u64; 256]>,
    shift: u32,
    mask: u64,
    pub(super) bytes_min: usize,
    pub(super) bytes_max: usize,
}

fn degree(polynomial: u64) -> u32 {
    polynomial.ilog2()
}

fn modulo(mut value: u64, polynomial: u64) -> u64 {
    while value != 0 && degree(value) >= degree(polynomial) {
        value ^= polynomial << (degree(value) - degree(polynomial));
    }
    value
}

impl Chunker {
    /// `None` for numbers that no chunker of this kind can work with.
    pub(super) fn new(polynomial: u64, bytes_average: usize, bytes_min: usize, bytes_max: usize) -> Option<Self> {
        let sound = polynomial >= 1 << 8
            && degree(polynomial) <= 55
            && bytes_average.is_power_of_two()
            && (WINDOW..=bytes_average).contains(&bytes_min)
            && (bytes_average..=CHUNK_BYTES_MAX).contains(&bytes_max);
        if !sound {
            return None;
        }
        let mut out_table = Box::new([0; 256]);
        let mut mod_table = Box::new([0; 256]);
        let k = degree(polynomial);
        for byte in 0..256 {
            let mut hash = modulo(byte as u64, polynomial);
            for _ in 0..WINDOW - 1 {
                hash = modulo(hash << 8, polynomial);
            }
            out_table[byte] = hash;
            let high = (byte as u64) << k;
            mod_table[byte] = modulo(high, polynomial) | high;
        }
        Some(Self { out_table, mod_table, shift: k - 8, mask: bytes_average as u64 - 1, bytes_min, bytes_max })
    }

    fn slide_in(&self, hash: u64, byte: u8) -> u64 {
        let index = (hash >> self.shift) as usize & 255;
        ((hash << 8) | u64::from(byte)) ^ self.mod_table[index]
    }

    /// The hash of a whole window.
    fn hash(&self, window: &[u8]) -> u64 {
        window.iter().fold(0, |hash, byte| self.slide_in(hash, *byte))
    }

    /// The hash behind the next block from `at` on, where there is no cut in it.
    ///
    /// A hash depends on nothing but its window, while computing it waits for the one before: several stretches of the
    /// block side by side keep the processor busy meanwhile.
    fn pass_over(&self, data: &[u8], at: usize, hash: u64) -> Option<u64> {
        let lane = |lane: usize, back: usize| -> &[u8; LANE] {
            data[at + lane * LANE - back..].first_chunk().expect("the block is within the data")
        };
        let leaving: [_; LANES] = std::array::from_fn(|number| lane(number, WINDOW));
        let entering: [_; LANES] = std::array::from_fn(|number| lane(number, 0));
        let mut hashes: [u64; LANES] = std::array::from_fn(|number| match number {
            0 => hash,
            _ => self.hash(&leaving[number][..WINDOW]),
        });
        for position in 0..LANE {
            let mut is_cut = false;
            for number in 0..LANES {
                let hash = hashes[number] ^ self.out_table[usize::from(leaving[number][position])];
                hashes[number] = self.slide_in(hash, entering[number][position]);
                is_cut |= hashes[number] & self.mask == 0;
            }
            if is_cut {
                return None;
            }
        }
        Some(hashes[LANES - 1])
    }

    /// The length of the chunk at the beginning of `data`; `None` where more data is needed to tell. At the end of a
    /// file what is left is the last chunk.
    ///
    /// `state` carries the search on when it is called again with the same beginning and more behind it; a new chunk
    /// begins with a new one.
    pub(super) fn cut(&self, data: &[u8], state: &mut CutState) -> Option<usize> {
        if data.len() < self.bytes_min {
            return None;
        }
        let (at, mut hash) = match *state {
            CutState::New => {
                let window = &data[self.bytes_min - WINDOW..self.bytes_min];
                let hash = self.hash(window);
                if hash & self.mask == 0 {
                    return Some(self.bytes_min);
                }
                (self.bytes_min, hash)
            }
            CutState::Searching { at, hash } => (at, hash),
        };
        let end = data.len().min(self.bytes_max);
        let mut at = at;
        while end - at >= LANES * LANE {
            let Some(next) = self.pass_over(data, at, hash) else { break };
            (at, hash) = (at + LANES * LANE, next);
        }
        // What is left, or the block that a cut is in. Both slices have one length, which spares the loop its checks.
        let (leaving, entering) = (&data[at - WINDOW..end - WINDOW], &data[at..end]);
        for (offset, (old, new)) in leaving.iter().zip(entering).enumerate() {
            hash ^= self.out_table[usize::from(*old)];
            hash = self.slide_in(hash, *new);
            if hash & self.mask == 0 {
                *state = CutState::New;
                return Some(at + offset + 1);
            }
        }
        if data.len() >= self.bytes_max {
            *state = CutState::New;
            return Some(self.bytes_max);
        }
        *state = CutState::Searching { at: end, hash };
        None
    }
}

/// How far the search for a cut has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum CutState {
    #[default]
    New,
    Searching {
        at: usize,
        hash: u64,
    },
}

/// No repository cuts larger pieces: each is held in memory as a whole, by each worker.
const CHUNK_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The polynomial and the lengths of the published test of restic's chunker.
    const POLYNOMIAL: u64 = 0x3D_A335_8B4D_C173;

    fn cuts(chunker: &Chunker, data: &[u8], step: usize) -> Vec<usize> {
        let (mut start, mut seen, mut state, mut cuts) = (0, 0, CutState::New, Vec::new());
        while start < data.len() {
            match chunker.cut(&data[start..seen], &mut state) {
                Some(length) => {
                    cuts.push(length);
                    start += length;
                    state = CutState::New;
                }
                None if seen == data.len() => {
                    cuts.push(seen - start);
                    break;
                }
                None => seen = data.len().min(seen + step),
            }
        }
        cuts
    }

    /// Numbers of the generator that restic's chunker is tested with: `math/rand` is not at hand, so any will do.
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 23_u64;
        let step = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..bytes).map(step).collect()
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_data_arrives_and_stay_within_their_bounds() {
        let chunker = Chunker::new(POLYNOMIAL, 1 << 12, 1 << 11, 1 << 13).expect("sound");
        let data = noise(300_000);
        let whole = cuts(&chunker, &data, data.len());
        assert!(whole.len() > 20 && whole.iter().rev().skip(1).all(|cut| (1 << 11..=1 << 13).contains(cut)));
        for step in [1, 63, 64, 65, 1000, 4096] {
            assert_eq!(cuts(&chunker, &data, step), whole, "{step}");
        }
        // What is put in front moves the cuts along.
        let moved = [&noise(777)[..], &data].concat();
        let shared =
            cuts(&chunker, &moved, 4096).iter().rev().zip(whole.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(shared > whole.len() / 2, "{shared} of {}", whole.len());
    }

    #[test]
    fn stretches_side_by_side_find_what_one_after_the_other_finds() {
        let chunker = Chunker::new(POLYNOMIAL, 1 << 15, 1 << 12, 1 << 18).expect("sound");
        let data = noise(8_000_000);
        // Too little arrives at a time for anything but one byte after the other.
        let one_by_one = cuts(&chunker, &data, LANES * LANE / 2);
        assert!(one_by_one.len() > 100, "{}", one_by_one.len());
        for step in [LANES * LANE - 1, LANES * LANE, LANES * LANE + 1, 100_000, data.len()] {
            assert_eq!(cuts(&chunker, &data, step), one_by_one, "{step}");
        }
    }

    #[test]
    fn zeros_are_cut_at_the_least_length() {
        let chunker = Chunker::new(POLYNOMIAL, 1 << 20, 512 << 10, 8 << 20).expect("sound");
        assert_eq!(cuts(&chunker, &vec![0; 2 << 20], 256 << 10), [512 << 10; 4]);
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (polynomial, average, min, max) in [
            (0, 1 << 20, 1 << 19, 1 << 23),
            (POLYNOMIAL, 1000, 100, 2000),
            (POLYNOMIAL, 1 << 20, 1 << 21, 1 << 23),
            (u64::MAX, 1 << 20, 1 << 19, 1 << 23),
            (POLYNOMIAL, 1 << 20, 1 << 19, 1 << 40),
        ] {
            assert!(Chunker::new(polynomial, average, min, max).is_none());
        }
    }
}
