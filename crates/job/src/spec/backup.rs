//! What jobs do with repositories of backups.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::whole_secret;
use crate::sensitive::Sensitive;

/// What a job of kind `backup`, `restore`, `delete`, `check` or `prune` does. `backup`, `delete` and `prune` have the
/// repository as their destination, `restore` and `check` as their source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BackupPlan {
    /// Of the repository. Not for a repository of the service's configuration, which has its own.
    pub format: Format,
    /// A directory below the endpoint that is the repository, instead of the endpoint itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub subdir: Option<PathBuf>,
    /// Which backup. `directory`: the name of its directory. `restic`: a name that the snapshot is tagged with, or, for
    /// `restore` and `delete`, also the beginning of a snapshot's identifier, or `latest` (of the share that is named).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `restic`: what the backup is of. Backups of one share build on each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<String>,
    /// `restic`: further tags of the snapshot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// `restic`: opens the repository. Not for a repository of the service's configuration.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "whole_secret")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub password: Option<Sensitive>,
    /// `backup`: makes the repository where there is none.
    pub init: bool,
    /// `restore`: takes part only what is at these paths of the backup, and below them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
    pub paths: Vec<PathBuf>,
    /// `check`: how much of the data is read; of backups in directories: of how many files. Structure and attributes
    /// are checked in any case.
    pub read_data_percent: u8,
    /// `prune`: which backups of each share stay; all, where nothing is said. What no backup needs is removed.
    #[serde(skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
}

/// How backups lie in a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Format {
    /// A restic repository, format version 2: incremental, deduplicated, compressed, encrypted.
    #[default]
    Restic,
    /// A directory of files for each backup, as Manila's NFS backup driver makes them.
    Directory,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restic => "restic",
            Self::Directory => "directory",
        }
    }
}

/// Which backups stay: the newest of each of the last so many hours, days, weeks, months and years that have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Keep {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
}

impl Keep {
    /// Nothing is said, so that every backup stays.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}
