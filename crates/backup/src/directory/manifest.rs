//! The manifest of a backup: beside it, one sorted line for each entry, compressed, with a root hash at its end.
//!
//! Text in four parts, parted by empty lines: what it is of, the entries (see [`Line`]), and the hash over all lines
//! before it. Programs can read it with `zstdcat`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write};
use std::time::{Duration, SystemTime};

use copy::HashKind;
use rustix::fs::OFlags;

use super::error::Attempt as _;
use super::export::Export;
use super::id::Part;
use super::line::Line;
use super::{BackupId, DirectoryError};

const MAGIC: &str = "manila-data directory backup 1";
/// Lines are mostly repetition; what is not are checksums, which no level makes smaller.
const LEVEL: i32 = 3;
/// Ours need less; one that somebody else wrote must not take all memory.
const WINDOW_LOG_MAX: u32 = 23;
/// A path may be of any length; one of more than this stands in no tree that can be walked in a lifetime.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// What the head of a manifest says of its backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub id: BackupId,
    /// What the caller of the creation gave, to know its own backup again.
    pub token: String,
    /// To the second.
    pub made_at: SystemTime,
    /// Entries of all kinds, the root included.
    pub entries: u64,
    /// Of regular files, each name counted.
    pub bytes: u64,
    /// The checksum that files have.
    pub hash: HashKind,
    /// Whether extended attributes were looked at.
    pub xattrs: bool,
    /// Entries that could not be copied, and are not in the backup.
    pub faults: u64,
}

/// Whether a backup can be proven to be what it was when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The manifest's root hash, in hexadecimal, where it was read to its end.
    Manifest { manifest: Manifest, root: Option<String> },
    /// Another program wrote the backup: it can be read, and nothing can be proven.
    None,
    /// Why the manifest is of no use.
    Damaged(String),
}

impl Proof {
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Manifest { manifest, .. } => Some(manifest),
            Self::None | Self::Damaged(_) => None,
        }
    }
}

fn hash_named(name: &str) -> Option<HashKind> {
    [HashKind::Xxh3Blocks, HashKind::Blake3, HashKind::Sha256].into_iter().find(|kind| kind.as_str() == name)
}

impl Manifest {
    fn head(&self) -> String {
        let Self { id, token, made_at, entries, bytes, hash, xattrs, faults } = self;
        let made = made_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (token, hash, xattrs) = (copy::escape(token.as_bytes()), hash.as_str(), if *xattrs { "yes" } else { "no" });
        format!(
            "{MAGIC}\nid {id}\ntoken {token}\nmade {made}\nentries {entries}\nbytes {bytes}\nhash {hash}\n\
             xattrs {xattrs}\nfaults {faults}\n\n"
        )
    }

