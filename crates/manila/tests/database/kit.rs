//! Databases as each release of Manila left them, and a second way into them that is not the adapter's.

use std::collections::BTreeMap;
use std::time::Duration;

use manila::database::{DatabaseSettings, DatabaseUrl, ServiceIdentity, SqlDatabase};
use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, Statement};
use testkit::disk::TempDir;
use testkit::servers::mariadb::MariaDb;
use testkit::servers::postgres::Postgres;
use uuid::Uuid;

pub(crate) const DOWN_TIME: Duration = Duration::from_mins(1);

/// A row as text; NULL is `None`.
pub(crate) type Row = BTreeMap<String, Option<String>>;

pub(crate) enum Server {
    MariaDb(MariaDb),
    Postgres(Postgres),
    Sqlite(TempDir),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release(pub(crate) u32);

impl Release {
    /// Those whose schema differs in what matters here, oldest first.
    pub(crate) const ALL: [Self; 9] =
        [Self(15), Self(16), Self(17), Self(18), Self(19), Self(20), Self(21), Self(22), Self(23)];
    pub(crate) const NEWEST: Self = Self(23);

    pub(crate) fn has_state(self) -> bool {
        self >= Self(16)
    }

    pub(crate) fn has_disabled_reason(self) -> bool {
        self >= Self(18)
    }

    pub(crate) fn has_ensuring(self) -> bool {
        self >= Self(19)
    }

    pub(crate) fn has_backups(self) -> bool {
        self >= Self(17)
    }

    /// Columns of the newest schema that this release has not.
    fn missing_columns(self) -> Vec<(&'static str, &'static str)> {
        let added = [
            (16, "services", "state"),
            (17, "shares", "source_backup_id"),
            (18, "share_backups", "backup_type"),
            (18, "services", "disabled_reason"),
            (18, "share_instances", "mount_point_name"),
            (19, "services", "ensuring"),
            (21, "share_instances", "encryption_key_ref"),
            (22, "share_instances", "qos_type_id"),
            (23, "shares", "snapshot_inherit_share_access_support"),
        ];
        let missing = added.into_iter().filter(|(since, ..)| Self(*since) > self);
        missing.map(|(_, table, column)| (table, column)).collect()
    }

    fn missing_tables(self) -> Vec<&'static str> {
        let added = [(17, "share_backups"), (17, "resource_locks"), (22, "share_instance_metadata"), (22, "qos_types")];
        added.into_iter().filter(|(since, _)| Self(*since) > self).map(|(_, table)| table).collect()
    }
}

/// `messages` is no part of the schemas that were kept; every release has it.
const MESSAGES: &str = "CREATE TABLE messages (id varchar(36) NOT NULL PRIMARY KEY, project_id varchar(255) NOT NULL, \
     request_id varchar(255), resource_type varchar(255), resource_id varchar(36), action_id varchar(10) NOT NULL, \
     detail_id varchar(10), message_level varchar(255) NOT NULL, created_at TIME, updated_at TIME, deleted_at TIME, \
     deleted varchar(36), expires_at TIME)";

impl Server {
    /// Makes a database as a release has it, and gives its `connection`.
    pub(crate) fn create(&self, name: &str, release: Release) -> String {
        let missing = release.missing_columns();
        let tables = release.missing_tables();
        // A table that goes has no columns to lose.
        let dropped = missing.iter().filter(|(table, _)| !tables.contains(table));
        let drop_columns = dropped.map(|(table, column)| format!("ALTER TABLE {table} DROP COLUMN {column};\n"));
        let drop_columns = drop_columns.collect::<Vec<_>>().concat();
        let drop_tables = tables.iter().map(|table| format!("DROP TABLE {table};\n")).collect::<Vec<_>>().concat();
        match self {
            Self::MariaDb(server) => {
                let mut sql = format!("CREATE DATABASE {name} CHARACTER SET utf8mb3; USE {name};\n");
                sql += include_str!("../schema/mariadb.sql");
                if missing.contains(&("share_instances", "qos_type_id")) {
                    sql += "ALTER TABLE share_instances DROP FOREIGN KEY qt_id_fk;\n";
                }
                sql += &drop_columns;
                sql += &drop_tables;
                sql += &MESSAGES.replace("TIME", "datetime");
                sql += " ENGINE=InnoDB DEFAULT CHARSET=utf8mb3;";
                server.execute(&sql);
                server.url(name)
            }
            Self::Postgres(server) => {
                server.execute("postgres", &format!("CREATE DATABASE {name};"));
                let mut sql = include_str!("../schema/postgresql.sql").to_owned();
                // The dump empties the search path.
                sql += "\nSET search_path = public;\n";
                sql += &drop_columns;
                sql += &drop_tables;
                sql += &MESSAGES.replace("TIME", "timestamp without time zone");
                sql += ";";
                server.execute(name, &sql);
                server.url(name)
            }
            Self::Sqlite(dir) => {
                let path = dir.path().join(name);
                let mut sql = without_columns(include_str!("../schema/sqlite.sql"), &missing);
                sql += &drop_tables;
                sql += &MESSAGES.replace("TIME", "datetime");
                let url = format!("sqlite://{}?mode=rwc", path.display());
                // Its driver belongs to the runtime that made it.
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(async {
                    let connection = sea_orm::Database::connect(url).await.unwrap();
                    connection.execute_unprepared(&sql).await.unwrap();
                    connection.close().await.unwrap();
                });
                format!("sqlite:///{}", path.display())
            }
        }
    }
}

