//! Entries of a tree as restic writes them: JSON, names in Go's quoting, modes in Go's bits, times as RFC 3339.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use copy::{EntryKind, FileId, Metadata, Timestamp, Xattrs};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::id::Id;

/// One entry. Fields that are empty are left out where restic leaves them out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Node {
    pub(super) name: QuotedName,
    #[serde(rename = "type")]
    pub(super) kind: NodeKind,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) mode: u32,
    #[serde(default)]
    pub(super) mtime: Time,
    #[serde(default)]
    pub(super) atime: Time,
    #[serde(default)]
    pub(super) ctime: Time,
    #[serde(default)]
    pub(super) uid: u32,
    #[serde(default)]
    pub(super) gid: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) inode: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) device_id: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) links: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) linktarget: String,
    /// The target where it is not UTF-8; restic before 0.17 does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) linktarget_raw: Option<Binary>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub(super) extended_attributes: Vec<Attribute>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) device: u64,
    #[serde(default)]
    pub(super) content: Option<Vec<Id>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) subtree: Option<Id>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Attribute {
    name: String,
    /// The name where it is not UTF-8, as with the targets of symlinks. Only we know it; others see what is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name_raw: Option<Binary>,
    #[serde(default, deserialize_with = "null_is_default")]
    value: Binary,
}

/// A directory: entries in the order of their names' bytes.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Tree {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) nodes: Vec<Node>,
}

impl Tree {
    pub(super) fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut tree: Self = serde_json::from_slice(json)?;
        // Others wrote trees in other orders; looking up a name relies on this one.
        if !tree.nodes.is_sorted_by(|a, b| a.name.0 <= b.name.0) {
            tree.nodes.sort_by(|a, b| a.name.0.cmp(&b.name.0));
        }
        Ok(tree)
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<&Node> {
        self.nodes.binary_search_by(|node| (*node.name.0).cmp(name)).ok().map(|at| &self.nodes[at])
    }
}

/// A tree's JSON from that of its entries, as restic puts it together.
pub(super) fn tree_json<'a>(nodes: impl Iterator<Item = &'a [u8]>, bytes_hint: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(bytes_hint + 16);
    json.extend_from_slice(b"{\"nodes\":[");
    for (at, node) in nodes.enumerate() {
        if at > 0 {
            json.push(b',');
        }
        json.extend_from_slice(node);
    }
    json.extend_from_slice(b"]}\n");
    json
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NodeKind {
    #[default]
    File,
    Dir,
    Symlink,
    Dev,
    Chardev,
    Fifo,
    Socket,
    /// What a newer restic may invent.
    #[serde(other)]
    Unknown,
}

impl NodeKind {
    fn of(kind: EntryKind) -> Self {
        match kind {
            EntryKind::File => Self::File,
            EntryKind::Dir => Self::Dir,
            EntryKind::Symlink => Self::Symlink,
            EntryKind::Fifo => Self::Fifo,
            EntryKind::Socket => Self::Socket,
            EntryKind::CharDevice => Self::Chardev,
            EntryKind::BlockDevice => Self::Dev,
        }
    }

    pub(super) fn entry_kind(self) -> Option<EntryKind> {
        Some(match self {
            Self::File => EntryKind::File,
            Self::Dir => EntryKind::Dir,
            Self::Symlink => EntryKind::Symlink,
            Self::Fifo => EntryKind::Fifo,
            Self::Socket => EntryKind::Socket,
            Self::Chardev => EntryKind::CharDevice,
            Self::Dev => EntryKind::BlockDevice,
            Self::Unknown => return None,
        })
    }
}

/// What a node could not hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clamped {
    pub(super) times: bool,
}

impl Node {
    pub(super) fn new(name: &[u8], meta: &Metadata, with_atime: bool) -> (Self, Clamped) {
        let (mtime, mtime_kept) = Time::of(meta.mtime);
        let (atime, atime_kept) = if with_atime { Time::of(meta.atime) } else { (mtime, true) };
        let (ctime, _) = Time::of(meta.ctime);
        let node = Self {
            name: QuotedName(name.into()),
            kind: NodeKind::of(meta.kind),
            mode: go_mode(meta.kind, meta.mode),
            mtime,
            atime,
            ctime,
            uid: meta.uid,
            gid: meta.gid,
            inode: meta.id.inode,
            device_id: meta.id.device,
            size: if meta.kind == EntryKind::File { meta.size_bytes } else { 0 },
            links: u64::from(meta.links),
            device: if meta.kind.is_device() { meta.rdev } else { 0 },
            ..Self::default()
        };
        (node, Clamped { times: !(mtime_kept && atime_kept) })
    }

