//! Repositories as a whole: opening, finding snapshots, retention, checking, pruning, and damage of every kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup::restic::{
    CheckOptions, CheckReport, LATEST, LocalStore, PruneOptions, Repository, RepositoryError, Retention,
    SnapshotFilter, Store,
};
use copy::{Ending, NoMonitor, RelPath, StopReason, StopToken};
use testkit::disk::TempDir;
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::random::Random;

use crate::kit::{
    PASSWORD, Place, assert_same, backup_clean, open, options, password, place, reopen, restic, restic_check,
    restic_ok, restore, sha256,
};

fn tree(seed: u64) -> MemoryTree {
    let mut random = Random::new(seed);
    let mut model = TreeModel::new();
    model.insert("d", Entry::dir());
    for number in 0..40 {
        model.insert(format!("d/{number}"), Entry::file(&random.bytes(10_000)));
    }
    model.insert("big", Entry::file(&random.bytes(2_500_000)));
    MemoryTree::from_model(&model)
}

fn check(repository: &Repository, read_percent: f64) -> CheckReport {
    repository.check(CheckOptions { read_percent }, &NoMonitor, &StopToken::new()).unwrap()
}

#[test]
fn a_new_repository_is_one_for_restic_and_says_clearly_what_is_wrong_with_others() {
    let dir = TempDir::new();
    let root = dir.path().join("repository");
    let store = || Arc::new(LocalStore::open(&root).unwrap());
    assert!(matches!(Repository::open(store(), &password()), Err(RepositoryError::NoRepository { .. })));
    let made = Repository::init(store(), &password()).unwrap();
    assert!(!format!("{made:?} {:?}", password()).contains(PASSWORD));
    restic_check(&root);
    assert!(matches!(Repository::init(store(), &password()), Err(RepositoryError::Exists { .. })));
    let wrong = "another".to_owned().into();
    let error = Repository::open(store(), &wrong).unwrap_err();
    assert!(matches!(error, RepositoryError::WrongPassword { .. }), "{error}");
    assert!(!error.to_string().contains("another"));
}

#[test]
fn those_who_make_a_repository_at_the_same_time_all_get_the_same() {
    let dir = TempDir::new();
    let root = dir.path().join("repository");
    let open_or_init = || {
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&root).unwrap());
        Repository::open_or_init(&store, &password()).unwrap().id().to_owned()
    };
    let ids: Vec<String> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4).map(|_| scope.spawn(open_or_init)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(open_or_init(), ids[0]);
    assert_eq!(std::fs::read_dir(root.join("keys")).unwrap().count(), 1, "keys that open nothing are left");
    restic_check(&root);
}

#[test]
fn a_damaged_config_or_key_and_an_unknown_version_are_told_apart() {
    let place = place();
    let config = std::fs::read(place.path().join("config")).unwrap();
    for bad in [&b""[..], b"{}", &config[1..], &flipped(&config, 40)] {
        std::fs::write(place.path().join("config"), bad).unwrap();
        assert!(matches!(open(&place.path()), Err(RepositoryError::Damaged { .. })));
    }
    std::fs::write(place.path().join("config"), &config).unwrap();
    open(&place.path()).unwrap();
    let key = files(&place.path().join("keys")).remove(0);
    for bad in [&b"{}"[..], br#"{"kdf":"scrypt","N":1073741824,"r":8,"p":1,"data":"","salt":""}"#] {
        std::fs::write(&key, bad).unwrap();
        assert!(matches!(open(&place.path()), Err(RepositoryError::Damaged { .. })));
    }
}

#[test]
fn links_planted_in_a_repository_are_not_followed() {
    let place = place();
    let outside = place.dir.subdir("outside");
    std::fs::write(outside.join("file"), "outside").unwrap();
    let source = tree(1);
    std::fs::remove_dir_all(place.path().join("data")).unwrap();
    std::os::unix::fs::symlink(&outside, place.path().join("data")).unwrap();
    let error = crate::kit::try_backup(&place.repository, &source, &options(), &NoMonitor, &StopToken::new());
    assert!(error.is_err());
    assert_eq!(files(&outside).len(), 1, "nothing was written through the link");
    let snapshot = place.path().join("snapshots").join(sha256(b"x"));
    std::os::unix::fs::symlink(outside.join("file"), &snapshot).unwrap();
    assert_eq!(place.repository.snapshots(&SnapshotFilter::default()).unwrap(), []);
}

