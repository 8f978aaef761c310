//! Arguments of `jobs`: how the service is reached, and what is asked of it.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Args, Subcommand, ValueEnum, ValueHint};
use job::spec::BandwidthWindow;
use job::{EventSeq, JobId};

use super::backup::KeepArgs;
use super::engine::{DeleteArgs, HashArg, PolicyArgs, SelectionArgs, SpeedArgs, TransferArgs, VerifyArg};
use super::{CHECKS, ENDPOINTS, OUTPUT, PASSES, POLICY, REPOSITORY, SCHEDULE, SELECTION, SERVICE, SPEED};
use crate::ui::units::parse_rate;

#[derive(Debug, Args)]
pub struct JobsArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
    #[command(subcommand)]
    pub command: JobsCommand,
}

#[derive(Debug, Args)]
pub struct SchedulesArgs {
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// How the service is reached.
#[derive(Debug, Args)]
pub struct ConnectArgs {
    /// The service's unix socket
    #[arg(long, value_name = "PATH", env = "MANILA_DATA_SOCKET", hide_env_values = true, global = true)]
    #[arg(default_value = crate::config::DEFAULT_SOCKET, value_hint = ValueHint::FilePath, help_heading = SERVICE)]
    pub socket: PathBuf,
    /// The service's address, instead of the socket: https://host:port
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, global = true, help_heading = SERVICE)]
    pub url: Option<String>,
    /// File that holds the token for `--url`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, global = true, help_heading = SERVICE)]
    pub token_file: Option<PathBuf>,
    /// Certificates to trust for `--url`, instead of the system's
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, global = true, help_heading = SERVICE)]
    pub ca_file: Option<PathBuf>,
    /// Print JSON for programs on standard output
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// List jobs, the newest first
    List(ListArgs),
    /// Show one job, with all that is known of it
    Show {
        #[arg(value_name = "JOB")]
        job: JobId,
    },
    /// Make a job
    ///
    /// SOURCE and DEST are directories of the service's machine; with `--source-type` or `--dest-type` they are what
    /// the service is to mount. With `--repository` there is one of them, or none (delete, check, prune). Secrets of mounts never stand on a command line: put them into a file of
    /// `--source-option-file` or into the specification of `--spec`.
    Create(Box<CreateArgs>),
    /// Show the progress of jobs until they have ended
    Watch {
        /// Jobs to watch
        #[arg(value_name = "JOB", required = true)]
        jobs: Vec<JobId>,
    },
    /// Wait until a job has ended, without showing anything
    Wait {
        #[arg(value_name = "JOB")]
        job: JobId,
        /// Give up after so long: 90s, 10m, 2h
        #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = SCHEDULE)]
        timeout: Option<Duration>,
    },
    /// End jobs for good. What they copied stays
    Cancel(ManyArgs),
    /// Let jobs wait until they are resumed
    Pause(ManyArgs),
    /// Let paused jobs go on
    Resume(ManyArgs),
    /// Make the next pass of a migration its last one. Nobody may write to the source any more
    Cutover(ManyArgs),
    /// Change how fast a job may be, also while it runs. What is not named stays as it is
    Limits(LimitsArgs),
    /// Make a job for the entries alone that failed in one that has ended
    RetryFailed {
        #[arg(value_name = "JOB")]
        job: JobId,
        /// Show its progress until it has ended
        #[arg(long, help_heading = OUTPUT)]
        watch: bool,
    },
    /// Print the report of a job: what was done, lost and failed
    Report(ReportArgs),
    /// Write the report's lines, one JSON object for each entry
    Entries(EntriesArgs),
    /// Print what happened to jobs
    Events(EventsArgs),
    /// Remove jobs that have ended, with their reports
    Remove(ManyArgs),
}

