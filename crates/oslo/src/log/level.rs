//! Levels: Python's numbers and names, tracing's levels, and which targets log from which level on.

use std::sync::{Arc, PoisonError, RwLock};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

use super::context;

/// The level of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Trace,
    Debug,
    Info,
    Warning,
    Error,
    /// An event of tracing's ERROR with a field `critical = true`.
    Critical,
}

/// The field that makes an ERROR a CRITICAL.
pub(super) const CRITICAL: &str = "critical";

impl Level {
    pub(super) fn of(level: tracing::Level) -> Self {
        match level {
            tracing::Level::TRACE => Self::Trace,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::INFO => Self::Info,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::ERROR => Self::Error,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }

    /// Python's number.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Trace => 5,
            Self::Debug => 10,
            Self::Info => 20,
            Self::Warning => 30,
            Self::Error => 40,
            Self::Critical => 50,
        }
    }

    /// Syslog's number. oslo.log takes what it does not know for debugging.
    pub(super) fn severity(self) -> u8 {
        match self {
            Self::Trace | Self::Debug => 7,
            Self::Info => 6,
            Self::Warning => 4,
            Self::Error => 3,
            Self::Critical => 2,
        }
    }

    /// The colour that oslo.log gives it.
    pub(super) fn color(self) -> &'static str {
        match self {
            Self::Trace => "\x1b[00;35m",
            Self::Debug => "\x1b[00;32m",
            Self::Info => "\x1b[00;36m",
            Self::Warning => "\x1b[01;33m",
            Self::Error | Self::Critical => "\x1b[01;31m",
        }
    }
}

/// The number from which on lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Threshold(i64);

impl Threshold {
    pub(super) fn number(self) -> i64 {
        self.0
    }

    fn hint(self) -> LevelFilter {
        match self.0 {
            ..=5 => LevelFilter::TRACE,
            6..=10 => LevelFilter::DEBUG,
            11..=20 => LevelFilter::INFO,
            21..=30 => LevelFilter::WARN,
            31..=50 => LevelFilter::ERROR,
            _ => LevelFilter::OFF,
        }
    }
}

/// A level by Python's or tracing's name in any case, or by its number.
pub(super) fn named(text: &str) -> Option<Threshold> {
    let number = match text.trim().to_uppercase().as_str() {
        "NOTSET" => 0,
        "TRACE" => 5,
        "DEBUG" => 10,
        "INFO" => 20,
        "WARN" | "WARNING" => 30,
        "ERROR" => 40,
        "CRITICAL" | "FATAL" => 50,
        "OFF" => i64::MAX,
        text => text.parse().ok()?,
    };
    Some(Threshold(number))
}

/// The halves of `NAME=LEVEL`.
pub(super) fn pair(text: &str) -> Option<(&str, Threshold)> {
    let (name, level) = text.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then_some((name, named(level)?))
}

/// Packages that say more than an operator wants to know, also where debugging is on.
const NOISY: [&str; 16] = [
    "amq_protocol",
    "async_global_executor",
    "h2",
    "hyper",
    "lapin",
    "mio",
    "opentelemetry",
    "polling",
    "reqwest",
    "rustls",
    "sea_orm",
    "sea_query",
    "sqlx",
    "tokio",
    "tokio_rustls",
    "tower",
];

/// What does the work of Python's packages here. `oslo_messaging` needs no mention: `_` and `.` are `::` in its name.
const LOGGERS: [(&str, &[&str]); 5] = [
    ("amqp", &["lapin", "amq_protocol"]),
    ("kombu", &["lapin", "amq_protocol"]),
    ("eventlet.wsgi", &["hyper"]),
    ("sqlalchemy", &["sqlx", "sea_orm", "sea_query"]),
    ("oslo_db.sqlalchemy", &["sqlx", "sea_orm"]),
];

/// From which level on which target logs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Levels {
    root: Threshold,
    /// The longest name first.
    targets: Vec<(String, Threshold)>,
}

impl Levels {
    /// Fails with the pair that is none.
    pub(super) fn of(settings: &super::LogSettings) -> Result<Self, (&'static str, String)> {
        let mut levels = Self { root: Threshold(if settings.debug { 10 } else { 20 }), targets: Vec::new() };
        for target in NOISY {
            levels.set(target.into(), Threshold(30));
        }
        for text in &settings.default_levels {
            let (logger, level) = pair(text).ok_or_else(|| ("default_log_levels", text.clone()))?;
            for target in targets_of(logger, settings.loggers) {
                levels.set(target, level);
            }
        }
        for text in &settings.levels {
            let (target, level) = pair(text).ok_or_else(|| ("log_levels", text.clone()))?;
            levels.set(target.into(), level);
        }
        levels.targets.sort_by_key(|(target, _)| std::cmp::Reverse(target.len()));
        Ok(levels)
    }

