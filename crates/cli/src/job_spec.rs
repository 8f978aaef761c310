//! From arguments to the specification of a job: the one place for both `jobs create` and `migrate`.

use std::io::Read as _;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use job::spec::{
    Cutover, Devices, Endpoint, Hash, MigratePlan, Mover, OnFault, OnLoss, Options, RateLimits, ReportEntries, Sparse,
    Sync, Verify, Webhook,
};
use job::{BackupPlan, JobSpec, Keep, Kind, Sensitive, is_secret_key};

use crate::args::backup::KeepArgs;
use crate::args::engine::{
    DeleteArgs, DevicesArg, HashArg, MoverArg, OnFaultArg, OnLossArg, SparseArg, SyncArg, VerifyArg,
};
use crate::args::jobs::{
    CreateArgs, EndpointArgs, JobOptionArgs, JobRepositoryArgs, KindArg, PassArgs, ReportEntriesArg,
};
use crate::error::CliError;
use crate::plan::shown;

/// A specification is a page of text; more is another file.
const SPEC_BYTES_MAX: u64 = 4 << 20;

/// What `jobs create` asks for.
pub fn of_create(args: &CreateArgs) -> Result<JobSpec, CliError> {
    if let Some(file) = &args.spec {
        return read_spec(file);
    }
    let Some(kind) = args.kind.map(Kind::from) else {
        return Err(CliError::Usage("a job has a KIND, or a `--spec`".into()));
    };
    let (source, dest) = sides(args, kind)?;
    let mut spec = JobSpec::new(kind, source, dest);
    spec.backup = kind.repository_side().map(|_| backup_plan(&args.repository, &args.keep));
    spec.name.clone_from(&args.name);
    spec.options = options(&args.options, Hash::Xxh3)?;
    let DeleteArgs { delete, max_delete } = args.deletion;
    spec.options = Options {
        delete,
        max_delete,
        dry_run: args.dry_run,
        atime: args.atime,
        ignore_extra: args.ignore_extra,
        ..spec.options
    };
    spec.limits = RateLimits {
        windows: args.windows.bandwidth_window.clone(),
        time_zone: args.windows.time_zone.clone(),
        ..limits(&args.options)
    };
    spec.schedule.priority = args.priority;
    spec.schedule.start_after = args.start_after;
    spec.schedule.deadline = args.deadline;
    let cutover = if args.auto_cutover { Cutover::Automatic } else { Cutover::Manual };
    spec.migrate = MigratePlan { cutover, hook: args.hook.clone(), ..passes(&args.passes) };
    if let Some(url) = &args.webhook {
        let secret = args.webhook_secret_file.as_deref().map(read_secret).transpose()?;
        spec.webhook = Some(Webhook { url: url.clone(), secret: secret.map(Sensitive::secret) });
    }
    Ok(spec)
}

/// What a job of this kind works on.
fn sides(args: &CreateArgs, kind: Kind) -> Result<(Endpoint, Endpoint), CliError> {
    let word = kind.as_str();
    let usage = |text: String| Err(CliError::Usage(text));
    let Some(side) = kind.repository_side() else {
        if args.repository.repository.is_some() {
            return usage(format!("`--repository` is not for a job of kind {word}"));
        }
        return match (&args.source, &args.dest) {
            (Some(source), Some(dest)) => endpoints(&args.endpoints, source, dest),
            _ => usage(format!("a job of kind {word} has a SOURCE and a DEST")),
        };
    };
    let Some(name) = args.repository.repository.clone() else {
        return usage(format!("a job of kind {word} has a `--repository`, by its name in the service's configuration"));
    };
    let repository = Endpoint::Repository { name };
    let tree = match (&args.source, &args.dest) {
        (Some(_), Some(_)) => return usage(format!("a job of kind {word} has one directory at most")),
        (Some(tree), None) if matches!(kind, Kind::Backup) => source_side(&args.endpoints).endpoint(tree)?,
        (Some(tree), None) if matches!(kind, Kind::Restore) => dest_side(&args.endpoints).endpoint(tree)?,
        (Some(_), None) => return usage(format!("a job of kind {word} has a `--repository`, and no directory")),
        (None, _) if matches!(kind, Kind::Backup | Kind::Restore) => {
            return usage(format!("a job of kind {word} has a directory beside its `--repository`"));
        }
        (None, _) => Endpoint::None,
    };
    Ok(match side {
        job::Side::Source => (repository, tree),
        job::Side::Dest => (tree, repository),
    })
}

