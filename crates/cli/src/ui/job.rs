//! Jobs as people read them.

use copy::escape;
use jiff::Timestamp;
use job::spec::{Endpoint, RateLimits};
use job::{BackupPlan, Failure, Keep, Pass, PassKind, StateName, StopReason, WaitsFor};
use web::{EventBody, JobBody};

use super::summary::{row, seconds};
use super::table::table;
use super::units::{Bytes, Rate, Time, counted};

/// One line each.
pub fn list(jobs: &[JobBody], now: Timestamp) -> String {
    let rows = jobs.iter().map(|job| {
        vec![
            job.id.to_string(),
            job.kind.as_str().to_owned(),
            state(job),
            job.name.as_deref().map(shown).unwrap_or_default(),
            endpoint(&job.spec.source),
            endpoint(&job.spec.dest),
            format!("{} ago", age(job.created_at, now)),
        ]
    });
    table(&["JOB", "KIND", "STATE", "NAME", "SOURCE", "DEST", "MADE"], rows)
}

/// Everything that is known of one.
pub fn details(job: &JobBody, now: Timestamp) -> Vec<String> {
    let mut lines = vec![format!("{} {}: {}", job.kind.as_str(), job.id, state(job))];
    let mut add = |label: &str, text: String| lines.push(row(label, &text));
    if let Some(name) = &job.name {
        add("name", shown(name));
    }
    add("source", endpoint(&job.spec.source));
    add("dest", endpoint(&job.spec.dest));
    if let Some(plan) = &job.spec.backup {
        let plan = backup_plan(plan);
        if !plan.is_empty() {
            add("backup", plan);
        }
    }
    if let Some(failure) = &job.failure {
        add("failed", failed(failure));
    }
    if let Some(trouble) = &job.release_trouble {
        add("held", shown(trouble));
    }
    if let (Some(progress), None) = (&job.progress, job.outcome) {
        add("progress", super::progress::line("", progress));
    }
    if let Some(prediction) = &job.prediction {
        add("cutover", format!("would take about {}", Time(seconds(prediction.seconds))));
    }
    for pass in &job.passes {
        add("pass", pass_line(pass));
    }
    let limits = limits(&job.limits);
    if !limits.is_empty() {
        add("limits", limits);
    }
    if let Some(at) = job.not_before.filter(|at| *at > now && job.outcome.is_none()) {
        add("not before", at.to_string());
    }
    add("made", format!("{} by {}", moment(job.created_at), shown(&job.requester)));
    if let Some(at) = job.started_at {
        add("started", moment(at));
    }
    if let Some(at) = job.ended_at {
        add("ended", moment(at));
    }
    if let Some(node) = &job.node {
        add("node", shown(node));
    }
    lines
}

/// The state in a few words, with what it waits for.
pub fn state(job: &JobBody) -> String {
    let stopping = match job.stop {
        _ if job.state.is_ended() || job.state == StateName::Accepted => None,
        Some(StopReason::Cancel) => Some("being cancelled"),
        Some(StopReason::Pause) => Some("being paused"),
        Some(StopReason::Deadline) => Some("deadline passed"),
        Some(StopReason::Shutdown | StopReason::LostLease) | None => None,
    };
    match (job.state, stopping) {
        (state, Some(stopping)) => format!("{} ({stopping})", state.as_str()),
        (StateName::Accepted, None) => match (job.waits_for, job.queue_position) {
            (Some(WaitsFor::Resume), _) => "paused".into(),
            (Some(WaitsFor::Cutover), _) => "waits for cutover".into(),
            (Some(WaitsFor::Destination), _) => "waits for another job on its destination".into(),
            (Some(WaitsFor::Time), _) if job.passes_done > 0 => "waits for the next pass".into(),
            (Some(WaitsFor::Time), _) => "waits for its time".into(),
            (None, Some(position)) => format!("queued ({position})"),
            (None, None) => "accepted".into(),
        },
        (StateName::Working, None) => {
            let percent = job.progress.as_ref().map(|progress| format!(" {:.0}%", progress.percent.floor()));
            let pass = if job.pass == PassKind::Single { "" } else { pass_word(job.pass) };
            format!("working{}{}{pass}", percent.unwrap_or_default(), if pass.is_empty() { "" } else { ", " })
        }
        (state, None) => state.as_str().to_owned(),
    }
}

