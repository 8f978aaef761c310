//! One transaction as something that can be done again: its statements, and what they have in common.

use std::time::Duration;

use chrono::{NaiveDateTime, SubsecRound as _, Utc};
use sea_orm::sea_query::{InsertStatement, SelectStatement, UpdateStatement};
use sea_orm::{ConnectionTrait as _, DatabaseTransaction, DbBackend, DbErr, FromQueryResult, Value};

use super::DatabaseError;
use super::schema::Schema;

/// What is done in one transaction. After a conflict it is done again from its beginning, and after a lost connection
/// too: it must come to the same end if its first run had got through.
pub(super) trait Operation: Sync {
    type Answer: Send;

    /// What it does, for errors: "cannot ...".
    const WHAT: &'static str;
    const WRITES: bool;

    fn run(&self, cx: &Cx<'_>) -> impl Future<Output = Result<Self::Answer, Fault>> + Send;
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Fault {
    /// A statement failed.
    Sql(DbErr),
    /// The rows that it found say no.
    Final(DatabaseError),
    /// What it found changed before it could write: the same transaction can succeed at once.
    Again,
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        Self::Sql(error)
    }
}

impl From<DatabaseError> for Fault {
    fn from(error: DatabaseError) -> Self {
        Self::Final(error)
    }
}

/// A transaction under way.
pub(super) struct Cx<'a> {
    pub(super) transaction: &'a DatabaseTransaction,
    pub(super) schema: Schema,
    /// One moment for all that it writes.
    pub(super) now: NaiveDateTime,
}

impl Cx<'_> {
    pub(super) fn backend(&self) -> DbBackend {
        self.transaction.get_database_backend()
    }

    pub(super) async fn all<R: FromQueryResult>(&self, query: &SelectStatement) -> Result<Vec<R>, DbErr> {
        self.transaction.query_all(query).await?.iter().map(|row| R::from_query_result(row, "")).collect()
    }

    /// The first row of a query, if there is one.
    pub(super) async fn first<R: FromQueryResult>(&self, query: &SelectStatement) -> Result<Option<R>, DbErr> {
        self.transaction.query_one(query).await?.map(|row| R::from_query_result(&row, "")).transpose()
    }

    /// How many rows an update found.
    pub(super) async fn update(&self, statement: &UpdateStatement) -> Result<u64, DbErr> {
        Ok(self.transaction.execute(statement).await?.rows_affected())
    }

    pub(super) async fn insert(&self, statement: &InsertStatement) -> Result<(), DbErr> {
        self.transaction.execute(statement).await.map(|_| ())
    }

    pub(super) fn now(&self) -> Value {
        self.time(self.now)
    }

    pub(super) fn time(&self, time: NaiveDateTime) -> Value {
        match self.backend() {
            // SQLAlchemy reads a fraction of other than six digits as another one.
            DbBackend::Sqlite => time.format("%Y-%m-%d %H:%M:%S%.6f").to_string().into(),
            _ => time.into(),
        }
    }

    /// How long ago a row was written; also where the clock of the one who wrote is ahead.
    pub(super) fn age(&self, updated_at: Option<NaiveDateTime>, created_at: Option<NaiveDateTime>) -> Duration {
        let Some(written) = updated_at.or(created_at) else { return Duration::MAX };
        (self.now - written).abs().to_std().unwrap_or(Duration::MAX)
    }

    /// Text as the engine can hold it, and compare it: MySQL's tables are `utf8mb3` and know nothing that needs four
    /// bytes, PostgreSQL knows no NUL. Two texts may become one by this: who looks for one compares it once more.
    pub(super) fn fitting(&self, text: &str) -> String {
        let fits = |c: char| self.has_character(c);
        text.chars().map(|c| if fits(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
    }

    pub(super) fn fits(&self, text: &str) -> bool {
        text.chars().all(|c| self.has_character(c))
    }

    fn has_character(&self, c: char) -> bool {
        match self.backend() {
            DbBackend::MySql => c.len_utf8() <= 3,
            DbBackend::Postgres => c != '\0',
            _ => true,
        }
    }
}

/// UTC, as Manila writes it: to the microsecond, without a zone.
pub(super) fn utc_now() -> NaiveDateTime {
    Utc::now().naive_utc().trunc_subsecs(6)
}
