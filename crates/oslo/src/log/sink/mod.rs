//! Where lines go: each place takes whole lines, none stops the others, and what a place could not take is counted and
//! told when it can again.

mod datagram;
mod file;
mod journal;
mod rotation;
mod syslog;

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::tz::TimeZone;

use self::file::LogFile;
use self::journal::Journal;
use self::syslog::Syslog;
use super::level::Level;
use super::{LogError, LogSettings};

/// A line with what single places want to know of it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// Without its end, and without anything in it that ends a line.
    pub(super) line: &'a str,
    /// The same for standard error, if it looks otherwise there.
    pub(super) colored: Option<&'a str>,
    pub(super) level: Level,
    /// Fields of the journal, beyond those that every line has.
    pub(super) fields: &'a [(&'a str, &'a str)],
}

#[derive(Debug)]
enum Sink {
    Stderr,
    File(Box<LogFile>),
    Syslog(Syslog),
    Journal(Journal),
}

/// A place, and what it has missed.
#[derive(Debug)]
struct Outlet {
    sink: Sink,
    lost: u64,
    why: String,
}

impl Outlet {
    fn new(sink: Sink) -> Self {
        Self { sink, lost: 0, why: String::new() }
    }

    fn name(&self) -> String {
        match &self.sink {
            Sink::Stderr => "standard error".into(),
            Sink::File(file) => format!("`{}`", file.path().display()),
            Sink::Syslog(_) => "the syslog daemon".into(),
            Sink::Journal(_) => "the journal".into(),
        }
    }

    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        match &mut self.sink {
            Sink::Stderr => {
                let mut line = entry.colored.unwrap_or(entry.line).to_owned();
                line.push('\n');
                io::stderr().lock().write_all(line.as_bytes())
            }
            Sink::File(file) => file.write(entry.line),
            Sink::Syslog(syslog) => syslog.write(entry),
            Sink::Journal(journal) => journal.write(entry),
        }
    }

    /// Writes what was lost before the line itself, and nothing while the first of both fails.
    fn emit(&mut self, entry: &Entry<'_>, own: &dyn Fn(&str) -> String) -> io::Result<()> {
        if self.lost > 0 {
            let lines = if self.lost == 1 { "line" } else { "lines" };
            let told = format!("{} log {lines} could not be written to {}: {}", self.lost, self.name(), self.why);
            self.write(&Entry { line: &own(&told), colored: None, level: Level::Warning, fields: &[] })?;
            self.lost = 0;
        }
        self.write(entry)
    }
}

/// All places of the log. One lock keeps their lines whole and in one order.
#[derive(Debug)]
pub(super) struct Output {
    outlets: Mutex<Vec<Outlet>>,
    lost: AtomicU64,
}

/// Places that are open, before they take the place of others.
#[derive(Debug)]
pub(super) struct Opened {
    outlets: Vec<Outlet>,
    /// What could not be had, one text each.
    pub(super) warnings: Vec<String>,
}

impl Opened {
    pub(super) fn of(settings: &LogSettings, program: &str, zone: &TimeZone) -> Result<Self, LogError> {
        let mut outlets = Vec::new();
        let mut warnings = Vec::new();
        let path = settings.path(program);
        if let Some(path) = &path {
            let file = LogFile::open(path, settings.watches(), settings.rotation, zone.clone());
            let file = file.map_err(|source| LogError::Open { path: path.clone(), source })?;
            outlets.push(Outlet::new(Sink::File(Box::new(file))));
        }
        let mut needs_stderr = settings.uses_stderr(path.as_deref());
        let mut missing = |socket: &Path, what: &str, error: &io::Error| {
            warnings.push(format!(
                "cannot reach {what} at `{}`: {error}; lines go to standard error instead",
                socket.display()
            ));
            needs_stderr = true;
        };
        if settings.journal {
            match Journal::connect(&settings.journal_socket, program, settings.facility) {
                Ok(journal) => outlets.push(Outlet::new(Sink::Journal(journal))),
                Err(error) => missing(&settings.journal_socket, "the journal", &error),
            }
        }
        if settings.syslog {
            match Syslog::connect(&settings.syslog_socket, program, settings.facility, zone.clone()) {
                Ok(syslog) => outlets.push(Outlet::new(Sink::Syslog(syslog))),
                Err(error) => missing(&settings.syslog_socket, "the syslog daemon", &error),
            }
        }
        if needs_stderr {
            outlets.push(Outlet::new(Sink::Stderr));
        }
        Ok(Self { outlets, warnings })
    }
}

impl Output {
    pub(super) fn new(opened: Opened) -> Self {
        Self { outlets: Mutex::new(opened.outlets), lost: AtomicU64::new(0) }
    }

    /// Lines that some place could not take, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Hands a line to every place. `own` makes a line of what the log says of itself.
    pub(super) fn emit(&self, entry: &Entry<'_>, own: &dyn Fn(&str) -> String) {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        let has_stderr = outlets.iter().any(|outlet| matches!(outlet.sink, Sink::Stderr));
        for outlet in outlets.iter_mut() {
            let Err(error) = outlet.emit(entry, own) else { continue };
            if outlet.lost == 0 && !has_stderr {
                let told =
                    format!("cannot write the log to {}: {error}; lines are dropped until it works", outlet.name());
                // Nobody is left to tell when this fails, too.
                let _ = io::stderr().lock().write_all(format!("{}\n", own(&told)).as_bytes());
            }
            outlet.lost += 1;
            outlet.why = error.to_string();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes other places. What the old ones have missed is the answer, one text each.
    pub(super) fn replace(&self, opened: Opened) -> Vec<String> {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *outlets, opened.outlets);
        let missed = old.iter().filter(|outlet| outlet.lost > 0);
        missed.map(|it| format!("{} log lines could not be written to {}: {}", it.lost, it.name(), it.why)).collect()
    }

    /// Opens the file again, if there is one.
    pub(super) fn reopen(&self) -> Result<(), LogError> {
        let mut outlets = self.outlets.lock().unwrap_or_else(PoisonError::into_inner);
        for outlet in outlets.iter_mut() {
            if let Sink::File(file) = &mut outlet.sink {
                file.reopen().map_err(|source| LogError::Open { path: file.path().into(), source })?;
            }
        }
        Ok(())
    }
}
