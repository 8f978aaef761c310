//! Lines of text as oslo.log's `ContextFormatter` writes them.

use super::LogError;
use super::clock::{Clock, millis, seconds};
use super::escape;
use super::level::Level;
use super::percent::{Datum, Template};
use super::record::{Facts, Record, Value};
use super::settings::{Formats, LogSettings};

/// What oslo.context sets, whether it has a value or not.
const OF_CONTEXT: [&str; 16] = [
    "user_name",
    "project_name",
    "domain_name",
    "user_domain_name",
    "project_domain_name",
    "user",
    "user_id",
    "project",
    "project_id",
    "system_scope",
    "domain",
    "user_domain",
    "project_domain",
    "request_id",
    "global_request_id",
    "resource_uuid",
];

#[derive(Debug)]
pub(super) struct TextFormatter {
    product: String,
    version: String,
    clock: Clock,
    context: Template,
    default: Template,
    debug_suffix: Template,
    user_identity: Template,
    instance: Template,
    instance_uuid: Template,
}

impl TextFormatter {
    pub(super) fn new(settings: &LogSettings, clock: Clock) -> Result<Self, LogError> {
        let template = |option, text: &str| {
            Template::parse(text).map_err(|reason| LogError::Format { option, format: text.into(), reason })
        };
        let Formats { context, default, debug_suffix, user_identity, instance, instance_uuid, .. } = &settings.formats;
        Ok(Self {
            product: settings.product.clone(),
            version: settings.version.clone(),
            clock,
            context: template("logging_context_format_string", context)?,
            default: template("logging_default_format_string", default)?,
            debug_suffix: template("logging_debug_format_suffix", debug_suffix)?,
            user_identity: template("logging_user_identity_format", user_identity)?,
            instance: template("instance_format", instance)?,
            instance_uuid: template("instance_uuid_format", instance_uuid)?,
        })
    }

    /// The line without its end.
    pub(super) fn format(&self, facts: &Facts, record: &Record, is_colored: bool) -> String {
        let mut line = String::with_capacity(256);
        let template = if record.context.get("request_id").is_some() { &self.context } else { &self.default };
        let value = |key: &str| self.datum(facts, record, key, template, is_colored);
        template.render(&mut line, value);
        if let Some(error) = record.error.as_deref().filter(|_| !template.names("error_summary")) {
            line.push_str(": ");
            escape::push(&mut line, error);
        }
        if record.level == Level::Debug && !self.debug_suffix.is_empty() {
            line.push(' ');
            self.debug_suffix.render(&mut line, value);
        }
        if is_colored {
            line.push_str("\x1b[00m");
        }
        line
    }

