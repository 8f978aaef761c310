//! Configuration as oslo.config reads it: files, directories, the environment and the command line, one over the other.
//!
//! [`Sources`] holds what was found and where, [`OptionDef`] says which options there are, and [`Values`] puts both
//! together: typed values, each with its [`Origin`]. Files are shared with other services, so what they hold beyond our
//! options is no error; [`Values::unknown`] names it for the groups that are ours alone.

mod def;
mod error;
mod interpolate;
mod parse;
mod search;
mod sources;
mod types;
mod values;

pub use def::{Kind, OptionDef};
pub use error::{ConfigError, ValueError};
pub use search::{find, search_dirs};
pub use sources::{Location, Origin, Sources};
pub(crate) use types::{Typed, typed};
pub use values::{Effective, Notice, NoticeKind, Unknown, Values};

/// The group of options that stand in no other.
pub const DEFAULT: &str = "DEFAULT";
