//! Ports that several adapters share: each is asked about what is its own.

use async_trait::async_trait;
use job::{AccessError, Hold, Job, Notifier, NotifyError, PassKind, ShareAccess};
use manila::{ManilaAccess, ManilaNotifier};
use web::Webhooks;
use work::HookAccess;

/// Hooks for every job, and access rules for those of Manila.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) hooks: HookAccess,
    /// `None`: the service knows no Manila.
    pub(super) manila: Option<ManilaAccess>,
}

impl Access {
    fn of(&self, hold: &Hold) -> &dyn ShareAccess {
        match (&self.manila, hold) {
            (Some(manila), Hold::Access { .. }) => manila,
            _ => &self.hooks,
        }
    }
}

#[async_trait]
impl ShareAccess for Access {
    fn needed(&self, job: &Job, pass: PassKind) -> Vec<Hold> {
        let mut holds = self.manila.as_ref().map_or_else(Vec::new, |manila| manila.needed(job, pass));
        holds.extend(self.hooks.needed(job, pass));
        holds
    }

    async fn take(&self, job: &Job, hold: &Hold) -> Result<Hold, AccessError> {
        self.of(hold).take(job, hold).await
    }

    async fn give_back(&self, job: &Job, hold: &Hold) -> Result<(), AccessError> {
        self.of(hold).give_back(job, hold).await
    }
}

/// Manila for its own jobs, webhooks for those that name one.
#[derive(Debug)]
pub(super) struct Notifiers {
    pub(super) webhooks: Webhooks,
    pub(super) manila: Option<ManilaNotifier>,
}

#[async_trait]
impl Notifier for Notifiers {
    fn wants(&self, job: &Job) -> bool {
        self.webhooks.wants(job) || self.manila.as_ref().is_some_and(|manila| manila.wants(job))
    }

    async fn tell(&self, job: &Job) -> Result<(), NotifyError> {
        if let Some(manila) = self.manila.as_ref().filter(|manila| manila.wants(job)) {
            manila.tell(job).await?;
        }
        if self.webhooks.wants(job) {
            self.webhooks.tell(job).await?;
        }
        Ok(())
    }
}
