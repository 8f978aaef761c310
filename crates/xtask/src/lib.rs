//! What the tests of the house's rules look at: the workspace as cargo sees it, and its files as git sees them.
//!
//! The rules themselves are in `tests/it`, one file for each kind. This crate knows no other one and is in no release.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The directory of the workspace's `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies in crates/xtask")
}

/// One crate of the workspace.
#[derive(Debug)]
pub struct Room {
    pub name: String,
    /// Directory of its manifest, relative to the workspace.
    pub dir: PathBuf,
    pub dependencies: Vec<Dependency>,
}

/// A line of a crate's manifest that names another crate.
#[derive(Debug)]
pub struct Dependency {
    pub name: String,
    pub features: Vec<String>,
    pub kind: DependencyKind,
    /// Another crate of this workspace.
    pub is_room: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DependencyKind {
    Normal,
    Dev,
    Build,
}

/// A package that takes part in a build for this machine, ours or not.
#[derive(Debug)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// SPDX expression, where the package has one.
    pub license: Option<String>,
    /// Where it was taken from; `None` for crates of the workspace.
    pub source: Option<String>,
}

/// The workspace and everything it depends on, from `cargo metadata`.
#[derive(Debug)]
pub struct Workspace {
    pub rooms: Vec<Room>,
    pub packages: Vec<Package>,
}

impl Workspace {
    pub fn read() -> Self {
        let host = host();
        // Packages of other systems are left out: they are never built, and asking for them would download them.
        let json = run(cargo().args(["metadata", "--format-version=1", "--locked", "--filter-platform", &host]));
        let json: Value = serde_json::from_str(&json).expect("cargo prints JSON");
        let members: Vec<&str> = array(&json["workspace_members"]).iter().map(text).collect();
        // `packages` has those of all systems that are on disk; the resolved graph has those of this one.
        let nodes: Vec<&str> = array(&json["resolve"]["nodes"]).iter().map(|node| text(&node["id"])).collect();
        let (mut rooms, mut packages) = (Vec::new(), Vec::new());
        for package in array(&json["packages"]).iter().filter(|package| nodes.contains(&text(&package["id"]))) {
            if members.contains(&text(&package["id"])) {
                rooms.push(Room::from(package));
            }
            packages.push(Package {
                name: text(&package["name"]).into(),
                version: text(&package["version"]).into(),
                license: package["license"].as_str().map(Into::into),
                source: package["source"].as_str().map(Into::into),
            });
        }
        Self { rooms, packages }
    }

    pub fn room(&self, name: &str) -> &Room {
        self.rooms.iter().find(|room| room.name == name).unwrap_or_else(|| panic!("there is a crate `{name}`"))
    }
}

impl From<&Value> for Room {
    fn from(package: &Value) -> Self {
        let manifest = Path::new(text(&package["manifest_path"]));
        let dir =
            manifest.parent().and_then(|dir| dir.strip_prefix(root()).ok()).expect("a member lies below the root");
        let dependencies = array(&package["dependencies"]).iter().map(|dependency| Dependency {
            name: text(&dependency["name"]).into(),
            features: array(&dependency["features"]).iter().map(|feature| text(feature).into()).collect(),
            kind: match dependency["kind"].as_str() {
                None => DependencyKind::Normal,
                Some("dev") => DependencyKind::Dev,
                Some("build") => DependencyKind::Build,
                Some(other) => panic!("cargo knows a new kind of dependency: {other}"),
            },
            is_room: dependency["path"].is_string(),
        });
        Self { name: text(&package["name"]).into(), dir: dir.into(), dependencies: dependencies.collect() }
    }
}

/// Names and features of all that a crate's normal build brings, resolved for that crate alone.
pub fn normal_tree(room: &str) -> Vec<(String, Vec<String>)> {
    let args =
        ["tree", "--locked", "-e", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}|{f}", "-p", room];
    let lines = run(cargo().args(args));
    let mut tree: Vec<_> = lines
        .lines()
        .filter_map(|line| {
            let (package, features) = line.split_once('|')?;
            let features = features.split(',').filter(|f| !f.is_empty()).map(Into::into).collect();
            Some((package.split(' ').next()?.to_owned(), features))
        })
        .collect();
    tree.sort();
    tree.dedup();
    tree
}

/// Every file that is in git, or would be after `git add`: relative paths.
pub fn files() -> Vec<PathBuf> {
    let list = run(git().args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]));
    let files: Vec<PathBuf> = list.split('\0').filter(|path| !path.is_empty()).map(Into::into).collect();
    assert!(!files.is_empty(), "git lists no files");
    // A file that was removed but not yet from the index is listed too.
    files.into_iter().filter(|path| root().join(path).is_file()).collect()
}

/// Those of them that are Rust source below a crate's directory.
pub fn rust_files() -> Vec<PathBuf> {
    files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// The text of a file; `None` where it is not UTF-8.
pub fn read(path: &Path) -> Option<String> {
    let bytes = std::fs::read(root().join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    String::from_utf8(bytes).ok()
}

/// Ends the test with all offenders at once.
pub fn none(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

fn git() -> Command {
    let mut git = Command::new("git");
    // A tree that another user owns (a mounted checkout in a container) may be listed too.
    git.args(["-c", "safe.directory=*"]).current_dir(root());
    git
}

fn host() -> String {
    let rustc = run(Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV"));
    rustc.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the answer is UTF-8")
}

fn array(value: &Value) -> &[Value] {
    value.as_array().expect("cargo prints a list here")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("cargo prints a string here")
}
