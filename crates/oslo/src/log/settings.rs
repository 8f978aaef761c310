//! What is set for the log, read and checked before the first line.

use std::path::{Path, PathBuf};

use super::level::{self, Threshold};
use super::percent::Template;
use crate::config::{ConfigError, DEFAULT, ValueError, Values};

/// The look of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Those of oslo.log, to the byte.
    #[default]
    Oslo,
    /// Those of tracing: for people in front of a terminal, and for collectors that know it.
    Plain,
}

/// How the service logs. [`LogSettings::of`] reads it from options; a default one writes INFO to standard error.
#[derive(Clone, Debug, PartialEq)]
pub struct LogSettings {
    pub style: Style,
    /// `%(project)s` where a line belongs to no request, and `%(version)s`.
    pub product: String,
    pub version: String,
    /// Relative to `dir`.
    pub file: Option<PathBuf>,
    /// Without a `file`: `<dir>/<program>.log`.
    pub dir: Option<PathBuf>,
    /// Looks before each line whether the file is still the one of that name. Always on in oslo's style without rotation,
    /// as upstream's `WatchedFileHandler`.
    pub watch: bool,
    pub rotation: Rotation,
    /// Beside other places. Without any this is where lines go.
    pub stderr: bool,
    pub color: bool,
    pub syslog: bool,
    pub journal: bool,
    pub facility: Facility,
    /// Where the syslog daemon listens.
    pub syslog_socket: PathBuf,
    /// Where systemd's journal listens.
    pub journal_socket: PathBuf,
    pub debug: bool,
    pub json: bool,
    /// `LOGGER=LEVEL` with Python's names.
    pub default_levels: Vec<String>,
    /// `TARGET=LEVEL` with tracing's names. They win.
    pub levels: Vec<String>,
    /// What does the work of Python's loggers here, beyond what this crate knows: logger and targets.
    pub loggers: &'static [(&'static str, &'static [&'static str])],
    pub formats: Formats,
    pub rate: Option<Rate>,
    /// What was set and cannot be honoured. It is told when the log starts.
    pub notices: Vec<String>,
}

/// Formats of oslo.log, as its options have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formats {
    pub date: String,
    pub context: String,
    pub default: String,
    pub debug_suffix: String,
    pub user_identity: String,
    pub instance: String,
    pub instance_uuid: String,
}

impl Default for Formats {
    /// Those of oslo.log.
    fn default() -> Self {
        let text = |name: &str| {
            let def = super::LOG_OPTIONS.iter().find(|def| def.name == name);
            def.and_then(|def| def.default).unwrap_or_default().to_owned()
        };
        Self {
            date: text("log_date_format"),
            context: text("logging_context_format_string"),
            default: text("logging_default_format_string"),
            debug_suffix: text("logging_debug_format_suffix"),
            user_identity: text("logging_user_identity_format"),
            instance: text("instance_format"),
            instance_uuid: text("instance_uuid_format"),
        }
    }
}

/// When the log file makes way for a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    #[default]
    None,
    /// Before the line that would make it longer. `log.1` is the last one.
    Size { bytes_max: u64, count_max: usize },
    /// By time; the name ends in the time when the file was begun.
    Interval { every: Every, count_max: usize },
}

/// A time between two rotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    Seconds(u32),
    Minutes(u32),
    Hours(u32),
    Days(u32),
    /// So many local midnights.
    Midnights(u32),
    /// The local midnight at the end of a day of the week; 0 is Monday.
    Weekday(u8),
}

/// No more than `burst` lines in `interval_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub interval_seconds: u64,
    pub burst: u64,
    /// Python's number of the level from which lines have no limit.
    pub except: Option<i64>,
}

/// The part of a system that a syslog line is said to come from: its number in RFC 5424.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(pub(super) u8);