#[derive(Debug, Args)]
pub struct ManyArgs {
    #[arg(value_name = "JOB", required = true)]
    pub jobs: Vec<JobId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    Copy,
    Migrate,
    Verify,
    Backup,
    Restore,
    Delete,
    Check,
    Prune,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StateArg {
    Accepted,
    Granting,
    Mounting,
    Working,
    Releasing,
    Completed,
    Cancelled,
    Failed,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Jobs in this state; may be repeated
    #[arg(long, value_name = "STATE", value_enum, help_heading = SELECTION)]
    pub state: Vec<StateArg>,
    /// Jobs of this kind; may be repeated
    #[arg(long, value_name = "KIND", value_enum, help_heading = SELECTION)]
    pub kind: Vec<KindArg>,
    /// Jobs of this name
    #[arg(long, value_name = "NAME", help_heading = SELECTION)]
    pub name: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, help_heading = SELECTION)]
    pub limit: u32,
}

/// Where trees are that are mounted for the job.
#[derive(Debug, Default, Args)]
pub struct EndpointArgs {
    /// SOURCE is mounted, as this type: nfs, cifs, ceph, ext4, fuse.glusterfs
    #[arg(long, value_name = "TYPE", help_heading = ENDPOINTS)]
    pub source_type: Option<String>,
    /// An option of that mount, without secrets: vers=4.1; may be repeated
    #[arg(long, value_name = "OPTION", requires = "source_type", help_heading = ENDPOINTS)]
    pub source_option: Vec<String>,
    /// Options of that mount, one a line; the place for secrets
    #[arg(long, value_name = "FILE", requires = "source_type", help_heading = ENDPOINTS)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub source_option_file: Option<PathBuf>,
    /// A directory below that mount, instead of all of it
    #[arg(long, value_name = "DIR", requires = "source_type", help_heading = ENDPOINTS)]
    pub source_subdir: Option<PathBuf>,
    /// DEST is mounted, as this type
    #[arg(long, value_name = "TYPE", help_heading = ENDPOINTS)]
    pub dest_type: Option<String>,
    /// An option of that mount, without secrets; may be repeated
    #[arg(long, value_name = "OPTION", requires = "dest_type", help_heading = ENDPOINTS)]
    pub dest_option: Vec<String>,
    /// Options of that mount, one a line; the place for secrets
    #[arg(long, value_name = "FILE", requires = "dest_type", help_heading = ENDPOINTS)]
    #[arg(value_hint = ValueHint::FilePath)]
    pub dest_option_file: Option<PathBuf>,
    /// A directory below that mount, instead of all of it
    #[arg(long, value_name = "DIR", requires = "dest_type", help_heading = ENDPOINTS)]
    pub dest_subdir: Option<PathBuf>,
}