fn backup_plan(args: &JobRepositoryArgs, keep: &KeepArgs) -> BackupPlan {
    BackupPlan {
        subdir: args.repository_subdir.clone(),
        id: args.id.clone(),
        share: args.share.clone(),
        tags: args.tag.clone(),
        init: args.init,
        paths: args.path.clone(),
        read_data_percent: args.read_data,
        keep: self::keep(keep),
        ..BackupPlan::default()
    }
}

/// Which backups stay.
pub fn keep(args: &KeepArgs) -> Keep {
    let count = |count: Option<NonZeroU32>| count.map(Into::into);
    Keep {
        last: count(args.last),
        hourly: count(args.hourly),
        daily: count(args.daily),
        weekly: count(args.weekly),
        monthly: count(args.monthly),
        yearly: count(args.yearly),
    }
}

/// The options that every kind of job has.
pub fn options(args: &JobOptionArgs, default_hash: Hash) -> Result<Options, CliError> {
    let ignore = args.selection.ignore.iter().map(|name| {
        name.to_str().map(ToOwned::to_owned).ok_or_else(|| {
            CliError::Usage(format!("`--ignore {}` is not UTF-8; a job takes names as text only", shown(name)))
        })
    });
    Ok(Options {
        ignore: ignore.collect::<Result<_, _>>()?,
        exclude: args.selection.exclude.clone(),
        include: args.selection.include.clone(),
        one_file_system: args.selection.one_file_system,
        devices: match args.selection.devices {
            DevicesArg::Recreate => Devices::Recreate,
            DevicesArg::Skip => Devices::Skip,
        },
        checksum: args.policy.checksum,
        on_fault: match args.policy.on_fault {
            OnFaultArg::Continue => OnFault::Continue,
            OnFaultArg::Stop => OnFault::Stop,
        },
        on_loss: match args.policy.on_loss {
            OnLossArg::Report => OnLoss::Report,
            OnLossArg::Fail => OnLoss::Fail,
        },
        faults_accepted: args.accept_faults,
        verify: args.verify.map(|verify| match verify {
            VerifyArg::None => Verify::None,
            VerifyArg::Attributes => Verify::Attributes,
            VerifyArg::Content => Verify::Content,
        }),
        hash: args.hash.map_or(default_hash, |hash| match hash {
            HashArg::None => Hash::None,
            HashArg::Xxh3 => Hash::Xxh3,
            HashArg::Blake3 => Hash::Blake3,
            HashArg::Sha256 => Hash::Sha256,
        }),
        sync: match args.transfer.sync {
            SyncArg::AtEnd => Sync::AtEnd,
            SyncArg::Never => Sync::Never,
        },
        sparse: match args.transfer.sparse {
            SparseArg::Auto => Sparse::Auto,
            SparseArg::Detect => Sparse::Detect,
            SparseArg::Keep => Sparse::Keep,
        },
        mover: args.transfer.mover.map(mover),
        no_mover: args.transfer.no_mover.iter().copied().map(mover).collect(),
        // The parser takes numbers far below this bound.
        workers: args.speed.workers.map(|workers| u32::try_from(workers.get()).unwrap_or(u32::MAX)),
        report_entries: match args.report_entries {
            ReportEntriesArg::All => ReportEntries::All,
            ReportEntriesArg::Changes => ReportEntries::Changes,
            ReportEntriesArg::None => ReportEntries::None,
        },
        ..Options::default()
    })
}

