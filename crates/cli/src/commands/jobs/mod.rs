//! `jobs`: what people ask of a service that runs.

mod change;
mod create;
mod look;
mod watch;

use std::future::Future;
use std::sync::Arc;

use job::{JobId, Sensitive};
use web::client::{Address, Client};
use web::{JobBody, OutcomeName};

use crate::args::jobs::{ConnectArgs, JobsArgs, JobsCommand};
use crate::error::CliError;
use crate::exit::Exit;
use crate::job_spec::read_text;
use crate::ui::console::Console;
use crate::ui::output::Output;

/// What every one of the commands has at hand.
struct Context<'a> {
    client: Client,
    json: bool,
    console: &'a Arc<Console>,
    output: &'a Output,
}

pub fn run(args: JobsArgs, console: &Arc<Console>, output: &Output) -> Result<Exit, CliError> {
    web::install_crypto();
    let client = Client::new(&address(&args.connect)?)?;
    let cx = Context { client, json: args.connect.json, console, output };
    block_on(dispatch(&cx, args.command))?
}

async fn dispatch(cx: &Context<'_>, command: JobsCommand) -> Result<Exit, CliError> {
    use change::Change;
    match command {
        JobsCommand::List(args) => look::list(cx, args).await,
        JobsCommand::Show { job } => look::show(cx, job).await,
        JobsCommand::Create(args) => create::create(cx, *args).await,
        JobsCommand::Watch { jobs } => watch::watch(cx, &jobs).await,
        JobsCommand::Wait { job, timeout } => watch::wait(cx, job, timeout).await,
        JobsCommand::Cancel(args) => change::each(cx, &args.jobs, Change::Cancel).await,
        JobsCommand::Pause(args) => change::each(cx, &args.jobs, Change::Pause).await,
        JobsCommand::Resume(args) => change::each(cx, &args.jobs, Change::Resume).await,
        JobsCommand::Cutover(args) => change::each(cx, &args.jobs, Change::Cutover).await,
        JobsCommand::Remove(args) => change::each(cx, &args.jobs, Change::Remove).await,
        JobsCommand::Limits(args) => change::limits(cx, args).await,
        JobsCommand::RetryFailed { job, watch } => create::retry_failed(cx, job, watch).await,
        JobsCommand::Report(args) => look::report(cx, &args).await,
        JobsCommand::Entries(args) => look::entries(cx, &args).await,
        JobsCommand::Events(args) => look::events(cx, &args).await,
    }
}

/// Runs until it is done, or until Ctrl-C or SIGTERM: what was asked of the service goes on without us.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    // The default of both ends the process by the signal, which is right here; a bar leaves nothing behind.
    Ok(runtime.block_on(work))
}

pub(super) fn address(args: &ConnectArgs) -> Result<Address, CliError> {
    let Some(url) = &args.url else {
        if args.token_file.is_some() || args.ca_file.is_some() {
            return Err(CliError::Usage("`--token-file` and `--ca-file` are for `--url`".into()));
        }
        return Ok(Address::Socket(args.socket.clone()));
    };
    let token = args.token_file.as_deref().map(read_text).transpose()?;
    let token = token.map(|text| Sensitive::secret(text.trim()));
    Ok(Address::Url { url: url.clone(), token, ca_file: args.ca_file.clone() })
}

/// How a job's end ends the command that waited for it.
fn exit_of(job: &JobBody) -> Exit {
    use job::FailureCode::{DifferencesFound, FaultsFound};
    match (job.outcome, &job.failure) {
        (Some(OutcomeName::Completed), _) => Exit::Done,
        (Some(OutcomeName::Cancelled) | None, _) => Exit::Stopped,
        (Some(OutcomeName::Failed), Some(failure)) if matches!(failure.code, FaultsFound | DifferencesFound) => {
            Exit::Faults
        }
        (Some(OutcomeName::Failed), _) => Exit::Failed,
    }
}

impl Context<'_> {
    /// Tells what a job is now: as JSON, or as a note for people.
    fn tell(&self, job: &JobBody) {
        if self.json {
            self.output.event("job", job);
        } else {
            self.console.note(&format!("{}: {}", job.id, crate::ui::job::state(job)));
        }
    }

    fn tell_removed(&self, id: JobId) {
        if self.json {
            self.output.event("removed", &serde_json::json!({ "id": id }));
        } else {
            self.console.note(&format!("{id}: removed"));
        }
    }
}
