//! Whose request a line belongs to, as the spans around it say.

/// What oslo.context knows of a request, under the names of its logging values.
const KEYS: [&str; 23] = [
    "user_name",
    "project_name",
    "domain_name",
    "user_domain_name",
    "project_domain_name",
    "user",
    "project",
    "system_scope",
    "domain",
    "user_domain",
    "project_domain",
    "is_admin",
    "read_only",
    "show_deleted",
    "request_id",
    "global_request_id",
    "resource_uuid",
    "roles",
    "user_identity",
    "is_admin_project",
    // Not of oslo.context, but understood by the formatter:
    "instance",
    "instance_uuid",
    "resource",
];

/// Other names of the same.
const ALIASES: [(&str, &str); 5] = [
    ("user_id", "user"),
    ("project_id", "project"),
    ("domain_id", "domain"),
    ("user_domain_id", "user_domain"),
    ("project_domain_id", "project_domain"),
];

/// What a line is about. A line may say it that belongs to no request.
pub(super) const OF_THINGS: [&str; 4] = ["instance", "instance_uuid", "resource", "resource_uuid"];

/// What an event may say by itself. Other names of the context mean other things there.
const OF_EVENTS: [&str; 5] = ["request_id", "global_request_id", "resource_uuid", "instance", "instance_uuid"];

/// The name under which a span's field belongs to the context, if it does.
pub(super) fn canonical(name: &str) -> Option<&'static str> {
    let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, key)| key);
    KEYS.into_iter().find(|key| *key == name)
}

/// The same for a field of an event.
pub(super) fn canonical_of_event(name: &str) -> Option<&'static str> {
    OF_EVENTS.into_iter().find(|key| *key == name)
}

/// The values of one request. An empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestContext(Vec<(&'static str, String)>);

impl RequestContext {
    pub(super) fn is_of_request(&self) -> bool {
        self.0.iter().any(|(key, _)| !OF_THINGS.contains(key))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let key = canonical(name)?;
        self.0.iter().find(|(known, _)| *known == key).map(|(_, value)| &**value)
    }

    /// Whether a flag of the context is set; `default` where nobody says.
    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |text| text.eq_ignore_ascii_case("true"))
    }

    pub(super) fn set(&mut self, key: &'static str, value: String) {
        self.0.retain(|(known, _)| *known != key);
        if !value.is_empty() {
            self.0.push((key, value));
        }
    }

    /// Takes what is not known yet from an outer span.
    pub(super) fn add_outer(&mut self, outer: &Self) {
        for (key, value) in &outer.0 {
            if self.0.iter().all(|(known, _)| known != key) {
                self.0.push((key, value.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_kinds_mean_the_same() {
        assert_eq!(canonical("user_id"), Some("user"));
        assert_eq!(canonical("user"), Some("user"));
        assert_eq!(canonical("job_id"), None);
        assert_eq!(canonical_of_event("user"), None);
    }

    #[test]
    fn inner_spans_win_and_empty_values_are_none() {
        let mut inner = RequestContext::default();
        inner.set("user", "u".into());
        inner.set("request_id", String::new());
        let mut outer = RequestContext::default();
        outer.set("user", "other".into());
        outer.set("request_id", "req-1".into());
        inner.add_outer(&outer);
        assert_eq!((inner.get("user_id"), inner.get("request_id")), (Some("u"), Some("req-1")));
        assert_eq!(inner.get("project"), None);
    }
}
