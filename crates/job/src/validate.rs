//! Whether a specification can be carried out at all, as far as that can be said without looking at the world.

mod backup;

use std::path::{Component, Path};

use copy::Filter;

use crate::model::Side;
use crate::place::Place;
use crate::spec::{Cutover, Endpoint, JobSpec, Kind, MigratePlan, Options};
use crate::window::limit_problems;

/// Longest text of a field: more is a mistake or an attack, and would be stored and shown again and again.
const TEXT_MAX: usize = 4096;
const NAME_MAX: usize = 255;
/// Patterns and options of one list.
const LIST_MAX: usize = 1000;
/// What the engine can make use of, at most.
const WORKERS_MAX: u32 = 1024;
/// A year.
const INTERVAL_MAX: u32 = 366 * 24 * 3600;

/// What specifications may name of the service's configuration.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub hooks: Vec<String>,
    pub repositories: Vec<String>,
}

/// Everything that is wrong, one message each; nothing: the job can be taken.
pub fn validate(spec: &JobSpec, known: &Known) -> Vec<String> {
    let mut found = Problems::default();
    if let Some(name) = &spec.name {
        found.text("name", name, NAME_MAX);
    }
    found.side(spec, Side::Source, known);
    found.side(spec, Side::Dest, known);
    if Place::of(&spec.source).overlaps(&Place::of(&spec.dest)) && are_comparable(&spec.source, &spec.dest) {
        found.say("source and dest are the same tree, or one lies within the other");
    }
    if spec.lacks_secrets() {
        found.say("a secret is masked (***); give it in full");
    }
    found.options(spec.kind, &spec.options);
    found.0.extend(limit_problems(&spec.limits));
    if let (Some(start), Some(deadline)) = (spec.schedule.start_after, spec.schedule.deadline)
        && start >= deadline
    {
        found.say("schedule.deadline is not after schedule.start_after");
    }
    found.plan(spec.kind, &spec.migrate, &known.hooks);
    found.backup(spec);
    if let Some(webhook) = &spec.webhook {
        found.webhook(&webhook.url);
    }
    found.0
}

