//! Runs that are stopped and go on: nothing is copied twice, and the manifest is that of one whole run.

use backup::directory::{Created, ListedState};
use copy::{Action, CopyOptions, DifferenceKind, Ending, FsOp, HashKind, StopReason, StopToken, Verify};
use testkit::faulty::{Faults, FaultyTree, On};
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::random::{Random, seed};

use crate::kit::{Bench, model, options};

fn one_worker() -> CopyOptions {
    let mut options = options();
    options.limits.workers = Some(1);
    options
}

/// Stops a run when everything is copied, before its manifest is made.
struct Stopper(StopToken);
impl copy::Monitor for Stopper {
    fn progress(&self, progress: &copy::Progress) {
        if progress.percent >= 90.0 {
            self.0.stop(StopReason::Shutdown);
        }
    }
}

/// A first run that copies everything, and is stopped before the manifest.
fn copied(bench: &Bench, source: &MemoryTree, options: &CopyOptions) {
    let stop = StopToken::new();
    let created = bench.try_create_watched("b", source, options, &stop, &Stopper(stop.clone())).unwrap();
    assert!(matches!(created, Created::Withheld { .. }), "{created:?}");
}

/// Stops a run before the operation of that number.
fn stopped_at(bench: &Bench, source: &MemoryTree, number: u64, options: &CopyOptions) -> Created {
    let faults = Faults::new();
    let stop = StopToken::new();
    let token = stop.clone();
    faults.before(number, move || token.stop(StopReason::Cancel));
    bench.try_create("b", &FaultyTree::new(source.clone(), &faults), options, &stop).unwrap()
}

#[test]
fn a_run_that_is_stopped_anywhere_goes_on_where_it_was() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let model = model();
    let source = MemoryTree::from_model(&model);
    for _ in 0..40 {
        let bench = Bench::new();
        let (mut stops, mut copied) = (0, 0);
        let report = loop {
            let number = if stops < 4 { random.below(120) } else { u64::MAX - 1 };
            match stopped_at(&bench, &source, number, &one_worker()) {
                Created::Withheld { report } => {
                    assert_eq!(report.ending, Ending::Stopped(StopReason::Cancel));
                    assert_eq!(bench.export.list().unwrap()[0].state, ListedState::Partial);
                    copied += report.counters.action(Action::Created);
                    stops += 1;
                }
                Created::Published { report, .. } => break report,
                other @ Created::Already { .. } => panic!("{other:?}"),
            }
        };
        copied += report.counters.action(Action::Created);
        assert!(copied <= model.len() as u64 + 4, "{copied} entries were made, {stops} stops");
        bench.assert_proven("b");
        bench.assert_holds("b", &model);
        assert_eq!(bench.names(), [".b.manifest.zst", "b"]);
    }
}

/// The manifest's checksums are the same, whatever way they were learned.
#[test]
fn checksums_of_what_an_earlier_run_copied_are_learned_by_comparison_where_they_are_lost() {
    let model = model();
    let source = MemoryTree::from_model(&model);
    for (verify, hash) in [
        (Verify::None, None),
        (Verify::None, Some(HashKind::Sha256)),
        (Verify::Content, Some(HashKind::Blake3)),
        (Verify::Attributes, None),
    ] {
        let bench = Bench::new();
        let options = CopyOptions { verify, hash, ..one_worker() };
        copied(&bench, &source, &options);
        std::fs::remove_file(bench.path(".b.checksums")).unwrap();
        let created = bench.try_create("b", &source, &options, &StopToken::new()).unwrap();
        let Created::Published { report, .. } = created else { panic!("{created:?}") };
        assert!(report.counters.action(Action::Unchanged) > 3, "{report:?}");
        bench.assert_proven("b");
        let checked = bench.check("b");
        assert_eq!(checked.report.counters.verified_files, 7);
    }
}

#[test]
fn kept_checksums_spare_the_reading_of_what_was_copied() {
    let model = model();
    let source = MemoryTree::from_model(&model);
    let bench = Bench::new();
    copied(&bench, &source, &one_worker());
    let created = bench.try_create("b", &source, &one_worker(), &StopToken::new()).unwrap();
    let Created::Published { report, .. } = created else { panic!("{created:?}") };
    assert_eq!(report.counters.opened_files, 0);
    bench.assert_proven("b");
}

