//! The FUSE file system is a real one, and breaks exactly where it is told to.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use testkit::fuse::{Answer, FuseFs, FuseOp, FuseOptions, Rule};
use testkit::lend;
use testkit::model::{DiffOptions, TreeShape, diff_with, materialise, sample_trees, snapshot_dir};

#[test]
fn trees_come_back_as_they_were_put_in() {
    // ACLs and inode flags are not offered.
    let shape = TreeShape { acls: false, ..TreeShape::possible_here() };
    for writeback_cache in [false, true] {
        for model in sample_trees(&shape, 6) {
            let fs = lend!("trees_come_back_as_they_were_put_in", FuseFs::mount(FuseOptions { writeback_cache }));
            let root = fs.subdir("root");
            let done = materialise(&model, &root).unwrap();
            assert!(done.left_out.is_empty(), "{:?}", done.left_out);
            let options = DiffOptions { holes: true, atime: !writeback_cache, ..DiffOptions::default() };
            assert_eq!(diff_with(&model, &snapshot_dir(&root).unwrap(), &options), Vec::<String>::new());
        }
    }
}

#[test]
fn a_rule_reaches_the_call_it_names() {
    let fs = lend!("a_rule_reaches_the_call_it_names", FuseFs::mount(FuseOptions::default()));
    fs.set_rules([
        Rule::nth(FuseOp::Write, 2, Answer::Error(Errno::DQUOT)),
        Rule::always(FuseOp::Create, Answer::Error(Errno::NOSPC)).named(b"full"),
        Rule::nth(FuseOp::Write, 3, Answer::Short(2)),
    ]);
    let mut file = fs::File::create(fs.path().join("file")).unwrap();
    file.write_all(b"one").unwrap();
    assert_eq!(file.write(b"two").unwrap_err().raw_os_error(), Some(Errno::DQUOT.raw_os_error()));
    assert_eq!(file.write(b"three").unwrap(), 2);
    assert_eq!(fs::File::create(fs.path().join("full")).unwrap_err().raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    let fired: Vec<_> = fs.fired().into_iter().map(|(op, path)| (op, String::from_utf8(path).unwrap())).collect();
    let expected = [(FuseOp::Write, "file"), (FuseOp::Write, "file"), (FuseOp::Create, "full")];
    assert_eq!(fired, expected.map(|(op, path)| (op, path.to_owned())));
    assert_eq!(fs.count(FuseOp::Write), 3);
    fs.clear_rules();
    fs::File::create(fs.path().join("full")).unwrap();
    assert_eq!(fs::read(fs.path().join("file")).unwrap(), b"oneth");
}

/// Waits for a process to end, and says whether it did.
fn ends(child: &mut std::process::Child, limit: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < limit {
        if child.try_wait().unwrap().is_some() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

#[test]
fn what_hangs_can_be_killed_or_not_as_told() {
    let fs = lend!("what_hangs_can_be_killed_or_not_as_told", FuseFs::mount(FuseOptions::default()));
    fs::write(fs.path().join("file"), b"content").unwrap();
    let read = |answer| {
        fs.set_rules([Rule::always(FuseOp::Read, answer)]);
        let mut cat = std::process::Command::new("cat");
        let mut child = cat.arg(fs.path().join("file")).stdout(std::process::Stdio::null()).spawn().unwrap();
        while fs.fired().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        child
    };
    assert!(ends(&mut read(Answer::Hang), Duration::from_secs(5)));
    let mut stuck = read(Answer::HangForGood);
    assert!(!ends(&mut stuck, Duration::from_millis(200)));
    drop(fs);
    assert!(ends(&mut stuck, Duration::from_secs(5)), "unmounting lets it go");
}
