//! Names and relative paths as bytes, and how they are shown to people.

use std::fmt;

/// Path below a tree's root: bytes, relative, without empty, `.` or `..` components; empty for the root itself.
///
/// It is a label for reports and filters. The engine never resolves one: it walks by directory handles.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The tree's root.
    pub fn root() -> Self {
        Self::default()
    }

    /// Joins components that were checked one by one with [`is_plain_name`].
    pub fn from_components<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::new();
        for component in components {
            if !bytes.is_empty() {
                bytes.push(b'/');
            }
            bytes.extend_from_slice(component);
        }
        Self(bytes.into_boxed_slice())
    }

    /// Takes the path apart at the slashes; `None` where a component is not a plain name.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::root());
        }
        bytes.split(|b| *b == b'/').all(is_plain_name).then(|| Self(bytes.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&escape(&self.0)) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

/// Tells whether `name` can be one entry of a directory: not empty, no slash, no NUL, neither `.` nor `..`.
///
/// A file server may lie; what fails here is never passed to a call.
pub fn is_plain_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|b| *b == b'/' || *b == 0)
}

/// Makes bytes safe to print: control characters, terminal sequences and bytes that are not UTF-8 become `\xNN`,
/// a backslash becomes `\\`, so that the text stands for exactly one name and moves no cursor.
pub fn escape(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                // Bidirectional overrides and line separators can make one name look like another.
                c if c.is_control()
                    || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
                {
                    let mut utf8 = [0; 4];
                    for b in c.encode_utf8(&mut utf8).bytes() {
                        let _ = write!(out, "\\x{b:02x}");
                    }
                }
                c => out.push(c),
            }
        }
        for b in chunk.invalid() {
            let _ = write!(out, "\\x{b:02x}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_are_not_plain() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
        for good in [&b"..."[..], b"x\n..", b"-rf", b"\xff", b" "] {
            assert!(is_plain_name(good), "{good:?}");
        }
    }

    #[test]
    fn escaping_is_exact_and_harmless() {
        assert_eq!(escape(b"plain \xc3\xa9"), "plain é");
        assert_eq!(escape(b"a\nb\\n\xff\x1b[2J"), "a\\x0ab\\\\n\\xff\\x1b[2J");
        assert_eq!(escape("\u{202e}".as_bytes()), "\\xe2\\x80\\xae");
    }

    #[test]
    fn a_path_is_parsed_only_from_plain_names() {
        assert_eq!(RelPath::parse(b"a/b").map(|p| p.to_string()), Some("a/b".into()));
        assert_eq!(RelPath::parse(b""), Some(RelPath::root()));
        for bad in [&b"/a"[..], b"a//b", b"a/../b", b"a/"] {
            assert_eq!(RelPath::parse(bad), None);
        }
    }
}
