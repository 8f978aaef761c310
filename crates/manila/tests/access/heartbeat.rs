//! The row of the service over days, within a moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use manila::database::{
    AccessRule, Backup, BackupChange, BackupEnd, Database, DatabaseError, ExportLocation, Mapping, NewRule,
    QuotaSettings, ServiceId, ServiceIdentity, ServiceRow, Share, ShareInstance, TaskStateChange, UserMessage,
};
use manila::heartbeat::{Heartbeat, JobStore};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::kit::settings;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Fine,
    Away,
    Silent,
}

#[derive(Debug, Default)]
struct Rows {
    health: Health,
    /// What was done, with the seconds since the start.
    calls: Vec<(u64, String)>,
    id: i64,
    others: Vec<ServiceRow>,
}

#[derive(Debug)]
struct Services {
    rows: Mutex<Rows>,
    start: Instant,
}

impl Services {
    async fn call(&self, what: String) -> Result<(), DatabaseError> {
        let health = {
            let mut rows = self.rows.lock().unwrap();
            rows.calls.push((self.start.elapsed().as_secs(), what));
            rows.health
        };
        match health {
            Health::Fine => Ok(()),
            Health::Away => Err(DatabaseError::Unavailable("gone".into())),
            Health::Silent => std::future::pending().await,
        }
    }

    fn calls(&self, word: &str) -> Vec<u64> {
        let rows = self.rows.lock().unwrap();
        rows.calls.iter().filter(|(_, what)| what.starts_with(word)).map(|(at, _)| *at).collect()
    }

    fn set(&self, change: impl FnOnce(&mut Rows)) {
        change(&mut self.rows.lock().unwrap());
    }
}

#[async_trait]
impl Database for Services {
    async fn register(&self, service: &ServiceIdentity) -> Result<ServiceId, DatabaseError> {
        assert_eq!((&*service.host, &*service.binary, &*service.topic), ("data1", "manila-data", "manila-data"));
        assert_eq!((&*service.availability_zone, service.is_enabled), ("nova", true));
        self.call("register".into()).await?;
        Ok(ServiceId(self.rows.lock().unwrap().id))
    }

    async fn beat(&self, id: ServiceId, _: &ServiceIdentity, down_time: Duration) -> Result<ServiceId, DatabaseError> {
        assert_eq!(down_time, Duration::from_mins(1));
        self.call(format!("beat {}", id.0)).await?;
        Ok(ServiceId(self.rows.lock().unwrap().id))
    }

    async fn set_stopped(&self, id: ServiceId) -> Result<(), DatabaseError> {
        self.call(format!("stopped {}", id.0)).await
    }

    async fn remove_stopped(&self, topic: &str, _: Duration) -> Result<u64, DatabaseError> {
        self.call(format!("remove {topic}")).await?;
        Ok(1)
    }

    async fn services(&self, _: &str) -> Result<Vec<ServiceRow>, DatabaseError> {
        self.call("services".into()).await?;
        Ok(self.rows.lock().unwrap().others.clone())
    }

    async fn share(&self, _: &str) -> Result<Option<Share>, DatabaseError> {
        unreachable!()
    }
    async fn instance(&self, _: &str) -> Result<Option<ShareInstance>, DatabaseError> {
        unreachable!()
    }
    async fn instances(&self, _: &str) -> Result<Vec<ShareInstance>, DatabaseError> {
        unreachable!()
    }
    async fn set_task_state(
        &self,
        _: &str,
        _: Option<&str>,
        _: &[Option<&str>],
    ) -> Result<TaskStateChange, DatabaseError> {
        unreachable!()
    }
    async fn shares_in(&self, _: &[&str]) -> Result<Vec<Share>, DatabaseError> {
        unreachable!()
    }
    async fn rules_for(&self, _: &str, _: &str, _: &str) -> Result<Vec<AccessRule>, DatabaseError> {
        unreachable!()
    }
    async fn allow(&self, _: &NewRule) -> Result<bool, DatabaseError> {
        unreachable!()
    }
    async fn deny(&self, _: &str, _: &[&str]) -> Result<u64, DatabaseError> {
        unreachable!()
    }
    async fn mappings(&self, _: &[&str]) -> Result<Vec<Mapping>, DatabaseError> {
        unreachable!()
    }
    async fn backup(&self, _: &str) -> Result<Option<Backup>, DatabaseError> {
        unreachable!()
    }

