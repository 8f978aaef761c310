//! `[repository:NAME]`: where backups are kept, and what opens it.

use std::path::{Path, PathBuf};

use job::spec::{Endpoint, Format};
use job::{Keep, Sensitive, mask};
use manila::settings::{BackupDriver, BackupSettings};
use work::Repository;

use super::ConfigError;
use super::options::REPOSITORY_PREFIX;
use super::typed::Reader;

/// How a location begins that is reached over the network, as restic writes it.
const SCHEMES: [&str; 4] = ["rest:http://", "rest:https://", "s3:http://", "s3:https://"];

/// The repository of Manila's backups, for jobs that look after it; `None` where there is no place for any.
pub(super) fn of_manila(settings: &BackupSettings) -> Option<Repository> {
    match &settings.driver {
        BackupDriver::Restic(restic) => Some(Repository {
            endpoint: restic.repository.clone(),
            format: Format::Restic,
            password_file: Some(restic.password_file.clone()),
            credentials_file: restic.credentials_file.clone(),
            keep: restic.keep,
        }),
        BackupDriver::Directory => Some(Repository {
            // What is wrong with it fails the request that needs it.
            endpoint: settings.export.as_ref()?.endpoint().ok()?,
            format: Format::Directory,
            password_file: None,
            credentials_file: None,
            keep: Keep::default(),
        }),
    }
}

impl Reader<'_> {
    pub(super) fn repository(&self, name: &str, group: &str) -> Result<Repository, ConfigError> {
        if name.is_empty() || name != group.strip_prefix(REPOSITORY_PREFIX).unwrap_or_default() {
            let problem = format!("has no place: the section is [{REPOSITORY_PREFIX}NAME], with a name and no spaces");
            return Err(self.wrong(group, "location", problem));
        }
        let format = match self.required(group, "format")?.as_str() {
            "restic" => Format::Restic,
            "directory" => Format::Directory,
            _ => return Err(self.wrong(group, "format", "must be restic or directory")),
        };
        let endpoint = match (self.text(group, "location")?, self.text(group, "mount_source")?) {
            (Some(location), None) => self.located(group, &location, format)?,
            (None, Some(source)) => self.mounted(group, source)?,
            (Some(_), Some(_)) => {
                return Err(self.wrong(
                    group,
                    "mount_source",
                    "and `location` are both set; a repository is in one place",
                ));
            }
            (None, None) => return Err(self.wrong(group, "location", "must be set, or `mount_source`")),
        };
        let password_file = self.file(group, "password_file")?;
        match (format, &password_file) {
            (Format::Restic, None) => {
                let problem = "must be set: the format restic encrypts, and needs a password";
                return Err(self.wrong(group, "password_file", problem));
            }
            (Format::Directory, Some(_)) => {
                let problem = "has no use: the format directory encrypts nothing";
                return Err(self.wrong(group, "password_file", problem));
            }
            _ => {}
        }
        let credentials_file = self.file(group, "credentials_file")?;
        if credentials_file.is_some() && !matches!(endpoint, Endpoint::Url { .. }) {
            let problem = "is for a `location` that is reached over the network: rest: or s3:";
            return Err(self.wrong(group, "credentials_file", problem));
        }
        let keep = self.keep(group)?;
        if format == Format::Directory && !keep.is_all() {
            let problem = "is for the format restic: a directory does not say what it is a backup of";
            return Err(self.wrong(group, "retention", problem));
        }
        Ok(Repository { endpoint, format, password_file, credentials_file, keep })
    }

    fn keep(&self, group: &str) -> Result<Keep, ConfigError> {
        let mut keep = Keep::default();
        for (word, count) in self.dict(group, "retention")? {
            let slot = match word.as_str() {
                "last" => &mut keep.last,
                "hourly" => &mut keep.hourly,
                "daily" => &mut keep.daily,
                "weekly" => &mut keep.weekly,
                "monthly" => &mut keep.monthly,
                "yearly" => &mut keep.yearly,
                _ => {
                    let problem = format!(
                        "has `{}`, and the words are last, hourly, daily, weekly, monthly and yearly",
                        word.escape_debug()
                    );
                    return Err(self.wrong(group, "retention", problem));
                }
            };
            *slot = count.parse().ok().filter(|count| *count > 0);
            if slot.is_none() {
                let problem = format!("has `{word}:{}`, which is no number above 0", count.escape_debug());
                return Err(self.wrong(group, "retention", problem));
            }
        }
        Ok(keep)
    }

    fn located(&self, group: &str, location: &str, format: Format) -> Result<Endpoint, ConfigError> {
        let wrong = |problem: &str| Err(self.wrong(group, "location", problem));
        if SCHEMES.iter().any(|scheme| location.starts_with(scheme)) {
            if format == Format::Directory {
                return wrong("is reached over the network, and the format directory is for directories and mounts");
            }
            if mask(location) != location {
                return wrong(
                    "has a password in it: write `USER:PASSWORD` into a file, and name that with `credentials_file`",
                );
            }
            return Ok(Endpoint::Url { url: Sensitive::new(location) });
        }
        let path = PathBuf::from(location);
        if !path.is_absolute() {
            return wrong("must be the absolute path of a directory, or begin with rest:http(s):// or s3:http(s)://");
        }
        Ok(Endpoint::Directory { path })
    }

    fn mounted(&self, group: &str, source: String) -> Result<Endpoint, ConfigError> {
        let subdir = self.text(group, "mount_subdir")?.map(PathBuf::from);
        if subdir.as_deref().is_some_and(Path::is_absolute) {
            return Err(self.wrong(group, "mount_subdir", "must be relative to the root of the mount"));
        }
        Ok(Endpoint::Mount {
            fs_type: self.required(group, "mount_type")?,
            source,
            options: self.list(group, "mount_options")?.unwrap_or_default().into_iter().map(Sensitive::new).collect(),
            subdir,
        })
    }

    fn file(&self, group: &str, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        let Some(file) = self.text(group, name)?.map(PathBuf::from) else { return Ok(None) };
        if file.is_absolute() { Ok(Some(file)) } else { Err(self.wrong(group, name, "must be an absolute path")) }
    }
}
