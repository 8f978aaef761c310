//! From files, environment and command line to the values in force.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use oslo::config::{Effective, Location, Notice, NoticeKind, OptionDef, Sources, Values};

use super::options::{self, API, DATA_SERVICE, DEFAULT, of_named};
use super::{Config, ConfigError, DEFAULT_FILE, Mode, Overrides};

/// The configuration in force.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub values: Vec<Effective>,
    /// Mistakes that change nothing: options that do not exist, or not any more.
    pub warnings: Vec<String>,
}

pub fn load(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let mode = overrides.mode;
    let mut sources = Sources::new();
    sources.read(&found(mode), &overrides.locations)?;
    sources.set_environment(std::env::vars_os());
    for option in &overrides.options {
        sources.set_argument(&option.group, &option.name, &option.text, option.flag);
    }
    let named = named(&sources, overrides);
    let helpers = helpers_of_templates(&sources);
    let values = Values::new(definitions(mode, &named), sources);
    if let Some(error) = values.errors().into_iter().next() {
        return Err(error.into());
    }
    let mut config = Config::of(mode, &values, &named)?;
    if mode == Mode::Manila {
        config.worker.mount_helpers.extend(helpers);
    }
    let mut warnings = warnings(mode, &values, &named);
    if config.traces.is_some() && cfg!(not(feature = "otlp")) {
        let origin = values.origin(DEFAULT, "otlp_endpoint");
        warnings
            .push(format!("{origin}: `otlp_endpoint` has no effect: this build cannot send traces (feature `otlp`)"));
    }
    Ok(Loaded { config, values: values.effective(), warnings })
}

/// Where the configuration is when nobody names it.
pub fn found(mode: Mode) -> Vec<Location> {
    match mode {
        Mode::Standalone => {
            let default = Path::new(DEFAULT_FILE);
            if default.exists() { vec![Location::File(default.into())] } else { Vec::new() }
        }
        Mode::Manila => {
            let dir = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let (home, common, snap) = (dir("HOME"), dir("SNAP_COMMON"), dir("SNAP"));
            let dirs = oslo::config::search_dirs("manila", home.as_deref(), common.as_deref(), snap.as_deref());
            oslo::config::find(&dirs, "manila", "manila-data")
        }
    }
}

/// Programs that mount templates of the files name. Upstream runs them as root; whoever writes this file may say so.
fn helpers_of_templates(sources: &Sources) -> Vec<String> {
    let is_template = |name: &str| name.ends_with("mount_template");
    let mut helpers: Vec<_> = sources
        .texts(is_template)
        .filter_map(|template| template.split_whitespace().next())
        .filter(|program| !program.contains(['%', '$']))
        .map(ToOwned::to_owned)
        .collect();
    helpers.sort();
    helpers.dedup();
    helpers
}

/// Sections with names of people's choice that somebody describes.
fn named(sources: &Sources, overrides: &Overrides) -> Vec<String> {
    let groups = sources.groups().chain(overrides.options.iter().map(|option| option.group.as_str()));
    let mut named: Vec<_> = groups.filter(|group| of_named(group).is_some()).map(ToOwned::to_owned).collect();
    named.sort();
    named.dedup();
    named
}

fn warnings(mode: Mode, values: &Values, named: &[String]) -> Vec<String> {
    // `[DEFAULT]` holds what other programs read, too.
    let own: Vec<_> = [DATA_SERVICE, API].into_iter().chain(named.iter().map(String::as_str)).collect();
    let unknown = values.unknown(&own).into_iter().map(|unknown| {
        let meant = unknown.nearest.map(|name| format!("; is `{name}` meant?")).unwrap_or_default();
        format!("{}: there is no option `{}` in [{}]{meant}", unknown.origin, unknown.name, unknown.group)
    });
    // A manila.conf is for several services: that an option is not for this one is nothing to warn of.
    let is_told = |notice: &Notice| mode == Mode::Standalone || notice.kind != NoticeKind::NoEffect;
    let notices = values.notices().into_iter().filter(is_told);
    let notices = notices.map(|notice| format!("{}: {}", notice.origin, notice.text));
    unknown.chain(notices).collect()
}

/// Modes and sets of named sections that were seen, with their definitions.
type Known = Vec<(Mode, Vec<String>, &'static [OptionDef])>;

/// The table, with the options of these sections in it. Each set of sections is kept for ever, because definitions are made to
/// be constants; there are as many as an operator thinks of between two restarts.
fn definitions(mode: Mode, sections: &[String]) -> &'static [OptionDef] {
    static KNOWN: Mutex<Known> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., definitions)) = known.iter().find(|(of, names, _)| *of == mode && names == sections) {
        return definitions;
    }
    let mut definitions = options::of(mode);
    for section in sections {
        let group: &'static str = Box::leak(section.clone().into_boxed_str());
        definitions.extend(of_named(group).unwrap_or_default().iter().map(|def| OptionDef { group, ..*def }));
    }
    let definitions: &'static [OptionDef] = Box::leak(definitions.into_boxed_slice());
    known.push((mode, sections.to_vec(), definitions));
    definitions
}
