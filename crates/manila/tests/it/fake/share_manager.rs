//! Share managers that do at once what they are told, or not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manila::ShareManager;
use manila::database::Mapping;
use manila::share_manager::CastError;
use oslo::messaging::Context;

use super::{FakeDatabase, Journal, lock};

/// How share managers, and the broker before them, behave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Rules are applied and removed as soon as that is asked for.
    #[default]
    Prompt,
    /// Takes messages, and does nothing.
    Silent,
    /// The driver fails: rules get into `error`.
    Fails,
    /// The broker takes no message.
    Unreachable,
}

#[derive(Debug)]
pub(crate) struct FakeShareManager {
    journal: Journal,
    database: Arc<FakeDatabase>,
    manner: Mutex<Manner>,
    /// Of the casts, the oldest first.
    contexts: Mutex<Vec<Context>>,
}

impl FakeShareManager {
    pub(crate) fn new(journal: Journal, database: Arc<FakeDatabase>) -> Self {
        Self { journal, database, manner: Mutex::default(), contexts: Mutex::default() }
    }

    pub(crate) fn behave(&self, manner: Manner) {
        *lock(&self.manner) = manner;
    }

    pub(crate) fn contexts(&self) -> Vec<Context> {
        lock(&self.contexts).clone()
    }

    fn take(&self, context: &Context) -> Result<Manner, CastError> {
        let manner = *lock(&self.manner);
        if manner == Manner::Unreachable {
            return Err(CastError { after: Duration::from_secs(30), what: "the fake broker is away".into() });
        }
        lock(&self.contexts).push(context.clone());
        Ok(manner)
    }
}

#[async_trait]
impl ShareManager for FakeShareManager {
    async fn update_access(&self, context: &Context, host: &str, instance_id: &str) -> Result<(), CastError> {
        let manner = self.take(context)?;
        self.journal.note(format!("cast update_access {instance_id} to {host}"));
        if manner == Manner::Silent {
            return Ok(());
        }
        self.database.with(|tables| {
            for stored in &mut tables.rules {
                let mappings = &mut stored.rule.mappings;
                let of_instance = |mapping: &&mut Mapping| mapping.instance_id == instance_id;
                let state = if manner == Manner::Fails { "error" } else { "active" };
                if manner == Manner::Prompt {
                    mappings.retain(|mapping| {
                        mapping.instance_id != instance_id || mapping.state.as_deref() != Some("queued_to_deny")
                    });
                }
                mappings.iter_mut().filter(of_instance).for_each(|mapping| mapping.state = Some(state.into()));
            }
            tables.rules.retain(|stored| !stored.rule.mappings.is_empty());
            if let Some(instance) = tables.instances.get_mut(instance_id) {
                let status = if manner == Manner::Fails { "error" } else { "active" };
                instance.access_rules_status = Some(status.into());
            }
        });
        Ok(())
    }

    async fn migration_complete(
        &self,
        context: &Context,
        host: &str,
        source_instance_id: &str,
        dest_instance_id: &str,
    ) -> Result<(), CastError> {
        self.take(context)?;
        self.journal.note(format!("cast migration_complete {source_instance_id} {dest_instance_id} to {host}"));
        Ok(())
    }
}