impl Server {
    /// Makes the database `manila`, and goes on with its `connection` while the server lives.
    pub(crate) fn create_and(self, release: Release, go_on: impl FnOnce(&str)) {
        go_on(&self.create("manila", release));
    }

    pub(crate) fn kill(&mut self) {
        match self {
            Self::MariaDb(server) => server.kill(),
            Self::Postgres(server) => server.kill(),
            Self::Sqlite(_) => unreachable!("it is no server"),
        }
    }

    pub(crate) fn restart(&mut self) {
        match self {
            Self::MariaDb(server) => server.restart(),
            Self::Postgres(server) => server.restart(),
            Self::Sqlite(_) => unreachable!("it is no server"),
        }
    }

    pub(crate) fn freeze(&self) {
        match self {
            Self::MariaDb(server) => server.freeze(),
            Self::Postgres(server) => server.freeze(),
            Self::Sqlite(_) => unreachable!("it is no server"),
        }
    }

    pub(crate) fn thaw(&self) {
        match self {
            Self::MariaDb(server) => server.thaw(),
            Self::Postgres(server) => server.thaw(),
            Self::Sqlite(_) => unreachable!("it is no server"),
        }
    }
}

/// SQLite refuses to drop a column that an index or a reference names: the text of its schema loses them instead.
fn without_columns(sql: &str, missing: &[(&str, &str)]) -> String {
    let mut table = "";
    let mut kept = Vec::new();
    for line in sql.lines() {
        if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
            table = rest.split(' ').next().unwrap();
        }
        let is_missing = missing.iter().any(|(of, column)| {
            let line = line.trim_start();
            let is_index = line.starts_with("CREATE ") && line.contains(&format!("ON {of} ({column})"));
            let is_reference = line.contains(&format!("FOREIGN KEY({column})"));
            is_index || (*of == table && (line.starts_with(&format!("{column} ")) || is_reference))
        });
        if !is_missing {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

/// A database with both ways into it.
pub(crate) struct Bed {
    pub(crate) release: Release,
    pub(crate) url: String,
    pub(crate) database: SqlDatabase,
    raw: DatabaseConnection,
}

impl Bed {
    pub(crate) async fn new(url: String, release: Release) -> Self {
        let database = SqlDatabase::connect(settings(&url)).await.unwrap();
        let raw = raw(&url).await;
        Self { release, url, database, raw }
    }

    pub(crate) fn is_mysql(&self) -> bool {
        self.url.starts_with("mysql")
    }

    /// Names in double quotes, on every engine.
    #[track_caller]
    pub(crate) fn execute(&self, sql: &str) -> impl Future<Output = u64> {
        let place = std::panic::Location::caller();
        async move {
            let result = self.raw.execute_unprepared(sql).await;
            result.unwrap_or_else(|error| panic!("{place}: {sql}: {error}")).rows_affected()
        }
    }

    /// All columns of the rows of a table, as text.
    #[track_caller]
    pub(crate) fn rows(&self, table: &str, condition: &str) -> impl Future<Output = Vec<Row>> + use<'_> {
        let place = std::panic::Location::caller();
        let (table, condition) = (table.to_owned(), condition.to_owned());
        async move {
            let backend = self.raw.get_database_backend();
            let query = |sql: String| self.raw.query_all_raw(Statement::from_string(backend, sql));
            let names = if self.url.starts_with("sqlite") {
                query(format!("SELECT name FROM pragma_table_info('{table}')")).await
            } else {
                let schema = if self.is_mysql() { "DATABASE()" } else { "'public'" };
                query(format!(
                    "SELECT column_name AS name FROM information_schema.columns \
                     WHERE table_schema = {schema} AND table_name = '{table}'"
                ))
                .await
            };
            let names: Vec<String> = names.unwrap().iter().map(|row| row.try_get("", "name").unwrap()).collect();
            let text = if self.is_mysql() { "char" } else { "text" };
            let columns: Vec<_> =
                names.iter().map(|name| format!("CAST(\"{name}\" AS {text}) AS \"{name}\"")).collect();
            let sql = format!("SELECT {} FROM {table} WHERE {condition} ORDER BY id", columns.join(", "));
            let rows = query(sql.clone()).await.unwrap_or_else(|error| panic!("{place}: {sql}: {error}"));
            let read = |row: &sea_orm::QueryResult| {
                names.iter().map(|name| (name.clone(), row.try_get("", name).unwrap())).collect()
            };
            rows.iter().map(read).collect()
        }
    }

    #[track_caller]
    pub(crate) fn row(&self, table: &str, id: &str) -> impl Future<Output = Row> + use<'_> {
        let rows = self.rows(table, &format!("id = '{id}'"));
        let what = format!("{table} {id}");
        async move { rows.await.pop().unwrap_or_else(|| panic!("no row {what}")) }
    }

    /// A share with one instance, both as the API leaves them.
    pub(crate) async fn share(&self) -> (String, String) {
        let share = id();
        let no = if self.url.starts_with("postgres") { "false" } else { "0" };
        self.execute(&format!(
            "INSERT INTO shares (id, deleted, project_id, user_id, size, share_proto, is_soft_deleted{}) \
             VALUES ('{share}', 'False', 'p', 'u', 3, 'NFS', {no}{})",
            if self.release >= Release(23) { ", snapshot_inherit_share_access_support" } else { "" },
            if self.release >= Release(23) { format!(", {no}") } else { String::new() },
        ))
        .await;
        let instance = self.instance(&share).await;
        (share, instance)
    }

    /// A backup of a share of size 3, as the API leaves it; with the share's project and user.
    pub(crate) async fn backup(&self, share: &str, status: &str) -> String {
        let backup = id();
        self.execute(&format!(
            "INSERT INTO share_backups (id, deleted, share_id, project_id, user_id, size, status, progress, \
             restore_progress, topic) \
             VALUES ('{backup}', 'False', '{share}', 'p', 'u', 3, '{status}', '0', '0', 'manila-data')"
        ))
        .await;
        backup
    }

    pub(crate) async fn instance(&self, share: &str) -> String {
        let instance = id();
        let no = if self.url.starts_with("postgres") { "false" } else { "0" };
        self.execute(&format!(
            "INSERT INTO share_instances (id, deleted, share_id, host, status, access_rules_status, \
             cast_rules_to_readonly) VALUES ('{instance}', 'False', '{share}', 'h@b#p', 'available', 'active', {no})"
        ))
        .await;
        instance
    }
}

