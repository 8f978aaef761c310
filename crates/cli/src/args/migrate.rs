//! Arguments of `migrate`, the migration without a service.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::jobs::{EndpointArgs, JobOptionArgs, PassArgs};
use super::{ADVANCED, OUTPUT, PASSES, POLICY};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CutoverArg {
    Now,
    Ask,
    Auto,
}

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Directory whose contents move, or what is mounted with `--source-type`
    #[arg(value_name = "SOURCE", value_hint = ValueHint::DirPath)]
    pub source: PathBuf,
    /// Directory they move to; made if missing
    #[arg(value_name = "DEST", value_hint = ValueHint::DirPath)]
    pub dest: PathBuf,
    #[command(flatten)]
    pub endpoints: EndpointArgs,

    /// When the last pass comes: now, ask or auto
    ///
    /// `now`: after the first pass at once, for a source that nobody uses. `ask`: the question is put after each pass,
    /// while further passes keep the copy up to date. `auto`: once the cutover is predicted to take at most
    /// `--cutover-max`, or after `--passes`. The default is `auto` where one of these is given, else `now`.
    #[arg(long, value_name = "WHEN", value_enum, help_heading = PASSES, hide_possible_values = true)]
    pub cutover: Option<CutoverArg>,
    #[command(flatten)]
    pub passes: PassArgs,
    /// Remove at most N entries of DEST in a pass; more is a fault, and they stay
    #[arg(long, value_name = "N", help_heading = POLICY)]
    pub max_delete: Option<u64>,
    #[command(flatten)]
    pub options: JobOptionArgs,

    /// Print nothing but errors
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print JSON lines for programs on standard output
    #[arg(long, help_heading = OUTPUT, conflicts_with = "quiet")]
    pub json: bool,
    /// Show no progress
    #[arg(long, help_heading = OUTPUT)]
    pub no_progress: bool,

    /// Forget what an earlier run of this migration remembers, and begin anew
    ///
    /// What is right in DEST is still not copied again.
    #[arg(long, help_heading = ADVANCED)]
    pub restart: bool,
    /// Where migrations and their reports are kept, outside of both trees
    ///
    /// The default is /var/lib/manila-data for root, and $XDG_STATE_HOME/manila-data or ~/.local/state/manila-data for
    /// others.
    #[arg(long, value_name = "DIR", env = "MANILA_DATA_STATE_DIR", hide_env_values = true)]
    #[arg(value_hint = ValueHint::DirPath, help_heading = ADVANCED, hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
}