/// The engine's options as a job takes them, whoever runs it.
#[derive(Debug, Args)]
pub struct JobOptionArgs {
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Complete in spite of at most N entries that could not be copied
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, help_heading = POLICY)]
    pub accept_faults: u64,
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Read DEST again at the end: none, attributes or content [default: none for copy, else content]
    #[arg(long, value_name = "WHAT", value_enum, help_heading = CHECKS, hide_possible_values = true)]
    pub verify: Option<VerifyArg>,
    /// Checksum files on the way: none, xxh3, blake3 or sha256 [default: xxh3; blake3 for `migrate`]
    #[arg(long, value_name = "KIND", value_enum, help_heading = CHECKS, hide_possible_values = true)]
    pub hash: Option<HashArg>,
    #[command(flatten)]
    pub speed: SpeedArgs,
    /// File operations a second, at most
    #[arg(long, value_name = "N", help_heading = SPEED)]
    pub ops_limit: Option<NonZeroU64>,
    #[command(flatten)]
    pub transfer: TransferArgs,
    /// Entries in the report: all, those that were changed, lost something, differ or failed (changes), or none
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = ReportEntriesArg::All, help_heading = OUTPUT)]
    #[arg(hide_possible_values = true)]
    pub report_entries: ReportEntriesArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ReportEntriesArg {
    All,
    Changes,
    None,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// What is to be done: copy, migrate, verify; or with `--repository` backup, restore, delete, check, prune
    #[arg(value_name = "KIND", value_enum, required_unless_present = "spec", hide_possible_values = true)]
    pub kind: Option<KindArg>,
    /// Directory, or what is mounted with `--source-type`; of `restore`, DEST stands here
    #[arg(value_name = "SOURCE", value_parser = ValueParser::path_buf())]
    pub source: Option<PathBuf>,
    /// Directory, or what is mounted with `--dest-type`; not with `--repository`
    #[arg(value_name = "DEST", value_parser = ValueParser::path_buf())]
    pub dest: Option<PathBuf>,
    /// The whole job as JSON, from FILE or from standard input (-), instead of all other options
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = ENDPOINTS)]
    #[arg(conflicts_with_all = ["kind", "source", "dest", "source_type", "dest_type"])]
    pub spec: Option<PathBuf>,
    /// A name for people
    #[arg(long, value_name = "NAME", help_heading = OUTPUT)]
    pub name: Option<String>,
    /// Show its progress until it has ended
    #[arg(long, help_heading = OUTPUT)]
    pub watch: bool,
    /// Makes one job however often the command is run with the same KEY
    #[arg(long, value_name = "KEY", help_heading = SERVICE)]
    pub idempotency_key: Option<String>,

    #[command(flatten)]
    pub endpoints: EndpointArgs,
    #[command(flatten)]
    pub repository: JobRepositoryArgs,
    #[command(flatten)]
    pub keep: KeepArgs,
    /// Change nothing; report what would be done
    #[arg(short = 'n', long, help_heading = POLICY)]
    pub dry_run: bool,
    #[command(flatten)]
    pub deletion: DeleteArgs,
    #[command(flatten)]
    pub options: JobOptionArgs,
    /// Compare access times too (verify)
    #[arg(long, help_heading = CHECKS)]
    pub atime: bool,
    /// Entries that only DEST has are no differences (verify)
    #[arg(long, help_heading = CHECKS)]
    pub ignore_extra: bool,
    #[command(flatten)]
    pub windows: WindowArgs,
    #[command(flatten)]
    pub passes: PassArgs,
    /// Cut over by itself, once it is predicted to be short enough or after the last pass (migrate)
    #[arg(long, help_heading = PASSES)]
    pub auto_cutover: bool,
    /// Hook of the service that makes the source read-only before the cutover (migrate)
    #[arg(long, value_name = "NAME", help_heading = PASSES)]
    pub hook: Option<String>,

    /// Run before jobs of a lower number, and after those of a higher one
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true, help_heading = SCHEDULE)]
    #[arg(hide_default_value = true)]
    pub priority: i32,
    /// Do not begin before: 2027-01-31T22:00:00Z, or a span such as 90m from now
    #[arg(long, value_name = "WHEN", value_parser = parse_moment, help_heading = SCHEDULE)]
    pub start_after: Option<jiff::Timestamp>,
    /// Fail when it has not ended by then
    #[arg(long, value_name = "WHEN", value_parser = parse_moment, help_heading = SCHEDULE)]
    pub deadline: Option<jiff::Timestamp>,
    /// Tell this address when the job has ended
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url, help_heading = SCHEDULE)]
    pub webhook: Option<String>,
    /// File with the key of the webhook's signature [default: the service's own key]
    #[arg(long, value_name = "FILE", requires = "webhook", value_hint = ValueHint::FilePath, help_heading = SCHEDULE)]
    pub webhook_secret_file: Option<PathBuf>,
}

