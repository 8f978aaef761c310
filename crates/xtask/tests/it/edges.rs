//! Who may know whom: crates point down only, and `copy` knows nobody.

use xtask::{DependencyKind, Workspace, none, normal_tree, read};

/// The drawn edges: a crate, and the crates of the workspace that its normal build may use.
const EDGES: [(&str, &[&str]); 11] = [
    ("copy", &[]),
    ("backup", &["copy"]),
    ("job", &["copy"]),
    ("oslo", &[]),
    ("store", &["job"]),
    ("manila", &["job", "oslo"]),
    ("work", &["backup", "copy", "job"]),
    ("web", &["job"]),
    ("cli", &["backup", "copy", "job", "manila", "oslo", "store", "web", "work"]),
    ("testkit", &["copy"]),
    ("xtask", &[]),
];

/// Crates that are in no release: only tests may use them.
const DEV_ONLY: [&str; 2] = ["testkit", "xtask"];

#[test]
fn crates_know_each_other_as_drawn() {
    let workspace = Workspace::read();
    let mut offenders = Vec::new();
    for room in &workspace.rooms {
        let Some((_, allowed)) = EDGES.iter().find(|(name, _)| *name == room.name) else {
            offenders.push(format!("`{}` is not drawn in EDGES", room.name));
            continue;
        };
        for dependency in room.dependencies.iter().filter(|dependency| dependency.is_room) {
            let allowed = match dependency.kind {
                DependencyKind::Normal => allowed.contains(&dependency.name.as_str()),
                // A crate's tests may turn on a feature of the crate that is there for tests.
                DependencyKind::Dev => {
                    ["testkit", &room.name].contains(&dependency.name.as_str())
                        || allowed.contains(&dependency.name.as_str())
                }
                DependencyKind::Build => false,
            };
            if !allowed {
                offenders.push(format!("{} -> {} ({:?})", room.name, dependency.name, dependency.kind));
            }
        }
    }
    none("edges that are not drawn", &offenders);
    for name in ["copy", "cli", "testkit", "xtask"] {
        assert!(workspace.room(name).dir.starts_with("crates"), "{name} lies in crates/");
    }
}

#[test]
fn no_release_contains_a_crate_for_tests() {
    let tree = normal_tree("cli");
    let found: Vec<_> =
        tree.into_iter().map(|(name, _)| name).filter(|name| DEV_ONLY.contains(&name.as_str())).collect();
    none("crates for tests in the command's normal build", &found);
}

/// Beginnings of names that would bring a runtime, a serialisation frame, a database, a protocol or a terminal.
const NOT_IN_COPY: [&str; 27] = [
    "actix",
    "amq",
    "async-",
    "axum",
    "clap",
    "crossterm",
    "diesel",
    "futures",
    "hyper",
    "indicatif",
    "lapin",
    "log4rs",
    "mio",
    "monoio",
    "prost",
    "reqwest",
    "rusqlite",
    "sea-",
    "serde",
    "smol",
    "sqlite",
    "sqlx",
    "tokio",
    "toml",
    "tonic",
    "tracing",
    "ureq",
];

#[test]
fn the_engine_brings_no_runtime_serialisation_or_database() {
    let tree = normal_tree("copy");
    assert!(tree.iter().any(|(name, _)| name == "rustix"), "the tree was read: {tree:?}");
    let by_name = tree.iter().filter(|(name, _)| NOT_IN_COPY.iter().any(|banned| name.starts_with(banned)));
    let mut found: Vec<_> = by_name.map(|(name, _)| name.clone()).collect();
    // `bstr/serde` and the like: a feature of something harmless.
    let by_feature =
        tree.iter().filter(|(_, features)| features.iter().any(|f| f.starts_with("serde") || f == "tokio"));
    found.extend(by_feature.map(|(name, features)| format!("{name} with {}", features.join(", "))));
    none("not for `copy`", &found);
}

#[test]
fn no_dependency_turns_a_protection_off() {
    let workspace = Workspace::read();
    let mut offenders = Vec::new();
    for room in &workspace.rooms {
        for dependency in room.dependencies.iter().filter(|dependency| dependency.name == "copy") {
            if dependency.features.iter().any(|feature| feature == "weakened") {
                offenders.push(format!("{} ({:?})", room.name, dependency.kind));
            }
        }
        // A feature of another crate that passes it on would be the same by another door.
        let manifest = read(&room.dir.join("Cargo.toml")).expect("a manifest is UTF-8");
        if manifest.contains("copy/weakened") || manifest.contains("copy?/weakened") {
            offenders.push(format!("{} passes it on", room.name));
        }
        if room.name == "copy" && manifest.lines().any(|line| line.starts_with("default") && line.contains("weakened"))
        {
            offenders.push("copy has it on by default".into());
        }
    }
    none("`weakened` is enabled on a command line only", &offenders);
}

#[test]
fn every_crate_inherits_what_the_workspace_says() {
    let inherited = ["version", "edition", "rust-version", "license", "publish"];
    let mut offenders = Vec::new();
    for room in &Workspace::read().rooms {
        let manifest = read(&room.dir.join("Cargo.toml")).expect("a manifest is UTF-8");
        for key in inherited {
            if !manifest.lines().any(|line| line == format!("{key}.workspace = true")) {
                offenders.push(format!("{}: {key}", room.name));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            offenders.push(format!("{}: lints", room.name));
        }
    }
    none("not inherited from the workspace", &offenders);
}
