//! Hashes as people write them.

use std::fmt::Write as _;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A hash of 256 bits; `None` where the text is not one.
pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_and_nothing_else_is_one() {
        let hash: [u8; 32] = std::array::from_fn(|index| (index * 8) as u8);
        let text = hex(&hash);
        assert_eq!(unhex(&text), Some(hash));
        for bad in ["", "00", &text[1..], &text.replace('0', "g"), &text.replacen("00", "\u{e9}", 1), &"+1".repeat(32)]
        {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }
}
