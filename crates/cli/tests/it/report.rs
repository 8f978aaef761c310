//! The file of `--report`.

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use crate::support::{Sandbox, entries, json_lines};

fn read(sandbox: &Sandbox, name: &str) -> (Vec<Value>, Value) {
    assert!(!sandbox.path(format!("{name}.partial")).exists());
    let mut lines = json_lines(&fs::read_to_string(sandbox.path(name)).unwrap());
    let summary = lines.pop().expect("a summary");
    assert_eq!(summary["type"], "summary");
    assert!(lines.iter().all(|line| line["type"] == "entry" && line["schema_version"] == 1));
    (lines, summary)
}

#[test]
fn every_entry_has_one_exact_line() {
    let sandbox = Sandbox::new("report");
    sandbox.small_tree();
    let outcome = sandbox.run("copy --report r --hash sha256 source dest").expect(0);
    assert_eq!(outcome.stdout, "");
    let (lines, summary) = read(&sandbox, "r");
    assert_eq!(summary["ending"], "complete");
    let mut told: Vec<Vec<u8>> = lines.iter().map(path).collect();
    told.sort();
    let expected: Vec<_> = entries(&sandbox.path("source")).into_keys().collect();
    assert_eq!(told, expected);
    let by_path: HashMap<_, _> = lines.iter().map(|line| (path(line), line)).collect();
    let odd = by_path[&b"odd\xff\nname"[..]];
    assert_eq!(odd["path_hex"], "6f6464ff0a6e616d65");
    assert_eq!((&odd["action"], &odd["size_bytes"]), (&"created".into(), &3.into()));
    let names = [&b"file"[..], b"dir/again"];
    let linked = names.iter().filter(|name| by_path[**name]["action"] == "linked").count();
    assert_eq!(linked, 1, "one of two names of a file is a link");
    // Of "content", as `sha256sum` prints it.
    let digest = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    assert!(names.iter().any(|name| by_path[*name]["checksum"]["digest"] == digest), "{by_path:#?}");
}

#[test]
fn only_changes_where_only_changes_are_asked_for() {
    let sandbox = Sandbox::new("report-changes");
    sandbox.small_tree();
    sandbox.run("copy -q source dest").expect(0);
    sandbox.write("source/file2", b"new");
    sandbox.run("copy -q --report r --report-entries changes source dest").expect(0);
    let (lines, summary) = read(&sandbox, "r");
    let told: Vec<_> = lines.iter().map(path).collect();
    assert!(told.contains(&b"file2".to_vec()) && !told.contains(&b"dir/sub/deep".to_vec()), "{told:?}");
    assert_eq!(summary["counts"]["copied_files"], 1);
}

#[test]
fn an_old_report_is_replaced_and_its_leftover_removed() {
    let sandbox = Sandbox::new("report-again");
    sandbox.small_tree();
    sandbox.write("r", b"old");
    sandbox.write("r.partial", b"left by a run that was killed");
    sandbox.run("copy --report r source dest").expect(0);
    assert_ne!(read(&sandbox, "r").0.len(), 0);
}

/// The exact bytes that a line stands for.
fn path(line: &Value) -> Vec<u8> {
    match (line["path"].as_str(), line["path_hex"].as_str()) {
        (Some("."), None) => Vec::new(),
        (Some(text), None) => text.as_bytes().to_vec(),
        (None, Some(hex)) => hex
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect(),
        _ => panic!("exactly one of both: {line}"),
    }
}
