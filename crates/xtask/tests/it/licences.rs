//! Every package of the build comes from cargo's own registry, under a licence of the list in `deny.toml`.

use std::path::Path;

use xtask::{Workspace, none, read};

/// The list of `deny.toml`, so that there is one.
fn allowed() -> Vec<String> {
    let deny = read(Path::new("deny.toml")).expect("it is UTF-8");
    let list =
        deny.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']')).expect("deny.toml has the list").0;
    let names: Vec<String> = list.split('"').skip(1).step_by(2).map(Into::into).collect();
    assert!(names.iter().any(|name| name == "Apache-2.0"), "{names:?}");
    names
}

/// Whether an SPDX expression can be met with allowed licences only.
///
/// Splits at `OR` first, as the precedence of SPDX wants it, and understands parentheses around the whole of a part.
fn permits(expression: &str, allowed: &[String]) -> bool {
    let expression = unwrapped(expression.trim());
    let parts = |word: &str| split_at_word(expression, word);
    match (parts(" OR "), parts("/"), parts(" AND ")) {
        (or, ..) if or.len() > 1 => or.iter().any(|part| permits(part, allowed)),
        // The form of old manifests.
        (_, slash, _) if slash.len() > 1 => slash.iter().any(|part| permits(part, allowed)),
        (.., and) if and.len() > 1 => and.iter().all(|part| permits(part, allowed)),
        _ => allowed.iter().any(|name| name == expression),
    }
}

/// Cuts at a word that stands outside parentheses.
fn split_at_word<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && text[at..].starts_with(word) => {
                parts.push(&text[start..at]);
                start = at + word.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unwrapped(text: &str) -> &str {
    let inner = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    // "(A) OR (B)" begins and ends with parentheses too, but not with a pair.
    let is_pair = |inner: &str| {
        let mut depth = 0;
        inner.chars().all(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth >= 0
        })
    };
    inner.filter(|inner| is_pair(inner)).map_or(text, str::trim)
}

#[test]
fn every_licence_is_on_the_list() {
    let (allowed, workspace) = (allowed(), Workspace::read());
    assert!(workspace.packages.len() > workspace.rooms.len(), "dependencies were read");
    let bad =
        workspace.packages.iter().filter(|package| !package.license.as_ref().is_some_and(|l| permits(l, &allowed)));
    let bad: Vec<_> = bad.map(|p| format!("{} {}: {:?}", p.name, p.version, p.license)).collect();
    none("licences that deny.toml does not allow", &bad);
}

#[test]
fn every_package_comes_from_the_registry() {
    let workspace = Workspace::read();
    let ours: Vec<_> = workspace.rooms.iter().map(|room| room.name.as_str()).collect();
    let bad = workspace.packages.iter().filter(|package| match &package.source {
        None => !ours.contains(&package.name.as_str()),
        Some(source) => !source.starts_with("registry+"),
    });
    none(
        "packages from elsewhere",
        &bad.map(|p| format!("{} {}: {:?}", p.name, p.version, p.source)).collect::<Vec<_>>(),
    );
}

#[test]
fn expressions_are_read_as_spdx_wants() {
    let allowed = ["MIT".to_owned(), "Zlib".into(), "Apache-2.0".into(), "Apache-2.0 WITH LLVM-exception".into()];
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT/GPL-2.0", true),
        ("(GPL-3.0-only OR MIT) AND Zlib", true),
        ("(MIT) OR (GPL-3.0-only)", true),
        ("(MIT AND GPL-3.0-only) OR BSD-3-Clause", false),
        ("MIT OR Zlib AND GPL-3.0-only", true),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0-only", true),
        ("Apache-2.0 WITH Other-exception", false),
    ] {
        assert_eq!(permits(expression, &allowed), expected, "{expression}");
    }
}
