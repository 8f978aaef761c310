//! Looking: lists, single jobs, reports, events.

use std::fs::OpenOptions;
use std::io::{self, Write};

use jiff::Timestamp;
use job::documents::Summary;
use job::{EventSeq, JobFilter, JobId, StateName};
use web::client::{ClientEvent, ReportFile};
use web::{JobListBody, ReportBody};

use super::Context;
use crate::args::jobs::{EntriesArgs, EventsArgs, ListArgs, ReportArgs, StateArg};
use crate::error::CliError;
use crate::exit::Exit;
use crate::ui;
use crate::ui::console::Palette;
use crate::ui::output::write_stdout;

/// Jobs asked for at once.
const PAGE: u32 = 100;

pub(super) async fn list(cx: &Context<'_>, args: ListArgs) -> Result<Exit, CliError> {
    let filter = JobFilter {
        states: args.state.into_iter().map(state).collect(),
        kinds: args.kind.into_iter().map(Into::into).collect(),
        name: args.name,
        ..JobFilter::default()
    };
    let mut jobs = Vec::new();
    let mut cursor = None;
    while (jobs.len() as u64) < u64::from(args.limit) {
        let wanted = u64::from(args.limit) - jobs.len() as u64;
        let page = PAGE.min(u32::try_from(wanted).unwrap_or(PAGE));
        let JobListBody { jobs: more, next_cursor } = cx.client.list(&filter, Some(page), cursor.as_deref()).await?;
        jobs.extend(more);
        cursor = next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if cx.json {
        for job in &jobs {
            cx.output.event("job", job);
        }
    } else if jobs.is_empty() {
        cx.console.note("no jobs");
    } else {
        print(&ui::job::list(&jobs, Timestamp::now()))?;
        if cursor.is_some() {
            cx.console.note("there are more; `--limit` shows them");
        }
    }
    Ok(Exit::Done)
}

fn state(arg: StateArg) -> StateName {
    match arg {
        StateArg::Accepted => StateName::Accepted,
        StateArg::Granting => StateName::Granting,
        StateArg::Mounting => StateName::Mounting,
        StateArg::Working => StateName::Working,
        StateArg::Releasing => StateName::Releasing,
        StateArg::Completed => StateName::Completed,
        StateArg::Cancelled => StateName::Cancelled,
        StateArg::Failed => StateName::Failed,
    }
}

pub(super) async fn show(cx: &Context<'_>, id: JobId) -> Result<Exit, CliError> {
    let job = cx.client.show(id).await?;
    if cx.json {
        cx.output.event("job", &job);
    } else {
        print(&ui::job::details(&job, Timestamp::now()).join("\n"))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn report(cx: &Context<'_>, args: &ReportArgs) -> Result<Exit, CliError> {
    let report = cx.client.report(args.job, args.pass).await?;
    if cx.json {
        cx.output.event("report", &report);
    } else {
        // Data goes to standard output, which need not be the terminal that takes colours.
        print(&report_lines(&report).join("\n"))?;
    }
    Ok(Exit::Done)
}

fn report_lines(report: &ReportBody) -> Vec<String> {
    let mut lines = vec![format!("pass {}, {}", report.pass, ui::job::pass_word(report.pass_kind))];
    lines.extend(match &report.summary {
        Summary::Copy(summary) => ui::summary::copy(summary, &[], Palette::PLAIN),
        Summary::Verify(comparison) => ui::summary::verify(comparison, Palette::PLAIN),
        Summary::Repository(summary) => ui::summary::repository(summary, Palette::PLAIN),
    });
    if let Some(manifest) = &report.manifest {
        lines.push(ui::summary::row("manifest", &format!("{} of {} files", manifest.root, manifest.files)));
    }
    lines
}

pub(super) async fn entries(cx: &Context<'_>, args: &EntriesArgs) -> Result<Exit, CliError> {
    let mut download = cx.client.download(args.report.job, args.report.pass, ReportFile::Entries).await?;
    let mut sink: Box<dyn Write> = match &args.output {
        None => Box::new(io::stdout()),
        Some(path) => {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path);
            Box::new(file.map_err(|source| CliError::Report { attempt: "create", path: path.clone(), source })?)
        }
    };
    while let Some(chunk) = download.chunk().await? {
        match sink.write_all(&chunk) {
            // A reader that has seen enough (`head`) is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::Done),
            result => result.map_err(CliError::Output)?,
        }
    }
    sink.flush().map_err(CliError::Output)?;
    Ok(Exit::Done)
}

pub(super) async fn events(cx: &Context<'_>, args: &EventsArgs) -> Result<Exit, CliError> {
    let after = args.after.map(|EventSeq(seq)| seq);
    let mut stream =
        if args.follow { cx.client.events(args.job, after) } else { cx.client.events_so_far(args.job, after) };
    while let Some(event) = stream.next().await {
        match event? {
            ClientEvent::Stored(event) if cx.json => cx.output.event("stored", &event),
            ClientEvent::Stored(event) => cx.output.line(&ui::job::event(&event)),
            ClientEvent::Progress(_) => {}
        }
    }
    Ok(Exit::Done)
}

fn print(text: &str) -> Result<(), CliError> {
    write_stdout(format!("{text}\n").as_bytes()).map_err(CliError::Output)
}
