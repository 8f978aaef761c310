//! Standard error: single lines, with or without colour, that get on with a progress bar on the same terminal.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use clap::builder::styling::{AnsiColor, Style};
use indicatif::ProgressBar;

use crate::args::When;

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Palette {
    enabled: bool,
}

impl Palette {
    /// For what is no terminal.
    pub const PLAIN: Self = Self { enabled: false };

    /// For standard error. `NO_COLOR` as on <https://no-color.org>: set and not empty.
    pub fn new(when: When) -> Self {
        let enabled = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => is_capable_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        };
        Self { enabled }
    }

    pub fn good(self, text: &str) -> String {
        self.paint(text, AnsiColor::Green.on_default().bold())
    }

    pub fn attention(self, text: &str) -> String {
        self.paint(text, AnsiColor::Yellow.on_default().bold())
    }

    pub fn bad(self, text: &str) -> String {
        self.paint(text, AnsiColor::Red.on_default().bold())
    }

    pub fn note(self, text: &str) -> String {
        self.paint(text, AnsiColor::Cyan.on_default().bold())
    }

    fn paint(self, text: &str, style: Style) -> String {
        if self.enabled { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// Whether standard error is a terminal on which a cursor can be moved.
pub fn is_capable_terminal() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// Errors and faults.
    Quiet,
    /// Errors; the rest is told as JSON.
    Json,
    Normal,
}

/// The one writer of standard error while a run goes on.
#[derive(Debug)]
pub struct Console {
    pub palette: Palette,
    pub volume: Volume,
    bar: Mutex<Option<ProgressBar>>,
}

impl Console {
    pub fn new(palette: Palette, volume: Volume) -> Self {
        Self { palette, volume, bar: Mutex::new(None) }
    }

    /// A bar that lines must not be written across.
    pub fn attach(&self, bar: ProgressBar) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    /// Takes the bar off the screen, for good.
    pub fn detach(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    /// For people who watch.
    pub fn note(&self, text: &str) {
        if self.volume == Volume::Normal {
            self.line(text);
        }
    }

    pub fn warning(&self, text: &str) {
        if self.volume == Volume::Normal {
            self.line(&format!("{} {text}", self.palette.attention("warning:")));
        }
    }

    pub fn fault(&self, text: &str) {
        if self.volume != Volume::Json {
            self.line(&format!("{} {text}", self.palette.bad("fault:")));
        }
    }

    pub fn error(&self, text: &str) {
        self.line(&format!("{} {text}", self.palette.bad("error:")));
    }

    /// Nobody is left to be told when standard error cannot be written, so that is no failure.
    pub fn line(&self, text: &str) {
        let write = || {
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        };
        // A clone is a handle to the same bar: the lock is not held while the terminal is slow.
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_an_addition_and_nothing_else() {
        assert_eq!(Palette::PLAIN.bad("error:"), "error:");
        let coloured = Palette::new(When::Always).bad("error:");
        assert!(coloured.starts_with("\x1b[") && coloured.contains("error:") && coloured.ends_with("\x1b[0m"));
    }
}
