//! Standard output: lines for programs and lists. A failure is kept for the end: it must not stop a copy half-way.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::json::Event;

#[derive(Debug, Default)]
pub struct Output {
    failure: Mutex<Option<io::Error>>,
}

impl Output {
    /// One JSON line: `{"event":NAME,"schema_version":1,...body}`.
    pub fn event<T: Serialize>(&self, name: &'static str, body: &T) {
        match Event::line(name, body) {
            Ok(line) => self.write(&line),
            Err(error) => self.fail(error.into()),
        }
    }

    pub fn line(&self, text: &str) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Whole lines, in one piece: lines of different threads must not mix.
    fn write(&self, lines: &[u8]) {
        if self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(lines).and_then(|()| stdout.flush()) {
            self.fail(error);
        }
    }

    fn fail(&self, error: io::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The first write that failed.
    pub fn finish(&self) -> io::Result<()> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// Writes a whole text. A reader that has seen enough (`head`) is no failure.
pub fn write_stdout(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
