//! A request: as a handler sees it, and how it is read from a message.

use std::fmt;

use serde_json::{Map, Value};

use super::super::context::Context;
use super::super::failure::{Failure, shown};
use super::super::json::type_name;
use super::super::version::RpcVersion;

/// The version that a request is made for when it does not say so.
const VERSION_UNSAID: &str = "1.0";

/// The longest identifier that is taken for one. Peers send 32 characters; whoever keeps identifiers can count on this.
const UNIQUE_ID_BYTES_MAX: usize = 255;

/// Answered by the server itself, if at all, whatever its handler offers.
const PING: &str = "oslo_rpc_server_ping";

/// A request as a handler sees it.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    /// Keyword arguments.
    pub args: Map<String, Value>,
    /// The version of the interface that the sender had in mind.
    pub version: RpcVersion,
    /// Always `None` where a handler sees it: others are refused before.
    pub namespace: Option<String>,
    pub context: Context,
    /// Identifies the message. The same request may be handed in again, to this process or to another one, after a
    /// connection or a process was lost: what was done for this identifier already must not be done again. 255 bytes
    /// at most.
    pub unique_id: Option<String>,
    /// The broker handed the message out before; perhaps somebody did what it asks for.
    pub redelivered: bool,
    /// Somebody waits for the result.
    pub is_call: bool,
}

/// Arguments may hold secrets (mount options do): only their names are shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("args", &self.args.keys().collect::<Vec<_>>())
            .field("version", &self.version.to_string())
            .field("namespace", &self.namespace)
            .field("context", &self.context)
            .field("unique_id", &self.unique_id)
            .field("redelivered", &self.redelivered)
            .field("is_call", &self.is_call)
            .finish()
    }
}

/// Where the result of a call is to be sent to.
#[derive(Clone, Debug)]
pub(super) struct ReplyTo {
    /// Given back as it came.
    pub(super) msg_id: Value,
    /// `None` where the request named none that a broker could have.
    pub(super) queue: Option<String>,
    /// Seconds after which the caller takes us for dead unless it hears of us. Whole seconds, 2 at least.
    pub(super) monitor_seconds: Option<u64>,
}

/// A message taken apart. Nothing in it was checked that a failure can tell the caller about.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) unique_id: Option<String>,
    pub(super) reply_to: Option<ReplyTo>,
    context: Context,
    message: Map<String, Value>,
    redelivered: bool,
}

/// What is to be done about a request.
#[derive(Debug)]
pub(super) enum Dispatch {
    Handle(Box<Request>),
    Answer(Result<Value, Failure>),
}

