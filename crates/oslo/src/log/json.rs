//! Lines of JSON as oslo.log's `JSONFormatter` writes them: its keys in its order, and Python's spelling of JSON.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::ser::Formatter;
use serde_json::{Map, Serializer, Value as Json, json};

use super::clock::{Clock, millis, seconds};
use super::context::{OF_THINGS, RequestContext};
use super::record::{Facts, Record};

/// What loggers of Python call a project and a version of which they are not told.
const UNKNOWN: &str = "unknown";

/// The line without its end.
pub(super) fn line(facts: &Facts, clock: &Clock, record: &Record) -> String {
    let (filename, module) = record.file_names();
    let (thread, thread_name) = &record.thread;
    let object = json!({
        "message": record.message,
        "asctime": clock.asctime(record.at),
        "name": record.name,
        "msg": record.message,
        "args": [],
        "levelname": record.level.name(),
        "levelno": record.level.number(),
        "pathname": record.path,
        "filename": filename,
        "module": module,
        "lineno": record.line,
        "funcname": record.function,
        "created": seconds(record.at),
        "msecs": millis(record.at) as f64,
        "relative_created": (seconds(record.at) - seconds(facts.started)) * 1e3,
        "thread": thread,
        "thread_name": thread_name,
        "process_name": "MainProcess",
        "process": facts.process,
        "traceback": null,
        "hostname": facts.hostname,
        "error_summary": record.error.as_deref().unwrap_or_default(),
        "context": context(&record.context),
        "extra": extra(record),
    });
    let mut bytes = Vec::with_capacity(1024);
    let mut serializer = Serializer::with_formatter(&mut bytes, Python);
    object.serialize(&mut serializer).expect("a JSON value into memory");
    String::from_utf8(bytes).expect("ASCII alone")
}

/// The logging values of oslo.context; an empty object where the line belongs to no request.
fn context(context: &RequestContext) -> Json {
    if !context.is_of_request() {
        return json!({});
    }
    let of = |key: &str| context.get(key);
    let or_dash = |key: &str| of(key).unwrap_or("-");
    let identity = || {
        let keys = ["user", "project", "domain", "user_domain", "project_domain"];
        keys.map(or_dash).join(" ")
    };
    let roles = of("roles").unwrap_or_default().split(',').map(str::trim).filter(|role| !role.is_empty());
    json!({
        "user_name": of("user_name"),
        "project_name": of("project_name"),
        "domain_name": of("domain_name"),
        "user_domain_name": of("user_domain_name"),
        "project_domain_name": of("project_domain_name"),
        "user": of("user"),
        "project_id": of("project"),
        "system_scope": of("system_scope"),
        "project": of("project"),
        "domain": of("domain"),
        "user_domain": of("user_domain"),
        "project_domain": of("project_domain"),
        "is_admin": context.flag("is_admin", false),
        "read_only": context.flag("read_only", false),
        "show_deleted": context.flag("show_deleted", false),
        "auth_token": null,
        "request_id": of("request_id"),
        "global_request_id": of("global_request_id"),
        "resource_uuid": of("resource_uuid"),
        "roles": roles.collect::<Vec<_>>(),
        "user_identity": of("user_identity").map_or_else(identity, str::to_owned),
        "is_admin_project": context.flag("is_admin_project", true),
    })
}

/// What was said beyond the message, in the order of names.
fn extra(record: &Record) -> Json {
    // Python's adapter says what it is made for, and programs do not say; the formatter has the project of the request
    // in the same place.
    let project = match record.context.get("project") {
        Some(project) => project.into(),
        None if record.context.is_of_request() => Json::Null,
        None => UNKNOWN.into(),
    };
    let is_shown = |key: &str| key != "resource_uuid" || !record.context.is_of_request();
    let of_context =
        OF_THINGS.into_iter().filter(|key| is_shown(key)).map(|key| (key, record.context.get(key).map(Json::from)));
    let of_context = of_context.filter_map(|(key, value)| Some((key, value?)));
    let fields = record.fields.iter().map(|(name, value)| (*name, value.json()));
    let mut pairs: Vec<_> = fields.chain(of_context).collect();
    pairs.push(("project", project));
    pairs.push(("version", UNKNOWN.into()));
    pairs.sort_by_key(|(name, _)| *name);
    let mut extra = Map::new();
    for (name, value) in pairs {
        extra.entry(name).or_insert(value);
    }
    Json::Object(extra)
}

/// JSON as `json.dumps` writes it: blanks after commas and colons, ASCII alone.
struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let is_plain = |c: char| matches!(c, ' '..='~');
        let mut rest = fragment;
        while let Some(at) = rest.find(|c| !is_plain(c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            let c = rest[at..].chars().next().expect("found there");
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}
