//! From files, environment and command line to the values in force.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use oslo::config::{Effective, Location, OptionDef, Sources, Values};

use super::options::{API, DATA_SERVICE, DEFAULT, HOOK_OPTIONS, HOOK_PREFIX, OPTIONS};
use super::{Config, ConfigError, DEFAULT_FILE, Overrides};

/// The configuration in force.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub values: Vec<Effective>,
    /// Mistakes that change nothing: options that do not exist, or not any more.
    pub warnings: Vec<String>,
}

pub fn load(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let mut sources = Sources::new();
    let default = Path::new(DEFAULT_FILE);
    let found = if default.exists() { vec![Location::File(default.into())] } else { Vec::new() };
    let files = overrides.files.iter().cloned().map(Location::File);
    let named: Vec<_> = files.chain(overrides.dirs.iter().cloned().map(Location::Dir)).collect();
    sources.read(&found, &named)?;
    sources.set_environment(std::env::vars_os());
    for option in &overrides.options {
        sources.set_argument(&option.group, &option.name, &option.text, option.flag);
    }
    let hooks = hooks(&sources, overrides);
    let values = Values::new(definitions(&hooks), sources);
    if let Some(error) = values.errors().into_iter().next() {
        return Err(error.into());
    }
    let config = Config::of(&values, &hooks)?;
    let mut warnings = warnings(&values, &hooks);
    if config.traces.is_some() && cfg!(not(feature = "otlp")) {
        let origin = values.origin(DEFAULT, "otlp_endpoint");
        warnings
            .push(format!("{origin}: `otlp_endpoint` has no effect: this build cannot send traces (feature `otlp`)"));
    }
    Ok(Loaded { config, values: values.effective(), warnings })
}

/// Names of the hooks that somebody describes.
fn hooks(sources: &Sources, overrides: &Overrides) -> Vec<String> {
    let groups = sources.groups().chain(overrides.options.iter().map(|option| option.group.as_str()));
    let mut hooks: Vec<_> =
        groups.filter_map(|group| group.strip_prefix(HOOK_PREFIX)).map(|name| name.trim().to_owned()).collect();
    hooks.sort();
    hooks.dedup();
    hooks
}

fn warnings(values: &Values, hooks: &[String]) -> Vec<String> {
    let hooks: Vec<_> = hooks.iter().map(|name| format!("{HOOK_PREFIX}{name}")).collect();
    // `[DEFAULT]` holds what other programs read, too.
    let own: Vec<_> = [DATA_SERVICE, API].into_iter().chain(hooks.iter().map(String::as_str)).collect();
    let unknown = values.unknown(&own).into_iter().map(|unknown| {
        let meant = unknown.nearest.map(|name| format!("; is `{name}` meant?")).unwrap_or_default();
        format!("{}: there is no option `{}` in [{}]{meant}", unknown.origin, unknown.name, unknown.group)
    });
    let notices = values.notices().into_iter().map(|notice| format!("{}: {}", notice.origin, notice.text));
    unknown.chain(notices).collect()
}

/// Sets of hooks that were seen, with their definitions.
type Known = Vec<(Vec<String>, &'static [OptionDef])>;

/// The table, with the options of these hooks in it. Each set of hooks is kept for ever, because definitions are made to
/// be constants; there are as many as an operator thinks of between two restarts.
fn definitions(hooks: &[String]) -> &'static [OptionDef] {
    static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, definitions)) = known.iter().find(|(names, _)| names == hooks) {
        return definitions;
    }
    let mut definitions = OPTIONS.to_vec();
    for name in hooks {
        let group: &'static str = Box::leak(format!("{HOOK_PREFIX}{name}").into_boxed_str());
        definitions.extend(HOOK_OPTIONS.map(|def| OptionDef { group, ..def }));
    }
    let definitions: &'static [OptionDef] = Box::leak(definitions.into_boxed_slice());
    known.push((hooks.to_vec(), definitions));
    definitions
}
