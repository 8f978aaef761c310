//! Bodies that peers compress, as kombu does: the header `compression` names the method.

use std::io::{Read, Write as _};

use bzip2::read::BzDecoder;
use bzip2::write::BzEncoder;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

/// Header that names the method of compression.
pub const COMPRESSION_HEADER: &str = "compression";

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// What oslo.messaging calls `gzip`: a zlib stream, no gzip file.
    Zlib,
    Bzip2,
}

/// Why a body could not be decompressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    #[error("the body is compressed as `{0}`, which is not known here; peers may use `gzip` or `bz2`")]
    Unknown(String),
    #[error("the body is larger than {limit_bytes} bytes when decompressed")]
    TooLarge { limit_bytes: usize },
    #[error("the compressed body is damaged")]
    Damaged(#[source] std::io::Error),
}

impl Compression {
    /// By the value of the option `kombu_compression`.
    pub fn named(option: &str) -> Option<Self> {
        match option {
            "gzip" | "zlib" => Some(Self::Zlib),
            "bz2" | "bzip2" | "bzip" => Some(Self::Bzip2),
            _ => Self::of_header(option),
        }
    }

    /// By the value of the header.
    pub fn of_header(value: &str) -> Option<Self> {
        match value {
            "application/x-gzip" => Some(Self::Zlib),
            "application/x-bz2" => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// The value of the header.
    pub fn header(self) -> &'static str {
        match self {
            Self::Zlib => "application/x-gzip",
            Self::Bzip2 => "application/x-bz2",
        }
    }

    pub fn compress(self, body: &[u8]) -> Vec<u8> {
        let compressed = match self {
            Self::Zlib => {
                let mut encoder = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Bzip2 => {
                let mut encoder = BzEncoder::new(Vec::new(), bzip2::Compression::best());
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        compressed.expect("writing to memory does not fail")
    }
}

/// Undoes what the header names, up to a size: a small body can be made to fill any memory.
pub fn decompress(header: &str, body: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    match Compression::of_header(header) {
        Some(Compression::Zlib) => read_to_limit(ZlibDecoder::new(body), limit_bytes),
        Some(Compression::Bzip2) => read_to_limit(BzDecoder::new(body), limit_bytes),
        None => Err(CompressionError::Unknown(header.into())),
    }
}

fn read_to_limit(reader: impl Read, limit_bytes: usize) -> Result<Vec<u8>, CompressionError> {
    let mut body = Vec::new();
    reader.take(limit_bytes as u64 + 1).read_to_end(&mut body).map_err(CompressionError::Damaged)?;
    if body.len() > limit_bytes { Err(CompressionError::TooLarge { limit_bytes }) } else { Ok(body) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_survive_the_way_there_and_back() {
        for (name, header, start) in
            [("gzip", "application/x-gzip", &b"\x78\x9c"[..]), ("bz2", "application/x-bz2", &b"BZh9"[..])]
        {
            let method = Compression::named(name).unwrap();
            let body = br#"{"oslo.version": "2.0"}"#.repeat(50);
            let compressed = method.compress(&body);
            assert!(compressed.starts_with(start), "{name}: {compressed:02x?}");
            assert_eq!(method.header(), header);
            assert_eq!(decompress(header, &compressed, body.len()).unwrap(), body);
        }
    }

    #[test]
    fn a_bomb_stops_at_the_limit() {
        for method in [Compression::Zlib, Compression::Bzip2] {
            let bomb = method.compress(&vec![0; 1 << 20]);
            let error = decompress(method.header(), &bomb, (1 << 20) - 1).unwrap_err();
            assert!(matches!(error, CompressionError::TooLarge { limit_bytes: 1_048_575 }), "{error:?}");
        }
    }

    #[test]
    fn what_is_damaged_or_unknown_is_an_error() {
        let body = Compression::Zlib.compress(&[7; 1000]);
        assert!(matches!(decompress("application/x-gzip", &body[..5], 9999), Err(CompressionError::Damaged(_))));
        assert!(matches!(decompress("application/x-bz2", &body, 9999), Err(CompressionError::Damaged(_))));
        assert!(matches!(decompress("application/x-brotli", &body, 9999), Err(CompressionError::Unknown(_))));
        assert_eq!(Compression::named("brotli"), None);
    }
}