pub fn limits(args: &JobOptionArgs) -> RateLimits {
    RateLimits {
        bandwidth_bytes_per_second: args.speed.bandwidth_limit,
        operations_per_second: args.ops_limit.map(Into::into),
        ..RateLimits::default()
    }
}

pub fn passes(args: &PassArgs) -> MigratePlan {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let plan = MigratePlan::default();
    MigratePlan {
        interval_seconds: args.interval.map_or(plan.interval_seconds, seconds),
        passes_max: args.passes,
        cutover_seconds_max: args.cutover_max.map(seconds),
        ..plan
    }
}

/// SOURCE and DEST: directories, or what is to be mounted.
pub fn endpoints(args: &EndpointArgs, source: &Path, dest: &Path) -> Result<(Endpoint, Endpoint), CliError> {
    Ok((source_side(args).endpoint(source)?, dest_side(args).endpoint(dest)?))
}

fn source_side(args: &EndpointArgs) -> Side<'_> {
    Side {
        name: "source",
        fs_type: args.source_type.as_deref(),
        options: &args.source_option,
        option_file: args.source_option_file.as_deref(),
        subdir: args.source_subdir.as_deref(),
    }
}

fn dest_side(args: &EndpointArgs) -> Side<'_> {
    Side {
        name: "dest",
        fs_type: args.dest_type.as_deref(),
        options: &args.dest_option,
        option_file: args.dest_option_file.as_deref(),
        subdir: args.dest_subdir.as_deref(),
    }
}

struct Side<'a> {
    name: &'static str,
    fs_type: Option<&'a str>,
    options: &'a [String],
    option_file: Option<&'a Path>,
    subdir: Option<&'a Path>,
}

impl Side<'_> {
    fn endpoint(&self, what: &Path) -> Result<Endpoint, CliError> {
        let Some(fs_type) = self.fs_type else {
            // The service has another working directory than the person who types.
            let path = std::path::absolute(what).map_err(|source| CliError::Read { path: what.into(), source })?;
            return Ok(Endpoint::Directory { path });
        };
        let Some(source) = what.to_str() else {
            return Err(CliError::Usage(format!("`{}` is not UTF-8, as what is mounted must be", shown(what))));
        };
        for option in self.options.iter().flat_map(|options| options.split(',')) {
            let key = option.split('=').next().unwrap_or_default();
            if is_secret_key(key.trim()) && option.contains('=') {
                return Err(CliError::Usage(format!(
                    "`--{0}-option {key}=...` would show a secret to everybody on this machine: \
                     write it into a file and name that with `--{0}-option-file`",
                    self.name
                )));
            }
        }
        let mut options: Vec<_> = self.options.iter().map(Sensitive::new).collect();
        if let Some(file) = self.option_file {
            let text = read_text(file)?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            options.extend(lines.map(Sensitive::new));
        }
        Ok(Endpoint::Mount {
            fs_type: fs_type.to_owned(),
            source: source.to_owned(),
            options,
            subdir: self.subdir.map(PathBuf::from),
        })
    }
}

fn read_spec(file: &Path) -> Result<JobSpec, CliError> {
    let text = read_text(file)?;
    serde_json::from_str(&text).map_err(|source| CliError::Spec { path: file.into(), source })
}

