//! Which files are read, and in which order.

use std::fs;
use std::path::{Path, PathBuf};

use oslo::config::{ConfigError, Location, Sources, Values, find, search_dirs};
use testkit::disk::TempDir;

use crate::kit::{DEFS, text};

fn write(path: &Path, state_path: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("[DEFAULT]\nstate_path = {state_path}\n")).unwrap();
    path.into()
}

fn state_path(found: &[Location], named: &[Location]) -> String {
    let mut sources = Sources::new();
    sources.read(found, named).unwrap();
    text(&Values::new(DEFS, sources), "state_path").unwrap()
}

#[test]
fn the_first_directory_that_has_a_file_gives_it() {
    let dir = TempDir::new();
    let (first, second) = (dir.subdir("first"), dir.subdir("second"));
    let shared = write(&second.join("manila.conf"), "/shared");
    let own = write(&first.join("manila-data.conf"), "/own");
    write(&second.join("manila-data.conf"), "/hidden");
    let snippet = write(&second.join("manila-data.conf.d/1.conf"), "/snippet");
    let snippets = Location::Dir(snippet.parent().unwrap().into());
    let found = find(&[first, second], "manila", "manila-data");
    assert_eq!(found, [Location::File(shared), Location::File(own.clone()), snippets]);
    assert_eq!(state_path(&found, &[]), "/snippet");
    assert_eq!(state_path(&found[..2], &[]), "/own");
}

#[test]
fn directories_are_searched_from_the_home_to_the_snap() {
    let dirs = search_dirs("manila", Some(Path::new("/h")), Some(Path::new("/c")), Some(Path::new("/n")));
    let expected = ["/h/.manila", "/h", "/etc/manila", "/etc", "/c/etc/manila", "/n/etc/manila"];
    assert_eq!(dirs, expected.map(PathBuf::from));
    assert_eq!(search_dirs("manila", None, None, None).len(), 2);
}

#[test]
fn what_is_named_is_read_in_its_order_and_the_last_wins() {
    let dir = TempDir::new();
    let file = Location::File(write(&dir.path().join("a.conf"), "/file"));
    write(&dir.path().join("d/1.conf"), "/first");
    write(&dir.path().join("d/2.conf"), "/last");
    write(&dir.path().join("d/3.conf.old"), "/never");
    write(&dir.path().join("d/.4.conf"), "/hidden");
    let confs = Location::Dir(dir.path().join("d"));
    assert_eq!(state_path(&[], &[file.clone(), confs.clone()]), "/last");
    assert_eq!(state_path(&[], &[confs, file]), "/file");
}

#[test]
fn a_named_file_replaces_found_files_and_a_named_directory_found_directories() {
    let dir = TempDir::new();
    let file = |name: &str| Location::File(write(&dir.path().join(format!("{name}.conf")), &format!("/{name}")));
    let in_dir = |name: &str| {
        let path = write(&dir.path().join(name).join("x.conf"), &format!("/{name}"));
        Location::Dir(path.parent().unwrap().into())
    };
    let found = [file("found-file"), in_dir("found-dir")];
    // What is found comes first: a named file wins over a found directory.
    assert_eq!(state_path(&found, &[file("named-file")]), "/named-file");
    let mut sources = Sources::new();
    sources.read(&found, &[file("named-file")]).unwrap();
    assert_eq!(sources.files().count(), 2, "the found directory is read as well");
    let mut sources = Sources::new();
    sources.read(&found, &[in_dir("named-dir")]).unwrap();
    let names: Vec<_> = sources.files().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
    assert_eq!(names, [Path::new("found-file.conf"), Path::new("named-dir/x.conf")]);
}

#[test]
fn what_is_named_must_be_there() {
    let dir = TempDir::new();
    for location in [Location::File(dir.path().join("x.conf")), Location::Dir(dir.path().join("d"))] {
        let error = Sources::new().read(&[], &[location]).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error:?}");
        assert!(error.to_string().starts_with("cannot read the configuration `"), "{error}");
    }
}

#[test]
fn a_file_that_is_none_is_named_with_its_line() {
    let dir = TempDir::new();
    let path = dir.path().join("x.conf");
    fs::write(&path, "[DEFAULT]\nnonsense\n").unwrap();
    let error = Sources::new().read_file(&path).unwrap_err().to_string();
    assert_eq!(error, format!("{}:2: neither a group, a comment nor `name = value`", path.display()));
}
