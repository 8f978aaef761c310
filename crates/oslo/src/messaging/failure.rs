//! What a request ends with when it does not succeed: an exception of Python, as data.

use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json;

/// Where Python keeps its own exceptions.
const BUILTINS: &str = "builtins";

/// Where oslo.messaging keeps those of its dispatcher.
const DISPATCHER: &str = "oslo_messaging.rpc.dispatcher";

/// An exception, as it travels to the caller. There it is raised again as `module.class(*args, **kwargs)` if the caller
/// trusts the module (its own exceptions and Python's), and as a `RemoteError` that tells class and message if not.
///
/// It is as small as a pointer, so that results are not made large by what they rarely hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(transparent)]
#[error("{}.{}: {}", .0.module, .0.class, .0.message)]
pub struct Failure(Box<Exception>);

/// What a [`Failure`] tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exception {
    #[serde(default)]
    pub class: String,
    #[serde(default)]
    pub module: String,
    #[serde(default)]
    pub message: String,
    /// Lines of a traceback; they become part of the exception's text at the caller.
    #[serde(default)]
    pub tb: Vec<String>,
    #[serde(default)]
    pub args: Vec<Value>,
    #[serde(default)]
    pub kwargs: Map<String, Value>,
}

impl Deref for Failure {
    type Target = Exception;

    fn deref(&self) -> &Exception {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Exception {
        &mut self.0
    }
}

impl Failure {
    /// `message` is the final text. It is also the one positional argument: a constructor that is given none would
    /// make its text from a template, which has not the words any more.
    pub fn new(module: impl Into<String>, class: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let args = vec![Value::from(message.clone())];
        let (class, module) = (class.into(), module.into());
        Self(Box::new(Exception { class, module, message, tb: Vec::new(), args, kwargs: Map::new() }))
    }

    /// Adds a keyword argument of the exception's constructor.
    #[must_use]
    pub fn kwarg(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.kwargs.insert(name.into(), value.into());
        self
    }

    /// The method is not there, or not for others.
    pub fn no_such_method(method: &str) -> Self {
        Self::new(DISPATCHER, "NoSuchMethod", format!("Endpoint does not support RPC method {method}"))
    }

    /// Nothing here understands requests of that version or namespace. `version` is what the request said, to the
    /// letter.
    pub fn unsupported_version(version: &str, method: Option<&str>) -> Self {
        let attempted = method.map(|method| format!(". Attempted method: {method}")).unwrap_or_default();
        let message = format!("Endpoint does not support RPC version {version}{attempted}");
        Self::new(DISPATCHER, "UnsupportedVersion", message)
    }

    /// Arguments that the method cannot be called with.
    pub fn type_error(message: impl Into<String>) -> Self {
        Self::new(BUILTINS, "TypeError", message)
    }

    pub(crate) fn attribute_error(message: impl Into<String>) -> Self {
        Self::new(BUILTINS, "AttributeError", message)
    }

    /// A defect of ours. The caller learns that there is one; what it is stands in our log.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(BUILTINS, "RuntimeError", message)
    }

    /// As a reply holds it: text that is JSON, within a message that is text that is JSON, within an envelope.
    pub(crate) fn to_text(&self) -> String {
        json::write(self)
    }

    /// The failure that a reply holds. What cannot be read is a failure too, one that tells so.
    pub(crate) fn from_reply(failure: &Value) -> Self {
        let read = match failure {
            Value::String(text) => json::read(text).ok(),
            // Before they were text.
            other => Some(other.clone()),
        };
        // Serde would take a list for a struct, too.
        read.filter(Value::is_object)
            .and_then(|value| serde_json::from_value(value).ok())
            .unwrap_or_else(|| Self::new("", "", "the request failed, in words that cannot be read"))
    }

    /// Whether it is that exception. Services renamed modules more often than classes, so the class decides.
    pub fn is(&self, class: &str) -> bool {
        self.class == class
    }
}

/// How Python writes a value into a text.
pub(crate) fn shown(value: &Value) -> impl fmt::Display + '_ {
    struct Shown<'v>(&'v Value);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self.0 {
                Value::Null => f.write_str("None"),
                Value::Bool(true) => f.write_str("True"),
                Value::Bool(false) => f.write_str("False"),
                Value::String(text) => f.write_str(text),
                other => f.write_str(&json::write(other)),
            }
        }
    }
    Shown(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failure_goes_there_and_back() {
        let failure = Failure::new("shop.exception", "SoldOut", "No “tea” left.").kwarg("code", 409);
        assert_eq!(failure.to_string(), "shop.exception.SoldOut: No “tea” left.");
        let text = failure.to_text();
        let expected =
            r#"{"class": "SoldOut", "module": "shop.exception", "message": "No \u201ctea\u201d left.", "tb": [],"#
                .to_owned()
                + r#" "args": ["No \u201ctea\u201d left."], "kwargs": {"code": 409}}"#;
        assert_eq!(text, expected);
        assert_eq!(Failure::from_reply(&Value::from(text)), failure);
    }

    #[test]
    fn an_unreadable_failure_is_one_still() {
        for reply in [json!(""), json!("[1]"), json!(5), json!("{\"args\": 3}"), json!([])] {
            assert!(Failure::from_reply(&reply).message.contains("cannot be read"), "{reply}");
        }
        assert_eq!(Failure::from_reply(&json!("{\"class\": \"X\", \"more\": 1}")).class, "X");
    }

    #[test]
    fn the_dispatcher_speaks_as_upstreams() {
        assert_eq!(Failure::no_such_method("f").message, "Endpoint does not support RPC method f");
        assert_eq!(
            Failure::unsupported_version("1.9", Some("f")).message,
            "Endpoint does not support RPC version 1.9. Attempted method: f"
        );
        assert_eq!(Failure::unsupported_version("None", None).message, "Endpoint does not support RPC version None");
    }
}
