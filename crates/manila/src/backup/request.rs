//! What a request about a backup brings, checked, and the job that it becomes.

use std::path::PathBuf;

use job::spec::{BackupPlan, Format, Hash, OnFault, OnLoss, Verify};
use job::{Endpoint, JobSpec, Kind};
use oslo::messaging::{Arguments, Context, Failure};
use serde_json::{Map, Value};
use tracing::warn;

use super::{BackupAction, BackupTask, REPOSITORY};
use crate::database::{Backup, ExportLocation, Share};
use crate::failures;
use crate::migration::{AccessMapping, Migration};
use crate::request::checked_id;
use crate::settings::{BackupDriver, BackupSettings, Settings};
use crate::template::Command;

/// A request whose identifiers are sound. Everything else is read from the database: what the message says of the
/// backup is older.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BackupRequest {
    pub(super) action: BackupAction,
    pub(super) backup_id: String,
    /// Of a deletion it is in the row alone.
    pub(super) share_id: Option<String>,
}

impl BackupRequest {
    pub(super) fn read(action: BackupAction, args: Map<String, Value>) -> Result<Self, Failure> {
        // In upstream's order, which shows in the text about missing ones.
        let parameters: &[&str] = match action {
            BackupAction::Create | BackupAction::Delete => &["backup"],
            BackupAction::Restore => &["backup", "share_id"],
        };
        let mut args = Arguments::bind(&format!("DataManager.{}", action.method()), args, parameters, &[])?;
        let backup = args.value("backup");
        let id_of = |key: &str| {
            let id = backup.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
            id.and_then(checked_id).ok_or_else(failures::not_found)
        };
        let share_id = match action {
            BackupAction::Create => Some(id_of("share_id")?),
            BackupAction::Restore => Some(checked_id(args.string("share_id")?).ok_or_else(failures::not_found)?),
            BackupAction::Delete => None,
        };
        Ok(Self { action, backup_id: id_of("id")?, share_id })
    }

    /// What names the request among others with the same message identifier.
    pub(super) fn fingerprint(&self) -> String {
        let share_id = self.share_id.as_deref().unwrap_or_default();
        [self.action.method(), self.backup_id.as_str(), share_id].join("/")
    }
}

/// What the rows say of a share that is backed up or restored.
pub(super) struct ShareSide<'a> {
    pub(super) share: &'a Share,
    pub(super) instance_id: &'a str,
    pub(super) locations: &'a [ExportLocation],
}

/// The job that backs up or restores; or why there can be none, in words for whoever looks after Manila.
pub(super) fn share_job(
    action: BackupAction,
    backup: &Backup,
    side: &ShareSide<'_>,
    context: &Context,
    settings: &Settings,
) -> Result<(JobSpec, BackupTask), String> {
    let backups = &settings.backup;
    let protocol = side.share.share_proto.as_deref().unwrap_or_default().to_lowercase();
    let tree = tree(side, &protocol, settings)?;
    let repository = repository(backups)?;
    let mut plan = plan(backup, backups);
    let mut spec = if action == BackupAction::Create {
        plan.init = plan.format == Format::Restic;
        plan.share = Some(backup.share_id.clone());
        plan.tags = tags(backup);
        JobSpec::new(Kind::Backup, tree, repository)
    } else {
        JobSpec::new(Kind::Restore, repository, tree)
    };
    spec.name = Some(Migration::job_name(&side.share.id));
    spec.options.ignore = names(&backups.ignore_files);
    spec.options.on_fault = OnFault::Stop;
    spec.options.on_loss = OnLoss::Report;
    if settings.check_hash {
        spec.options.verify = Some(Verify::Content);
        spec.options.hash = Hash::Sha256;
    }
    spec.backup = Some(plan);
    let task = BackupTask {
        action,
        backup_id: backup.id.clone(),
        share_id: side.share.id.clone(),
        instance_id: Some(side.instance_id.into()),
        access: access(&protocol, &backups.protocol_access_mapping),
        context: context.without_secrets(),
    };
    Ok((spec, task))
}

pub(super) fn deletion_job(
    backup: &Backup,
    context: &Context,
    settings: &Settings,
) -> Result<(JobSpec, BackupTask), String> {
    let mut spec = JobSpec::new(Kind::Delete, Endpoint::None, repository(&settings.backup)?);
    spec.name = Some(BackupTask::deletion_name(&backup.id));
    spec.backup = Some(plan(backup, &settings.backup));
    let task = BackupTask {
        action: BackupAction::Delete,
        backup_id: backup.id.clone(),
        share_id: backup.share_id.clone(),
        instance_id: None,
        access: AccessMapping::new(),
        context: context.without_secrets(),
    };
    Ok((spec, task))
}

/// The share, as it is mounted here.
fn tree(side: &ShareSide<'_>, protocol: &str, settings: &Settings) -> Result<Endpoint, String> {
    let instance_id = side.instance_id;
    let location = choose(side.locations)
        .ok_or_else(|| format!("share instance {instance_id} has no export location by which it could be mounted"))?;
    let options = settings.data_node_mount_options.get(protocol).map(String::as_str).unwrap_or_default();
    let command = Command {
        mount: &settings.backup.share_mount_template,
        unmount: &settings.backup.share_unmount_template,
        proto: protocol,
        export: &location.path,
        options,
    };
    let of_instance = |problem| format!("the mount command of share instance {instance_id} {problem}");
    command.endpoint().map_err(of_instance)
}

