//! Access rules, hooks and somebody who wants to be told.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use job::{
    AccessError, FollowError, Follower, Hold, Job, JobId, Next, Notifier, NotifyError, PassKind, ShareAccess, Side,
    State, StateName,
};
use tokio::time::sleep;

use super::store::FakeStore;
use super::world::{Life, lock};

#[derive(Debug)]
pub(crate) struct FakeAccess {
    store: Arc<FakeStore>,
    life: Arc<Life>,
    taken: Mutex<BTreeSet<String>>,
    /// What is done with a hold takes so long.
    pub(crate) delay: Mutex<Duration>,
    pub(crate) take_failures: Mutex<u32>,
    pub(crate) give_back_failures: Mutex<u32>,
}

impl FakeAccess {
    pub(crate) fn new(store: Arc<FakeStore>, life: Arc<Life>) -> Self {
        Self {
            store,
            life,
            taken: Mutex::default(),
            delay: Mutex::default(),
            take_failures: Mutex::default(),
            give_back_failures: Mutex::default(),
        }
    }

    /// Everything that somebody would have to give back.
    pub(crate) fn taken(&self) -> Vec<String> {
        lock(&self.taken).iter().cloned().collect()
    }

    async fn pass_time(&self) {
        self.life.go_on().await;
        let delay = *lock(&self.delay);
        sleep(delay).await;
        self.life.go_on().await;
    }
}

fn key(job: &Job, hold: &Hold) -> String {
    format!("{} of {}", hold.what(), job.id)
}

fn fails(count: &Mutex<u32>) -> Result<(), AccessError> {
    let mut count = lock(count);
    if *count == 0 {
        return Ok(());
    }
    *count -= 1;
    Err(AccessError { side: None, message: "the share service said no".into() })
}

#[async_trait]
impl ShareAccess for FakeAccess {
    fn needed(&self, job: &Job, pass: PassKind) -> Vec<Hold> {
        let access = |side| Hold::Access { side, grant: String::new() };
        let hook = job.spec.migrate.hook.clone().filter(|_| pass == PassKind::Final);
        [access(Side::Source), access(Side::Dest)].into_iter().chain(hook.map(|hook| Hold::ReadOnly { hook })).collect()
    }

    async fn take(&self, job: &Job, hold: &Hold) -> Result<Hold, AccessError> {
        self.life.go_on().await;
        if !self.store.job(job.id).holds.iter().any(|held| held.is_same(hold)) {
            self.store.broken(format!("taken before it was held: {hold:?} of {job:?}"));
        }
        fails(&self.take_failures)?;
        self.pass_time().await;
        if !lock(&self.taken).insert(key(job, hold)) {
            self.store.broken(format!("taken twice: {hold:?} of {job:?}"));
        }
        Ok(match hold {
            Hold::Access { side, .. } => Hold::Access { side: *side, grant: "rule 7".into() },
            other => other.clone(),
        })
    }

    async fn give_back(&self, job: &Job, hold: &Hold) -> Result<(), AccessError> {
        self.life.go_on().await;
        fails(&self.give_back_failures)?;
        self.pass_time().await;
        // One that was never taken, or is gone, is fine.
        lock(&self.taken).remove(&key(job, hold));
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct FakeNotifier {
    store: Arc<FakeStore>,
    life: Arc<Life>,
    told: Mutex<Vec<(JobId, StateName)>>,
    pub(crate) failures: Mutex<u32>,
    pub(crate) fails_for_good: Mutex<bool>,
}

impl FakeNotifier {
    pub(crate) fn new(store: Arc<FakeStore>, life: Arc<Life>) -> Self {
        Self { store, life, told: Mutex::default(), failures: Mutex::default(), fails_for_good: Mutex::default() }
    }

    pub(crate) fn told(&self) -> Vec<(JobId, StateName)> {
        lock(&self.told).clone()
    }
}

#[async_trait]
impl Notifier for FakeNotifier {
    fn wants(&self, job: &Job) -> bool {
        job.spec.webhook.is_some()
    }

    async fn tell(&self, job: &Job) -> Result<(), NotifyError> {
        self.life.go_on().await;
        if !self.store.job(job.id).state.is_ended() {
            self.store.broken(format!("told before its end was durable: {job:?}"));
        }
        if *lock(&self.fails_for_good) {
            return Err(NotifyError { message: "gone".into(), is_final: true, retry_after: None });
        }
        {
            let mut failures = lock(&self.failures);
            if *failures > 0 {
                *failures -= 1;
                return Err(NotifyError { message: "refused".into(), is_final: false, retry_after: None });
            }
        }
        lock(&self.told).push((job.id, job.state.name()));
        Ok(())
    }
}

/// Somebody who is shown each state. What he was shown last decides what may happen.
#[derive(Debug)]
pub(crate) struct FakeFollower {
    store: Arc<FakeStore>,
    life: Arc<Life>,
    shown: Mutex<Vec<(JobId, StateName)>>,
    /// Answers to come, for states of this name; without any he is content.
    pub(crate) answers: Mutex<VecDeque<(StateName, FollowError)>>,
}

impl FakeFollower {
    pub(crate) fn new(store: Arc<FakeStore>, life: Arc<Life>) -> Self {
        Self { store, life, shown: Mutex::default(), answers: Mutex::default() }
    }

    /// What he was shown of a job, without repetitions.
    pub(crate) fn shown(&self, id: JobId) -> Vec<StateName> {
        let mut shown: Vec<_> =
            lock(&self.shown).iter().filter(|(job, _)| *job == id).map(|(_, state)| *state).collect();
        shown.dedup();
        shown
    }

    pub(crate) fn away(&self, state: StateName, times: usize) {
        lock(&self.answers).extend(vec![(state, FollowError::Away("the owner is away".into())); times]);
    }

    pub(crate) fn refuse(&self, state: StateName) {
        lock(&self.answers).push_back((state, FollowError::Refused("the owner thought better of it".into())));
    }
}

#[async_trait]
impl Follower for FakeFollower {
    async fn follow(&self, job: &Job) -> Result<(), FollowError> {
        self.life.go_on().await;
        let stored = self.store.job(job.id);
        let is_over = matches!(&stored.state, State::Releasing { next: Next::End(_) });
        if stored.state.name() != job.state.name() && !is_over {
            self.store.broken(format!("shown before it was durable: {job:?}"));
        }
        let mut answers = lock(&self.answers);
        if answers.front().is_some_and(|(state, _)| *state == job.state.name()) {
            return Err(answers.pop_front().expect("the one just seen").1);
        }
        lock(&self.shown).push((job.id, job.state.name()));
        Ok(())
    }
}
