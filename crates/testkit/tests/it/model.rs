//! Models go into real directories and come back; differences are found and told.

use proptest::prelude::*;
use testkit::disk::{FsKind, LoopDisk, TempDir, Tmpfs, need_root};
use testkit::model::{
    Body, DiffOptions, Entry, TreeModel, TreeShape, any_tree, diff, diff_with, materialise, sample_trees, snapshot_dir,
};
use testkit::{Content, lend};

use copy::{EntryKind, InodeFlags, Timestamp};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_model_comes_back_from_a_directory_as_it_went_in(model in any_tree(&TreeShape::possible_here())) {
        let dir = TempDir::new();
        let built = materialise(&model, dir.path()).unwrap();
        prop_assert_eq!(built.left_out, Vec::<String>::new());
        let exact = DiffOptions { holes: true, ..DiffOptions::default() };
        let back = snapshot_dir(dir.path()).unwrap();
        prop_assert_eq!(diff_with(&model, &back, &exact), Vec::<String>::new());
        // Symlinks excepted, looking changed no time.
        let again = snapshot_dir(dir.path()).unwrap();
        let lines = diff(&back, &again);
        prop_assert!(lines.iter().all(|line| line.contains("atime")), "{:?}", lines);
        prop_assert!(lines.len() <= model.count(EntryKind::Symlink));
    }
}

#[test]
fn every_file_system_holds_every_model() {
    let shape = TreeShape { steps_max: 120, ..TreeShape::default() };
    for kind in FsKind::ALL {
        let disk = lend!("every_file_system_holds_every_model", LoopDisk::new(kind));
        for (round, model) in sample_trees(&shape, 3).into_iter().enumerate() {
            let root = disk.subdir(&round.to_string());
            let built = materialise(&model, &root).unwrap_or_else(|error| panic!("{}: {error}", kind.as_str()));
            assert_eq!(built.left_out, Vec::<String>::new());
            assert_eq!(diff(&model, &snapshot_dir(&root).unwrap()), Vec::<String>::new(), "{}", kind.as_str());
        }
    }
}

#[test]
fn depth_beyond_any_path_is_built_read_and_removed() {
    let dir = TempDir::new();
    let mut model = TreeModel::new();
    let mut path = Vec::new();
    for level in 0..1500 {
        if level > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(if level % 100 == 0 { &[b'x'; 255] } else { b"y" });
        model.insert(&path, Entry::dir());
    }
    model.insert([&path, &b"/f"[..]].concat(), Entry::file(b"deep"));
    let left_out = materialise(&model, dir.path()).unwrap().left_out;
    assert!(left_out.is_empty());
    assert_eq!(diff(&model, &snapshot_dir(dir.path()).unwrap()), Vec::<String>::new());
    let root = dir.path().to_path_buf();
    drop(dir);
    assert!(!root.exists());
}

#[test]
fn a_huge_sparse_file_costs_nothing() {
    let dir = TempDir::new();
    let size = 1 << 42;
    let body = Body::File(Content::sparse(size, &[(1 << 41, b"in the middle")]));
    let model = TreeModel::new().with("big", Entry::new(body));
    // Not every file system takes such a size: it says so at once.
    if let Err(error) = materialise(&model, dir.path()) {
        return testkit::disk::skip("a_huge_sparse_file_costs_nothing", &error);
    }
    let back = snapshot_dir(dir.path()).unwrap();
    assert_eq!(diff(&model, &back).iter().filter(|line| line.contains("big")).count(), 0);
    assert_eq!(back.file_bytes(), size);
}

#[test]
fn flags_are_kept_and_do_not_keep_the_directory() {
    lend!("flags_are_kept_and_do_not_keep_the_directory", need_root());
    let dir = TempDir::new();
    let mut frozen = Entry::file(b"x");
    frozen.flags = InodeFlags(0x10);
    let mut frozen_dir = Entry::dir();
    frozen_dir.flags = InodeFlags(0x10);
    let model = TreeModel::new().with("d", frozen_dir).with("d/f", frozen);
    let built = materialise(&model, dir.path()).unwrap();
    if !built.left_out.is_empty() {
        return testkit::disk::skip("flags_are_kept_and_do_not_keep_the_directory", &built.left_out.join("; "));
    }
    let back = snapshot_dir(dir.path()).unwrap();
    assert_eq!(diff_with(&model, &back, &DiffOptions { root: false, ..DiffOptions::default() }), Vec::<String>::new());
    let root = dir.path().to_path_buf();
    drop(dir);
    assert!(!root.exists());
}

#[test]
fn what_a_file_system_cannot_hold_is_told() {
    let tmpfs = lend!("what_a_file_system_cannot_hold_is_told", Tmpfs::new(1 << 20, None));
    let model = TreeModel::new().with("f", Entry::file(b"x").xattr(b"odd.name", b"v"));
    let left_out = materialise(&model, tmpfs.path()).unwrap().left_out;
    assert_eq!(left_out.len(), 1, "{left_out:?}");
    assert!(left_out[0].starts_with("`f`: xattr `odd.name`"), "{left_out:?}");
}

