//! Arguments of the service itself: `serve`, `config`, `token`, `doctor`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::locations::Locations;
use super::{CONFIGURATION, OUTPUT};
use crate::config::Override;

/// Where the configuration comes from. What is given here wins over the environment, and that over files.
#[derive(Debug, Default, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub locations: Locations,
    /// Read manila.conf with all options of Manila's own data service, as the command without a subcommand does
    #[arg(long, help_heading = CONFIGURATION)]
    pub manila: bool,
    /// Set one option of the configuration: `jobs_max=2`, or `GROUP.NAME=VALUE`; may be repeated
    #[arg(short = 'o', long = "option", value_name = "OPTION=VALUE", help_heading = CONFIGURATION)]
    #[arg(value_parser = Override::parse)]
    pub options: Vec<Override>,
    /// Where jobs, reports and mount points are kept
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = CONFIGURATION)]
    pub state_path: Option<PathBuf>,
    /// Log what happens inside, too
    #[arg(short, long, help_heading = CONFIGURATION)]
    pub debug: bool,
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// The unix socket of the REST interface
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath, help_heading = CONFIGURATION)]
    pub socket: Option<PathBuf>,
    /// Log into FILE instead of standard error
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CONFIGURATION)]
    pub log_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the values in force, and where each comes from. Secrets are masked
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON for programs on standard output
        #[arg(long, help_heading = OUTPUT)]
        json: bool,
    },
    /// Print a configuration file with every option, its meaning and its default
    Sample,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScopeArg {
    Read,
    Write,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, once. Only its hash is kept
    Create {
        /// Whom it is for; requests are logged under this name
        #[arg(value_name = "NAME")]
        name: String,
        /// What it allows: read, or write (which reads too)
        #[arg(long, value_name = "WHAT", value_enum, hide_possible_values = true, help_heading = "Token")]
        scope: ScopeArg,
        /// When it ends: a time such as 2027-01-31T00:00:00Z, or a span such as 90d
        #[arg(long, value_name = "WHEN", value_parser = super::jobs::parse_moment, help_heading = "Token")]
        expires: Option<jiff::Timestamp>,
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// List the tokens, without the tokens themselves
    List {
        #[command(flatten)]
        file: TokenFileArgs,
    },
    /// Remove a token. A service that runs is told by SIGHUP
    Remove {
        #[arg(value_name = "NAME")]
        name: String,
        #[command(flatten)]
        file: TokenFileArgs,
    },
}

#[derive(Debug, Args)]
pub struct TokenFileArgs {
    /// The file of the tokens [default: `tokens_file` of the configuration]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CONFIGURATION)]
    pub tokens_file: Option<PathBuf>,
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON for programs on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON for programs on standard output
    #[arg(long, help_heading = OUTPUT)]
    pub json: bool,
}
