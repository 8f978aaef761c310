//! What the tests share: an export in a temporary place, and short ways to make, check, restore and delete in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backup::directory::{
    BackupId, CheckOptions, Checked, Context, Created, Deleted, DirectoryError, Export, Manifest, Publish, Request,
};
use copy::tree::{DestTree, SourceTree};
use copy::{CopyContext, CopyOptions, CopyReport, Ending, Limits, LocalTree, Monitor, NoMonitor, StopToken, Throttle};
use testkit::disk::Place;
use testkit::model::{DiffOptions, Entry, TreeModel, diff_with, snapshot_dir};

pub(crate) struct Bench {
    pub(crate) place: Place,
    pub(crate) export: Export,
}

pub(crate) fn id(text: &str) -> BackupId {
    BackupId::parse(text).unwrap()
}

/// The default without pauses.
pub(crate) fn options() -> CopyOptions {
    CopyOptions { limits: limits(), ..CopyOptions::default() }
}

pub(crate) fn limits() -> Limits {
    Limits { retry_pause: Duration::ZERO, ..Limits::default() }
}

/// Some of everything, small.
pub(crate) fn model() -> TreeModel {
    TreeModel::new()
        .with("", Entry::dir().mode(0o2775).owner(1000, 100).mtime(1_000_000_000, 1))
        .with("dir", Entry::dir().mode(0o750).mtime(1_100_000_000, 5))
        .with("dir/deep", Entry::dir())
        .with("dir/deep/file", Entry::file(b"deep").owner(1, 2).mtime(1_200_000_000, 123_456_789))
        .with("dir/large", Entry::file(&vec![7; 300_000]).mode(0o640))
        .with("empty", Entry::file(b""))
        .with("link", Entry::symlink(b"dir/deep/file"))
        .with(b"odd\nname\xff", Entry::file(b"odd").mode(0o4755))
        .with(b"x\n..", Entry::dir())
        .with(b"x\n../inside", Entry::file(b"inside"))
        .with("zero", Entry::file(b"zero"))
        .with_link("dir/deep/file", "another name")
}

impl Bench {
    pub(crate) fn new() -> Self {
        let place = Place::new(256 << 20);
        for name in ["export", "scratch", "share", "source"] {
            rustix::fs::mkdir(place.path(name), rustix::fs::Mode::RWXU).unwrap();
        }
        let export = Export::open(&place.path("export")).unwrap();
        Self { place, export }
    }

    pub(crate) fn path(&self, in_export: &str) -> PathBuf {
        self.place.path("export").join(in_export)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let dir = std::fs::read_dir(self.place.path("export")).unwrap();
        let mut names: Vec<_> = dir.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn try_create(
        &self,
        name: &str,
        source: &dyn SourceTree,
        options: &CopyOptions,
        stop: &StopToken,
    ) -> Result<Created, DirectoryError> {
        self.try_create_watched(name, source, options, stop, &NoMonitor)
    }

    pub(crate) fn try_create_watched(
        &self,
        name: &str,
        source: &dyn SourceTree,
        options: &CopyOptions,
        stop: &StopToken,
        monitor: &dyn Monitor,
    ) -> Result<Created, DirectoryError> {
        let (throttle, scratch, id) = (Throttle::default(), self.place.path("scratch"), id(name));
        let request = Request { id: &id, token: "job", publish: Publish::Complete };
        let cx = Context { monitor, stop, throttle: &throttle, scratch: &scratch };
        self.export.create(&cx, &request, source, options)
    }

    #[track_caller]
    pub(crate) fn create(&self, name: &str, source: &dyn SourceTree) -> (CopyReport, Manifest, String) {
        let created = self.try_create(name, source, &options(), &StopToken::new()).unwrap();
        let Created::Published { report, manifest, root } = created else { panic!("{created:?}") };
        (report, manifest, root)
    }

    #[track_caller]
    pub(crate) fn check_with(&self, name: &str, options: &CheckOptions) -> Checked {
        let (throttle, scratch, stop) = (Throttle::default(), self.place.path("scratch"), StopToken::new());
        let cx = Context { monitor: &NoMonitor, stop: &stop, throttle: &throttle, scratch: &scratch };
        self.export.check(&cx, &id(name), options).unwrap()
    }

    #[track_caller]
    pub(crate) fn check(&self, name: &str) -> Checked {
        self.check_with(name, &CheckOptions { limits: limits(), ..CheckOptions::default() })
    }

    #[track_caller]
    pub(crate) fn assert_proven(&self, name: &str) {
        let checked = self.check(name);
        assert!(checked.is_proven(), "{checked:?}");
    }

    pub(crate) fn try_delete(&self, name: &str, stop: &StopToken) -> Result<Deleted, DirectoryError> {
        let (throttle, scratch) = (Throttle::default(), self.place.path("scratch"));
        let cx = Context { monitor: &NoMonitor, stop, throttle: &throttle, scratch: &scratch };
        self.export.delete(&cx, &id(name), &limits())
    }

    #[track_caller]
    pub(crate) fn delete(&self, name: &str) -> Deleted {
        let deleted = self.try_delete(name, &StopToken::new()).unwrap();
        assert!(deleted.gone, "{deleted:?}");
        assert_eq!(self.names(), Vec::<String>::new());
        deleted
    }

    #[track_caller]
    pub(crate) fn restore(&self, name: &str, dest: &dyn DestTree) -> CopyReport {
        let tree = self.export.tree(&id(name)).unwrap();
        let (stop, throttle) = (StopToken::new(), Throttle::default());
        let cx = CopyContext { source: &tree, dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
        let report = copy::copy_tree(&cx, &options()).unwrap();
        assert_eq!(report.ending, Ending::Complete, "{report:?}");
        report
    }

    /// A real directory that holds the model.
    pub(crate) fn source(&self, model: &TreeModel) -> LocalTree {
        let path = self.place.path("source");
        let made = testkit::model::materialise(model, &path).unwrap();
        assert!(made.left_out.is_empty(), "{made:?}");
        LocalTree::open_source(&path).unwrap()
    }

    /// What is published holds the model, and a restored share does.
    #[track_caller]
    pub(crate) fn assert_holds(&self, name: &str, model: &TreeModel) {
        assert_same(model, &self.path(name));
        let share = self.place.path("share");
        self.restore(name, &LocalTree::open_dest(&share).unwrap());
        assert_same(model, &share);
    }
}

#[track_caller]
pub(crate) fn assert_same(model: &TreeModel, path: &Path) {
    let found = snapshot_dir(path).unwrap();
    let lines = diff_with(model, &found, &DiffOptions { atime: false, ..DiffOptions::default() });
    assert!(lines.is_empty(), "{} differs:\n{}", path.display(), lines.join("\n"));
}
