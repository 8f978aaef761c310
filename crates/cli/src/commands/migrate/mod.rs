//! `migrate`: the whole migration here, without a service; the same pipeline, with a store of its own for each pair of
//! SOURCE and DEST, so that the same command goes on with what an earlier one began.

mod follow;
mod place;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use job::spec::{Cutover, Hash, MigratePlan};
use job::{
    DataService as _, DoorError, Endpoint, JobFilter, JobSpec, Kind, NodeName, Origin, Page, Ports, Service, Settings,
    StateName, StoreError,
};
use store::{OpenError, OpenOptions, SqlStore};
use work::run::InProcess;
use work::{HookAccess, ProcessExecutor, ProcessSettings};

use crate::args::migrate::{CutoverArg, MigrateArgs};
use crate::error::CliError;
use crate::exit::Exit;
use crate::job_spec;
use crate::plan::{Environment, shown};
use crate::signals::AsyncSignals;
use crate::ui::console::Console;
use crate::ui::output::Output;
use crate::ui::progress::{ProgressDisplay, Style};
use follow::{Follower, Taken};

/// The one owner of such stores: whoever has the store's lock is it.
const NODE: &str = "command-line";
/// From a signal to the end of the command. A pass on storage that answers stops within a second.
const PARKING_TIME: Duration = Duration::from_secs(8);
const ENDING_TIME: Duration = Duration::from_secs(1);

/// Why a migration cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("there is no place to remember a migration: no home directory")]
    NoPlace,
    #[error("this migration is going on already")]
    GoingOn(#[source] OpenError),
    #[error("cannot open what is remembered of the migration in `{}`", shown(.path))]
    Store {
        path: PathBuf,
        #[source]
        source: OpenError,
    },
    #[error("the migration cannot be carried out as asked")]
    BadSpec(#[source] DoorError),
    #[error("the migration cannot be remembered")]
    Door(#[source] DoorError),
    #[error("the migration cannot be taken up again")]
    Jobs(#[from] StoreError),
    #[error("mounting needs root")]
    NotRoot,
}

impl MigrateError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::BadSpec(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPlace => "name a directory with `--state-dir`".into(),
            Self::GoingOn(_) => "wait for the other command, or end it: it goes on where it was".into(),
            Self::Store { .. } => {
                "name another directory with `--state-dir`; what is right in DEST is not copied again".into()
            }
            Self::NotRoot => "run the command as root, or mount both trees and name the directories".into(),
            Self::BadSpec(_) | Self::Door(_) | Self::Jobs(_) => return None,
        })
    }
}

pub fn run(
    args: &MigrateArgs,
    environment: &Environment,
    console: &Arc<Console>,
    output: &Output,
) -> Result<Exit, CliError> {
    let cutover = cutover(args)?;
    let spec = spec(args, cutover)?;
    let needs_mounts = [&spec.source, &spec.dest].iter().any(|end| !matches!(end, Endpoint::Directory { .. }));
    if needs_mounts && !environment.is_root {
        return Err(MigrateError::NotRoot.into());
    }
    let base = args.state_dir.clone().or_else(|| environment.state_dir()).ok_or(MigrateError::NoPlace)?;
    place::check_trees(&spec, &base)?;
    let place = place::make(&base, &spec)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(CliError::Runtime)?;
    let style = Style::choose(!args.quiet && !args.no_progress, args.json);
    let display = ProgressDisplay::new(style, Arc::clone(console));
    let follower = Follower { console, output, display, json: args.json, asks: cutover == CutoverArg::Ask };
    let result = runtime.block_on(migrate(args, spec, place, needs_mounts, &follower));
    runtime.shutdown_timeout(ENDING_TIME);
    console.detach();
    result
}

/// When the last pass comes. Whoever asks for several passes does not mean the first moment.
fn cutover(args: &MigrateArgs) -> Result<CutoverArg, CliError> {
    let has_passes = args.passes.passes.is_some() || args.passes.cutover_max.is_some();
    let cutover = args.cutover.unwrap_or(if has_passes { CutoverArg::Auto } else { CutoverArg::Now });
    if cutover == CutoverArg::Ask && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(CliError::Usage("`--cutover ask` needs a terminal to ask on; use now or auto".into()));
    }
    Ok(cutover)
}

