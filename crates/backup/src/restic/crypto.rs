//! How a repository seals what it holds: AES-256 in counter mode with Poly1305-AES, as restic's design document has it,
//! and zstd below that.

use std::cell::RefCell;
use std::fmt;

use aes256ctr_poly1305aes::aead::AeadInPlace;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key as CipherKey, Nonce, Tag};
use rayon::ThreadPoolBuilder;

const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
/// What sealing adds.
pub(super) const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// The repository's own key; the password only opens the file that holds it.
#[derive(Clone)]
pub(super) struct Key(CipherKey);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The data was not sealed with this key, or was changed since.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// What scrypt may cost to open a key file: 256 MiB. Whoever can write to the storage could ask for any sum.
const SCRYPT_BYTES_MAX: u64 = 256 << 20;
const SCRYPT_PASSES_MAX: u32 = 16;
/// Lanes that run at the same time together stay within this, or one runs alone.
const SCRYPT_LANES_BYTES_MAX: u64 = 96 << 20;

/// The parameters of scrypt, with their names there.
#[derive(Clone, Copy)]
pub(super) struct ScryptCost {
    pub(super) n: u32,
    pub(super) r: u32,
    pub(super) p: u32,
}

impl ScryptCost {
    /// What each of the `p` lanes takes.
    fn lane_bytes(self) -> u64 {
        u64::from(self.n).saturating_mul(u64::from(self.r)).saturating_mul(128).max(1)
    }
}

/// Why there is no key for a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Underivable {
    /// It would cost more than anybody needs.
    TooMuch,
    /// Scrypt has no such parameters.
    Unsound,
    /// The system gave no thread.
    NoThread(String),
}

impl Key {
    /// `None` where the parts have not the lengths of restic's keys.
    pub(super) fn from_parts(encrypt: &[u8], k: &[u8], r: &[u8]) -> Option<Self> {
        if (encrypt.len(), k.len(), r.len()) != (32, 16, 16) {
            return None;
        }
        let whole: [u8; 64] = [encrypt, k, r].concat().try_into().ok()?;
        Some(Self(whole.into()))
    }

    /// Derives the key that opens a key file, as its parameters say. Its lanes run side by side on a few threads: one
    /// takes a tenth of a second, and they are many in a key file of restic.
    pub(super) fn derive(password: &[u8], salt: &[u8], cost: ScryptCost) -> Result<Self, Underivable> {
        if cost.lane_bytes() > SCRYPT_BYTES_MAX || cost.p > SCRYPT_PASSES_MAX {
            return Err(Underivable::TooMuch);
        }
        if !cost.n.is_power_of_two() || cost.p == 0 {
            return Err(Underivable::Unsound);
        }
        let log_n = cost.n.trailing_zeros() as u8;
        let params = scrypt::Params::new(log_n, cost.r, cost.p).map_err(|_| Underivable::Unsound)?;
        let (key, cores) = (&mut [0; 64], std::thread::available_parallelism().map_or(1, usize::from));
        let lanes = (SCRYPT_LANES_BYTES_MAX / cost.lane_bytes()).clamp(1, u64::from(cost.p)) as usize;
        let pool = ThreadPoolBuilder::new().num_threads(lanes.min(cores)).build();
        let pool = pool.map_err(|error| Underivable::NoThread(error.to_string()))?;
        pool.install(|| scrypt::scrypt(password, salt, &params, key)).map_err(|_| Underivable::Unsound)?;
        Ok(Self((*key).into()))
    }

    pub(super) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce);
        let mut out = Vec::with_capacity(plain.len() + SEAL_BYTES);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = Aes256CtrPoly1305Aes::new(&self.0)
            .encrypt_in_place_detached(&Nonce::from(nonce), b"", &mut out[NONCE_BYTES..])
            .expect("a blob is far below the cipher's limit");
        out.extend_from_slice(&tag);
        out
    }

    pub(super) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Forged> {
        let mut sealed = sealed.to_vec();
        let bytes = self.open_in_place(&mut sealed)?.len();
        sealed.copy_within(NONCE_BYTES..NONCE_BYTES + bytes, 0);
        sealed.truncate(bytes);
        Ok(sealed)
    }

    /// What was sealed, where it lies.
    pub(super) fn open_in_place<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE_BYTES>().ok_or(Forged)?;
        let (body, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(Forged)?;
        Aes256CtrPoly1305Aes::new(&self.0)
            .decrypt_in_place_detached(&Nonce::from(*nonce), b"", body, &Tag::from(*tag))
            .map_err(|_| Forged)?;
        Ok(body)
    }
}

