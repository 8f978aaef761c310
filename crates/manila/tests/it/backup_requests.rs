//! What the endpoint takes and refuses of requests about backups, and the jobs that they become.

use job::spec::{Format, Hash, Keep, OnFault, Verify};
use job::{DataService as _, Endpoint as Tree, Kind, Scheduling, Sensitive};
use manila::BackupTask;
use manila::backup::BackupAction;
use manila::settings::{BackupDriver, ResticSettings};
use oslo::messaging::{Handler as _, HandlerError};
use serde_json::{Value, json};

use crate::fake::{
    BACKUP, PROJECT, SHARE, SOURCE, Script, Trouble, World, ask, backup_args, failure, request, restore_args,
    start_args,
};

fn command(tree: &Tree) -> (&str, &str, Option<&str>) {
    let Tree::Command { mount, unmount, options } = tree else { panic!("{tree:?}") };
    (mount.expose(), unmount.as_ref().expect("is given").expose(), options.as_ref().map(Sensitive::expose))
}

const SHARE_TREE: (&str, &str, Option<&str>) =
    ("mount -vt nfs %(options)s '11.0.0.11:/a share' %(path)s", "umount -v %(path)s", Some("-o vers=4.1"));
const EXPORT: (&str, &str, Option<&str>) =
    ("mount -vt nfs %(options)s b.example:/backups %(path)s", "umount -v %(path)s", Some("-o nfsvers=4.1"));

#[tokio::test(start_paused = true)]
async fn a_backup_becomes_a_job() {
    let world = World::with_backup("creating", "backup_creating");
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    assert_eq!(ask(&world.endpoint(&jobs), "create_backup", backup_args()).await, Ok(Value::Null));
    assert_eq!(world.journal.take(), ["backup host here"]);
    let job = world.only_job();
    assert_eq!((job.spec.kind, job.spec.name.as_deref()), (Kind::Backup, Some(&*format!("share {SHARE}"))));
    assert_eq!((command(&job.spec.source), command(&job.spec.dest)), (SHARE_TREE, EXPORT));
    let plan = job.spec.backup.as_ref().expect("a plan");
    assert_eq!((plan.format, plan.id.as_deref(), &plan.subdir), (Format::Directory, Some(BACKUP), &None));
    assert!(!plan.init);
    let options = &job.spec.options;
    assert_eq!(
        (&options.ignore[..], options.on_fault, options.verify),
        (&["lost+found".to_owned()][..], OnFault::Stop, None)
    );
    let task = BackupTask::of(&job).expect("is Manila's");
    assert_eq!(
        (task.action, task.share_id.as_str(), task.instance_id.as_deref()),
        (BackupAction::Create, SHARE, Some(SOURCE))
    );
    assert_eq!(task.access, [("ip".to_owned(), vec!["nfs".to_owned()])].into());
    let stored = serde_json::to_string(&job.origin.on_behalf).expect("encodes");
    assert!(!stored.contains("T0K3N") && !stored.contains("mount"), "{stored}");
    assert_eq!(manila::Migration::of(&job), None);
}

