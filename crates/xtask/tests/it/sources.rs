//! What source files may contain, how long they may be, and that none is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use xtask::{files, none, read, rust_files};

const LINES_MAX: usize = 600;

/// Files that may be longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// The rooms of every `unsafe` block: files, or the files of a directory.
const UNSAFE_ROOMS: [&str; 3] =
    ["crates/copy/src/local/sys.rs", "crates/copy/src/local/sys/", concat!("crates/", "work", "/src/sys.rs")];

/// Crates for tests may call the kernel in ways that a release never does.
const UNSAFE_FOR_TESTS: [&str; 4] =
    ["crates/testkit/", "crates/copy/tests/", "crates/cli/tests/", concat!("crates/", "work", "/tests/")];

fn starts_with_any(path: &Path, prefixes: &[&str]) -> bool {
    let path = path.to_str().expect("our own files have plain names");
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// The line without its comment. Good enough for code that rustfmt laid out; a `//` in a string cuts too much only.
fn code_of(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

fn contains_word(code: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(is_word)
            && !code[at + word.len()..].chars().next().is_some_and(is_word)
    })
}

#[test]
fn unsafe_code_has_one_room_in_a_crate() {
    let mut offenders = Vec::new();
    let outside = |path: &&PathBuf| !starts_with_any(path, &UNSAFE_ROOMS) && !starts_with_any(path, &UNSAFE_FOR_TESTS);
    let files = rust_files();
    for path in files.iter().filter(outside).filter(|path| !path.starts_with("crates/xtask")) {
        let text = read(path).expect("Rust is UTF-8");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| contains_word(code_of(line), "unsafe")) {
            offenders.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    none("`unsafe` outside `copy::local::sys` and `work::sys`", &offenders);
}

#[test]
fn unsafe_blocks_say_why_they_are_sound() {
    let mut offenders = Vec::new();
    for path in rust_files().iter().filter(|path| starts_with_any(path, &UNSAFE_ROOMS)) {
        let text = read(path).expect("Rust is UTF-8");
        let lines: Vec<_> = text.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| code_of(line).contains("unsafe {")) {
            // The comment stands above the statement, which rustfmt may have spread over a few lines.
            let above = &lines[at.saturating_sub(6)..=at];
            if !above.iter().any(|line| line.contains("SAFETY:")) {
                offenders.push(format!("{}:{}: {}", path.display(), at + 1, line.trim()));
            }
        }
    }
    none("`unsafe` without a SAFETY comment", &offenders);
}

/// Files of the engine that may name the current directory, which is how a path gets resolved.
const PATHS_OF_THE_CALLER: [(&str, &str); 2] = [
    ("crates/copy/src/local/mod.rs", "the two roots, which the caller names"),
    ("crates/copy/src/state.rs", "the state directory, which lies in neither tree"),
];

