//! What a job is asked to do: the same words in the API, in the store and on the worker's pipe.
//!
//! The format has a version ([`SPEC_VERSION`]). A field may be added with a default; anything else is a new version.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::backup::{BackupPlan, Format, Keep};
use crate::id::JobId;
use crate::model::Side;
use crate::sensitive::{Secrets, Sensitive};

mod backup;

pub const SPEC_VERSION: u32 = 1;

/// A job as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct JobSpec {
    pub kind: Kind,
    /// A name for people; need not be unique.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is read. Kinds that work on a repository alone have one side only.
    #[serde(default, skip_serializing_if = "Endpoint::is_none")]
    pub source: Endpoint,
    /// What is written, or compared with the source.
    #[serde(default, skip_serializing_if = "Endpoint::is_none")]
    pub dest: Endpoint,
    #[serde(default)]
    pub options: Options,
    #[serde(default)]
    pub limits: RateLimits,
    #[serde(default)]
    pub schedule: Schedule,
    /// Only for `migrate`.
    #[serde(default)]
    pub migrate: MigratePlan,
    /// For kinds that work on a repository, which must have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupPlan>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
    /// Takes part only what failed in this ended job. Set by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<JobId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Kind {
    /// Copies once.
    Copy,
    /// Copies while the source stays in use, brings the copy up to date, cuts over and verifies.
    Migrate,
    /// Compares both trees and changes neither.
    Verify,
    /// Adds a backup of a tree to a repository.
    Backup,
    /// Makes a tree what a backup of it says.
    Restore,
    /// Removes one backup from a repository.
    Delete,
    /// Looks for damage in a repository.
    Check,
    /// Removes what the retention does not keep from a repository, and what nothing needs any more.
    Prune,
}

impl Kind {
    pub const ALL: [Self; 8] =
        [Self::Copy, Self::Migrate, Self::Verify, Self::Backup, Self::Restore, Self::Delete, Self::Check, Self::Prune];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Migrate => "migrate",
            Self::Verify => "verify",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Delete => "delete",
            Self::Check => "check",
            Self::Prune => "prune",
        }
    }

    /// The side that is a repository of backups.
    pub fn repository_side(self) -> Option<Side> {
        match self {
            Self::Copy | Self::Migrate | Self::Verify => None,
            Self::Restore | Self::Check => Some(Side::Source),
            Self::Backup | Self::Delete | Self::Prune => Some(Side::Dest),
        }
    }

    /// Whether it works on something at this side.
    pub fn has(self, side: Side) -> bool {
        match self {
            Self::Copy | Self::Migrate | Self::Verify | Self::Backup | Self::Restore => true,
            Self::Check => side == Side::Source,
            Self::Delete | Self::Prune => side == Side::Dest,
        }
    }

    /// Whether it changes what is at the destination.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Verify | Self::Check)
    }
}

/// Where a tree or a repository is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Endpoint {
    /// Nowhere: the kind of job has one side only.
    #[default]
    None,
    /// A repository of the service's configuration, by its name there. Looked up when the job runs, so that its
    /// password is in no job.
    Repository { name: String },
    /// A repository that is reached over the network, and not mounted: `rest:https://host:8000/path`,
    /// `s3:https://host/bucket/path`.
    Url {
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        url: Sensitive,
    },
    /// A directory of this machine.
    Directory {
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        path: PathBuf,
    },
    /// Something that the service mounts for the job alone.
    Mount {
        /// As `mount -t` takes it: `nfs`, `cifs`, `ceph`, `ext4`, `fuse.glusterfs`.
        fs_type: String,
        /// As `mount` takes it: `host:/export`, `//host/share`, `/dev/sdb1`.
        source: String,
        /// One option each. Secrets are kept apart and shown masked.
        #[serde(default)]
        #[cfg_attr(feature = "schema", schema(value_type = Vec<String>))]
        options: Vec<Sensitive>,
        /// A directory below the mount, instead of its root.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        subdir: Option<PathBuf>,
    },
    /// A mount command as Manila gives it. `%(path)s` is the mount point, `%(options)s` the options.
    Command {
        #[cfg_attr(feature = "schema", schema(value_type = String))]
        mount: Sensitive,
        /// Default: `umount %(path)s`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        unmount: Option<Sensitive>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
        options: Option<Sensitive>,
    },
}

