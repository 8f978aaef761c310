//! What the service sees of the world: a database and share managers.

use std::time::Duration;

use async_trait::async_trait;
use manila::database::{
    AccessRule, Backup, BackupChange, BackupEnd, Database, DatabaseError, ExportLocation, Mapping, NewRule,
    QuotaSettings, ServiceId, ServiceIdentity, ServiceRow, Share, ShareInstance, TaskStateChange, UserMessage,
};
use manila::share_manager::{CastError, ShareManager};
use oslo::messaging::Context;

use crate::world::{Rule, RuleOnInstance, Sent, World, away};

#[async_trait]
impl Database for World {
    async fn register(&self, _: &ServiceIdentity) -> Result<ServiceId, DatabaseError> {
        unreachable!("access rules need no heartbeat")
    }

    async fn beat(&self, _: ServiceId, _: &ServiceIdentity, _: Duration) -> Result<ServiceId, DatabaseError> {
        unreachable!("access rules need no heartbeat")
    }

    async fn set_stopped(&self, _: ServiceId) -> Result<(), DatabaseError> {
        unreachable!("access rules need no heartbeat")
    }

    async fn remove_stopped(&self, _: &str, _: Duration) -> Result<u64, DatabaseError> {
        unreachable!("access rules need no heartbeat")
    }

    async fn services(&self, _: &str) -> Result<Vec<ServiceRow>, DatabaseError> {
        unreachable!("access rules need no heartbeat")
    }

    async fn share(&self, _: &str) -> Result<Option<Share>, DatabaseError> {
        unreachable!("access rules are about instances")
    }

    async fn instances(&self, _: &str) -> Result<Vec<ShareInstance>, DatabaseError> {
        unreachable!("the instances are known")
    }

    async fn set_task_state(
        &self,
        _: &str,
        _: Option<&str>,
        _: &[Option<&str>],
    ) -> Result<TaskStateChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn shares_in(&self, _: &[&str]) -> Result<Vec<Share>, DatabaseError> {
        unreachable!("access rules are about instances")
    }

    async fn backup(&self, _: &str) -> Result<Option<Backup>, DatabaseError> {
        unreachable!("access rules are about shares")
    }

    async fn backups_in(&self, _: &[&str]) -> Result<Vec<Backup>, DatabaseError> {
        unreachable!("access rules are about shares")
    }

    async fn shares_restored_from(&self, _: &str) -> Result<Vec<String>, DatabaseError> {
        unreachable!("access rules are about instances")
    }

    async fn export_locations(&self, _: &str) -> Result<Vec<ExportLocation>, DatabaseError> {
        unreachable!("nothing is mounted")
    }

    async fn begin_backup(&self, _: &str, _: &str, _: Option<&str>) -> Result<BackupChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn set_backup_progress(&self, _: &str, _: &str, _: u8) -> Result<BackupChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn end_backup(&self, _: &BackupEnd) -> Result<BackupChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn fail_deletion(&self, _: &str, _: &str) -> Result<BackupChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn delete_backup(&self, _: &str, _: &QuotaSettings) -> Result<BackupChange, DatabaseError> {
        unreachable!("states are somebody else's")
    }

    async fn add_message(&self, _: &UserMessage) -> Result<bool, DatabaseError> {
        unreachable!("messages are somebody else's")
    }

    async fn close(&self) {}

    async fn instance(&self, id: &str) -> Result<Option<ShareInstance>, DatabaseError> {
        self.operation(|state| {
            Ok(state.instances.get(id).map(|instance| ShareInstance {
                id: id.into(),
                share_id: instance.share.clone(),
                host: instance.host.clone(),
                status: Some("migrating".into()),
                access_rules_status: Some(instance.rules_status.clone()),
                cast_rules_to_readonly: false,
            }))
        })
        .await
    }

    async fn rules_for(
        &self,
        share_id: &str,
        access_type: &str,
        access_to: &str,
    ) -> Result<Vec<AccessRule>, DatabaseError> {
        self.operation(|state| {
            let is_it = |rule: &Rule| {
                (rule.share.as_str(), rule.access_type.as_str(), rule.access_to.as_str())
                    == (share_id, access_type, access_to)
                    && !rule.is_deleted
            };
            let mappings_of = |rule: &str| {
                let of_rule = state.mappings.iter().filter(|(_, mapping)| mapping.rule == rule && !mapping.is_deleted);
                of_rule.map(|(id, mapping)| shown(id, mapping)).collect()
            };
            let found = state.rules.iter().filter(|(_, rule)| is_it(rule));
            Ok(found
                .map(|(id, rule)| AccessRule {
                    id: id.clone(),
                    access_level: Some(rule.level.clone()),
                    mappings: mappings_of(id),
                })
                .collect())
        })
        .await
    }

    async fn allow(&self, rule: &NewRule) -> Result<bool, DatabaseError> {
        let mut sent = Sent { world: self, rule, is_answered: false };
        let answer = self.operation(|state| state.allow(rule)).await;
        sent.is_answered = true;
        answer
    }

    async fn deny(&self, instance_id: &str, mapping_ids: &[&str]) -> Result<u64, DatabaseError> {
        self.operation(|state| {
            if !state.instances.contains_key(instance_id) {
                return Err(DatabaseError::NotFound { what: "share instance", id: instance_id.into() });
            }
            let mut count = 0;
            for id in mapping_ids {
                let Some(mapping) = state.mappings.get_mut(*id).filter(|mapping| !mapping.is_deleted) else { continue };
                assert!(!state.rules[&mapping.rule].is_tenants, "rules of others are left alone");
                assert_eq!(mapping.instance, instance_id);
                if !["queued_to_deny", "denying"].contains(&mapping.state.as_str()) {
                    mapping.state = "queued_to_deny".into();
                    count += 1;
                }
            }
            if count > 0 {
                state.summarise(instance_id, "syncing");
            }
            Ok(count)
        })
        .await
    }

    async fn mappings(&self, mapping_ids: &[&str]) -> Result<Vec<Mapping>, DatabaseError> {
        self.operation(|state| {
            let alive =
                state.mappings.iter().filter(|(id, mapping)| mapping_ids.contains(&id.as_str()) && !mapping.is_deleted);
            Ok(alive.map(|(id, mapping)| shown(id, mapping)).collect())
        })
        .await
    }
}

fn shown(id: &str, mapping: &RuleOnInstance) -> Mapping {
    Mapping { id: id.into(), instance_id: mapping.instance.clone(), state: Some(mapping.state.clone()) }
}

#[async_trait]
impl ShareManager for World {
    async fn update_access(&self, context: &Context, host: &str, instance_id: &str) -> Result<(), CastError> {
        assert_eq!(context.request_id(), Some("req-1"), "the words of whoever asked for the migration");
        let sent = self
            .operation(|state| {
                assert_eq!(state.instances[instance_id].host.as_deref(), Some(host));
                if state.goes_wrong(|faults| faults.cast_fails) {
                    return Err(away());
                }
                state.casts.push((host.into(), instance_id.into()));
                if !state.goes_wrong(|faults| faults.cast_lost) {
                    state.inbox.push_back(instance_id.into());
                }
                Ok(())
            })
            .await;
        sent.map_err(|error| CastError { after: Duration::from_secs(30), what: error.to_string() })
    }

    async fn migration_complete(&self, _: &Context, _: &str, _: &str, _: &str) -> Result<(), CastError> {
        unreachable!("ends are told by somebody else")
    }
}
