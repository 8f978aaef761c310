//! The tree that is copied: many small files, a few large ones, and one of everything that is special.

use std::path::Path;

use testkit::Content;
use testkit::model::{Body, Entry, TreeModel, materialise};
use testkit::random::Random;

use crate::harness::picture;

/// Builds the tree in `root`, and tells what is there now.
pub fn build(root: &Path, random: &mut Random) -> TreeModel {
    let model = mixed(random);
    let done = materialise(&model, root).unwrap();
    let is_root = rustix::process::geteuid().is_root();
    assert!(!is_root || done.left_out.is_empty(), "root can build all of it: {:?}", done.left_out);
    picture(root)
}

const DIRS: usize = 30;
const FILES_EACH: usize = 50;

fn mixed(random: &mut Random) -> TreeModel {
    let mut tree = TreeModel::new();
    tree.edit("", |root| root.mode = 0o750);
    small_files(&mut tree, random);
    large_files(&mut tree, random);
    hard_links(&mut tree, random);
    let mut path = String::from("deep");
    tree.insert(&path, Entry::dir());
    for level in 0..60 {
        path.push_str("/level");
        tree.insert(&path, Entry::dir().mtime(1_500_000_000 + level, 7));
        tree.insert(format!("{path}/file"), Entry::file(&random.bytes(level as usize)).mtime(1_500_000_000, 8));
    }
    tree.insert("link", Entry::symlink(b"deep/level/file"));
    tree.insert("dangling", Entry::symlink(b"/nowhere/at all\xff"));
    tree.insert("fifo", Entry::fifo().mode(0o620));
    tree.insert("socket", Entry::new(Body::Socket).mode(0o700));
    if rustix::process::geteuid().is_root() {
        tree.insert("null", Entry::new(Body::CharDevice(0x103)).mode(0o666));
        tree.insert("disk", Entry::new(Body::BlockDevice(0x700)).mode(0o640).owner(7, 8));
        tree.link("null", "null again");
    }
    tree
}

fn small_files(tree: &mut TreeModel, random: &mut Random) {
    for dir in 0..DIRS {
        tree.insert(format!("dir{dir}"), Entry::dir().mtime(1_400_000_000 + dir as i64, 1));
        for file in 0..FILES_EACH {
            let size = match random.below(10) {
                0 => 0,
                1 => 20_000 + random.below(200_000),
                _ => random.below(4000),
            };
            let mut entry = Entry::file(&random.bytes(size as usize));
            entry = entry.mtime(1_300_000_000 + random.below(300_000_000) as i64, random.below(1_000_000_000) as u32);
            entry = match file % 10 {
                0 => entry.mode(0o4755),
                1 => entry.mode(0),
                2 => entry.xattr(b"user.note", &random.bytes(30)),
                _ => entry,
            };
            if rustix::process::geteuid().is_root() && file % 4 == 0 {
                entry = entry.owner(1000 + dir as u32, 2000);
            }
            tree.insert(format!("dir{dir}/file{file}"), entry);
        }
    }
}

fn large_files(tree: &mut TreeModel, random: &mut Random) {
    tree.insert("large", Entry::dir());
    for (number, mebibytes) in [1, 1, 2, 3, 20].into_iter().enumerate() {
        let size = (mebibytes << 20) - random.below(5000) as usize;
        tree.insert(format!("large/{number}"), Entry::file(&random.bytes(size)));
    }
    for number in 0..12 {
        let data = random.bytes(4096 * (1 + number));
        let size = (2 << 20) + random.below(9 << 20);
        let extents = [(8192, &data[..]), (1 << 20, &data[..4096])];
        let content = Content::sparse(size, if number == 0 { &[] } else { &extents });
        tree.insert(format!("large/sparse{number}"), Entry::new(Body::File(content)));
    }
}

/// Second names beside the first one, in other directories, and of a large file.
fn hard_links(tree: &mut TreeModel, random: &mut Random) {
    tree.insert("links", Entry::dir());
    for number in 0..60 {
        let (dir, file) = (random.below(DIRS as u64), random.below(FILES_EACH as u64));
        let first = format!("dir{dir}/file{file}");
        tree.link(&first, format!("links/{number}"));
        if number % 3 == 0 {
            tree.link(&first, format!("dir{}/also {number}", random.below(DIRS as u64)));
        }
    }
    tree.link("large/3", "links/large");
    tree.link("large/3", "dir0/large");
}