    fn datum<'a>(
        &'a self,
        facts: &'a Facts,
        record: &'a Record,
        key: &str,
        template: &Template,
        is_colored: bool,
    ) -> Datum<'a> {
        let safe = |text: &str| Datum::from(escape::escaped(text));
        let (file_name, module) = record.file_names();
        match key {
            "asctime" => self.clock.asctime(record.at).into(),
            "msecs" => Datum::Float(millis(record.at) as f64),
            "created" => Datum::Float(seconds(record.at)),
            "relativeCreated" => Datum::Float((seconds(record.at) - seconds(facts.started)) * 1e3),
            "isotime" => self.clock.isotime(record.at).into(),
            "process" => Datum::Int(facts.process.into()),
            "processName" => "MainProcess".into(),
            "thread" => Datum::Int(record.thread.0),
            "threadName" => safe(&record.thread.1),
            "levelname" => record.level.name().into(),
            "levelno" => Datum::Int(record.level.number()),
            "name" => safe(&record.name),
            "pathname" => safe(&record.path),
            "filename" => safe(file_name),
            "module" => safe(module),
            "lineno" => Datum::Int(record.line),
            "funcName" => safe(&record.function),
            "message" | "msg" => Datum::from(message(record)),
            "args" => "()".into(),
            "exc_info" | "exc_text" | "stack_info" | "taskName" => Datum::None,
            "instance" => self.instance(record).into(),
            "user_identity" => self.identity(record).into(),
            "error_summary" => match &record.error {
                Some(error) => safe(error),
                None if template.names("error_summary") => "-".into(),
                None => "".into(),
            },
            "color" => (if is_colored { record.level.color() } else { "" }).into(),
            "reset_color" => (if is_colored { "\x1b[00m" } else { "" }).into(),
            "version" => (&*self.version).into(),
            key => Self::of_request(record, key).unwrap_or_else(|| match key {
                "project" => (&*self.product).into(),
                key => of_fields(record, key),
            }),
        }
    }

    /// What the request says, as Python prints it.
    fn of_request<'a>(record: &Record, key: &str) -> Option<Datum<'a>> {
        match key {
            "is_admin" | "read_only" | "show_deleted" | "is_admin_project" if record.context.is_of_request() => {
                return Some(Datum::Bool(record.context.flag(key, key == "is_admin_project")));
            }
            _ => {}
        }
        if let Some(value) = record.context.get(key) {
            return Some(Datum::from(escape::escaped(value)));
        }
        if !record.context.is_of_request() {
            return None;
        }
        match key {
            "roles" => Some("[]".into()),
            "auth_token" => Some(Datum::None),
            key => OF_CONTEXT.contains(&key).then_some(Datum::None),
        }
    }

    fn identity(&self, record: &Record) -> String {
        if let Some(identity) = record.context.get("user_identity") {
            return escape::escaped(identity);
        }
        let mut identity = String::new();
        if record.context.is_of_request() {
            let value = |key: &str| match record.context.get(key) {
                Some(value) => Datum::from(escape::escaped(value)),
                None => "-".into(),
            };
            self.user_identity.render(&mut identity, value);
        }
        identity
    }

    fn instance(&self, record: &Record) -> String {
        let mut text = String::new();
        let of = |key| record.context.get(key);
        let found = of("instance").map(|uuid| (&self.instance, uuid));
        let by_uuid = || of("instance_uuid").or_else(|| of("resource_uuid")).map(|uuid| (&self.instance_uuid, uuid));
        if let Some((template, uuid)) = found.or_else(by_uuid) {
            template.render(&mut text, |key| match key {
                "uuid" => Datum::from(escape::escaped(uuid)),
                _ => Datum::Missing,
            });
        }
        text
    }
}

/// The message with what else the event and its spans say.
fn message(record: &Record) -> String {
    let mut message = escape::escaped(&record.message);
    for (name, value) in &record.fields {
        message.extend([" ", name, "="]);
        escape::push_value(&mut message, &value.text());
    }
    message
}

/// Python's loggers put what is said beyond the message where formats can name it.
fn of_fields<'a>(record: &Record, key: &str) -> Datum<'a> {
    match record.fields.iter().find(|(name, _)| *name == key) {
        Some((_, Value::Int(number))) => Datum::Int(*number),
        Some((_, Value::Float(number))) => Datum::Float(*number),
        Some((_, Value::Bool(bit))) => Datum::Bool(*bit),
        Some((_, Value::Text(text))) => Datum::from(escape::escaped(text)),
        None => Datum::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_oslo_log() {
        let mut settings = LogSettings::default();
        settings.formats.default = "%(color)s%(levelname)s%(reset_color)s %(message)s".into();
        let facts = Facts::of_this_process();
        let formatter = TextFormatter::new(&settings, Clock::new(facts.zone.clone(), "")).unwrap();
        let record = Record::own(&facts, Level::Error, "x", "failed".into());
        assert_eq!(formatter.format(&facts, &record, true), "\x1b[01;31mERROR\x1b[00m failed\x1b[00m");
        assert_eq!(formatter.format(&facts, &record, false), "ERROR failed");
    }
}
