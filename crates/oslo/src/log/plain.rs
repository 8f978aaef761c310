//! Lines as tracing itself writes them, to the same places.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::registry::LookupSpan;

use super::Shared;
use super::escape;
use super::level::Level;
use super::sink::Entry;

/// The layer of this style. JSON or text, and colours, stay as they are at the start.
pub(super) fn layer<S>(shared: Arc<Shared>, is_json: bool, is_colored: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(Lines { shared, is_json, is_colored });
    if is_json {
        layer.json().flatten_event(true).with_span_list(false).boxed()
    } else {
        layer.with_ansi(is_colored).boxed()
    }
}

/// How a change of colour begins.
const COLOR: &str = "\x1b[";

/// A line of text with everything in it that is not ours written out. Colours are ours, and may stay.
fn shown(text: &str, is_colored: bool) -> String {
    let mut line = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(COLOR).filter(|_| is_colored) {
        escape::push(&mut line, &rest[..at]);
        let end = rest[at + COLOR.len()..].find(|c: char| !c.is_ascii_digit() && c != ';');
        let end = end.map_or(rest.len(), |end| at + COLOR.len() + end);
        if let Some(after) = rest[end..].strip_prefix('m') {
            line.push_str(&rest[at..=end]);
            rest = after;
        } else {
            escape::push(&mut line, &rest[at..end]);
            rest = &rest[end..];
        }
    }
    escape::push(&mut line, rest);
    line
}

#[derive(Debug)]
struct Lines {
    shared: Arc<Shared>,
    is_json: bool,
    is_colored: bool,
}

impl Lines {
    /// tracing writes most characters out that would end the line or steer the terminal, but not those of `%` values.
    fn escaped<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.is_json { Cow::Borrowed(text) } else { shown(text, self.is_colored).into() }
    }

    /// A line of the log about itself.
    fn own(&self, text: &str) -> String {
        let at = (self.shared.look().facts.now)();
        let text_json = serde_json::Value::from(text);
        if self.is_json {
            format!("{{\"timestamp\":\"{at:.6}\",\"level\":\"WARN\",\"message\":{text_json},\"target\":\"oslo::log\"}}")
        } else {
            format!("{at:.6}  WARN oslo::log: {}", escape::escaped(text))
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, level: Level::Info }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line { lines: self, level: Level::of(*metadata.level()) }
    }
}

/// Takes one line.
#[derive(Debug)]
struct Line<'a> {
    lines: &'a Lines,
    level: Level,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let line = self.lines.escaped(text);
        let entry = Entry { line: &line, colored: None, level: self.level, fields: &[] };
        self.lines.shared.output.emit(&entry, &|text| self.lines.own(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_on_a_terminal_alone() {
        let check = |text: &str, is_colored, expected: &str| assert_eq!(shown(text, is_colored), expected, "{text:?}");
        check("\x1b[2ma\x1b[0m b", true, "\x1b[2ma\x1b[0m b");
        check("\x1b[2ma", false, "\\x1b[2ma");
        check("\x1b[2Ja\nb", true, "\\x1b[2Ja\\nb");
        check("\x1b]0;title\x07\x1b[1;31mx\x1b[", true, "\\x1b]0;title\\x07\x1b[1;31mx\\x1b[");
    }
}
