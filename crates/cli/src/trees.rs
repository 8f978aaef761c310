//! Opens the two trees of a command, and gives what goes wrong there the names of the command line.

use std::path::{Path, PathBuf};

use copy::tree::{DestTree, SourceTree};
use copy::{CopyError, ErrorClass, FsError, LocalTree};

use crate::empty_dest::EmptyDest;
use crate::error::CliError;
use crate::paths::{Reach, is_inside};
use crate::plan::parent;

pub fn open_source(path: &Path) -> Result<LocalTree, CliError> {
    LocalTree::open_source(path).map_err(|error| match error {
        CopyError::OpenSource(source) => CliError::OpenSource { path: path.into(), source },
        other => other.into(),
    })
}

/// Opens the tree that a backup is made of.
pub fn open_path(path: &Path) -> Result<LocalTree, CliError> {
    LocalTree::open_source(path).map_err(|error| match error {
        CopyError::OpenSource(source) => CliError::OpenPath { path: path.into(), source },
        other => other.into(),
    })
}

/// Opens the destination of a comparison: for reading, so that it must be there and is not changed.
pub fn open_copy(path: &Path) -> Result<LocalTree, CliError> {
    LocalTree::open_source(path).map_err(|error| dest_error(path, error))
}

/// Opens the destination of a copy, and makes it where it is missing.
pub fn open_dest(path: &Path, lanes: &[PathBuf]) -> Result<LocalTree, CliError> {
    let mut dest = LocalTree::open_dest(path).map_err(|error| dest_error(path, error))?;
    for lane in lanes {
        dest.add_lane(lane).map_err(|error| CliError::Lane { path: lane.clone(), source: Box::new(error) })?;
    }
    Ok(dest)
}

/// Opens the destination of a dry run, for reading only; where it is missing, an empty directory stands in for it.
pub fn open_dry_dest(path: &Path) -> Result<Box<dyn DestTree>, CliError> {
    match LocalTree::open_source(path) {
        Ok(tree) => Ok(Box::new(tree)),
        Err(CopyError::OpenSource(FsError { class: ErrorClass::NotFound, .. })) => {
            // Not its parents: a real run would not make them either.
            let above = LocalTree::open_source(parent(path)).map_err(|error| dest_error(path, error))?;
            let mut facts = SourceTree::facts(&above).clone();
            facts.location.push(b'/');
            facts.location.extend_from_slice(path.file_name().unwrap_or_default().as_encoded_bytes());
            Ok(Box::new(EmptyDest::new(facts)))
        }
        Err(error) => Err(dest_error(path, error)),
    }
}

fn dest_error(path: &Path, error: CopyError) -> CliError {
    match error {
        CopyError::OpenDest(source) | CopyError::OpenSource(source) => CliError::OpenDest { path: path.into(), source },
        other => other.into(),
    }
}

/// Refuses a file or directory of ours that would become part of a tree.
pub fn refuse_inside(
    what: &'static str,
    path: &Path,
    source: &Path,
    dest: &Path,
    reach: Reach,
) -> Result<(), CliError> {
    let inside = |tree| Err(CliError::InsideTree { what, path: path.into(), tree });
    if is_inside(path, source, reach) {
        return inside("SOURCE");
    }
    // A destination that does not exist yet has nothing in it but what its name leads to.
    if is_inside(path, dest, Reach::Whole) || path.starts_with(dest) {
        return inside("DEST");
    }
    Ok(())
}

/// Refuses a destination that would be made inside the source. One that exists is the engine's to judge.
pub fn refuse_new_dest_in_source(source: &Path, dest: &Path, reach: Reach) -> Result<(), CliError> {
    if !dest.exists() && is_inside(dest, source, reach) {
        return Err(CliError::DestInsideSource { path: dest.into() });
    }
    Ok(())
}
