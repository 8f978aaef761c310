//! Arguments of `backup`: where the repository is and what opens it, and what is done with it.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::engine::{OnFaultArg, OutputArgs, PolicyArgs, SelectionArgs, SpeedArgs, VerifyArg};
use super::{ADVANCED, CHECKS, OUTPUT, POLICY, REPOSITORY, RETENTION, SELECTION, SPEED};

const CREATE_EXAMPLES: &str = "\
Examples:
  manila-data backup create -r /srv/backup --password-file /etc/backup.key --init /mnt/share
  manila-data backup create -r rest:https://backup.example:8000/home --share home --tag weekly /mnt/home
  manila-data backup create -r /mnt/export --format directory --id 2026-11-22 /mnt/share";

const RESTORE_EXAMPLES: &str = "\
Examples:
  manila-data backup restore -r /srv/backup --password-file /etc/backup.key latest /mnt/share
  manila-data backup restore -r /srv/backup --share home --path docs/plan --verify content 3f2a91bc /mnt/home
  manila-data backup restore -r /mnt/export --format directory --clean 2026-11-22 /mnt/share";

const PRUNE_EXAMPLES: &str = "\
Examples:
  manila-data backup prune -r /srv/backup --keep-last 3 --keep-daily 14 --keep-monthly 12
  manila-data backup prune -r /srv/backup --share home --keep-weekly 8 --dry-run";

#[derive(Debug, Args)]
pub struct BackupArgs {
    #[command(subcommand)]
    pub command: BackupCommand,
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Add a backup of a directory to a repository
    ///
    /// In a restic repository files that are unchanged since the last backup of the same share (or of the same
    /// directory) are not read, and what the repository holds already is not stored again.
    #[command(after_help = super::MORE, after_long_help = format!("{CREATE_EXAMPLES}\n\n{}", crate::exit::HELP))]
    Create(Box<CreateArgs>),
    /// Make a directory what a backup of it says
    ///
    /// What DEST has already and that is the same is left alone. What it has and the backup has not stays, unless
    /// `--clean` is given.
    #[command(after_help = super::MORE, after_long_help = format!("{RESTORE_EXAMPLES}\n\n{}", crate::exit::HELP))]
    Restore(Box<RestoreArgs>),
    /// List the backups of a repository, the oldest first
    List(ListArgs),
    /// Show one backup, with all that is known of it
    Show(ShowArgs),
    /// Look for damage in a repository
    ///
    /// Everything that backups need must be there and fit together; how much of their data is read, `--read-data` says.
    /// Ends with 3 where something is damaged. Changes nothing.
    #[command(after_help = super::MORE, after_long_help = crate::exit::HELP)]
    Check(CheckArgs),
    /// Remove the backups that no rule keeps, and what no backup needs any more
    ///
    /// Rules count the backups of each share (or of each directory) by themselves. Without a rule every backup stays.
    #[command(after_help = super::MORE, after_long_help = format!("{PRUNE_EXAMPLES}\n\n{}", crate::exit::HELP))]
    Prune(PruneArgs),
    /// Remove backups
    ///
    /// In a restic repository their data stays until `backup prune`.
    #[command(after_help = super::MORE, after_long_help = crate::exit::HELP)]
    Delete(DeleteArgs),
}

impl BackupCommand {
    /// Whether it is to be quiet, and whether programs read its output.
    pub fn output(&self) -> (bool, bool) {
        match self {
            Self::Create(args) => (args.output.quiet, args.output.json),
            Self::Restore(args) => (args.output.quiet, args.output.json),
            Self::List(ListArgs { json, .. }) | Self::Show(ShowArgs { json, .. }) => (false, *json),
            Self::Check(CheckArgs { output, .. })
            | Self::Prune(PruneArgs { output, .. })
            | Self::Delete(DeleteArgs { output, .. }) => (output.quiet, output.json),
        }
    }
}

