//! What a command line means: engine options, and where the command keeps and tells things.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use copy::{
    Compare, CompareOptions, CopyOptions, Delete, Devices, Filter, HashKind, Limits, Mover, Movers, OnFault, OnLoss,
    Records, Sparse, Sync, Verify, escape, is_plain_name,
};

use crate::args::engine::{
    CopyArgs, DevicesArg, EntriesArg, HashArg, MoverArg, OnFaultArg, OnLossArg, OutputArgs, PolicyArgs, SelectionArgs,
    SparseArg, SpeedArgs, SyncArg, VerifyArg, VerifyArgs,
};
use crate::error::CliError;
use crate::repository::RepositoryEnvironment;

/// Environment that decides about defaults, read once at the border.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub is_root: bool,
    pub state_home: Option<PathBuf>,
    pub home: Option<PathBuf>,
    pub repository: RepositoryEnvironment,
}

impl Environment {
    pub fn read() -> Self {
        let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Self {
            is_root: rustix::process::geteuid().is_root(),
            state_home: path("XDG_STATE_HOME"),
            home: path("HOME"),
            repository: RepositoryEnvironment::read(),
        }
    }

    /// Where runs are remembered when nobody says otherwise; none without a home.
    pub fn state_dir(&self) -> Option<PathBuf> {
        if self.is_root {
            return Some("/var/lib/manila-data".into());
        }
        let home = || self.home.as_ref().map(|home| home.join(".local/state"));
        self.state_home.clone().or_else(home).map(|dir| dir.join("manila-data"))
    }

    /// Where a run is remembered, if it is.
    pub fn place_of_state(&self, named: Option<PathBuf>, is_forgotten: bool) -> StateDir {
        match named {
            _ if is_forgotten => StateDir::None,
            Some(dir) => StateDir::Named(dir),
            None => self.state_dir().map_or(StateDir::None, StateDir::Default),
        }
    }
}

/// Where the engine remembers a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateDir {
    None,
    /// Named by the user: must work.
    Named(PathBuf),
    /// Our choice: given up with a warning where it would lie inside a tree.
    Default(PathBuf),
}

/// A copy as it is to be run. The engine's own state directory is filled in once it was made.
#[derive(Debug)]
pub struct CopyPlan {
    pub source: PathBuf,
    pub dest: PathBuf,
    pub lanes: Vec<PathBuf>,
    pub state_dir: StateDir,
    pub report: Option<PathBuf>,
    pub options: CopyOptions,
}

/// A comparison as it is to be run.
#[derive(Debug)]
pub struct VerifyPlan {
    pub source: PathBuf,
    pub dest: PathBuf,
    pub report: Option<PathBuf>,
    pub options: CompareOptions,
}

pub fn copy_plan(args: CopyArgs, environment: &Environment) -> Result<CopyPlan, CliError> {
    let filter = filter(&args.selection)?;
    // A dry run leaves no trace anywhere.
    let state_dir = environment.place_of_state(args.state_dir, args.no_state || args.dry_run);
    let hash = match args.hash {
        // Nothing passes by in a dry run.
        _ if args.dry_run => None,
        Some(HashArg::None) => None,
        Some(HashArg::Xxh3) => Some(HashKind::Xxh3Blocks),
        Some(HashArg::Blake3) => Some(HashKind::Blake3),
        Some(HashArg::Sha256) => Some(HashKind::Sha256),
        None => args.output.report.is_some().then_some(HashKind::Xxh3Blocks),
    };
    let movers = match args.transfer.mover {
        Some(name) => Movers::forced(mover(name)),
        None => args.transfer.no_mover.iter().fold(Movers::default(), |movers, name| movers.without(mover(*name))),
    };
    if !Mover::ALL.iter().any(|mover| movers.allows(*mover)) {
        return Err(CliError::Usage("`--no-mover` leaves no way to move content".into()));
    }
    let options = CopyOptions {
        filter,
        compare: compare(&args.policy),
        delete: delete(args.deletion.delete, args.deletion.max_delete),
        on_fault: on_fault(args.policy.on_fault),
        on_loss: on_loss(args.policy.on_loss),
        devices: devices(args.selection.devices),
        sparse: match args.transfer.sparse {
            SparseArg::Auto => Sparse::Auto,
            SparseArg::Detect => Sparse::Detect,
            SparseArg::Keep => Sparse::Keep,
        },
        movers,
        verify: verify(args.verify),
        hash,
        verify_hash: None,
        sync: match args.transfer.sync {
            SyncArg::AtEnd => Sync::AtEnd,
            SyncArg::Never => Sync::Never,
        },
        one_file_system: args.selection.one_file_system,
        dry_run: args.dry_run,
        // A dry run lists what it would change.
        records: match records(&args.output) {
            Records::None if args.dry_run && !args.output.quiet => Records::Changes,
            records => records,
        },
        state_dir: None,
        limits: Limits { operations_per_second: args.ops_limit.map(Into::into), ..limits(&args.speed) },
    };
    Ok(CopyPlan {
        source: args.source,
        dest: args.dest,
        lanes: args.dest_lane,
        state_dir,
        report: args.output.report,
        options,
    })
}