#[test]
fn the_engine_resolves_paths_only_where_the_caller_names_them() {
    let mut offenders = Vec::new();
    let files = rust_files();
    let excepted = |path: &PathBuf| PATHS_OF_THE_CALLER.iter().any(|(file, _)| Path::new(file) == path);
    for path in files.iter().filter(|path| path.starts_with("crates/copy/src") && !excepted(path)) {
        let text = read(path).expect("Rust is UTF-8");
        // `clippy.toml` bans the calls that take a path alone; these are the constants that make `*at` calls do it.
        for (number, line) in text.lines().enumerate() {
            if ["CWD", "AT_FDCWD"].iter().any(|word| contains_word(code_of(line), word)) {
                offenders.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    none("paths resolved from the current directory", &offenders);
}

#[test]
fn files_stay_short_enough_to_be_read() {
    let mut offenders = Vec::new();
    for path in rust_files() {
        let lines = read(&path).expect("Rust is UTF-8").lines().count();
        let excepted = LONG_FILES.iter().any(|(long, reason)| Path::new(long) == path && !reason.is_empty());
        if lines > LINES_MAX && !excepted {
            offenders.push(format!("{}: {lines} lines", path.display()));
        }
    }
    none(&format!("longer than {LINES_MAX} lines"), &offenders);
}

#[test]
fn modules_begin_with_what_they_are_for() {
    let rooms = [
        "crates/copy/src/",
        "crates/cli/src/",
        "crates/testkit/src/",
        concat!("crates/", "work", "/src/"),
        "crates/xtask/src/",
    ];
    let mut offenders = Vec::new();
    for path in rust_files().iter().filter(|path| starts_with_any(path, &rooms)) {
        if !read(path).expect("Rust is UTF-8").starts_with("//! ") {
            offenders.push(path.display().to_string());
        }
    }
    none("no `//!` in the first line", &offenders);
}

/// Where a module of `parent` may lie: beside it, or in the directory that has its name.
fn module_dir(parent: &Path) -> PathBuf {
    let dir = parent.parent().expect("a file lies in a directory");
    match parent.file_stem().and_then(|stem| stem.to_str()) {
        Some("main" | "lib" | "mod") => dir.into(),
        Some(stem) if !is_crate_root(parent) => dir.join(stem),
        _ => dir.into(),
    }
}

/// Files that cargo finds by itself: no `mod` line has to name them.
fn is_crate_root(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let in_crate = matches!(parts.first(), Some(&"crates")).then(|| parts.get(2..)).flatten();
    matches!(
        in_crate,
        Some(
            ["src", "lib.rs" | "main.rs"]
                | ["build.rs"]
                | ["src", "bin", ..]
                | ["tests" | "benches" | "examples", _]
                | ["tests" | "benches" | "examples", _, "main.rs"]
        )
    )
}

#[test]
fn no_source_file_is_forgotten() {
    let all: BTreeSet<PathBuf> = rust_files().into_iter().collect();
    let mut reached = BTreeSet::new();
    let mut queue: Vec<PathBuf> = all.iter().filter(|path| is_crate_root(path)).cloned().collect();
    while let Some(path) = queue.pop() {
        let text = read(&path).expect("Rust is UTF-8");
        let dir = module_dir(&path);
        for line in text.lines() {
            // `mod x;` with any visibility; a `#[path]` would be seen as a missing file, and is not used.
            let Some(name) = line.trim().strip_suffix(';').and_then(|line| line.rsplit_once("mod ")) else { continue };
            if !(name.0.is_empty() || name.0.starts_with("pub")) {
                continue;
            }
            for candidate in [dir.join(format!("{}.rs", name.1)), dir.join(name.1).join("mod.rs")] {
                if all.contains(&candidate) && !reached.contains(&candidate) {
                    queue.push(candidate);
                }
            }
        }
        reached.insert(path);
    }
    let forgotten: Vec<_> = all.difference(&reached).map(|path| path.display().to_string()).collect();
    none("no `mod` line leads here, so nobody compiles it", &forgotten);
}

/// Words of work that is not done. Written in pieces, so that this file has none of them.
const UNFINISHED: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("unimplemented", "!("),
    concat!("todo", "!("),
    concat!("#[", "ignore"),
];

/// Beginnings of paths that exist on a developer's machine only.
const HOST_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Files that a tool or somebody else wrote.
const NOT_OURS: [&str; 2] = ["Cargo.lock", "LICENSE"];

fn offending_lines(is_offence: impl Fn(&str) -> bool) -> Vec<String> {
    let mut offenders = Vec::new();
    for path in files().iter().filter(|path| !NOT_OURS.iter().any(|name| Path::new(name) == *path)) {
        let Some(text) = read(path) else { continue };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| is_offence(line)) {
            offenders.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
        }
    }
    offenders
}

#[test]
fn nothing_is_left_unfinished() {
    let offenders = offending_lines(|line| UNFINISHED.iter().any(|word| line.contains(word)));
    none("finish it, or file an issue and say what is missing", &offenders);
}

#[test]
fn no_file_names_a_developers_machine() {
    // A longer path that merely has such a folder somewhere in its middle is nobody's machine.
    let begins = |line: &str, at: usize| {
        !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || "._-/}*".contains(c))
    };
    let names_one = |line: &str| HOST_PATHS.iter().any(|path| line.match_indices(path).any(|(at, _)| begins(line, at)));
    none("paths of one machine", &offending_lines(names_one));
}

#[test]
fn words_are_found_as_words() {
    for (code, expected) in
        [("unsafe { x }", true), ("#![deny(unsafe_code)]", false), ("pub unsafe fn f()", true), ("unsafely()", false)]
    {
        assert_eq!(contains_word(code, "unsafe"), expected, "{code}");
    }
}
