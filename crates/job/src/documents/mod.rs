//! What runs tell, as JSON: for worker pipes, reports, the API and programs at a terminal.
//!
//! Adding a field is no new version; changing or removing one is.

mod entry;
mod progress;
mod summary;

use copy::RelPath;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

pub use entry::{Entry, ReportLine};
pub use progress::Progress;
pub use summary::{
    BackupFacts, Comparison, CopySummary, Counts, Differing, FaultEntry, Lost, MoverCounts, RepositorySummary, Summary,
};

pub const SCHEMA_VERSION: u32 = 1;

/// `{"path":"..."}` where the bytes are UTF-8, otherwise `{"path_hex":"..."}`: exact in both cases. The root is `.`.
#[derive(Debug)]
pub struct JsonPath<'a>(pub &'a RelPath);

impl Serialize for JsonPath<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match str::from_utf8(self.0.as_bytes()) {
            Ok("") => map.serialize_entry("path", ".")?,
            Ok(text) => map.serialize_entry("path", text)?,
            Err(_) => map.serialize_entry("path_hex", &hex(self.0.as_bytes()))?,
        }
        map.end()
    }
}

/// A path below a tree's root, exact: as text where it is UTF-8, otherwise in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PathText {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
}

impl From<&RelPath> for PathText {
    fn from(path: &RelPath) -> Self {
        match str::from_utf8(path.as_bytes()) {
            Ok("") => Self { path: Some(".".into()), path_hex: None },
            Ok(text) => Self { path: Some(text.into()), path_hex: None },
            Err(_) => Self { path: None, path_hex: Some(hex(path.as_bytes())) },
        }
    }
}

impl PathText {
    /// The path itself; `None` where the text is not one.
    pub fn parse(&self) -> Option<RelPath> {
        let bytes = match (self.path.as_deref(), &self.path_hex) {
            (Some("."), None) => Vec::new(),
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(hex)) => unhex(hex)?,
            _ => return None,
        };
        RelPath::parse(&bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Three decimals are enough for people and programs.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn paths_are_exact_in_both_encodings() {
        let check = |bytes: &[u8], expected: Value| {
            let path = RelPath::parse(bytes).expect("a path");
            assert_eq!(serde_json::to_value(JsonPath(&path)).expect("encodes"), expected);
            let text = PathText::from(&path);
            assert_eq!(serde_json::to_value(&text).expect("encodes"), expected);
            assert_eq!(text.parse(), Some(path));
        };
        check(b"a/b", json!({ "path": "a/b" }));
        check(b"a\nb\"\\ \xc3\xa9", json!({ "path": "a\nb\"\\ é" }));
        check(b"a\xff/\n", json!({ "path_hex": "61ff2f0a" }));
        check(b"", json!({ "path": "." }));
    }

    #[test]
    fn what_is_no_path_is_none() {
        for (path, path_hex) in [(Some("/etc"), None), (Some("../x"), None), (None, Some("6")), (None, Some("zz"))] {
            let text = PathText { path: path.map(Into::into), path_hex: path_hex.map(Into::into) };
            assert_eq!(text.parse(), None, "{text:?}");
        }
    }
}
