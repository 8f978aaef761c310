//! Room for the trees of a test that ends processes.

use std::path::PathBuf;

use super::{TempDir, Tmpfs};

/// Where trees lie. A killed process leaves what the kernel has in memory, so memory is as good as a disk here.
#[derive(Debug)]
pub enum Place {
    Memory(Tmpfs),
    Disk(TempDir),
}

impl Place {
    /// In memory where that can be had, up to `size_bytes`.
    pub fn new(size_bytes: u64) -> Self {
        Tmpfs::new(size_bytes, None).map_or_else(|_| Self::Disk(TempDir::new()), Self::Memory)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Memory(memory) => memory.path().join(name),
            Self::Disk(dir) => dir.path().join(name),
        }
    }
}