/// Bytes that nobody can guess.
pub(super) fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    random(&mut bytes);
    bytes
}

fn random(mut out: &mut [u8]) {
    while !out.is_empty() {
        // Never fails once the machine has started; an interrupted call is made again.
        if let Ok(filled) = rustix::rand::getrandom(&mut *out, rustix::rand::GetRandomFlags::empty()) {
            out = &mut out[filled..];
        }
    }
}

thread_local! {
    /// A context holds a megabyte and more, which is not to be made anew for each small file.
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

pub(super) fn compress(data: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(of, _)| *of != level) {
            *kept = Some((level, zstd::bulk::Compressor::new(level)?));
        }
        kept.as_mut().expect("just made").1.compress(data)
    })
}

/// Gives back at most `bytes_max`; more is an error, so that a few bytes cannot become all memory.
pub(super) fn decompress(data: &[u8], bytes_max: usize) -> std::io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(data, bytes_max)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restic::id::Id;

    #[test]
    fn what_was_sealed_opens_and_any_changed_bit_is_noticed() {
        let key = Key::from_parts(&[1; 32], &[2; 16], &[3; 16]).expect("lengths of a key");
        for plain in [&b""[..], b"x", &[7; 1000]] {
            let sealed = key.seal(plain);
            assert_eq!(sealed.len(), plain.len() + SEAL_BYTES);
            assert_eq!(key.open(&sealed).as_deref(), Ok(plain));
            for bit in 0..sealed.len() * 8 {
                let mut bad = sealed.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&bad), Err(Forged), "bit {bit}");
            }
            assert_eq!(key.open(&sealed[1..]), Err(Forged));
        }
        assert_ne!(key.seal(b"same"), key.seal(b"same"), "each time with a number of its own");
        assert!(Key::from_parts(&[1; 31], &[2; 16], &[3; 16]).is_none());
    }

    #[test]
    fn a_key_is_derived_as_scrypt_has_it_and_only_at_a_sound_price() {
        let cost = ScryptCost { n: 1024, r: 8, p: 16 };
        // The second test vector of RFC 7914, section 12.
        let halves = [
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162",
            "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
        ];
        let told = halves.map(|half| Id::from_hex(half.as_bytes()).expect("half of it").0).concat();
        let key = Key::derive(b"password", b"NaCl", cost).expect("derives");
        assert_eq!(key.0[..], told);
        let refused = |n, r, p| Key::derive(b"password", b"NaCl", ScryptCost { n, r, p }).err();
        assert_eq!(refused(1 << 19, 8, 1), Some(Underivable::TooMuch));
        assert_eq!(refused(1024, u32::MAX, 1), Some(Underivable::TooMuch));
        assert_eq!(refused(1024, 8, 17), Some(Underivable::TooMuch));
        assert_eq!(refused(1024, 0, 1), Some(Underivable::Unsound));
        assert_eq!(refused(1024, 8, 0), Some(Underivable::Unsound));
        assert_eq!(refused(1000, 8, 1), Some(Underivable::Unsound));
        assert_eq!(refused(0, 8, 1), Some(Underivable::Unsound));
    }

    #[test]
    fn compressed_data_comes_back_and_never_larger_than_told() {
        let data = b"abc".repeat(10_000);
        let small = compress(&data, 3).expect("compresses");
        assert!(small.len() < data.len() / 10);
        assert_eq!(decompress(&small, data.len()).expect("decompresses"), data);
        assert!(decompress(&small, data.len() - 1).is_err());
    }
}
