//! The machine went down in the middle: only what a barrier covered may be believed unread.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Duration;

use testkit::disk::Place;
use testkit::model::{Entry, TreeModel, materialise};
use testkit::random::{Random, seed};
use testkit::reboot::{barrier, change_boot, state_file};

use crate::harness::{Job, picture};

/// What a crash of the machine can do: the size and the time are there, the content is not.
fn corrupt(job: &Job, path: &str) {
    let path = job.dest().join(path);
    let meta = fs::metadata(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; meta.len() as usize], 0).unwrap();
    let times = fs::FileTimes::new().set_accessed(meta.accessed().unwrap()).set_modified(meta.modified().unwrap());
    file.set_times(times).unwrap();
    let now = fs::metadata(&path).unwrap();
    assert_eq!((now.len(), now.mtime(), now.mtime_nsec()), (meta.len(), meta.mtime(), meta.mtime_nsec()));
}

const FILES: usize = 700;

#[test]
fn after_a_crash_of_the_machine_what_no_barrier_covers_is_compared() {
    let seed = seed();
    eprintln!("MANILA_DATA_CRASH_SEED={seed}");
    let mut random = Random::new(seed);
    let mut tree = TreeModel::new();
    for number in 0..FILES {
        let size = 1 + random.below(9000) as usize;
        tree.insert(format!("file{number}"), Entry::file(&random.bytes(size)));
    }
    let place = Place::new(2 << 30);
    let source_dir = place.path("source");
    fs::create_dir(&source_dir).unwrap();
    assert!(materialise(&tree, &source_dir).unwrap().left_out.is_empty());
    let source = picture(&source_dir);
    let job = Job::new(&source_dir, place.path("job"));

    // A barrier is set every five seconds: one is behind the kill, and work on both sides of it.
    let mut child = job.command(&["--ops-limit".into(), "100".into()]).spawn().unwrap();
    let start = std::time::Instant::now();
    while barrier(&job.state_dir()).is_none() {
        assert!(start.elapsed() < Duration::from_secs(30) && child.try_wait().unwrap().is_none(), "no barrier");
        std::thread::sleep(Duration::from_millis(20));
    }
    let at_barrier = job.finished(&source).len();
    while job.finished(&source).len() < at_barrier + 40 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let barrier = barrier(&job.state_dir()).unwrap();
    let (covered, doubtful): (Vec<_>, Vec<_>) =
        job.finished(&source).into_iter().partition(|(_, ctime)| *ctime < barrier);
    eprintln!("{} files covered, {} in doubt, {FILES} in all", covered.len(), doubtful.len());
    assert!(covered.len() > 100 && doubtful.len() > 20 && covered.len() + doubtful.len() < FILES);
    let damaged: Vec<_> = doubtful.iter().step_by(3).map(|(path, _)| path.as_str()).collect();
    for path in &damaged {
        corrupt(&job, path);
    }
    change_boot(&job.state_dir());

    let report = job.complete();
    job.check_result(&source);
    for path in &damaged {
        assert_eq!(report.action(path), "replaced", "{path}");
    }
    for (path, _) in doubtful.iter().filter(|(path, _)| !damaged.contains(&path.as_str())) {
        assert_eq!(report.action(path), "unchanged", "{path}");
    }
    for (path, _) in &covered {
        assert_eq!(report.action(path), "unchanged", "{path}");
    }
    // Two for a comparison, two for a copy: nothing is left for what the barrier covers.
    let opened = report.summary["counts"]["opened_files"].as_u64().unwrap();
    let copied = FILES - covered.len() - doubtful.len() + damaged.len();
    assert_eq!(opened, 2 * (doubtful.len() + copied) as u64, "{}", report.summary);

    // The end of a run settles it: on yet another boot nothing is in doubt.
    change_boot(&job.state_dir());
    let report = job.complete();
    assert_eq!(report.summary["counts"]["opened_files"], 0, "{}", report.summary);
}

/// A state file that was damaged says nothing, so nothing is believed.
#[test]
fn a_damaged_state_file_means_that_everything_is_compared() {
    let place = Place::new(2 << 30);
    let source_dir = place.path("source");
    fs::create_dir(&source_dir).unwrap();
    let tree = TreeModel::new().with("a", Entry::file(b"content of a")).with("b", Entry::file(b"content of b"));
    assert!(materialise(&tree, &source_dir).unwrap().left_out.is_empty());
    let source = picture(&source_dir);
    let job = Job::new(&source_dir, place.path("job"));
    job.complete();
    corrupt(&job, "b");
    let path = state_file(&job.state_dir()).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("complete yes", "complete yeS")).unwrap();
    let report = job.complete();
    job.check_result(&source);
    assert_eq!((report.action("a"), report.action("b")), ("unchanged", "replaced"));
}
