//! From a share to the export and back, whatever is in it; and what is told on the way.

use std::sync::Mutex;

use backup::directory::{Created, DirectoryError, ListedState, Proof, Publish, Request};
use copy::{CopyOptions, EntryRecord, HashKind, Monitor, Progress, Records, Stage, StopToken, Throttle};
use proptest::prelude::*;
use testkit::disk::TempDir;
use testkit::memory::MemoryTree;
use testkit::model::{TreeShape, any_tree};

use crate::kit::{Bench, id, model, options};

fn shape() -> TreeShape {
    // A file system in memory has no user.* attributes before Linux 6.6, and no flags.
    TreeShape { file_bytes_max: 300_000, chain_max: 8, user_xattrs: false, acls: false, ..TreeShape::possible_here() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_share_comes_back_as_it_was(
        model in any_tree(&shape()),
        hash in prop::sample::select(vec![None, Some(HashKind::Blake3), Some(HashKind::Sha256)]),
    ) {
        let bench = Bench::new();
        let source = MemoryTree::from_model(&model);
        let options = CopyOptions { hash, ..options() };
        let created = bench.try_create("b", &source, &options, &StopToken::new()).unwrap();
        let Created::Published { report, manifest, .. } = created else { panic!("{created:?}") };
        prop_assert_eq!(manifest.entries as usize, model.len());
        prop_assert_eq!(manifest.faults, 0);
        prop_assert!(report.durable);
        // The only names beside the backup are ours, and nothing of ours is in it.
        prop_assert_eq!(bench.names(), [".b.manifest.zst", "b"]);
        bench.assert_holds("b", &model);
        bench.assert_proven("b");
        let deleted = bench.delete("b");
        prop_assert!(deleted.found);
    }
}

#[test]
fn all_attributes_of_a_real_file_system_come_back() {
    let bench = Bench::new();
    let dir = TempDir::new();
    let (export, share) = (dir.subdir("export"), dir.subdir("share"));
    for (n, model) in testkit::model::sample_trees(&TreeShape::possible_here(), 6).into_iter().enumerate() {
        let name = format!("b{n}");
        let on_disk = Bench { place: Bench::new().place, export: backup::directory::Export::open(&export).unwrap() };
        on_disk.create(&name, &MemoryTree::from_model(&model));
        crate::kit::assert_same(&model, &export.join(&name));
        on_disk.assert_proven(&name);
        let dest = share.join(&name);
        on_disk.restore(&name, &copy::LocalTree::open_dest(&dest).unwrap());
        crate::kit::assert_same(&model, &dest);
    }
    drop(bench);
}

#[test]
fn a_finished_backup_is_known_again_by_its_token_and_no_other() {
    let bench = Bench::new();
    let source = MemoryTree::from_model(&model());
    let (_, manifest, root) = bench.create("b", &source);
    let again = bench.try_create("b", &source, &options(), &StopToken::new()).unwrap();
    assert!(matches!(again, Created::Already { manifest: found } if found == manifest));
    let (throttle, stop, scratch) = (Throttle::default(), StopToken::new(), bench.place.path("scratch"));
    let cx =
        backup::directory::Context { monitor: &copy::NoMonitor, stop: &stop, throttle: &throttle, scratch: &scratch };
    let other = Request { id: &id("b"), token: "other", publish: Publish::Complete };
    let refused = bench.export.create(&cx, &other, &source, &options()).unwrap_err();
    assert!(matches!(refused, DirectoryError::Exists { .. }), "{refused}");
    // Checked to its end, the manifest tells the root that its making told.
    let Proof::Manifest { root: Some(found), .. } = bench.check("b").proof else { panic!("no proof") };
    assert_eq!(found, root);
}

#[test]
fn a_list_says_what_is_there_and_what_is_known_of_it() {
    let bench = Bench::new();
    let (_, manifest, _) = bench.create("whole", &MemoryTree::from_model(&model()));
    for dir in ["foreign", ".half.partial", ".going.deleting", ".both.partial", "both", "lost+found", ".other"] {
        rustix::fs::mkdir(bench.path(dir), rustix::fs::Mode::RWXU).unwrap();
    }
    std::fs::write(bench.path(".gone.manifest.zst"), "x").unwrap();
    std::fs::write(bench.path("a file"), "x").unwrap();
    std::fs::write(bench.path(".foreign.manifest.zst"), "damaged").unwrap();
    let listed = bench.export.list().unwrap();
    let states: Vec<_> = listed.iter().map(|l| (l.id.as_str(), l.state)).collect();
    assert_eq!(
        states,
        [
            ("both", ListedState::Complete),
            ("foreign", ListedState::Complete),
            ("going", ListedState::BeingDeleted),
            ("gone", ListedState::Leftover),
            ("half", ListedState::Partial),
            ("whole", ListedState::Complete),
        ]
    );
    assert_eq!(listed[5].proof.manifest(), Some(&manifest));
    assert_eq!(listed[0].proof, Proof::None);
    assert!(matches!(listed[1].proof, Proof::Damaged(_)));
    let why = |name| bench.export.tree(&id(name)).unwrap_err();
    assert!(matches!(why("half"), DirectoryError::Partial(_)));
    assert!(matches!(why("going"), DirectoryError::BeingDeleted(_)));
    assert!(matches!(why("gone"), DirectoryError::NotFound(_)));
}

#[derive(Default)]
struct Ear {
    progress: Mutex<Vec<(f64, Stage)>>,
    records: Mutex<Vec<EntryRecord>>,
}

impl Monitor for Ear {
    fn progress(&self, progress: &Progress) {
        self.progress.lock().unwrap().push((progress.percent, progress.stage));
    }

    fn record(&self, record: EntryRecord) {
        self.records.lock().unwrap().push(record);
    }
}

#[test]
fn percent_never_falls_is_100_only_at_the_end_and_records_come_as_asked_for() {
    let bench = Bench::new();
    let source = MemoryTree::from_model(&model());
    for (name, records) in [("a", Records::None), ("b", Records::All)] {
        let ear = Ear::default();
        let options = CopyOptions { records, ..options() };
        let created = bench.try_create_watched(name, &source, &options, &StopToken::new(), &ear).unwrap();
        assert!(matches!(created, Created::Published { .. }));
        let progress = ear.progress.into_inner().unwrap();
        assert!(progress.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{progress:?}");
        let (last, before) = progress.split_last().unwrap();
        assert_eq!(*last, (100.0, Stage::Done));
        assert!(before.iter().all(|(percent, stage)| *percent < 100.0 && *stage != Stage::Done), "{progress:?}");
        let records = ear.records.into_inner().unwrap();
        assert_eq!(records.len(), if name == "a" { 0 } else { model().len() });
    }
}