/// Where the repository is, and what opens it.
#[derive(Clone, Debug, Default, Args)]
pub struct RepositoryArgs {
    /// Directory, `rest:https://HOST:PORT/PATH` or `s3:https://HOST/BUCKET/PATH` [env: `RESTIC_REPOSITORY`]
    ///
    /// Keys of S3 are taken from the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`; user and
    /// password of a REST server from `RESTIC_REST_USERNAME` and `RESTIC_REST_PASSWORD`. A password that stands in a URL
    /// is refused here, where everybody on this machine could see it.
    #[arg(short, long, value_name = "REPO", conflicts_with = "repository_file", help_heading = REPOSITORY)]
    pub repository: Option<String>,
    /// File with the repository in its first line, which may have a password in it [env: `RESTIC_REPOSITORY_FILE`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPOSITORY)]
    #[arg(hide_short_help = true)]
    pub repository_file: Option<PathBuf>,
    /// How backups lie in it: restic, or directory (as Manila's NFS backup driver keeps them)
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = FormatArg::Restic, help_heading = REPOSITORY)]
    #[arg(hide_possible_values = true)]
    pub format: FormatArg,
    /// File with the password of a restic repository [env: `RESTIC_PASSWORD_FILE`]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = REPOSITORY)]
    #[arg(conflicts_with = "password_command")]
    pub password_file: Option<PathBuf>,
    /// Program with arguments that prints the password; no shell is used [env: `RESTIC_PASSWORD_COMMAND`]
    #[arg(long, value_name = "COMMAND", help_heading = REPOSITORY)]
    pub password_command: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    #[default]
    Restic,
    Directory,
}

/// Which backups of a restic repository are meant.
#[derive(Clone, Debug, Default, Args)]
pub struct SnapshotArgs {
    /// Backups of this share alone (restic)
    #[arg(long, value_name = "NAME", help_heading = SELECTION)]
    pub share: Option<String>,
    /// Backups with this tag alone (restic); may be repeated
    #[arg(long, value_name = "TAG", help_heading = SELECTION)]
    pub tag: Vec<String>,
    /// Backups that were made on this host alone (restic); may be repeated
    #[arg(long, value_name = "HOST", help_heading = SELECTION, hide_short_help = true)]
    pub host: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Directory of which a backup is made
    #[arg(value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub path: PathBuf,
    #[command(flatten)]
    pub repository: RepositoryArgs,
    /// Make the repository where there is none
    #[arg(long, help_heading = REPOSITORY)]
    pub init: bool,
    /// Name of the backup: its directory's, or one to find the snapshot by
    #[arg(long, value_name = "ID", required_if_eq("format", "directory"), help_heading = OUTPUT)]
    pub id: Option<String>,
    /// What the backup is of; backups of one share build on each other (restic) [default: PATH]
    #[arg(long, value_name = "NAME", help_heading = OUTPUT)]
    pub share: Option<String>,
    /// Tag the snapshot (restic); may be repeated
    #[arg(long, value_name = "TAG", help_heading = OUTPUT)]
    pub tag: Vec<String>,
    /// Name of this machine in the snapshot (restic) [default: its host name]
    #[arg(long, value_name = "HOST", help_heading = OUTPUT, hide_short_help = true)]
    pub host: Option<String>,

