//! How backups are made and where they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use job::spec::Keep;
use job::{Endpoint, Sensitive};
use oslo::config::DEFAULT;

use super::{Reader, SettingsError};
use crate::database::QuotaSettings;
use crate::migration::AccessMapping;
use crate::template::{self, Command};

/// Upstream's only driver of the data service.
const NFS_DRIVER: &str = "manila.data.drivers.nfs.NFSBackupDriver";
const RESTIC_DRIVER: &str = "restic";

const QUOTA: &str = "quota";
/// Of upstream's drivers the one that counts.
const DB_QUOTA_DRIVER: &str = "DbQuotaDriver";

/// The `backup_*` options, and what deleting a backup needs of `[quota]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupSettings {
    pub driver: BackupDriver,
    pub share_mount_template: String,
    pub share_unmount_template: String,
    pub ignore_files: Vec<String>,
    /// Protocols in lower case.
    pub protocol_access_mapping: AccessMapping,
    pub create_update_interval: Duration,
    pub restore_update_interval: Duration,
    /// Only shown, like `mount_tmp_location`.
    pub mount_tmp_location: PathBuf,
    /// `None`: `backup_mount_export` is not set.
    pub export: Option<MountedExport>,
    pub quota: QuotaSettings,
}

/// `backup_driver`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupDriver {
    /// A directory of files for each backup, on the export.
    Directory,
    Restic(Box<ResticSettings>),
}

/// The restic repository of Manila's backups, or the place of one for each project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResticSettings {
    pub repository: Endpoint,
    pub password_file: PathBuf,
    /// For a repository that is a URL: its first line is `user:password`, or `access key:secret key`.
    pub credentials_file: Option<PathBuf>,
    /// The repository of a project is the directory below that is named after it.
    pub is_per_project: bool,
    /// What pruning leaves.
    pub keep: Keep,
}

/// The export that backups are kept on, and how it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedExport {
    pub export: String,
    pub proto: String,
    pub options: String,
    pub mount_template: String,
    pub unmount_template: String,
}

impl MountedExport {
    /// The commands of the export.
    pub fn endpoint(&self) -> Result<Endpoint, String> {
        let command = Command {
            mount: &self.mount_template,
            unmount: &self.unmount_template,
            proto: &self.proto,
            export: &self.export,
            options: &self.options,
        };
        command.endpoint()
    }
}