#[test]
fn damage_between_two_runs_is_found_told_and_copied_again() {
    let model = model();
    let source = MemoryTree::from_model(&model);
    let bench = Bench::new();
    copied(&bench, &source, &one_worker());
    let large = bench.path(".b.partial/dir/large");
    let file = std::fs::OpenOptions::new().write(true).open(&large).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 1000).unwrap();
    file.set_modified(mtime).unwrap();
    std::fs::remove_file(bench.path(".b.checksums")).unwrap();
    let second = bench.try_create("b", &source, &one_worker(), &StopToken::new()).unwrap();
    let Created::Withheld { report } = second else { panic!("{second:?}") };
    assert_eq!(report.faults.iter().map(|fault| fault.path.to_string()).collect::<Vec<_>>(), ["dir/large"]);
    assert!(!large.exists());
    bench.create("b", &source);
    bench.assert_proven("b");
    bench.assert_holds("b", &model);
}

/// With the checksum kept, the damage is not seen while the backup is made, and the first check finds it.
#[test]
fn damage_that_the_making_did_not_see_is_found_by_the_first_check() {
    let source = MemoryTree::from_model(&model());
    let bench = Bench::new();
    copied(&bench, &source, &one_worker());
    let large = bench.path(".b.partial/dir/large");
    let file = std::fs::OpenOptions::new().write(true).open(&large).unwrap();
    let mtime = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"damage", 1000).unwrap();
    file.set_modified(mtime).unwrap();
    bench.create("b", &source);
    let checked = bench.check("b");
    let found: Vec<_> = checked.report.differences.iter().map(|d| (d.kind, d.paths[0].to_string())).collect();
    assert_eq!(found, [(DifferenceKind::Content, "dir/large".to_owned())]);
}

#[test]
fn what_changed_and_went_in_the_source_between_two_runs_is_so_in_the_backup() {
    let source = MemoryTree::from_model(&model());
    let bench = Bench::new();
    copied(&bench, &source, &one_worker());
    source.remove("zero");
    source.put("empty", &Entry::file(b"no more"));
    source.put("new", &Entry::file(b"new"));
    bench.create("b", &source);
    bench.assert_proven("b");
    bench.assert_holds("b", &source.snapshot());
}

#[test]
fn a_source_that_changes_while_checksums_are_compared_does_not_keep_the_backup_from_its_end() {
    let model = TreeModel::new().with("a", Entry::file(b"aaaa")).with("b", Entry::file(b"bbbb"));
    let source = MemoryTree::from_model(&model);
    let bench = Bench::new();
    let faults = Faults::new();
    copied(&bench, &source, &one_worker());
    std::fs::remove_file(bench.path(".b.checksums")).unwrap();
    let changing = source.clone();
    // The copy opens no file; the comparison does.
    faults.before_first(On::source().op(FsOp::Open).name(b"a"), move || {
        changing.put("a", &Entry::file(b"longer than before"));
        changing.remove("b");
    });
    let created = bench.try_create("b", &FaultyTree::new(source, &faults), &one_worker(), &StopToken::new()).unwrap();
    let Created::Published { report, .. } = created else { panic!("{created:?}") };
    assert!(report.warnings.iter().any(|text| text.contains("changed in the source")), "{report:?}");
    bench.assert_proven("b");
    bench.assert_holds("b", &model);
}

#[test]
fn a_deletion_that_is_stopped_leaves_nothing_to_restore_and_goes_on() {
    let seed = seed();
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..20 {
        let bench = Bench::new();
        bench.create("b", &MemoryTree::from_model(&model()));
        let stop = StopToken::new();
        let token = stop.clone();
        let wait = random.below(300);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_micros(wait));
                token.stop(StopReason::Cancel);
            });
            let deleted = bench.try_delete("b", &stop).unwrap();
            assert!(deleted.found);
            if !deleted.gone {
                assert!(matches!(deleted.report.unwrap().ending, Ending::Stopped(_)));
                assert!(bench.export.tree(&crate::kit::id("b")).is_err());
            }
        });
        bench.delete("b");
    }
}
