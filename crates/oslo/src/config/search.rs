//! Where configuration is looked for when nobody names it.

use std::path::{Path, PathBuf};

use super::Location;

/// The directories that are looked into, the first one first.
pub fn search_dirs(
    project: &str,
    home: Option<&Path>,
    snap_common: Option<&Path>,
    snap: Option<&Path>,
) -> Vec<PathBuf> {
    let mut dirs = Vec::new();
    if let Some(home) = home {
        dirs.push(home.join(format!(".{project}")));
        dirs.push(home.into());
    }
    dirs.push(Path::new("/etc").join(project));
    dirs.push("/etc".into());
    dirs.extend([snap_common, snap].into_iter().flatten().map(|dir| dir.join("etc").join(project)));
    dirs
}

/// What is there for a project and one of its programs: the project's file, the program's, then the directories of
/// both. What comes later wins.
pub fn find(dirs: &[PathBuf], project: &str, program: &str) -> Vec<Location> {
    let first =
        |name: String, is_right: fn(&Path) -> bool| dirs.iter().map(|dir| dir.join(&name)).find(|path| is_right(path));
    let file = |name: &str| first(format!("{name}.conf"), Path::is_file).map(Location::File);
    let dir = |name: &str| first(format!("{name}.conf.d"), Path::is_dir).map(Location::Dir);
    [file(project), file(program), dir(project), dir(program)].into_iter().flatten().collect()
}
