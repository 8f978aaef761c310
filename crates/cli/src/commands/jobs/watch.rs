//! Following jobs to their end.

use std::sync::Arc;
use std::time::Duration;

use job::documents::Summary;
use job::{EventKind, JobId};
use tokio::time::Instant;
use web::client::{ClientError, ClientEvent};
use web::{EventBody, JobBody};

use super::{Context, exit_of};
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui;
use crate::ui::progress::{ProgressDisplay, Style};

/// The longest that the service waits before it answers.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Shows them one after the other, each to its end. The worst end is the command's.
pub(super) async fn watch(cx: &Context<'_>, jobs: &[JobId]) -> Result<Exit, CliError> {
    let mut worst = Exit::Done;
    for &id in jobs {
        let exit = watch_one(cx, id).await?;
        if exit.code() > worst.code() {
            worst = exit;
        }
    }
    Ok(worst)
}

async fn watch_one(cx: &Context<'_>, id: JobId) -> Result<Exit, CliError> {
    let mut job = cx.client.show(id).await?;
    if job.outcome.is_none() {
        let display = ProgressDisplay::new(Style::choose(true, cx.json), Arc::clone(cx.console));
        let mut stream = cx.client.events(Some(id), None);
        let mut prefix = prefix(&job);
        while let Some(event) = stream.next().await {
            match event? {
                ClientEvent::Progress(event) => display.show(&prefix, &event.progress, cx.output),
                ClientEvent::Stored(event) => {
                    tell_event(cx, &event);
                    if matches!(event.kind, EventKind::StateChanged | EventKind::PassEnded) {
                        job = cx.client.show(id).await?;
                        prefix = self::prefix(&job);
                    }
                }
            }
        }
        cx.console.detach();
        job = cx.client.show(id).await?;
    }
    tell_end(cx, &job).await?;
    Ok(exit_of(&job))
}

/// Which pass the figures are of, where there are several.
fn prefix(job: &JobBody) -> String {
    match job.pass {
        job::PassKind::Single => String::new(),
        pass => format!("{} ({}) ", job.passes_done + 1, ui::job::pass_word(pass)),
    }
}

fn tell_event(cx: &Context<'_>, event: &EventBody) {
    if cx.json {
        cx.output.event("stored", event);
        return;
    }
    match event.kind {
        EventKind::Warning | EventKind::WorkerLost => cx.console.warning(&copy::escape(event.message.as_bytes())),
        // The state is seen by what is shown, the end is told with its summary.
        EventKind::StateChanged | EventKind::Created | EventKind::Ended => {}
        _ => cx.console.note(&copy::escape(event.message.as_bytes())),
    }
}

/// What came of it: the summary of the last pass, and why it failed if it did.
async fn tell_end(cx: &Context<'_>, job: &JobBody) -> Result<(), CliError> {
    if cx.json {
        cx.output.event("job", job);
        return Ok(());
    }
    let palette = cx.console.palette;
    match cx.client.report(job.id, None).await {
        Ok(report) => {
            let lines = match &report.summary {
                Summary::Copy(summary) => ui::summary::copy(summary, &[], palette),
                Summary::Verify(comparison) => ui::summary::verify(comparison, palette),
                Summary::Repository(summary) => ui::summary::repository(summary, palette),
            };
            for line in lines {
                cx.console.note(&line);
            }
        }
        // A job that ended before its first pass has none.
        Err(ClientError::Problem(problem)) if problem.status == 404 => {}
        Err(error) => return Err(error.into()),
    }
    match &job.failure {
        Some(failure) => cx.console.error(&ui::job::failed(failure)),
        None => cx.console.note(&format!("{}: {}", job.id, ui::job::state(job))),
    }
    Ok(())
}

/// Ends when the job does, or after `time`.
pub(super) async fn wait(cx: &Context<'_>, id: JobId, time: Option<Duration>) -> Result<Exit, CliError> {
    let deadline = time.map(|time| Instant::now() + time);
    loop {
        let left = deadline.map_or(WAIT_MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        // The service counts in seconds.
        let step = if left.is_zero() { left } else { left.clamp(Duration::from_secs(1), WAIT_MAX) };
        let job = cx.client.wait(id, step).await?;
        if job.outcome.is_some() || left.is_zero() {
            cx.tell(&job);
            if let Some(failure) = job.failure.as_ref().filter(|_| !cx.json) {
                cx.console.error(&ui::job::failed(failure));
            }
            return Ok(exit_of(&job));
        }
    }
}
