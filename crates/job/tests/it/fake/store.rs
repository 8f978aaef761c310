//! A job store in memory. It checks what a real one cannot know: that each save follows the rules.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use job::documents::Progress;
use job::{
    Clock, Created, Delivery, EventSeq, Generation, IdempotencyKey, Job, JobEvent, JobFilter, JobId, JobStore,
    NodeName, Page, StateName, StoreError, StoredEvent, Version,
};

use super::world::{FakeClock, Life};

/// Whether a call that goes wrong had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

#[derive(Debug)]
pub(crate) struct FakeStore {
    clock: Arc<FakeClock>,
    life: Arc<Life>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    rows: BTreeMap<JobId, Row>,
    keys: Vec<(IdempotencyKey, JobId)>,
    events: Vec<StoredEvent>,
    broken_rules: Vec<String>,
    calls: u64,
    saves: u64,
    fail_call: Option<(u64, When)>,
    die_at_save: Option<(u64, When)>,
    die_at_call: Option<(u64, When)>,
    is_away: bool,
}

#[derive(Debug)]
struct Row {
    job: Job,
    lease_until: Option<Timestamp>,
    progress: Option<Progress>,
    delivery: Delivery,
}

impl FakeStore {
    pub(crate) fn new(clock: Arc<FakeClock>, life: Arc<Life>) -> Self {
        Self { clock, life, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn broken(&self, rule: impl Into<String>) {
        self.inner().broken_rules.push(rule.into());
    }

    pub(crate) fn broken_rules(&self) -> Vec<String> {
        self.inner().broken_rules.clone()
    }

    pub(crate) fn jobs(&self) -> Vec<Job> {
        self.inner().rows.values().map(|row| row.job.clone()).collect()
    }

    pub(crate) fn job(&self, id: JobId) -> Job {
        self.inner().rows[&id].job.clone()
    }

    pub(crate) fn delivery(&self, id: JobId) -> Delivery {
        self.inner().rows[&id].delivery.clone()
    }

    pub(crate) fn messages(&self, id: JobId) -> Vec<(job::EventKind, StateName)> {
        let inner = self.inner();
        inner
            .events
            .iter()
            .filter(|stored| stored.job == id)
            .map(|stored| (stored.event.kind, stored.event.state))
            .collect()
    }

    pub(crate) fn saves(&self) -> u64 {
        self.inner().saves
    }

    pub(crate) fn calls(&self) -> u64 {
        self.inner().calls
    }

    /// The process dies at a save, counted from now.
    pub(crate) fn die_at_save(&self, number: u64, when: When) {
        let mut inner = self.inner();
        inner.die_at_save = Some((inner.saves + number, when));
    }

    /// The process dies at a call, counted from now.
    pub(crate) fn die_at_call(&self, number: u64, when: When) {
        let mut inner = self.inner();
        inner.die_at_call = Some((inner.calls + number, when));
    }

    /// One call, counted from now, is not answered well.
    pub(crate) fn fail_call(&self, number: u64, when: When) {
        let mut inner = self.inner();
        inner.fail_call = Some((inner.calls + number, when));
    }

    pub(crate) fn be_away(&self, is_away: bool) {
        self.inner().is_away = is_away;
    }

    /// What another node does: changes the job behind this one's back.
    pub(crate) fn change(&self, id: JobId, change: impl FnOnce(&mut Job)) {
        let mut inner = self.inner();
        let row = inner.rows.get_mut(&id).expect("is there");
        change(&mut row.job);
        row.job.version.0 += 1;
    }

    /// Another node makes the job its own, for ever, as if the lease had run out.
    pub(crate) fn steal(&self, id: JobId) {
        let mut inner = self.inner();
        let row = inner.rows.get_mut(&id).expect("is there");
        row.job.owner = Some(NodeName::new("there"));
        row.job.generation.0 += 1;
        row.job.version.0 += 1;
        row.lease_until = Some(Timestamp::MAX);
    }

    pub(crate) fn end_lease(&self, id: JobId) {
        self.inner().rows.get_mut(&id).expect("is there").lease_until = Some(Timestamp::MIN);
    }

    /// Answers the call, unless this is the one that goes wrong.
    async fn call<T>(&self, act: impl FnOnce(&mut Inner, Timestamp) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.life.go_on().await;
        // Others get a turn, as with a real store.
        tokio::task::yield_now().await;
        let now = self.clock.now();
        let (answer, dies) = {
            let mut inner = self.inner();
            inner.calls += 1;
            let is_this = |call: Option<(u64, When)>| call.filter(|(number, _)| *number == inner.calls);
            let fails = is_this(inner.fail_call).map(|(_, when)| when);
            let dies = is_this(inner.die_at_call).map(|(_, when)| when);
            if inner.is_away || fails == Some(When::Before) || dies == Some(When::Before) {
                (Err(unavailable()), dies)
            } else {
                let answer = act(&mut inner, now);
                (if fails == Some(When::After) { Err(unavailable()) } else { answer }, dies)
            }
        };
        if dies.is_some() {
            self.life.end();
            self.life.go_on().await;
        }
        answer
    }
}

fn is_found(job: &Job, filter: &JobFilter) -> bool {
    (filter.states.is_empty() || filter.states.contains(&job.state.name()))
        && (filter.kinds.is_empty() || filter.kinds.contains(&job.spec.kind))
        && (filter.name.is_none() || filter.name == job.spec.name)
        && filter.requester.as_ref().is_none_or(|requester| *requester == job.origin.requester)
        && filter.created_after.is_none_or(|time| job.created_at > time)
        && filter.created_before.is_none_or(|time| job.created_at < time)
}

fn unavailable() -> StoreError {
    StoreError::Unavailable("the fake is away".into())
}

impl Inner {
    fn row(&mut self, id: JobId) -> Result<&mut Row, StoreError> {
        self.rows.get_mut(&id).ok_or(StoreError::NotFound)
    }

    fn add_events(&mut self, job: JobId, events: &[JobEvent]) {
        for event in events {
            let seq = EventSeq(self.events.last().map_or(0, |last| last.seq.0) + 1);
            self.events.push(StoredEvent { seq, job, event: event.clone() });
        }
    }

    fn check_save(&mut self, before: &Job, after: &Job, events: &[JobEvent]) {
        let mut say = |rule: &str| self.broken_rules.push(format!("{rule}: {before:?} became {after:?}"));
        let (from, to) = (before.state.name(), after.state.name());
        use StateName::{Accepted, Granting, Mounting, Releasing, Working};
        let is_step = from == to
            || match from {
                Accepted => matches!(to, Granting) || to.is_ended(),
                Granting => matches!(to, Mounting | Releasing),
                Mounting => matches!(to, Working | Releasing),
                Working => matches!(to, Releasing),
                Releasing => matches!(to, Accepted) || to.is_ended(),
                StateName::Completed | StateName::Cancelled | StateName::Failed => false,
            };
        if !is_step {
            say("a step that is none");
        }
        if from.is_ended() {
            say("an ended job was changed");
        }
        if (to.is_ended() || to == Accepted) && !after.holds.is_empty() {
            say("something is held by a job that does nothing");
        }
        if from != to && !events.iter().any(|event| event.state == to) {
            say("a new state without an event");
        }
        if matches!(to, Granting | Mounting | Working) && after.owner.is_none() {
            say("nobody owns a job that is carried out");
        }
    }
}

#[async_trait]
impl JobStore for FakeStore {
    async fn create(&self, job: &Job, key: Option<&IdempotencyKey>) -> Result<Created, StoreError> {
        self.call(|inner, _| {
            if let Some(key) = key {
                let same =
                    |known: &&(IdempotencyKey, JobId)| known.0.key == key.key && known.0.requester == key.requester;
                if let Some((known, id)) = inner.keys.iter().find(same) {
                    let is_same = known.fingerprint == key.fingerprint;
                    let row = &inner.rows[id];
                    return Ok(if is_same { Created::Known(Box::new(row.job.clone())) } else { Created::KeyReused });
                }
                inner.keys.push((key.clone(), job.id));
            }
            if inner.rows.contains_key(&job.id) {
                inner.broken_rules.push(format!("made twice: {job:?}"));
            }
            let job = Job { version: Version(1), ..job.clone() };
            let row = Row { job, lease_until: None, progress: None, delivery: Delivery::default() };
            inner.rows.insert(row.job.id, row);
            Ok(Created::New(Version(1)))
        })
        .await
    }

    async fn save(&self, job: &Job, events: &[JobEvent]) -> Result<Version, StoreError> {
        let mut dies = None;
        let answer = self
            .call(|inner, _| {
                let before = inner.row(job.id)?.job.clone();
                if (before.version, before.generation) != (job.version, job.generation) {
                    return Err(StoreError::Conflict);
                }
                inner.check_save(&before, job, events);
                inner.saves += 1;
                dies = inner.die_at_save.filter(|(number, _)| *number == inner.saves).map(|(_, when)| when);
                if dies == Some(When::Before) {
                    return Err(unavailable());
                }
                let version = Version(job.version.0 + 1);
                // The owner is what claims made it.
                inner.row(job.id)?.job = Job { version, owner: before.owner, ..job.clone() };
                inner.add_events(job.id, events);
                Ok(version)
            })
            .await;
        if dies.is_some() {
            self.life.end();
            self.life.go_on().await;
        }
        answer
    }

    async fn get(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        self.call(|inner, _| Ok(inner.rows.get(&id).map(|row| row.job.clone()))).await
    }

    async fn list(&self, filter: &JobFilter, page: &Page) -> Result<Vec<Job>, StoreError> {
        self.call(|inner, _| {
            let rows = inner.rows.values().rev().map(|row| &row.job);
            let wanted =
                rows.filter(|job| page.after.is_none_or(|after| job.id < after)).filter(|job| is_found(job, filter));
            Ok(wanted.take(page.size as usize).cloned().collect())
        })
        .await
    }

    async fn unfinished(&self) -> Result<Vec<Job>, StoreError> {
        let unfinished = |row: &&Row| !row.job.state.is_ended();
        self.call(|inner, _| Ok(inner.rows.values().filter(unfinished).map(|row| row.job.clone()).collect())).await
    }

    async fn count_by_state(&self) -> Result<Vec<(StateName, u64)>, StoreError> {
        self.call(|inner, _| {
            let count = |state| inner.rows.values().filter(|row| row.job.state.name() == state).count() as u64;
            Ok(StateName::ALL.into_iter().map(|state| (state, count(state))).collect())
        })
        .await
    }

    async fn claim(
        &self,
        id: JobId,
        version: Version,
        node: &NodeName,
        lease: Duration,
    ) -> Result<Option<Job>, StoreError> {
        self.call(|inner, now| {
            let Ok(row) = inner.row(id) else { return Ok(None) };
            let is_free = row.job.owner.as_ref().is_none_or(|owner| owner == node)
                || row.lease_until.is_none_or(|until| until <= now);
            if row.job.version != version || !is_free || row.job.state.is_ended() {
                return Ok(None);
            }
            row.job.owner = Some(node.clone());
            row.job.generation.0 += 1;
            row.job.version.0 += 1;
            row.lease_until = Some(now + lease);
            Ok(Some(row.job.clone()))
        })
        .await
    }

    async fn renew(
        &self,
        node: &NodeName,
        held: &[(JobId, Generation)],
        lease: Duration,
    ) -> Result<Vec<JobId>, StoreError> {
        self.call(|inner, now| {
            let mut lost = Vec::new();
            for (id, generation) in held {
                match inner.rows.get_mut(id) {
                    Some(row) if row.job.owner.as_ref() == Some(node) && row.job.generation == *generation => {
                        row.lease_until = Some(now + lease);
                    }
                    _ => lost.push(*id),
                }
            }
            Ok(lost)
        })
        .await
    }

    async fn disown(&self, id: JobId, generation: Generation) -> Result<(), StoreError> {
        self.call(|inner, _| {
            if let Ok(row) = inner.row(id)
                && row.job.generation == generation
            {
                (row.job.owner, row.lease_until) = (None, None);
            }
            Ok(())
        })
        .await
    }

    async fn set_progress(&self, id: JobId, generation: Generation, progress: &Progress) -> Result<(), StoreError> {
        self.call(|inner, _| {
            let row = inner.row(id)?;
            if row.job.generation == generation {
                row.progress = Some(progress.clone());
            }
            Ok(())
        })
        .await
    }

    async fn progress(&self, id: JobId) -> Result<Option<Progress>, StoreError> {
        self.call(|inner, _| Ok(inner.rows.get(&id).and_then(|row| row.progress.clone()))).await
    }

    async fn events(
        &self,
        after: EventSeq,
        job: Option<JobId>,
        count_max: u32,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.call(|inner, _| {
            let wanted = inner.events.iter().filter(|stored| stored.seq > after);
            let wanted = wanted.filter(|stored| job.is_none_or(|job| stored.job == job));
            Ok(wanted.take(count_max as usize).cloned().collect())
        })
        .await
    }

    async fn last_event(&self) -> Result<EventSeq, StoreError> {
        self.call(|inner, _| Ok(inner.events.last().map_or(EventSeq(0), |last| last.seq))).await
    }

    async fn undelivered(&self, now: Timestamp, count_max: u32) -> Result<Vec<(Job, Delivery)>, StoreError> {
        self.call(|inner, _| {
            let is_due = |row: &&Row| row.job.state.is_ended() && row.delivery.next_try_at.is_some_and(|at| at <= now);
            let due = inner.rows.values().filter(is_due).map(|row| (row.job.clone(), row.delivery.clone()));
            Ok(due.take(count_max as usize).collect())
        })
        .await
    }

    async fn set_delivery(&self, id: JobId, delivery: &Delivery) -> Result<(), StoreError> {
        self.call(|inner, _| {
            inner.row(id)?.delivery = delivery.clone();
            Ok(())
        })
        .await
    }

    async fn remove(&self, id: JobId) -> Result<(), StoreError> {
        self.call(|inner, _| {
            if inner.rows.remove(&id).is_some_and(|row| !row.job.state.is_ended()) {
                inner.broken_rules.push(format!("removed before its end: {id}"));
            }
            inner.events.retain(|stored| stored.job != id);
            inner.keys.retain(|(_, job)| *job != id);
            Ok(())
        })
        .await
    }

    async fn forget_events(&self, _before: Timestamp) -> Result<u64, StoreError> {
        self.call(|_, _| Ok(0)).await
    }
}
