//! What an error of the database means for the one who asked.

use std::io;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Somebody else was in the way, or has made the same row: the same transaction can succeed at once.
    Conflict,
    /// A table or column is not there: what we know of the schema may be old.
    Schema,
    /// The connection is gone, another one may do.
    Lost,
    /// No connection came in time: all in use, or nobody answers.
    NoConnection,
    /// It answers that it cannot now: starting, stopping, full, a replica.
    Unavailable,
    /// Nothing that waiting would mend.
    Refused,
}

pub(super) fn trouble(error: &DbErr) -> Trouble {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Trouble::NoConnection,
        // Somebody else has replaced the pool meanwhile.
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Trouble::Lost,
        _ => cause(error).map_or(Trouble::Refused, sqlx_trouble),
    }
}

pub(super) fn sqlx_trouble(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(error) => {
            if error.is_unique_violation() {
                Trouble::Conflict
            } else if let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() {
                mysql_trouble(error.number())
            } else if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
                postgres_trouble(error.code())
            } else if error.try_downcast_ref::<SqliteError>().is_some() {
                sqlite_trouble(error.code().as_deref().unwrap_or_default(), error.message())
            } else {
                Trouble::Refused
            }
        }
        sqlx::Error::PoolTimedOut => Trouble::NoConnection,
        error if is_tls_failure(error) => Trouble::Refused,
        sqlx::Error::Io(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Trouble::Lost,
        _ => Trouble::Refused,
    }
}

/// The two sides could not agree on TLS, or do not trust each other: the next try ends in the same way.
pub(super) fn is_tls_failure(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        // As which rustls tells of what the peer said.
        sqlx::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// What it says, without the layers around it.
pub(super) fn reason(error: &DbErr) -> String {
    cause(error).map_or_else(|| error.to_string(), sqlx_reason)
}

pub(super) fn sqlx_reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<MySqlDatabaseError>() {
            Some(mysql) => format!("{} (error {})", mysql.message(), mysql.number()),
            None => match error.code() {
                Some(code) => format!("{} (error {code})", error.message()),
                None => error.message().into(),
            },
        },
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn cause(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}

/// Numbers of MySQL and MariaDB; see <https://mariadb.com/kb/en/mariadb-error-codes/>.
fn mysql_trouble(number: u16) -> Trouble {
    match number {
        // Deadlock (also a conflict between nodes of Galera), wait for a lock too long, snapshot too old.
        1213 | 1205 | 1020 => Trouble::Conflict,
        // Unknown column, unknown table.
        1054 | 1146 => Trouble::Schema,
        // Shutting down, killed by somebody, broken packets.
        1053 | 1152..=1161 | 1184 | 1927 | 4031 => Trouble::Lost,
        // Disk full, memory, connections used up, a Galera node without its cluster, read-only, table full, too slow.
        1021 | 1037 | 1038 | 1040 | 1041 | 1047 | 1114 | 1203 | 1226 | 1290 | 1317 | 1836 | 1969 | 3024 => {
            Trouble::Unavailable
        }
        _ => Trouble::Refused,
    }
}

/// See <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn postgres_trouble(code: &str) -> Trouble {
    match code {
        // Serialisation failure, deadlock, no lock in time.
        "40001" | "40P01" | "55P03" => Trouble::Conflict,
        // Undefined column, undefined table; a plan of the time before a migration.
        "42703" | "42P01" | "0A000" => Trouble::Schema,
        // Ended by an administrator or a crash, or for being idle.
        "57P01" | "57P02" | "57P05" | "25P03" => Trouble::Lost,
        // Starting or stopping, cancelled, a replica.
        "57P03" | "57014" | "25006" => Trouble::Unavailable,
        _ if code.starts_with("08") => Trouble::Lost,
        // Connections, memory or disk used up; trouble of the system.
        _ if code.starts_with("53") || code.starts_with("58") => Trouble::Unavailable,
        _ => Trouble::Refused,
    }
}

/// Primary result codes, the last byte of the extended ones; see <https://sqlite.org/rescode.html>.
fn sqlite_trouble(code: &str, message: &str) -> Trouble {
    match code.parse().map(|code: u32| code & 0xff) {
        // BUSY, LOCKED
        Ok(5 | 6) => Trouble::Conflict,
        // NOMEM, IOERR, FULL, CANTOPEN
        Ok(7 | 10 | 13 | 14) => Trouble::Unavailable,
        // ERROR, for which there is no code of its own.
        Ok(1)
            if message.contains("no such column")
                || message.contains("no such table")
                || message.contains("has no column") =>
        {
            Trouble::Schema
        }
        _ => Trouble::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_each_engine_mean_what_their_makers_say() {
        let mysql = |number, expected| assert_eq!(mysql_trouble(number), expected, "{number}");
        mysql(1213, Trouble::Conflict);
        mysql(1205, Trouble::Conflict);
        mysql(1054, Trouble::Schema);
        mysql(1927, Trouble::Lost);
        mysql(1040, Trouble::Unavailable);
        mysql(1047, Trouble::Unavailable);
        mysql(1045, Trouble::Refused);
        mysql(1366, Trouble::Refused);
        let postgres = |code, expected| assert_eq!(postgres_trouble(code), expected, "{code}");
        postgres("40001", Trouble::Conflict);
        postgres("40P01", Trouble::Conflict);
        postgres("42703", Trouble::Schema);
        postgres("08006", Trouble::Lost);
        postgres("57P01", Trouble::Lost);
        postgres("57P03", Trouble::Unavailable);
        postgres("53300", Trouble::Unavailable);
        postgres("28P01", Trouble::Refused);
        let sqlite = |code, message, expected| assert_eq!(sqlite_trouble(code, message), expected, "{code} {message}");
        sqlite("5", "database is locked", Trouble::Conflict);
        sqlite("517", "database is locked", Trouble::Conflict);
        sqlite("1", "no such column: state", Trouble::Schema);
        sqlite("1", "table services has no column named state", Trouble::Schema);
        sqlite("1", "near \"x\": syntax error", Trouble::Refused);
        sqlite("13", "database or disk is full", Trouble::Unavailable);
        sqlite("8", "attempt to write a readonly database", Trouble::Refused);
    }

    #[test]
    fn a_pool_without_a_connection_is_told_from_one_that_was_replaced() {
        assert_eq!(trouble(&DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)), Trouble::NoConnection);
        assert_eq!(trouble(&DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)), Trouble::Lost);
        assert_eq!(trouble(&DbErr::Custom("x".into())), Trouble::Refused);
    }
}
