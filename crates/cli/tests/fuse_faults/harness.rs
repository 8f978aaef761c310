//! Runs the command with one side on a file system that breaks, and judges what it says about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use copy::escape;
use rustix::io::Errno;
use serde_json::Value;
use testkit::Content;
use testkit::disk::{SkipReason, TempDir};
use testkit::fuse::{FuseFs, FuseOp, FuseOptions, Rule};
use testkit::model::{Body, DiffOptions, Entry, TreeModel, diff_with, materialise, snapshot_dir};

/// The errors of full, broken, restarted and frozen storage.
pub const ERRORS: [Errno; 5] = [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::STALE, Errno::ROFS];

/// One of everything that FUSE can carry, small: each rule copies it anew.
pub fn tree() -> TreeModel {
    let pattern = |len: usize| (0..len).map(|at| (at * 7 % 251 + 1) as u8).collect::<Vec<u8>>();
    let sparse = Content::sparse(900_000, &[(8192, &pattern(4096)), (600_000, &pattern(9000))]);
    let mut tree = TreeModel::new()
        .with("dir", Entry::dir().mode(0o751).mtime(1_234_567_890, 5))
        .with("dir/sub", Entry::dir().xattr(b"user.dir", b"value"))
        .with("dir/sub/file", Entry::file(&pattern(70_000)))
        .with("empty", Entry::file(b""))
        .with("large", Entry::file(&pattern(700_000)))
        .with("owned", Entry::file(b"owned").owner(1000, 1001).mode(0o640))
        .with("sparse", Entry::new(Body::File(sparse)))
        .with("xattr", Entry::file(b"x").xattr(b"user.one", b"1").xattr(b"user.two", &pattern(300)))
        .with("symlink", Entry::symlink(b"dir/sub/file"))
        .with("fifo", Entry::fifo())
        .with_link("large", "dir/linked");
    for number in 0..6 {
        tree.insert(format!("dir/{number}"), Entry::file(&pattern(100 * number)));
    }
    tree
}

pub fn words(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Which tree lies on the file system that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Dest,
}

/// A tree to copy on one file system, a place for it on the other.
pub struct Bench {
    pub fs: FuseFs,
    side: Side,
    plain: TempDir,
    model: TreeModel,
    runs: u32,
}

impl Bench {
    pub fn new(side: Side, options: FuseOptions) -> Result<Self, SkipReason> {
        let fs = FuseFs::mount(options)?;
        let bench = Self { fs, side, plain: TempDir::new(), model: tree(), runs: 0 };
        fs::create_dir(bench.source()).unwrap();
        assert!(materialise(&bench.model, &bench.source()).unwrap().left_out.is_empty());
        Ok(bench)
    }

    pub fn source(&self) -> PathBuf {
        if self.side == Side::Source { self.fs.path() } else { self.plain.path() }.join("source")
    }

    pub fn dest(&self) -> PathBuf {
        let name = format!("dest{}", self.runs);
        if self.side == Side::Dest { self.fs.path() } else { self.plain.path() }.join(name)
    }

