//! The command line as it is typed. What it means is in `plan`.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::exit;
use crate::ui::units::parse_rate;

const SELECTION: &str = "Selection";
const POLICY: &str = "Policy";
const CHECKS: &str = "Checks";
const SPEED: &str = "Speed";
const OUTPUT: &str = "Output";
const ADVANCED: &str = "Advanced";

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

const MORE: &str = "See `--help` for all options, examples and exit codes.";

/// Copies and verifies the contents of file shares, fast and without losing anything on the way.
#[derive(Debug, Parser)]
#[command(name = "manila-data", version, max_term_width = 100, subcommand_required = true)]
#[command(arg_required_else_help = true, disable_help_subcommand = true, after_help = exit::HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
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

#[derive(Debug, Args)]
pub struct CopyArgs {
    /// Directory whose contents are copied
    #[arg(value_name = "SOURCE", value_hint = ValueHint::DirPath)]
    pub source: PathBuf,
    /// Directory they are put into; made if missing
    #[arg(value_name = "DEST", value_hint = ValueHint::DirPath)]
    pub dest: PathBuf,

    /// Change nothing; list what would be done
    #[arg(short = 'n', long, help_heading = POLICY)]
    pub dry_run: bool,
    /// Remove from DEST what SOURCE does not have
    #[arg(long, help_heading = POLICY)]
    pub delete: bool,
    /// Remove at most N entries; more is a fault, and they stay
    #[arg(long, value_name = "N", requires = "delete", help_heading = POLICY)]
    pub max_delete: Option<u64>,
    /// Compare the content of files that exist, not only their size and time
    #[arg(long, help_heading = POLICY)]
    pub checksum: bool,
    /// After an entry that cannot be copied: continue or stop
    #[arg(long, value_name = "DO", value_enum, default_value_t = OnFaultArg::Continue, help_heading = POLICY)]
    #[arg(hide_possible_values = true)]
    pub on_fault: OnFaultArg,
    /// Attributes that DEST cannot hold: report them, or fail
    #[arg(long, value_name = "DO", value_enum, default_value_t = OnLossArg::Report, help_heading = POLICY)]
    #[arg(hide_possible_values = true)]
    pub on_loss: OnLossArg,

    #[command(flatten)]
    pub selection: SelectionArgs,

