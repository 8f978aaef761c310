//! The configuration of the service: found, read, checked. What an option means is in `options`, what the service gets
//! is [`Config`].

mod describe;
mod load;
pub mod options;
mod typed;

use std::path::PathBuf;

use oslo::config::Origin;

use crate::args::service::{ConfigArgs, ServeArgs};

pub use describe::sample;
pub use load::{Loaded, load};
pub use options::DEFAULT_SOCKET;
#[cfg(feature = "otlp")]
pub use typed::TraceConfig;
pub use typed::{Config, HookConfig, Sandbox, WorkerConfig};

/// Read where nobody names another file.
const DEFAULT_FILE: &str = "/etc/manila-data/manila-data.conf";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Oslo(#[from] oslo::config::ConfigError),
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

impl Override {
    /// Reads `[GROUP.]NAME=VALUE`. Without a group it is the one that has an option of this name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected OPTION=VALUE")?;
        let (group, name) = if let Some(parts) = key.trim().rsplit_once('.') {
            parts
        } else {
            let known = options::OPTIONS.iter().find(|def| def.name == key.trim());
            let known = known.ok_or_else(|| format!("there is no option `{}`", key.trim()))?;
            (known.group, known.name)
        };
        let defs = if group.starts_with(options::HOOK_PREFIX) { &options::HOOK_OPTIONS[..] } else { &options::OPTIONS };
        let is_known = |def: &&oslo::config::OptionDef| {
            def.name == name && (def.group == group || def.group == options::HOOK_PREFIX)
        };
        match defs.iter().find(is_known) {
            None => Err(format!("there is no option `{name}` in [{group}]")),
            // Command lines can be seen by everybody on the machine.
            Some(def) if def.secret => Err(format!("`{name}` is a secret: set it in a file, or by {}", def.variable())),
            Some(_) => Ok(Self::new(group, name, value.trim(), "--option")),
        }
    }

    fn new(group: &str, name: &str, text: impl Into<String>, flag: &'static str) -> Self {
        Self { group: group.into(), name: name.into(), text: text.into(), flag }
    }
}

/// What the command line says of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
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
        Self { files: args.config_file.clone(), dirs: args.config_dir.clone(), options }
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
