//! Where a migration is remembered, and whether that and the trees get on with each other.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use job::{Endpoint, JobSpec};

use crate::error::CliError;
use crate::paths::Reach;
use crate::trees;

/// Whether both are about the same trees, however they are to be copied.
pub(super) fn same_trees(one: &JobSpec, other: &JobSpec) -> bool {
    // As they are shown: the store keeps secrets apart, and a new password makes no other tree.
    let shown = |spec: &JobSpec| serde_json::to_value([&spec.source, &spec.dest]).ok();
    one.kind == other.kind && shown(one) == shown(other)
}

/// Looks at what a person can have got wrong before anything is made.
pub(super) fn check_trees(spec: &JobSpec, base: &Path) -> Result<(), CliError> {
    let reach = if spec.options.one_file_system { Reach::OneFileSystem } else { Reach::Whole };
    if let Endpoint::Directory { path } = &spec.source {
        trees::open_source(path)?;
    }
    if let (Endpoint::Directory { path: source }, Endpoint::Directory { path: dest }) = (&spec.source, &spec.dest) {
        trees::refuse_new_dest_in_source(source, dest, reach)?;
        trees::refuse_inside("state directory", base, source, dest, reach)?;
    }
    Ok(())
}

/// A directory for this pair of trees, for its owner alone: it names files of other people.
pub(super) fn make(base: &Path, spec: &JobSpec) -> Result<PathBuf, CliError> {
    let place = base.join("migrations").join(key(spec));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
    made.map_err(|source| CliError::MakeState { path: place.clone(), source })?;
    Ok(place)
}

/// A name for a pair of trees. Two pairs that share one are still told apart, by [`same_trees`].
fn key(spec: &JobSpec) -> String {
    let mut key = Fnv::default();
    for endpoint in [&spec.source, &spec.dest] {
        match endpoint {
            // Of no migration.
            Endpoint::None | Endpoint::Repository { .. } | Endpoint::Url { .. } => {}
            Endpoint::Directory { path } => key.add(path.as_os_str().as_bytes()),
            Endpoint::Mount { fs_type, source, subdir, .. } => {
                key.add(fs_type.as_bytes());
                key.add(source.as_bytes());
                key.add(subdir.as_deref().unwrap_or(Path::new("")).as_os_str().as_bytes());
            }
            Endpoint::Command { mount, .. } => key.add(mount.shown().as_bytes()),
        }
        key.add(&[u8::MAX]);
    }
    format!("{:016x}", key.0)
}

/// Fowler, Noll and Vo's hash: short, and the same in every version of this program.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        // A zero ends each part, so that no two pairs read the same.
        for byte in bytes.iter().chain(&[0]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use job::Kind;

    use super::*;

    fn spec(source: &str, dest: &str) -> JobSpec {
        let directory = |path: &str| Endpoint::Directory { path: path.into() };
        JobSpec::new(Kind::Migrate, directory(source), directory(dest))
    }

    #[test]
    fn a_pair_of_trees_has_one_name_in_every_version() {
        assert_eq!(key(&spec("/a", "/b")), key(&spec("/a", "/b")));
        assert_eq!(key(&spec("/a", "/b")), "fa2dd638bb62cd00");
        assert_ne!(key(&spec("/a", "/b")), key(&spec("/b", "/a")));
        assert_ne!(key(&spec("/a/b", "/c")), key(&spec("/a", "/b/c")));
        assert!(same_trees(&spec("/a", "/b"), &spec("/a", "/b")));
        assert!(!same_trees(&spec("/a", "/b"), &spec("/a", "/c")));
    }
}
