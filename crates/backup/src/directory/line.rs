//! One entry of a tree as one line of text: for manifests, and for sorting what a scan found.

use std::fmt::Write as _;

use copy::{DifferenceKind, EntryKind, RelPath, Scanned, Timestamp, Xattrs};

/// What a manifest says of an entry. Fields are in the order of the line, parted by tabs, which no field can hold:
/// paths and targets are escaped. The path is the first one, so that lines sort by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Escaped; `.` is the root.
    pub(super) path: String,
    pub(super) kind: EntryKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Zero for all but files.
    pub(super) size_bytes: u64,
    pub(super) mtime: Timestamp,
    /// Zero for all but devices.
    pub(super) rdev: u64,
    /// Names of the inode; one for directories.
    pub(super) links: u32,
    /// A digest of the extended attributes, or `-`.
    pub(super) xattrs: String,
    /// Of a file's content, or `-`.
    pub(super) checksum: String,
    /// Of a symlink, escaped.
    pub(super) target: String,
}

const NONE: &str = "-";

fn letter(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "f",
        EntryKind::Dir => "d",
        EntryKind::Symlink => "l",
        EntryKind::Fifo => "p",
        EntryKind::Socket => "s",
        EntryKind::CharDevice => "c",
        EntryKind::BlockDevice => "b",
    }
}

impl Line {
    pub(super) fn new(scanned: &Scanned) -> Self {
        let meta = &scanned.meta;
        Self {
            path: scanned.path.to_string(),
            kind: meta.kind,
            mode: if meta.kind == EntryKind::Symlink { 0o777 } else { meta.mode },
            uid: meta.uid,
            gid: meta.gid,
            size_bytes: if meta.kind == EntryKind::File { meta.size_bytes } else { 0 },
            mtime: meta.mtime,
            rdev: if meta.kind.is_device() { meta.rdev } else { 0 },
            links: if meta.kind == EntryKind::Dir { 1 } else { meta.links },
            xattrs: digest(&scanned.xattrs),
            checksum: scanned.checksum.map_or_else(|| NONE.into(), |sum| sum.to_string()),
            target: scanned.target.as_deref().map_or_else(String::new, copy::escape),
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('\t');
        let mut next = || fields.next();
        let line = Self {
            path: next()?.into(),
            kind: {
                let found = next()?;
                EntryKind::ALL.into_iter().find(|kind| letter(*kind) == found)?
            },
            mode: u32::from_str_radix(next()?, 8).ok()?,
            uid: next()?.parse().ok()?,
            gid: next()?.parse().ok()?,
            size_bytes: next()?.parse().ok()?,
            mtime: parse_time(next()?)?,
            rdev: next()?.parse().ok()?,
            links: next()?.parse().ok()?,
            xattrs: next()?.into(),
            checksum: next()?.into(),
            target: next()?.into(),
        };
        (fields.next().is_none()).then_some(line)
    }

    pub(super) fn has_checksum(&self) -> bool {
        self.checksum != NONE
    }

    /// The path as it is; `None` where a manifest is not what it should be.
    pub(super) fn rel_path(&self) -> Option<RelPath> {
        parse_path(&self.path)
    }

    /// How an entry differs from what the manifest (`self`) says. What either side does not know is no difference.
    pub(super) fn differences(&self, now: &Self, with_xattrs: bool) -> Vec<DifferenceKind> {
        if self.kind != now.kind {
            return vec![DifferenceKind::Kind];
        }
        let both_read = self.has_checksum() && now.has_checksum();
        let size = self.size_bytes != now.size_bytes;
        let found = [
            (DifferenceKind::Size, size),
            (DifferenceKind::Content, !size && both_read && self.checksum != now.checksum),
            (DifferenceKind::Mode, self.mode != now.mode),
            (DifferenceKind::Owner, (self.uid, self.gid) != (now.uid, now.gid)),
            (DifferenceKind::Mtime, self.mtime != now.mtime),
            (DifferenceKind::Xattr, with_xattrs && self.xattrs != now.xattrs),
            (DifferenceKind::SymlinkTarget, self.target != now.target),
            (DifferenceKind::Device, self.rdev != now.rdev),
            (DifferenceKind::HardLinks, self.links != now.links),
        ];
        found.into_iter().filter_map(|(kind, differs)| differs.then_some(kind)).collect()
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, kind, mode, uid, gid, size_bytes, mtime, rdev, links, xattrs, checksum, target } = self;
        let (kind, mtime) = (letter(*kind), time(*mtime));
        write!(f, "{path}\t{kind}\t{mode:04o}\t{uid}\t{gid}\t{size_bytes}\t{mtime}\t{rdev}\t{links}")?;
        write!(f, "\t{xattrs}\t{checksum}\t{target}")
    }
}