/// What a job does with a repository of backups.
#[derive(Debug, Args)]
pub struct JobRepositoryArgs {
    /// Repository of the service's configuration, by its name there
    #[arg(long, value_name = "NAME", help_heading = REPOSITORY)]
    pub repository: Option<String>,
    /// A directory below it that is the repository, instead of all of it
    #[arg(long, value_name = "DIR", requires = "repository", help_heading = REPOSITORY)]
    pub repository_subdir: Option<PathBuf>,
    /// Make the repository where there is none (backup)
    #[arg(long, requires = "repository", help_heading = REPOSITORY)]
    pub init: bool,
    /// Which backup: the name it has or gets; of restic also the beginning of a snapshot's identifier, or `latest`
    #[arg(long, value_name = "ID", requires = "repository", help_heading = REPOSITORY)]
    pub id: Option<String>,
    /// What the backup is of; backups of one share build on each other (restic)
    #[arg(long, value_name = "NAME", requires = "repository", help_heading = REPOSITORY)]
    pub share: Option<String>,
    /// Tag the snapshot (backup, restic); may be repeated
    #[arg(long, value_name = "TAG", requires = "repository", help_heading = REPOSITORY)]
    pub tag: Vec<String>,
    /// Only this path of the backup, and what is below it (restore); may be repeated
    #[arg(long, value_name = "PATH", requires = "repository", help_heading = REPOSITORY)]
    pub path: Vec<PathBuf>,
    /// Read so much of the data, in percent (check)
    #[arg(long, value_name = "PERCENT", default_value_t = 0, hide_default_value = true, requires = "repository")]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=100), help_heading = REPOSITORY)]
    pub read_data: u8,
}

/// The passes of a migration.
#[derive(Debug, Args)]
pub struct PassArgs {
    /// From the end of one pass to the beginning of the next: 90s, 15m, 6h [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = PASSES)]
    pub interval: Option<Duration>,
    /// At most so many passes before the cutover, the first one counted
    #[arg(long, value_name = "N", help_heading = PASSES)]
    pub passes: Option<u32>,
    /// Short enough for a cutover that happens by itself: 30s, 10m
    #[arg(long, value_name = "TIME", value_parser = parse_span, help_heading = PASSES)]
    pub cutover_max: Option<Duration>,
}

#[derive(Clone, Debug, Default, Args)]
pub struct WindowArgs {
    /// Another bandwidth for a part of the day: 22:00-06:00=500M, mon,tue 08:00-18:00=10MiB, 12:00-13:00=none
    ///
    /// May be repeated; the first one that fits counts.
    #[arg(long, value_name = "WINDOW", value_parser = parse_window, help_heading = SPEED)]
    pub bandwidth_window: Vec<BandwidthWindow>,
    /// Time zone of the windows: Europe/Vienna [default: the service's own]
    #[arg(long, value_name = "ZONE", help_heading = SPEED)]
    pub time_zone: Option<String>,
}

/// A bound, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    None,
    Max(u64),
}

impl From<Bound> for Option<u64> {
    fn from(bound: Bound) -> Self {
        match bound {
            Bound::None => None,
            Bound::Max(max) => Some(max),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub struct LimitsArgs {
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Bytes a second, at most: 1M, 100MiB, 1.5G, none
    #[arg(long, value_name = "RATE", value_parser = parse_rate_bound, help_heading = SPEED)]
    pub bandwidth_limit: Option<Bound>,
    /// File operations a second, at most, or none
    #[arg(long, value_name = "N", value_parser = parse_count_bound, help_heading = SPEED)]
    pub ops_limit: Option<Bound>,
    #[command(flatten)]
    pub windows: WindowArgs,
    /// Take all windows away
    #[arg(long, conflicts_with = "bandwidth_window", help_heading = SPEED)]
    pub no_windows: bool,
}

#[derive(Debug, Args)]
pub struct ReportArgs {
    #[arg(value_name = "JOB")]
    pub job: JobId,
    /// Of this pass [default: the last]
    #[arg(long, value_name = "N", help_heading = SELECTION)]
    pub pass: Option<u32>,
}

#[derive(Debug, Args)]
pub struct EntriesArgs {
    #[command(flatten)]
    pub report: ReportArgs,
    /// Write to FILE instead of standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = OUTPUT)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Of this job alone
    #[arg(value_name = "JOB")]
    pub job: Option<JobId>,
    /// What came after the event of this number
    #[arg(long, value_name = "N", value_parser = parse_seq, help_heading = SELECTION)]
    pub after: Option<EventSeq>,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(long, short, help_heading = OUTPUT)]
    pub follow: bool,
}

fn parse_seq(text: &str) -> Result<EventSeq, String> {
    text.parse().map(EventSeq).map_err(|_| "expected the number of an event".to_owned())
}

fn parse_rate_bound(text: &str) -> Result<Bound, String> {
    if text == "none" { Ok(Bound::None) } else { parse_rate(text).map(Bound::Max) }
}

fn parse_count_bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(Bound::None);
    }
    text.parse::<NonZeroU64>().map(|max| Bound::Max(max.get())).map_err(|_| "expected a number, or none".to_owned())
}