    pub(super) fn set_link_target(&mut self, target: &[u8]) {
        self.linktarget = String::from_utf8_lossy(target).into_owned();
        self.linktarget_raw = std::str::from_utf8(target).is_err().then(|| Binary(target.into()));
    }

    pub(super) fn link_target(&self) -> &[u8] {
        self.linktarget_raw.as_ref().map_or(self.linktarget.as_bytes(), |raw| &raw.0)
    }

    pub(super) fn set_xattrs(&mut self, xattrs: &Xattrs) {
        let attribute = |(name, value): (&[u8], &[u8])| Attribute {
            name: String::from_utf8_lossy(name).into_owned(),
            name_raw: std::str::from_utf8(name).is_err().then(|| Binary(name.into())),
            value: Binary(value.into()),
        };
        self.extended_attributes = xattrs.iter().map(attribute).collect();
    }

    pub(super) fn xattrs(&self) -> Xattrs {
        let pair = |attribute: &Attribute| {
            let name = attribute.name_raw.as_ref().map_or(attribute.name.as_bytes(), |raw| &raw.0);
            (name.into(), attribute.value.0.as_slice().into())
        };
        Xattrs::new(self.extended_attributes.iter().map(pair).collect())
    }

    /// `None` for a kind of entry that is not known here.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        let kind = self.kind.entry_kind()?;
        Some(Metadata {
            kind,
            mode: posix_mode(self.mode),
            uid: self.uid,
            gid: self.gid,
            size_bytes: match kind {
                EntryKind::File => self.size,
                EntryKind::Symlink => self.link_target().len() as u64,
                _ => 0,
            },
            allocated_bytes: self.size,
            atime: self.atime.0,
            mtime: self.mtime.0,
            ctime: self.ctime.0,
            rdev: self.device,
            // Other programs leave the count out; a single name is what that means.
            links: u32::try_from(self.links.max(1)).unwrap_or(u32::MAX),
            id: FileId { device: self.device_id, inode: self.inode },
            attributes: 0,
        })
    }

    pub(super) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a node has nothing that JSON refuses")
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The bits of Go's `os.FileMode`.
mod go {
    pub(super) const DIR: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const NAMED_PIPE: u32 = 1 << 25;
    pub(super) const SOCKET: u32 = 1 << 24;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHAR_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

const SPECIAL_BITS: [(u32, u32); 3] = [(0o4000, go::SETUID), (0o2000, go::SETGID), (0o1000, go::STICKY)];

fn go_mode(kind: EntryKind, mode: u32) -> u32 {
    let of_kind = match kind {
        EntryKind::File => 0,
        EntryKind::Dir => go::DIR,
        EntryKind::Symlink => go::SYMLINK,
        EntryKind::Fifo => go::NAMED_PIPE,
        EntryKind::Socket => go::SOCKET,
        EntryKind::CharDevice => go::DEVICE | go::CHAR_DEVICE,
        EntryKind::BlockDevice => go::DEVICE,
    };
    let special = SPECIAL_BITS.iter().filter(|(posix, _)| mode & posix != 0).map(|(_, go)| go);
    special.fold(of_kind | mode & 0o777, |bits, bit| bits | bit)
}

fn posix_mode(mode: u32) -> u32 {
    let special = SPECIAL_BITS.iter().filter(|(_, go)| mode & go != 0).map(|(posix, _)| posix);
    special.fold(mode & 0o777, |bits, bit| bits | bit)
}

/// A point in time that restic can write: of the years 0 to 9999.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Time(pub(super) Timestamp);

const SECONDS_MIN: i64 = -62_167_219_200;
const SECONDS_MAX: i64 = 253_402_300_799;

impl Time {
    /// The nearest time that can be written, and whether it is the one that was given.
    pub(super) fn of(time: Timestamp) -> (Self, bool) {
        // One second inside, because local offsets of a reader must not leave the years.
        let seconds = time.seconds.clamp(SECONDS_MIN + DAY, SECONDS_MAX - DAY);
        if seconds == time.seconds { (Self(time), true) } else { (Self(Timestamp { seconds, nanos: 0 }), false) }
    }
}

const DAY: i64 = 86_400;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.0.seconds.div_euclid(DAY), self.0.seconds.rem_euclid(DAY));
        // Days since 0000-03-01, in eras of 400 years: leap days come last in their years then.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.0.nanos != 0 {
            let digits = format!("{:09}", self.0.nanos);
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let time: jiff::Timestamp = text.parse().map_err(de::Error::custom)?;
        let (seconds, nanos) = (time.as_second(), i64::from(time.subsec_nanosecond()));
        // The fraction of a time before 1970 is negative there, and is added here.
        let (seconds, nanos) = if nanos < 0 { (seconds - 1, nanos + 1_000_000_000) } else { (seconds, nanos) };
        Ok(Self(Timestamp { seconds, nanos: nanos as u32 }))
    }
}

