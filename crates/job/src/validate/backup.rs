//! What a job on a repository of backups must say, and what it must not.

use std::path::Path;

use super::{NAME_MAX, Problems, TEXT_MAX};
use crate::model::Side;
use crate::spec::{BackupPlan, Endpoint, Format, JobSpec, Kind};

impl Problems {
    pub(super) fn backup(&mut self, spec: &JobSpec) {
        let kind = spec.kind.as_str();
        match (spec.kind.repository_side(), &spec.backup) {
            (None, None) => {}
            (None, Some(_)) => self.say(format!("backup is not for a job of kind {kind}")),
            (Some(_), None) => self.say(format!("backup is not given, and a job of kind {kind} needs it")),
            (Some(side), Some(plan)) => {
                let repository = if side == Side::Source { &spec.source } else { &spec.dest };
                self.repository(repository, plan);
                self.backup_plan(spec, plan);
            }
        }
    }

    /// What the place and the format ask of each other.
    fn repository(&mut self, repository: &Endpoint, plan: &BackupPlan) {
        let is_configured = matches!(repository, Endpoint::Repository { .. });
        match plan.format {
            _ if is_configured => {
                if plan.password.is_some() {
                    self.say("backup.password is not for a repository of the configuration, which has its own");
                }
            }
            Format::Restic if plan.password.is_none() => {
                self.say("backup.password is not given, and a restic repository cannot be opened without it");
            }
            Format::Restic => {}
            Format::Directory => {
                if matches!(repository, Endpoint::Url { .. }) {
                    self.say("backup.format directory is for directories and mounts, and the repository is a URL");
                }
                if plan.password.is_some() {
                    self.say("backup.password is not for backup.format directory, which encrypts nothing");
                }
            }
        }
    }

    fn backup_plan(&mut self, spec: &JobSpec, plan: &BackupPlan) {
        let kind = spec.kind.as_str();
        let mut misplaced = |is_set: bool, field: &str, kinds: &[Kind]| {
            if is_set && !kinds.contains(&spec.kind) {
                self.say(format!("backup.{field} is not for a job of kind {kind}"));
            }
        };
        misplaced(plan.init, "init", &[Kind::Backup]);
        misplaced(!plan.paths.is_empty(), "paths", &[Kind::Restore]);
        misplaced(!plan.keep.is_all(), "keep", &[Kind::Prune]);
        misplaced(plan.read_data_percent != 0, "read_data_percent", &[Kind::Check]);
        misplaced(!plan.tags.is_empty(), "tags", &[Kind::Backup]);
        misplaced(spec.options.delete && spec.kind == Kind::Backup, "(options.delete)", &[]);
        if plan.id.is_none() {
            let needs = match spec.kind {
                Kind::Restore | Kind::Delete => true,
                Kind::Backup => plan.format == Format::Directory,
                _ => false,
            };
            if needs {
                self.say(format!("backup.id is not given, and a job of kind {kind} needs it"));
            }
        }
        if plan.read_data_percent > 100 {
            self.say("backup.read_data_percent is more than 100");
        }
        for (field, text) in [("id", &plan.id), ("share", &plan.share)] {
            if let Some(text) = text {
                self.text(&format!("backup.{field}"), text, NAME_MAX);
            }
        }
        // It may be the name of a directory.
        if plan.id.as_ref().is_some_and(|id| id.contains('/') || id.starts_with('.')) {
            self.say("backup.id has a slash in it, or begins with a dot");
        }
        self.list("backup.tags", &plan.tags);
        // restic's own command takes several in one word.
        if plan.tags.iter().chain(&plan.share).any(|tag| tag.contains(',')) {
            self.say("backup.tags or backup.share has a comma in it");
        }
        if let Some(password) = &plan.password {
            self.text("backup.password", password.expose(), TEXT_MAX);
        }
        if let Some(subdir) = &plan.subdir {
            self.path_below("backup.subdir", subdir);
        }
        for path in &plan.paths {
            self.path_below("backup.paths", path);
        }
        let keep = plan.keep;
        if [keep.last, keep.hourly, keep.daily, keep.weekly, keep.monthly, keep.yearly].contains(&Some(0)) {
            self.say("backup.keep has a 0; leave out what is not to be kept");
        }
    }

