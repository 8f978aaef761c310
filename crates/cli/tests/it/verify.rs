//! `verify` as a user sees it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Outcome, Sandbox, json_lines};

/// Two equal trees.
fn copied(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    sandbox.small_tree();
    sandbox.run("copy -q source dest").expect(0);
    sandbox
}

/// Changes a byte and nothing else that can be seen from outside.
fn damage(path: &Path) {
    let meta = fs::metadata(path).unwrap();
    let mut content = fs::read(path).unwrap();
    content[0] ^= 1;
    fs::write(path, content).unwrap();
    let times = fs::FileTimes::new().set_modified(meta.modified().unwrap());
    fs::File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

fn kinds(outcome: &Outcome) -> Vec<String> {
    let summary = outcome.events().pop().unwrap();
    let kind = |difference: &serde_json::Value| difference["kind"].as_str().unwrap().to_owned();
    summary["differences"].as_array().unwrap().iter().map(kind).collect()
}

#[test]
fn equal_trees_are_the_same() {
    let sandbox = copied("same");
    let outcome = sandbox.run("verify source dest").expect(0);
    assert!(outcome.stderr.starts_with("no differences"), "{outcome:#?}");
    let outcome = sandbox.run("verify --quiet source dest").expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    let summary = sandbox.run("verify --json source dest").expect(0).events().pop().unwrap();
    assert_eq!((&summary["event"], &summary["same"]), (&"summary".into(), &true.into()));
}

#[test]
fn one_changed_byte_is_found() {
    let sandbox = copied("byte");
    damage(&sandbox.path("dest/dir/sub/deep"));
    let outcome = sandbox.run("verify source dest").expect(3);
    assert!(outcome.stderr.contains("content of 1 entry: `dir/sub/deep`"), "{outcome:#?}");
    let outcome = sandbox.run("verify --quiet source dest").expect(3);
    assert!(outcome.stderr.contains("error: the trees are not the same"), "{outcome:#?}");
    assert_eq!(kinds(&sandbox.run("verify --json source dest").expect(3)), ["content"]);
    sandbox.run("verify --attributes-only source dest").expect(0);
    sandbox.run("verify --ignore deep source dest").expect(0);
}

#[test]
fn attributes_and_extra_entries_are_found() {
    let sandbox = copied("attributes");
    fs::set_permissions(sandbox.path("dest/empty"), fs::Permissions::from_mode(0o601)).unwrap();
    assert_eq!(kinds(&sandbox.run("verify --json source dest").expect(3)), ["mode"]);
    let sandbox = copied("extra");
    let times = fs::FileTimes::new().set_modified(fs::metadata(sandbox.path("source")).unwrap().modified().unwrap());
    sandbox.write("dest/extra", b"");
    fs::File::open(sandbox.path("dest")).unwrap().set_times(times).unwrap();
    assert_eq!(kinds(&sandbox.run("verify --json source dest").expect(3)), ["extra"]);
    sandbox.run("verify --ignore-extra source dest").expect(0);
}

#[test]
fn a_report_names_what_differs() {
    let sandbox = copied("verify-report");
    damage(&sandbox.path("dest/file"));
    sandbox.run("verify --report r --report-entries changes source dest").expect(3);
    let mut lines = json_lines(&fs::read_to_string(sandbox.path("r")).unwrap());
    assert_eq!(lines.pop().unwrap()["type"], "summary");
    assert!(!lines.is_empty());
    // Both names of the file may be told.
    for line in lines {
        assert_eq!(line["differences"], serde_json::json!(["content"]), "{line}");
        assert!(["file", "dir/again"].contains(&line["path"].as_str().unwrap()), "{line}");
    }
}
