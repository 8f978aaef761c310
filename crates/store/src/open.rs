//! Opens an embedded store: its lock, its file, the look at what is in it, its schema, its connections.
//!
//! Everything that could be wrong is looked at before the first byte is changed.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::SqlxSqliteConnector;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::dialect::{Damage, damage};
use crate::lock::{LockError, OwnerLock};
use crate::sql_store::Database;
use crate::tables::SCHEMA_VERSIONS;

/// Bounds of an open store.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Connections for reading, beside the one that writes: enough that a long list does not keep short questions
    /// waiting, and each is a thread.
    pub readers: u32,
    /// Wait for a lock that another program has on the file: a backup or a shell. Several tries are made.
    pub busy_timeout: Duration,
    /// Wait for a connection, that is for those who write before.
    pub acquire_timeout: Duration,
    /// The whole of bringing an older schema up to date.
    pub migrate_timeout: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            busy_timeout: Duration::from_secs(2),
            acquire_timeout: Duration::from_secs(10),
            migrate_timeout: Duration::from_mins(5),
        }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    #[error("jobs cannot be kept at `{scheme}:` in this version; name a file, or `sqlite:///` and its path")]
    UnknownScheme { scheme: String },
    #[error("cannot make the directory `{path}`")]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot open `{path}`")]
    File { path: PathBuf, source: io::Error },
    #[error("another manila-data{} uses `{path}`; end it, or give this one a state directory of its own", pid_text(*.pid))]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error("`{path}` is no SQLite database; move it away, or name another file")]
    NotADatabase { path: PathBuf },
    #[error("`{path}` is the database of another program; name another file")]
    Foreign { path: PathBuf },
    #[error("`{path}` is damaged ({what}); put back a backup of it, or move it away and begin without jobs")]
    Damaged { path: PathBuf, what: String },
    #[error(
        "`{path}` was written by a newer manila-data (schema version {found}, this one knows {known}); start that one, \
         or put back a backup from before the upgrade"
    )]
    NewerSchema { path: PathBuf, found: i64, known: i64 },
    #[error("the file system of `{path}` cannot hold a write-ahead log; put the state directory on a local one")]
    NoLog { path: PathBuf },
    #[error("cannot bring the schema of `{path}` up to date")]
    Migrate { path: PathBuf, source: MigrateError },
    #[error("the schema of `{path}` was not up to date after {seconds} seconds; start again, with a longer time limit")]
    MigrateTimeout { path: PathBuf, seconds: u64 },
    #[error("cannot use `{path}`")]
    Database { path: PathBuf, source: sqlx::Error },
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// Marks a file as ours, in the header where SQLite has a place for it: "mdjs".
const APPLICATION_ID: i64 = 0x6d64_6a73;

/// The log is cut back to this size once it was written to the file: one large transaction must not keep its space.
const LOG_BYTES_MAX: &str = "67108864";

fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations/sqlite");
    migrator.dangerous_set_table_name(SCHEMA_VERSIONS);
    migrator
}

/// The file that a location means: a path as it is, or `sqlite:` with a path.
pub(crate) fn file_of(location: &str) -> Result<PathBuf, OpenError> {
    let scheme = location.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    match scheme {
        None => Ok(location.into()),
        Some("sqlite") => {
            let path = &location["sqlite:".len()..];
            Ok(path.strip_prefix("//").unwrap_or(path).into())
        }
        // Never the whole of it: there may be a password in it.
        Some(scheme) => Err(OpenError::UnknownScheme { scheme: scheme.into() }),
    }
}

