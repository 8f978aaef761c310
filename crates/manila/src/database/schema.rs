//! Which of Manila's releases made the tables: what is there, and what is not.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

/// What differs from release to release, as far as we write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    /// `services.state`, since 16.0.0.
    pub(super) has_service_state: bool,
    pub(super) has_messages: bool,
    /// `share_backups`, since 17.0.0.
    pub(super) has_backups: bool,
}

/// Without these there is nothing to be done here.
const NEEDED: [&str; 6] =
    ["availability_zones", "services", "shares", "share_instances", "share_access_map", "share_instance_access_map"];

/// All columns that this user may see. MySQL 8 has a type for names that only a cast turns to text.
const MYSQL: &str = "SELECT CAST(table_name AS CHAR) AS table_name, CAST(column_name AS CHAR) AS column_name \
     FROM information_schema.columns WHERE table_schema = DATABASE()";
const POSTGRES: &str = "SELECT CAST(table_name AS text) AS table_name, CAST(column_name AS text) AS column_name \
     FROM information_schema.columns WHERE table_schema = ANY(current_schemas(false))";
const SQLITE: &str = "SELECT m.name AS table_name, p.name AS column_name \
     FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type IN ('table', 'view')";

impl Schema {
    /// The inner error names a table that is missing.
    pub(super) async fn read(connection: &impl ConnectionTrait) -> Result<Result<Self, &'static str>, DbErr> {
        let backend = connection.get_database_backend();
        let query = match backend {
            DbBackend::MySql => MYSQL,
            DbBackend::Postgres => POSTGRES,
            _ => SQLITE,
        };
        let mut columns: BTreeSet<(String, String)> = BTreeSet::new();
        for row in connection.query_all_raw(Statement::from_string(backend, query)).await? {
            columns.insert((row.try_get("", "table_name")?, row.try_get("", "column_name")?));
        }
        let has_table = |name: &str| columns.iter().any(|(table, _)| table == name);
        Ok(match NEEDED.into_iter().find(|table| !has_table(table)) {
            Some(missing) => Err(missing),
            None => Ok(Self {
                has_service_state: columns.contains(&("services".into(), "state".into())),
                has_messages: has_table("messages"),
                has_backups: has_table("share_backups"),
            }),
        })
    }
}