/// The first location that is for administrators, else the first one, as upstream chooses; among equals one that the
/// back end prefers.
fn choose(locations: &[ExportLocation]) -> Option<&ExportLocation> {
    locations.iter().min_by_key(|location| (!location.is_admin_only, !location.is_preferred))
}

fn repository(settings: &BackupSettings) -> Result<Endpoint, String> {
    match (&settings.driver, &settings.export) {
        (BackupDriver::Restic(_), _) => Ok(Endpoint::Repository { name: REPOSITORY.into() }),
        (BackupDriver::Directory, Some(export)) => {
            export.endpoint().map_err(|problem| format!("backup_mount_export or its template {problem}"))
        }
        (BackupDriver::Directory, None) => {
            Err("backup_mount_export is not set on the data service: there is no place for backups".into())
        }
    }
}

fn plan(backup: &Backup, settings: &BackupSettings) -> BackupPlan {
    let id = Some(backup.id.clone());
    match &settings.driver {
        BackupDriver::Directory => BackupPlan { format: Format::Directory, id, ..BackupPlan::default() },
        BackupDriver::Restic(restic) => {
            let subdir = restic.is_per_project.then(|| project_directory(backup.project_id.as_deref()));
            BackupPlan { format: Format::Restic, id, subdir, ..BackupPlan::default() }
        }
    }
}

fn tags(backup: &Backup) -> Vec<String> {
    let project = backup.project_id.as_deref().map(|id| format!("manila-project={}", plain(id)));
    let share = format!("manila-share={}", plain(&backup.share_id));
    [share].into_iter().chain(project).collect()
}

/// The directory of a project's repository. Identifiers of projects are Keystone's, and nearly always plain.
fn project_directory(project_id: Option<&str>) -> PathBuf {
    match project_id {
        Some(id) if !id.is_empty() => plain(id).into(),
        _ => "no-project".into(),
    }
}

/// The text, if it can be the name of a directory and part of a tag; else its bytes in hexadecimal digits.
fn plain(text: &str) -> String {
    const BYTES_MAX: usize = 100;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.len() <= BYTES_MAX && text.bytes().all(is_plain) {
        return text.into();
    }
    text.bytes().take(BYTES_MAX).fold("x.".to_owned(), |mut hex, byte| {
        hex.extend([byte >> 4, byte & 0xf].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)])));
        hex
    })
}

/// Access types that are used for the share's protocol, as in a migration's mapping.
fn access(protocol: &str, mapping: &AccessMapping) -> AccessMapping {
    let uses = |protocols: &[String]| protocols.iter().any(|other| other == protocol);
    let used = mapping.iter().filter(|(_, protocols)| uses(protocols));
    used.map(|(access_type, _)| (access_type.to_lowercase(), vec![protocol.to_owned()])).collect()
}

/// Those that a file can have: by others upstream leaves out nothing either.
fn names(list: &[String]) -> Vec<String> {
    let is_name = |name: &&String| {
        let is_name = !(name.is_empty() || *name == "." || *name == ".." || name.contains(['/', '\0']));
        if !is_name {
            warn!(name, "backup_ignore_files names what no file is called; left out");
        }
        is_name
    };
    list.iter().filter(is_name).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_location_for_administrators_comes_first() {
        let location =
            |path: &str, is_admin_only, is_preferred| ExportLocation { path: path.into(), is_admin_only, is_preferred };
        let check = |locations: &[ExportLocation], expected: Option<&str>| {
            assert_eq!(choose(locations).map(|location| location.path.as_str()), expected, "{locations:?}");
        };
        check(&[], None);
        check(&[location("a", false, false), location("b", false, false)], Some("a"));
        check(&[location("a", false, false), location("b", false, true)], Some("b"));
        check(&[location("a", false, true), location("b", true, false), location("c", true, false)], Some("b"));
        check(&[location("a", true, false), location("b", true, true)], Some("b"));
    }

    #[test]
    fn projects_have_directories_of_their_own() {
        let check = |id: Option<&str>, expected: &str| assert_eq!(project_directory(id), PathBuf::from(expected));
        check(Some("8f0d0c1e6c8e4f0f9a4b0f1d2e3c4b5a"), "8f0d0c1e6c8e4f0f9a4b0f1d2e3c4b5a");
        check(Some("a_B-1"), "a_B-1");
        check(Some("../é"), "x.2e2e2fc3a9");
        check(None, "no-project");
        check(Some(""), "no-project");
    }

    #[test]
    fn access_is_by_the_shares_protocol() {
        let mapping: AccessMapping =
            [("IP".to_owned(), vec!["nfs".to_owned(), "cifs".into()]), ("user".to_owned(), vec!["cifs".into()])].into();
        let types = |protocol: &str| access(protocol, &mapping).into_keys().collect::<Vec<_>>();
        assert_eq!(types("nfs"), ["ip"]);
        assert_eq!(types("cifs"), ["ip", "user"]);
        assert_eq!(types("cephfs"), Vec::<String>::new());
    }
}
