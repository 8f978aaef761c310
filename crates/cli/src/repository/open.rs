//! Opens repositories, and finds in them what a command line names.

use std::path::Path;
use std::sync::Arc;

use backup::directory::{BackupId, Export};
use backup::restic::{
    LocalStore, Repository, RepositoryError, SecretString, SnapshotFilter, Store, open_address, share_tag,
};
use copy::StopToken;
use job::Format;

use super::{Location, RepositoryPlan};
use crate::args::backup::SnapshotArgs;
use crate::error::CliError;

/// An open repository.
#[derive(Debug)]
pub enum Opened {
    Restic(Repository),
    Directory(Export),
}

/// What to do where there is no repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Refuse,
    Make,
}

pub fn open(plan: &RepositoryPlan, missing: Missing, stop: &StopToken) -> Result<Opened, CliError> {
    match plan.format {
        Format::Directory => open_export(plan, missing).map(Opened::Directory),
        Format::Restic => open_restic(plan, missing, stop).map(Opened::Restic),
    }
}

/// The plan has a directory: a URL was refused for this format.
fn open_export(plan: &RepositoryPlan, missing: Missing) -> Result<Export, CliError> {
    let path = plan.location.directory().unwrap_or(Path::new(""));
    if missing == Missing::Make {
        make_dir(path)?;
    }
    Ok(Export::open(path)?)
}

fn open_restic(plan: &RepositoryPlan, missing: Missing, stop: &StopToken) -> Result<Repository, CliError> {
    let password = SecretString::from(plan.password.as_ref().map_or("", |password| password.expose()).to_owned());
    let store = store(&plan.location, plan.region.as_deref(), missing, stop)?;
    Ok(match missing {
        Missing::Make => Repository::open_or_init(&store, &password)?,
        Missing::Refuse => Repository::open(store, &password)?,
    })
}

fn store(
    location: &Location,
    region: Option<&str>,
    missing: Missing,
    stop: &StopToken,
) -> Result<Arc<dyn Store>, CliError> {
    match location {
        Location::Directory(path) => {
            match missing {
                Missing::Make => make_dir(path)?,
                // The store would make it.
                Missing::Refuse if !path.exists() => {
                    return Err(RepositoryError::NoRepository { location: location.shown() }.into());
                }
                Missing::Refuse => {}
            }
            Ok(Arc::new(LocalStore::open(path).map_err(RepositoryError::Store)?))
        }
        Location::Url(url) => {
            let store = open_address(url.expose(), region, stop.clone());
            Ok(store.map_err(RepositoryError::Store)?)
        }
    }
}

/// Not its parents: where those are missing, a mount may be, too.
fn make_dir(path: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt as _;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(CliError::MakeDir { path: path.into(), source }),
    }
}

/// The snapshots that the options of a command mean.
pub fn filter(args: &SnapshotArgs) -> SnapshotFilter {
    let share = args.share.iter().map(|share| share_tag(share));
    SnapshotFilter {
        hosts: args.host.clone(),
        tags: share.chain(args.tag.iter().cloned()).collect(),
        paths: Vec::new(),
    }
}

/// The options that only snapshots have say nothing of directories.
pub fn refuse_filter(args: &SnapshotArgs) -> Result<(), CliError> {
    if args.share.is_some() || !args.tag.is_empty() || !args.host.is_empty() {
        let text =
            "`--share`, `--tag` and `--host` are for restic repositories: a directory does not say what it is of";
        return Err(CliError::Usage(text.into()));
    }
    Ok(())
}

pub fn backup_id(text: &str) -> Result<BackupId, CliError> {
    Ok(BackupId::parse(text)?)
}
