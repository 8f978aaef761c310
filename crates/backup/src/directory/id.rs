//! Names in an export: those of backups, and our own beside them.

use std::fmt;

use super::DirectoryError;

/// A backup's id, which is the name of its directory in the export.
///
/// It has 1 to 128 bytes, no slash, no leading dot (those names are ours), and nothing that a terminal would not show as
/// it is. Manila's are UUIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackupId(Box<str>);

/// Our own names add less than this to an id, and names on NFS and most file systems have at most 255 bytes.
const ID_BYTES_MAX: usize = 128;

impl BackupId {
    pub fn parse(text: &str) -> Result<Self, DirectoryError> {
        let why = if text.is_empty() {
            "it is empty"
        } else if text.len() > ID_BYTES_MAX {
            "it has more than 128 bytes"
        } else if text.starts_with('.') {
            "names with a leading dot are kept for what this program needs beside backups"
        } else if text.contains('/') {
            "it has a slash"
        } else if copy::escape(text.as_bytes()) != text {
            "it has characters that cannot be shown as they are"
        } else {
            return Ok(Self(text.into()));
        };
        Err(DirectoryError::Id { id: copy::escape(text.as_bytes()), why })
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What may stand in an export for one backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The backup itself.
    Published,
    /// A copy that is not complete.
    Partial,
    /// What is left of a backup that is being deleted.
    Deleting,
    /// What `check` compares a backup with.
    Manifest,
    /// A manifest that is being written.
    NewManifest,
    /// Checksums of the files that an unfinished copy holds so far.
    Checksums,
}

impl Part {
    /// Those beside the backup itself. No suffix ends with another one, so that each name is one part of one id.
    const HIDDEN: [(Self, &str); 5] = [
        (Self::Partial, ".partial"),
        (Self::Deleting, ".deleting"),
        (Self::Manifest, ".manifest.zst"),
        (Self::NewManifest, ".manifest.new"),
        (Self::Checksums, ".checksums"),
    ];

    pub(super) fn name(self, id: &BackupId) -> String {
        match Self::HIDDEN.iter().find(|(part, _)| *part == self) {
            Some((_, suffix)) => format!(".{id}{suffix}"),
            None => id.to_string(),
        }
    }

    /// Whose part a name is; `None` for what belongs to no backup.
    pub(super) fn of(name: &[u8]) -> Option<(BackupId, Self)> {
        let name = std::str::from_utf8(name).ok()?;
        let Some(hidden) = name.strip_prefix('.') else {
            // Of the file system, in exports that are a whole one.
            return BackupId::parse(name).ok().filter(|_| name != "lost+found").map(|id| (id, Self::Published));
        };
        let (part, id) = Self::HIDDEN.iter().find_map(|(part, suffix)| Some((*part, hidden.strip_suffix(suffix)?)))?;
        BackupId::parse(id).ok().map(|id| (id, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_plain_name_that_shows_as_it_is() {
        for good in ["6ed8bd27-7c1d-4a5e-9d4b-2f8a1b0f9a01", "x", "nightly 2026", "a.partial", "ü", "-rf"] {
            assert!(BackupId::parse(good).is_ok(), "{good}");
        }
        let long = "x".repeat(129);
        for bad in ["", ".", "..", ".x", "a/b", "/", "a\nb", "a\0b", "x\n..", "\u{202e}x", "a\\b", &long] {
            assert!(matches!(BackupId::parse(bad), Err(DirectoryError::Id { .. })), "{bad:?}");
        }
    }

    #[test]
    fn each_name_is_one_part_of_one_backup() {
        for id in ["x", "x.partial", "x.manifest", "x.manifest.zst", "a b"] {
            let id = BackupId::parse(id).expect("an id");
            for part in Part::HIDDEN.map(|(part, _)| part).into_iter().chain([Part::Published]) {
                assert_eq!(Part::of(part.name(&id).as_bytes()), Some((id.clone(), part)));
            }
        }
        for other in [&b".nfs000"[..], b".", b"..", b"lost+found", b"a\xff", b"..partial", b".partial", b".x.other"] {
            assert_eq!(Part::of(other), None, "{other:?}");
        }
    }
}