pub fn verify_plan(args: VerifyArgs) -> Result<VerifyPlan, CliError> {
    let options = CompareOptions {
        filter: filter(&args.selection)?,
        content: !args.attributes_only,
        hash: None,
        atime: args.atime,
        extra: !args.ignore_extra,
        devices: devices(args.selection.devices),
        one_file_system: args.selection.one_file_system,
        records: records(&args.output),
        limits: limits(&args.speed),
    };
    Ok(VerifyPlan { source: args.source, dest: args.dest, report: args.output.report, options })
}

pub fn filter(selection: &SelectionArgs) -> Result<Filter, CliError> {
    for name in &selection.ignore {
        if !is_plain_name(name.as_bytes()) {
            let shown = shown(name);
            return Err(CliError::Usage(format!(
                "`--ignore {shown}` can match nothing: it takes a name, not a path (`--exclude` takes paths)"
            )));
        }
    }
    let names: Vec<_> = selection.ignore.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Filter::new(&names, &selection.exclude, &selection.include)?)
}

pub fn compare(policy: &PolicyArgs) -> Compare {
    if policy.checksum { Compare::Content } else { Compare::SizeAndTime }
}

pub fn delete(deletes: bool, max: Option<u64>) -> Delete {
    if deletes { Delete::Extraneous { max_entries: max.unwrap_or(u64::MAX) } } else { Delete::Never }
}

pub fn on_fault(arg: OnFaultArg) -> OnFault {
    match arg {
        OnFaultArg::Continue => OnFault::Continue,
        OnFaultArg::Stop => OnFault::Stop,
    }
}

pub fn on_loss(arg: OnLossArg) -> OnLoss {
    match arg {
        OnLossArg::Report => OnLoss::Report,
        OnLossArg::Fail => OnLoss::Fail,
    }
}

pub fn verify(arg: VerifyArg) -> Verify {
    match arg {
        VerifyArg::None => Verify::None,
        VerifyArg::Attributes => Verify::Attributes,
        VerifyArg::Content => Verify::Content,
    }
}

pub fn records(output: &OutputArgs) -> Records {
    match (&output.report, output.report_entries) {
        (None, _) => Records::None,
        (Some(_), EntriesArg::Changes) => Records::Changes,
        (Some(_), EntriesArg::All) => Records::All,
    }
}

pub fn limits(speed: &SpeedArgs) -> Limits {
    Limits {
        workers: speed.workers.map(NonZeroUsize::get),
        bandwidth_bytes_per_second: speed.bandwidth_limit,
        ..Limits::default()
    }
}

pub fn devices(arg: DevicesArg) -> Devices {
    match arg {
        DevicesArg::Recreate => Devices::Recreate,
        DevicesArg::Skip => Devices::Skip,
    }
}

fn mover(arg: MoverArg) -> Mover {
    match arg {
        MoverArg::Reflink => Mover::Reflink,
        MoverArg::CopyFileRange => Mover::CopyFileRange,
        MoverArg::Sparse => Mover::Sparse,
        MoverArg::Buffered => Mover::Buffered,
        MoverArg::Ranges => Mover::Ranges,
    }
}

/// A path of the command line, safe to print.
pub fn shown(path: impl AsRef<OsStr>) -> String {
    escape(path.as_ref().as_bytes())
}