fn read_secret(file: &Path) -> Result<String, CliError> {
    let text = read_text(file)?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// A file of the user's, or standard input for `-`.
pub fn read_text(file: &Path) -> Result<String, CliError> {
    let fail = |source| CliError::Read { path: file.into(), source };
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(SPEC_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(SPEC_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(fail)?;
    Ok(text)
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

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Copy => Self::Copy,
            KindArg::Migrate => Self::Migrate,
            KindArg::Verify => Self::Verify,
            KindArg::Backup => Self::Backup,
            KindArg::Restore => Self::Restore,
            KindArg::Delete => Self::Delete,
            KindArg::Check => Self::Check,
            KindArg::Prune => Self::Prune,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::jobs::JobsCommand;
    use crate::args::{Cli, Command};

    fn create(line: &str) -> Result<JobSpec, CliError> {
        let words = ["manila-data", "jobs", "create"].into_iter().chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        let Some(Command::Jobs(jobs)) = cli.command else { panic!("jobs") };
        let JobsCommand::Create(args) = jobs.command else { panic!("create") };
        of_create(&args)
    }

    #[test]
    fn without_options_a_job_has_the_defaults_of_its_format() {
        let directory = |path: &str| Endpoint::Directory { path: path.into() };
        let spec = create("copy /s /d").expect("a specification");
        assert_eq!(spec, JobSpec::new(Kind::Copy, directory("/s"), directory("/d")));
    }

    #[test]
    fn each_option_reaches_the_specification() {
        let check = |line: &str, test: fn(&JobSpec) -> bool| {
            let spec = create(&format!("migrate /s /d {line}")).expect(line);
            assert!(test(&spec), "{line}: {spec:?}");
        };
        check("", |s| s.kind == Kind::Migrate);
        check("--delete --max-delete 7", |s| s.options.delete && s.options.max_delete == Some(7));
        check("--checksum", |s| s.options.checksum);
        check("--on-fault stop", |s| s.options.on_fault == OnFault::Stop);
        check("--on-loss fail", |s| s.options.on_loss == OnLoss::Fail);
        check("--accept-faults 3", |s| s.options.faults_accepted == 3);
        check("--ignore .snapshot", |s| s.options.ignore == [".snapshot"]);
        check("--exclude *.o --include *.c", |s| s.options.exclude == ["*.o"] && s.options.include == ["*.c"]);
        check("-x --devices skip", |s| s.options.one_file_system && s.options.devices == Devices::Skip);
        check("--verify attributes", |s| s.options.verify == Some(Verify::Attributes));
        check("--hash sha256", |s| s.options.hash == Hash::Sha256);
        check("--sync never --sparse keep", |s| s.options.sync == Sync::Never && s.options.sparse == Sparse::Keep);
        check("--mover ranges", |s| s.options.mover == Some(Mover::Ranges));
        check("--no-mover reflink", |s| s.options.no_mover == [Mover::Reflink]);
        check("--workers 9", |s| s.options.workers == Some(9));
        check("--dry-run", |s| s.options.dry_run);
        check("--atime --ignore-extra", |s| s.options.atime && s.options.ignore_extra);
        check("--report-entries none", |s| s.options.report_entries == ReportEntries::None);
        check("--bandwidth-limit 1M", |s| s.limits.bandwidth_bytes_per_second == Some(1_000_000));
        check("--ops-limit 5", |s| s.limits.operations_per_second == Some(5));
        check("--bandwidth-window 1:00-2:00=1k --time-zone UTC", |s| {
            s.limits.windows.len() == 1 && s.limits.time_zone.as_deref() == Some("UTC")
        });
        check("--interval 1h --passes 3 --cutover-max 2m", |s| {
            let plan = &s.migrate;
            (plan.interval_seconds, plan.passes_max, plan.cutover_seconds_max) == (3_600, Some(3), Some(120))
        });
        check("--auto-cutover --hook freeze", |s| {
            s.migrate.cutover == Cutover::Automatic && s.migrate.hook.as_deref() == Some("freeze")
        });
        check("--priority -2 --start-after 1h --deadline 2h", |s| {
            s.schedule.priority == -2 && s.schedule.start_after < s.schedule.deadline
        });
        check("--name home --webhook https://x.example/", |s| s.name.is_some() && s.webhook.is_some());
    }

    #[test]
    fn jobs_on_a_repository_have_the_sides_of_their_kind() {
        let directory = |path: &str| Endpoint::Directory { path: path.into() };
        let repository = || Endpoint::Repository { name: "nightly".into() };
        let check = |line: &str, source: Endpoint, dest: Endpoint, test: fn(&BackupPlan) -> bool| {
            let spec = create(line).expect(line);
            assert_eq!((&spec.source, &spec.dest), (&source, &dest), "{line}");
            assert!(spec.backup.as_ref().is_some_and(test), "{line}: {spec:?}");
        };
        check(
            "backup /s --repository nightly --id b1 --share home --tag t --init --repository-subdir p",
            directory("/s"),
            repository(),
            |b| {
                b.id.as_deref() == Some("b1")
                    && b.share.as_deref() == Some("home")
                    && b.tags == ["t"]
                    && b.init
                    && b.subdir.is_some()
            },
        );
        check("restore /d --repository nightly --id latest --path a/b", repository(), directory("/d"), |b| {
            b.paths == [PathBuf::from("a/b")]
        });
        check("delete --repository nightly --id b1", Endpoint::None, repository(), |b| b.id.is_some());
        check("check --repository nightly --read-data 10", repository(), Endpoint::None, |b| b.read_data_percent == 10);
        check("prune --repository nightly --keep-last 2 --keep-yearly 3", Endpoint::None, repository(), |b| {
            b.keep == Keep { last: Some(2), yearly: Some(3), ..Keep::default() }
        });
        let spec = create("restore h:/x --dest-type nfs --repository nightly --id x").expect("a specification");
        assert!(matches!(spec.dest, Endpoint::Mount { .. }), "{spec:?}");
        for wrong in [
            "copy /s",
            "copy /s /d --repository nightly",
            "backup /s",
            "backup --repository nightly",
            "backup /s /d --repository nightly",
            "restore --repository nightly --id x",
            "check /s --repository nightly",
        ] {
            let error = create(wrong).expect_err(wrong);
            assert_eq!(error.exit(), crate::exit::Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn mounts_are_described_and_secrets_come_from_files_alone() {
        let file = std::env::temp_dir().join(format!("manila-data-options-{}", std::process::id()));
        std::fs::write(&file, "# of the share\nuser=a\npassword=geheim\n\n").unwrap();
        let line = format!(
            "copy //h/s /d --source-type cifs --source-option vers=3.0 --source-option-file {} --source-subdir a",
            file.display()
        );
        let spec = create(&line).expect("a specification");
        let Endpoint::Mount { fs_type, source, options, subdir } = &spec.source else { panic!("{spec:?}") };
        assert_eq!((fs_type.as_str(), source.as_str(), subdir.as_deref()), ("cifs", "//h/s", Some(Path::new("a"))));
        let options: Vec<_> = options.iter().map(Sensitive::expose).collect();
        assert_eq!(options, ["vers=3.0", "user=a", "password=geheim"]);
        assert!(!format!("{spec:?}").contains("geheim"));
        for option in ["password=geheim", "vers=3,PASS=geheim"] {
            let error = create(&format!("copy //h/s /d --source-type cifs --source-option {option}")).unwrap_err();
            assert!(error.to_string().contains("--source-option-file"), "{error}");
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_specification_is_read_from_a_file() {
        let file = std::env::temp_dir().join(format!("manila-data-spec-{}", std::process::id()));
        let text =
            r#"{"kind":"verify","source":{"type":"directory","path":"/s"},"dest":{"type":"directory","path":"/d"}}"#;
        std::fs::write(&file, text).unwrap();
        let line = format!("--spec {}", file.display());
        assert_eq!(create(&line).expect("a specification").kind, Kind::Verify);
        std::fs::write(&file, r#"{"kind":"verify","sorce":1}"#).unwrap();
        let error = create(&line).unwrap_err();
        assert!(error.causes().join(" ").contains("sorce"), "{:?}", error.causes());
        std::fs::remove_file(&file).unwrap();
    }
}
