//! Manila's database in memory, with the meaning that the trait gives each method.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use manila::database::{
    AccessRule, Backup, BackupChange, BackupEnd, BackupWork, Database, DatabaseError, ExportLocation, Mapping, NewRule,
    QuotaSettings, ServiceId, ServiceIdentity, ServiceRow, Share, ShareInstance, TaskStateChange, UserMessage,
};

use super::{Journal, lock};

/// How the database behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// Does not answer.
    Away,
    /// Answers, and refuses.
    Refuses,
}

#[derive(Debug)]
pub(crate) struct FakeDatabase {
    journal: Journal,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) trouble: Trouble,
    /// Messages alone are refused.
    pub(crate) refuses_messages: bool,
    pub(crate) shares: BTreeMap<String, Share>,
    pub(crate) instances: BTreeMap<String, ShareInstance>,
    pub(crate) rules: Vec<StoredRule>,
    pub(crate) services: Vec<ServiceRow>,
    pub(crate) messages: BTreeMap<String, UserMessage>,
    pub(crate) beats: u64,
    pub(crate) backups: BTreeMap<String, Backup>,
    /// `share_backups.fail_reason`
    pub(crate) reasons: BTreeMap<String, String>,
    /// `shares.source_backup_id`
    pub(crate) source_backups: BTreeMap<String, String>,
    /// By their instance.
    pub(crate) locations: BTreeMap<String, Vec<ExportLocation>>,
    /// Of a release without backups.
    pub(crate) has_no_backups: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct StoredRule {
    pub(crate) share_id: String,
    pub(crate) access_type: String,
    pub(crate) access_to: String,
    pub(crate) rule: AccessRule,
}

/// Mappings on their way out.
const LEAVING: [&str; 2] = ["queued_to_deny", "denying"];

impl FakeDatabase {
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, tables: Mutex::default() }
    }

    /// Looks at the tables, or changes them behind everybody's back.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Tables) -> T) -> T {
        act(&mut lock(&self.tables))
    }

    pub(crate) fn task_state(&self, share_id: &str) -> Option<String> {
        self.with(|tables| tables.shares[share_id].task_state.clone())
    }

    pub(crate) fn set_trouble(&self, trouble: Trouble) {
        self.with(|tables| tables.trouble = trouble);
    }

    /// Answers, unless it is in trouble.
    async fn call<T>(&self, act: impl FnOnce(&mut Tables) -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        // Others get a turn, as with a real one.
        tokio::task::yield_now().await;
        let mut tables = lock(&self.tables);
        match tables.trouble {
            Trouble::None => act(&mut tables),
            Trouble::Away => Err(DatabaseError::Unavailable("the fake is away".into())),
            Trouble::Refuses => Err(DatabaseError::Failed("the fake refuses".into())),
        }
    }
}

impl Tables {
    fn instance(&mut self, id: &str) -> Result<&mut ShareInstance, DatabaseError> {
        let missing = || DatabaseError::NotFound { what: "share instance", id: id.into() };
        self.instances.get_mut(id).ok_or_else(missing)
    }

    fn backups(&mut self) -> Result<&mut BTreeMap<String, Backup>, DatabaseError> {
        if self.has_no_backups { Err(DatabaseError::NoBackups) } else { Ok(&mut self.backups) }
    }

    /// The share's instance and task state, where they are the backup's. Answers what was written.
    fn free_share(&mut self, end: &BackupEnd) -> Option<String> {
        let (busy, failed) = match end.work {
            BackupWork::Create => ("backup_creating", "available"),
            BackupWork::Restore => ("backup_restoring", "backup_restoring_error"),
        };
        if end.work == BackupWork::Restore && self.source_backups.get(&end.share_id) != Some(&end.backup_id) {
            return None;
        }
        let is_busy = |instance: &&mut ShareInstance| {
            instance.share_id == end.share_id && instance.status.as_deref() == Some(busy)
        };
        let instance = self.instances.values_mut().find(is_busy)?;
        let to = if end.fail_reason.is_some() { failed } else { "available" };
        instance.status = Some(to.into());
        self.shares.get_mut(&end.share_id)?.task_state = None;
        Some(format!("task_state NULL, share {to}"))
    }

