//! The context that a request is made in: who asks, with which rights, under which request identifier.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// How every key of a context begins in a message.
const PREFIX: &str = "_context_";

/// Keys whose values are nobody's business but the services' that use them: tokens, keys, and where they are good for.
const SECRETS: [&str; 4] = ["auth_token", "service_token", "service_catalog", "trace_info"];

/// All that a request said about its circumstances, in the order of the message and with nothing left out, so that what
/// is done on its behalf can be done with the same words.
///
/// It may hold a token. `Debug` hides it; what is stored for longer than the request should be stored
/// [without secrets](Context::without_secrets).
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context(Map<String, Value>);

impl Context {
    /// Takes the pairs of a context out of a message.
    pub(crate) fn take_from(message: &mut Map<String, Value>) -> Self {
        let mut context = Map::new();
        for (key, value) in std::mem::take(message) {
            match key.strip_prefix(PREFIX) {
                Some(name) => context.insert(name.into(), value),
                None => message.insert(key, value),
            };
        }
        Self(context)
    }

    pub(crate) fn put_into(&self, message: &mut Map<String, Value>) {
        message.extend(self.0.iter().map(|(name, value)| (format!("{PREFIX}{name}"), value.clone())));
    }

    /// The context of work that nobody asked for, such as what is found at start: an administrator without a name.
    /// Every key is there that services look for; those of Manila 15 and 16 do nothing without `read_deleted`.
    pub fn admin() -> Self {
        let Value::Object(pairs) = json!({
            "user": null, "project_id": null, "system_scope": null, "project": null, "domain": null,
            "user_domain": null, "project_domain": null, "is_admin": true, "read_only": false, "show_deleted": false,
            "auth_token": null, "request_id": format!("req-{}", Uuid::new_v4()), "global_request_id": null,
            "resource_uuid": null, "roles": ["admin"], "user_identity": "- - - - -", "is_admin_project": true,
            "user_id": null, "project_name": null, "domain_id": null, "read_deleted": "no", "remote_address": null,
            "timestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string(), "quota_class": null,
            "service_catalog": [],
        }) else {
            unreachable!("the literal is an object")
        };
        Self(pairs)
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// The pairs in the order of the message.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `req-<uuid>`, by which the logs of all services that took part are found.
    pub fn request_id(&self) -> Option<&str> {
        self.text("request_id")
    }

    pub fn global_request_id(&self) -> Option<&str> {
        self.text("global_request_id")
    }

    pub fn user_id(&self) -> Option<&str> {
        self.text("user_id").or_else(|| self.text("user"))
    }

    pub fn project_id(&self) -> Option<&str> {
        self.text("project_id").or_else(|| self.text("project"))
    }

    /// Whether the sender said that it is an administrator. `None` where it left that to the receiver's rules.
    pub fn is_admin(&self) -> Option<bool> {
        self.get("is_admin")?.as_bool()
    }

    /// User, project, domain, the user's domain and the project's domain, `-` for what is not known: the words that log
    /// lines of OpenStack carry.
    pub fn user_identity(&self) -> String {
        if let Some(said) = self.text("user_identity") {
            return said.to_owned();
        }
        let either = |id: &str, name: &str| self.text(id).or_else(|| self.text(name)).unwrap_or("-").to_owned();
        [
            self.user_id().unwrap_or("-").to_owned(),
            self.project_id().unwrap_or("-").to_owned(),
            either("domain_id", "domain"),
            either("user_domain_id", "user_domain"),
            either("project_domain_id", "project_domain"),
        ]
        .join(" ")
    }

    /// The same, with what would let a reader act in the user's name replaced by nothing of the same kind.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut context = self.clone();
        for (_, value) in context.0.iter_mut().filter(|(name, _)| SECRETS.contains(&name.as_str())) {
            *value = match value {
                Value::Array(_) => json!([]),
                Value::Object(_) => json!({}),
                _ => Value::Null,
            };
        }
        context
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }
}

impl FromIterator<(String, Value)> for Context {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|(name, value)| {
            let hidden = SECRETS.contains(&name.as_str()) && !value.is_null();
            (name, if hidden { Value::from("***") } else { value.clone() })
        });
        f.write_str("Context ")?;
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: Value) -> Context {
        serde_json::from_value(pairs).unwrap()
    }

    #[test]
    fn pairs_come_out_of_a_message_and_go_back_unchanged() {
        let text =
            r#"{"method": "m", "_context_z": 1.0, "_context_": {"b": 2, "a": 1}, "x_context_": 0, "_context_a": null}"#;
        let mut message: Map<String, Value> = serde_json::from_str(text).unwrap();
        let context = Context::take_from(&mut message);
        assert_eq!(message.keys().collect::<Vec<_>>(), ["method", "x_context_"]);
        assert_eq!(serde_json::to_string(&context).unwrap(), r#"{"z":1.0,"":{"b":2,"a":1},"a":null}"#);
        let mut again = Map::new();
        context.put_into(&mut again);
        assert_eq!(
            serde_json::to_string(&again).unwrap(),
            r#"{"_context_z":1.0,"_context_":{"b":2,"a":1},"_context_a":null}"#
        );
    }

    #[test]
    fn tokens_are_neither_shown_nor_kept() {
        let with = context(json!({"auth_token": "T0P", "user_id": "u", "service_catalog": [{"T0P": 1}],
            "trace_info": {"hmac_key": "T0P"}, "service_token": null}));
        let shown = format!("{with:?} {with:#?}");
        assert!(!shown.contains("T0P") && shown.contains("***") && shown.contains("user_id"), "{shown}");
        let without = serde_json::to_string(&with.without_secrets()).unwrap();
        assert_eq!(
            without,
            r#"{"auth_token":null,"user_id":"u","service_catalog":[],"trace_info":{},"service_token":null}"#
        );
    }

    #[test]
    fn who_asks_is_told_in_the_words_of_the_log() {
        for (pairs, expected) in [
            (json!({"user_identity": "u p - - -", "user_id": "x"}), "u p - - -"),
            (json!({"user": "u", "project": "p", "domain": "d", "user_domain_id": "ud"}), "u p d ud -"),
            (json!({"user_id": 5, "project_id": null}), "- - - - -"),
        ] {
            assert_eq!(context(pairs).user_identity(), expected);
        }
        let admin = Context::admin();
        assert_eq!((admin.is_admin(), admin.user_id()), (Some(true), None));
        assert_eq!(admin.get("read_deleted"), Some(&json!("no")));
        assert_eq!(admin.request_id().map(str::len), Some(40));
        assert_eq!(admin.get("timestamp").unwrap().as_str().unwrap().len(), "2026-11-22T08:40:36.714895".len());
    }
}
