//! Shows a migration while it goes on, asks when to cut over, and tells how it ended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use job::documents::Summary;
use job::{
    CutoverState, DataService as _, EventKind, FailureCode, Job, JobId, JobView, LiveEvent, Outcome, PassKind, Service,
    StoredEvent,
};
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::MigrateError;
use crate::error::CliError;
use crate::exit::Exit;
use crate::signals::AsyncSignals;
use crate::ui;
use crate::ui::console::{Console, Palette};
use crate::ui::output::Output;
use crate::ui::progress::ProgressDisplay;
use crate::ui::units::{Bytes, Time, counted};

/// Between two looks at the job itself, for whatever the events did not tell.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Follower<'a> {
    pub(super) console: &'a Arc<Console>,
    pub(super) output: &'a Output,
    pub(super) display: ProgressDisplay,
    pub(super) json: bool,
    /// Whether the person at the terminal says when to cut over.
    pub(super) asks: bool,
}

/// The job that is followed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    pub(super) id: JobId,
    /// Passes that an earlier command has told of.
    pub(super) passes_told: u32,
}

enum Happened {
    Event(LiveEvent),
    /// Some were missed.
    Lagged,
    Signal(i32),
    Answer(String),
    Look,
}

impl Follower<'_> {
    pub(super) fn note(&self, text: &str) {
        self.console.note(text);
    }

    pub(super) fn warn(&self, text: &str) {
        self.console.warning(text);
        if self.json {
            self.output.event("warning", &ui::json::WarningEvent { text });
        }
    }

    /// To the end of the job, or to a signal.
    pub(super) async fn follow(
        &self,
        service: &Service,
        taken: Taken,
        mut live: Receiver<LiveEvent>,
        signals: &mut AsyncSignals,
    ) -> Result<Exit, CliError> {
        let mut answers = self.asks.then(read_lines);
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Taken { id, mut passes_told } = taken;
        let mut view = get(service, id).await?;
        loop {
            passes_told = self.tell_passes(&view, passes_told);
            if view.job.state.is_ended() {
                return self.tell_end(service, &view.job).await;
            }
            let happened = tokio::select! {
                event = live.recv() => match event {
                    Ok(event) => Happened::Event(event),
                    Err(RecvError::Lagged(_)) => Happened::Lagged,
                    // The service lives as long as this function.
                    Err(RecvError::Closed) => Happened::Look,
                },
                number = signals.next() => Happened::Signal(number),
                line = next_line(&mut answers) => Happened::Answer(line),
                _ = look.tick() => Happened::Look,
            };
            match happened {
                Happened::Event(LiveEvent::Progress { job, progress }) if job == id => {
                    self.display.show(&prefix(&view.job), &progress, self.output);
                }
                Happened::Event(LiveEvent::Stored(event)) if event.job == id => {
                    view = get(service, id).await?;
                    self.tell_event(&event);
                }
                Happened::Event(_) => {}
                Happened::Lagged | Happened::Look => view = get(service, id).await?,
                Happened::Signal(number) => {
                    self.note("stopping ... (press again to exit at once)");
                    service.shut_down(super::PARKING_TIME).await;
                    self.console.detach();
                    self.note("stopped; the same command goes on from here");
                    if self.json {
                        self.output.event("stopped", &json!({ "job": id, "exit_code": Exit::Signal(number).code() }));
                    }
                    return Ok(Exit::Signal(number));
                }
                Happened::Answer(line) => {
                    if matches!(line.trim(), "y" | "yes") && view.job.cutover == CutoverState::NotAsked {
                        view = service.cutover(id).await.map_err(MigrateError::Door)?;
                    }
                }
            }
        }
    }

    fn tell_event(&self, event: &StoredEvent) {
        if self.json {
            self.output.event("stored", &web::EventBody::from(event));
            return;
        }
        let message = copy::escape(event.event.message.as_bytes());
        match event.event.kind {
            EventKind::Warning | EventKind::WorkerLost => self.console.warning(&message),
            EventKind::CutoverAsked => self.note("cutting over: nobody may write to SOURCE any more"),
            // The rest is seen by what is shown.
            _ => {}
        }
    }

    /// Each pass once, also where several ended between two looks. Answers which was the last.
    fn tell_passes(&self, view: &JobView, told: u32) -> u32 {
        let new: Vec<_> = view.job.passes.iter().filter(|pass| pass.number > told).collect();
        for pass in &new {
            self.note(&format!("pass {}", ui::job::pass_line(pass)));
        }
        if !new.is_empty() {
            // The next pass may be a while away.
            self.display.rest();
            self.ask(view);
        }
        new.last().map_or(told, |pass| pass.number)
    }

    fn ask(&self, view: &JobView) {
        if !self.asks || view.job.cutover == CutoverState::Asked {
            return;
        }
        let prediction =
            view.prediction.map(|prediction| format!(" (about {})", Time(ui::summary::seconds(prediction.seconds))));
        let prediction = prediction.unwrap_or_default();
        self.note(&format!("cut over now{prediction}? type y and Enter once nobody writes to SOURCE any more"));
    }

    async fn tell_end(&self, service: &Service, job: &Job) -> Result<Exit, CliError> {
        self.console.detach();
        let exit = exit_of(job);
        let reports = service.reports(job.id).await.map_err(MigrateError::Door)?;
        let report = reports.last_key_value().map(|(_, path)| path.as_path());
        let summary = report.and_then(read_summary);
        if self.json {
            let body = web::JobBody::from(job);
            let report = report.map(|path| path.to_string_lossy());
            let body = json!({
                "command": "migrate", "exit_code": exit.code(), "job": body, "summary": summary, "report": report,
            });
            self.output.event("summary", &body);
        } else if let Some(Summary::Copy(summary)) = &summary {
            let mut lines = ui::summary::copy(summary, &[], self.console.palette);
            if exit == Exit::Done {
                // Its headline is of the last pass alone, which had next to nothing to do.
                lines[0] = migrated(job, self.console.palette);
            }
            for line in lines {
                self.note(&line);
            }
        }
        if let Some(path) = report.filter(|_| !self.json) {
            self.note(&ui::summary::row("report", &crate::plan::shown(path)));
        }
        match job.outcome() {
            Some(Outcome::Failed { failure }) => self.console.error(&ui::job::failed(failure)),
            Some(Outcome::Cancelled) => self.console.error("the migration was cancelled"),
            Some(Outcome::Completed) | None => {}
        }
        Ok(exit)
    }
}

