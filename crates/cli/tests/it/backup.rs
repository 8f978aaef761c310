//! `backup` as a user sees it, in both formats, with restic itself as the judge of what was written.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Outcome, Sandbox, entries, wait_for};

/// Opens the repository `repo` of a sandbox.
const RESTIC: &str = "-r repo --password-file key";
const DIRECTORY: &str = "-r export --format directory";

fn sandbox(name: &str) -> Sandbox {
    let sandbox = Sandbox::new(name);
    sandbox.small_tree();
    sandbox.write("key", b"geheim\n");
    fs::set_permissions(sandbox.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox
}

fn summary(outcome: &Outcome) -> Value {
    let last = outcome.events().pop().unwrap_or_else(|| panic!("{outcome:#?}"));
    assert_eq!(last["event"], "summary", "{outcome:#?}");
    last
}

fn listed(sandbox: &Sandbox, repository: &str) -> Vec<Value> {
    sandbox.run(&format!("backup list {repository} --json")).expect(0).events()
}

/// Debian's restic on the same repository.
fn restic(sandbox: &Sandbox, line: &str) -> Outcome {
    let mut command = Command::new("restic");
    command
        .args(line.split_whitespace())
        .args(["--no-cache", "--repo"])
        .arg(sandbox.path("repo"))
        .env("RESTIC_PASSWORD", "geheim")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Outcome::of(command)
}

#[test]
fn a_tree_goes_into_a_restic_repository_and_comes_back() {
    let sandbox = sandbox("backup-restic");
    let outcome =
        sandbox.run(&format!("backup create {RESTIC} --init --id b1 --share home --tag weekly source")).expect(0);
    assert!(outcome.stderr.starts_with("done: copied ") && outcome.stderr.contains("backup "), "{outcome:#?}");
    assert_eq!(outcome.stdout, "");
    let list = sandbox.run(&format!("backup list {RESTIC}")).expect(0).stdout;
    assert!(list.starts_with("SNAPSHOT") && list.contains("b1") && list.contains("home"), "{list}");
    for wanted in ["latest", "b1", &listed(&sandbox, RESTIC)[0]["id"].as_str().unwrap()[..10]] {
        let outcome = sandbox.run(&format!("backup restore {RESTIC} {wanted} to-{wanted} --verify content")).expect(0);
        assert!(outcome.stderr.contains("no differences"), "{outcome:#?}");
        assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path(format!("to-{wanted}"))), "{wanted}");
    }
    let shown = sandbox.run(&format!("backup show {RESTIC} b1")).expect(0).stdout;
    for words in ["complete", "weekly", "manila-data", "entries", "/source"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    sandbox.run(&format!("backup check {RESTIC} --read-data 100")).expect(0);
}

#[test]
fn restic_itself_checks_lists_and_restores_what_was_written() {
    let sandbox = sandbox("backup-judge");
    sandbox.run(&format!("backup create {RESTIC} --init --tag t source")).expect(0);
    restic(&sandbox, "check --read-data").expect(0);
    let snapshots = restic(&sandbox, "snapshots --json").expect(0).stdout;
    let snapshots: Value = serde_json::from_str(&snapshots).unwrap();
    assert_eq!(snapshots[0]["tags"], serde_json::json!(["t"]));
    let path = sandbox.path("source").canonicalize().unwrap();
    assert_eq!(snapshots[0]["paths"], serde_json::json!([path.to_str().unwrap()]));
    restic(&sandbox, &format!("restore latest --target {}", sandbox.path("out").display())).expect(0);
    let restored = sandbox.path("out").join(path.strip_prefix("/").unwrap());
    assert_eq!(entries(&path), entries(&restored));
}

