//! The parts put together, and lives of the service in it.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use job::{
    Clock, DataService, Endpoint, Job, JobId, JobSpec, JobView, Kind, NodeName, Origin, PassFigures, Ports, Service,
    Settings,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{FakeAccess, FakeExecutor, FakeFollower, FakeNotifier, FakeStore};

/// Time that goes on over lives, each of which has a virtual clock of its own.
#[derive(Debug)]
pub(crate) struct FakeClock(Mutex<(Timestamp, Option<Instant>)>);

impl FakeClock {
    fn begin_life(&self) {
        lock(&self.0).1 = Some(Instant::now());
    }

    /// Somebody sets it, or it went on while nobody was there.
    pub(crate) fn step(&self, by: SignedDuration) {
        lock(&self.0).0 += by;
    }

    fn end_life(&self) {
        let now = self.now();
        *lock(&self.0) = (now, None);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        let (base, life) = *lock(&self.0);
        base + life.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// Whether the process is alive. Of a dead one no call is answered.
#[derive(Debug, Default)]
pub(crate) struct Life {
    dead: Mutex<bool>,
    died: Notify,
}

impl Life {
    pub(crate) fn end(&self) {
        *lock(&self.dead) = true;
        self.died.notify_one();
    }

    pub(crate) async fn go_on(&self) {
        if *lock(&self.dead) {
            std::future::pending::<()>().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) life: Arc<Life>,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) executor: Arc<FakeExecutor>,
    pub(crate) access: Arc<FakeAccess>,
    pub(crate) notifier: Arc<FakeNotifier>,
    pub(crate) follower: Arc<FakeFollower>,
    pub(crate) dir: ScratchDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let start = "2026-11-02T08:00:00Z".parse().expect("a time");
        let clock = Arc::new(FakeClock(Mutex::new((start, None))));
        let life = Arc::new(Life::default());
        let store = Arc::new(FakeStore::new(clock.clone(), life.clone()));
        Self {
            executor: Arc::new(FakeExecutor::new(store.clone(), life.clone())),
            access: Arc::new(FakeAccess::new(store.clone(), life.clone())),
            notifier: Arc::new(FakeNotifier::new(store.clone(), life.clone())),
            follower: Arc::new(FakeFollower::new(store.clone(), life.clone())),
            dir: ScratchDir::new(),
            clock,
            life,
            store,
        }
    }

    pub(crate) fn ports(&self) -> Ports {
        Ports {
            store: self.store.clone(),
            executor: self.executor.clone(),
            access: self.access.clone(),
            notifier: self.notifier.clone(),
            follower: self.follower.clone(),
            clock: self.clock.clone(),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::new(NodeName::new("here"), self.dir.path());
        settings.known.hooks = vec!["freeze".into()];
        settings
    }

    /// A process in which `body` takes place. `None`: it died before that was over.
    pub(crate) fn live<T>(&self, body: impl AsyncFnOnce() -> T) -> Option<T> {
        *lock(&self.life.dead) = false;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let ended = runtime.block_on(async {
            self.clock.begin_life();
            let ended = tokio::select! {
                biased;
                () = self.life.died.notified() => None,
                value = body() => Some(value),
            };
            self.life.end();
            self.clock.end_life();
            ended
        });
        // Whatever the process was doing ends where it was.
        drop(runtime);
        // Nobody waits for it any more: the permit of this life must not end the next one.
        let _ = futures_now(self.life.died.notified());
        ended
    }

    /// The same with a service that has been started.
    pub(crate) fn serve<T>(&self, body: impl AsyncFnOnce(&Service) -> T) -> Option<T> {
        self.live(async || {
            let service = Service::start(self.ports(), self.settings()).await.expect("starts");
            body(&service).await
        })
    }

    /// A life that must not end by itself.
    pub(crate) fn run<T>(&self, body: impl AsyncFnOnce(&Service) -> T) -> T {
        let value = self.serve(body).expect("stays alive");
        self.check();
        value
    }

    pub(crate) fn check(&self) {
        let broken = self.store.broken_rules();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    /// Nothing is left of any job: no hold, no workspace, no access rule, no worker.
    pub(crate) fn check_nothing_left(&self) {
        self.check();
        assert_eq!(self.executor.leftovers(), Vec::<PathBuf>::new());
        assert_eq!(self.access.taken(), Vec::<String>::new());
        assert_eq!(self.executor.running(), 0);
        for job in self.store.jobs() {
            assert!(job.state.is_ended() && job.holds.is_empty(), "{job:?}");
        }
    }
}

/// Also after another test's thread panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Polls once.
fn futures_now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match pin!(future).poll(&mut cx) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }
}

/// A directory that goes away with the test.
#[derive(Debug)]
pub(crate) struct ScratchDir(PathBuf);

impl ScratchDir {
    fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("job-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A specification whose destination is its own.
pub(crate) fn spec(kind: Kind, name: &str) -> JobSpec {
    let dir = |path: String| Endpoint::Directory { path: path.into() };
    let mut spec = JobSpec::new(kind, dir("/from".into()), dir(format!("/to/{name}")));
    spec.name = Some(name.into());
    spec
}

pub(crate) fn figures(changed_entries: u64, faults: u64) -> PassFigures {
    PassFigures {
        elapsed_seconds: 10.0,
        scanned_entries: 1000,
        scanned_bytes: 1_000_000,
        changed_entries,
        copied_bytes: changed_entries * 1000,
        faults,
        ..PassFigures::default()
    }
}

/// Takes a job.
pub(crate) async fn soon(service: &Service, spec: JobSpec) -> JobId {
    service.submit(spec, Origin::default(), None).await.expect("is taken").view.job.id
}

/// The job once it is as wanted. Virtual hours pass while nothing happens.
pub(crate) async fn until(service: &Service, id: JobId, wanted: impl Fn(&JobView) -> bool) -> JobView {
    let look = async {
        loop {
            if let Ok(view) = service.get(id).await
                && wanted(&view)
            {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    if let Ok(view) = tokio::time::timeout(Duration::from_hours(2), look).await {
        return view;
    }
    panic!("never came to be as wanted: {:?}", service.get(id).await)
}

pub(crate) async fn ended(service: &Service, id: JobId) -> Job {
    until(service, id, |view| view.job.state.is_ended()).await.job
}
