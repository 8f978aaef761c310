//! The `[database]` options, as oslo.db defines them.

use std::time::Duration;

use oslo::config::{ConfigError, Kind, OptionDef, Values};

use super::url::{DatabaseUrl, DatabaseUrlError};

const GROUP: &str = "database";
const NO_EFFECT: &str = "this service does not need it; remove it, or leave it for Manila's own services";

const fn without_effect(name: &'static str) -> OptionDef {
    OptionDef::new(GROUP, name, Kind::Str).no_effect(NO_EFFECT)
}

/// All options of oslo.db; those without effect here are no surprise in a file that is shared with Manila's services.
pub const DATABASE_OPTIONS: &[OptionDef] = &[
    OptionDef::new(GROUP, "connection", Kind::Str)
        .default("sqlite://")
        .secret()
        .deprecated(&[("DEFAULT", "sql_connection"), ("DATABASE", "sql_connection"), ("sql", "connection")])
        .help("URL of Manila's database, as SQLAlchemy has it: mysql+pymysql://user:password@host/manila."),
    OptionDef::new(GROUP, "connection_parameters", Kind::Str)
        .default("")
        .help("More parameters of the URL: name=value&name=value."),
    OptionDef::new(GROUP, "mysql_sql_mode", Kind::Str)
        .default("TRADITIONAL")
        .help("SQL mode of each MySQL connection. Empty: what the server says."),
    OptionDef::new(GROUP, "mysql_wsrep_sync_wait", Kind::INT)
        .help("For Galera: which statements wait until the node has applied what others wrote before."),
    OptionDef::new(GROUP, "connection_recycle_time", Kind::INT)
        .default("3600")
        .help("Seconds after which a connection is replaced by a new one. -1: never."),
    OptionDef::new(GROUP, "max_pool_size", Kind::Int { min: 0, max: 10_000 })
        .default("5")
        .help("Connections at most. 0: as many as there are by default."),
    OptionDef::new(GROUP, "pool_timeout", Kind::Int { min: 1, max: 86_400 })
        .help("Seconds to wait for a free connection, or a new one. Default: 10."),
    OptionDef::new(GROUP, "max_retries", Kind::Int { min: -1, max: i64::MAX })
        .default("10")
        .help("How often to try to connect at the start. -1: until it succeeds."),
    OptionDef::new(GROUP, "retry_interval", Kind::Int { min: 0, max: 86_400 })
        .default("10")
        .help("Seconds between those."),
    OptionDef::new(GROUP, "sqlite_synchronous", Kind::Bool)
        .default("true")
        .help("SQLite waits for the disk before it says that something is written."),
    without_effect("slave_connection"),
    without_effect("backend"),
    without_effect("max_overflow"),
    without_effect("min_pool_size"),
    without_effect("mysql_enable_ndb"),
    without_effect("use_db_reconnect"),
    without_effect("db_max_retries"),
    without_effect("db_retry_interval"),
    without_effect("db_inc_retry_interval"),
    without_effect("db_max_retry_interval"),
    without_effect("connection_debug"),
    without_effect("connection_trace"),
    without_effect("asyncio_connection"),
    without_effect("asyncio_slave_connection"),
    without_effect("synchronous_reader"),
    without_effect("use_tpool"),
];

/// Where the database is, and how patient to be with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSettings {
    pub url: DatabaseUrl,
    /// SQL mode of each MySQL connection; `None` leaves the server's.
    pub mysql_sql_mode: Option<String>,
    pub mysql_wsrep_sync_wait: Option<i64>,
    /// A connection that is older is replaced.
    pub connection_age_max: Option<Duration>,
    pub connections_max: u32,
    /// Wait for a free connection, or a new one.
    pub acquire_timeout: Duration,
    /// Whole of one transaction once there is a connection. Each is a handful of statements on single rows: one that
    /// takes longer has a server before it that is frozen, or a network that loses everything.
    pub transaction_timeout: Duration,
    /// Wait of one statement for a lock that somebody else has; then the transaction is tried again.
    pub lock_timeout: Duration,
    /// Tries to connect at the start; `None`: until one succeeds.
    pub connect_tries_max: Option<u32>,
    /// Between those.
    pub connect_interval: Duration,
    pub sqlite_synchronous: bool,
}

/// Why `[database]` cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseSettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
    #[error("`mysql_sql_mode` in [database] must be modes of MySQL with commas between: TRADITIONAL")]
    SqlMode,
}

impl DatabaseSettings {
    /// Connections at most. All that is done needs one at a time for some milliseconds.
    const CONNECTIONS_MAX: u32 = 5;
    const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
    const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
    /// Whole seconds: MySQL counts in those. Five tries, each waiting that long, are still less than a minute.
    const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

