//! What databases do differently: their clock, their transactions, and how they say no.

use sea_orm::sea_query::Expr;
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait as _,
};

/// What an error of the database means for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Somebody else was in the way; the same transaction can succeed at once.
    Busy,
    /// A row with this key is there already.
    Duplicate,
    /// Locked, unreachable, or no space: going on makes sense later.
    Unavailable,
    /// Nothing that waiting would mend.
    Broken,
}

/// Milliseconds since 1970 by the database's clock, the only one that all who claim jobs share.
pub(crate) fn clock_ms(backend: DbBackend) -> Expr {
    match backend {
        DbBackend::Sqlite => Expr::cust("CAST(ROUND(unixepoch('subsec') * 1000) AS INTEGER)"),
        other => unreachable!("no store opens {other:?}"),
    }
}

/// Begins a transaction that will write.
///
/// On SQLite it takes the write lock at once: one that reads first and then wants to write would fail where another
/// has written meanwhile, and no waiting helps it.
pub(crate) async fn begin(connection: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    connection.begin_with_options(options).await
}

pub(crate) fn trouble(error: &DbErr) -> Trouble {
    let cause = match error {
        DbErr::ConnectionAcquire(_) => return Trouble::Unavailable,
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => cause,
        _ => return Trouble::Broken,
    };
    sqlx_trouble(cause)
}

pub(crate) fn sqlx_trouble(error: &sqlx::Error) -> Trouble {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => Trouble::Duplicate,
        sqlx::Error::Database(error) => error.code().map_or(Trouble::Broken, |code| sqlite_trouble(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => Trouble::Unavailable,
        _ => Trouble::Broken,
    }
}

/// Primary result codes of SQLite; see <https://sqlite.org/rescode.html>.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_NOMEM: u32 = 7;
const SQLITE_IOERR: u32 = 10;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;

fn sqlite_trouble(code: &str) -> Trouble {
    match primary_code(code) {
        Some(SQLITE_BUSY | SQLITE_LOCKED) => Trouble::Busy,
        // A full disk shows as FULL, or as a failed write of the log. Both end when somebody makes room.
        Some(SQLITE_FULL | SQLITE_IOERR | SQLITE_NOMEM) => Trouble::Unavailable,
        _ => Trouble::Broken,
    }
}

/// Extended codes carry the primary one in their last byte.
fn primary_code(code: &str) -> Option<u32> {
    code.parse().ok().map(|code: u32| code & 0xff)
}

/// The file is damaged, or no database at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    NotADatabase,
    Corrupt,
}

pub(crate) fn damage(error: &sqlx::Error) -> Option<Damage> {
    let code = error.as_database_error()?.code()?;
    match primary_code(&code)? {
        SQLITE_NOTADB => Some(Damage::NotADatabase),
        SQLITE_CORRUPT => Some(Damage::Corrupt),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_their_last_byte_says() {
        let check = |code: u32, expected| assert_eq!(sqlite_trouble(&code.to_string()), expected, "code {code}");
        check(0x005, Trouble::Busy);
        check(0x205, Trouble::Busy);
        check(0x006, Trouble::Busy);
        check(0x00d, Trouble::Unavailable);
        check(0x30a, Trouble::Unavailable);
        check(0x00b, Trouble::Broken);
        check(0x001, Trouble::Broken);
        assert_eq!(sqlite_trouble("HY000"), Trouble::Broken);
    }

    #[test]
    fn a_pool_without_a_free_connection_is_unavailable() {
        assert_eq!(sqlx_trouble(&sqlx::Error::PoolTimedOut), Trouble::Unavailable);
        assert_eq!(trouble(&DbErr::ConnectionAcquire(sea_orm::ConnAcquireErr::Timeout)), Trouble::Unavailable);
        assert_eq!(trouble(&DbErr::Custom("x".into())), Trouble::Broken);
    }
}
