//! No file makes the reader stumble, and what is written is read back.

use std::path::Path;

use oslo::config::{Sources, Values};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::kit::{DEFS, text};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() }
}

/// Lines as people might write them, well or badly.
fn line() -> impl Strategy<Value = String> {
    let fragments = [
        "[DEFAULT]",
        "[database]",
        "[",
        "]",
        "=",
        ":",
        " ",
        "\t",
        "\r",
        "#",
        ";",
        "'",
        "\"",
        "$",
        "${",
        "}",
        "$$",
        "\\$",
        "$state_path",
        "$database.connection",
        "state_path",
        "mount_path",
        "connection",
        "mapping",
        "mount_options",
        "a",
        "ip:[",
        ",",
        "é",
        "\u{feff}",
        "5",
        "on",
    ];
    vec(proptest::sample::select(fragments.to_vec()), 0..8).prop_map(|words| words.concat())
}

fn look_at_everything(bytes: &[u8]) {
    let mut sources = Sources::new();
    if sources.add_text(Path::new("x.conf"), bytes).is_err() {
        return;
    }
    let values = Values::new(DEFS, sources);
    let _ = (values.errors(), values.effective(), values.notices(), values.unknown(&["DEFAULT", "database"]));
}

#[test]
fn no_bytes_make_it_stumble() {
    proptest!(config(), |(bytes: Vec<u8>)| look_at_everything(&bytes));
}

#[test]
fn no_lines_make_it_stumble() {
    proptest!(config(), |(lines in vec(line(), 0..12))| {
        look_at_everything(lines.join("\n").as_bytes());
        look_at_everything(format!("[DEFAULT]\n{}", lines.join("\n")).as_bytes());
    });
}

/// Any text of one line, quoted and with its signs doubled, is the value.
#[test]
fn what_is_written_is_read_back() {
    proptest!(config(), |(value: String)| {
        // Control characters end lines; white space at the ends of a value is no part of it unless it is quoted.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        let file = format!("[DEFAULT]\nstate_path = \"{}\"\n", value.replace('\\', "/").replace('$', "$$"));
        let mut sources = Sources::new();
        sources.add_text(Path::new("x.conf"), file.as_bytes()).unwrap();
        let read = text(&Values::new(DEFS, sources), "state_path");
        prop_assert_eq!(read, Some(value.replace('\\', "/")));
    });
}

#[test]
fn lists_and_dictionaries_are_read_back() {
    let word = || vec(proptest::sample::select(vec!["a", "b", "-o x", "é", "1:2"]), 1..3).prop_map(|it| it.concat());
    proptest!(config(), |(items in vec(word(), 1..5), pairs in proptest::collection::btree_map(0..9_u8, word(), 0..5))| {
        let written: Vec<_> = pairs.iter().map(|(key, value)| format!("k{key}:{value}")).collect();
        let file = format!("[DEFAULT]\naccess_ips =\n  {}\nmount_options = {}\n", items.join(" ,\n  "), written.join(","));
        let mut sources = Sources::new();
        sources.add_text(Path::new("x.conf"), file.as_bytes()).unwrap();
        let values = Values::new(DEFS, sources);
        prop_assert_eq!(values.get_list("DEFAULT", "access_ips").unwrap(), Some(items));
        let read = values.get_dict("DEFAULT", "mount_options").unwrap().unwrap();
        prop_assert_eq!(read, pairs.into_iter().map(|(key, value)| (format!("k{key}"), value)).collect());
    });
}
