//! `backup create`: adds a backup of PATH to a repository.

use std::path::{Path, PathBuf};

use backup::directory::{Context as ExportContext, Created, Publish, Request};
use backup::restic::{BackupContext, BackupOptions, Parent, Repository, SnapshotFilter, name_tag, share_tag};
use copy::{CopyOptions, CopyReport, Ending, Filter, LocalTree, Monitor, OnFault, RelPath, StopToken, Throttle};
use job::documents::{BackupFacts, CopySummary};

use super::scratch::Scratch;
use super::{Attended, Context, Show, attended};
use crate::args::backup::CreateArgs;
use crate::commands::{conclude, progress_style};
use crate::error::CliError;
use crate::exit::Exit;
use crate::paths::{Reach, is_inside};
use crate::plan::{self, shown};
use crate::repository::open::{Missing, Opened, backup_id, open};
use crate::repository::{RepositoryPlan, repository_plan};
use crate::ui::console::Volume;
use crate::ui::json::CommandSummary;
use crate::ui::monitor::Stdout;
use crate::ui::summary as ui_summary;

/// What became of the backup.
struct Made {
    report: CopyReport,
    /// `None`: there is none.
    facts: Option<BackupFacts>,
}

pub fn run(cx: &Context<'_>, args: &CreateArgs) -> Result<Exit, CliError> {
    let plan = repository_plan(&args.repository, &cx.environment.repository, cx.console)?;
    refuse_what_the_format_has_not(args, &plan)?;
    let filter = plan::filter(&args.selection)?;
    refuse_inside(args, &plan, &filter)?;
    let show = Show {
        style: progress_style(&args.output),
        stdout: if args.output.json { Stdout::Events } else { Stdout::Nothing },
        report: args.output.report.as_deref(),
    };
    let Attended { done: made, signal, warned, report } = attended(cx, &show, |monitor, stop| {
        let source = crate::trees::open_path(&args.path)?;
        let missing = if args.init { Missing::Make } else { Missing::Refuse };
        match open(&plan, missing, stop)? {
            Opened::Restic(repository) => snapshot(&repository, args, filter, &source, monitor, stop),
            Opened::Directory(export) => {
                let scratch = Scratch::new()?;
                let throttle = throttle(args);
                let context = ExportContext { monitor, stop, throttle: &throttle, scratch: scratch.path() };
                let id = backup_id(args.id.as_deref().unwrap_or_default())?;
                let token = token();
                let publish = match plan::on_fault(args.on_fault) {
                    OnFault::Continue => Publish::WithFaults,
                    OnFault::Stop => Publish::Complete,
                };
                let request = Request { id: &id, token: &token, publish };
                Ok(Made::from(export.create(&context, &request, &source, &copy_options(args, filter))?))
            }
        }
    })?;
    let exit = Exit::of_copy(&made.report, signal);
    let mut summary = CopySummary::new(&made.report, false);
    summary.backup = made.facts;
    match cx.console.volume {
        Volume::Normal => {
            for line in ui_summary::copy(&summary, &warned, cx.console.palette) {
                cx.console.line(&line);
            }
            if summary.backup.is_none() {
                cx.console.line(&ui_summary::row("backup", "none was made; the same command goes on from here"));
            }
        }
        Volume::Quiet | Volume::Json if exit != Exit::Done => {
            if let Some(text) = ui_summary::copy_failure(&summary) {
                cx.console.error(&text);
            }
        }
        Volume::Quiet | Volume::Json => {}
    }
    let json = CommandSummary::new("backup create", summary, exit);
    if show.stdout == Stdout::Events {
        cx.output.event("summary", &json);
    }
    conclude(exit, report.map_or(Ok(()), |file| file.finish(&json)), cx.console)
}

