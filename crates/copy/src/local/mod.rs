//! Trees on file systems, by descriptors only.

use std::path::Path;
use std::sync::Arc;

use crate::error::{CopyError, FsResult};
use crate::tree::{DestDir, DestTree, SourceDir, SourceTree, TreeFacts};

/// A directory tree of a mounted file system.
#[derive(Debug)]
pub struct LocalTree {
    facts: TreeFacts,
}

impl LocalTree {
    /// Opens an existing directory for reading. A symlink as the last component is followed: the caller named it.
    pub fn open_source(_path: &Path) -> Result<Self, CopyError> {
        unimplemented!()
    }

    /// Opens a directory for writing; makes it (not its parents) where it is missing.
    pub fn open_dest(_path: &Path) -> Result<Self, CopyError> {
        unimplemented!()
    }

    /// Adds further mounts of the same share, so that creates in one directory can run side by side.
    pub fn add_lane(&mut self, _path: &Path) -> Result<(), CopyError> {
        unimplemented!()
    }
}

impl SourceTree for LocalTree {
    fn root(&self) -> FsResult<Arc<dyn SourceDir>> {
        unimplemented!()
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }
}

impl DestTree for LocalTree {
    fn root(&self) -> FsResult<Arc<dyn DestDir>> {
        unimplemented!()
    }

    fn facts(&self) -> &TreeFacts {
        &self.facts
    }

    fn sync(&self) -> FsResult<()> {
        unimplemented!()
    }
}