    fn mappings_mut(&mut self) -> impl Iterator<Item = &mut Mapping> {
        self.rules.iter_mut().flat_map(|stored| stored.rule.mappings.iter_mut())
    }
}

#[async_trait]
impl Database for FakeDatabase {
    async fn register(&self, service: &ServiceIdentity) -> Result<ServiceId, DatabaseError> {
        self.call(|tables| {
            self.journal.note(format!("register {}", service.host));
            if let Some(row) = tables.services.iter_mut().find(|row| row.host == service.host) {
                row.state = Some("down".into());
                return Ok(row.id);
            }
            let id = ServiceId(tables.services.len() as i64 + 1);
            let state = Some("up".into());
            let row = ServiceRow { id, host: service.host.clone(), is_disabled: false, state, age: Duration::ZERO };
            tables.services.push(row);
            Ok(id)
        })
        .await
    }

    async fn beat(&self, id: ServiceId, _: &ServiceIdentity, _: Duration) -> Result<ServiceId, DatabaseError> {
        self.call(|tables| {
            tables.beats += 1;
            tables.services.iter_mut().filter(|row| row.id == id).for_each(|row| row.state = Some("up".into()));
            Ok(id)
        })
        .await
    }

    async fn set_stopped(&self, id: ServiceId) -> Result<(), DatabaseError> {
        self.call(|tables| {
            self.journal.note("stopped");
            tables.services.iter_mut().filter(|row| row.id == id).for_each(|row| row.state = Some("stopped".into()));
            Ok(())
        })
        .await
    }

    async fn remove_stopped(&self, _: &str, _: Duration) -> Result<u64, DatabaseError> {
        self.call(|_| Ok(0)).await
    }

    async fn services(&self, _: &str) -> Result<Vec<ServiceRow>, DatabaseError> {
        self.call(|tables| Ok(tables.services.clone())).await
    }

    async fn share(&self, id: &str) -> Result<Option<Share>, DatabaseError> {
        self.call(|tables| Ok(tables.shares.get(id).cloned())).await
    }

    async fn instance(&self, id: &str) -> Result<Option<ShareInstance>, DatabaseError> {
        self.call(|tables| Ok(tables.instances.get(id).cloned())).await
    }

    async fn instances(&self, share_id: &str) -> Result<Vec<ShareInstance>, DatabaseError> {
        let of_share = |instance: &&ShareInstance| instance.share_id == share_id;
        self.call(|tables| Ok(tables.instances.values().filter(of_share).cloned().collect())).await
    }

    async fn set_task_state(
        &self,
        share_id: &str,
        to: Option<&str>,
        from: &[Option<&str>],
    ) -> Result<TaskStateChange, DatabaseError> {
        self.call(|tables| {
            let missing = || DatabaseError::NotFound { what: "share", id: share_id.into() };
            let share = tables.shares.get_mut(share_id).ok_or_else(missing)?;
            if share.task_state.as_deref() == to {
                return Ok(TaskStateChange::Same);
            }
            if !from.contains(&share.task_state.as_deref()) {
                return Ok(TaskStateChange::Other(share.task_state.clone()));
            }
            self.journal.note(format!("task_state {}", to.unwrap_or("NULL")));
            share.task_state = to.map(str::to_owned);
            Ok(TaskStateChange::Changed)
        })
        .await
    }

    async fn shares_in(&self, task_states: &[&str]) -> Result<Vec<Share>, DatabaseError> {
        let wanted = |share: &&Share| share.task_state.as_deref().is_some_and(|state| task_states.contains(&state));
        self.call(|tables| Ok(tables.shares.values().filter(wanted).cloned().collect())).await
    }