/// Makes a snapshot.
fn snapshot(
    repository: &Repository,
    args: &CreateArgs,
    filter: Filter,
    source: &LocalTree,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<Made, CliError> {
    let path = canonical(&args.path);
    let host = args.host.clone().unwrap_or_else(host_name);
    let parent = match &args.share {
        Some(share) => SnapshotFilter { tags: vec![share_tag(share)], ..SnapshotFilter::default() },
        // As restic does it.
        None => SnapshotFilter {
            hosts: vec![host.clone()],
            paths: vec![path.to_string_lossy().into_owned()],
            ..SnapshotFilter::default()
        },
    };
    let throttle = throttle(args);
    let context = BackupContext { source, monitor, stop, throttle: &throttle };
    let tags = args.id.iter().map(|id| name_tag(id)).chain(args.share.iter().map(|share| share_tag(share)));
    let options = BackupOptions {
        tags: tags.chain(args.tag.iter().cloned()).collect(),
        parent: Parent::Latest(parent),
        read_all: args.read_all,
        // What reads a tree changes them, and nothing else would be new in the next backup.
        atime: false,
        filter,
        on_fault: plan::on_fault(args.on_fault),
        devices: plan::devices(args.selection.devices),
        one_file_system: args.selection.one_file_system,
        records: plan::records(&args.output),
        limits: plan::limits(&args.speed),
        ..BackupOptions::new(path_in_snapshot(&path), &host, jiff::Timestamp::now())
    };
    let made = repository.backup(&context, &options)?;
    let facts = made.snapshot.map(|snapshot| BackupFacts {
        id: snapshot.id.to_string(),
        added_bytes: Some(made.added.stored_bytes),
        ..BackupFacts::default()
    });
    Ok(Made { report: made.report, facts })
}

impl From<Created> for Made {
    fn from(created: Created) -> Self {
        match created {
            Created::Published { report, manifest, root } => {
                let facts =
                    BackupFacts { id: manifest.id.to_string(), manifest_root: Some(root), ..BackupFacts::default() };
                Self { report, facts: Some(facts) }
            }
            // No request has the token of another one.
            Created::Already { manifest } => {
                let facts = BackupFacts { id: manifest.id.to_string(), was_there: true, ..BackupFacts::default() };
                Self { report: CopyReport::unchanged(), facts: Some(facts) }
            }
            Created::Withheld { mut report } => {
                if report.ending == Ending::Complete {
                    // It is whole, and could still be lost: no success.
                    report.ending = Ending::WithFaults;
                }
                Self { report, facts: None }
            }
        }
    }
}

fn copy_options(args: &CreateArgs, filter: Filter) -> CopyOptions {
    CopyOptions {
        filter,
        on_fault: plan::on_fault(args.on_fault),
        devices: plan::devices(args.selection.devices),
        one_file_system: args.selection.one_file_system,
        records: plan::records(&args.output),
        limits: plan::limits(&args.speed),
        ..CopyOptions::default()
    }
}

fn throttle(args: &CreateArgs) -> Throttle {
    Throttle::new(args.speed.bandwidth_limit, args.ops_limit.map(Into::into))
}

fn refuse_what_the_format_has_not(args: &CreateArgs, plan: &RepositoryPlan) -> Result<(), CliError> {
    let of_restic = args.share.is_some() || !args.tag.is_empty() || args.host.is_some() || args.read_all;
    if plan.format == job::Format::Directory && of_restic {
        let text = "`--share`, `--tag`, `--host` and `--read-all` are for restic repositories: \
                    a directory holds the files of one backup, whole, and nothing else";
        return Err(CliError::Usage(text.into()));
    }
    for text in args.share.iter().chain(&args.tag).chain(&args.id) {
        let is_word = !text.is_empty() && !text.contains(',') && copy::escape(text.as_bytes()) == *text;
        if !is_word {
            let text = copy::escape(text.as_bytes());
            return Err(CliError::Usage(format!(
                "`{text}` cannot be a tag: it is empty, or has a comma or odd characters"
            )));
        }
    }
    Ok(())
}

/// A repository in the tree that it holds backups of would grow for ever, unless it is left out.
fn refuse_inside(args: &CreateArgs, plan: &RepositoryPlan, filter: &Filter) -> Result<(), CliError> {
    let reach = if args.selection.one_file_system { Reach::OneFileSystem } else { Reach::Whole };
    let repository = plan.location.directory();
    if let Some(repository) = repository
        && is_inside(repository, &args.path, reach)
        && !is_left_out(repository, &args.path, filter)
    {
        return Err(CliError::RepositoryInside { path: repository.into(), tree: "PATH" });
    }
    let inside = |path: &Path, tree| Err(CliError::InsideTree { what: "report", path: path.into(), tree });
    match &args.output.report {
        Some(report) if is_inside(report, &args.path, reach) => inside(report, "PATH"),
        Some(report) if repository.is_some_and(|repository| is_inside(report, repository, Reach::Whole)) => {
            inside(report, "the repository")
        }
        _ => Ok(()),
    }
}

/// Whether a directory, or one on the way to it from the root of the tree, takes no part in the backup.
fn is_left_out(directory: &Path, tree: &Path, filter: &Filter) -> bool {
    let (directory, tree) = (canonical(directory), canonical(tree));
    let Ok(below) = directory.strip_prefix(&tree) else { return false };
    let names: Vec<_> = below.components().map(|name| name.as_os_str().as_encoded_bytes()).collect();
    names.iter().any(|name| filter.ignores_name(name))
        || (1..=names.len()).any(|depth| filter.leaves_out(&names[..depth].join(&b'/'), true))
}

/// Its real name, where it has one.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
}

/// Where the tree is in the snapshot: as restic, at its own path. The root of all has no name, and gets one.
fn path_in_snapshot(path: &Path) -> RelPath {
    let names = path.components().filter_map(|component| match component {
        std::path::Component::Normal(name) => Some(name.as_encoded_bytes()),
        _ => None,
    });
    let path = RelPath::from_components(names);
    if path.is_root() { RelPath::from_components([&b"root"[..]]) } else { path }
}

fn host_name() -> String {
    shown(std::ffi::OsStr::new(&*rustix::system::uname().nodename().to_string_lossy()))
}

/// Of this run alone.
fn token() -> String {
    format!("{} {}", jiff::Timestamp::now(), std::process::id())
}
