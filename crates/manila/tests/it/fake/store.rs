//! A job store in memory, as simple as the port allows: one node, no leases that run out.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use job::documents::Progress;
use job::{
    Created, Delivery, EventSeq, Generation, IdempotencyKey, Job, JobEvent, JobFilter, JobId, JobStore, NodeName, Page,
    StateName, StoreError, StoredEvent, Version,
};

use super::lock;

#[derive(Debug, Default)]
pub(crate) struct FakeStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    is_away: bool,
    jobs: BTreeMap<JobId, Job>,
    keys: Vec<(IdempotencyKey, JobId)>,
    progress: BTreeMap<JobId, Progress>,
    deliveries: BTreeMap<JobId, Delivery>,
    events: Vec<StoredEvent>,
}

impl FakeStore {
    pub(crate) fn be_away(&self, is_away: bool) {
        lock(&self.inner).is_away = is_away;
    }

    /// The oldest first.
    pub(crate) fn jobs(&self) -> Vec<Job> {
        lock(&self.inner).jobs.values().cloned().collect()
    }

    pub(crate) fn keys(&self) -> Vec<IdempotencyKey> {
        lock(&self.inner).keys.iter().map(|(key, _)| key.clone()).collect()
    }

    /// The end of the job was delivered, or never will be.
    pub(crate) fn is_told(&self, id: JobId) -> bool {
        lock(&self.inner).deliveries.get(&id).is_some_and(|delivery| delivery.next_try_at.is_none())
    }

    async fn call<T>(&self, act: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        tokio::task::yield_now().await;
        let mut inner = lock(&self.inner);
        if inner.is_away {
            return Err(StoreError::Unavailable("the fake is away".into()));
        }
        act(&mut inner)
    }
}

#[async_trait]
impl JobStore for FakeStore {
    async fn create(&self, job: &Job, key: Option<&IdempotencyKey>) -> Result<Created, StoreError> {
        self.call(|inner| {
            if let Some(key) = key {
                let same =
                    |known: &&(IdempotencyKey, JobId)| (&known.0.requester, &known.0.key) == (&key.requester, &key.key);
                if let Some((known, id)) = inner.keys.iter().find(same) {
                    let is_same = known.fingerprint == key.fingerprint;
                    return Ok(if is_same {
                        Created::Known(Box::new(inner.jobs[id].clone()))
                    } else {
                        Created::KeyReused
                    });
                }
                inner.keys.push((key.clone(), job.id));
            }
            inner.jobs.insert(job.id, Job { version: Version(1), ..job.clone() });
            Ok(Created::New(Version(1)))
        })
        .await
    }

    async fn save(&self, job: &Job, events: &[JobEvent]) -> Result<Version, StoreError> {
        self.call(|inner| {
            let before = inner.jobs.get(&job.id).ok_or(StoreError::NotFound)?;
            if (before.version, before.generation) != (job.version, job.generation) {
                return Err(StoreError::Conflict);
            }
            let (version, owner) = (Version(job.version.0 + 1), before.owner.clone());
            inner.jobs.insert(job.id, Job { version, owner, ..job.clone() });
            for event in events {
                let seq = EventSeq(inner.events.len() as u64 + 1);
                inner.events.push(StoredEvent { seq, job: job.id, event: event.clone() });
            }
            Ok(version)
        })
        .await
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.call(|inner| Ok(inner.jobs.get(&id).cloned())).await
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<Job>, StoreError> {
        self.call(|inner| {
            let wanted = |job: &&Job| {
                page.after.is_none_or(|after| job.id < after)
                    && (filter.states.is_empty() || filter.states.contains(&job.state.name()))
                    && (filter.kinds.is_empty() || filter.kinds.contains(&job.spec.kind))
                    && (filter.name.is_none() || filter.name == job.spec.name)
                    && filter.requester.as_ref().is_none_or(|requester| *requester == job.origin.requester)
            };
            Ok(inner.jobs.values().rev().filter(wanted).take(page.size as usize).cloned().collect())
        })
        .await
    }

    async fn unfinished(&self) -> Result<Vec<Job>, StoreError> {
        self.call(|inner| Ok(inner.jobs.values().filter(|job| !job.state.is_ended()).cloned().collect())).await
    }

    async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        self.call(|_| Ok(Vec::new())).await
    }

    async fn claim(
        &self,
        id: JobId,
        version: Version,
        node: &NodeName,
        _: Duration,
    ) -> Result<Option<Job>, StoreError> {
        self.call(|inner| {
            let Some(job) = inner.jobs.get_mut(&id).filter(|job| job.version == version && !job.state.is_ended())
            else {
                return Ok(None);
            };
            job.owner = Some(node.clone());
            job.generation.0 += 1;
            job.version.0 += 1;
            Ok(Some(job.clone()))
        })
        .await
    }

    async fn renew(&self, _: &NodeName, _: &[(JobId, Generation)], _: Duration) -> Result<Vec<JobId>, StoreError> {
        self.call(|_| Ok(Vec::new())).await
    }

    async fn disown(&self, id: JobId, generation: Generation) -> Result<(), StoreError> {
        self.call(|inner| {
            inner
                .jobs
                .get_mut(&id)
                .filter(|job| job.generation == generation)
                .into_iter()
                .for_each(|job| job.owner = None);
            Ok(())
        })
        .await
    }

    async fn set_progress(&self, id: JobId, _: Generation, progress: &Progress) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.progress.insert(id, progress.clone());
            Ok(())
        })
        .await
    }

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError> {
        self.call(|inner| Ok(inner.progress.get(&id).cloned())).await
    }

    async fn events(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.call(|inner| {
            let wanted = |stored: &&StoredEvent| stored.seq > after && job.is_none_or(|job| stored.job == job);
            Ok(inner.events.iter().filter(wanted).take(count_max as usize).cloned().collect())
        })
        .await
    }

    async fn last_event(&self) -> Result<EventSeq, StoreError> {
        self.call(|inner| Ok(EventSeq(inner.events.len() as u64))).await
    }

    async fn undelivered(&self, now: Timestamp, count_max: u32) -> Result<Vec<(Job, Delivery)>, StoreError> {
        self.call(|inner| {
            let due = inner.deliveries.iter().filter_map(|(id, delivery)| {
                let job = inner.jobs.get(id).filter(|job| job.state.is_ended())?;
                delivery.next_try_at.filter(|at| *at <= now)?;
                Some((job.clone(), delivery.clone()))
            });
            Ok(due.take(count_max as usize).collect())
        })
        .await
    }

    async fn set_delivery(&self, id: JobId, delivery: &Delivery) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.deliveries.insert(id, delivery.clone());
            Ok(())
        })
        .await
    }

    async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        self.call(|inner| {
            inner.jobs.remove(&id);
            Ok(())
        })
        .await
    }

    async fn forget_events(&self, _: Timestamp) -> Result<u64, StoreError> {
        self.call(|_| Ok(0)).await
    }
}
