//! Arguments that say how trees are copied or compared: of `copy` and `verify`, and of jobs that do the same.

use std::ffi::OsString;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Args, ValueEnum, ValueHint};

use super::{ADVANCED, CHECKS, OUTPUT, POLICY, SELECTION, SPEED};
use crate::ui::units::parse_rate;

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
    #[command(flatten)]
    pub deletion: DeleteArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
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
    #[command(flatten)]
    pub transfer: TransferArgs,
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
pub struct DeleteArgs {
    /// Remove from DEST what SOURCE does not have
    #[arg(long, help_heading = POLICY)]
    pub delete: bool,
    /// Remove at most N entries; more is a fault, and they stay
    #[arg(long, value_name = "N", requires = "delete", help_heading = POLICY)]
    pub max_delete: Option<u64>,
}

#[derive(Debug, Args)]
pub struct PolicyArgs {
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

/// How content travels and becomes durable.
#[derive(Debug, Args)]
pub struct TransferArgs {
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