impl Reader<'_> {
    pub(super) fn backup(&self) -> Result<BackupSettings, SettingsError> {
        let export = self.export()?;
        let mapping = self.values.get_list_dict(DEFAULT, "backup_protocol_access_mapping")?.unwrap_or_default();
        let lower = |protocols: Vec<String>| protocols.iter().map(|protocol| protocol.to_lowercase()).collect();
        let quota_driver = self.values.get_str(QUOTA, "driver")?.unwrap_or_default();
        Ok(BackupSettings {
            driver: self.driver(export.as_ref())?,
            share_mount_template: self.template("backup_share_mount_template")?,
            share_unmount_template: self.template("backup_share_unmount_template")?,
            ignore_files: self.values.get_list(DEFAULT, "backup_ignore_files")?.unwrap_or_default(),
            protocol_access_mapping: mapping.into_iter().map(|(kind, protocols)| (kind, lower(protocols))).collect(),
            create_update_interval: self.seconds("backup_continue_update_interval")?,
            restore_update_interval: self.seconds("restore_continue_update_interval")?,
            mount_tmp_location: self.needed("backup_mount_tmp_location")?.into(),
            export,
            quota: QuotaSettings {
                is_counted: quota_driver.rsplit('.').next() == Some(DB_QUOTA_DRIVER),
                reservation_expire: self.seconds_in(QUOTA, "reservation_expire")?,
            },
        })
    }

    fn export(&self) -> Result<Option<MountedExport>, SettingsError> {
        const OPTIONS: &str = "backup_mount_options";
        let mount_template = self.template("backup_mount_template")?;
        let unmount_template = self.template("backup_unmount_template")?;
        let options = self.any_text(OPTIONS)?.unwrap_or_default();
        if shlex::split(&options).is_none() {
            return Err(self.wrong(DEFAULT, OPTIONS, "has a quote or a backslash that nothing follows"));
        }
        let proto = self.needed("backup_mount_proto")?;
        let export = self.any_text("backup_mount_export")?;
        Ok(export.map(|export| MountedExport { export, proto, options, mount_template, unmount_template }))
    }

    fn template(&self, name: &'static str) -> Result<String, SettingsError> {
        let template = self.any_text(name)?.unwrap_or_default();
        template::check(&template).map_err(|problem| self.wrong(DEFAULT, name, problem))?;
        Ok(template)
    }

    fn driver(&self, export: Option<&MountedExport>) -> Result<BackupDriver, SettingsError> {
        const NAME: &str = "backup_driver";
        match self.needed(NAME)?.as_str() {
            NFS_DRIVER => Ok(BackupDriver::Directory),
            RESTIC_DRIVER => Ok(BackupDriver::Restic(Box::new(self.restic(export)?))),
            other => {
                let problem = format!(
                    "is `{other}`, which this service does not know; it knows `{NFS_DRIVER}` and `{RESTIC_DRIVER}`"
                );
                Err(self.wrong(DEFAULT, NAME, problem))
            }
        }
    }

    fn restic(&self, export: Option<&MountedExport>) -> Result<ResticSettings, SettingsError> {
        const PASSWORD_FILE: &str = "backup_repository_password_file";
        const REPOSITORY: &str = "backup_repository";
        let password_file = self.file(PASSWORD_FILE)?.ok_or_else(|| {
            let problem = "must be the absolute path of a file: the driver `restic` needs a password";
            self.wrong(DEFAULT, PASSWORD_FILE, problem)
        })?;
        let credentials_file = self.file("backup_repository_credentials_file")?;
        let named = self.any_text(REPOSITORY)?.map(|text| repository(&text).ok_or(()));
        let repository = match (named, export) {
            (Some(Ok(repository)), _) => repository,
            (Some(Err(())), _) => {
                let problem = "must be the absolute path of a directory, or begin with `rest:http://`, \
                     `rest:https://`, `s3:http://` or `s3:https://`";
                return Err(self.wrong(DEFAULT, REPOSITORY, problem));
            }
            (None, Some(export)) => {
                export.endpoint().map_err(|problem| self.wrong(DEFAULT, "backup_mount_export", problem))?
            }
            (None, None) => {
                let problem = "is not set, and neither is backup_mount_export: the driver `restic` has no repository";
                return Err(self.wrong(DEFAULT, REPOSITORY, problem));
            }
        };
        let is_per_project = self.switch(DEFAULT, "backup_repository_per_project")?;
        Ok(ResticSettings { repository, password_file, credentials_file, is_per_project, keep: self.keep()? })
    }

    fn file(&self, name: &'static str) -> Result<Option<PathBuf>, SettingsError> {
        match self.any_text(name)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => Err(self.wrong(DEFAULT, name, "must be the absolute path of a file")),
            path => Ok(path),
        }
    }

    fn keep(&self) -> Result<Keep, SettingsError> {
        const NAME: &str = "backup_retention";
        let mut keep = Keep::default();
        for (word, count) in self.values.get_dict(DEFAULT, NAME)?.unwrap_or_default() {
            let slot = match word.as_str() {
                "last" => Some(&mut keep.last),
                "hourly" => Some(&mut keep.hourly),
                "daily" => Some(&mut keep.daily),
                "weekly" => Some(&mut keep.weekly),
                "monthly" => Some(&mut keep.monthly),
                "yearly" => Some(&mut keep.yearly),
                _ => None,
            };
            let count = count.parse::<u32>().ok().filter(|count| *count > 0);
            let (Some(slot), Some(count)) = (slot, count) else {
                let problem = format!(
                    "has `{}`: it is a number above 0 for each of last, hourly, daily, weekly, monthly, yearly",
                    word.escape_debug()
                );
                return Err(self.wrong(DEFAULT, NAME, problem));
            };
            *slot = Some(count);
        }
        Ok(keep)
    }
}

/// Where a repository is, as restic writes it.
fn repository(text: &str) -> Option<Endpoint> {
    const SCHEMES: [&str; 4] = ["rest:http://", "rest:https://", "s3:http://", "s3:https://"];
    if SCHEMES.iter().any(|scheme| text.starts_with(scheme)) {
        return Some(Endpoint::Url { url: Sensitive::new(text) });
    }
    Path::new(text).is_absolute().then(|| Endpoint::Directory { path: text.into() })
}