/// Bytes that JSON holds in base64.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Binary(pub(super) Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Self).map_err(de::Error::custom)
    }
}

/// A name as bytes; in JSON as Go's `strconv.Quote` has it, without its quotation marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct QuotedName(pub(super) Box<[u8]>);

pub(super) fn quote(name: &[u8]) -> String {
    use fmt::Write as _;
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\u{7}' => out.push_str("\\a"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{b}' => out.push_str("\\v"),
                c if c.is_ascii_control() => {
                    let _ = write!(out, "\\x{:02x}", c as u32);
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// `None` for what Go's `strconv.Unquote` refuses.
fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let number = |chars: &mut std::str::Chars<'_>, digits: usize, radix: u32| {
        let (part, rest) = chars.as_str().split_at_checked(digits)?;
        *chars = rest.chars();
        part.chars().all(|c| c.is_digit(radix)).then(|| u32::from_str_radix(part, radix).ok())?
    };
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let wide = |value: Option<u32>| value.and_then(char::from_u32);
        match chars.next()? {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(0xc),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(0xb),
            '\\' => out.push(b'\\'),
            '"' => out.push(b'"'),
            '\'' => out.push(b'\''),
            'x' => out.push(number(&mut chars, 2, 16)? as u8),
            'u' => out.extend_from_slice(wide(number(&mut chars, 4, 16))?.encode_utf8(&mut [0; 4]).as_bytes()),
            'U' => out.extend_from_slice(wide(number(&mut chars, 8, 16))?.encode_utf8(&mut [0; 4]).as_bytes()),
            digit @ '0'..='7' => {
                let rest = number(&mut chars, 2, 8)?;
                out.push(u8::try_from(digit.to_digit(8)? * 64 + rest).ok()?);
            }
            _ => return None,
        }
    }
    Some(out)
}

impl Serialize for QuotedName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&quote(&self.0))
    }
}

impl<'de> Deserialize<'de> for QuotedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        // rustic takes what cannot be unquoted as it is, and so did old versions of restic.
        Ok(Self(unquote(&text).unwrap_or_else(|| text.as_bytes().to_vec()).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_go_does_it() {
        let pairs: [(&[u8], &str); 6] = [
            (b"plain \xc3\xa9", "plain é"),
            (b"a\nb\tc\\\"", r#"a\nb\tc\\\""#),
            (b"\xff\x01\x7f", r"\xff\x01\x7f"),
            (b"\xe2\x82", r"\xe2\x82"),
            (b"'", "'"),
            (b"\x07\x08\x0b\x0c\r", r"\a\b\v\f\r"),
        ];
        for (name, text) in pairs {
            assert_eq!(quote(name), text);
            assert_eq!(unquote(text).as_deref(), Some(name));
        }
        assert_eq!(unquote(r"\u00e9\U0001f600\101").as_deref(), Some("é😀A".as_bytes()));
        for bad in [r"\", r"\x1", r"\q", r"\uD800", r"\777", r"\x+1"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
        for byte in 1..=255_u8 {
            assert_eq!(unquote(&quote(&[byte])).as_deref(), Some(&[byte][..]));
        }
    }

    #[test]
    fn times_are_written_as_jiff_reads_them() {
        let round = |seconds, nanos| {
            let (time, kept) = Time::of(Timestamp { seconds, nanos });
            assert!(kept);
            let json = serde_json::to_string(&time).expect("JSON");
            assert_eq!(serde_json::from_str::<Time>(&json).expect("a time"), time, "{json}");
            json
        };
        assert_eq!(round(0, 0), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(round(-1, 999_999_999), "\"1969-12-31T23:59:59.999999999Z\"");
        assert_eq!(round(951_782_400, 5_000), "\"2000-02-29T00:00:00.000005Z\"");
        for day in -700_000..2_900_000 {
            if day % 97 == 0 {
                round(day * DAY + day.rem_euclid(DAY), 1);
            }
        }
        let offset: Time = serde_json::from_str("\"2024-05-01T12:00:00.5+02:00\"").expect("a time");
        assert_eq!(offset.0, Timestamp { seconds: 1_714_557_600, nanos: 500_000_000 });
        assert!(!Time::of(Timestamp { seconds: i64::MAX, nanos: 0 }).1);
        assert!(!Time::of(Timestamp { seconds: i64::MIN, nanos: 0 }).1);
    }

    #[test]
    fn modes_travel_through_gos_bits() {
        for kind in EntryKind::ALL {
            for mode in [0, 0o777, 0o7777, 0o4755, 0o2755, 0o1777] {
                assert_eq!(posix_mode(go_mode(kind, mode)), mode);
            }
        }
        assert_eq!(go_mode(EntryKind::Dir, 0o1777), 2_148_532_735);
    }
}
