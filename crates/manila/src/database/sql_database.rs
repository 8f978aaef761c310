//! [`SqlDatabase`]: [`Database`] over MariaDB and MySQL, PostgreSQL and SQLite.
//!
//! Here is how a transaction is run: its connection, its time limits, what is tried again. What is in it lies in
//! `services`, `shares`, `access`, `backups`, `quota` and `messages`.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait as _,
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::connection::Connector;
use super::operation::{Cx, Fault, Operation, utc_now};
use super::schema::Schema;
use super::services::Beaten;
use super::settings::DatabaseSettings;
use super::trouble::{Trouble, is_tls_failure, reason, sqlx_reason, sqlx_trouble, trouble};
use super::{
    AccessRule, Backup, BackupChange, BackupEnd, Database, DatabaseError, ExportLocation, Mapping, NewRule,
    QuotaSettings, ServiceId, ServiceIdentity, ServiceRow, Share, ShareInstance, TaskStateChange, UserMessage, access,
    backups, messages, quota, services, shares,
};

/// Runs of one transaction at most while others are in its way, as upstream has it.
const CONFLICT_TRIES_MAX: u32 = 5;
/// Pause after the first conflict; then twice as long each time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// Somebody may remove a zone in the moment after it was made; once is enough of that.
const ZONE_TRIES_MAX: u32 = 3;
/// What is known of the schema is read again after that: an upgrade may have added to it.
const SCHEMA_AGE_MAX: Duration = Duration::from_mins(5);
/// For connections of a pool that is given up to end by themselves.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// Manila's database over SQL.
pub struct SqlDatabase {
    settings: DatabaseSettings,
    connector: Connector,
    /// Replaced as a whole when a connection hangs: its peer may be gone without a word, and the others with it.
    pool: Mutex<Arc<DatabaseConnection>>,
    schema: Mutex<Option<(Schema, Instant)>>,
}

