//! What the endpoint takes, what it refuses, and what it answers.

use job::spec::{Hash, OnFault, Verify};
use job::{DataService as _, Endpoint as Tree, Scheduling, Sensitive, StateName};
use manila::Migration;
use oslo::messaging::{Handler as _, HandlerError};
use serde_json::{Value, json};

use crate::fake::{
    DEST, Manner, PROJECT, SHARE, SOURCE, Script, Trouble, World, ask, failure, instance, request, start_args, state_of,
};

/// The arguments of a `migration_start` with some replaced.
fn args_with(change: Value) -> Value {
    let mut args = start_args();
    let Value::Object(change) = change else { panic!("an object") };
    args.as_object_mut().expect("an object").extend(change);
    args
}

fn command(tree: &Tree) -> (&str, &str, Option<&str>) {
    let Tree::Command { mount, unmount, options } = tree else { panic!("{tree:?}") };
    let unmount = unmount.as_ref().expect("is given").expose();
    (mount.expose(), unmount, options.as_ref().map(Sensitive::expose))
}

const MISSING_SHARE: &str = "00000000-0000-4000-8000-000000000009";

#[tokio::test(start_paused = true)]
async fn a_migration_becomes_a_job() {
    let world = World::new();
    let jobs = world.jobs().await;
    assert_eq!(ask(&world.endpoint(&jobs), "migration_start", start_args()).await, Ok(Value::Null));
    let job = world.only_job();
    assert_eq!(job.spec.name.as_deref(), Some("share 5a5e0000-0000-4000-8000-000000000001"));
    assert_eq!((job.origin.requester.as_str(), job.origin.request_id.as_deref()), ("manila", Some("req-1")));
    let source = ("mount -vt nfs %(options)s 11.0.0.11:/from %(path)s", "umount -v %(path)s", Some("-o vers=4.1"));
    assert_eq!(command(&job.spec.source), source);
    assert_eq!(command(&job.spec.dest).0, "mount -vt nfs %(options)s 11.0.0.12:/to %(path)s");
    let options = &job.spec.options;
    assert_eq!((&options.ignore[..], options.on_fault), (&["lost+found".to_owned()][..], OnFault::Stop));
    assert_eq!((options.verify, options.hash), (None, Hash::Xxh3));
    let migration = Migration::of(&job).expect("is Manila's");
    assert_eq!((migration.source_instance_id.as_str(), migration.dest_instance_id.as_str()), (SOURCE, DEST));
    assert_eq!(migration.source_access, [("ip".to_owned(), vec!["nfs".to_owned()])].into());
    // What is stored for the job's life has neither the token nor the commands.
    let stored = serde_json::to_string(&job.origin.on_behalf).expect("encodes");
    assert!(!stored.contains("T0K3N") && !stored.contains("mount"), "{stored}");
    let key = &world.store.keys()[0];
    assert_eq!(key.key, "0123456789abcdef0123456789abcdef");
    assert!(!key.fingerprint.contains("mount"), "{key:?}");
}

#[tokio::test(start_paused = true)]
async fn hashes_are_checked_where_the_configuration_says_so() {
    let mut world = World::new();
    world.settings.check_hash = true;
    let jobs = world.jobs().await;
    ask(&world.endpoint(&jobs), "migration_start", start_args()).await.expect("is taken");
    let options = world.only_job().spec.options.clone();
    assert_eq!((options.verify, options.hash), (Some(Verify::Content), Hash::Sha256));
}