/// Opens the store in `path` and makes it if it is not there.
pub(crate) async fn open(path: &Path, options: &OpenOptions) -> Result<(Database, OwnerLock), OpenError> {
    let lock = prepare_file(path)?;
    let database_error = |source: sqlx::Error| match damage(&source) {
        Some(Damage::NotADatabase) => OpenError::NotADatabase { path: path.into() },
        Some(Damage::Corrupt) => OpenError::Damaged { path: path.into(), what: source.to_string() },
        None => OpenError::Database { path: path.into(), source },
    };
    let base = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(options.busy_timeout)
        // A commit returns once the log is on the disk.
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", LOG_BYTES_MAX)
        // Secrets are wiped when a job ends; without this their bytes would stay in pages that are free.
        .pragma("secure_delete", "ON")
        .disable_statement_logging();

    // A connection of its own: whatever a migration leaves behind goes with it.
    let mut connection = base.clone().connect().await.map_err(database_error)?;
    let checked = check(&mut connection, path).await;
    match checked {
        Err(CheckError::Open(error)) => return Err(error),
        Err(CheckError::Database(error)) => return Err(database_error(error)),
        Ok(()) => {}
    }
    match tokio::time::timeout(options.migrate_timeout, migrations().run_direct(None, &mut connection, false)).await {
        Ok(Ok(())) => {}
        Ok(Err(source)) => return Err(OpenError::Migrate { path: path.into(), source }),
        Err(_) => {
            let seconds = options.migrate_timeout.as_secs();
            return Err(OpenError::MigrateTimeout { path: path.into(), seconds });
        }
    }
    connection.close().await.map_err(database_error)?;

    let writer = pool(options, 1).connect_with(base.clone()).await.map_err(database_error)?;
    let readers = pool(options, options.readers.max(1))
        .connect_with(base.pragma("query_only", "ON"))
        .await
        .map_err(database_error)?;
    let database = Database {
        writer: SqlxSqliteConnector::from_sqlx_sqlite_pool(writer),
        reader: SqlxSqliteConnector::from_sqlx_sqlite_pool(readers),
    };
    Ok((database, lock))
}

fn pool(options: &OpenOptions, connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(options.acquire_timeout)
        // Nothing is gained from closing a file and opening it again.
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk is full. The driver then believes it open for ever, and what
        // it writes next would be answered and never committed: such a connection is not used again. The ping before
        // has waited for a rollback that was under way.
        .test_before_acquire(true)
        .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
}

/// Makes the directory and an empty file that nobody else can read, and takes the lock.
fn prepare_file(path: &Path) -> Result<OwnerLock, OpenError> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| OpenError::Directory { path: dir.into(), source })?;
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = OwnerLock::take(Path::new(&lock_path)).map_err(|error| match error {
        LockError::Held { pid } => OpenError::InUse { path: path.into(), pid },
        LockError::Io(source) => OpenError::File { path: lock_path.into(), source },
    })?;
    make_private(path, dir).map_err(|source| OpenError::File { path: path.into(), source })?;
    Ok(lock)
}

/// SQLite gives the files beside it the mode of the database itself.
fn make_private(path: &Path, dir: &Path) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        // The name must be as durable as the jobs behind it.
        Ok(_) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others could read the job store; not any more");
                std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

enum CheckError {
    Open(OpenError),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for CheckError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

/// Looks at the file: ours, whole, not newer than this program. Only then makes it ready for the schema.
async fn check(connection: &mut SqliteConnection, path: &Path) -> Result<(), CheckError> {
    let id: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if tables > 0 && id != APPLICATION_ID {
        return Err(CheckError::Open(OpenError::Foreign { path: path.into() }));
    }
    let answers: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_all(&mut *connection).await?;
    if answers != ["ok"] {
        return Err(CheckError::Open(OpenError::Damaged { path: path.into(), what: answers.join("; ") }));
    }
    let known = migrations().iter().map(|migration| migration.version).max().unwrap_or_default();
    let found = schema_version(connection).await?;
    if found > known {
        return Err(CheckError::Open(OpenError::NewerSchema { path: path.into(), found, known }));
    }
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await?;
    if mode != "wal" {
        return Err(CheckError::Open(OpenError::NoLog { path: path.into() }));
    }
    if tables == 0 {
        sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA application_id = {APPLICATION_ID}")))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The last migration that the database has seen; 0 for a new one.
async fn schema_version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let is_there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
        .bind(SCHEMA_VERSIONS)
        .fetch_one(&mut *connection)
        .await?;
    if is_there == 0 {
        return Ok(0);
    }
    let query = sqlx::AssertSqlSafe(format!("SELECT COALESCE(MAX(version), 0) FROM {SCHEMA_VERSIONS}"));
    sqlx::query_scalar(query).fetch_one(&mut *connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_path_or_a_url() {
        let check = |location: &str, path: &str| assert_eq!(file_of(location).unwrap(), Path::new(path), "{location}");
        check("/var/lib/x/jobs.sqlite", "/var/lib/x/jobs.sqlite");
        check("jobs.sqlite", "jobs.sqlite");
        check("sqlite:///var/lib/x", "/var/lib/x");
        check("sqlite:/var/lib/x", "/var/lib/x");
        check("sqlite:x", "x");
        check("/odd:name", "/odd:name");
    }

    #[test]
    fn another_database_is_refused_without_its_password() {
        let error = file_of("mysql+pymysql://u:geheim@h/db").unwrap_err().to_string();
        assert!(error.contains("mysql+pymysql:") && !error.contains("geheim"), "{error}");
    }
}
