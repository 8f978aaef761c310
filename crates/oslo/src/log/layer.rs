//! Hears events and spans of tracing, and makes lines of oslo.log's look.

use std::sync::Arc;
use std::time::Instant;

use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::clock::Clock;
use super::level::Level;
use super::rate::{Admission, RateLimit};
use super::record::{Facts, Fields, Record};
use super::sink::Entry;
use super::text::TextFormatter;
use super::{LogError, LogSettings, Shared, json};

/// Logger of what the log says of itself.
const OWN_NAME: &str = "oslo.log";

/// How lines look, by the settings of the day.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) facts: Facts,
    clock: Clock,
    text: TextFormatter,
    is_json: bool,
    is_colored: bool,
    rate: Option<RateLimit>,
}

impl Look {
    pub(super) fn new(settings: &LogSettings, facts: Facts) -> Result<Self, LogError> {
        let clock = Clock::new(facts.zone.clone(), &settings.formats.date);
        Ok(Self {
            facts,
            text: TextFormatter::new(settings, clock.clone())?,
            clock,
            is_json: settings.json,
            is_colored: settings.color,
            rate: settings.rate.map(RateLimit::new),
        })
    }

    fn line(&self, record: &Record) -> String {
        if self.is_json {
            json::line(&self.facts, &self.clock, record)
        } else {
            self.text.format(&self.facts, record, false)
        }
    }

    fn colored(&self, record: &Record) -> Option<String> {
        let is_colored = self.is_colored && !self.is_json;
        is_colored.then(|| self.text.format(&self.facts, record, true))
    }

    /// A line of the log about itself.
    pub(super) fn own(&self, text: &str) -> String {
        self.line(&Record::own(&self.facts, Level::Warning, OWN_NAME, text.into()))
    }
}

#[derive(Debug)]
pub(super) struct OsloLayer(pub(super) Arc<Shared>);

impl OsloLayer {
    fn write(&self, look: &Look, record: &Record) {
        let line = look.line(record);
        let colored = look.colored(record);
        let code_line = record.line.to_string();
        let of = |key| record.context.get(key).unwrap_or_default();
        let fields = [
            ("CODE_FILE", &*record.path),
            ("CODE_LINE", &code_line),
            ("CODE_FUNC", &record.function),
            ("THREAD_NAME", &record.thread.1),
            ("PROCESS_NAME", "MainProcess"),
            ("LOGGER_NAME", &record.name),
            ("LOGGER_LEVEL", record.level.name()),
            ("EXCEPTION_TEXT", record.error.as_deref().unwrap_or_default()),
            ("EXCEPTION_INFO", record.error.as_deref().unwrap_or_default()),
            ("PROJECT_NAME", of("project_name")),
            ("PROJECT_ID", of("project")),
            ("USER_NAME", of("user_name")),
            ("USER_ID", of("user")),
            ("REQUEST_ID", of("request_id")),
        ];
        let fields: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let entry = Entry { line: &line, colored: colored.as_deref(), level: record.level, fields: &fields };
        self.0.output.emit(&entry, &|text| look.own(text));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for OsloLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::of_span();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &tracing::span::Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let look = self.0.look();
        // Values are read before any lock is taken: what prints them may log, too.
        let mut record = Record::of(&look.facts, event);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                record.add_span(span.name(), fields);
            }
        }
        match look.rate.as_ref().map(|rate| (rate, rate.admit(record.level, Instant::now()))) {
            None | Some((_, Admission::Write)) => self.write(&look, &record),
            Some((rate, Admission::DropAndTell)) => {
                self.write(&look, &Record::own(&look.facts, Level::Error, "root", rate.message()));
            }
            Some((_, Admission::Drop)) => {}
        }
    }
}