/// Mount commands as the template of a job has them, from a back end's and the configured options.
#[tokio::test(start_paused = true)]
async fn commands_mean_the_same_as_upstream_makes_of_them() {
    let cases = [
        ("mount -t nfs %(options)s h:/a %(path)s", "", "mount -t nfs h:/a %(path)s", None),
        ("mount %(options)s h:/a %(path)s", " -o  a,b ", "mount %(options)s h:/a %(path)s", Some("-o a,b")),
        ("mount\t-t  nfs\nh:/a %(path)s", "", "mount -t nfs h:/a %(path)s", None),
        ("mount h:/it's %(path)s", "", r#"mount 'h:/it'"'"'s' %(path)s"#, None),
        (r"mount #x h:/b\ c %(path)s", "", r"mount '#x' 'h:/b\' c %(path)s", None),
        ("mount x=%(options)s, h:/100%% %(path)s", "", "mount x=, h:/100%% %(path)s", None),
    ];
    for (mount, options, expected, expected_options) in cases {
        let mut world = World::new();
        world.settings.data_node_mount_options = [("nfs".to_owned(), options.to_owned())].into();
        let jobs = world.jobs().await;
        let info = json!({"mount": mount, "unmount": "umount %(path)s"});
        let answer =
            ask(&world.endpoint(&jobs), "migration_start", args_with(json!({"connection_info_src": info}))).await;
        assert_eq!(answer, Ok(Value::Null), "{mount}");
        let job = world.only_job();
        let (found, _, found_options) = command(&job.spec.source);
        assert_eq!((found, found_options), (expected, expected_options), "{mount}");
    }
}

#[tokio::test(start_paused = true)]
async fn ignored_names_may_be_missing_or_odd() {
    for (list, expected) in
        [(json!(null), vec![]), (json!([]), vec![]), (json!(["a", "b/c", "", "..", "*.x"]), vec!["a", "*.x"])]
    {
        let world = World::new();
        let jobs = world.jobs().await;
        ask(&world.endpoint(&jobs), "migration_start", args_with(json!({"ignore_list": list})))
            .await
            .expect("is taken");
        assert_eq!(world.only_job().spec.options.ignore, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_carried_out_ends_the_migration() {
    let info = |mount: Value, more: Value| {
        let mut info = json!({"mount": mount, "unmount": "umount %(path)s"});
        info.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"connection_info_dest": info})
    };
    for change in [
        json!({"connection_info_src": null}),
        json!({"connection_info_src": {}}),
        json!({"connection_info_src": {"mount": "mount h:/a %(path)s"}}),
        info(json!(5), json!({})),
        info(json!("  "), json!({})),
        info(json!("mount h:/a"), json!({})),
        info(json!("mount h:/a %(path)s"), json!({"access_mapping": ["ip"]})),
        info(json!("mount h:/a %(path)s"), json!({"access_mapping": {"ip": "nfs"}})),
        json!({"ignore_list": "lost+found"}),
        json!({"ignore_list": [5]}),
        json!({"ignore_list": ["a\u{1b}"]}),
    ] {
        let world = World::new();
        let jobs = world.jobs().await;
        let (class, _) = failure(&world.endpoint(&jobs), "migration_start", args_with(change.clone())).await;
        assert_eq!(class, "ShareDataCopyFailed", "{change}");
        let cast = format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool");
        assert_eq!(world.journal.take(), ["task_state data_copying_error", "message", &cast], "{change}");
        assert_eq!(world.store.jobs(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn instances_that_are_not_there_end_the_migration() {
    let cast = format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool");
    let check = async |change: &dyn Fn(&World), expected: &[&str]| {
        let world = World::new();
        change(&world);
        let jobs = world.jobs().await;
        let (class, _) = failure(&world.endpoint(&jobs), "migration_start", start_args()).await;
        assert_eq!(class, "ShareDataCopyFailed");
        assert_eq!(world.journal.take(), expected);
        assert_eq!(world.database.task_state(SHARE).as_deref(), Some("data_copying_error"));
    };
    let remove =
        |id: &'static str| move |world: &World| world.database.with(|tables| drop(tables.instances.remove(id)));
    let unhost = |id: &'static str| {
        move |world: &World| world.database.with(|tables| tables.instances.get_mut(id).expect("is there").host = None)
    };
    let told = ["task_state data_copying_error", "message", &cast];
    check(&remove(DEST), &told).await;
    check(&unhost(DEST), &told).await;
    // Nobody is there to be told.
    check(&remove(SOURCE), &told[..2]).await;
    check(&unhost(SOURCE), &told[..2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_share_that_waits_for_no_copy_is_left_alone() {
    for task_state in
        [None, Some("migration_success"), Some("data_copying_completed"), Some("data_copying_in_progress")]
    {
        let world = World::new();
        world
            .database
            .with(|tables| tables.shares.get_mut(SHARE).expect("is there").task_state = task_state.map(Into::into));
        let jobs = world.jobs().await;
        failure(&world.endpoint(&jobs), "migration_start", start_args()).await;
        assert_eq!(world.journal.take(), [""; 0], "{task_state:?}");
        assert_eq!(world.store.jobs(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_an_earlier_migration_does_not_harm_the_current_one() {
    let world = World::new();
    world.database.with(|tables| {
        tables.instances.remove(DEST);
        tables.instances.insert("newer".into(), instance("newer", "c@gamma#pool", "migrating_to"));
    });
    let jobs = world.jobs().await;
    failure(&world.endpoint(&jobs), "migration_start", start_args()).await;
    assert_eq!((world.journal.take().len(), world.store.jobs().len()), (0, 0));
    assert_eq!(world.database.task_state(SHARE).as_deref(), Some("migration_in_progress"));
}

#[tokio::test(start_paused = true)]
async fn a_share_that_is_not_there_is_not_found() {
    let world = World::new();
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    for share_id in [MISSING_SHARE, "../../etc", "", "a\nb"] {
        let (class, message) = failure(&endpoint, "migration_start", args_with(json!({"share_id": share_id}))).await;
        assert_eq!((class.as_str(), message.as_str()), ("NotFound", "Resource could not be found."), "{share_id}");
    }
    assert_eq!(world.journal.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_finds_its_job() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    // Another message, the same migration.
    let mut again = request("migration_start", &start_args());
    again.unique_id = Some("another".into());
    assert_eq!(endpoint.handle(again).await, Ok(Value::Null));
    let (class, _) =
        failure(&endpoint, "migration_start", args_with(json!({"dest_share_instance_id": "0000-4"}))).await;
    assert_eq!(class, "ShareDataCopyFailed");
    assert_eq!(world.only_job().state.name(), StateName::Working);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_job_of_the_share_is_ended_first() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_in_progress").await;
    // An administrator has reset everything, and migrates the share to elsewhere.
    world.database.with(|tables| {
        tables.shares.get_mut(SHARE).expect("is there").task_state = Some("migration_in_progress".into());
        tables.instances.remove(DEST);
        tables.instances.insert("newer".into(), instance("newer", "c@gamma#pool", "migrating_to"));
    });
    world.journal.take();
    let newer = args_with(json!({"dest_share_instance_id": "newer"}));
    let mut second = request("migration_start", &newer);
    second.unique_id = Some("second".into());
    assert!(matches!(endpoint.handle(second.clone()).await, Err(HandlerError::Retry(_))));
    world.until_told().await;
    let written = world.journal.take();
    assert!(!written.iter().any(|line| line.starts_with("task_state") || line.starts_with("cast")), "{written:?}");
    world.executor.play(Script::Completes);
    assert_eq!(endpoint.handle(second).await, Ok(Value::Null));
    world.until_task_state("data_copying_completed").await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_taken_now_is_not_acknowledged() {
    let world = World::new();
    let jobs = world.jobs_with(Scheduling { queue_max: 0, ..Scheduling::default() }).await;
    let endpoint = world.endpoint(&jobs);
    let check = async |what: &str| {
        let answer = ask(&endpoint, "migration_start", start_args()).await;
        assert!(matches!(answer, Err(HandlerError::Retry(_))), "{what}: {answer:?}");
        assert_eq!(world.journal.take(), [""; 0], "{what}");
    };
    check("the queue is full").await;
    jobs.reload(Scheduling::default(), job::Settings::new(job::NodeName::new("x"), "/x").retention);
    for trouble in [Trouble::Away, Trouble::Refuses] {
        world.database.set_trouble(trouble);
        check("the database").await;
    }
    world.database.set_trouble(Trouble::None);
    world.store.be_away(true);
    check("the job store").await;
    world.store.be_away(false);
    assert_eq!(ask(&endpoint, "migration_start", start_args()).await, Ok(Value::Null));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_was_cut_short_is_finished_when_the_request_comes_again() {
    let world = World::new();
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    let bad = args_with(json!({"connection_info_src": null}));
    world.share_manager.behave(Manner::Unreachable);
    let answer = ask(&endpoint, "migration_start", bad.clone()).await;
    assert!(matches!(answer, Err(HandlerError::Retry(_))), "{answer:?}");
    assert_eq!(world.journal.take(), ["task_state data_copying_error", "message"]);
    world.share_manager.behave(Manner::Prompt);
    failure(&endpoint, "migration_start", bad).await;
    assert_eq!(world.journal.take(), [format!("cast migration_complete {SOURCE} {DEST} to a@alpha#pool")]);
}

#[tokio::test(start_paused = true)]
async fn wrong_arguments_are_refused_in_pythons_words() {
    let world = World::new();
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    let check = async |method: &str, args: Value, expected: &str| {
        let (class, message) = failure(&endpoint, method, args).await;
        assert_eq!((class.as_str(), message.as_str()), ("TypeError", expected));
    };
    check(
        "data_copy_cancel",
        json!({}),
        "DataManager.data_copy_cancel() missing 1 required positional argument: 'share_id'",
    )
    .await;
    check(
        "data_copy_cancel",
        json!({"share_id": SHARE, "more": 1}),
        "DataManager.data_copy_cancel() got an unexpected keyword argument 'more'",
    )
    .await;
    check(
        "migration_start",
        json!({"share_id": SHARE, "connection_info_src": {}, "connection_info_dest": {}, "ignore_list": []}),
        "DataManager.migration_start() missing 2 required positional arguments: 'share_instance_id' and \
         'dest_share_instance_id'",
    )
    .await;
    check("service_version", json!({"x": 1}), "Manager.service_version() got an unexpected keyword argument 'x'").await;
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_served() {
    let world = World::new();
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    for method in ["service_config", "init_host", "is_service_ready", "create_backup_continue", "x"] {
        let (class, message) = failure(&endpoint, method, json!({"backup": {"id": "b"}})).await;
        assert_eq!((class, message), ("NoSuchMethod".into(), format!("Endpoint does not support RPC method {method}")));
    }
    let version = ask(&endpoint, "service_version", json!({})).await.expect("is answered");
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(world.journal.take(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_from_the_first_moment_to_the_end() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs_with(Scheduling { jobs_max: 0, ..Scheduling::default() }).await;
    let endpoint = world.endpoint(&jobs);
    let share_id = json!({"share_id": SHARE});
    let progress = async || ask(&endpoint, "data_copy_get_progress", share_id.clone()).await;
    let refused = || {
        let reason = format!("Migration of share {SHARE} data copy progress cannot be obtained at this moment.");
        let failure =
            oslo::messaging::Failure::new("manila.exception", "InvalidShare", format!("Invalid share: {reason}"));
        Err(HandlerError::Failure(failure.kwarg("reason", reason).kwarg("code", 400)))
    };
    assert_eq!(progress().await, refused());
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    assert_eq!(progress().await, Ok(json!({"total_progress": 0})));
    jobs.reload(Scheduling::default(), job::Settings::new(job::NodeName::new("x"), "/x").retention);
    world.until_task_state("data_copying_in_progress").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let answer = progress().await.expect("is answered");
    assert_eq!((&answer["total_progress"], &answer["current_file_progress"]), (&json!(50), &json!(48.828)));
    assert!(answer["total_progress"].is_u64(), "an integer");
    assert_eq!(answer["current_file_path"], json!(format!("/tmp/{DEST}/d1/f 2")));
    // A store that is away gives no answer either; nobody waits for it.
    world.store.be_away(true);
    assert_eq!(progress().await, refused());
    world.store.be_away(false);
    assert_eq!(ask(&endpoint, "data_copy_cancel", share_id.clone()).await, Ok(Value::Null));
    world.until_task_state("data_copying_cancelled").await;
    assert_eq!(progress().await, refused());
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_is_taken_until_the_end_is_decided() {
    let world = World::new();
    let jobs = world.jobs().await;
    let endpoint = world.endpoint(&jobs);
    let args = json!({"share_id": SHARE});
    let expected =
        format!("Invalid share: Data copy for migration of share {SHARE} cannot be cancelled at this moment.");
    let (class, message) = failure(&endpoint, "data_copy_cancel", args.clone()).await;
    assert_eq!((class.as_str(), &message), ("InvalidShare", &expected));
    ask(&endpoint, "migration_start", start_args()).await.expect("is taken");
    world.until_task_state("data_copying_completed").await;
    let (_, message) = failure(&endpoint, "data_copy_cancel", args.clone()).await;
    assert_eq!(message, expected);
    assert_eq!(state_of(&jobs, &world.only_job()).await, StateName::Completed);
    // Ids that can be none are told as they came.
    let (class, message) = failure(&endpoint, "data_copy_cancel", json!({"share_id": "a/b"})).await;
    assert_eq!(class, "InvalidShare");
    assert!(message.contains("share a/b "), "{message}");
}

#[tokio::test(start_paused = true)]
async fn jobs_of_others_are_not_manilas_business() {
    let world = World::new();
    world.executor.play(Script::Endless);
    let jobs = world.jobs().await;
    let mut spec = job::JobSpec::new(
        job::Kind::Copy,
        Tree::Directory { path: "/a".into() },
        Tree::Directory { path: "/b".into() },
    );
    spec.name = Some(Migration::job_name(SHARE));
    let origin = job::Origin { requester: "manila".into(), request_id: None, on_behalf: None };
    jobs.submit(spec, origin, None).await.expect("is taken");
    world.until("works", || world.only_job().state.name() == StateName::Working).await;
    failure(&world.endpoint(&jobs), "data_copy_cancel", json!({"share_id": SHARE})).await;
    let written = world.journal.take();
    assert!(!written.iter().any(|line| line.starts_with("task_state")), "{written:?}");
    assert_eq!(world.database.with(|tables| tables.shares[SHARE].project_id.clone()).as_deref(), Some(PROJECT));
}