/// A command tells too little to call two of them the same tree, unless it names a host; so does a relative path.
fn are_comparable(source: &Endpoint, dest: &Endpoint) -> bool {
    let is_known = |endpoint: &Endpoint| match endpoint {
        Endpoint::Directory { path } => path.is_absolute(),
        Endpoint::None | Endpoint::Repository { .. } => false,
        Endpoint::Mount { .. } | Endpoint::Url { .. } => true,
        Endpoint::Command { .. } => Place::of(endpoint).host().is_some(),
    };
    is_known(source) && is_known(dest)
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn say(&mut self, message: impl Into<String>) {
        self.0.push(message.into());
    }

    fn text(&mut self, field: &str, text: &str, length_max: usize) {
        if text.is_empty() {
            self.say(format!("{field} is empty"));
        } else if text.len() > length_max {
            self.say(format!("{field} is longer than {length_max} bytes"));
        }
        if text.chars().any(char::is_control) {
            self.say(format!("{field} has control characters"));
        }
    }

    fn list(&mut self, field: &str, list: &[String]) {
        if list.len() > LIST_MAX {
            self.say(format!("{field} has more than {LIST_MAX} entries"));
        }
        for text in list.iter().take(LIST_MAX) {
            self.text(field, text, TEXT_MAX);
        }
    }

    fn side(&mut self, spec: &JobSpec, side: Side, known: &Known) {
        let (name, endpoint) = match side {
            Side::Source => ("source", &spec.source),
            Side::Dest => ("dest", &spec.dest),
        };
        let kind = spec.kind.as_str();
        match (spec.kind.has(side), endpoint.is_none()) {
            (true, true) => self.say(format!("{name} is not given")),
            (false, false) => self.say(format!("{name} is not for a job of kind {kind}")),
            (true, false) | (false, true) => {}
        }
        if spec.kind.repository_side() != Some(side)
            && matches!(endpoint, Endpoint::Repository { .. } | Endpoint::Url { .. })
        {
            self.say(format!("{name} of a job of kind {kind} is a tree, not a repository"));
        }
        if let Endpoint::Repository { name: repository } = endpoint
            && !known.repositories.contains(repository)
        {
            let there = if known.repositories.is_empty() { "none".into() } else { known.repositories.join(", ") };
            self.say(format!(
                "{name} is the repository `{}`, which is not configured here; there are: {there}",
                repository.escape_debug()
            ));
        }
        self.endpoint(name, endpoint);
    }

    fn endpoint(&mut self, side: &str, endpoint: &Endpoint) {
        match endpoint {
            Endpoint::None => {}
            Endpoint::Repository { name } => self.text(&format!("{side}.name"), name, NAME_MAX),
            Endpoint::Url { url } => {
                self.text(&format!("{side}.url"), url.expose(), TEXT_MAX);
                let is_known = ["rest:http://", "rest:https://", "s3:http://", "s3:https://"]
                    .iter()
                    .any(|scheme| url.expose().starts_with(scheme));
                if !is_known {
                    self.say(format!("{side}.url begins with neither rest:http(s):// nor s3:http(s)://"));
                }
            }
            Endpoint::Directory { path } => {
                self.path(&format!("{side}.path"), path);
                if !path.is_absolute() {
                    self.say(format!("{side}.path is not absolute"));
                }
            }
            Endpoint::Mount { fs_type, source, options, subdir } => {
                self.text(&format!("{side}.fs_type"), fs_type, NAME_MAX);
                self.text(&format!("{side}.source"), source, TEXT_MAX);
                for (field, text) in [("fs_type", fs_type), ("source", source)] {
                    if text.starts_with('-') {
                        self.say(format!("{side}.{field} begins with a dash, and would be taken for an option"));
                    }
                }
                let shown: Vec<String> = options.iter().map(|option| option.expose().to_owned()).collect();
                self.list(&format!("{side}.options"), &shown);
                if let Some(subdir) = subdir {
                    self.path(&format!("{side}.subdir"), subdir);
                    if subdir.is_absolute() {
                        self.say(format!("{side}.subdir is not relative"));
                    }
                }
            }
            Endpoint::Command { mount, unmount, options } => {
                let unmount = unmount.as_ref().map(|text| ("unmount", text));
                for (field, template) in [("mount", mount)].into_iter().chain(unmount) {
                    self.text(&format!("{side}.{field}"), template.expose(), TEXT_MAX);
                    if !template.expose().contains("%(path)s") {
                        self.say(format!("{side}.{field} has no %(path)s for the mount point"));
                    }
                }
                match options {
                    Some(options) => self.text(&format!("{side}.options"), options.expose(), TEXT_MAX),
                    None if mount.expose().contains("%(options)s") => {
                        self.say(format!("{side}.mount has %(options)s, and {side}.options is not given"));
                    }
                    None => {}
                }
            }
        }
    }

    fn path(&mut self, field: &str, path: &Path) {
        self.text(field, &path.to_string_lossy(), TEXT_MAX);
        if path.components().any(|part| part == Component::ParentDir) {
            self.say(format!("{field} has `..` in it"));
        }
    }

    fn options(&mut self, kind: Kind, options: &Options) {
        self.list("options.ignore", &options.ignore);
        for name in options.ignore.iter().filter(|name| name.contains('/')) {
            self.say(format!(
                "options.ignore holds names, and `{}` is a path; use options.exclude",
                name.escape_debug()
            ));
        }
        for (field, patterns) in [("exclude", &options.exclude), ("include", &options.include)] {
            self.list(&format!("options.{field}"), patterns);
            for pattern in patterns.iter().take(LIST_MAX) {
                if Filter::new(&[], std::slice::from_ref(pattern), &[]).is_err() {
                    self.say(format!("options.{field} has `{}`, which is no valid pattern", pattern.escape_debug()));
                }
            }
        }
        if options.workers.is_some_and(|workers| !(1..=WORKERS_MAX).contains(&workers)) {
            self.say(format!("options.workers is not from 1 to {WORKERS_MAX}"));
        }
        // The passes of a migration after the first delete by themselves.
        if options.max_delete.is_some() && !options.delete && kind != Kind::Migrate {
            self.say("options.max_delete needs options.delete");
        }
        if let Some(mover) = options.mover.filter(|mover| options.no_mover.contains(mover)) {
            let word = serde_json::to_string(&mover).unwrap_or_default();
            self.say(format!("options.mover and options.no_mover both have {word}"));
        }
        let of_comparisons = [(options.atime, "atime"), (options.ignore_extra, "ignore_extra")];
        let of_copies = [(options.delete, "delete"), (options.dry_run, "dry_run")];
        let misplaced = match kind {
            Kind::Verify => &of_copies[..],
            Kind::Copy => &of_comparisons[..],
            Kind::Migrate | Kind::Backup | Kind::Restore => &[of_comparisons[0], of_comparisons[1], of_copies[1]],
            Kind::Delete | Kind::Check | Kind::Prune => {
                &[of_comparisons[0], of_comparisons[1], of_copies[0], of_copies[1]]
            }
        };
        for (_, field) in misplaced.iter().filter(|(is_set, _)| *is_set) {
            self.say(format!("options.{field} is not for a job of kind {}", kind.as_str()));
        }
    }

    fn plan(&mut self, kind: Kind, plan: &MigratePlan, hooks: &[String]) {
        if kind != Kind::Migrate {
            if *plan != MigratePlan::default() {
                self.say(format!("migrate is not for a job of kind {}", kind.as_str()));
            }
            return;
        }
        if plan.interval_seconds > INTERVAL_MAX {
            self.say(format!("migrate.interval_seconds is more than a year ({INTERVAL_MAX})"));
        }
        if plan.passes_max == Some(0) {
            self.say("migrate.passes_max must be at least 1");
        }
        if plan.cutover_seconds_max.is_some() && plan.cutover == Cutover::Manual {
            self.say("migrate.cutover_seconds_max is for an automatic cutover");
        }
        if let Some(hook) = plan.hook.as_ref().filter(|hook| !hooks.contains(hook)) {
            let known = if hooks.is_empty() { "none".into() } else { hooks.join(", ") };
            self.say(format!("migrate.hook `{}` is not configured here; there are: {known}", hook.escape_debug()));
        }
    }

    fn webhook(&mut self, url: &str) {
        self.text("webhook.url", url, TEXT_MAX);
        let scheme_end = url.find("://").unwrap_or(0);
        let (scheme, rest) = (url[..scheme_end].to_ascii_lowercase(), url.get(scheme_end + 3..).unwrap_or_default());
        if scheme != "http" && scheme != "https" {
            self.say("webhook.url is neither http nor https");
        } else if rest.split(['/', '?', '#']).next().is_none_or(|host| host.is_empty() || host.starts_with(':')) {
            self.say("webhook.url has no host");
        } else if rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@')) {
            self.say("webhook.url has a user in it, which would be shown; use webhook.secret");
        }
        if url.contains(char::is_whitespace) {
            self.say("webhook.url has white space in it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(super) fn problems(spec: Value) -> Vec<String> {
        let spec: JobSpec = serde_json::from_value(spec).expect("a specification");
        let known = Known { hooks: vec!["freeze".into(), "thaw".into()], repositories: vec!["nightly".into()] };
        validate(&spec, &known)
    }

    /// A sound job with some fields replaced, and a part of each message expected.
    fn check(change: Value, expected: &[&str]) {
        let mut spec = json!({
            "kind": "copy",
            "source": { "type": "directory", "path": "/a" },
            "dest": { "type": "directory", "path": "/b" },
        });
        let Value::Object(change) = change else { panic!("an object") };
        spec.as_object_mut().expect("an object").extend(change);
        let found = problems(spec);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (message, part) in found.iter().zip(expected) {
            assert!(message.contains(part), "`{message}` says nothing of `{part}`");
        }
    }

    #[test]
    fn what_can_be_carried_out_is_not_spoken_of() {
        check(json!({}), &[]);
        check(
            json!({ "name": "é x", "options": { "exclude": ["*.tmp"], "workers": 1, "delete": true, "max_delete": 5 } }),
            &[],
        );
        check(
            json!({ "kind": "migrate", "migrate": { "hook": "freeze", "cutover": "automatic", "cutover_seconds_max": 5 },
                    "webhook": { "url": "https://h.example:8443/x?y" }, "options": { "max_delete": 9 } }),
            &[],
        );
        check(json!({ "dest": { "type": "mount", "fs_type": "nfs", "source": "h:/x", "subdir": "a/b" } }), &[]);
        check(
            json!({ "dest": { "type": "command", "mount": "mount %(options)s h:/x %(path)s", "options": "-o ro" } }),
            &[],
        );
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        check(
            json!({ "name": "", "options": { "exclude": ["a["], "workers": 0 }, "webhook": { "url": "ftp://x" } }),
            &["name is empty", "a[", "options.workers", "neither http nor https"],
        );
    }

    #[test]
    fn texts_have_bounds_and_no_control_characters() {
        check(json!({ "name": "a\nb" }), &["control characters"]);
        check(json!({ "name": "x".repeat(256) }), &["longer than 255"]);
        check(json!({ "options": { "ignore": ["a/b", ""] } }), &["is empty", "is a path"]);
        check(json!({ "options": { "include": vec!["x"; 1001] } }), &["more than 1000"]);
    }

    #[test]
    fn directories_are_absolute_and_apart() {
        let dir = |path: &str| json!({ "type": "directory", "path": path });
        check(json!({ "source": dir("a") }), &["not absolute"]);
        check(json!({ "source": dir("/a/../c") }), &["`..`"]);
        check(json!({ "source": dir("/b/") }), &["same tree"]);
        check(json!({ "source": dir("/b/c") }), &["same tree"]);
        check(json!({ "source": dir("") }), &["is empty", "not absolute"]);
    }

    #[test]
    fn mounts_and_commands_are_complete() {
        let mount = |source: &str, subdir: &str| json!({ "type": "mount", "fs_type": "nfs", "source": source, "subdir": subdir });
        check(json!({ "dest": mount("-o evil", "a") }), &["begins with a dash"]);
        check(json!({ "dest": mount("h:/x", "/a") }), &["not relative"]);
        check(json!({ "dest": mount("h:/x", "a/../b") }), &["`..`"]);
        check(json!({ "source": mount("h:/x", "a"), "dest": mount("H:/x", "a/b") }), &["same tree"]);
        let command = |mount: &str| json!({ "type": "command", "mount": mount });
        check(json!({ "dest": command("mount h:/x") }), &["no %(path)s"]);
        check(json!({ "dest": command("mount %(options)s %(path)s") }), &["dest.options is not given"]);
        check(json!({ "source": command("odd %(path)s"), "dest": command("odd %(path)s") }), &[]);
        check(json!({ "dest": command("mount -o password=*** h:/x %(path)s") }), &["masked"]);
    }

    #[test]
    fn options_fit_the_kind() {
        check(json!({ "options": { "max_delete": 1 } }), &["needs options.delete"]);
        check(json!({ "options": { "atime": true } }), &["options.atime is not for a job of kind copy"]);
        check(json!({ "kind": "verify", "options": { "delete": true } }), &["options.delete"]);
        check(json!({ "kind": "migrate", "options": { "dry_run": true } }), &["options.dry_run"]);
        check(json!({ "migrate": { "passes_max": 2 } }), &["migrate is not for"]);
        check(json!({ "options": { "mover": "reflink", "no_mover": ["reflink"] } }), &["both have \"reflink\""]);
    }

    #[test]
    fn a_plan_of_a_migration_is_sound() {
        check(
            json!({ "kind": "migrate", "migrate": { "hook": "melt", "passes_max": 0, "cutover_seconds_max": 5,
                    "interval_seconds": 40_000_000 } }),
            &["interval_seconds", "passes_max", "cutover_seconds_max", "freeze, thaw"],
        );
    }

    #[test]
    fn webhooks_and_deadlines_make_sense() {
        for (url, part) in
            [("https://", "no host"), ("https://u:p@h/", "a user"), ("x", "neither"), ("http://:80/", "no host")]
        {
            check(json!({ "webhook": { "url": url } }), &[part]);
        }
        check(
            json!({ "schedule": { "start_after": "2026-01-02T00:00:00Z", "deadline": "2026-01-01T00:00:00Z" } }),
            &["schedule.deadline"],
        );
    }
}
