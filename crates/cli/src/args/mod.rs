//! The command line as it is typed. What it means is in `plan`.

pub mod backup;
pub mod engine;
pub mod jobs;
pub mod locations;
pub mod manila;
pub mod migrate;
pub mod service;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use self::backup::BackupArgs;
use self::engine::{CopyArgs, VerifyArgs};
use self::jobs::{JobsArgs, SchedulesArgs};
use self::manila::ManilaArgs;
use self::migrate::MigrateArgs;
use self::service::{ConfigCommand, DoctorArgs, ServeArgs, TokenCommand};
use crate::exit;

const SELECTION: &str = "Selection";
const POLICY: &str = "Policy";
const CHECKS: &str = "Checks";
const SPEED: &str = "Speed";
const OUTPUT: &str = "Output";
const ADVANCED: &str = "Advanced";
const ENDPOINTS: &str = "Endpoints";
const PASSES: &str = "Passes";
const REPOSITORY: &str = "Repository";
const RETENTION: &str = "Retention";
const SCHEDULE: &str = "Schedule";
const SERVICE: &str = "Service";
const CONFIGURATION: &str = "Configuration";

const COPY_EXAMPLES: &str = "\
Examples:
  manila-data copy /mnt/old /mnt/new
  manila-data copy --delete --max-delete 1000 /mnt/old /mnt/new
  manila-data copy --verify content --report copy.jsonl /mnt/old /mnt/new
  manila-data copy --bandwidth-limit 100MiB --ignore .snapshot /mnt/old /mnt/new
  manila-data copy --dry-run --delete /mnt/old /mnt/new";

const VERIFY_EXAMPLES: &str = "\
Examples:
  manila-data verify /mnt/old /mnt/new
  manila-data verify --attributes-only --ignore-extra /mnt/old /mnt/new
  manila-data verify --json --report differences.jsonl /mnt/old /mnt/new";

const MIGRATE_EXAMPLES: &str = "\
Examples:
  manila-data migrate /mnt/old /mnt/new
  manila-data migrate --cutover ask --interval 15m /mnt/old /mnt/new
  manila-data migrate --cutover auto --cutover-max 2m --passes 20 /mnt/old /mnt/new
  manila-data migrate --source-type nfs --source-option vers=4.1 filer:/export /mnt/new";

const JOBS_EXAMPLES: &str = "\
Examples:
  manila-data jobs create copy /srv/old /srv/new --watch
  manila-data jobs create migrate --source-type nfs filer:/export /srv/new --name home
  manila-data jobs create --spec job.json
  manila-data jobs list --state working
  manila-data jobs cutover 0197c3a2-6f00-7000-8000-000000000000";

const MORE: &str = "See `--help` for all options, examples and exit codes.";

/// Moves the contents of file shares, fast and without losing anything on the way.
///
/// Without a command this is the data service of OpenStack Manila: it reads manila.conf and serves until a signal ends
/// it.
#[derive(Debug, Parser)]
#[command(name = "manila-data", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub manila: ManilaArgs,
    #[command(flatten)]
    pub colors: ColorArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy what is in one directory into another.
    ///
    /// What is in the directory SOURCE is put into the directory DEST, with its attributes, hard links and holes. An
    /// entry that DEST has already and that is the same is left alone, so the same command brings a copy up to date,
    /// and goes on where an earlier one was stopped.
    #[command(after_help = MORE, after_long_help = format!("{COPY_EXAMPLES}\n\n{}", exit::HELP))]
    Copy(Box<CopyArgs>),
    /// Compare two trees, whoever copied them.
    ///
    /// Reads both trees and names every difference: entries that are missing or too many, content, attributes, hard
    /// links and holes. Changes neither of them. DEST is read from storage, not from memory.
    #[command(after_help = MORE, after_long_help = format!("{VERIFY_EXAMPLES}\n\n{}", exit::HELP))]
    Verify(Box<VerifyArgs>),
    /// Move a tree while it is in use: copy, bring up to date, cut over, verify.
    ///
    /// Runs the whole migration here, without a service, and remembers it: after Ctrl-C, a crash or a reboot the same
    /// command goes on where it was. The first pass copies everything; each further pass copies what changed and removes
    /// what SOURCE no longer has. Before the last pass, the cutover, nobody may write to SOURCE any more; after it both
    /// trees are compared, content included.
    #[command(after_help = MORE, after_long_help = format!("{MIGRATE_EXAMPLES}\n\n{}", exit::HELP))]
    Migrate(Box<MigrateArgs>),
    /// Make, restore, check and remove backups.
    ///
    /// A repository of backups is a restic repository (incremental, deduplicated, compressed, encrypted; restic itself
    /// can read it), or a directory that holds a directory for each backup, as Manila's NFS backup driver keeps them.
    #[command(after_help = MORE, after_long_help = exit::HELP)]
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Backup(Box<BackupArgs>),
    /// Run the data service without OpenStack (`--manila`: with it).
    ///
    /// Takes jobs over a unix socket (and over TCP where the configuration says so), carries them out in worker
    /// processes, and goes on with them after a restart or a crash.
    #[command(after_long_help = exit::HELP)]
    Serve(Box<ServeArgs>),
    /// Make, watch and steer the jobs of a service.
    #[command(after_help = JOBS_EXAMPLES, after_long_help = format!("{JOBS_EXAMPLES}\n\n{}", exit::HELP))]
    #[command(arg_required_else_help = true, subcommand_required = true)]
    Jobs(Box<JobsArgs>),
    /// List the schedules of a service, and when they fire next.
    ///
    /// A schedule makes a job again and again: a section `[schedule:NAME]` of the configuration. Times are those of the
    /// schedule's time zone.
    Schedules(Box<SchedulesArgs>),
    /// Make and remove the tokens of the REST interface.
    #[command(subcommand, arg_required_else_help = true)]
    Token(TokenCommand),
    /// Show the configuration, or a sample of it.
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Check what the service needs of this machine, and say what is missing.
    ///
    /// Looks at the kernel, capabilities, mount helpers, state directory, job store, sockets and certificates. Changes
    /// nothing. Ends with 1 where something would keep the service from working.
    Doctor(DoctorArgs),
    /// Print the completions for a shell.
    ///
    /// For instance: manila-data completions bash > /etc/bash_completion.d/manila-data
    Completions {
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a directory.
    Man {
        /// Directory for the manual pages of all commands
        #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct ColorArgs {
    /// Colours: auto (on a terminal, unless `NO_COLOR` is set), always or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true)]
    #[arg(help_heading = OUTPUT, hide_possible_values = true, hide_default_value = true, hide_short_help = true)]
    #[arg(display_order = 1000)]
    pub color: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_help_line_is_cut_off_by_a_missing_heading() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments().filter(|a| !a.is_positional() && !a.is_global_set()) {
                assert!(argument.get_help().is_some(), "{} has no help", argument.get_id());
                assert!(argument.get_help_heading().is_some(), "{} has no heading", argument.get_id());
            }
        }
    }
}