pub(crate) fn settings(url: &str) -> DatabaseSettings {
    let mut settings = DatabaseSettings::new(DatabaseUrl::parse(url, "").unwrap());
    settings.connect_tries_max = Some(1);
    settings
}

/// One connection that knows nothing of the adapter.
pub(crate) async fn raw(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(match url.strip_prefix("sqlite:///") {
        Some(path) => format!("sqlite://{path}"),
        None => url.replace("mysql+pymysql", "mysql"),
    });
    options.max_connections(1).sqlx_logging(false);
    let raw = sea_orm::Database::connect(options).await.unwrap();
    if url.starts_with("mysql") {
        raw.execute_unprepared("SET SESSION sql_mode = 'TRADITIONAL,ANSI_QUOTES'").await.unwrap();
    }
    raw
}

pub(crate) fn id() -> String {
    Uuid::new_v4().to_string()
}

/// A service that no other test knows.
pub(crate) fn service() -> ServiceIdentity {
    ServiceIdentity {
        host: format!("data-{}", &id()[..8]),
        binary: "manila-data".into(),
        topic: "manila-data".into(),
        availability_zone: "nova".into(),
        is_enabled: true,
    }
}

/// Columns that hold something, but for times, which only have to be there.
#[track_caller]
pub(crate) fn check_row(row: &Row, expected: &[(&str, Option<&str>)], times: &[&str]) {
    for (column, value) in row {
        if times.contains(&column.as_str()) {
            assert!(value.is_some(), "{column} is not set in {row:?}");
            continue;
        }
        let expected = expected.iter().find(|(name, _)| name == column).and_then(|(_, value)| *value);
        assert_eq!(value.as_deref(), expected, "{column} of {row:?}");
    }
    for (name, _) in expected {
        assert!(row.contains_key(*name), "{name} is no column of {row:?}");
    }
}

pub(crate) fn text<'a>(row: &'a Row, column: &str) -> Option<&'a str> {
    row.get(column).unwrap_or_else(|| panic!("{column} is no column of {row:?}")).as_deref()
}