#[tokio::test(start_paused = true)]
async fn a_restore_is_its_mirror_and_a_deletion_has_one_side() {
    let mut world = World::with_backup("restoring", "backup_restoring");
    world.settings.check_hash = true;
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    ask(&world.endpoint(&jobs), "restore_backup", restore_args()).await.expect("is taken");
    let job = world.only_job();
    assert_eq!(
        (job.spec.kind, command(&job.spec.source), command(&job.spec.dest)),
        (Kind::Restore, EXPORT, SHARE_TREE)
    );
    assert_eq!((job.spec.options.verify, job.spec.options.hash), (Some(Verify::Content), Hash::Sha256));
    assert_eq!(job.spec.options.ignore, ["lost+found"]);

    let world = World::with_backup("deleting", "available");
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    ask(&world.endpoint(&jobs), "delete_backup", backup_args()).await.expect("is taken");
    let job = world.only_job();
    assert_eq!((job.spec.kind, &job.spec.source, command(&job.spec.dest)), (Kind::Delete, &Tree::None, EXPORT));
    assert_eq!(job.spec.name.as_deref(), Some(&*format!("delete backup {BACKUP}")));
    assert_eq!(world.journal.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_restore_goes_into_the_share_that_is_named() {
    const OTHER: &str = "5a5e0000-0000-4000-8000-000000000099";
    let world = World::with_backup("restoring", "available");
    world.database.with(|tables| {
        let mut share = tables.shares[SHARE].clone();
        share.id = OTHER.into();
        tables.shares.insert(OTHER.into(), share);
        let mut instance = tables.instances[SOURCE].clone();
        (instance.id, instance.share_id, instance.status) =
            ("other".into(), OTHER.into(), Some("backup_restoring".into()));
        tables.instances.insert("other".into(), instance);
        let locations = tables.locations[SOURCE].clone();
        tables.locations.insert("other".into(), locations);
        tables.source_backups.insert(OTHER.into(), BACKUP.into());
    });
    let jobs = world.jobs().await;
    let mut args = restore_args();
    args["share_id"] = OTHER.into();
    ask(&world.endpoint(&jobs), "restore_backup", args).await.expect("is taken");
    world.until_told().await;
    let task = BackupTask::of(&world.only_job()).expect("is Manila's");
    assert_eq!((task.share_id.as_str(), task.instance_id.as_deref()), (OTHER, Some("other")));
    let status = |id: &str| world.database.with(|tables| tables.instances[id].status.clone());
    assert_eq!((status("other").as_deref(), status(SOURCE).as_deref()), (Some("available"), Some("available")));
    assert_eq!(world.backup_row().restore_progress.as_deref(), Some("100"));
}

#[tokio::test(start_paused = true)]
async fn a_restic_repository_is_named_and_not_described() {
    for is_per_project in [true, false] {
        let mut world = World::with_backup("creating", "backup_creating");
        world.settings.backup.driver = BackupDriver::Restic(Box::new(ResticSettings {
            repository: Tree::Directory { path: "/srv/backup".into() },
            password_file: "/etc/manila/restic".into(),
            credentials_file: None,
            is_per_project,
            keep: Keep::default(),
        }));
        let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
        ask(&world.endpoint(&jobs), "create_backup", backup_args()).await.expect("is taken");
        let job = world.only_job();
        assert_eq!(job.spec.dest, Tree::Repository { name: "manila".into() });
        let plan = job.spec.backup.as_ref().expect("a plan");
        assert_eq!(
            (plan.format, plan.id.as_deref(), plan.share.as_deref()),
            (Format::Restic, Some(BACKUP), Some(SHARE))
        );
        assert_eq!(plan.subdir.as_deref().and_then(|dir| dir.to_str()), is_per_project.then_some(PROJECT));
        assert_eq!(plan.tags, [format!("manila-share={SHARE}"), format!("manila-project={PROJECT}")]);
        assert!(plan.init && plan.password.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_out_ends_in_the_rows() {
    type Change = &'static dyn Fn(&mut World);
    let changes: [(Change, &str); 6] = [
        (&|world| world.settings.backup.export = None, "backup_mount_export is not set"),
        (&|world| world.database.with(|tables| tables.locations.clear()), "no export location"),
        (
            &|world| {
                world
                    .database
                    .with(|tables| tables.locations.get_mut(SOURCE).expect("is there")[1].path = "h:/a\nb".into());
            },
            "control characters",
        ),
        (
            &|world| world.database.with(|tables| tables.instances.get_mut(SOURCE).expect("is there").host = None),
            "no host",
        ),
        (
            &|world| {
                world.database.with(|tables| {
                    tables.instances.get_mut(SOURCE).expect("is there").status = Some("available".into());
                });
            },
            "the share is available, not backup_",
        ),
        (&|world| world.settings.backup.share_mount_template = "mount %(oops)s %(path)s".into(), "%(oops)s"),
    ];
    for (change, why) in changes {
        for (mut world, method, args, backup, share) in [
            (World::with_backup("creating", "backup_creating"), "create_backup", backup_args(), "error", "available"),
            (
                World::with_backup("restoring", "backup_restoring"),
                "restore_backup",
                restore_args(),
                "available",
                "backup_restoring_error",
            ),
        ] {
            change(&mut world);
            let jobs = world.jobs().await;
            let (class, message) = failure(&world.endpoint(&jobs), method, args).await;
            assert_eq!(class, "BackupException");
            assert!(message.contains(why), "{message}");
            assert_eq!(world.backup_row().status.as_deref(), Some(backup));
            assert!(world.database.with(|tables| tables.reasons[BACKUP].contains(why)));
            let status = world.database.with(|tables| tables.instances[SOURCE].status.clone()).expect("is set");
            assert!(status == share || status == "available", "{status}");
            assert_eq!(world.store.jobs(), []);
        }
    }
    let mut world = World::with_backup("deleting", "available");
    world.settings.backup.export = None;
    let jobs = world.jobs().await;
    failure(&world.endpoint(&jobs), "delete_backup", backup_args()).await;
    assert_eq!(world.journal.take(), ["backup error_deleting"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_rows_do_not_wait_for_changes_nothing() {
    for (status, method) in [
        ("available", "create_backup"),
        ("error", "create_backup"),
        ("deleting", "create_backup"),
        ("creating", "restore_backup"),
        ("available", "restore_backup"),
        ("available", "delete_backup"),
        ("error_deleting", "delete_backup"),
    ] {
        let world = World::with_backup(status, "backup_creating");
        let jobs = world.jobs().await;
        let args = if method == "restore_backup" { restore_args() } else { backup_args() };
        let (class, _) = failure(&world.endpoint(&jobs), method, args).await;
        assert_eq!((class.as_str(), world.journal.take().len(), world.store.jobs().len()), ("BackupException", 0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_not_found() {
    const MISSING: &str = "00000000-0000-4000-8000-000000000009";
    let world = World::with_backup("creating", "backup_creating");
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    let backup = |id: Value, share_id: Value| json!({"backup": {"id": id, "share_id": share_id}});
    let not_found = ("NotFound".to_owned(), "Resource could not be found.".to_owned());
    for args in [
        backup(json!(BACKUP), json!(MISSING)),
        backup(json!(BACKUP), json!("../../etc")),
        backup(json!(""), json!(SHARE)),
        backup(json!(5), json!(SHARE)),
        json!({"backup": null}),
        json!({"backup": []}),
    ] {
        assert_eq!(failure(&endpoint, "create_backup", args).await, not_found);
    }
    let (class, message) = failure(&endpoint, "create_backup", backup(json!(MISSING), json!(SHARE))).await;
    assert_eq!((class, message), ("ShareBackupNotFound".into(), format!("Backup {MISSING} could not be found.")));
    let (class, _) = failure(&endpoint, "delete_backup", backup(json!(MISSING), json!(SHARE))).await;
    assert_eq!(class, "ShareBackupNotFound");
    let (class, message) = failure(&endpoint, "restore_backup", backup_args()).await;
    let missing = "DataManager.restore_backup() missing 1 required positional argument: 'share_id'";
    assert_eq!((class.as_str(), message.as_str()), ("TypeError", missing));
    assert_eq!(world.journal.take(), [""; 0]);
    world.database.with(|tables| tables.has_no_backups = true);
    let (class, message) = failure(&endpoint, "create_backup", backup_args()).await;
    assert_eq!(class, "BackupException");
    assert!(message.contains("no share backups"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_finds_its_job() {
    for (world, method, args) in [
        (World::with_backup("creating", "backup_creating"), "create_backup", backup_args()),
        (World::with_backup("restoring", "backup_restoring"), "restore_backup", restore_args()),
        (World::with_backup("deleting", "available"), "delete_backup", backup_args()),
    ] {
        world.executor.play(Script::Endless);
        let jobs = world.jobs().await;
        let endpoint = world.endpoint(&jobs);
        for unique_id in ["one", "one", "two"] {
            let mut request = request(method, &args);
            request.unique_id = Some(unique_id.into());
            assert_eq!(endpoint.handle(request).await, Ok(Value::Null));
        }
        // Once more after it has ended, as a broker does that lost the acknowledgement.
        jobs.cancel(world.only_job().id).await.expect("is taken");
        world.until_told().await;
        let mut request = request(method, &args);
        request.unique_id = Some("one".into());
        assert!(matches!(endpoint.handle(request).await, Err(HandlerError::Failure(_))));
        assert_eq!(world.store.jobs().len(), 1, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_earlier_job_of_the_share_is_ended_first() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    let reset = World::with_backup("creating", "backup_creating");
    reset.database.with(|from| {
        world.database.with(|to| {
            to.shares.clone_from(&from.shares);
            to.instances.clone_from(&from.instances);
            to.backups.clone_from(&from.backups);
            to.locations.clone_from(&from.locations);
        });
    });
    let mut asked = request("create_backup", &backup_args());
    asked.unique_id = Some("another".into());
    assert!(matches!(endpoint.handle(asked.clone()).await, Err(HandlerError::Retry(_))));
    world.until_told().await;
    assert_eq!(world.database.task_state(SHARE), None, "the migration left the share alone");
    world.executor.play(Script::Completes);
    assert_eq!(endpoint.handle(asked).await, Ok(Value::Null));
    world.until("made", || world.backup_row().progress.as_deref() == Some("100")).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_away_leaves_the_request_at_the_broker() {
    let world = World::with_backup("creating", "backup_creating");
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    let endpoint = world.endpoint(&jobs);
    for trouble in [Trouble::Away, Trouble::Refuses] {
        world.database.set_trouble(trouble);
        assert!(matches!(ask(&endpoint, "create_backup", backup_args()).await, Err(HandlerError::Retry(_))));
    }
    world.database.set_trouble(Trouble::None);
    world.store.be_away(true);
    assert!(matches!(ask(&endpoint, "create_backup", backup_args()).await, Err(HandlerError::Retry(_))));
    world.store.be_away(false);
    assert_eq!(world.journal.take(), [""; 0]);
    assert_eq!(ask(&endpoint, "create_backup", backup_args()).await, Ok(Value::Null));
}
