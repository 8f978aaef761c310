//! A log of its own for each test, in a directory of its own.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oslo::config::{Sources, Values};
use oslo::log::{Facts, LOG_OPTIONS, Log, LogError, LogSettings};
use testkit::disk::TempDir;
use tracing_subscriber::layer::SubscriberExt as _;

/// Of the daemon or the file in whose name lines are written.
pub(crate) const PROGRAM: &str = "manila-data";

/// Those of `expected.py`.
pub(crate) fn facts() -> Facts {
    Facts {
        now: || Timestamp::from_microsecond(1_795_369_081_212_345).unwrap(),
        started: Timestamp::from_second(1_795_369_081).unwrap(),
        zone: TimeZone::posix("XYZ-5:30").unwrap(),
        process: 4242,
        hostname: "data1".into(),
        thread: || (77, "worker".into()),
    }
}

/// A place for files and sockets.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        self.text(name).lines().map(str::to_owned).collect()
    }

    /// Files of the directory, in the order of their names.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Lines go to the file `log`, and are their message alone.
    pub(crate) fn bare(&self) -> LogSettings {
        let mut settings = LogSettings { file: Some(self.path("log")), ..LogSettings::default() };
        settings.formats.default = "%(levelname)s %(message)s".into();
        settings.formats.context.clone_from(&settings.formats.default);
        settings.formats.debug_suffix.clear();
        settings
    }
}

/// Settings out of a file of configuration.
pub(crate) fn of_file(text: &str) -> Result<LogSettings, oslo::config::ConfigError> {
    let mut sources = Sources::new();
    sources.add_text(Path::new("manila.conf"), format!("[DEFAULT]\n{text}\n").as_bytes()).unwrap();
    LogSettings::of(&Values::new(LOG_OPTIONS, sources))
}

/// Runs something whose events are logged, and gives it the log.
pub(crate) fn with_log<T>(settings: &LogSettings, run: impl FnOnce(&Log) -> T) -> Result<T, LogError> {
    let built = Log::build(settings, PROGRAM, facts())?;
    let subscriber = tracing_subscriber::registry().with(vec![built.layer]);
    Ok(tracing::subscriber::with_default(subscriber, || {
        for warning in built.warnings {
            tracing::warn!("{warning}");
        }
        run(&built.log)
    }))
}
