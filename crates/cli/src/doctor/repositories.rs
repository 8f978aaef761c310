//! Repositories of backups: whether they can be opened, and whether what opens them is kept to itself.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use backup::restic::RepositoryError;
use copy::StopToken;
use job::Sensitive;
use job::spec::Endpoint;
use work::{Repository, with_credentials};

use super::Check;
use crate::config::Config;
use crate::error::{CliError, chain};
use crate::plan::shown;
use crate::repository::open::{Missing, open};
use crate::repository::{Location, RepositoryPlan, first_line};

const NAME: &str = "repository";
const SECRETS: &str = "repository secrets";

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, repository) in &config.repositories {
        let files = repository.password_file.iter().chain(&repository.credentials_file);
        let secrets: Vec<_> = files.map(|file| secret(name, file)).collect();
        let are_readable = secrets.iter().all(|check| check.verdict != super::Verdict::Fail);
        checks.extend(secrets);
        if are_readable {
            checks.push(opened(name, repository, is_per_project(config, name)));
        }
    }
    checks
}

/// Manila's repository may be the place of one for each project, made as they are needed.
fn is_per_project(config: &Config, name: &str) -> bool {
    let driver = config.manila.as_ref().map(|manila| &manila.settings.backup.driver);
    name == manila::backup::REPOSITORY
        && matches!(driver, Some(manila::settings::BackupDriver::Restic(restic)) if restic.is_per_project)
}

/// A file that only the service may read.
fn secret(name: &str, file: &Path) -> Check {
    let about = |what: String| format!("`{name}`: `{}` {what}", shown(file));
    let meta = match std::fs::metadata(file) {
        Ok(meta) => meta,
        Err(error) => {
            return Check::fail(SECRETS, about(format!("cannot be read: {error}")), "make it, or correct its name");
        }
    };
    if meta.uid() != rustix::process::geteuid().as_raw() && meta.uid() != 0 {
        let what = about(format!("belongs to user {}, who could exchange it", meta.uid()));
        return Check::fail(SECRETS, what, "give it to the service's user, or to root");
    }
    if meta.mode() & 0o077 != 0 {
        let what = about(format!("is open to others (mode {:04o})", meta.mode() & 0o7777));
        return Check::fail(SECRETS, what, format!("chmod 0600 {}", shown(file)));
    }
    match first_line(file) {
        Ok(_) => Check::ok(SECRETS, about("is private".into())),
        Err(error) => {
            Check::fail(SECRETS, format!("`{name}`: {}", chain(&error)), "run the command as the service's user")
        }
    }
}

fn opened(name: &str, repository: &Repository, is_per_project: bool) -> Check {
    let location = match location(repository) {
        Ok(Some(location)) => location,
        Ok(None) => {
            let place = crate::ui::job::endpoint(&repository.endpoint);
            return Check::ok(NAME, format!("`{name}`: {place}, which is mounted when a job needs it"));
        }
        Err(error) => return Check::fail(NAME, format!("`{name}`: {}", chain(&error)), "correct the file"),
    };
    let place = location.shown();
    let password = repository.password_file.as_deref().map(first_line).transpose();
    let plan = password.map(|password| RepositoryPlan {
        location,
        region: None,
        format: repository.format,
        password: password.map(Sensitive::secret),
    });
    match plan.and_then(|plan| open(&plan, Missing::Refuse, &StopToken::new())) {
        Ok(_) => Check::ok(NAME, format!("`{name}`: {place} ({})", repository.format.as_str())),
        Err(CliError::Restic(RepositoryError::NoRepository { .. })) if is_per_project => {
            Check::ok(NAME, format!("`{name}`: {place}, with a repository for each project below"))
        }
        Err(CliError::Restic(RepositoryError::NoRepository { .. })) => Check::warn(
            NAME,
            format!("`{name}`: there is no repository at {place} yet"),
            "a backup job with `init` makes it; else correct `location`",
        ),
        Err(error) => {
            let advice = error.hint().unwrap_or_else(|| "look at its section in the configuration".into());
            Check::fail(NAME, format!("`{name}`: {}", chain(&error)), advice)
        }
    }
}

/// `None`: it has to be mounted first.
fn location(repository: &Repository) -> Result<Option<Location>, CliError> {
    Ok(match &repository.endpoint {
        Endpoint::Directory { path } => Some(Location::Directory(path.clone())),
        Endpoint::Url { url } => {
            let url = match &repository.credentials_file {
                Some(file) => with_credentials(url.expose(), &first_line(file)?),
                None => url.expose().to_owned(),
            };
            Some(Location::Url(Sensitive::new(url)))
        }
        Endpoint::None | Endpoint::Repository { .. } | Endpoint::Mount { .. } | Endpoint::Command { .. } => None,
    })
}