impl fmt::Debug for SqlDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlDatabase").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl SqlDatabase {
    /// Connects, and looks at the schema. A database that cannot be reached is tried again as the settings say, which
    /// may be for ever: then dropping the future is the way out. What it refuses is an error at once.
    pub async fn connect(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        for warning in settings.url.warnings() {
            warn!("{warning}");
        }
        let mut connector = Connector::new(&settings).map_err(DatabaseError::Failed)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match Self::connect_once(&settings, &mut connector).await {
                Ok(database) => return Ok(database),
                Err(DatabaseError::Unavailable(error)) => error,
                Err(error) => return Err(error),
            };
            if settings.connect_tries_max.is_some_and(|max| tries >= max) {
                return Err(DatabaseError::Unavailable(error));
            }
            let seconds = settings.connect_interval.as_secs();
            warn!(database = %settings.url, tries, error, "cannot reach Manila's database; next try in {seconds} s");
            sleep(settings.connect_interval).await;
        }
    }

    /// For a database that need not be there yet: each operation connects by itself.
    pub fn open(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        let connector = Connector::new(&settings).map_err(DatabaseError::Failed)?;
        Ok(Self::with(settings, connector))
    }

    fn with(settings: DatabaseSettings, connector: Connector) -> Self {
        let pool = Mutex::new(Arc::new(connector.pool(&settings)));
        Self { pool, schema: Mutex::new(None), connector, settings }
    }

    async fn connect_once(settings: &DatabaseSettings, connector: &mut Connector) -> Result<Self, DatabaseError> {
        let mut probed = probe(connector, settings).await;
        if let Err(Some(error)) = &probed
            && is_tls_failure(error)
            && let Some(plain) = connector.without_tls(settings)
        {
            warn!(database = %settings.url, %error, "Manila's database offers TLS and fails at it; going on without");
            *connector = plain;
            probed = probe(connector, settings).await;
        }
        probed.map_err(|error| connect_error(error.as_ref(), settings))?;
        let database = Self::with(settings.clone(), connector.clone());
        let schema = database.run(&ReadSchema).await?;
        info!(database = %settings.url, has_service_state = schema.has_service_state, "connected to Manila's database");
        Ok(database)
    }

    /// Runs a transaction until it came to an end, or going on makes no sense.
    async fn run<O: Operation>(&self, operation: &O) -> Result<O::Answer, DatabaseError> {
        let unavailable = |reason: &str| DatabaseError::Unavailable(format!("cannot {}: {reason}", O::WHAT));
        let refused = |reason: &str| DatabaseError::Failed(format!("cannot {}: {reason}", O::WHAT));
        let mut conflicts = 0;
        let mut was_lost = false;
        let mut was_schema_read = false;
        loop {
            let pool = self.pool();
            // The pool has its own limit for a connection; what comes after has ours.
            let limit = self.settings.acquire_timeout + self.settings.transaction_timeout;
            let outcome = timeout(limit, self.once(&pool, operation)).await;
            let error = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Fault::Final(error))) => return Err(error),
                Ok(Err(Fault::Again)) => None,
                Ok(Err(Fault::Sql(error))) => Some(error),
                Err(_) => {
                    self.retire(&pool);
                    return Err(unavailable(&format!("no answer within {} s", limit.as_secs_f64())));
                }
            };
            let trouble = error.as_ref().map_or(Trouble::Conflict, trouble);
            let why = error.as_ref().map_or_else(|| "rows change all the time".into(), reason);
            match trouble {
                Trouble::Conflict => {
                    conflicts += 1;
                    if conflicts >= CONFLICT_TRIES_MAX {
                        return Err(unavailable(&format!("{why}, {conflicts} times in a row")));
                    }
                    sleep(pause(conflicts)).await;
                }
                Trouble::Schema if !was_schema_read => {
                    was_schema_read = true;
                    *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Trouble::Lost if !was_lost => was_lost = true,
                Trouble::NoConnection => {
                    self.retire(&pool);
                    let why = match probe(&self.connector, &self.settings).await {
                        // All were in use, or hung.
                        Ok(()) if !was_lost => {
                            was_lost = true;
                            continue;
                        }
                        Ok(()) => "no free connection",
                        Err(error) => return Err(connect_error(error.as_ref(), &self.settings)),
                    };
                    return Err(unavailable(why));
                }
                Trouble::Lost | Trouble::Unavailable => return Err(unavailable(&why)),
                Trouble::Schema | Trouble::Refused => return Err(refused(&why)),
            }
        }
    }

    async fn once<O: Operation>(&self, pool: &DatabaseConnection, operation: &O) -> Result<O::Answer, Fault> {
        let schema = self.schema(pool).await?;
        let transaction = self.begin(pool, O::WRITES).await?;
        let answer = operation.run(&Cx { transaction: &transaction, schema, now: utc_now() }).await;
        match answer {
            Ok(answer) if O::WRITES => {
                transaction.commit().await?;
                Ok(answer)
            }
            Ok(answer) => {
                transaction.rollback().await?;
                Ok(answer)
            }
            Err(fault) => {
                // What made it fail is what matters; a connection that cannot even do this is thrown away.
                let _ = transaction.rollback().await;
                Err(fault)
            }
        }
    }

    async fn begin(&self, pool: &DatabaseConnection, writes: bool) -> Result<DatabaseTransaction, DbErr> {
        let options = TransactionOptions {
            // One that reads first and then wants to write would fail where another has written meanwhile.
            sqlite_transaction_mode: writes.then_some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        let transaction = pool.begin_with_options(options).await?;
        if writes && pool.get_database_backend() == DbBackend::Postgres {
            // Not for the session: behind PgBouncer that belongs to others too.
            let lock_timeout = self.settings.lock_timeout.as_millis();
            transaction.execute_unprepared(&format!("SET LOCAL lock_timeout = {lock_timeout}")).await?;
        }
        Ok(transaction)
    }

    async fn schema(&self, pool: &DatabaseConnection) -> Result<Schema, Fault> {
        let known = *self.schema.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((schema, read_at)) = known
            && read_at.elapsed() < SCHEMA_AGE_MAX
        {
            return Ok(schema);
        }
        // In a transaction of its own: in the other one the first statement decides what the next ones see.
        let transaction = self.begin(pool, false).await?;
        let schema = Schema::read(&transaction).await?.map_err(|table| {
            DatabaseError::Failed(format!(
                "there is no table `{table}` in {}, or the user may not see it; run `manila-manage db sync`, or name \
                 another `connection` in [database]",
                self.settings.url
            ))
        });
        transaction.rollback().await?;
        let schema = schema?;
        *self.schema.lock().unwrap_or_else(PoisonError::into_inner) = Some((schema, Instant::now()));
        Ok(schema)
    }

    fn pool(&self) -> Arc<DatabaseConnection> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a fresh pool in the place of one whose connections hang. They would hold their places until the kernel
    /// gives them up, a quarter of an hour later.
    fn retire(&self, hung: &Arc<DatabaseConnection>) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&pool, hung) {
            return;
        }
        let retired = std::mem::replace(&mut *pool, Arc::new(self.connector.pool(&self.settings)));
        drop(pool);
        tokio::spawn(async move { timeout(RETIRE_TIMEOUT, retired.close_by_ref()).await });
    }
}