    /// After an entry that cannot be read: continue, for a backup without it, or stop, for none
    #[arg(long, value_name = "DO", value_enum, default_value_t = OnFaultArg::Continue, help_heading = POLICY)]
    #[arg(hide_possible_values = true)]
    pub on_fault: OnFaultArg,
    /// Read every file, also those that seem to be unchanged
    #[arg(long, help_heading = POLICY)]
    pub read_all: bool,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub speed: SpeedArgs,
    /// File operations a second, at most
    #[arg(long, value_name = "N", help_heading = SPEED, hide_short_help = true)]
    pub ops_limit: Option<NonZeroU64>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Backup: the beginning of a snapshot's identifier, the name it was given, or `latest`; a directory's name
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    /// Directory it is put into; made if missing
    #[arg(value_name = "DEST", value_hint = ValueHint::DirPath)]
    pub dest: PathBuf,
    #[command(flatten)]
    pub repository: RepositoryArgs,
    #[command(flatten)]
    pub of: SnapshotArgs,
    /// Restore only this path of the backup, and what is below it; may be repeated
    #[arg(long, value_name = "PATH", help_heading = SELECTION)]
    pub path: Vec<PathBuf>,
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Change nothing; list what would be done
    #[arg(short = 'n', long, help_heading = POLICY)]
    pub dry_run: bool,
    /// Remove from DEST what the backup does not have
    #[arg(long, help_heading = POLICY)]
    pub clean: bool,
    /// Remove at most N entries; more is a fault, and they stay
    #[arg(long, value_name = "N", requires = "clean", help_heading = POLICY)]
    pub max_delete: Option<u64>,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Read DEST again at the end: none, attributes or content
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = VerifyArg::None, help_heading = CHECKS)]
    #[arg(hide_possible_values = true)]
    pub verify: VerifyArg,

    #[command(flatten)]
    pub speed: SpeedArgs,
    /// File operations a second, at most
    #[arg(long, value_name = "N", help_heading = SPEED, hide_short_help = true)]
    pub ops_limit: Option<NonZeroU64>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Where the progress of runs is remembered, outside of DEST and of the repository
    #[arg(long, value_name = "DIR", env = "MANILA_DATA_STATE_DIR", hide_env_values = true)]
    #[arg(value_hint = ValueHint::DirPath, help_heading = ADVANCED, hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
    /// Remember nothing between runs
    #[arg(long, help_heading = ADVANCED, hide_short_help = true)]
    pub no_state: bool,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub repository: RepositoryArgs,
    #[command(flatten)]
    pub of: SnapshotArgs,
    /// Print JSON lines for programs on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Backup: the beginning of a snapshot's identifier, the name it was given, or `latest`; a directory's name
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: String,
    #[command(flatten)]
    pub repository: RepositoryArgs,
    #[command(flatten)]
    pub of: SnapshotArgs,
    /// Print JSON lines for programs on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Backups to look at [default: all]; only with `--format directory`
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub repository: RepositoryArgs,
    /// Read so much of the data, in percent: 0 none, 100 all of it; another part each time
    #[arg(long, value_name = "PERCENT", default_value_t = 0, help_heading = CHECKS)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_data: u8,
    #[command(flatten)]
    pub output: RunOutputArgs,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    #[command(flatten)]
    pub repository: RepositoryArgs,
    #[command(flatten)]
    pub of: SnapshotArgs,
    #[command(flatten)]
    pub keep: KeepArgs,
    /// Change nothing; list the backups that would be removed
    #[arg(short = 'n', long, help_heading = POLICY)]
    pub dry_run: bool,
    /// Unused data that may stay in the repository, in percent of it (restic)
    #[arg(long, value_name = "PERCENT", default_value_t = 5, help_heading = POLICY, hide_short_help = true)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
    pub max_unused: u8,
    /// Delete unused data at once, not by a prune that runs a day later or more (restic)
    ///
    /// Only where nobody else uses the repository meanwhile: a backup that is being made counts on what is there.
    #[arg(long, help_heading = POLICY, hide_short_help = true)]
    pub instant_delete: bool,
    #[command(flatten)]
    pub output: RunOutputArgs,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Backups to remove: beginnings of snapshots' identifiers, or names; names of directories
    #[arg(value_name = "SNAPSHOT", required = true)]
    pub snapshots: Vec<String>,
    #[command(flatten)]
    pub repository: RepositoryArgs,
    #[command(flatten)]
    pub output: RunOutputArgs,
}

/// Which backups stay. Of commands and of jobs.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct KeepArgs {
    /// Keep the N newest backups
    #[arg(long = "keep-last", value_name = "N", help_heading = RETENTION)]
    pub last: Option<NonZeroU32>,
    /// Keep the newest backup of each of the last N hours that have one
    #[arg(long = "keep-hourly", value_name = "N", help_heading = RETENTION)]
    pub hourly: Option<NonZeroU32>,
    /// Keep the newest backup of each of the last N days that have one
    #[arg(long = "keep-daily", value_name = "N", help_heading = RETENTION)]
    pub daily: Option<NonZeroU32>,
    /// Keep the newest backup of each of the last N weeks that have one
    #[arg(long = "keep-weekly", value_name = "N", help_heading = RETENTION)]
    pub weekly: Option<NonZeroU32>,
    /// Keep the newest backup of each of the last N months that have one
    #[arg(long = "keep-monthly", value_name = "N", help_heading = RETENTION)]
    pub monthly: Option<NonZeroU32>,
    /// Keep the newest backup of each of the last N years that have one
    #[arg(long = "keep-yearly", value_name = "N", help_heading = RETENTION)]
    pub yearly: Option<NonZeroU32>,
}

/// What a command says that has no entries to report.
#[derive(Clone, Debug, Args)]
pub struct RunOutputArgs {
    /// Print nothing but errors
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print JSON lines for programs on standard output
    #[arg(long, help_heading = OUTPUT, conflicts_with = "quiet")]
    pub json: bool,
    /// Show no progress
    #[arg(long, help_heading = OUTPUT)]
    pub no_progress: bool,
}