    fn path_below(&mut self, field: &str, path: &Path) {
        self.path(field, path);
        if path.is_absolute() {
            self.say(format!("{field} is not relative"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::problems;

    /// A sound job of a kind, with its plan extended, and a part of each message expected.
    fn check(kind: &str, plan: Value, expected: &[&str]) {
        let tree = json!({ "type": "directory", "path": "/tree" });
        let repository = json!({ "type": "directory", "path": "/repository" });
        let none = json!({ "type": "none" });
        let (source, dest) = match kind {
            "backup" => (tree, repository),
            "restore" => (repository, tree),
            "check" => (repository, none),
            _ => (none, repository),
        };
        let mut backup = json!({ "password": "x" });
        let Value::Object(plan) = plan else { panic!("an object") };
        backup.as_object_mut().expect("an object").extend(plan);
        compare(json!({ "kind": kind, "source": source, "dest": dest, "backup": backup }), expected);
    }

    fn compare(spec: Value, expected: &[&str]) {
        let found = problems(spec);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (message, part) in found.iter().zip(expected) {
            assert!(message.contains(part), "`{message}` says nothing of `{part}`");
        }
    }

    #[test]
    fn what_can_be_carried_out_is_not_spoken_of() {
        check("backup", json!({ "share": "s", "tags": ["a=b"], "init": true, "subdir": "p/q" }), &[]);
        check("backup", json!({ "format": "directory", "password": null, "id": "b1" }), &[]);
        check("restore", json!({ "id": "latest", "paths": ["a/b"] }), &[]);
        check("delete", json!({ "id": "b1" }), &[]);
        check("check", json!({ "read_data_percent": 100 }), &[]);
        check("prune", json!({ "keep": { "last": 1, "yearly": 3 } }), &[]);
    }

    #[test]
    fn a_plan_fits_its_kind() {
        check("restore", json!({}), &["backup.id is not given"]);
        check("prune", json!({ "init": true, "paths": ["a"], "tags": ["t"] }), &["init", "paths", "tags"]);
        check("backup", json!({ "keep": { "last": 1 }, "read_data_percent": 5 }), &["keep", "read_data_percent"]);
        check("check", json!({ "read_data_percent": 101 }), &["more than 100"]);
        check("prune", json!({ "keep": { "daily": 0 } }), &["has a 0"]);
    }

    #[test]
    fn names_and_paths_lead_nowhere_else() {
        check("restore", json!({ "id": "a/b" }), &["a slash"]);
        check("delete", json!({ "id": ".." }), &["begins with a dot"]);
        check("restore", json!({ "id": "x", "paths": ["../a", "/b"] }), &["`..`", "not relative"]);
        check("backup", json!({ "subdir": "/a", "tags": ["a,b"] }), &["comma", "not relative"]);
    }

    #[test]
    fn a_repository_and_its_format_go_together() {
        check("backup", json!({ "password": null }), &["backup.password is not given"]);
        check("backup", json!({ "format": "directory" }), &["encrypts nothing", "backup.id"]);
        let url =
            |url: &str, plan: Value| json!({ "kind": "prune", "dest": { "type": "url", "url": url }, "backup": plan });
        compare(url("s3:https://h/b", json!({ "password": "x" })), &[]);
        compare(url("ftp://h/b", json!({ "password": "x" })), &["begins with neither"]);
        compare(url("s3:https://h/b", json!({ "format": "directory" })), &["is a URL"]);
        let named = |name: &str, plan: Value| json!({ "kind": "prune", "dest": { "type": "repository", "name": name }, "backup": plan });
        compare(named("nightly", json!({})), &[]);
        compare(named("nightly", json!({ "password": "x" })), &["which has its own"]);
        compare(named("other", json!({})), &["there are: nightly"]);
    }

    #[test]
    fn each_kind_has_its_sides() {
        let dir = |path: &str| json!({ "type": "directory", "path": path });
        let plan = json!({ "password": "x", "id": "b" });
        compare(
            json!({ "kind": "prune", "source": dir("/a"), "dest": dir("/b"), "backup": plan }),
            &["source is not for"],
        );
        compare(json!({ "kind": "backup", "dest": dir("/b"), "backup": plan }), &["source is not given"]);
        compare(json!({ "kind": "copy", "source": dir("/a") }), &["dest is not given"]);
        compare(
            json!({ "kind": "copy", "source": dir("/a"), "dest": dir("/b"), "backup": plan }),
            &["backup is not for"],
        );
        compare(json!({ "kind": "restore", "source": dir("/a"), "dest": dir("/b") }), &["backup is not given"]);
        let repository = json!({ "type": "repository", "name": "nightly" });
        compare(json!({ "kind": "copy", "source": repository, "dest": dir("/b") }), &["a tree, not a repository"]);
    }
}