    fn parse(mut next: impl FnMut() -> io::Result<Option<String>>) -> Result<Self, String> {
        let mut line = || next().map_err(|error| error.to_string())?.ok_or_else(|| "it has no head".to_owned());
        let first = line()?;
        if first != MAGIC {
            return Err("it is not a manifest that this version knows".into());
        }
        let mut field = |name: &str| {
            let line = line()?;
            let value = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' '));
            value.map(str::to_owned).ok_or_else(|| format!("its head has no `{name}`"))
        };
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` in its head is no number"));
        let manifest = Self {
            id: BackupId::parse(&field("id")?).map_err(|error| error.to_string())?,
            token: field("token")?,
            made_at: SystemTime::UNIX_EPOCH
                .checked_add(Duration::from_secs(number(field("made")?)?))
                .ok_or("its time is beyond all bounds")?,
            entries: number(field("entries")?)?,
            bytes: number(field("bytes")?)?,
            hash: hash_named(&field("hash")?).ok_or("its kind of checksum is not known")?,
            xattrs: field("xattrs")? == "yes",
            faults: number(field("faults")?)?,
        };
        if line()?.is_empty() { Ok(manifest) } else { Err("its head has no end".into()) }
    }
}

/// A manifest that is being written, under a name of its own.
pub(super) struct ManifestWriter {
    file: zstd::Encoder<'static, BufWriter<File>>,
    hasher: blake3::Hasher,
}

impl ManifestWriter {
    pub(super) fn new(file: File, manifest: &Manifest) -> io::Result<Self> {
        let mut file = zstd::Encoder::new(BufWriter::with_capacity(256 << 10, file), LEVEL)?;
        file.include_checksum(true)?;
        let mut writer = Self { file, hasher: blake3::Hasher::new() };
        writer.write(manifest.head().as_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    pub(super) fn push(&mut self, line: &Line) -> io::Result<()> {
        self.write(format!("{line}\n").as_bytes())
    }

    /// Ends the manifest, makes it durable, and gives its root hash.
    pub(super) fn finish(mut self) -> io::Result<String> {
        self.write(b"\n")?;
        let root = self.hasher.finalize().to_hex().to_string();
        writeln!(self.file, "root {root}")?;
        self.file.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok(root)
    }
}

/// A manifest that is read. Nothing of it is believed: another program may have written it.
pub(super) struct ManifestReader {
    lines: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    hasher: blake3::Hasher,
    pub(super) manifest: Manifest,
    last: String,
    entries: u64,
    root: Option<String>,
}

impl ManifestReader {
    fn new(file: File, id: &BackupId) -> Result<Self, String> {
        let open = || {
            let mut decoder = zstd::Decoder::new(file)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Ok(BufReader::new(decoder))
        };
        let mut lines = open().map_err(|error: io::Error| error.to_string())?;
        let mut hasher = blake3::Hasher::new();
        let manifest = Manifest::parse(|| next_line(&mut lines, &mut hasher))?;
        if manifest.id != *id {
            return Err(format!("it is the one of backup `{}`", manifest.id));
        }
        Ok(Self { lines, hasher, manifest, last: String::new(), entries: 0, root: None })
    }

    /// The next entry, in the order of paths; `None` at the end of a manifest that is whole.
    pub(super) fn next(&mut self) -> Result<Option<Line>, String> {
        if self.root.is_some() {
            return Ok(None);
        }
        let text = self.read()?;
        if text.is_empty() {
            let computed = self.hasher.finalize().to_hex().to_string();
            let root = self.read()?;
            if root.strip_prefix("root ") != Some(&computed) || self.entries != self.manifest.entries {
                return Err("its root hash is not the one of its lines".into());
            }
            self.root = Some(computed);
            return match next_line(&mut self.lines, &mut self.hasher) {
                Ok(None) => Ok(None),
                Ok(Some(_)) => Err("something stands behind its end".into()),
                Err(error) => Err(error.to_string()),
            };
        }
        let line = Line::parse(&text).ok_or("a line of it cannot be read")?;
        if line.rel_path().is_none() || self.entries > 0 && line.path <= self.last {
            return Err("its lines are not in order".into());
        }
        self.last.clone_from(&line.path);
        self.entries += 1;
        Ok(Some(line))
    }

    fn read(&mut self) -> Result<String, String> {
        let line = next_line(&mut self.lines, &mut self.hasher).map_err(|error| error.to_string())?;
        line.ok_or_else(|| "it ends early".to_owned())
    }

    pub(super) fn root(&self) -> Option<&str> {
        self.root.as_deref()
    }
}

fn next_line(lines: &mut impl BufRead, hasher: &mut blake3::Hasher) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    hasher.update(&line);
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| bad("a line of it is no text")),
        Some(_) => Err(bad("it ends early")),
    }
}

fn bad(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Export {
    /// What is said of a backup beside it; only the head is read.
    pub fn proof(&self, id: &BackupId) -> Result<Proof, DirectoryError> {
        Ok(match self.open_manifest(id)? {
            None => Proof::None,
            Some(Ok(reader)) => Proof::Manifest { manifest: reader.manifest, root: None },
            Some(Err(why)) => Proof::Damaged(why),
        })
    }

    pub(super) fn open_manifest(
        &self,
        id: &BackupId,
    ) -> Result<Option<Result<ManifestReader, String>>, DirectoryError> {
        match self.file_at(&Part::Manifest.name(id), OFlags::RDONLY) {
            Ok(file) => Ok(file.map(|file| ManifestReader::new(file, id))),
            // Nobody can prove anything with it, which is no reason not to look at the backup.
            Err(error @ DirectoryError::Planted { .. }) => Ok(Some(Err(error.to_string()))),
            Err(error) => Err(error),
        }
    }

    /// Gives a manifest that is durable its name.
    pub(super) fn publish_manifest(&self, id: &BackupId) -> Result<(), DirectoryError> {
        let (from, to) = (Part::NewManifest.name(id), Part::Manifest.name(id));
        rustix::fs::renameat(self.dir(), &from, self.dir(), &to)
            .attempt(|| format!("rename `{from}` to `{to}` in the export"))
    }
}