fn spec(args: &MigrateArgs, cutover: CutoverArg) -> Result<JobSpec, CliError> {
    let (source, dest) = job_spec::endpoints(&args.endpoints, &args.source, &args.dest)?;
    let mut spec = JobSpec::new(Kind::Migrate, source, dest);
    spec.options = job_spec::options(&args.options, Hash::Blake3)?;
    spec.options.max_delete = args.max_delete;
    spec.limits = job_spec::limits(&args.options);
    let plan = job_spec::passes(&args.passes);
    spec.migrate = match cutover {
        CutoverArg::Now => MigratePlan { cutover: Cutover::Automatic, passes_max: Some(1), ..plan },
        CutoverArg::Ask => MigratePlan { cutover: Cutover::Manual, ..plan },
        CutoverArg::Auto => MigratePlan { cutover: Cutover::Automatic, ..plan },
    };
    Ok(spec)
}

async fn migrate(
    args: &MigrateArgs,
    spec: JobSpec,
    place: PathBuf,
    needs_mounts: bool,
    follower: &Follower<'_>,
) -> Result<Exit, CliError> {
    let mut signals = AsyncSignals::listen().map_err(CliError::Signals)?;
    let path = place.join("jobs.sqlite");
    let store = SqlStore::open_file(&path, &OpenOptions::default()).await.map_err(|source| match source {
        OpenError::InUse { .. } => MigrateError::GoingOn(source),
        source => MigrateError::Store { path, source },
    })?;
    let store = Arc::new(store);
    let executor: Arc<dyn job::Executor> =
        if needs_mounts { Arc::new(ProcessExecutor::new(ProcessSettings::default())) } else { Arc::new(InProcess) };
    let ports = Ports::new(Arc::clone(&store) as _, executor, Arc::new(HookAccess::default()), Arc::new(NobodyToTell));
    let settings = Settings::new(NodeName::new(NODE), &place);
    let service = Service::start(ports, settings).await.map_err(MigrateError::from)?;
    // Before the job is taken, so that nothing of it is missed.
    let live = service.subscribe();
    let job = take(&service, args, spec, follower).await;
    let ended = match job {
        Ok(taken) => follower.follow(&service, taken, live, &mut signals).await,
        Err(error) => Err(error),
    };
    service.shut_down(PARKING_TIME).await;
    let closed = store.close().await;
    let exit = ended?;
    closed.map_err(MigrateError::from)?;
    Ok(exit)
}

/// The migration that an earlier command left unfinished, or a new one.
async fn take(
    service: &Service,
    args: &MigrateArgs,
    spec: JobSpec,
    follower: &Follower<'_>,
) -> Result<Taken, CliError> {
    let filter = JobFilter {
        states: StateName::ALL.into_iter().filter(|state| !state.is_ended()).collect(),
        kinds: vec![Kind::Migrate],
        ..JobFilter::default()
    };
    let page = Page { after: None, size: 100 };
    let views = service.list(&filter, &page).await.map_err(MigrateError::Door)?;
    let same = |old: &JobSpec| place::same_trees(old, &spec);
    let found = views.into_iter().map(|view| view.job).find(|job| same(&job.spec));
    match found {
        Some(job) if args.restart => {
            service.cancel(job.id).await.map_err(MigrateError::Door)?;
            // A pass that was begun has to come to rest first.
            while !service.wait(job.id, PARKING_TIME).await.map_err(MigrateError::Door)?.job.state.is_ended() {}
        }
        Some(job) => {
            follower.note("going on where an earlier run was stopped");
            if job.spec.options != spec.options || job.spec.migrate != spec.migrate {
                follower.warn("it goes on with the options it was begun with; `--restart` begins anew with these");
            }
            if job.limits != spec.limits {
                service.set_limits(job.id, spec.limits).await.map_err(MigrateError::Door)?;
            }
            return Ok(Taken { id: job.id, passes_told: job.passes_done });
        }
        None => {}
    }
    let origin = Origin { requester: "command line".into(), request_id: None, on_behalf: None };
    let submitted = service.submit(spec, origin, None).await.map_err(|error| match error {
        DoorError::BadSpec(_) => MigrateError::BadSpec(error),
        error => MigrateError::Door(error),
    })?;
    Ok(Taken { id: submitted.view.job.id, passes_told: 0 })
}

/// The person at the terminal sees the end.
#[derive(Debug)]
struct NobodyToTell;

#[async_trait::async_trait]
impl job::Notifier for NobodyToTell {
    fn wants(&self, _job: &job::Job) -> bool {
        false
    }

    async fn tell(&self, _job: &job::Job) -> Result<(), job::NotifyError> {
        Ok(())
    }
}
