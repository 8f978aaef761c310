//! What can be wrong with a configuration, where, and what to do.

use std::io;
use std::path::PathBuf;

use super::Origin;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read the configuration `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {what}", path.display())]
    Syntax { path: PathBuf, line: u32, what: &'static str },
    #[error("{origin}: `{name}` in [{group}] cannot be used")]
    Value { group: &'static str, name: &'static str, origin: Origin, source: ValueError },
}

/// Why the text of a value is none. Never holds the text of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub(crate) String);
