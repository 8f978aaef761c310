//! A directory for what does not fit into memory, gone with the command.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::error::CliError;

#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

/// Names that somebody took before; each more is a race with somebody who wants none of us to begin.
const TRIES: u32 = 100;

impl Scratch {
    /// Makes it below `TMPDIR`, for us alone.
    pub(super) fn new() -> Result<Self, CliError> {
        let base = std::env::temp_dir();
        let mut attempt = 0;
        loop {
            let path = base.join(format!("manila-data-{}-{attempt}", std::process::id()));
            // One that is there already belongs to somebody else, whatever is in it.
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && attempt < TRIES => attempt += 1,
                Err(source) => return Err(CliError::MakeDir { path, source }),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is small, in a directory that is cleaned by others.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
