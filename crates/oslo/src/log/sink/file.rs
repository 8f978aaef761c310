//! The log file: appended to, opened again when somebody moved it, and rotated where that is asked for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::rotation;
use crate::log::settings::{Every, Rotation};

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    watch: bool,
    rotation: Rotation,
    zone: TimeZone,
    /// When the next rotation by time is due.
    due: Option<Timestamp>,
    /// The last line ended in its middle, because the disk was full.
    is_torn: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path, watch: bool, rotation: Rotation, zone: TimeZone) -> io::Result<Self> {
        let file = open(path)?;
        let mut this = Self { path: path.into(), file, watch, rotation, zone, due: None, is_torn: false };
        // A file of an earlier run goes on from its last line, or it would never be rotated by a service that is
        // started again each day.
        let begun = this.file.metadata()?;
        let begun = if begun.len() > 0 { Timestamp::from_second(begun.mtime()).ok() } else { None };
        this.schedule(begun.unwrap_or_else(Timestamp::now));
        Ok(this)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The old file stays where a new one cannot be opened.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.is_torn = false;
        Ok(())
    }

    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        self.follow()?;
        self.rotate(line.len() as u64 + 1);
        let mut bytes = Vec::with_capacity(line.len() + 2);
        if self.is_torn {
            bytes.push(b'\n');
        }
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let mut rest = &*bytes;
        while !rest.is_empty() {
            match self.file.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    rest = &rest[count..];
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Looks whether the name still means this file. Upstream looks before each line, too: it is one cheap call, and
    /// what moves the file has no line in it that comes after.
    fn follow(&mut self) -> io::Result<()> {
        if !self.watch {
            return Ok(());
        }
        let here = self.file.metadata()?;
        let is_same = std::fs::metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == (here.dev(), here.ino()));
        if is_same { Ok(()) } else { self.reopen() }
    }

    /// Makes way for a new file if it is time. Where that fails the old one goes on: a long log is better than none.
    fn rotate(&mut self, more_bytes: u64) {
        match self.rotation {
            Rotation::None => {}
            Rotation::Size { bytes_max, count_max } => {
                let size = self.file.metadata().map_or(0, |it| it.len());
                let is_full = bytes_max > 0 && count_max > 0 && size > 0 && size + more_bytes >= bytes_max;
                if is_full && rotation::shift(&self.path, count_max).is_ok() {
                    self.reopen_after_rotation();
                }
            }
            Rotation::Interval { every, count_max } => {
                let now = Timestamp::now();
                let Some(due) = self.due.filter(|due| now >= *due) else { return };
                let begun = rotation::begun(every, due);
                if rotation::name_by_time(&self.path, every, begun, &self.zone, count_max).is_ok() {
                    self.reopen_after_rotation();
                }
                self.schedule(now);
            }
        }
    }

    fn reopen_after_rotation(&mut self) {
        // Until the next line tries again, lines go on into the renamed file.
        if self.reopen().is_err() {
            self.watch = true;
        }
    }

    fn schedule(&mut self, from: Timestamp) {
        if let Rotation::Interval { every, .. } = self.rotation {
            self.due = rotation::due(every, from, &self.zone);
        }
    }
}

/// Appends, so that a program that truncates the file (`copytruncate`) makes no hole in it. Never waits for a reader of a
/// named pipe.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

impl Every {
    /// The part of the name of a rotated file that says when it was begun.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Seconds(_) => "%Y-%m-%d_%H-%M-%S",
            Self::Minutes(_) => "%Y-%m-%d_%H-%M",
            Self::Hours(_) => "%Y-%m-%d_%H",
            Self::Days(_) | Self::Midnights(_) | Self::Weekday(_) => "%Y-%m-%d",
        }
    }
}
