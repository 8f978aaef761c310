//! The store itself: which function answers which question of the port.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use job::documents::Progress;
use job::{
    Created, Delivery, EventSeq, Generation, IdempotencyKey, Job, JobEvent, JobFilter, JobId, JobStore, NodeName, Page,
    StateName, StoreError, StoredEvent, Version,
};
use sea_orm::DatabaseConnection;

use crate::lock::OwnerLock;
use crate::{OpenError, OpenOptions, deliveries, events, jobs, leases, open, progress};

/// Connections to the database.
pub(crate) struct Database {
    /// On SQLite a single one: writers queue here, in order, instead of on the file's lock.
    pub(crate) writer: DatabaseConnection,
    /// Never waits for the writer.
    pub(crate) reader: DatabaseConnection,
}

/// Keeps jobs in a database.
pub struct SqlStore {
    database: Database,
    /// Given back last.
    _lock: OwnerLock,
}

impl fmt::Debug for SqlStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqlStore").finish_non_exhaustive()
    }
}

impl SqlStore {
    /// Opens the store at `location`, a path or a URL (`sqlite:///path`), and makes it if it is not there.
    pub async fn open(location: &str, options: &OpenOptions) -> Result<Self, OpenError> {
        Self::open_file(&open::file_of(location)?, options).await
    }

    /// Opens the SQLite store in the file `path`, whatever its name looks like.
    pub async fn open_file(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        let (database, lock) = open::open(path, options).await?;
        Ok(Self { database, _lock: lock })
    }

    /// Closes all connections, which puts the log into the file. What was answered is durable without it, too.
    pub async fn close(&self) -> Result<(), StoreError> {
        for connection in [&self.database.reader, &self.database.writer] {
            let closed = connection.close_by_ref().await;
            closed.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
        }
        Ok(())
    }
}

#[async_trait]
impl JobStore for SqlStore {
    async fn create(&self, job: &Job, key: Option<&IdempotencyKey>) -> Result<Created, StoreError> {
        jobs::create(&self.database, job, key).await
    }

    async fn save(&self, job: &Job, events: &[JobEvent]) -> Result<Version, StoreError> {
        jobs::save(&self.database, job, events).await
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        jobs::get(&self.database, id).await
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<Job>, StoreError> {
        jobs::list(&self.database, filter, page).await
    }

    async fn unfinished(&self) -> Result<Vec<Job>, StoreError> {
        jobs::unfinished(&self.database).await
    }

    async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        jobs::count_by_state(&self.database).await
    }

    async fn claim(
        &self,
        id: JobId,
        version: Version,
        node: &NodeName,
        lease: Duration,
    ) -> Result<Option<Job>, StoreError> {
        leases::claim(&self.database, id, version, node, lease).await
    }

    async fn renew(
        &self,
        node: &NodeName,
        held: &[(JobId, Generation)],
        lease: Duration,
    ) -> Result<Vec<JobId>, StoreError> {
        leases::renew(&self.database, node, held, lease).await
    }

    async fn disown(&self, id: JobId, generation: Generation) -> Result<(), StoreError> {
        leases::disown(&self.database, id, generation).await
    }

    async fn set_progress(&self, id: JobId, generation: Generation, progress: &Progress) -> Result<(), StoreError> {
        progress::set(&self.database, id, generation, progress).await
    }

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError> {
        progress::get(&self.database, id).await
    }

    async fn events(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        events::after(&self.database, after, job, count_max).await
    }

    async fn last_event(&self) -> Result<EventSeq, StoreError> {
        events::last(&self.database).await
    }

    async fn undelivered(&self, now: Timestamp, count_max: u32) -> Result<Vec<(Job, Delivery)>, StoreError> {
        deliveries::undelivered(&self.database, now, count_max).await
    }

    async fn set_delivery(&self, id: JobId, delivery: &Delivery) -> Result<(), StoreError> {
        deliveries::set(&self.database, id, delivery).await
    }

    async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        jobs::remove(&self.database, id).await
    }

    async fn forget_events(&self, before: Timestamp) -> Result<u64, StoreError> {
        events::forget(&self.database, before).await
    }
}