    /// What holds where nothing but the URL is known.
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            mysql_sql_mode: Some("TRADITIONAL".into()),
            mysql_wsrep_sync_wait: None,
            connection_age_max: Some(Duration::from_hours(1)),
            connections_max: Self::CONNECTIONS_MAX,
            acquire_timeout: Self::ACQUIRE_TIMEOUT,
            transaction_timeout: Self::TRANSACTION_TIMEOUT,
            lock_timeout: Self::LOCK_TIMEOUT,
            connect_tries_max: Some(10),
            connect_interval: Duration::from_secs(10),
            sqlite_synchronous: true,
        }
    }

    /// Reads them from values that know [`DATABASE_OPTIONS`].
    pub fn of(values: &Values) -> Result<Self, DatabaseSettingsError> {
        let connection = values.get_str(GROUP, "connection")?.unwrap_or_default();
        let parameters = values.get_str(GROUP, "connection_parameters")?.unwrap_or_default();
        let mut settings = Self::new(DatabaseUrl::parse(&connection, &parameters)?);
        settings.mysql_sql_mode = match values.get_str(GROUP, "mysql_sql_mode")? {
            Some(mode) if mode.chars().any(|c| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ',')) => {
                return Err(DatabaseSettingsError::SqlMode);
            }
            mode => mode.filter(|mode| !mode.is_empty()),
        };
        settings.mysql_wsrep_sync_wait = values.get_int(GROUP, "mysql_wsrep_sync_wait")?;
        let seconds = |seconds: i64| u64::try_from(seconds).ok().map(Duration::from_secs);
        if let Some(age) = values.get_int(GROUP, "connection_recycle_time")? {
            settings.connection_age_max = seconds(age);
        }
        if let Some(size @ 1..) = values.get_int(GROUP, "max_pool_size")? {
            settings.connections_max = u32::try_from(size).unwrap_or(u32::MAX);
        }
        if let Some(timeout) = values.get_int(GROUP, "pool_timeout")?.and_then(seconds) {
            settings.acquire_timeout = timeout;
        }
        if let Some(tries) = values.get_int(GROUP, "max_retries")? {
            // Upstream does not try at all with 0, and then fails at the first statement: that is one try.
            settings.connect_tries_max = (tries >= 0).then(|| u32::try_from(tries).unwrap_or(u32::MAX).max(1));
        }
        if let Some(interval) = values.get_int(GROUP, "retry_interval")?.and_then(seconds) {
            settings.connect_interval = interval;
        }
        settings.sqlite_synchronous = values.get_bool(GROUP, "sqlite_synchronous")?.unwrap_or(true);
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use oslo::config::Sources;

    use super::*;

    fn settings(lines: &str) -> Result<DatabaseSettings, DatabaseSettingsError> {
        let mut sources = Sources::new();
        sources.add_text(Path::new("manila.conf"), format!("[database]\n{lines}").as_bytes()).unwrap();
        DatabaseSettings::of(&Values::new(DATABASE_OPTIONS, sources))
    }

    const CONNECTION: &str = "connection = mysql+pymysql://manila:geheim@db/manila\n";

    #[test]
    fn defaults_are_those_of_oslo_db() {
        let settings = settings(CONNECTION).unwrap();
        let expected = DatabaseUrl::parse("mysql+pymysql://manila:geheim@db/manila", "").unwrap();
        assert_eq!(settings, DatabaseSettings::new(expected));
        assert!(!format!("{settings:?}").contains("geheim"));
    }

    #[test]
    fn what_is_set_holds() {
        let lines = "connection_parameters = charset=utf8&x=y\nmysql_sql_mode =\nmysql_wsrep_sync_wait = 7\n\
            connection_recycle_time = -1\nmax_pool_size = 2\npool_timeout = 3\nmax_retries = -1\n\
            retry_interval = 4\nsqlite_synchronous = false\nmax_overflow = 9\n";
        let settings = settings(&format!("{CONNECTION}{lines}")).unwrap();
        assert_eq!(settings.url.warnings().len(), 1);
        assert_eq!((settings.mysql_sql_mode, settings.mysql_wsrep_sync_wait), (None, Some(7)));
        assert_eq!((settings.connection_age_max, settings.connections_max), (None, 2));
        assert_eq!(settings.acquire_timeout, Duration::from_secs(3));
        assert_eq!((settings.connect_tries_max, settings.connect_interval), (None, Duration::from_secs(4)));
        assert!(!settings.sqlite_synchronous);
    }

    #[test]
    fn odd_numbers_have_a_meaning() {
        let zero = settings(&format!("{CONNECTION}max_retries = 0\nmax_pool_size = 0\n")).unwrap();
        assert_eq!((zero.connect_tries_max, zero.connections_max), (Some(1), DatabaseSettings::CONNECTIONS_MAX));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let check = |lines: &str, expected: &str| {
            let error = settings(lines).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("geheim"), "{error}");
        };
        check("", "is not set");
        check("connection = oracle://u:geheim@h/m\n", "begins with `oracle`");
        check(&format!("{CONNECTION}mysql_sql_mode = a'b\n"), "mysql_sql_mode");
        check(&format!("{CONNECTION}max_pool_size = many\n"), "max_pool_size");
    }
}