/// Makes one connection within the time limit; `None` is its end.
async fn probe(connector: &Connector, settings: &DatabaseSettings) -> Result<(), Option<sqlx::Error>> {
    timeout(settings.acquire_timeout, connector.probe()).await.map_err(|_| None)?.map_err(Some)
}

fn connect_error(error: Option<&sqlx::Error>, settings: &DatabaseSettings) -> DatabaseError {
    let url = &settings.url;
    let Some(error) = error else {
        let seconds = settings.acquire_timeout.as_secs_f64();
        return DatabaseError::Unavailable(format!("no connection to {url} within {seconds} s"));
    };
    let why = format!("cannot connect to {url}: {}", sqlx_reason(error));
    match sqlx_trouble(error) {
        Trouble::Refused | Trouble::Schema => DatabaseError::Failed(why),
        _ => DatabaseError::Unavailable(why),
    }
}

/// Between half and all of a time that doubles, so that two who met do not meet again.
fn pause(conflicts: u32) -> Duration {
    let pause = CONFLICT_PAUSE * 2_u32.pow(conflicts.min(CONFLICT_TRIES_MAX) - 1);
    let random = uuid::Uuid::new_v4().as_bytes()[0];
    pause / 2 + pause / 2 * u32::from(random) / 255
}

/// Only looks at the schema, which comes before every transaction.
struct ReadSchema;

impl Operation for ReadSchema {
    type Answer = Schema;

    const WHAT: &'static str = "read the schema";
    const WRITES: bool = false;

    async fn run(&self, cx: &Cx<'_>) -> Result<Schema, Fault> {
        Ok(cx.schema)
    }
}

#[async_trait]
impl Database for SqlDatabase {
    async fn register(&self, service: &ServiceIdentity) -> Result<ServiceId, DatabaseError> {
        match self.run(&services::Register { service }).await? {
            Some(id) => Ok(id),
            None => self.create_service(service).await,
        }
    }

    async fn beat(
        &self,
        id: ServiceId,
        service: &ServiceIdentity,
        down_time: Duration,
    ) -> Result<ServiceId, DatabaseError> {
        for _ in 0..ZONE_TRIES_MAX {
            match self.run(&services::Beat { id, service, down_time }).await? {
                Beaten::Done => return Ok(id),
                Beaten::Gone => {
                    warn!(id = id.0, host = service.host, "the row of this service is gone; making a new one");
                    return self.create_service(service).await;
                }
                Beaten::NoZone => self.run(&services::CreateZone::new(service)).await?,
            }
        }
        Err(zone_vanishes(service))
    }

    async fn set_stopped(&self, id: ServiceId) -> Result<(), DatabaseError> {
        self.run(&services::Stop { id }).await
    }

    async fn remove_stopped(&self, topic: &str, down_time: Duration) -> Result<u64, DatabaseError> {
        self.run(&services::RemoveStopped { topic, down_time }).await
    }

    async fn services(&self, topic: &str) -> Result<Vec<ServiceRow>, DatabaseError> {
        self.run(&services::List { topic }).await
    }

    async fn share(&self, id: &str) -> Result<Option<Share>, DatabaseError> {
        self.run(&shares::FindShare { id }).await
    }

