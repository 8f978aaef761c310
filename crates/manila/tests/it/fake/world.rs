//! The parts put together: a share that waits for its copy, and the service of jobs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use job::{Clock, DataService, Job, NodeName, Ports, Scheduling, Service};
use manila::database::{Backup, ExportLocation, QuotaSettings, Share, ShareInstance};
use manila::settings::{BackupDriver, BackupSettings, MountedExport};
use manila::{Endpoint, ManilaFollower, ManilaNotifier, Peers, Settings};
use oslo::messaging::{Context, Handler, HandlerError, Request, RpcVersion};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::{FakeDatabase, FakeExecutor, FakeShareManager, FakeStore, Journal};

pub(crate) const SHARE: &str = "5a5e0000-0000-4000-8000-000000000001";
pub(crate) const SOURCE: &str = "50ce0000-0000-4000-8000-000000000002";
pub(crate) const DEST: &str = "de570000-0000-4000-8000-000000000003";
pub(crate) const BACKUP: &str = "bac00000-0000-4000-8000-000000000004";
pub(crate) const PROJECT: &str = "p1project";

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) journal: Journal,
    pub(crate) database: Arc<FakeDatabase>,
    pub(crate) share_manager: Arc<FakeShareManager>,
    pub(crate) store: Arc<FakeStore>,
    pub(crate) executor: Arc<FakeExecutor>,
    pub(crate) settings: Settings,
    clock: Arc<TestClock>,
    state_path: PathBuf,
}

/// Goes with the runtime's virtual time.
#[derive(Debug)]
struct TestClock {
    start: Timestamp,
    since: Instant,
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.start + self.since.elapsed()
    }
}

pub(crate) fn share(task_state: Option<&str>) -> Share {
    Share {
        id: SHARE.into(),
        project_id: Some(PROJECT.into()),
        user_id: Some("u1user".into()),
        share_proto: Some("NFS".into()),
        size_gib: Some(1),
        task_state: task_state.map(Into::into),
    }
}

pub(crate) fn instance(id: &str, host: &str, status: &str) -> ShareInstance {
    ShareInstance {
        id: id.into(),
        share_id: SHARE.into(),
        host: Some(host.into()),
        status: Some(status.into()),
        access_rules_status: Some("active".into()),
        cast_rules_to_readonly: false,
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        host: "here".into(),
        storage_availability_zone: "nova".into(),
        enable_new_services: true,
        report_interval: Duration::from_secs(10),
        service_down_time: Duration::from_mins(1),
        cleanup_interval: Duration::from_mins(30),
        share_topic: "manila-share".into(),
        mount_tmp_location: "/tmp/".into(),
        data_node_mount_options: [("nfs".to_owned(), "-o vers=4.1".to_owned())].into(),
        data_node_access_ips: vec!["10.0.0.5".into()],
        data_node_access_cert: None,
        data_node_access_admin_user: None,
        data_access_wait_access_rules_timeout: Duration::from_mins(3),
        check_hash: false,
        lock_path: None,
        message_ttl: Duration::from_hours(30 * 24),
        notify_on_success: false,
        backup: BackupSettings {
            driver: BackupDriver::Directory,
            share_mount_template: "mount -vt %(proto)s %(options)s %(export)s %(path)s".into(),
            share_unmount_template: "umount -v %(path)s".into(),
            ignore_files: vec!["lost+found".into()],
            protocol_access_mapping: [("ip".to_owned(), vec!["nfs".to_owned()])].into(),
            create_update_interval: Duration::from_secs(10),
            restore_update_interval: Duration::from_secs(10),
            mount_tmp_location: "/mnt-b".into(),
            export: Some(MountedExport {
                export: "b.example:/backups".into(),
                proto: "nfs".into(),
                options: "-o nfsvers=4.1".into(),
                mount_template: "mount -vt %(proto)s %(options)s %(export)s %(path)s".into(),
                unmount_template: "umount -v %(path)s".into(),
            }),
            quota: QuotaSettings { is_counted: true, reservation_expire: Duration::from_hours(24) },
        },
    }
}

/// As manila-api leaves it before it asks for something.
fn backup(status: &str) -> Backup {
    Backup {
        id: BACKUP.into(),
        share_id: SHARE.into(),
        project_id: Some(PROJECT.into()),
        user_id: Some("u1user".into()),
        size_gib: Some(1),
        host: None,
        topic: Some("manila-data".into()),
        status: Some(status.into()),
        progress: Some("0".into()),
        restore_progress: Some("0".into()),
    }
}

/// As manila-api sends it, with a token.
pub(crate) fn context() -> Context {
    let pairs = json!({
        "is_admin": true, "user_id": "admin", "project_id": "adminproject", "roles": ["admin"], "read_deleted": "no",
        "request_id": "req-1", "auth_token": "T0K3N",
    });
    serde_json::from_value(pairs).expect("a context")
}

impl World {
    /// In a runtime, whose time its clock follows.
    pub(crate) fn new() -> Self {
        let journal = Journal::default();
        let database = Arc::new(FakeDatabase::new(journal.clone()));
        database.with(|tables| {
            tables.shares.insert(SHARE.into(), share(Some("migration_in_progress")));
            for (id, host, status) in [(SOURCE, "a@alpha#pool", "migrating"), (DEST, "b@beta#pool", "migrating_to")] {
                tables.instances.insert(id.into(), instance(id, host, status));
            }
        });
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("manila-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self {
            share_manager: Arc::new(FakeShareManager::new(journal.clone(), database.clone())),
            store: Arc::default(),
            executor: Arc::new(FakeExecutor::new(journal.clone())),
            settings: settings(),
            clock: Arc::new(TestClock {
                start: "2026-11-22T08:40:00Z".parse().expect("a time"),
                since: Instant::now(),
            }),
            state_path: std::env::temp_dir().join(name),
            journal,
            database,
        }
    }