/// Those that oslo.log takes.
const FACILITIES: [(&str, u8); 20] = [
    ("LOG_KERN", 0),
    ("LOG_USER", 1),
    ("LOG_MAIL", 2),
    ("LOG_DAEMON", 3),
    ("LOG_AUTH", 4),
    ("LOG_SYSLOG", 5),
    ("LOG_LPR", 6),
    ("LOG_NEWS", 7),
    ("LOG_UUCP", 8),
    ("LOG_CRON", 9),
    ("LOG_AUTHPRIV", 10),
    ("LOG_FTP", 11),
    ("LOG_LOCAL0", 16),
    ("LOG_LOCAL1", 17),
    ("LOG_LOCAL2", 18),
    ("LOG_LOCAL3", 19),
    ("LOG_LOCAL4", 20),
    ("LOG_LOCAL5", 21),
    ("LOG_LOCAL6", 22),
    ("LOG_LOCAL7", 23),
];

impl Facility {
    /// By its name, in any case, with `LOG_` before it or without.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_uppercase();
        let name = name.strip_prefix("LOG_").unwrap_or(&name);
        FACILITIES.iter().find(|(known, _)| known.strip_prefix("LOG_") == Some(name)).map(|(_, number)| Self(*number))
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            style: Style::default(),
            product: "unknown".into(),
            version: "unknown".into(),
            file: None,
            dir: None,
            watch: false,
            rotation: Rotation::None,
            stderr: false,
            color: false,
            syslog: false,
            journal: false,
            facility: Facility(1),
            syslog_socket: "/dev/log".into(),
            journal_socket: "/run/systemd/journal/socket".into(),
            debug: false,
            json: false,
            default_levels: Vec::new(),
            levels: Vec::new(),
            loggers: &[],
            formats: Formats::default(),
            rate: None,
            notices: Vec::new(),
        }
    }
}

impl LogSettings {
    /// Reads [`LOG_OPTIONS`](super::LOG_OPTIONS), which must be among the definitions of these values. `style`,
    /// `product`, `version`, `levels` and `loggers` are the program's to say.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        let reader = Reader(values);
        let mut notices = Vec::new();
        if let Some(path) = reader.text("log_config_append")? {
            notices.push(format!(
                "log_config_append = {path} cannot be honoured: it is a file for Python's logging module; the other \
                 options of the log hold instead"
            ));
        }
        if reader.bool("publish_errors")? {
            notices.push("publish_errors cannot be honoured: errors are logged and not sent as notifications".into());
        }
        Ok(Self {
            file: reader.text("log_file")?.map(PathBuf::from),
            dir: reader.text("log_dir")?.map(PathBuf::from),
            watch: reader.bool("watch_log_file")?,
            rotation: reader.rotation()?,
            stderr: reader.bool("use_stderr")?,
            color: reader.bool("log_color")?,
            syslog: reader.bool("use_syslog")?,
            journal: reader.bool("use_journal")?,
            facility: reader.known("syslog_log_facility", &FACILITIES.map(|(name, _)| name), Facility::named)?,
            debug: reader.bool("debug")?,
            json: reader.bool("use_json")?,
            default_levels: reader.levels("default_log_levels")?,
            formats: reader.formats()?,
            rate: reader.rate()?,
            notices,
            ..Self::default()
        })
    }

    /// The log file of a program, if there is one.
    pub fn path(&self, program: &str) -> Option<PathBuf> {
        match (&self.dir, &self.file) {
            (Some(dir), Some(file)) => Some(dir.join(file)),
            (Some(dir), None) => Some(dir.join(format!("{program}.log"))),
            (None, file) => file.clone(),
        }
    }

    pub(super) fn watches(&self) -> bool {
        self.watch || self.style == Style::Oslo
    }

    /// Whether lines go to standard error, also where nobody asked for it.
    pub(super) fn uses_stderr(&self, file: Option<&Path>) -> bool {
        self.stderr || (file.is_none() && !self.syslog && !self.journal)
    }
}

struct Reader<'a>(&'a Values);