    async fn rules_for(
        &self,
        share_id: &str,
        access_type: &str,
        access_to: &str,
    ) -> Result<Vec<AccessRule>, DatabaseError> {
        let wanted = |stored: &&StoredRule| {
            (stored.share_id.as_str(), stored.access_type.as_str(), stored.access_to.as_str())
                == (share_id, access_type, access_to)
        };
        self.call(|tables| Ok(tables.rules.iter().filter(wanted).map(|stored| stored.rule.clone()).collect())).await
    }

    async fn allow(&self, new: &NewRule) -> Result<bool, DatabaseError> {
        self.call(|tables| {
            if tables.mappings_mut().any(|mapping| mapping.id == new.mapping_id) {
                return Ok(false);
            }
            tables.instance(&new.instance_id)?.access_rules_status = Some("syncing".into());
            self.journal.note(format!("allow {} on {}", new.access_to, new.instance_id));
            let mapping = Mapping {
                id: new.mapping_id.clone(),
                instance_id: new.instance_id.clone(),
                state: Some("queued_to_apply".into()),
            };
            match tables.rules.iter_mut().find(|stored| stored.rule.id == new.rule_id) {
                Some(stored) => stored.rule.mappings.push(mapping),
                None => tables.rules.push(StoredRule {
                    share_id: new.share_id.clone(),
                    access_type: new.access_type.clone(),
                    access_to: new.access_to.clone(),
                    rule: AccessRule {
                        id: new.rule_id.clone(),
                        access_level: Some("rw".into()),
                        mappings: vec![mapping],
                    },
                }),
            }
            Ok(true)
        })
        .await
    }

    async fn deny(&self, instance_id: &str, mapping_ids: &[&str]) -> Result<u64, DatabaseError> {
        self.call(|tables| {
            let mut count = 0;
            for mapping in tables.mappings_mut().filter(|mapping| mapping_ids.contains(&mapping.id.as_str())) {
                if !mapping.state.as_deref().is_some_and(|state| LEAVING.contains(&state)) {
                    mapping.state = Some("queued_to_deny".into());
                    count += 1;
                }
            }
            if count > 0 {
                tables.instance(instance_id)?.access_rules_status = Some("syncing".into());
                self.journal.note(format!("deny {count} on {instance_id}"));
            }
            Ok(count)
        })
        .await
    }

    async fn mappings(&self, mapping_ids: &[&str]) -> Result<Vec<Mapping>, DatabaseError> {
        let wanted = |mapping: &&mut Mapping| mapping_ids.contains(&mapping.id.as_str());
        self.call(|tables| Ok(tables.mappings_mut().filter(wanted).map(|mapping| mapping.clone()).collect())).await
    }

    async fn backup(&self, id: &str) -> Result<Option<Backup>, DatabaseError> {
        self.call(|tables| Ok(tables.backups()?.get(id).cloned())).await
    }

    async fn backups_in(&self, statuses: &[&str]) -> Result<Vec<Backup>, DatabaseError> {
        let wanted = |backup: &&Backup| backup.status.as_deref().is_some_and(|status| statuses.contains(&status));
        self.call(|tables| Ok(tables.backups()?.values().filter(wanted).cloned().collect())).await
    }

    async fn shares_restored_from(&self, backup_id: &str) -> Result<Vec<String>, DatabaseError> {
        self.call(|tables| {
            let restoring = tables.instances.values().filter(|one| one.status.as_deref() == Some("backup_restoring"));
            let shares = restoring.map(|instance| instance.share_id.clone());
            Ok(shares.filter(|id| tables.source_backups.get(id).is_some_and(|from| from == backup_id)).collect())
        })
        .await
    }

    async fn export_locations(&self, instance_id: &str) -> Result<Vec<ExportLocation>, DatabaseError> {
        self.call(|tables| Ok(tables.locations.get(instance_id).cloned().unwrap_or_default())).await
    }