    /// The rules will meet a copy into another directory.
    pub fn anew(&mut self) {
        self.fs.clear_rules();
        fs::remove_dir_all(self.dest()).or_else(|_| fs::create_dir(self.dest())).unwrap();
        self.runs += 1;
        fs::create_dir(self.dest()).unwrap();
    }

    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manila-data"));
        command.env_clear().args(["copy", "--json", "--no-progress"]).args(options);
        command.arg("--state-dir").arg(self.plain.path().join("state")).arg(self.source()).arg(self.dest());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self) -> Output {
        self.command(&[]).output().unwrap()
    }

    /// What is not in the destination as it is in the source.
    pub fn differences(&self) -> Vec<String> {
        let options = DiffOptions { atime: false, holes: false, ..DiffOptions::default() };
        let picture = |path: &Path| snapshot_dir(path).unwrap();
        diff_with(&picture(&self.source()), &picture(&self.dest()), &options)
    }

    /// Copies under the rules, then without them. Tells whether a rule was met, and whether it became a fault.
    #[track_caller]
    pub fn check(&mut self, rules: &[Rule]) -> Met {
        self.anew();
        self.check_again(rules)
    }

    /// A fault is about an entry that a rule was met at, about a name of the same inode, or about what is above or below.
    fn check_path(&self, fault: &Value, fired: &[(FuseOp, Vec<u8>)], told: &str) {
        let root = if self.side == Side::Source { self.source() } else { self.dest() };
        let root = root.file_name().unwrap().to_str().unwrap().to_owned();
        let path = fault["path"].as_str().unwrap();
        let linked = ["large", "dir/linked"];
        let is_near = fired.iter().any(|(_, hit)| {
            let hit = str::from_utf8(hit).unwrap().strip_prefix(&root).unwrap_or_default().trim_start_matches('/');
            path == "."
                || path.starts_with(hit)
                || hit.starts_with(path)
                || linked.contains(&path) && linked.contains(&hit)
        });
        assert!(is_near, "a fault at another place: {fault}: {told}");
    }

    /// Makes some of a finished copy out of date, in each way that an update repairs.
    pub fn spoil(&self) {
        let dest = self.dest();
        fs::write(dest.join("owned"), b"other content").unwrap();
        fs::write(dest.join("dir/sub/file"), b"shorter").unwrap();
        fs::remove_file(dest.join("fifo")).unwrap();
        fs::write(dest.join("fifo"), b"a file in its place").unwrap();
        fs::remove_file(dest.join("dir/3")).unwrap();
        fs::remove_file(dest.join("symlink")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dest.join("symlink")).unwrap();
        fs::remove_file(dest.join("dir/linked")).unwrap();
        fs::write(dest.join("dir/linked"), b"no link").unwrap();
        rustix::fs::setxattr(dest.join("xattr"), "user.more", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        fs::set_permissions(dest.join("empty"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }

    /// [`check`](Self::check) on what is there.
    #[track_caller]
    pub fn check_again(&mut self, rules: &[Rule]) -> Met {
        self.fs.set_rules(rules.to_vec());
        let output = self.run();
        let fired = self.fs.fired();
        self.fs.clear_rules();
        let told = format!("{:?} {rules:?}\nmet {:?}\n{}", self.side, shown(&fired), words(&output));
        let differences = self.differences();
        let met = match output.status.code() {
            Some(0) => {
                let summary = summary(&output).expect("a summary");
                let lost = summary["losses"].as_array().unwrap();
                // What the destination says that it does not take is a loss that has a name, and nothing else is.
                let unnamed: Vec<_> = differences.iter().filter(|line| !lost.iter().any(|l| names(l, line))).collect();
                assert!(unnamed.is_empty(), "success, but different:\n{unnamed:?}\n{told}");
                if fired.is_empty() { Met::Nothing } else { Met::Passed }
            }
            Some(3) => {
                assert!(!fired.is_empty(), "a fault without a cause: {told}");
                let faults = summary(&output).expect("a summary")["faults"].as_array().unwrap().clone();
                assert!(!faults.is_empty(), "no fault is named: {told}");
                for fault in &faults {
                    check_fault(fault, rules, &told);
                    self.check_path(fault, &fired, &told);
                }
                Met::Fault(faults)
            }
            // Nothing could be begun: the roots themselves were hit.
            Some(1) => {
                assert!(!fired.is_empty() && !output.stderr.is_empty() | !output.stdout.is_empty(), "{told}");
                Met::Refused
            }
            _ => panic!("an ending that is not known: {told}"),
        };
        let output = self.run();
        assert_eq!(output.status.code(), Some(0), "the next run: {}\nafter {told}", words(&output));
        let differences = self.differences();
        assert!(differences.is_empty(), "the next run left {differences:?}\nafter {told}");
        met
    }
}

/// What became of the rules.
#[derive(Debug)]
pub enum Met {
    /// No request was of this kind.
    Nothing,
    /// Tried again, or named as a loss; the result is right.
    Passed,
    Fault(Vec<Value>),
    /// The copy could not begin.
    Refused,
}

fn shown(fired: &[(FuseOp, Vec<u8>)]) -> Vec<String> {
    fired.iter().map(|(op, path)| format!("{op:?} {}", escape(path))).collect()
}

pub fn summary(output: &Output) -> Option<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let last = serde_json::from_str(text.lines().last()?).ok()?;
    Some(last).filter(|event: &Value| event["event"] == "summary")
}

/// Whether a loss is about the entry of a line of differences, and about what the line says.
fn names(loss: &Value, line: &str) -> bool {
    let word = match loss["attribute"].as_str().unwrap() {
        "user-xattr" | "trusted-xattr" => "xattr",
        "hard-link" => "link",
        other => other.split('-').next().unwrap(),
    };
    let paths = loss["paths"].as_array().unwrap();
    line.contains(word) && paths.iter().any(|path| line.contains(path["path"].as_str().unwrap()))
}

/// A fault has a path, an operation, a class and a number; the number is one that was given.
fn check_fault(fault: &Value, rules: &[Rule], told: &str) {
    let given = |errno: i64| {
        rules.iter().any(|rule| match rule.answer {
            testkit::fuse::Answer::Error(error) => i64::from(error.raw_os_error()) == errno,
            _ => false,
        })
    };
    assert!(fault["path"].as_str().is_some_and(|path| !path.is_empty()), "{fault}: {told}");
    assert!(fault["operation"].as_str().is_some_and(|operation| !operation.is_empty()), "{fault}: {told}");
    let class = fault["class"].as_str().unwrap();
    let errno = fault["errno"].as_i64().unwrap();
    // 0: the engine drew its own conclusion, such as a directory that is not empty.
    assert!(errno == 0 || given(errno), "the number is another one: {fault}: {told}");
    let is = |error: Errno| i64::from(error.raw_os_error()) == errno;
    let expected = match () {
        () if errno == 0 => class,
        () if is(Errno::IO) => "io",
        () if is(Errno::NOSPC) || is(Errno::DQUOT) => "no_space",
        () if is(Errno::STALE) => "transient",
        () if is(Errno::ROFS) => "read_only",
        () => "other",
    };
    assert_eq!(class, expected, "{fault}: {told}");
}