#[test]
fn what_restic_wrote_is_listed_restored_and_built_upon() {
    let sandbox = sandbox("backup-of-restic");
    restic(&sandbox, "init").expect(0);
    let path = sandbox.path("source").canonicalize().unwrap();
    restic(&sandbox, &format!("backup {}", path.display())).expect(0);
    assert_eq!(listed(&sandbox, RESTIC).len(), 1);
    sandbox.run(&format!("backup restore {RESTIC} latest dest")).expect(0);
    assert_eq!(entries(&path), entries(&sandbox.path("dest")));
    let made = summary(&sandbox.run(&format!("backup create {RESTIC} source --json --no-progress")).expect(0));
    assert_eq!(made["counts"]["opened_files"], 0, "the host and the path are those of restic's: {made}");
}

#[test]
fn an_unchanged_tree_is_not_read_again() {
    let sandbox = sandbox("backup-again");
    let create = |options: &str| {
        summary(&sandbox.run(&format!("backup create {RESTIC} source --json --no-progress {options}")).expect(0))
    };
    let first = create("--init --share home");
    assert_ne!(first["counts"]["opened_files"], 0);
    let again = create("--share home");
    assert_eq!((&again["counts"]["opened_files"], &again["exit_code"]), (&0.into(), &0.into()), "{again}");
    assert_ne!(create("--share home --read-all")["counts"]["opened_files"], 0);
    assert_eq!((&again["command"], &again["backup"]["was_there"]), (&"backup create".into(), &false.into()));
    assert_eq!(listed(&sandbox, &format!("{RESTIC} --share home")).len(), 3);
    assert!(listed(&sandbox, &format!("{RESTIC} --share other")).is_empty());
}

#[test]
fn a_tree_becomes_a_directory_and_comes_back() {
    let sandbox = sandbox("backup-directory");
    sandbox.run(&format!("backup create {DIRECTORY} --init --id b1 source --report made.jsonl")).expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("export/b1")));
    assert!(fs::read_to_string(sandbox.path("made.jsonl")).unwrap().contains("dir/sub/deep"));
    sandbox.run(&format!("backup restore {DIRECTORY} b1 dest --verify content")).expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    let backups = listed(&sandbox, DIRECTORY);
    assert_eq!((&backups[0]["id"], &backups[0]["state"]), (&"b1".into(), &"complete".into()));
    let show = sandbox.run(&format!("backup show {DIRECTORY} b1")).expect(0).stdout;
    assert!(show.starts_with("backup b1: complete") && show.contains("manifest"), "{show}");
    sandbox.run(&format!("backup check {DIRECTORY} --read-data 100")).expect(0);
    sandbox.write("export/b1/dir/sub/deep", &vec![8; 70_000]);
    let outcome = sandbox.run(&format!("backup check {DIRECTORY} b1 --read-data 100")).expect(3);
    assert!(outcome.stderr.contains("dir/sub/deep"), "{outcome:#?}");
    let outcome = sandbox.run(&format!("backup create {DIRECTORY} --id b1 source")).expect(1);
    assert!(outcome.stderr.contains("there is a backup `b1` already"), "{outcome:#?}");
    sandbox.run(&format!("backup delete {DIRECTORY} b1")).expect(0);
    assert_eq!(fs::read_dir(sandbox.path("export")).unwrap().count(), 0);
    sandbox.run(&format!("backup delete {DIRECTORY} b1")).expect(1);
}