    async fn begin_backup(&self, id: &str, status: &str, host: Option<&str>) -> Result<BackupChange, DatabaseError> {
        self.call(|tables| {
            let Some(backup) = tables.backups()?.get_mut(id) else { return Ok(BackupChange::Gone) };
            if backup.status.as_deref() != Some(status) {
                return Ok(BackupChange::Other(backup.status.clone()));
            }
            if backup.restore_progress.as_deref() == Some("100") && status == "restoring" {
                backup.restore_progress = Some("0".into());
            }
            match host {
                Some(host) if backup.host.as_deref() != Some(host) => {
                    self.journal.note(format!("backup host {host}"));
                    backup.host = Some(host.into());
                    Ok(BackupChange::Changed)
                }
                _ => Ok(BackupChange::Same),
            }
        })
        .await
    }

    async fn set_backup_progress(&self, id: &str, status: &str, percent: u8) -> Result<BackupChange, DatabaseError> {
        self.call(|tables| {
            let Some(backup) = tables.backups()?.get_mut(id) else { return Ok(BackupChange::Gone) };
            if backup.status.as_deref() != Some(status) {
                return Ok(BackupChange::Other(backup.status.clone()));
            }
            let column = if status == "restoring" { &mut backup.restore_progress } else { &mut backup.progress };
            if column.as_ref().is_some_and(|is| is.parse::<u8>().is_ok_and(|is| is >= percent)) {
                return Ok(BackupChange::Same);
            }
            self.journal.note(format!("progress {percent}"));
            *column = Some(percent.to_string());
            Ok(BackupChange::Changed)
        })
        .await
    }

    async fn end_backup(&self, end: &BackupEnd) -> Result<BackupChange, DatabaseError> {
        self.call(|tables| {
            tables.backups()?;
            let share = if end.keeps_share { None } else { tables.free_share(end) };
            if let Some(line) = &share {
                self.journal.note(line);
            }
            let (status, to, column) = match end.work {
                BackupWork::Create => ("creating", "error", "progress"),
                BackupWork::Restore => ("restoring", "available", "restore_progress"),
            };
            let Some(backup) = tables.backups.get_mut(&end.backup_id) else { return Ok(BackupChange::Gone) };
            if backup.status.as_deref() != Some(status) {
                let other = BackupChange::Other(backup.status.clone());
                return Ok(if share.is_some() { BackupChange::Changed } else { other });
            }
            let (to, percent) = match &end.fail_reason {
                None => ("available", Some("100")),
                Some(reason) => {
                    tables.reasons.insert(end.backup_id.clone(), reason.clone());
                    (to, end.is_lost.then_some("0"))
                }
            };
            let progress = if column == "progress" { &mut backup.progress } else { &mut backup.restore_progress };
            if let Some(percent) = percent {
                *progress = Some(percent.into());
            }
            backup.status = Some(to.into());
            let progress = progress.as_deref().unwrap_or("NULL");
            self.journal.note(format!("backup {to}, {column} {progress}"));
            Ok(BackupChange::Changed)
        })
        .await
    }

    async fn fail_deletion(&self, id: &str, reason: &str) -> Result<BackupChange, DatabaseError> {
        self.call(|tables| {
            let Some(backup) = tables.backups()?.get_mut(id) else { return Ok(BackupChange::Gone) };
            if backup.status.as_deref() != Some("deleting") {
                return Ok(BackupChange::Other(backup.status.clone()));
            }
            backup.status = Some("error_deleting".into());
            tables.reasons.insert(id.into(), reason.into());
            self.journal.note("backup error_deleting");
            Ok(BackupChange::Changed)
        })
        .await
    }

    async fn delete_backup(&self, id: &str, _: &QuotaSettings) -> Result<BackupChange, DatabaseError> {
        self.call(|tables| {
            if tables.backups()?.remove(id).is_none() {
                return Ok(BackupChange::Same);
            }
            self.journal.note("backup deleted");
            Ok(BackupChange::Changed)
        })
        .await
    }

    async fn add_message(&self, message: &UserMessage) -> Result<bool, DatabaseError> {
        self.call(|tables| {
            if tables.refuses_messages {
                return Err(DatabaseError::Failed("no right to write messages".into()));
            }
            if !tables.messages.contains_key(&message.id) {
                self.journal.note("message");
                tables.messages.insert(message.id.clone(), message.clone());
            }
            Ok(true)
        })
        .await
    }

    async fn close(&self) {}
}