/// Seconds, which may be negative, and the nanoseconds after them.
pub(super) fn time(time: Timestamp) -> String {
    format!("{}.{:09}", time.seconds, time.nanos)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let (seconds, nanos) = text.split_once('.')?;
    Some(Timestamp { seconds: seconds.parse().ok()?, nanos: nanos.parse().ok().filter(|n| *n < 1_000_000_000)? })
}

/// The path of a line or of a checksum, as bytes.
pub(super) fn parse_path(text: &str) -> Option<RelPath> {
    if text == "." { Some(RelPath::root()) } else { RelPath::parse(&unescape(text)?) }
}

/// Undoes [`copy::escape`].
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                let digit = |c: u8| char::from(c).to_digit(16);
                bytes.push((digit(*high)? << 4 | digit(*low)?) as u8);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Over the attributes that are the user's; labels that a security module gives belong to where the files lie.
fn digest(xattrs: &Xattrs) -> String {
    let is_users = |name: &[u8]| {
        name.starts_with(b"user.")
            || name.starts_with(b"trusted.")
            || matches!(name, copy::ACL_ACCESS | copy::ACL_DEFAULT | b"security.capability")
    };
    let mut hasher = blake3::Hasher::new();
    let mut any = false;
    for (name, value) in xattrs.iter().filter(|(name, _)| is_users(name)) {
        any = true;
        for part in [name, value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    let mut text = String::new();
    if !any {
        return NONE.into();
    }
    for byte in &hasher.finalize().as_bytes()[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str) -> Line {
        Line {
            path: path.into(),
            kind: EntryKind::File,
            mode: 0o4755,
            uid: 1,
            gid: u32::MAX,
            size_bytes: u64::MAX,
            mtime: Timestamp { seconds: -5, nanos: 7 },
            rdev: 0,
            links: 2,
            xattrs: NONE.into(),
            checksum: "00ff".into(),
            target: String::new(),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let text = line("a b").to_string();
        assert_eq!(text, "a b\tf\t4755\t1\t4294967295\t18446744073709551615\t-5.000000007\t0\t2\t-\t00ff\t");
        assert_eq!(Line::parse(&text), Some(line("a b")));
        for bad in ["", "a b", &text[..20], &format!("{text}\tx"), &text.replace("\tf\t", "\tx\t")] {
            assert_eq!(Line::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_name_comes_back_from_its_text() {
        for bytes in [&b"a"[..], b"a\nb\t\\n\xff", b"\\x41", "\u{202e}ü".as_bytes()] {
            assert_eq!(unescape(&copy::escape(bytes)).as_deref(), Some(bytes));
        }
        assert_eq!(parse_path("."), Some(RelPath::root()));
        for bad in ["\\", "\\x4", "\\xgg", "a/../b", "/a", ""] {
            assert_eq!(parse_path(bad).filter(|path| !path.is_root()), None, "{bad}");
        }
    }

    #[test]
    fn what_one_side_does_not_know_is_no_difference() {
        let known = line("a");
        let unread = Line { checksum: NONE.into(), xattrs: "x".into(), ..line("a") };
        assert_eq!(known.differences(&unread, false), []);
        assert_eq!(known.differences(&unread, true), [DifferenceKind::Xattr]);
        let other = Line { checksum: "00fe".into(), mode: 0o755, ..line("a") };
        assert_eq!(known.differences(&other, true), [DifferenceKind::Content, DifferenceKind::Mode]);
    }
}