    /// A share with one instance, and a backup of it that somebody has just asked something about.
    pub(crate) fn with_backup(status: &str, share_status: &str) -> Self {
        let world = Self::new();
        world.database.with(|tables| {
            tables.shares.insert(SHARE.into(), share(None));
            tables.instances.clear();
            tables.instances.insert(SOURCE.into(), instance(SOURCE, "a@alpha#pool", share_status));
            tables.backups.insert(BACKUP.into(), backup(status));
            tables.source_backups.insert(SHARE.into(), BACKUP.into());
            let location =
                |path: &str, is_admin_only| ExportLocation { path: path.into(), is_admin_only, is_preferred: false };
            let locations = vec![location("11.0.0.11:/tenants", false), location("11.0.0.11:/a share", true)];
            tables.locations.insert(SOURCE.into(), locations);
        });
        world
    }

    pub(crate) fn peers(&self) -> Peers {
        Peers {
            database: self.database.clone(),
            share_manager: self.share_manager.clone(),
            settings: Arc::new(self.settings.clone()),
        }
    }

    pub(crate) async fn jobs(&self) -> Service {
        self.jobs_with(Scheduling::default()).await
    }

    pub(crate) async fn jobs_with(&self, scheduling: Scheduling) -> Service {
        let ports = Ports {
            store: self.store.clone(),
            executor: self.executor.clone(),
            access: self.executor.clone(),
            notifier: Arc::new(ManilaNotifier::new(self.peers())),
            follower: Arc::new(ManilaFollower::new(self.peers())),
            clock: self.clock.clone(),
        };
        let mut settings = job::Settings::new(NodeName::new("here"), &self.state_path);
        settings.scheduling = scheduling;
        settings.known.repositories = vec![manila::backup::REPOSITORY.into()];
        Service::start(ports, settings).await.expect("starts")
    }

    pub(crate) fn endpoint(&self, jobs: &Service) -> Endpoint {
        Endpoint::new(self.peers(), Arc::new(jobs.clone()))
    }

    pub(crate) fn only_job(&self) -> Job {
        let jobs = self.store.jobs();
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs[0].clone()
    }

    /// Waits, virtual hours if need be.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn() -> bool) {
        let look = async {
            while !wanted() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        let seen = timeout(Duration::from_hours(2), look).await;
        assert!(seen.is_ok(), "never: {what}; {:?} {:?}", self.journal.take(), self.store.jobs());
    }

    pub(crate) async fn until_task_state(&self, task_state: &str) {
        self.until(task_state, || self.database.task_state(SHARE).as_deref() == Some(task_state)).await;
    }

    pub(crate) fn backup_row(&self) -> Backup {
        self.database.with(|tables| tables.backups[BACKUP].clone())
    }

    /// Until the end of the only job was told to everybody who wants to know.
    pub(crate) async fn until_told(&self) {
        self.until("told", || self.store.is_told(self.only_job().id)).await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Only reports lie there, if anything.
        let _ = std::fs::remove_dir_all(&self.state_path);
    }
}

/// What manila-share sends.
pub(crate) fn start_args() -> Value {
    let info = |export: &str| {
        json!({
            "mount": format!("mount -vt nfs %(options)s {export} %(path)s"),
            "unmount": "umount -v %(path)s",
            "access_mapping": {"ip": ["nfs"]},
        })
    };
    json!({
        "share_id": SHARE, "ignore_list": ["lost+found"], "share_instance_id": SOURCE, "dest_share_instance_id": DEST,
        "connection_info_src": info("11.0.0.11:/from"), "connection_info_dest": info("11.0.0.12:/to"),
    })
}

/// What manila-api sends, with columns that are old by then.
pub(crate) fn backup_args() -> Value {
    json!({"backup": {
        "id": BACKUP, "deleted": "False", "share_id": SHARE, "project_id": "other", "status": "creating", "host": null,
        "topic": null, "progress": "0", "backup_options": {},
    }})
}

pub(crate) fn restore_args() -> Value {
    let mut args = backup_args();
    args.as_object_mut().expect("an object").insert("share_id".into(), SHARE.into());
    args
}

pub(crate) fn request(method: &str, args: &Value) -> Request {
    Request {
        method: method.into(),
        args: args.as_object().expect("arguments are an object").clone(),
        version: RpcVersion::new(1, 0),
        namespace: None,
        context: context(),
        unique_id: Some("0123456789abcdef0123456789abcdef".into()),
        redelivered: false,
        is_call: true,
    }
}

pub(crate) async fn ask(endpoint: &Endpoint, method: &str, args: Value) -> Result<Value, HandlerError> {
    endpoint.handle(request(method, &args)).await
}

/// Class and text of the failure.
pub(crate) async fn failure(endpoint: &Endpoint, method: &str, args: Value) -> (String, String) {
    match ask(endpoint, method, args).await {
        Err(HandlerError::Failure(failure)) => (failure.class.clone(), failure.message.clone()),
        other => panic!("{other:?}"),
    }
}

/// The only view there is of a job.
pub(crate) async fn state_of(jobs: &Service, job: &Job) -> job::StateName {
    jobs.get(job.id).await.expect("is there").job.state.name()
}