/// A time from now: `90`, `90s`, `15m`, `6h`, `30d`.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a time such as 90s, 15m, 6h or 30d".to_owned();
    let number_len = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_len);
    let value: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        "" | "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = value.checked_mul(seconds).filter(|seconds| *seconds <= SPAN_SECONDS_MAX);
    seconds.map(Duration::from_secs).ok_or_else(|| "at most 100 years".to_owned())
}

/// Longer than any job, and far from the end of what a time stamp can hold.
const SPAN_SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// A moment, or a span from now on.
pub fn parse_moment(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment);
    }
    let span = parse_span(text).map_err(|_| "expected a time such as 2027-01-31T22:00:00Z, or a span such as 90m")?;
    jiff::Timestamp::now().checked_add(span).map_err(|error| error.to_string())
}

/// `[DAYS ]FROM-TO=RATE`. Whether days and hours are ones is the service's to judge.
fn parse_window(text: &str) -> Result<BandwidthWindow, String> {
    let wrong = || "expected [DAYS ]FROM-TO=RATE, such as 22:00-06:00=500M or mon,fri 08:00-18:00=none".to_owned();
    let (span, rate) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (days, hours) = span.trim().rsplit_once(' ').unwrap_or(("", span.trim()));
    let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
    let day = |day: &str| {
        let word = serde_json::Value::String(day.trim().to_ascii_lowercase());
        serde_json::from_value(word).map_err(|_| format!("`{day}` is no day: mon, tue, wed, thu, fri, sat or sun"))
    };
    Ok(BandwidthWindow {
        days: days.split(',').filter(|day| !day.trim().is_empty()).map(day).collect::<Result<_, _>>()?,
        from: from.trim().to_owned(),
        to: to.trim().to_owned(),
        bandwidth_bytes_per_second: parse_rate_bound(rate.trim())?.into(),
    })
}

#[cfg(test)]
mod tests {
    use job::spec::Day;

    use super::*;

    #[test]
    fn spans_and_moments_are_read() {
        let check = |text: &str, seconds| assert_eq!(parse_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        check("90", 90);
        check("90s", 90);
        check("15m", 900);
        check("6h", 21_600);
        check("30d", 2_592_000);
        for wrong in ["", "m", "-1", "1w", "1.5h", "99999999999999999999", "9999999d"] {
            assert!(parse_span(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_moment("2027-01-31T22:00:00Z").map(|at| at.to_string()), Ok("2027-01-31T22:00:00Z".into()));
        let soon = parse_moment("1h").expect("a span");
        assert!(soon > jiff::Timestamp::now());
        assert!(parse_moment("tomorrow").is_err());
    }

    #[test]
    fn windows_are_read() {
        let window = parse_window("22:00-06:00=500M").expect("a window");
        assert_eq!((window.from.as_str(), window.to.as_str()), ("22:00", "06:00"));
        assert_eq!((window.days.len(), window.bandwidth_bytes_per_second), (0, Some(500_000_000)));
        let window = parse_window("Mon,sun 08:00-18:00=none").expect("a window");
        assert_eq!((window.days, window.bandwidth_bytes_per_second), (vec![Day::Mon, Day::Sun], None));
        for wrong in ["", "22:00=1M", "22:00-06:00", "someday 1:00-2:00=1M", "1:00-2:00=fast"] {
            assert!(parse_window(wrong).is_err(), "{wrong}");
        }
    }
}
