//! From settings to connections: what is said to each engine's driver, and to each session.

use std::fs::File;
use std::io;
use std::time::Duration;

use sea_orm::{DatabaseConnection, SqlxMySqlConnector, SqlxPostgresConnector, SqlxSqliteConnector};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::settings::DatabaseSettings;
use super::url::{Engine, Tls, TlsMode};

/// Unused connections end after that: firewalls forget what is quiet for longer.
const IDLE_TIMEOUT: Duration = Duration::from_mins(5);

/// Makes connections, one or a pool of them.
#[derive(Clone)]
pub(super) enum Connector {
    MySql {
        options: Box<MySqlConnectOptions>,
        /// Said first on each connection.
        session: String,
    },
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Connector {
    /// Fails when a file of the TLS settings cannot be read.
    pub(super) fn new(settings: &DatabaseSettings) -> Result<Self, String> {
        let tls = &settings.url.tls;
        if tls.mode != TlsMode::Disabled {
            for path in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
                let unreadable =
                    |error: io::Error| format!("cannot read `{}`, which `connection` names: {error}", path.display());
                File::open(path).map_err(unreadable)?;
            }
        }
        Ok(match settings.url.engine {
            Engine::MySql => {
                Self::MySql { options: Box::new(mysql_options(settings)), session: mysql_session(settings) }
            }
            Engine::Postgres => Self::Postgres(Box::new(postgres_options(settings))),
            Engine::Sqlite => Self::Sqlite(Box::new(sqlite_options(settings))),
        })
    }

    /// Makes one connection, and ends it.
    pub(super) async fn probe(&self) -> Result<(), sqlx::Error> {
        match self {
            Self::MySql { options, session } => {
                let mut connection = options.connect().await?;
                connection.execute(AssertSqlSafe(session.clone())).await?;
                connection.close().await
            }
            Self::Postgres(options) => options.connect().await?.close().await,
            Self::Sqlite(options) => options.connect().await?.close().await,
        }
    }

    /// The same without TLS, for a server that offers it and then cannot do it; only where TLS was nobody's wish.
    pub(super) fn without_tls(&self, settings: &DatabaseSettings) -> Option<Self> {
        if settings.url.tls.mode != TlsMode::Preferred {
            return None;
        }
        match self.clone() {
            Self::MySql { options, session } => {
                Some(Self::MySql { options: Box::new(options.ssl_mode(MySqlSslMode::Disabled)), session })
            }
            Self::Postgres(options) => Some(Self::Postgres(Box::new(options.ssl_mode(PgSslMode::Disable)))),
            Self::Sqlite(_) => None,
        }
    }

    /// No connection is made before the first is needed.
    pub(super) fn pool(&self, settings: &DatabaseSettings) -> DatabaseConnection {
        match self {
            Self::MySql { options, session } => {
                let session = session.clone();
                let pool = with_limits(MySqlPoolOptions::new(), settings).after_connect(move |connection, _| {
                    let session = session.clone();
                    Box::pin(async move {
                        connection.execute(AssertSqlSafe(session)).await?;
                        Ok(())
                    })
                });
                SqlxMySqlConnector::from_sqlx_mysql_pool(pool.connect_lazy_with((**options).clone()))
            }
            Self::Postgres(options) => SqlxPostgresConnector::from_sqlx_postgres_pool(
                with_limits(PgPoolOptions::new(), settings).connect_lazy_with((**options).clone()),
            ),
            Self::Sqlite(options) => SqlxSqliteConnector::from_sqlx_sqlite_pool(
                with_limits(SqlitePoolOptions::new(), settings).connect_lazy_with((**options).clone()),
            ),
        }
    }
}

fn with_limits<DB: sqlx::Database>(options: PoolOptions<DB>, settings: &DatabaseSettings) -> PoolOptions<DB> {
    options
        .max_connections(settings.connections_max)
        .acquire_timeout(settings.acquire_timeout)
        .max_lifetime(settings.connection_age_max)
        .idle_timeout(IDLE_TIMEOUT)
        .test_before_acquire(true)
}

fn mysql_options(settings: &DatabaseSettings) -> MySqlConnectOptions {
    let url = &settings.url;
    let mut options = MySqlConnectOptions::new()
        .host(url.host.as_deref().unwrap_or("localhost"))
        .port(url.port.unwrap_or(3306))
        .database(&url.database)
        // The mode is said by us, and whole.
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .ssl_mode(match url.tls.mode {
            TlsMode::Disabled => MySqlSslMode::Disabled,
            TlsMode::Preferred => MySqlSslMode::Preferred,
            TlsMode::Required => MySqlSslMode::Required,
            TlsMode::VerifyCa => MySqlSslMode::VerifyCa,
            TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
        })
        .disable_statement_logging();
    if let Some(user) = &url.user {
        options = options.username(user);
    }
    if let Some(password) = &url.password {
        options = options.password(password);
    }
    if let Some(socket) = &url.unix_socket {
        options = options.socket(socket);
    }
    let Tls { ca, cert, key, .. } = &url.tls;
    if let Some(ca) = ca {
        options = options.ssl_ca(ca);
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

fn mysql_session(settings: &DatabaseSettings) -> String {
    let mut variables = vec![format!("innodb_lock_wait_timeout = {}", settings.lock_timeout.as_secs().max(1))];
    if let Some(mode) = &settings.mysql_sql_mode {
        // Letters, digits, `_` and `,`: what is wider never came through the settings.
        let mode: String = mode.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ',')).collect();
        variables.push(format!("sql_mode = '{mode}'"));
    }
    if let Some(wait) = settings.mysql_wsrep_sync_wait {
        variables.push(format!("wsrep_sync_wait = {wait}"));
    }
    format!("SET SESSION {}", variables.join(", SESSION "))
}

fn postgres_options(settings: &DatabaseSettings) -> PgConnectOptions {
    let url = &settings.url;
    // What the URL leaves open comes from libpq's variables and its password file, as it does with psycopg2.
    let mut options = PgConnectOptions::new()
        .database(&url.database)
        .application_name(url.application_name.as_deref().unwrap_or("manila-data"))
        // Statements without a name, and no parameters that PgBouncer refuses, so that it may stand in between.
        .statement_cache_capacity(0)
        .extra_float_digits(None)
        .ssl_mode(match url.tls.mode {
            TlsMode::Disabled => PgSslMode::Disable,
            TlsMode::Preferred => PgSslMode::Prefer,
            TlsMode::Required => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyIdentity => PgSslMode::VerifyFull,
        })
        .disable_statement_logging();
    if let Some(host) = &url.host {
        options = options.host(host);
    }
    if let Some(port) = url.port {
        options = options.port(port);
    }
    if let Some(user) = &url.user {
        options = options.username(user);
    }
    if let Some(password) = &url.password {
        options = options.password(password);
    }
    if !url.session.is_empty() {
        options = options.options(url.session.iter().map(|(name, value)| (name, value)));
    }
    let Tls { ca, cert, key, .. } = &url.tls;
    if let Some(ca) = ca {
        options = options.ssl_root_cert(ca);
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        options = options.ssl_client_cert(cert).ssl_client_key(key);
    }
    options
}

fn sqlite_options(settings: &DatabaseSettings) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(&settings.url.database)
        .create_if_missing(false)
        // As oslo.db leaves it.
        .foreign_keys(false)
        .busy_timeout(settings.lock_timeout)
        .synchronous(if settings.sqlite_synchronous { SqliteSynchronous::Full } else { SqliteSynchronous::Off })
        .disable_statement_logging()
}