/// The directory a path's last component lies in.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt as _;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::exit::Exit;

    fn parse(line: &str) -> Command {
        let words = ["manila-data"].into_iter().chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}")).command.expect("a command")
    }

    fn copy_args(line: &str) -> CopyArgs {
        match parse(&format!("copy --no-state s d {line}")) {
            Command::Copy(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn plan(line: &str) -> CopyPlan {
        copy_plan(copy_args(line), &Environment::default()).expect("a valid plan")
    }

    #[test]
    fn without_options_the_engine_gets_its_defaults() {
        let plan = plan("");
        assert_eq!(format!("{:?}", plan.options), format!("{:?}", CopyOptions::default()));
        let Command::Verify(args) = parse("verify s d") else { panic!("verify") };
        let plan = verify_plan(*args).expect("a valid plan");
        assert_eq!(format!("{:?}", plan.options), format!("{:?}", CompareOptions::default()));
    }

    #[test]
    fn each_option_reaches_the_engine() {
        let check = |line: &str, test: fn(&CopyOptions) -> bool| assert!(test(&plan(line).options), "{line}");
        check("--checksum", |o| o.compare == Compare::Content);
        check("--delete", |o| o.delete == Delete::Extraneous { max_entries: u64::MAX });
        check("--delete --max-delete 7", |o| o.delete == Delete::Extraneous { max_entries: 7 });
        check("--on-fault stop", |o| o.on_fault == OnFault::Stop);
        check("--on-loss fail", |o| o.on_loss == OnLoss::Fail);
        check("--devices skip", |o| o.devices == Devices::Skip);
        check("--sparse detect", |o| o.sparse == Sparse::Detect);
        check("--sparse keep", |o| o.sparse == Sparse::Keep);
        check("--verify attributes", |o| o.verify == Verify::Attributes);
        check("--verify content", |o| o.verify == Verify::Content);
        check("--hash blake3", |o| o.hash == Some(HashKind::Blake3));
        check("--hash sha256", |o| o.hash == Some(HashKind::Sha256));
        check("--sync never", |o| o.sync == Sync::Never);
        check("-x", |o| o.one_file_system);
        check("--workers 9", |o| o.limits.workers == Some(9));
        check("--bandwidth-limit 1M", |o| o.limits.bandwidth_bytes_per_second == Some(1_000_000));
        check("--ops-limit 50", |o| o.limits.operations_per_second == Some(50));
        check("--mover sparse", |o| o.movers == Movers::forced(Mover::Sparse));
        check("--no-mover reflink --no-mover ranges", |o| {
            o.movers == Movers::default().without(Mover::Reflink).without(Mover::Ranges)
        });
        check("--ignore .snapshot --exclude *.tmp", |o| !o.filter.is_empty());
        check("-n", |o| o.dry_run && o.records == Records::Changes);
        check("-n -q", |o| o.dry_run && o.records == Records::None);
    }

    #[test]
    fn a_report_brings_checksums_and_all_entries_with_it() {
        let check = |line: &str, hash, records| {
            let options = plan(line).options;
            assert_eq!((options.hash, options.records), (hash, records), "{line}");
        };
        check("--report f", Some(HashKind::Xxh3Blocks), Records::All);
        check("--report f --hash none", None, Records::All);
        check("--report f --report-entries changes", Some(HashKind::Xxh3Blocks), Records::Changes);
        check("--report f --dry-run", None, Records::All);
    }

    #[test]
    fn verify_options_reach_the_engine() {
        let Command::Verify(args) = parse("verify s d --attributes-only --atime --ignore-extra -x --report f") else {
            panic!("verify")
        };
        let o = verify_plan(*args).expect("a valid plan").options;
        assert!(!o.content && o.atime && !o.extra && o.one_file_system && o.records == Records::All);
    }

    #[test]
    fn what_can_mean_nothing_is_a_usage_error() {
        let check = |line: &str| {
            let error = copy_plan(copy_args(line), &Environment::default()).expect_err(line);
            assert_eq!(error.exit(), Exit::Usage, "{line}");
        };
        check("--ignore a/b");
        check("--ignore ..");
        check("--exclude a[");
        check(&Mover::ALL.map(|mover| format!("--no-mover {}", mover.as_str())).join(" "));
    }

    #[test]
    fn ignored_names_are_exact_bytes() {
        let mut args = copy_args("");
        args.selection.ignore = vec![OsString::from_vec(b"\xff\n".to_vec())];
        assert!(copy_plan(args, &Environment::default()).is_ok());
    }

    #[test]
    fn contradictions_are_refused_by_the_parser() {
        for line in ["--max-delete 3", "--mover sparse --no-mover ranges", "-q --json", "--workers 0", "--color red"] {
            let words = format!("manila-data copy s d {line}");
            let error = Cli::try_parse_from(words.split_whitespace()).expect_err(line);
            assert_eq!(error.exit_code(), i32::from(crate::exit::USAGE), "{line}");
        }
    }

    #[test]
    fn the_state_directory_follows_the_user() {
        let state = |line: &str, environment: &Environment| {
            let Command::Copy(args) = parse(&format!("copy s d {line}")) else { panic!("copy") };
            copy_plan(*args, environment).expect("a valid plan").state_dir
        };
        let root = Environment { is_root: true, home: Some("/root".into()), ..Environment::default() };
        let user = Environment { home: Some("/home/a".into()), ..Environment::default() };
        let xdg = Environment { state_home: Some("/s".into()), ..user.clone() };
        let default = |path: &str| StateDir::Default(path.into());
        assert_eq!(state("", &root), default("/var/lib/manila-data"));
        assert_eq!(state("", &user), default("/home/a/.local/state/manila-data"));
        assert_eq!(state("", &xdg), default("/s/manila-data"));
        assert_eq!(state("", &Environment::default()), StateDir::None);
        assert_eq!(state("--state-dir x", &root), StateDir::Named("x".into()));
        assert_eq!(state("--no-state", &root), StateDir::None);
        assert_eq!(state("--dry-run --state-dir x", &root), StateDir::None);
    }
}