    async fn backups_in(&self, _: &[&str]) -> Result<Vec<Backup>, DatabaseError> {
        unreachable!()
    }

    async fn shares_restored_from(&self, _: &str) -> Result<Vec<String>, DatabaseError> {
        unreachable!()
    }

    async fn export_locations(&self, _: &str) -> Result<Vec<ExportLocation>, DatabaseError> {
        unreachable!()
    }

    async fn begin_backup(&self, _: &str, _: &str, _: Option<&str>) -> Result<BackupChange, DatabaseError> {
        unreachable!()
    }

    async fn set_backup_progress(&self, _: &str, _: &str, _: u8) -> Result<BackupChange, DatabaseError> {
        unreachable!()
    }

    async fn end_backup(&self, _: &BackupEnd) -> Result<BackupChange, DatabaseError> {
        unreachable!()
    }

    async fn fail_deletion(&self, _: &str, _: &str) -> Result<BackupChange, DatabaseError> {
        unreachable!()
    }

    async fn delete_backup(&self, _: &str, _: &QuotaSettings) -> Result<BackupChange, DatabaseError> {
        unreachable!()
    }

    async fn add_message(&self, _: &UserMessage) -> Result<bool, DatabaseError> {
        unreachable!()
    }
    async fn close(&self) {}
}

fn services() -> Arc<Services> {
    Arc::new(Services { rows: Mutex::new(Rows { id: 7, ..Rows::default() }), start: Instant::now() })
}

fn neighbour(host: &str, age: u64, state: Option<&str>) -> ServiceRow {
    ServiceRow {
        id: ServiceId(1),
        host: host.into(),
        is_disabled: false,
        state: state.map(Into::into),
        age: Duration::from_secs(age),
    }
}

async fn start(services: &Arc<Services>, config: &str, job_store: JobStore) -> Running {
    let settings = settings(&format!("[DEFAULT]\nhost = data1\n{config}"));
    let heartbeat = Heartbeat::register(services.clone(), &settings, job_store).await.unwrap();
    let pulse = heartbeat.pulse();
    let stop = CancellationToken::new();
    Running { pulse, stop: stop.clone(), task: tokio::spawn(heartbeat.run(stop)) }
}

struct Running {
    pulse: manila::heartbeat::Pulse,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A moment after each of `seconds` have passed.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds) + Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn beats_come_after_each_interval_and_the_end_is_written() {
    let services = services();
    let running = start(&services, "", JobStore::Shared).await;
    pass(35).await;
    assert_eq!(services.calls("beat 7"), [10, 20, 30]);
    assert_eq!(running.pulse.last_beat().elapsed().as_secs(), 5);
    assert_eq!(services.calls("services"), Vec::<u64>::new());
    running.stop().await;
    pass(100).await;
    assert_eq!(services.calls("stopped 7"), [35]);
    assert_eq!(services.calls("beat").len(), 3);
}