    fn set(&mut self, target: String, level: Threshold) {
        self.targets.retain(|(known, _)| *known != target);
        // Python's NOTSET: what holds for the parent.
        if level.0 != 0 {
            self.targets.push((target, level));
        }
    }

    fn threshold(&self, target: &str) -> Threshold {
        let found = self.targets.iter().find(|(name, _)| is_within(target, name));
        found.map_or(self.root, |(_, threshold)| *threshold)
    }

    fn logs(&self, metadata: &Metadata<'_>) -> bool {
        let threshold = self.threshold(metadata.target()).0;
        // A span that says whose request it is must be there for the errors within it, whatever its own level.
        if metadata.is_span() && metadata.fields().iter().any(|field| context::canonical(field.name()).is_some()) {
            return true;
        }
        let level = Level::of(*metadata.level());
        let may_be_critical = level == Level::Error && metadata.fields().field(CRITICAL).is_some();
        (if may_be_critical { Level::Critical } else { level }).number() >= threshold
    }

    fn hint(&self) -> LevelFilter {
        let all = self.targets.iter().map(|(_, level)| *level).chain([self.root]);
        // Spans of requests are INFO.
        all.map(Threshold::hint).chain([LevelFilter::INFO]).max().unwrap_or(LevelFilter::INFO)
    }
}

/// The targets that a Python logger stands for.
fn targets_of(logger: &str, more: &[(&str, &[&str])]) -> Vec<String> {
    let known = more
        .iter()
        .chain(&LOGGERS)
        .find(|(name, _)| logger.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    match known {
        Some((_, targets)) => targets.iter().map(|target| (*target).to_owned()).collect(),
        None => vec![match logger.strip_prefix("oslo_") {
            Some(rest) => format!("oslo::{}", rest.replace('.', "::")),
            None => logger.replace('.', "::"),
        }],
    }
}

/// Whether a target is the named one or belongs to it: `sqlx` has `sqlx::query` and `sqlx_core`, but not `sqlxy`.
fn is_within(target: &str, name: &str) -> bool {
    target.strip_prefix(name).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// The filter of the log's layer, whose levels can change.
#[derive(Clone, Debug)]
pub(super) struct LevelsFilter(Arc<RwLock<Levels>>);

impl LevelsFilter {
    pub(super) fn new(levels: Levels) -> Self {
        Self(Arc::new(RwLock::new(levels)))
    }

    pub(super) fn replace(&self, levels: Levels) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = levels;
        tracing::callsite::rebuild_interest_cache();
    }

    fn logs(&self, metadata: &Metadata<'_>) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).logs(metadata)
    }
}

impl<S: Subscriber> Filter<S> for LevelsFilter {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.logs(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.logs(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogSettings;

    fn levels(settings: &LogSettings) -> Levels {
        Levels::of(settings).unwrap()
    }

    fn list(pairs: &[&str]) -> Vec<String> {
        pairs.iter().map(|pair| (*pair).to_owned()).collect()
    }

    #[test]
    fn loggers_of_python_stand_for_what_does_their_work() {
        let settings = LogSettings {
            debug: true,
            default_levels: list(&["sqlalchemy.engine=INFO", "oslo_messaging.rpc=ERROR", "manila.data=DEBUG", "x=5"]),
            levels: list(&["job=trace", "web=off"]),
            loggers: &[("manila", &["manila", "work"])],
            ..LogSettings::default()
        };
        let levels = levels(&settings);
        let check = |target: &str, number: i64| assert_eq!(levels.threshold(target).0, number, "{target}");
        check("sqlx::query", 20);
        check("sqlx_core::pool", 20);
        check("sea_query", 20);
        check("oslo::messaging::server", 10);
        check("oslo::messaging::rpc", 40);
        check("lapin::channel", 30);
        check("work::pool", 10);
        check("jobs", 10);
        check("job::service", 5);
        check("web", i64::MAX);
        check("x", 5);
    }

    #[test]
    fn later_pairs_win_and_not_set_is_the_parent() {
        let with = |pairs: &[&str]| levels(&LogSettings { default_levels: list(pairs), ..LogSettings::default() });
        assert_eq!(with(&["a=WARN", "a=DEBUG"]).threshold("a").0, 10);
        assert_eq!(with(&["a=ERROR", "a.b=NOTSET"]).threshold("a::b").0, 40);
        assert_eq!(with(&["amqp=DEBUG"]).threshold("lapin").0, 10);
    }

    #[test]
    fn what_is_no_pair_is_named() {
        let settings = LogSettings { levels: list(&["job=loud"]), ..LogSettings::default() };
        assert_eq!(Levels::of(&settings), Err(("log_levels", "job=loud".into())));
        for text in ["job", "=DEBUG", "job="] {
            assert_eq!(pair(text), None, "{text}");
        }
    }
}
