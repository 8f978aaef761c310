//! What there is to say in a line: an event, the spans around it, and the process.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use tracing::field::{Field, Visit};

use super::context::{self, RequestContext};
use super::level::{CRITICAL, Level};

/// What lines say of the process and of the moment. Tests give those that do not change.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: fn() -> Timestamp,
    pub started: Timestamp,
    /// Local time.
    pub zone: TimeZone,
    pub process: u32,
    pub hostname: String,
    /// Number and name of the thread.
    pub thread: fn() -> (i64, String),
}

impl Facts {
    pub fn of_this_process() -> Self {
        Self {
            now: Timestamp::now,
            started: Timestamp::now(),
            zone: TimeZone::system(),
            process: std::process::id(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            thread: || {
                let number = rustix::thread::gettid().as_raw_nonzero().get();
                (number.into(), std::thread::current().name().unwrap_or_default().into())
            },
        }
    }
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Value {
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Int(number) => number.to_string().into(),
            Self::Float(number) => format!("{number:?}").into(),
            Self::Bool(bit) => bit.to_string().into(),
        }
    }

    pub(super) fn json(&self) -> Json {
        match self {
            Self::Text(text) => text.as_str().into(),
            Self::Int(number) => (*number).into(),
            Self::Float(number) => (*number).into(),
            Self::Bool(bit) => (*bit).into(),
        }
    }
}

/// The fields of an event or of a span, in their order.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) list: Vec<(&'static str, Value)>,
    pub(super) context: RequestContext,
    is_of_span: bool,
}

impl Fields {
    pub(super) fn of_event() -> Self {
        Self::default()
    }

    pub(super) fn of_span() -> Self {
        Self { is_of_span: true, ..Self::default() }
    }

    fn set(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let key = if self.is_of_span { context::canonical(name) } else { context::canonical_of_event(name) };
        if let Some(key) = key {
            return self.context.set(key, value.text().into_owned());
        }
        match self.list.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.list.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.list.iter().position(|(known, _)| *known == name)?;
        Some(self.list.remove(at).1)
    }

    fn take_text(&mut self, name: &str) -> Option<String> {
        self.take(name).map(|value| value.text().into_owned())
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, Value::Text(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, i64::try_from(value).map_or_else(|_| Value::Text(value.to_string()), Value::Int));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::Bool(value));
    }
}

/// Everything that a line can be made of.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    /// The target, with Python's dots.
    pub(super) name: String,
    pub(super) message: String,
    /// What went wrong: the field `error` of a warning or an error.
    pub(super) error: Option<String>,
    /// What the event says beyond its message, then what the spans around it say.
    pub(super) fields: Vec<(&'static str, Value)>,
    pub(super) context: RequestContext,
    pub(super) path: String,
    pub(super) line: i64,
    /// The innermost span, or else the module.
    pub(super) function: String,
    is_within_span: bool,
    pub(super) thread: (i64, String),
}

impl Record {
    /// A line of the log about itself.
    pub(super) fn own(facts: &Facts, level: Level, name: &str, message: String) -> Self {
        Self {
            at: (facts.now)(),
            level,
            name: name.into(),
            message,
            error: None,
            fields: Vec::new(),
            context: RequestContext::default(),
            path: file!().into(),
            line: 0,
            function: "log".into(),
            is_within_span: false,
            thread: (facts.thread)(),
        }
    }

    /// Without the spans around the event.
    pub(super) fn of(facts: &Facts, event: &tracing::Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut fields = Fields::of_event();
        event.record(&mut fields);
        let level = Level::of(*metadata.level());
        let is_critical = fields.take(CRITICAL) == Some(Value::Bool(true)) && level == Level::Error;
        // Records of the `log` package arrive as events whose fields say what the metadata should.
        let target = fields.take_text("log.target");
        let module = fields.take_text("log.module_path");
        let path = fields.take_text("log.file");
        let line = fields.take("log.line");
        let target = target.as_deref().unwrap_or(metadata.target());
        let module = module.as_deref().or(metadata.module_path()).unwrap_or(target);
        let mut record = Self {
            at: (facts.now)(),
            level: if is_critical { Level::Critical } else { level },
            name: target.replace("::", "."),
            message: fields.take_text("message").unwrap_or_default(),
            error: if level >= Level::Warning { fields.take_text("error") } else { None },
            fields: Vec::new(),
            context: fields.context,
            path: path.unwrap_or_else(|| metadata.file().unwrap_or_default().into()),
            line: match line {
                Some(Value::Int(line)) => line,
                _ => metadata.line().unwrap_or_default().into(),
            },
            function: module.rsplit("::").next().unwrap_or_default().into(),
            is_within_span: false,
            thread: (facts.thread)(),
        };
        record.fields = fields.list;
        record
    }

    /// Takes what a span around the event says. The innermost comes first, and what is said already stays.
    pub(super) fn add_span(&mut self, name: &'static str, span: &Fields) {
        if !std::mem::replace(&mut self.is_within_span, true) {
            self.function = name.into();
        }
        self.context.add_outer(&span.context);
        for (name, value) in &span.list {
            if self.fields.iter().all(|(known, _)| known != name) {
                self.fields.push((name, value.clone()));
            }
        }
    }

    /// The last part of the path, and the same without its ending.
    pub(super) fn file_names(&self) -> (&str, &str) {
        let name = |text: Option<&std::ffi::OsStr>| text.and_then(std::ffi::OsStr::to_str).unwrap_or_default().len();
        let path = Path::new(&self.path);
        let file = &self.path[self.path.len() - name(path.file_name())..];
        (file, &file[..name(path.file_stem())])
    }
}
