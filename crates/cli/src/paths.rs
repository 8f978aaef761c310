//! Whether a path lies inside a tree, whatever the names on the way to it: by device and inode of the directories
//! above it. For the paths that the user names; nothing inside a tree is looked at.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::plan::parent;

/// How far down a tree reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Whole,
    /// What is mounted below the root is not part of it.
    OneFileSystem,
}

/// Tells whether `path`, which need not exist yet, is `tree` or lies below it. What cannot be looked at is outside.
pub fn is_inside(path: &Path, tree: &Path, reach: Reach) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    let Ok(nearest) = nearest_existing(path) else { return false };
    let (Ok(tree), Ok(found)) = (identity(tree), identity(&nearest)) else { return false };
    if reach == Reach::OneFileSystem && found.0 != tree.0 {
        return false;
    }
    nearest.ancestors().any(|directory| identity(directory).is_ok_and(|found| found == tree))
}

/// The path itself or the nearest directory above it that exists, without symlinks.
fn nearest_existing(path: &Path) -> io::Result<PathBuf> {
    let mut path = path;
    loop {
        match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound && parent(path) != path => path = parent(path),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_way_do_not_matter() {
        let base = std::env::temp_dir().join(format!("manila-data-paths-{}", std::process::id()));
        std::fs::create_dir_all(base.join("tree/sub")).unwrap();
        std::fs::create_dir_all(base.join("other")).unwrap();
        std::os::unix::fs::symlink(base.join("tree/sub"), base.join("other/link")).unwrap();
        let check = |path: &str, expected| {
            for reach in [Reach::Whole, Reach::OneFileSystem] {
                assert_eq!(is_inside(&base.join(path), &base.join("tree"), reach), expected, "{path}");
            }
        };
        check("tree", true);
        check("tree/missing/too", true);
        check("other/link/file", true);
        check("other/../tree/x", true);
        check("other", false);
        check("treehouse", false);
        check("tree/../other", false);
        assert!(!is_inside(&base.join("tree"), &base.join("missing"), Reach::Whole));
        assert!(is_inside(Path::new("/proc/self"), Path::new("/"), Reach::Whole));
        assert!(!is_inside(Path::new("/proc/self"), Path::new("/"), Reach::OneFileSystem));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