impl Endpoint {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// How trees are copied or compared; the engine's options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Options {
    /// Names that are left out at any depth.
    pub ignore: Vec<String>,
    /// Globs that are left out.
    pub exclude: Vec<String>,
    /// Only files that match.
    pub include: Vec<String>,
    pub one_file_system: bool,
    pub devices: Devices,
    /// Compares the content of files that exist, not only size and time.
    pub checksum: bool,
    /// Removes from the destination what the source does not have. `migrate` does so in every pass but the first.
    pub delete: bool,
    /// At most so many; more is a fault, and they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<u64>,
    pub on_fault: OnFault,
    pub on_loss: OnLoss,
    /// Faults that a completed job may have.
    pub faults_accepted: u64,
    /// What is read again at the end. `verify`: what is compared. Default: `none` for `copy`, else `content`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// `verify`: compares access times too.
    pub atime: bool,
    /// `verify`: entries that only the destination has are no differences.
    pub ignore_extra: bool,
    pub hash: Hash,
    pub sync: Sync,
    pub sparse: Sparse,
    /// Moves content only this way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover: Option<Mover>,
    /// Never moves content these ways.
    pub no_mover: Vec<Mover>,
    /// Operations in flight; found by measuring where it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<u32>,
    pub dry_run: bool,
    /// Entries in the report.
    pub report_entries: ReportEntries,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$vdoc])* $variant),+ }
    };
}