impl Reader<'_> {
    /// An empty text is none, as for oslo.log.
    fn text(&self, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.0.get_str(DEFAULT, name)?.filter(|text| !text.is_empty()))
    }

    fn bool(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.0.get_bool(DEFAULT, name)?.unwrap_or_default())
    }

    fn number(&self, name: &str) -> Result<u32, ConfigError> {
        // The kind of the option has bounds.
        Ok(self.0.get_int(DEFAULT, name)?.and_then(|it| it.try_into().ok()).unwrap_or_default())
    }

    fn error(&self, name: &'static str, reason: String) -> ConfigError {
        let origin = self.0.origin(DEFAULT, name);
        ConfigError::Value { group: DEFAULT, name, origin, source: ValueError(reason) }
    }

    fn known<T>(
        &self,
        name: &'static str,
        choices: &[&str],
        find: impl Fn(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let text = self.0.get_str(DEFAULT, name)?.unwrap_or_default();
        let error = || {
            let shown = text.escape_debug();
            self.error(name, format!("must be one of {}, not `{shown}`", choices.join(", ")))
        };
        find(&text).ok_or_else(error)
    }

    fn rotation(&self) -> Result<Rotation, ConfigError> {
        let count_max = self.number("max_logfile_count")? as usize;
        let rotation = self.known("log_rotation_type", &["none", "size", "interval"], |text| {
            ["none", "size", "interval"].into_iter().find(|known| text.eq_ignore_ascii_case(known))
        })?;
        let interval = self.number("log_rotate_interval")?;
        let units = ["seconds", "minutes", "hours", "days", "weekday", "midnight"];
        let unit = self.known("log_rotate_interval_type", &units, |text| {
            units.into_iter().find(|known| text.eq_ignore_ascii_case(known))
        })?;
        Ok(match rotation {
            "size" => {
                let bytes_max = u64::from(self.number("max_logfile_size_mb")?) << 20;
                Rotation::Size { bytes_max, count_max }
            }
            "interval" => {
                let is_day = unit == "weekday";
                if (is_day && interval > 6) || (!is_day && interval == 0) {
                    let must = if is_day { "a day from 0, Monday, to 6" } else { "at least 1" };
                    return Err(self.error("log_rotate_interval", format!("must be {must}, not {interval}")));
                }
                let every = match unit {
                    "seconds" => Every::Seconds(interval),
                    "minutes" => Every::Minutes(interval),
                    "hours" => Every::Hours(interval),
                    "days" => Every::Days(interval),
                    "weekday" => Every::Weekday(interval as u8),
                    _ => Every::Midnights(interval),
                };
                Rotation::Interval { every, count_max }
            }
            _ => Rotation::None,
        })
    }

    fn levels(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        let pairs = self.0.get_list(DEFAULT, name)?.unwrap_or_default();
        match pairs.iter().find(|pair| level::pair(pair).is_none()) {
            Some(pair) => {
                let shown = pair.escape_debug();
                Err(self.error(name, format!("must be LOGGER=LEVEL pairs with commas between them, not `{shown}`")))
            }
            None => Ok(pairs),
        }
    }

    fn formats(&self) -> Result<Formats, ConfigError> {
        let format = |name: &'static str| {
            let text = self.0.get_str(DEFAULT, name)?.unwrap_or_default();
            match Template::parse(&text) {
                Ok(_) => Ok(text),
                Err(reason) => Err(self.error(name, reason)),
            }
        };
        Ok(Formats {
            date: self.0.get_str(DEFAULT, "log_date_format")?.unwrap_or_default(),
            context: format("logging_context_format_string")?,
            default: format("logging_default_format_string")?,
            debug_suffix: format("logging_debug_format_suffix")?,
            user_identity: format("logging_user_identity_format")?,
            instance: format("instance_format")?,
            instance_uuid: format("instance_uuid_format")?,
        })
    }

    fn rate(&self) -> Result<Option<Rate>, ConfigError> {
        let interval_seconds = u64::from(self.number("rate_limit_interval")?);
        let burst = u64::from(self.number("rate_limit_burst")?);
        let choices = ["CRITICAL", "ERROR", "INFO", "WARNING", "DEBUG", "nothing"];
        let except = self.known("rate_limit_except_level", &choices, |text| match text {
            "" => Some(None),
            text => level::named(text).map(Threshold::number).map(Some),
        })?;
        Ok((interval_seconds > 0 && burst > 0).then_some(Rate { interval_seconds, burst, except }))
    }
}