/// What all passes did together.
fn migrated(job: &Job, palette: Palette) -> String {
    let copied: u64 = job.passes.iter().map(|pass| pass.figures.copied_bytes).sum();
    let elapsed: f64 = job.passes.iter().map(|pass| pass.figures.elapsed_seconds).sum();
    format!(
        "{}: copied {} in {}, {} of work; DEST is what SOURCE was at the cutover",
        palette.good("migrated"),
        Bytes(copied),
        // Of very many passes not all are kept.
        counted(u64::from(job.passes_done), "pass"),
        Time(ui::summary::seconds(elapsed)),
    )
}

async fn get(service: &Service, id: JobId) -> Result<JobView, CliError> {
    Ok(service.get(id).await.map_err(MigrateError::Door)?)
}

fn prefix(job: &Job) -> String {
    let pass = job.pass_kind();
    let word = if pass == PassKind::Final { "last" } else { "pass" };
    format!("{word} {}: ", job.passes_done + 1)
}

fn exit_of(job: &Job) -> Exit {
    match job.outcome() {
        Some(Outcome::Completed) => Exit::Done,
        Some(Outcome::Failed { failure })
            if matches!(failure.code, FailureCode::FaultsFound | FailureCode::DifferencesFound) =>
        {
            Exit::Faults
        }
        Some(Outcome::Failed { .. }) => Exit::Failed,
        Some(Outcome::Cancelled) | None => Exit::Stopped,
    }
}

/// What the last pass did; none where its report cannot be read, which has been told by then.
fn read_summary(dir: &Path) -> Option<Summary> {
    let text = std::fs::read_to_string(dir.join(work::report::SUMMARY)).ok()?;
    let mut document: Value = serde_json::from_str(&text).ok()?;
    serde_json::from_value(document.get_mut("summary")?.take()).ok()
}

/// Lines that a person types. The thread ends with the process: a terminal cannot be told to stop waiting.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

async fn next_line(answers: &mut Option<mpsc::Receiver<String>>) -> String {
    let line = match answers {
        Some(answers) => answers.recv().await,
        None => None,
    };
    match line {
        Some(line) => line,
        // Nobody answers, or nobody is asked.
        None => std::future::pending().await,
    }
}
