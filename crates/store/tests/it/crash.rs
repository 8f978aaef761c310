//! A process that is killed while it writes: what it answered is there, and nothing is half there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use job::{EventSeq, JobFilter, JobId, JobStore as _, Page};
use testkit::disk::TempDir;

use crate::kit::{event, file_in, job, kept, number_of, open, runtime};

const KILLS: u32 = 30;

/// Names the store of a child that writes until it is killed.
const CHILD_STORE: &str = "MANILA_DATA_STORE_TEST_CHILD";
const SEED: &str = "MANILA_DATA_STORE_TEST_SEED";

/// Events of each save: more than one, so that half of them would be seen.
const EVENTS: u64 = 3;

/// Not a test of its own: what the child of the test below runs.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_STORE) else { return };
    runtime().block_on(write_for_ever(&PathBuf::from(path)));
}

/// Saves eight jobs at once, again and again, and says of each save that it was answered.
async fn write_for_ever(path: &Path) {
    let store = std::sync::Arc::new(open(path).await);
    say("ready");
    let mut writers = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let store = std::sync::Arc::clone(&store);
        writers.spawn(async move {
            let mut job = match store.get(JobId::from_u128(number.into())).await.unwrap() {
                Some(job) => job,
                None => kept(&*store, job(number)).await,
            };
            loop {
                job.passes_done += 1;
                job.version = store.save(&job, &[(); EVENTS as usize].map(|()| event(1, "saved"))).await.unwrap();
                say(&format!("saved {number} {}", job.version.0));
            }
        });
    }
    writers.join_all().await;
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

struct Writer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Writer {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_STORE, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Ends it in the middle of whatever it does, and answers what else it had said.
    fn kill(&mut self) -> String {
        self.child.kill().unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        rest
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_a_killed_process_answered_is_there_and_nothing_is_half_there() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = std::env::var(SEED).map_or(now, |seed| seed.parse().unwrap());
    eprintln!("{SEED}={seed}");
    let mut random = seed | 1;
    let dir = TempDir::new();
    let path = file_in(&dir);
    let mut answered = BTreeMap::new();
    for _ in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut writer = Writer::start(&path);
        // Some saves, then some part of the next one.
        let saves = (random >> 33) % 40;
        let mut seen = 0;
        while seen < saves {
            let mut line = String::new();
            assert_ne!(writer.lines.read_line(&mut line).unwrap(), 0, "the child ended by itself");
            seen += u64::from(note(&line, &mut answered));
        }
        // Chooses the moment of the kill; nothing is expected to have happened by then.
        std::thread::sleep(Duration::from_micros((random >> 20) % 3000));
        for line in writer.kill().lines() {
            note(line, &mut answered);
        }
        runtime().block_on(check(&path, &answered));
    }
    assert!(!answered.is_empty(), "no save was ever answered");
}

/// Remembers an answer; the line may be cut off by the kill, or belong to the test harness.
fn note(line: &str, answered: &mut BTreeMap<u32, u64>) -> bool {
    let words: Vec<_> = line.split(' ').collect();
    let ["saved", number, version] = words[..] else { return false };
    let (Ok(number), Ok(version)) = (number.parse(), version.trim().parse()) else { return false };
    let latest = answered.entry(number).or_default();
    *latest = (*latest).max(version);
    true
}

async fn check(path: &Path, answered: &BTreeMap<u32, u64>) {
    let mut raw = crate::opening::raw(path).await;
    let verdict: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check").fetch_all(&mut raw).await.unwrap();
    assert_eq!(verdict, ["ok"]);
    sqlx::Connection::close(raw).await.unwrap();
    let store = open(path).await;
    let jobs = store.list(&JobFilter::default(), &Page { after: None, size: 100 }).await.unwrap();
    for (number, version) in answered {
        let found = jobs.iter().find(|job| number_of(job.id) == *number).map(|job| job.version.0);
        assert!(
            found.is_some_and(|found| found >= *version),
            "job {number}: {version} was answered, {found:?} is there"
        );
    }
    for job in &jobs {
        let events = store.events(EventSeq::default(), Some(job.id), u32::MAX).await.unwrap().len() as u64;
        assert_eq!(u64::from(job.passes_done), job.version.0 - 1);
        assert_eq!(events, EVENTS * (job.version.0 - 1));
    }
    store.close().await.unwrap();
}
