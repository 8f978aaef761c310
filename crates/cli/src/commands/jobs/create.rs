//! Making jobs.

use job::JobId;
use web::client::Created;

use super::{Context, watch};
use crate::args::jobs::CreateArgs;
use crate::error::CliError;
use crate::exit::Exit;
use crate::job_spec;

pub(super) async fn create(cx: &Context<'_>, args: CreateArgs) -> Result<Exit, CliError> {
    let spec = job_spec::of_create(&args)?;
    let created = cx.client.create(&spec, args.idempotency_key.as_deref()).await?;
    tell(cx, &created, args.watch).await
}

pub(super) async fn retry_failed(cx: &Context<'_>, id: JobId, is_watched: bool) -> Result<Exit, CliError> {
    let created = cx.client.retry_failed(id).await?;
    tell(cx, &created, is_watched).await
}

/// The identifier is what a script wants; everything else is for people.
async fn tell(cx: &Context<'_>, created: &Created, is_watched: bool) -> Result<Exit, CliError> {
    let job = &created.job;
    if cx.json {
        cx.output.event("job", job);
    } else {
        if created.is_known {
            cx.console.note("the same request made this job earlier");
        }
        cx.output.line(&job.id.to_string());
    }
    if is_watched { watch::watch(cx, &[job.id]).await } else { Ok(Exit::Done) }
}
