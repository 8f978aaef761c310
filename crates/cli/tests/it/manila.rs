//! The command without a subcommand: Manila's own data service, as packages start it.

use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE};
use crate::support::{Sandbox, wait_for};

/// Nobody listens there.
const CONF: &[u8] = b"[DEFAULT]
transport_url = rabbit://openstack:geheim@127.0.0.1:1/
data_node_access_ips = 192.0.2.5
report_interval = 1
unknown_to_us = of another service
[database]
connection = mysql+pymysql://manila:geheim@127.0.0.1:1/manila?charset=utf8
[alpha]
share_driver = something.of.Python
";

fn shown(sandbox: &Sandbox, words: &str) -> String {
    let words = format!("config show --manila {words}");
    sandbox.run(&words).expect(0).stdout
}

/// The value that `config show` prints for an option.
fn value(sandbox: &Sandbox, words: &str, option: &str) -> String {
    let outcome = sandbox.run(&format!("config show --manila --json {words}")).expect(0);
    let found = outcome.events().into_iter().find(|event| event["option"] == option);
    found.map(|event| event["value"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[test]
fn what_upstream_reads_is_read_and_secrets_stay_hidden() {
    let sandbox = Sandbox::new("manila-config");
    sandbox.write("manila.conf", CONF);
    let text = shown(&sandbox, "--config-file manila.conf");
    assert!(text.contains("transport_url") && text.contains("rabbit_quorum_queue"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
    assert_eq!(value(&sandbox, "--config-file manila.conf", "data_node_access_ips"), "192.0.2.5");
    assert_eq!(value(&sandbox, "--config-file manila.conf", "job_store"), "/var/lib/manila/manila-data/jobs.sqlite");
}

#[test]
fn files_and_directories_count_in_the_order_of_the_command_line() {
    let sandbox = Sandbox::new("manila-order");
    sandbox.write("a.conf", b"[DEFAULT]\nshare_topic = file\n[database]\nconnection = sqlite:////m\n");
    sandbox.write("d/b.conf", b"[DEFAULT]\nshare_topic = directory\n");
    let topic = |words: &str| value(&sandbox, words, "share_topic");
    assert_eq!(topic("--config-file a.conf --config-dir d"), "directory");
    assert_eq!(topic("--config-dir d --config-file a.conf"), "file");
}

#[test]
fn a_wrong_configuration_says_where_it_is_wrong() {
    let sandbox = Sandbox::new("manila-wrong");
    let check = |conf: &str, part: &str| {
        let conf = format!("[database]\nconnection = mysql://m:geheim@127.0.0.1:1/manila\n{conf}");
        sandbox.write("manila.conf", conf.as_bytes());
        let outcome = sandbox.run("--config-file manila.conf").expect(2);
        assert!(outcome.stderr.contains(part) && !outcome.stderr.contains("geheim"), "{conf}: {outcome:#?}");
    };
    check("[DEFAULT]\ntransport_url = amqp://u:geheim@h/\n", "transport_url");
    check("[DEFAULT]\ntransport_url = rabbit://u:geheim@h/?frobnicate=1\n", "frobnicate");
    check("[database]\nconnection = oracle://u:geheim@h/manila\n", "connection");
    check("[DEFAULT]\ndata_node_access_ips = nowhere at all\n", "data_node_access_ips");
    check("[DEFAULT]\ndebug = maybe\n", "debug");
    sandbox.run("--config-file missing.conf").expect(2);
    let outcome = sandbox.run("--debug jobs list").expect(2);
    assert!(outcome.stderr.contains("before a command"), "{outcome:#?}");
}

#[test]
fn it_serves_while_broker_and_database_are_away_and_says_so() {
    let sandbox = Sandbox::new("manila-away");
    sandbox.write("conf", CONF);
    let mut daemon = Daemon::new(&sandbox).of_manila().started();
    daemon.jobs("list").expect(0);
    // In oslo.log's look: time, process, level, logger, and no request.
    wait_for("the database to be missed", PATIENCE, || {
        let log = daemon.log();
        log.contains("127.0.0.1:1") && log.contains(" INFO manila_data.serve [-] ") && log.contains("Manila's database")
    });
    let log = daemon.log();
    assert!(!log.contains("geheim"), "{log}");
    assert!(!log.contains("unknown_to_us"), "what is for others is nothing to speak of: {log}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.log());
    let doctor = sandbox.run("doctor --manila --config-file conf").expect(1);
    assert!(doctor.stdout.contains("manila_database") && doctor.stdout.contains("127.0.0.1:1"), "{doctor:#?}");
    assert!(!doctor.stdout.contains("geheim"), "{doctor:#?}");
}