#[test]
fn snapshots_are_found_by_tag_host_path_and_digits() {
    let place = place();
    let source = tree(1);
    let mut made = Vec::new();
    for (host, tag, day) in [("a", "x", 1), ("b", "x", 2), ("a", "y", 3)] {
        let mut options = options();
        options.host = host.into();
        options.tags = [tag.to_owned(), format!("day={day}")].into();
        options.time = format!("2026-01-0{day}T00:00:00Z").parse().unwrap();
        made.push(backup_clean(&place.repository, &source, &options).snapshot.unwrap());
    }
    let find = |hosts: &[&str], tags: &[&str]| {
        let list = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let filter = SnapshotFilter { hosts: list(hosts), tags: list(tags), paths: Vec::new() };
        let found = place.repository.snapshots(&filter).unwrap();
        found.iter().map(|s| made.iter().position(|m| m == s).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(find(&[], &[]), [0, 1, 2]);
    assert_eq!(find(&["a"], &[]), [0, 2]);
    assert_eq!(find(&["a", "b"], &["x"]), [0, 1]);
    assert_eq!(find(&[], &["x", "day=2"]), [1]);
    let of = |path: &str| SnapshotFilter { paths: vec![path.into()], ..SnapshotFilter::default() };
    assert_eq!(place.repository.snapshots(&of("/srv/share")).unwrap().len(), 3);
    assert_eq!(place.repository.snapshots(&of("/srv")).unwrap().len(), 0);
    let any = SnapshotFilter::default();
    assert_eq!(place.repository.find_snapshot(LATEST, &any).unwrap(), made[2]);
    assert_eq!(place.repository.find_snapshot(&made[1].id.short(), &any).unwrap(), made[1]);
    assert!(matches!(place.repository.find_snapshot("xyz", &any), Err(RepositoryError::NoSnapshot { .. })));
    let text = restic_ok(&place.path(), &["snapshots", "--json", "--tag", "y"]);
    assert!(text.contains(&made[2].id.to_string()) && text.contains("\"day=3\"") && !text.contains("\"x\""), "{text}");
}

#[test]
fn retention_keeps_what_its_rules_say_and_a_prune_frees_the_rest() {
    let place = place();
    let now = "2026-03-01T00:00:00Z".parse().unwrap();
    let mut trees = Vec::new();
    for day in 1..=6 {
        let mut options = options();
        options.time = format!("2026-02-0{day}T12:00:00Z").parse().unwrap();
        options.tags = ["share=1".to_owned()].into();
        let source = tree(day);
        backup_clean(&place.repository, &source, &options);
        trees.push(source);
    }
    let filter = SnapshotFilter { tags: vec!["share=1".into()], ..SnapshotFilter::default() };
    assert!(place.repository.forget(&filter, &Retention::default(), now, &NoMonitor).is_err());
    let retention = Retention { last: Some(2), weekly: Some(2), ..Retention::default() };
    let judged = place.repository.forget(&filter, &retention, now, &NoMonitor).unwrap();
    let kept = judged.iter().filter(|kept| kept.is_kept).count();
    // The last two, and the first of February, which was the end of its week.
    assert_eq!((judged.len(), kept), (6, 3), "{judged:?}");
    let size = || files_bytes(&place.path().join("data"));
    let before = size();
    let report = place
        .repository
        .prune(PruneOptions { max_unused_percent: 0, instant_delete: true }, &NoMonitor, &StopToken::new())
        .unwrap();
    assert_eq!(report.ending, Ending::Complete);
    assert!(report.freed_bytes > before / 3 && size() < before * 2 / 3, "{report:?} {before} {}", size());
    restic_check(&place.path());
    assert!(check(&place.repository, 100.0).is_sound());
    let left = place.repository.snapshots(&filter).unwrap();
    for (snapshot, number) in left.iter().zip([0, 4, 5]) {
        let dest = MemoryTree::new();
        restore(&place.repository, snapshot, &dest);
        assert_same(&trees[number], &dest);
    }
}

#[test]
fn a_prune_beside_others_deletes_only_what_an_earlier_one_has_marked() {
    let place = place();
    let done = backup_clean(&place.repository, &tree(1), &options());
    backup_clean(&place.repository, &tree(2), &options());
    place.repository.delete_snapshots(&[done.snapshot.unwrap().id]).unwrap();
    let before = files_bytes(&place.path().join("data"));
    let report = place.repository.prune(PruneOptions::default(), &NoMonitor, &StopToken::new()).unwrap();
    assert!(report.packs_unused > 0, "{report:?}");
    assert!(files_bytes(&place.path().join("data")) >= before, "marked, not deleted");
    restic_check(&place.path());
    // What is marked counts as gone: it is stored again.
    let again = backup_clean(&reopen(&place), &tree(1), &options());
    assert!(again.added.data_blobs >= 40);
    restic_check(&place.path());
}

#[test]
fn a_stopped_check_and_a_stopped_prune_say_so() {
    let place = place();
    backup_clean(&place.repository, &tree(1), &options());
    let stop = StopToken::new();
    stop.stop(StopReason::Cancel);
    let report = place.repository.check(CheckOptions { read_percent: 100.0 }, &NoMonitor, &stop).unwrap();
    assert_eq!((report.ending, report.findings), (Ending::Stopped(StopReason::Cancel), Vec::new()));
    let report = place.repository.prune(PruneOptions::default(), &NoMonitor, &stop).unwrap();
    assert_eq!(report.ending, Ending::Stopped(StopReason::Cancel));
    restic_check(&place.path());
}

#[test]
fn every_flipped_bit_is_found_and_nothing_wrong_is_restored() {
    let place = place();
    let source = tree(1);
    let snapshot = backup_clean(&place.repository, &source, &options()).snapshot.unwrap();
    let mut random = Random::new(testkit::random::seed());
    for kind in ["data", "index", "snapshots"] {
        for file in files(&place.path().join(kind)) {
            let whole = std::fs::read(&file).unwrap();
            for _ in 0..6 {
                let bit = random.below(whole.len() as u64 * 8) as usize;
                std::fs::write(&file, flipped(&whole, bit)).unwrap();
                let repository = reopen(&place);
                let what = format!("bit {bit} of {}", file.display());
                let report = check(&repository, 100.0);
                assert!(report.damages > 0, "not found: {what}");
                damaged_is_never_restored(&repository, &snapshot, &source, &what);
                std::fs::write(&file, &whole).unwrap();
            }
            // A file that is gone, and one that is cut short.
            for bad in [None, Some(&whole[..whole.len() / 2])] {
                std::fs::remove_file(&file).unwrap();
                if let Some(bad) = bad {
                    std::fs::write(&file, bad).unwrap();
                }
                let repository = reopen(&place);
                let report = check(&repository, 100.0);
                assert!(report.damages > 0 || kind == "snapshots" && bad.is_none(), "not found: {}", file.display());
                damaged_is_never_restored(&repository, &snapshot, &source, "gone or short");
                std::fs::write(&file, &whole).unwrap();
            }
        }
    }
    assert!(check(&place.repository, 100.0).is_sound());
}

/// Whatever is told, no file has content that it never had.
fn damaged_is_never_restored(
    repository: &Repository,
    snapshot: &backup::restic::Snapshot,
    source: &MemoryTree,
    what: &str,
) {
    let Ok(stored) = repository.open_tree(snapshot, &RelPath::root(), &StopToken::new()) else { return };
    let dest = MemoryTree::new();
    let stop = StopToken::new();
    let throttle = copy::Throttle::default();
    let cx = copy::CopyContext { source: &stored, dest: &dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let mut options = copy::CopyOptions::default();
    options.limits.retry_pause = std::time::Duration::ZERO;
    let Ok(report) = copy::copy_tree(&cx, &options) else { return };
    let (good, restored) = (source.snapshot(), dest.snapshot());
    for (path, entry) in restored.iter() {
        if let (Some(content), Some(original)) = (entry.content(), good.get(path).and_then(Entry::content)) {
            let failed = report.faults.iter().any(|fault| fault.path.as_bytes() == path);
            assert!(failed || content == original, "{what}: `{}` is wrong", copy::escape(path));
        }
    }
    assert!(report.counters.faults > 0 || restored.len() == good.len(), "{what}: incomplete without a fault");
}

#[test]
fn packs_that_were_exchanged_are_noticed() {
    let place = place();
    let snapshot = backup_clean(&place.repository, &tree(1), &options()).snapshot.unwrap();
    let packs = files(&place.path().join("data"));
    let (a, b) = (std::fs::read(&packs[0]).unwrap(), std::fs::read(&packs[1]).unwrap());
    std::fs::write(&packs[0], b).unwrap();
    std::fs::write(&packs[1], a).unwrap();
    let repository = reopen(&place);
    assert!(check(&repository, 100.0).damages > 0);
    damaged_is_never_restored(&repository, &snapshot, &tree(1), "exchanged");
    assert!(!restic(&place.path(), &["check", "--read-data"]).status.success());
}

#[test]
fn a_directory_of_a_snapshot_is_opened_alone() {
    let place: Place = place();
    let source = tree(1);
    let snapshot = backup_clean(&place.repository, &source, &options()).snapshot.unwrap();
    let at = |path: &[u8]| place.repository.open_tree(&snapshot, &RelPath::parse(path).unwrap(), &StopToken::new());
    let dest = MemoryTree::new();
    let stop = StopToken::new();
    let throttle = copy::Throttle::default();
    let below = at(b"d").unwrap();
    let cx = copy::CopyContext { source: &below, dest: &dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    assert_eq!(copy::copy_tree(&cx, &copy::CopyOptions::default()).unwrap().ending, Ending::Complete);
    assert_eq!(dest.snapshot().len(), 41);
    assert!(matches!(at(b"big"), Err(RepositoryError::NoSuchPath { .. })));
    assert!(matches!(at(b"d/none"), Err(RepositoryError::NoSuchPath { .. })));
}

fn flipped(data: &[u8], bit: usize) -> Vec<u8> {
    let mut data = data.to_vec();
    data[bit / 8] ^= 1 << (bit % 8);
    data
}

/// All files below a directory.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn files_bytes(root: &Path) -> u64 {
    files(root).iter().map(|file| std::fs::metadata(file).unwrap().len()).sum()
}