#[test]
fn a_restore_leaves_what_is_right_and_cleans_when_asked() {
    let sandbox = sandbox("backup-clean");
    sandbox.run(&format!("backup create {RESTIC} --init source")).expect(0);
    sandbox.write("source/dir/late", b"late");
    sandbox.write("source/file", b"changed");
    let before = entries(&sandbox.path("source"));
    let list = sandbox.run(&format!("backup restore {RESTIC} latest source --clean --dry-run")).expect(0).stdout;
    assert!(list.contains("deleted") && list.contains("dir/late"), "{list}");
    assert_eq!(entries(&sandbox.path("source")), before, "a dry run changes nothing");
    sandbox.run(&format!("backup restore {RESTIC} latest source --path file")).expect(0);
    assert_eq!(fs::read(sandbox.path("source/file")).unwrap(), b"content");
    assert!(sandbox.path("source/dir/late").exists());
    let outcome = sandbox.run(&format!("backup restore {RESTIC} latest source --clean --max-delete 0")).expect(3);
    assert!(sandbox.path("source/dir/late").exists(), "{outcome:#?}");
    let done =
        summary(&sandbox.run(&format!("backup restore {RESTIC} latest source --clean --json --no-progress")).expect(0));
    assert_eq!((&done["command"], &done["actions"]["deleted"]), (&"backup restore".into(), &1.into()));
    assert!(!sandbox.path("source/dir/late").exists());
}

#[test]
fn single_paths_are_restored_with_what_is_below_them() {
    let sandbox = sandbox("backup-paths");
    sandbox.run(&format!("backup create {RESTIC} --init source")).expect(0);
    sandbox.run(&format!("backup restore {RESTIC} latest dest --path dir/sub --path /empty")).expect(0);
    let names: Vec<_> =
        entries(&sandbox.path("dest")).into_keys().map(|name| String::from_utf8(name).unwrap()).collect();
    assert_eq!(names, ["", "dir", "dir/sub", "dir/sub/deep", "empty"]);
}