pub fn pass_word(pass: PassKind) -> &'static str {
    match pass {
        PassKind::Single => "pass",
        PassKind::Baseline => "first pass",
        PassKind::Incremental => "further pass",
        PassKind::Final => "last pass",
    }
}

/// What a pass did, in one line.
pub fn pass_line(pass: &Pass) -> String {
    let figures = &pass.figures;
    let mut parts = vec![
        format!("{} ({}): looked at {}", pass.number, pass_word(pass.kind), counted(figures.scanned_entries, "entry")),
        format!("changed {}", counted(figures.changed_entries, "entry")),
        format!("copied {}", Bytes(figures.copied_bytes)),
    ];
    for (count, word) in [(figures.faults, "fault"), (figures.losses, "loss"), (figures.differences, "difference")] {
        if count > 0 {
            parts.push(counted(count, word));
        }
    }
    format!("{}; {}", parts.join(", "), Time(seconds(figures.elapsed_seconds)))
}

pub fn failed(failure: &Failure) -> String {
    shown(&failure.to_string())
}

/// One line of `jobs events`.
pub fn event(event: &EventBody) -> String {
    format!(
        "{:>6}  {}  {}  {:<13}  {}",
        event.seq,
        moment(event.at),
        event.job,
        event.kind.as_str(),
        shown(&event.message)
    )
}

pub fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::None => "-".into(),
        Endpoint::Repository { name } => format!("repository {}", shown(name)),
        Endpoint::Url { url } => shown(url.shown()),
        Endpoint::Directory { path } => crate::plan::shown(path),
        Endpoint::Mount { fs_type, source, subdir, .. } => {
            let subdir = subdir.as_ref().map(|subdir| format!(" in {}", crate::plan::shown(subdir)));
            format!("{}:{}{}", shown(fs_type), shown(source), subdir.unwrap_or_default())
        }
        Endpoint::Command { mount, .. } => format!("`{}`", shown(mount.shown())),
    }
}

/// What a job does with a repository, in a few words.
fn backup_plan(plan: &BackupPlan) -> String {
    let mut parts = Vec::new();
    parts.extend(plan.id.as_ref().map(|id| shown(id)));
    parts.extend(plan.share.as_ref().map(|share| format!("of {}", shown(share))));
    parts.extend(plan.subdir.as_ref().map(|subdir| format!("in {}", crate::plan::shown(subdir))));
    parts.extend(plan.tags.iter().map(|tag| format!("tagged {}", shown(tag))));
    parts.extend(plan.paths.iter().map(|path| format!("only {}", crate::plan::shown(path))));
    if plan.read_data_percent > 0 {
        parts.push(format!("{} % of the data", plan.read_data_percent));
    }
    let Keep { last, hourly, daily, weekly, monthly, yearly } = plan.keep;
    let rules = [
        (last, "last"),
        (hourly, "hourly"),
        (daily, "daily"),
        (weekly, "weekly"),
        (monthly, "monthly"),
        (yearly, "yearly"),
    ];
    parts.extend(rules.into_iter().filter_map(|(count, word)| count.map(|count| format!("keep {count} {word}"))));
    parts.join(", ")
}

fn limits(limits: &RateLimits) -> String {
    let mut parts = Vec::new();
    if let Some(rate) = limits.bandwidth_bytes_per_second {
        parts.push(Rate(rate as f64).to_string());
    }
    if let Some(rate) = limits.operations_per_second {
        parts.push(format!("{rate} operations/s"));
    }
    for window in &limits.windows {
        let rate = window.bandwidth_bytes_per_second.map_or("no limit".into(), |rate| Rate(rate as f64).to_string());
        parts.push(format!("{}-{} {rate}", shown(&window.from), shown(&window.to)));
    }
    parts.join(", ")
}

/// To the second: more is in the JSON.
fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn age(at: Timestamp, now: Timestamp) -> String {
    let age = std::time::Duration::try_from(now.duration_since(at)).unwrap_or_default();
    match age.as_secs() {
        seconds @ 0..=119 => format!("{seconds} s"),
        seconds @ 120..=7_199 => format!("{} min", seconds / 60),
        seconds @ 7_200..=172_799 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Text of other people, safe to print.
fn shown(text: &str) -> String {
    escape(text.as_bytes())
}