#[tokio::test(start_paused = true)]
async fn rows_of_stopped_services_are_removed_now_and_then() {
    let services = services();
    let running = start(&services, "", JobStore::Shared).await;
    pass(3 * 1800).await;
    assert_eq!(services.calls("remove manila-data"), [1800, 3600, 5400]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_nothing_is_no_heartbeat() {
    let services = services();
    let running = start(&services, "report_interval = 0", JobStore::OfThisHost).await;
    pass(3600).await;
    assert_eq!(services.calls("beat"), Vec::<u64>::new());
    running.stop().await;
    assert_eq!(services.calls("stopped").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_removed_is_used_under_its_new_number() {
    let services = services();
    let running = start(&services, "", JobStore::Shared).await;
    pass(10).await;
    services.set(|rows| rows.id = 9);
    pass(20).await;
    assert_eq!(services.calls("beat 9"), [30]);
    running.stop().await;
    assert_eq!(services.calls("stopped 9").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_is_told_once_and_asked_again() {
    let log = log::Captured::new();
    let _guard = log.begin();
    let services = services();
    let running = start(&services, "", JobStore::OfThisHost).await;
    services.set(|rows| rows.health = Health::Away);
    pass(50).await;
    assert_eq!(services.calls("beat"), [10, 20, 30, 40, 50]);
    assert_eq!(log.count("no heartbeat"), 1);
    assert!(running.pulse.last_beat().elapsed() >= Duration::from_secs(50));
    services.set(|rows| rows.health = Health::Fine);
    pass(20).await;
    assert_eq!(log.count("heartbeats work again"), 1);
    assert!(running.pulse.last_beat().elapsed() < Duration::from_secs(10));
    services.set(|rows| rows.health = Health::Away);
    pass(20).await;
    assert_eq!(log.count("no heartbeat"), 2);
    running.stop().await;
    assert_eq!(log.count("its end cannot be written"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_does_not_answer_holds_up_neither_the_next_beat_nor_the_end() {
    let services = services();
    let running = start(&services, "", JobStore::Shared).await;
    services.set(|rows| rows.health = Health::Silent);
    pass(45).await;
    services.set(|rows| rows.health = Health::Fine);
    pass(60).await;
    assert!(running.pulse.last_beat().elapsed() < Duration::from_secs(11));
    services.set(|rows| rows.health = Health::Silent);
    running.stop().await;
    assert!(services.start.elapsed() < Duration::from_mins(3));
}

#[tokio::test(start_paused = true)]
async fn another_live_service_is_told_when_it_appears_unless_jobs_are_shared() {
    let log = log::Captured::new();
    let _guard = log.begin();
    let services = services();
    let ours = neighbour("data1", 0, Some("up"));
    let quiet = vec![ours.clone(), neighbour("old", 61, Some("up")), neighbour("stopped", 1, Some("stopped"))];
    services.set(|rows| rows.others = [quiet.clone(), vec![neighbour("data2", 5, Some("up"))]].concat());
    let running = start(&services, "", JobStore::OfThisHost).await;
    assert_eq!(log.count("another data service is alive"), 1);
    pass(100).await;
    assert_eq!(log.count("another data service is alive"), 1);
    // Before Manila 16 there are no states.
    services.set(|rows| rows.others.push(neighbour("data3", 5, None)));
    pass(30).await;
    assert_eq!(log.count("another data service is alive"), 2);
    services.set(|rows| rows.others = quiet.clone());
    pass(30).await;
    services.set(|rows| rows.others.push(neighbour("data2", 5, Some("down"))));
    pass(30).await;
    assert_eq!(log.count("another data service is alive"), 3);
    running.stop().await;

    let running = start(&services, "", JobStore::Shared).await;
    pass(30).await;
    assert_eq!(log.count("another data service is alive"), 3);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_be_registered_does_not_begin() {
    let services = services();
    services.set(|rows| rows.health = Health::Away);
    let settings = settings("[DEFAULT]\nhost = data1");
    let error = Heartbeat::register(services.clone(), &settings, JobStore::Shared).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable(_)));
}

mod log {
    //! What this thread's tests log.

    use std::fmt::{self, Write as _};
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::DefaultGuard;
    use tracing::{Event, Metadata, Subscriber};

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<String>>>);

    impl Captured {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn begin(&self) -> DefaultGuard {
            tracing::subscriber::set_default(self.clone())
        }

        pub(crate) fn count(&self, part: &str) -> usize {
            self.0.lock().unwrap().iter().filter(|line| line.contains(part)).count()
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            let _ = write!(self.0, "{field}={value:?} ");
        }
    }

    impl Subscriber for Captured {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            self.0.lock().unwrap().push(line.0);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
}