    async fn instance(&self, id: &str) -> Result<Option<ShareInstance>, DatabaseError> {
        self.run(&shares::FindInstance { id }).await
    }

    async fn instances(&self, share_id: &str) -> Result<Vec<ShareInstance>, DatabaseError> {
        self.run(&shares::ListInstances { share_id }).await
    }

    async fn set_task_state(
        &self,
        share_id: &str,
        to: Option<&str>,
        from: &[Option<&str>],
    ) -> Result<TaskStateChange, DatabaseError> {
        self.run(&shares::SetTaskState { share_id, to, from }).await
    }

    async fn shares_in(&self, task_states: &[&str]) -> Result<Vec<Share>, DatabaseError> {
        self.run(&shares::ListByTaskState { task_states }).await
    }

    async fn rules_for(
        &self,
        share_id: &str,
        access_type: &str,
        access_to: &str,
    ) -> Result<Vec<AccessRule>, DatabaseError> {
        self.run(&access::FindRules { share_id, access_type, access_to }).await
    }

    async fn allow(&self, rule: &NewRule) -> Result<bool, DatabaseError> {
        self.run(&access::Allow { rule }).await
    }

    async fn deny(&self, instance_id: &str, mapping_ids: &[&str]) -> Result<u64, DatabaseError> {
        self.run(&access::Deny { instance_id, mapping_ids }).await
    }

    async fn mappings(&self, mapping_ids: &[&str]) -> Result<Vec<Mapping>, DatabaseError> {
        self.run(&access::FindMappings { mapping_ids }).await
    }

    async fn backup(&self, id: &str) -> Result<Option<Backup>, DatabaseError> {
        self.run(&backups::Find { id }).await
    }

    async fn backups_in(&self, statuses: &[&str]) -> Result<Vec<Backup>, DatabaseError> {
        self.run(&backups::ListByStatus { statuses }).await
    }

    async fn shares_restored_from(&self, backup_id: &str) -> Result<Vec<String>, DatabaseError> {
        self.run(&backups::FindTargets { backup_id }).await
    }

    async fn export_locations(&self, instance_id: &str) -> Result<Vec<ExportLocation>, DatabaseError> {
        self.run(&shares::ListExportLocations { instance_id }).await
    }

    async fn begin_backup(&self, id: &str, status: &str, host: Option<&str>) -> Result<BackupChange, DatabaseError> {
        self.run(&backups::Begin { id, status, host }).await
    }

    async fn set_backup_progress(&self, id: &str, status: &str, percent: u8) -> Result<BackupChange, DatabaseError> {
        self.run(&backups::SetProgress { id, status, percent }).await
    }

    async fn end_backup(&self, end: &BackupEnd) -> Result<BackupChange, DatabaseError> {
        self.run(&backups::End { end }).await
    }

    async fn fail_deletion(&self, id: &str, reason: &str) -> Result<BackupChange, DatabaseError> {
        self.run(&backups::FailDeletion { id, reason }).await
    }

    async fn delete_backup(&self, id: &str, quota: &QuotaSettings) -> Result<BackupChange, DatabaseError> {
        self.run(&quota::Delete { id, quota }).await
    }

    async fn add_message(&self, message: &UserMessage) -> Result<bool, DatabaseError> {
        self.run(&messages::Add { message }).await
    }

    async fn close(&self) {
        let pool = self.pool();
        let _ = timeout(RETIRE_TIMEOUT, pool.close_by_ref()).await;
    }
}

impl SqlDatabase {
    async fn create_service(&self, service: &ServiceIdentity) -> Result<ServiceId, DatabaseError> {
        for _ in 0..ZONE_TRIES_MAX {
            if let Some(id) = self.run(&services::Create { service }).await? {
                return Ok(id);
            }
            self.run(&services::CreateZone::new(service)).await?;
        }
        Err(zone_vanishes(service))
    }
}

fn zone_vanishes(service: &ServiceIdentity) -> DatabaseError {
    let zone = &service.availability_zone;
    DatabaseError::Unavailable(format!("the availability zone `{zone}` goes away whenever it was made"))
}