#[test]
fn deleted_and_forgotten_backups_are_gone_and_pruned() {
    let sandbox = sandbox("backup-prune");
    for share in ["a", "b"] {
        for number in 0..3 {
            sandbox.write("source/large", format!("{share}{number}").repeat(200_000).as_bytes());
            let init = if number == 0 { "--init" } else { "" };
            sandbox
                .run(&format!("backup create {RESTIC} {init} --share {share} --id {share}{number} source"))
                .expect(0);
        }
    }
    let outcome = sandbox.run(&format!("backup delete {RESTIC} a0")).expect(0);
    assert!(outcome.stderr.contains("1 removed") && outcome.stderr.contains("backup prune"), "{outcome:#?}");
    let outcome = sandbox.run(&format!("backup delete {RESTIC} a1 nothing")).expect(1);
    assert!(outcome.stderr.contains("no snapshot `nothing`") && outcome.stderr.contains("backup list"), "{outcome:#?}");
    assert_eq!(listed(&sandbox, RESTIC).len(), 5, "one word too many removes nothing");
    let outcome = sandbox.run(&format!("backup prune {RESTIC} --keep-last 1 --dry-run")).expect(0);
    assert_eq!(outcome.stdout.lines().filter(|line| line.starts_with("remove")).count(), 3, "{outcome:#?}");
    assert_eq!(listed(&sandbox, RESTIC).len(), 5);
    let outcome =
        sandbox.run(&format!("backup prune {RESTIC} --keep-last 1 --instant-delete --max-unused 0")).expect(0);
    assert!(outcome.stderr.contains("3 removed, 2 kept"), "{outcome:#?}");
    let left: Vec<_> =
        listed(&sandbox, RESTIC).iter().map(|backup| backup["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left, ["a2", "b2"], "rules count each share by itself");
    sandbox.run(&format!("backup restore {RESTIC} a2 dest")).expect(0);
    assert_eq!(fs::read(sandbox.path("dest/large")).unwrap(), b"a2".repeat(200_000));
    restic(&sandbox, "check --read-data").expect(0);
    // Without a rule every backup stays.
    sandbox.run(&format!("backup prune {RESTIC}")).expect(0);
    assert_eq!(listed(&sandbox, RESTIC).len(), 2);
}

#[test]
fn damage_is_found_and_never_restored_silently() {
    let sandbox = sandbox("backup-damage");
    sandbox.run(&format!("backup create {RESTIC} --init source")).expect(0);
    for prefix in fs::read_dir(sandbox.path("repo/data")).unwrap() {
        for pack in fs::read_dir(prefix.unwrap().path()).unwrap() {
            let pack = pack.unwrap().path();
            let mut bytes = fs::read(&pack).unwrap();
            bytes[20] ^= 1;
            fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
            fs::write(&pack, bytes).unwrap();
        }
    }
    let outcome = sandbox.run(&format!("backup check {RESTIC} --read-data 100")).expect(3);
    assert!(outcome.stderr.contains("fault"), "{outcome:#?}");
    let outcome = sandbox.run(&format!("backup restore {RESTIC} latest dest"));
    assert!(matches!(outcome.code(), Some(1 | 3)), "{outcome:#?}");
}

#[test]
fn entries_that_cannot_be_read_are_faults_and_filters_leave_out() {
    let sandbox = sandbox("backup-filter");
    sandbox.write("source/dir/cache/x", b"x");
    sandbox.run(&format!("backup create {RESTIC} --init --ignore cache --exclude *.tmp source")).expect(0);
    sandbox.run(&format!("backup restore {RESTIC} latest dest")).expect(0);
    assert!(sandbox.path("dest/dir/sub/deep").exists() && !sandbox.path("dest/dir/cache").exists());
}

#[test]
fn the_environment_has_restics_names() {
    let sandbox = sandbox("backup-environment");
    let run = |line: &str, environment: &[(&str, &str)]| {
        let mut command = sandbox.command(line.split_whitespace());
        command.envs(environment.iter().copied());
        Outcome::of(command)
    };
    let (place, file) = (("RESTIC_REPOSITORY", "repo"), ("RESTIC_PASSWORD_FILE", "key"));
    run("backup create --init source", &[place, file]).expect(0);
    run("backup list", &[place, ("RESTIC_PASSWORD", "geheim")]).expect(0);
    run("backup list", &[place, ("RESTIC_PASSWORD_COMMAND", "/bin/cat key")]).expect(0);
    sandbox.write("place", b"repo\n");
    run("backup list", &[("RESTIC_REPOSITORY_FILE", "place"), file]).expect(0);
    run("backup list --repository nowhere", &[place, file]).expect(1);
    run("backup list --password-command /bin/echo", &[place, file]).expect(1);
}

#[test]
fn errors_say_what_to_do_and_show_no_secret() {
    let sandbox = sandbox("backup-errors");
    sandbox.write("wrong", b"falsch\n");
    sandbox.run(&format!("backup create {RESTIC} --init source")).expect(0);
    for (line, code, words) in [
        ("backup list -r nowhere --password-file key", 1, "--init"),
        ("backup list -r repo --password-file wrong", 1, "the password opens no key"),
        ("backup list -r repo --password-file missing", 1, "cannot read `missing`"),
        ("backup list -r repo", 2, "--password-file"),
        ("backup list --password-file key", 2, "RESTIC_REPOSITORY"),
        ("backup list -r sftp:u@h:/x --password-file key", 2, "cannot be used"),
        ("backup list -r rest:https://u:geheim@h/x --password-file key", 2, "--repository-file"),
        ("backup list -r nowhere --format directory", 1, "cannot open the export"),
        ("backup create -r repo --password-file key nowhere", 1, "cannot open PATH `nowhere`"),
        ("backup create -r repo --password-file key .", 2, "the repository `repo` lies inside PATH"),
        ("backup create -r repo --password-file key source --tag a,b", 2, "cannot be a tag"),
        ("backup create -r source --format directory source", 2, "--id"),
        ("backup create -r export --init --format directory --id .x source", 2, "leading dot"),
        ("backup restore -r repo --password-file key latest .", 2, "lies inside DEST"),
        ("backup restore -r repo --password-file key latest repo/x", 2, "lies inside the repository"),
        ("backup restore -r repo --password-file key latest dest --path ../x", 2, "leads out of the backup"),
        ("backup restore -r repo --password-file key nothing dest", 1, "no snapshot `nothing`"),
        ("backup show -r repo --password-file key 0123", 1, "no snapshot `0123`"),
        ("backup check -r repo --password-file key x", 2, "as a whole"),
        ("backup check -r repo --password-file key --read-data 101", 2, "101"),
        ("backup prune -r repo --password-file key --keep-last 0", 2, "0"),
        ("backup prune -r source --format directory --keep-last 1", 2, "backup delete"),
        ("backup delete -r repo --password-file key", 2, "SNAPSHOT"),
        ("backup", 2, "Usage"),
    ] {
        let outcome = sandbox.run(line).expect(code);
        assert!(outcome.stderr.contains(words), "{line}: {outcome:#?}");
        assert!(!outcome.stderr.contains("geheim"), "{line}: {outcome:#?}");
    }
    assert!(!sandbox.path("dest").exists() && !sandbox.path("nowhere").exists(), "nothing is left behind");
    let outcome = sandbox.run("backup list -r repo --password-file wrong --json").expect(1);
    let error = outcome.events().remove(0);
    assert_eq!((&error["event"], &error["exit_code"]), (&"error".into(), &1.into()));
    fs::set_permissions(sandbox.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(sandbox.run(&format!("backup list {RESTIC}")).expect(0).stderr.contains("chmod 0600"));
}

#[test]
fn programs_read_events_of_every_command() {
    let sandbox = sandbox("backup-json");
    let check = |line: &str, command: &str| {
        let outcome = sandbox.run(&format!("{line} --json")).expect(0);
        assert_eq!(outcome.stderr, "", "{line}");
        let last = summary(&outcome);
        assert_eq!((&last["command"], &last["exit_code"]), (&command.into(), &0.into()), "{line}");
        assert!(outcome.events().iter().all(|event| event["schema_version"] == 1), "{line}");
    };
    check(&format!("backup create {RESTIC} --init --id x source"), "backup create");
    check(&format!("backup restore {RESTIC} x dest"), "backup restore");
    check(&format!("backup check {RESTIC}"), "backup check");
    check(&format!("backup prune {RESTIC} --keep-last 1"), "backup prune");
    check(&format!("backup delete {RESTIC} x"), "backup delete");
    assert_eq!(listed(&sandbox, RESTIC).len(), 0);
}

/// A backup that would take half a minute, stopped once it has begun to write at `place`.
fn stopped_in_the_middle(sandbox: &Sandbox, options: &str, place: &str) -> Outcome {
    let large: Vec<u8> = (0..30_000_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    sandbox.write("source/large", &large);
    let line = format!("backup create {options} source --json --bandwidth-limit 1M");
    let child = sandbox.command(line.split_whitespace()).spawn().unwrap();
    wait_for("the backup to begin", Duration::from_mins(1), || sandbox.path(place).exists());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    Outcome::from(child.wait_with_output().unwrap())
}

#[test]
fn a_backup_that_was_stopped_is_none_and_the_same_command_completes_it() {
    let sandbox = sandbox("backup-signal");
    for (repository, options, place) in [
        (RESTIC, format!("{RESTIC} --init"), "repo/config"),
        (DIRECTORY, format!("{DIRECTORY} --init --id b1"), "export/.b1.partial"),
    ] {
        let outcome = stopped_in_the_middle(&sandbox, &options, place);
        assert_eq!(outcome.status.signal(), Some(Signal::INT.as_raw()), "{outcome:#?}");
        let last = summary(&outcome);
        assert_eq!((&last["ending"], &last["exit_code"]), (&"stopped".into(), &130.into()), "{last}");
        assert_eq!(last.get("backup"), None, "{last}");
        let complete = listed(&sandbox, repository).into_iter().filter(|backup| backup["state"] == "complete").count();
        assert_eq!(complete, 0, "{repository}");
        sandbox.run(&format!("backup create {options} source")).expect(0);
        let wanted = listed(&sandbox, repository)[0]["id"].as_str().unwrap().to_owned();
        sandbox.run(&format!("backup restore {repository} {wanted} dest-{}", place.len())).expect(0);
        assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path(format!("dest-{}", place.len()))));
    }
}

#[test]
fn what_a_deletion_left_is_pruned() {
    let sandbox = sandbox("backup-leftover");
    sandbox.run(&format!("backup create {DIRECTORY} --init --id b1 source")).expect(0);
    fs::rename(sandbox.path("export/b1"), sandbox.path("export/.b1.deleting")).unwrap();
    assert_eq!(listed(&sandbox, DIRECTORY)[0]["state"], "being-deleted");
    let outcome = sandbox.run(&format!("backup restore {DIRECTORY} b1 dest")).expect(1);
    assert!(outcome.stderr.contains("is being deleted"), "{outcome:#?}");
    assert!(!sandbox.path("dest").exists());
    let outcome = sandbox.run(&format!("backup prune {DIRECTORY} --dry-run")).expect(0);
    assert!(outcome.stderr.contains("would remove what is left of `b1`"), "{outcome:#?}");
    sandbox.run(&format!("backup prune {DIRECTORY}")).expect(0);
    assert_eq!(fs::read_dir(sandbox.path("export")).unwrap().count(), 0);
}

/// A server of restic's REST protocol, ended with the test.
struct RestServer(std::process::Child);

impl RestServer {
    fn start(sandbox: &Sandbox) -> (Self, u16) {
        // Free a moment ago; whoever takes it meanwhile makes the test fail, and not hang.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new("rclone");
        command.args([
            "serve",
            "restic",
            "--config",
            "/dev/null",
            "--user",
            "u",
            "--addr",
            &format!("127.0.0.1:{port}"),
        ]);
        let child =
            command.arg(sandbox.path("served")).env("RCLONE_PASS", "geheim").stdin(Stdio::null()).spawn().unwrap();
        let server = Self(child);
        wait_for("the server to answer", Duration::from_mins(1), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        (server, port)
    }
}

impl Drop for RestServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rest_server_keeps_a_repository() {
    let sandbox = sandbox("backup-rest");
    let (_server, port) = RestServer::start(&sandbox);
    let place = format!("-r rest:http://127.0.0.1:{port}/home --password-file key");
    let run = |line: &str| {
        let mut command = sandbox.command(line.split_whitespace());
        command.env("RESTIC_REST_USERNAME", "u").env("RESTIC_REST_PASSWORD", "geheim");
        Outcome::of(command)
    };
    run(&format!("backup create {place} --init --share home source")).expect(0);
    assert!(run(&format!("backup list {place}")).expect(0).stdout.contains("home"));
    run(&format!("backup restore {place} latest dest")).expect(0);
    assert_eq!(entries(&sandbox.path("source")), entries(&sandbox.path("dest")));
    run(&format!("backup check {place} --read-data 100")).expect(0);
    run(&format!("backup prune {place} --keep-last 1")).expect(0);
    let outcome = sandbox.run(&format!("backup list {place}")).expect(1);
    assert!(!outcome.stderr.contains("geheim"), "{outcome:#?}");
    let key = |name: &str| sandbox.path(name).display().to_string();
    sandbox.write("login", b"u:geheim\n");
    fs::set_permissions(sandbox.path("login"), fs::Permissions::from_mode(0o600)).unwrap();
    let conf = format!(
        "[repository:far]\nlocation = rest:http://127.0.0.1:{port}/home\npassword_file = {}\ncredentials_file = {}\n",
        key("key"),
        key("login")
    );
    sandbox.write("conf", conf.as_bytes());
    let found = sandbox.run("doctor --config-file conf --state-path state-dir").stdout;
    assert!(found.contains("`far`: rest:http://u:***@127.0.0.1") && found.contains("(restic)"), "{found}");
}