#[test]
fn each_kind_of_change_is_told() {
    let base = TreeModel::new()
        .with("d", Entry::dir())
        .with("d/f", Entry::file(b"content"))
        .with("d/g", Entry::file(b""))
        .with("l", Entry::symlink(b"to"))
        .with("c", Entry::new(Body::CharDevice(0x103)))
        .with("n\n", Entry::fifo())
        .with_link("d/f", "h");
    let check = |expected: &str, change: &dyn Fn(&mut TreeModel)| {
        let mut other = base.clone();
        change(&mut other);
        let lines = diff(&base, &other);
        assert!(lines.iter().any(|line| line.contains(expected)), "expected {expected:?} in {lines:?}");
    };
    assert_eq!(diff(&base, &base.clone()), Vec::<String>::new());
    let set = |path: &'static str, body: Body| move |m: &mut TreeModel| m.edit(path, |e| e.body = body.clone());
    check("`d/f`: content at 3: [74, 65", &set("d/f", Body::File(Content::from_bytes(b"conXent"))));
    check("`d/f`: size 7 != 8", &set("d/f", Body::File(Content::from_bytes(b"content\0"))));
    check("`l`: target `to` != `elsewhere`", &set("l", Body::Symlink(b"elsewhere".to_vec())));
    check("`c`: device 0x103 != 0x104", &set("c", Body::CharDevice(0x104)));
    check("`n\\x0a`: fifo != socket", &set("n\n", Body::Socket));
    check("`d/g`: mode 0644 != 4755", &|m| m.edit("d/g", |e| e.mode = 0o4755));
    check("`d/g`: owner", &|m| m.edit("d/g", |e| e.uid += 1));
    check("`.`: mtime", &|m| m.edit("", |e| e.mtime = Timestamp::default()));
    check("`d`: atime", &|m| m.edit("d", |e| e.atime.nanos += 1));
    check("`d/g`: xattr `user.x` none != `1`", &|m| m.edit("d/g", |e| *e = e.clone().xattr(b"user.x", b"1")));
    check("`d/g`: inode flags 0x0 != 0x40", &|m| m.edit("d/g", |e| e.flags = InodeFlags(0x40)));
    check("`d/g`: file only in the first tree", &|m| m.remove("d/g"));
    check("`z`: directory only in the second tree", &|m| m.insert("z", Entry::dir()));
    check("`d/f`, `h`: one inode only in the first tree", &|m| {
        let mut single = m.get("h").unwrap().clone();
        single.link_group = None;
        m.insert("h", single);
    });
    check("`d/g`, `i`: one inode only in the second tree", &|m| m.link("d/g", "i"));
    let mut holes = base.clone();
    holes.edit("d/f", |e| e.body = Body::File(Content::sparse(9000, &[])));
    let mut dense = holes.clone();
    dense.edit("d/f", |e| e.body = Body::File(Content::from_bytes(&[0; 9000])));
    assert!(diff(&holes, &dense).is_empty(), "holes and zeros are the same bytes");
    let exact = DiffOptions { holes: true, ..DiffOptions::default() };
    assert!(diff_with(&holes, &dense, &exact)[0].contains("data at [] != [0..9000]"));
}

#[test]
fn a_long_list_of_differences_is_cut() {
    let mut many = TreeModel::new();
    (0..100).for_each(|i| many.insert(i.to_string(), Entry::fifo()));
    let lines = diff(&TreeModel::new(), &many);
    assert_eq!(lines.len(), 41);
    assert_eq!(lines[40], "... and 60 more");
}

#[test]
fn generated_trees_are_hostile() {
    let shape = TreeShape { steps_max: 300, flags: true, ..TreeShape::default() };
    let (mut kinds, mut long, mut newline, mut text, mut linked, mut holes, mut past, mut depth) =
        ([0; 7], 0, 0, 0, std::collections::BTreeSet::new(), 0, 0, 0);
    for model in sample_trees(&shape, 20) {
        for (path, entry) in model.iter() {
            let name = path.rsplit(|b| *b == b'/').next().unwrap();
            kinds[entry.kind() as usize] += 1;
            long += usize::from(name.len() == 255);
            newline += usize::from(name.contains(&b'\n'));
            text += usize::from(std::str::from_utf8(name).is_err());
            past += usize::from(entry.mtime.seconds < 0);
            depth = depth.max(path.len());
            if entry.link_group.is_some() {
                linked.insert(entry.kind());
            }
            holes += usize::from(entry.content().is_some_and(|c| c.allocated_bytes() + 4096 <= c.size_bytes()));
        }
    }
    assert!(kinds.iter().all(|n| *n > 5), "{kinds:?}");
    assert!([long, newline, text, holes, past].iter().all(|n| *n > 5), "{:?}", [long, newline, text, holes, past]);
    assert!(depth > 4096, "{depth}");
    assert_eq!(linked.len(), 6, "{linked:?}");
}
