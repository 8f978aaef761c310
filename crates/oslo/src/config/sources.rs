//! Where settings come from, and which source wins: command line, environment, then files, the last one first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::parse::{Groups, Setting, normalized, parse};
use super::{ConfigError, OptionDef};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        line: u32,
    },
    /// The variable's name.
    Environment(String),
    /// The flag's name.
    CommandLine(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::CommandLine(flag) => write!(f, "command line {flag}"),
        }
    }
}

/// A file or a directory of files, in the order in which they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    File(PathBuf),
    /// All `*.conf` in it, in the order of their names.
    Dir(PathBuf),
}

/// Everything that was set, before anybody asks what it means.
#[derive(Default)]
pub struct Sources {
    files: Vec<(PathBuf, Groups)>,
    environment: BTreeMap<String, String>,
    arguments: Vec<Argument>,
}

struct Argument {
    group: String,
    name: String,
    text: String,
    flag: String,
}

impl fmt::Debug for Sources {
    /// Without values: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<_> = self.files.iter().map(|(path, _)| path).collect();
        f.debug_struct("Sources").field("files", &files).finish_non_exhaustive()
    }
}

impl Sources {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what the command line names, in its order, after those of `found` that it does not replace: a named file
    /// turns the search for files off, a named directory that for directories.
    pub fn read(&mut self, found: &[Location], named: &[Location]) -> Result<(), ConfigError> {
        let is_file = |location: &Location| matches!(location, Location::File(_));
        let replaced = |location: &&Location| named.iter().any(|named| is_file(named) == is_file(location));
        for location in found.iter().filter(|location| !replaced(location)).chain(named) {
            match location {
                Location::File(path) => self.read_file(path)?,
                Location::Dir(path) => self.read_dir(path)?,
            }
        }
        Ok(())
    }

    /// What it sets wins over all files before it.
    pub fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        self.add_text(path, &bytes)
    }

    pub fn read_dir(&mut self, path: &Path) -> Result<(), ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.into(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            // A name that begins with a dot is hidden, for a shell and for oslo.config.
            let is_hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if file.extension().is_some_and(|extension| extension == "conf") && !is_hidden {
                files.push(file);
            }
        }
        files.sort();
        files.iter().try_for_each(|file| self.read_file(file))
    }

    /// The same as a file of this content.
    pub fn add_text(&mut self, path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
        let groups = parse(bytes).map_err(|error| ConfigError::Syntax {
            path: path.into(),
            line: error.line,
            what: error.what,
        })?;
        self.files.push((path.into(), groups));
        Ok(())
    }

    /// Takes what may set an option: `OS_<GROUP>__<OPTION>`. Give it `std::env::vars_os()`.
    pub fn set_environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        self.environment = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("OS_") && name.contains("__"))
            .collect();
    }

    /// Sets an option from the command line. Of the same option the last one wins.
    pub fn set_argument(&mut self, group: &str, name: &str, text: &str, flag: &str) {
        self.arguments.push(Argument { group: group.into(), name: name.into(), text: text.into(), flag: flag.into() });
    }

    /// The files that were read, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The groups that stand in the files, each once for every file: for programs whose groups have names of the
    /// operator's choice.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|(_, groups)| groups.keys().map(String::as_str))
    }

    /// Every text that stands in a file for an option whose name `is_meant`, in whichever group.
    pub fn texts(&self, is_meant: impl Fn(&str) -> bool) -> impl Iterator<Item = &str> {
        let settings = self.files.iter().flat_map(|(_, groups)| groups.values()).flatten();
        settings.filter(move |(name, _)| is_meant(name)).map(|(_, setting)| setting.text.as_str())
    }

    /// The text that holds for an option, but for its default.
    pub(crate) fn text(&self, def: &OptionDef) -> Option<(&str, Origin)> {
        let argument = self.arguments.iter().rev().find(|it| it.group == def.group && it.name == def.name);
        if let Some(argument) = argument {
            return Some((&argument.text, Origin::CommandLine(argument.flag.clone())));
        }
        let variable = def.variable();
        if let Some(text) = self.environment.get(&variable) {
            return Some((text, Origin::Environment(variable)));
        }
        // The last file wins, by whichever of its names it calls the option.
        self.files.iter().rev().find_map(|(path, groups)| {
            let names = std::iter::once((def.group, def.name)).chain(def.deprecated.iter().copied());
            names.into_iter().find_map(|(group, name)| found(path, groups, group, name))
        })
    }

    /// What files say of an option that is not ours.
    pub(crate) fn foreign_text(&self, group: &str, name: &str) -> Option<&str> {
        self.files.iter().rev().find_map(|(_, groups)| Some(&*groups.get(group)?.get(name)?.text))
    }

    /// All that files set: group, name and place.
    pub(crate) fn file_settings(&self) -> impl Iterator<Item = (&str, &str, Origin)> {
        self.files.iter().flat_map(|(path, groups)| {
            groups.iter().flat_map(move |(group, settings)| {
                settings.iter().map(move |(name, setting)| (&**group, &**name, origin(path, setting)))
            })
        })
    }

    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.environment.keys().map(String::as_str)
    }
}

fn found<'a>(path: &Path, groups: &'a Groups, group: &str, name: &str) -> Option<(&'a str, Origin)> {
    let setting = groups.get(&normalized(group))?.get(name)?;
    Some((&setting.text, origin(path, setting)))
}

fn origin(path: &Path, setting: &Setting) -> Origin {
    Origin::File { path: path.into(), line: setting.line }
}