words!(
    /// What becomes of device nodes.
    Devices { #[default] Recreate, Skip }
);
words!(
    /// After an entry that cannot be copied.
    OnFault { #[default] Continue, Stop }
);
words!(
    /// Attributes that the destination cannot hold.
    OnLoss { #[default] Report, Fail }
);
words!(Verify {
    #[default]
    None,
    Attributes,
    Content
});
words!(
    /// Checksum of each file's content.
    Hash { None, #[default] Xxh3, Blake3, Sha256 }
);
words!(
    /// When what was written is made durable.
    Sync { #[default] AtEnd, Never }
);
words!(Sparse {
    #[default]
    Auto,
    Detect,
    Keep
});
words!(
    /// A way of moving a file's content.
    Mover { #[default] Reflink, CopyFileRange, Sparse, Buffered, Ranges }
);
words!(
    /// Which entries the report names.
    ReportEntries { #[default] All, Changes, None }
);

/// Bounds of a job's speed. Can be changed while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RateLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    pub bandwidth_bytes_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(minimum = 1))]
    pub operations_per_second: Option<u64>,
    /// The first window that the time of day falls into replaces the bandwidth above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<BandwidthWindow>,
    /// Time zone of the windows, such as `Europe/Vienna`; the machine's own where none is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// A part of the day with a bandwidth of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BandwidthWindow {
    /// Days on which it begins; every day where none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<Day>,
    /// Hour and minute, `22:00`.
    pub from: String,
    /// Hour and minute; before `from` it means the next day.
    pub to: String,
    /// Bytes a second; no limit where none is given.
    #[serde(default)]
    pub bandwidth_bytes_per_second: Option<u64>,
}

words!(Day {
    #[default]
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun
});

/// When a job may run, and before which others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Schedule {
    /// Higher runs earlier; equal ones in the order of their making.
    pub priority: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub start_after: Option<Timestamp>,
    /// A job that has not ended by then fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub deadline: Option<Timestamp>,
}

/// The passes of a migration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct MigratePlan {
    /// From the end of one pass to the beginning of the next.
    pub interval_seconds: u32,
    /// No further pass begins by itself after so many (the first one counts); the job then waits for the cutover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passes_max: Option<u32>,
    pub cutover: Cutover,
    /// `automatic`: cuts over once it is predicted to take at most so long, or after the last pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cutover_seconds_max: Option<u32>,
    /// A hook of the service's configuration that makes the source read-only before the last pass, and writable again
    /// if the job does not complete. Without one the caller does so before asking for the cutover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
}

impl Default for MigratePlan {
    fn default() -> Self {
        Self {
            interval_seconds: 900,
            passes_max: None,
            cutover: Cutover::Manual,
            cutover_seconds_max: None,
            hook: None,
        }
    }
}

words!(
    /// Who says when a migration cuts over.
    Cutover { #[default] Manual, Automatic }
);

/// Whom the service tells when a job has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Webhook {
    /// `http` or `https`.
    pub url: String,
    /// Key of the signature; the service's own where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "whole_secret")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub secret: Option<Sensitive>,
}

fn whole_secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Sensitive>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Sensitive::secret))
}

impl JobSpec {
    /// A job of `kind` with every option at its default.
    pub fn new(kind: Kind, source: Endpoint, dest: Endpoint) -> Self {
        Self {
            kind,
            name: None,
            source,
            dest,
            options: Options::default(),
            limits: RateLimits::default(),
            schedule: Schedule::default(),
            migrate: MigratePlan::default(),
            backup: None,
            webhook: None,
            retry_of: None,
        }
    }

    /// What is verified at the end (of the last pass), or compared.
    pub fn verify(&self) -> Verify {
        self.options.verify.unwrap_or(match self.kind {
            Kind::Migrate | Kind::Verify => Verify::Content,
            Kind::Copy | Kind::Backup | Kind::Restore | Kind::Delete | Kind::Check | Kind::Prune => Verify::None,
        })
    }

    /// The secrets, to be kept apart from the specification itself, which serialises without them.
    pub fn secrets(&mut self) -> Secrets {
        let mut secrets = Secrets::default();
        self.each_sensitive(|place, text| {
            if text.has_secret() {
                secrets.0.insert(place, text.expose().to_owned());
            }
        });
        secrets
    }

    /// Puts the secrets back.
    #[must_use]
    pub fn with_secrets(mut self, secrets: &Secrets) -> Self {
        self.each_sensitive(|place, text| {
            if let Some(full) = secrets.0.get(&place) {
                *text =
                    if text.shown() == crate::sensitive::MASK { Sensitive::secret(full) } else { Sensitive::new(full) };
            }
        });
        self
    }

    /// A secret was masked and is not here any more.
    pub fn lacks_secrets(&self) -> bool {
        let mut lacks = false;
        self.clone().each_sensitive(|_, text| lacks |= text.is_lost());
        lacks
    }

    fn each_sensitive(&mut self, mut visit: impl FnMut(String, &mut Sensitive)) {
        for (side, endpoint) in [("source", &mut self.source), ("dest", &mut self.dest)] {
            match endpoint {
                Endpoint::None | Endpoint::Repository { .. } | Endpoint::Directory { .. } => {}
                Endpoint::Url { url } => visit(format!("{side}.url"), url),
                Endpoint::Mount { options, .. } => {
                    for (index, option) in options.iter_mut().enumerate() {
                        visit(format!("{side}.options.{index}"), option);
                    }
                }
                Endpoint::Command { mount, unmount, options } => {
                    visit(format!("{side}.mount"), mount);
                    if let Some(unmount) = unmount {
                        visit(format!("{side}.unmount"), unmount);
                    }
                    if let Some(options) = options {
                        visit(format!("{side}.options"), options);
                    }
                }
            }
        }
        if let Some(secret) = self.webhook.as_mut().and_then(|webhook| webhook.secret.as_mut()) {
            visit("webhook.secret".into(), secret);
        }
        if let Some(password) = self.backup.as_mut().and_then(|plan| plan.password.as_mut()) {
            visit("backup.password".into(), password);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_travel_apart_from_the_specification() {
        let mut spec: JobSpec = serde_json::from_str(
            r#"{"kind":"copy","source":{"type":"mount","fs_type":"cifs","source":"//h/s","options":["user=a","pass=p"]},
                "dest":{"type":"command","mount":"mount -o secret=q h:/ %(path)s"},
                "webhook":{"url":"https://x.example/","secret":"w"}}"#,
        )
        .expect("a specification");
        let secrets = spec.secrets();
        let text = serde_json::to_string(&spec).expect("encodes");
        assert!(text.contains("pass=***") && text.contains("secret=***"), "{text}");
        assert!(!format!("{spec:?}{secrets:?}{text}").contains("=p"), "nothing shows a secret");
        let masked: JobSpec = serde_json::from_str(&text).expect("decodes");
        assert!(masked.lacks_secrets() && !spec.lacks_secrets());
        assert_eq!(masked.with_secrets(&secrets), spec);
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let error = serde_json::from_str::<JobSpec>(r#"{"kind":"copy","sorce":{}}"#).unwrap_err();
        assert!(error.to_string().contains("sorce"), "{error}");
    }
}
