//! Trees, random numbers and specifications.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use testkit::model::{DiffOptions, Entry, TreeModel, diff_with, materialise, snapshot_dir};
use testkit::random::Random;

/// Memory for the trees and the state of one test, in bytes.
pub const ROOM: u64 = 4 << 30;

/// A tree of about `files` files in directories of a hundred, some of them of several names, some special.
pub fn build(root: &Path, files: usize, random: &mut Random) -> TreeModel {
    fs::create_dir(root).unwrap();
    let mut tree = TreeModel::new();
    tree.edit("", |root| root.mode = 0o750);
    for number in 0..files {
        let dir = format!("dir{}", number / 100);
        if number % 100 == 0 {
            tree.insert(&dir, Entry::dir().mtime(1_400_000_000 + number as i64, 1));
        }
        let size = match random.below(200) {
            0 => 300_000,
            1..20 => 0,
            _ => random.below(2000),
        };
        let mut entry = Entry::file(&random.bytes(size as usize));
        entry = entry.mtime(1_300_000_000 + random.below(300_000_000) as i64, random.below(1_000_000_000) as u32);
        if number % 7 == 0 {
            entry = entry.owner(1000 + number as u32 % 13, 2000).mode(0o640);
        }
        tree.insert(format!("{dir}/file{number}"), entry);
        if number % 400 == 399 {
            tree.link(format!("{dir}/file{number}"), format!("dir0/again {number}"));
        }
    }
    tree.insert("link", Entry::symlink(b"dir0/file0"));
    tree.insert("fifo", Entry::fifo().mode(0o620));
    let done = materialise(&tree, root).unwrap();
    assert!(done.left_out.is_empty(), "root can build all of it: {:?}", done.left_out);
    picture(root)
}

/// A picture of a tree, access times aside: reading a symlink changes its own.
pub fn picture(root: &Path) -> TreeModel {
    let mut picture = snapshot_dir(root).unwrap();
    let paths: Vec<_> = picture.iter().map(|(path, _)| path.to_vec()).collect();
    for path in paths {
        picture.edit(path, |entry| entry.atime = entry.mtime);
    }
    picture
}

#[track_caller]
pub fn check_same(source: &TreeModel, dest: &Path) {
    let differences = diff_with(source, &picture(dest), &DiffOptions::default());
    assert!(differences.is_empty(), "source and destination differ:\n{}", differences.join("\n"));
}

/// A job on two directories, with the members of `more` added or replaced.
pub fn spec(kind: &str, source: &Path, dest: &Path, more: &Value) -> Value {
    let directory = |path: &Path| json!({ "type": "directory", "path": path });
    let mut spec = json!({ "kind": kind, "source": directory(source), "dest": directory(dest) });
    let members = spec.as_object_mut().unwrap();
    members.extend(more.as_object().cloned().unwrap_or_default());
    spec
}
