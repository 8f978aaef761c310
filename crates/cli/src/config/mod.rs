//! The configuration of the service: found, read, checked. What an option means is in `options`, what the service gets
//! is [`Config`].

mod describe;
mod load;
pub mod options;
mod repositories;
mod schedules;
mod typed;

use oslo::config::{Location, OptionDef, Origin};

use crate::args::manila::ManilaArgs;
use crate::args::service::{ConfigArgs, ServeArgs};

pub use describe::sample;
pub use load::{Loaded, found, load};
pub use options::DEFAULT_SOCKET;
#[cfg(feature = "otlp")]
pub use typed::TraceConfig;
pub use typed::{Config, HookConfig, ManilaConfig, Sandbox, WorkerConfig};

/// Read where nobody names another file.
const DEFAULT_FILE: &str = "/etc/manila-data/manila-data.conf";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Oslo(#[from] oslo::config::ConfigError),
    #[error(transparent)]
    Manila(#[from] manila::settings::SettingsError),
    #[error(transparent)]
    Database(#[from] manila::database::DatabaseSettingsError),
    #[error("{origin}: `{name}` in [{group}] {problem}")]
    Value { group: String, name: String, origin: Origin, problem: String },
}

/// An option that is set on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    group: String,
    name: String,
    text: String,
    flag: &'static str,
}

/// Every option that somebody could mean; which of them are read depends on the mode. Ours come first.
fn known() -> Vec<OptionDef> {
    [options::of(Mode::Standalone), options::of(Mode::Manila)].concat()
}

impl Override {
    /// Reads `[GROUP.]NAME=VALUE`. Without a group it is the one that has an option of this name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected OPTION=VALUE")?;
        let (group, name) = if let Some(parts) = key.trim().rsplit_once('.') {
            parts
        } else {
            let known = known().into_iter().find(|def| def.name == key.trim());
            let known = known.ok_or_else(|| format!("there is no option `{}`", key.trim()))?;
            (known.group, known.name)
        };
        let defs = options::of_named(group).map_or_else(known, <[OptionDef]>::to_vec);
        // Of a section with a name, the table has the prefix alone.
        let has = |def: &OptionDef| def.group == group || def.group.ends_with(':') && group.starts_with(def.group);
        let is_known = |def: &&OptionDef| def.name == name && has(def);
        match defs.iter().find(is_known) {
            None => Err(format!("there is no option `{name}` in [{group}]")),
            // Command lines can be seen by everybody on the machine.
            Some(def) if def.secret => Err(format!("`{name}` is a secret: set it in a file, or by {}", def.variable())),
            Some(_) => Ok(Self::new(group, name, value.trim(), "--option")),
        }
    }

    /// An option of `[DEFAULT]` that upstream's command line has, with the text as it was typed.
    pub fn of_manila(name: &str, text: &str, flag: &'static str) -> Self {
        Self::new(options::DEFAULT, name, text.replace('$', "$$"), flag)
    }

    fn new(group: &str, name: &str, text: impl Into<String>, flag: &'static str) -> Self {
        Self { group: group.into(), name: name.into(), text: text.into(), flag }
    }
}

/// Whose configuration it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Our own file, and nothing of OpenStack.
    #[default]
    Standalone,
    /// Manila's files with upstream's options, and ours beside them.
    Manila,
}

/// What the command line says of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    mode: Mode,
    locations: Vec<Location>,
    options: Vec<Override>,
}

impl Overrides {
    pub fn of(args: &ConfigArgs) -> Self {
        let mut options = args.options.clone();
        if let Some(path) = &args.state_path {
            options.push(path_override(options::DEFAULT, "state_path", path, "--state-path"));
        }
        if args.debug {
            options.push(Override::new(options::DEFAULT, "debug", "true", "--debug"));
        }
        let mode = if args.manila { Mode::Manila } else { Mode::Standalone };
        Self { mode, locations: args.locations.0.clone(), options }
    }

    pub fn of_manila(args: &ManilaArgs) -> Self {
        Self { mode: Mode::Manila, locations: args.locations.0.clone(), options: args.options() }
    }

    pub fn of_serve(args: &ServeArgs) -> Self {
        let mut overrides = Self::of(&args.config);
        if let Some(path) = &args.socket {
            overrides.options.push(path_override(options::API, "socket", path, "--socket"));
        }
        if let Some(path) = &args.log_file {
            overrides.options.push(path_override(options::DEFAULT, "log_file", path, "--log-file"));
        }
        overrides
    }
}

/// A path as it is typed means the directory in which it is typed; a `$` in it means nothing.
fn path_override(group: &str, name: &str, path: &std::path::Path, flag: &'static str) -> Override {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
    Override::new(group, name, path.to_string_lossy().replace('$', "$$"), flag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_command_line_are_found_with_and_without_their_group() {
        let check = |text: &str, group: &str, name: &str, value: &str| {
            assert_eq!(Override::parse(text), Ok(Override::new(group, name, value, "--option")), "{text}");
        };
        check("jobs_max=2", "data_service", "jobs_max", "2");
        check("api.listen = 127.0.0.1:1", "api", "listen", "127.0.0.1:1");
        check("debug=true", "DEFAULT", "debug", "true");
        check("hook:freeze.command=/bin/x y=z", "hook:freeze", "command", "/bin/x y=z");
        for wrong in ["jobs_max", "jobs=2", "api.jobs_max=2", "webhook_secret=x"] {
            assert!(Override::parse(wrong).is_err(), "{wrong}");
        }
        assert!(!Override::parse("webhook_secret=geheim").unwrap_err().contains("geheim"));
    }
}