    /// Read DEST again at the end: none, attributes or content
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = VerifyArg::None, help_heading = CHECKS)]
    #[arg(hide_possible_values = true)]
    pub verify: VerifyArg,
    /// Checksum files on the way: none, xxh3, blake3 or sha256 [default: xxh3 with --report, else none]
    #[arg(long, value_name = "KIND", value_enum, help_heading = CHECKS, hide_possible_values = true)]
    pub hash: Option<HashArg>,

    #[command(flatten)]
    pub speed: SpeedArgs,
    /// File operations a second, at most
    #[arg(long, value_name = "N", help_heading = SPEED, hide_short_help = true)]
    pub ops_limit: Option<NonZeroU64>,

    #[command(flatten)]
    pub output: OutputArgs,

    /// Where the progress of runs is remembered, outside of both trees
    ///
    /// The default is /var/lib/manila-data for root, and $XDG_STATE_HOME/manila-data or ~/.local/state/manila-data for
    /// others.
    #[arg(long, value_name = "DIR", env = "MANILA_DATA_STATE_DIR", hide_env_values = true)]
    #[arg(value_hint = ValueHint::DirPath, help_heading = ADVANCED, hide_short_help = true)]
    pub state_dir: Option<PathBuf>,
    /// Remember nothing between runs
    ///
    /// After a crash of the machine, what the run before it copied is then not compared again.
    // No conflict with `--state-dir`: that one may come from the environment.
    #[arg(long, help_heading = ADVANCED, hide_short_help = true)]
    pub no_state: bool,
    /// When written data is made durable: at-end (and every few seconds before) or never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = SyncArg::AtEnd, help_heading = ADVANCED)]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub sync: SyncArg,
    /// Holes: as SOURCE tells (keep), also where it has runs of zeros (detect), or as its file system needs (auto)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = SparseArg::Auto, help_heading = ADVANCED)]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub sparse: SparseArg,
    /// Move content only this way: reflink, copy-file-range, sparse, buffered or ranges
    #[arg(long, value_name = "NAME", value_enum, conflicts_with = "no_mover", help_heading = ADVANCED)]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub mover: Option<MoverArg>,
    /// Never move content this way; may be repeated
    #[arg(long, value_name = "NAME", value_enum, help_heading = ADVANCED)]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub no_mover: Vec<MoverArg>,
    /// A further mount of DEST, for creating files of one directory side by side; may be repeated
    #[arg(long, value_name = "PATH", value_hint = ValueHint::DirPath, help_heading = ADVANCED)]
    #[arg(hide_short_help = true)]
    pub dest_lane: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Directory that was copied
    #[arg(value_name = "SOURCE", value_hint = ValueHint::DirPath)]
    pub source: PathBuf,
    /// Directory that holds the copy
    #[arg(value_name = "DEST", value_hint = ValueHint::DirPath)]
    pub dest: PathBuf,

    /// Compare attributes, links and sizes, but read no content
    #[arg(long, help_heading = CHECKS)]
    pub attributes_only: bool,
    /// Compare access times too
    #[arg(long, help_heading = CHECKS)]
    pub atime: bool,
    /// Entries that only DEST has are no differences
    #[arg(long, help_heading = CHECKS)]
    pub ignore_extra: bool,

    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub speed: SpeedArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct SelectionArgs {
    /// Leave out entries of this name, at any depth; may be repeated
    #[arg(long, value_name = "NAME", help_heading = SELECTION, value_parser = ValueParser::os_string())]
    pub ignore: Vec<OsString>,
    /// Leave out what matches; may be repeated
    ///
    /// A pattern with a slash is matched against the path from SOURCE on, one without against names at any depth.
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub exclude: Vec<String>,
    /// Only files that match; may be repeated
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub include: Vec<String>,
    /// Stay on the file system of SOURCE
    #[arg(short = 'x', long, help_heading = SELECTION)]
    pub one_file_system: bool,
    /// Device nodes: recreate or skip
    #[arg(long, value_name = "DO", value_enum, default_value_t = DevicesArg::Recreate, help_heading = SELECTION)]
    #[arg(hide_possible_values = true, hide_short_help = true)]
    pub devices: DevicesArg,
}

#[derive(Debug, Args)]
pub struct SpeedArgs {
    /// Operations in flight [default: found by measuring]
    #[arg(long, value_name = "N", help_heading = SPEED, value_parser = parse_workers)]
    pub workers: Option<NonZeroUsize>,
    /// Bytes a second, at most: 1M, 100MiB, 1.5G
    #[arg(long, value_name = "RATE", help_heading = SPEED, value_parser = parse_rate)]
    pub bandwidth_limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print nothing but errors
    #[arg(short, long, help_heading = OUTPUT)]
    pub quiet: bool,
    /// Print JSON lines for programs on standard output
    #[arg(long, help_heading = OUTPUT, conflicts_with = "quiet")]
    pub json: bool,
    /// Show no progress
    #[arg(long, help_heading = OUTPUT)]
    pub no_progress: bool,
    /// Write one JSON line per entry and a summary to FILE, which must be outside of both trees
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub report: Option<PathBuf>,
    /// Entries in the report: all, or those that were changed, lost something, differ or failed (changes)
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = EntriesArg::All, help_heading = OUTPUT)]
    #[arg(requires = "report", hide_possible_values = true, hide_short_help = true)]
    pub report_entries: EntriesArg,
}

/// More threads than this are a slip of the keyboard, not a wish.
const WORKERS_MAX: usize = 4096;

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    let count: NonZeroUsize = text.parse().map_err(|_| "expected a number of at least 1".to_owned())?;
    if count.get() > WORKERS_MAX {
        return Err(format!("at most {WORKERS_MAX}"));
    }
    Ok(count)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnFaultArg {
    Continue,
    Stop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum OnLossArg {
    Report,
    Fail,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum VerifyArg {
    None,
    Attributes,
    Content,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum HashArg {
    None,
    Xxh3,
    Blake3,
    Sha256,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SyncArg {
    AtEnd,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SparseArg {
    Auto,
    Detect,
    Keep,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DevicesArg {
    Recreate,
    Skip,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum MoverArg {
    Reflink,
    CopyFileRange,
    Sparse,
    Buffered,
    Ranges,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum EntriesArg {
    Changes,
    All,
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
