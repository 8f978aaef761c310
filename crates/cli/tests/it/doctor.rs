//! `doctor`: what it finds, and how it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::Sandbox;

const LINE: &str = "doctor --config-file conf --state-path state-dir -o api.socket=/nowhere/api.sock";

#[test]
fn each_line_has_a_verdict_and_what_is_missing_has_advice() {
    let sandbox = Sandbox::new("doctor");
    sandbox.write("conf", b"");
    let outcome = sandbox.run(LINE);
    for name in ["kernel", "openat2", "landlock", "seccomp", "capabilities", "nfs", "state directory", "job store"] {
        assert!(outcome.stdout.contains(name), "{name}: {outcome:#?}");
    }
    assert!(outcome.stdout.contains("warn  socket"), "{outcome:#?}");
    assert!(outcome.stdout.contains("RuntimeDirectory"), "{outcome:#?}");
    assert!(!sandbox.path("state-dir").exists(), "it changes nothing");
}

#[test]
fn what_keeps_the_service_from_working_ends_with_1() {
    let sandbox = Sandbox::new("doctor-fail");
    sandbox.write("conf", b"");
    fs::create_dir(sandbox.path("state-dir")).unwrap();
    fs::set_permissions(sandbox.path("state-dir"), fs::Permissions::from_mode(0o755)).unwrap();
    let outcome = sandbox.run(LINE).expect(1);
    assert!(outcome.stdout.contains("fail  state directory"), "{outcome:#?}");
    assert!(outcome.stdout.contains("chmod 0700"), "{outcome:#?}");
    let outcome = sandbox.run(&format!("{LINE} --json")).expect(1);
    let findings = &outcome.events()[0];
    assert_eq!(findings["verdict"], "fail");
    let check = findings["checks"].as_array().unwrap().iter().find(|check| check["name"] == "state directory").unwrap();
    assert_eq!(check["verdict"], "fail");
    assert!(check["advice"].as_str().unwrap().contains("chmod"));
}

#[test]
fn tls_tokens_and_a_foreign_store_are_looked_at() {
    let sandbox = Sandbox::new("doctor-api");
    sandbox.write("conf", b"[api]\nlisten = 0.0.0.0:1\n");
    sandbox.write("no-store", b"this is no database");
    let store = format!("-o job_store={}", sandbox.path("no-store").display());
    let outcome = sandbox.run(&format!("{LINE} {store}")).expect(1);
    for line in ["fail  tls", "fail  tokens", "fail  job store", "token create"] {
        assert!(outcome.stdout.contains(line), "{line}: {outcome:#?}");
    }
}

#[test]
fn repositories_are_opened_and_their_files_are_to_be_private() {
    let sandbox = Sandbox::new("doctor-repository");
    let path = |name: &str| sandbox.path(name).display().to_string();
    sandbox.write("key", b"geheim\n");
    sandbox.write("source/file", b"content");
    fs::set_permissions(sandbox.path("key"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.run("backup create -r repo -p key --init source").expect(0);
    let section = |name: &str, place: &str, key: &str| {
        format!("[repository:{name}]\nlocation = {}\npassword_file = {}\n", path(place), path(key))
    };
    let conf = [section("good", "repo", "key"), section("new", "none", "key"), section("keyless", "repo", "missing")];
    sandbox.write("conf", conf.concat().as_bytes());
    let found = sandbox.run(LINE).expect(1).stdout;
    for line in ["`good`: ", "is private", "there is no repository at", "cannot be read: No such file"] {
        assert!(found.contains(line), "{line}: {found}");
    }
    sandbox.write("other", b"falsch\n");
    fs::set_permissions(sandbox.path("other"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(sandbox.path("key"), fs::Permissions::from_mode(0o640)).unwrap();
    sandbox.write("conf", [section("open", "repo", "key"), section("wrong", "repo", "other")].concat().as_bytes());
    let found = sandbox.run(LINE).expect(1).stdout;
    for line in ["is open to others (mode 0640)", "chmod 0600", "the password opens no key"] {
        assert!(found.contains(line), "{line}: {found}");
    }
    assert!(!found.contains("geheim") && !found.contains("falsch"), "{found}");
}