impl Incoming {
    pub(super) fn new(mut message: Map<String, Value>, redelivered: bool) -> Self {
        let context = Context::take_from(&mut message);
        let mut take = |key: &str| message.shift_remove(key).filter(|value| !value.is_null());
        let unique_id =
            take("_unique_id").map(|id| shown(&id).to_string()).filter(|id| id.len() <= UNIQUE_ID_BYTES_MAX);
        let (msg_id, reply_q, timeout) = (take("_msg_id"), take("_reply_q"), take("_timeout"));
        let reply_to = msg_id.filter(|msg_id| !is_false(msg_id)).map(|msg_id| ReplyTo {
            msg_id,
            // Names of queues are short strings of AMQP.
            queue: reply_q.and_then(|queue| queue.as_str().map(str::to_owned)).filter(|q| (1..=255).contains(&q.len())),
            monitor_seconds: timeout.and_then(|timeout| timeout.as_u64()).filter(|&seconds| seconds >= 2),
        });
        Self { unique_id, reply_to, context, message, redelivered }
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// As much of the method's name as a log line bears.
    pub(super) fn method_for_log(&self) -> String {
        self.message.get("method").and_then(Value::as_str).unwrap_or_default().chars().take(100).collect()
    }

    /// Upstream's dispatcher, for one endpoint that offers `offered`, and one more for pings if `answers_pings`.
    pub(super) fn dispatch(mut self, offered: RpcVersion, answers_pings: bool) -> Dispatch {
        let method = self.message.shift_remove("method").unwrap_or_default();
        let args = self.message.shift_remove("args").unwrap_or_else(|| Map::new().into());
        let version = self.message.shift_remove("version").unwrap_or_else(|| VERSION_UNSAID.into());
        let has_namespace = self.message.get("namespace").is_some_and(|namespace| !namespace.is_null());
        let fail = |failure| Dispatch::Answer(Err(failure));

        let requested = version.as_str().and_then(|text| text.parse::<RpcVersion>().ok()).filter(|_| !has_namespace);
        let served_by = |offered: RpcVersion| requested.filter(|&requested| offered.serves(requested));
        let (for_handler, for_ping) = (served_by(offered), answers_pings && served_by(RpcVersion::new(1, 0)).is_some());
        if for_handler.is_none() && !for_ping {
            let attempted = (!is_false(&method)).then(|| shown(&method).to_string());
            return fail(Failure::unsupported_version(&shown(&version).to_string(), attempted.as_deref()));
        }
        let Value::String(method) = method else {
            let kind = type_name(&method);
            return fail(Failure::type_error(format!("attribute name must be string, not '{kind}'")));
        };
        if method == PING && for_ping {
            return Dispatch::Answer(Ok("pong".into()));
        }
        let Some(version) = for_handler.filter(|_| method != PING && !method.starts_with('_')) else {
            return fail(Failure::no_such_method(&method));
        };
        let Value::Object(args) = args else {
            let kind = type_name(&args);
            return fail(Failure::attribute_error(format!("'{kind}' object has no attribute 'items'")));
        };
        Dispatch::Handle(Box::new(Request {
            method,
            args,
            version,
            namespace: None,
            context: self.context,
            unique_id: self.unique_id,
            redelivered: self.redelivered,
            is_call: self.reply_to.is_some(),
        }))
    }
}

/// Whether Python takes a value for false.
fn is_false(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(pairs) => pairs.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dispatch(message: Value, answers_pings: bool) -> Dispatch {
        let Value::Object(message) = message else { panic!("not an object") };
        Incoming::new(message, false).dispatch(RpcVersion::new(1, 1), answers_pings)
    }

    fn failure(message: Value, answers_pings: bool) -> (String, String) {
        match dispatch(message, answers_pings) {
            Dispatch::Answer(Err(failure)) => (failure.class.clone(), failure.message.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn known_versions_are_handled() {
        for version in [json!({}), json!({"version": "1.0"}), json!({"version": "1.1", "namespace": null})] {
            let mut message = json!({"method": "m"});
            message.as_object_mut().unwrap().extend(version.as_object().unwrap().clone());
            assert!(matches!(dispatch(message, false), Dispatch::Handle(request) if request.args.is_empty()));
        }
    }

    #[test]
    fn others_are_answered_as_upstream_does() {
        let unsupported = |version: &str| {
            (
                "UnsupportedVersion".into(),
                format!("Endpoint does not support RPC version {version}. Attempted method: m"),
            )
        };
        for (message, expected) in [
            (json!({"method": "m", "version": "1.2"}), unsupported("1.2")),
            (json!({"method": "m", "version": "2.0"}), unsupported("2.0")),
            (json!({"method": "m", "version": null}), unsupported("None")),
            (json!({"method": "m", "version": 1.0}), unsupported("1.0")),
            (json!({"method": "m", "version": "x"}), unsupported("x")),
            (json!({"method": "m", "version": "1.0", "namespace": "x"}), unsupported("1.0")),
            (json!({"method": "m", "namespace": ""}), unsupported("1.0")),
            (
                json!({"version": "9.0"}),
                ("UnsupportedVersion".into(), "Endpoint does not support RPC version 9.0".into()),
            ),
            (json!({"method": "_m"}), ("NoSuchMethod".into(), "Endpoint does not support RPC method _m".into())),
            (json!({"method": 5}), ("TypeError".into(), "attribute name must be string, not 'int'".into())),
            (
                json!({"method": "m", "args": [1]}),
                ("AttributeError".into(), "'list' object has no attribute 'items'".into()),
            ),
        ] {
            assert_eq!(failure(message.clone(), false), expected, "{message}");
            assert_eq!(failure(message.clone(), true), expected, "{message}, with pings");
        }
    }

    #[test]
    fn pings_are_answered_where_that_is_wanted() {
        let ping = json!({"method": PING, "args": {"anything": 1}});
        assert!(matches!(dispatch(ping.clone(), true), Dispatch::Answer(Ok(result)) if result == "pong"));
        assert_eq!(failure(ping, false).0, "NoSuchMethod");
        // The endpoint for pings is of version 1.0.
        assert_eq!(failure(json!({"method": PING, "version": "1.1"}), true).0, "NoSuchMethod");
    }

    #[test]
    fn only_calls_have_somewhere_to_reply_to() {
        for (message, expected) in [
            (json!({"_msg_id": "i", "_reply_q": "q"}), Some((Some("q"), None))),
            (json!({"_msg_id": "i", "_reply_q": "q", "_timeout": 4}), Some((Some("q"), Some(4)))),
            (json!({"_msg_id": "i", "_reply_q": "q", "_timeout": 1}), Some((Some("q"), None))),
            (json!({"_msg_id": "i", "_reply_q": "q", "_timeout": 2.5}), Some((Some("q"), None))),
            (json!({"_msg_id": "i", "_reply_q": "q".repeat(256)}), Some((None, None))),
            (json!({"_msg_id": "i", "_reply_q": 7, "_timeout": "x"}), Some((None, None))),
            (json!({"_msg_id": null, "_reply_q": "q"}), None),
            (json!({"_msg_id": "", "_reply_q": "q"}), None),
            (json!({"_reply_q": "q"}), None),
        ] {
            let reply_to = Incoming::new(message.as_object().unwrap().clone(), false).reply_to;
            let found = reply_to.as_ref().map(|to| (to.queue.as_deref(), to.monitor_seconds));
            assert_eq!(found, expected, "{message}");
        }
    }

    #[test]
    fn secrets_of_arguments_are_not_shown() {
        let message = json!({"method": "m", "args": {"mount": "password=T0P"}, "_context_auth_token": "T0P"});
        let Dispatch::Handle(request) = dispatch(message, false) else { panic!("not handled") };
        let shown = format!("{request:?}");
        assert!(!shown.contains("T0P") && shown.contains("mount") && shown.contains("auth_token"), "{shown}");
    }
}
