//! Repositories on a server, with the mover in its whole sandbox.

use std::path::Path;

use job::documents::Summary;
use job::{BackupPlan, Control, Endpoint, FailureCode, JobId, JobSpec, Kind, Sensitive, WorkEvent};
use testkit::servers::free_ports;
use testkit::servers::rclone::serve_restic;
use work::ProcessSettings;
use work::sandbox::SandboxMode;

use crate::bench::{Bench, Ran, directory, settings};
use crate::runner::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_server_is_reached_from_the_sandbox_by_its_name,
    a_server_that_is_not_there_fails_the_job_and_says_so,
    a_mounted_repository_is_used_as_any_directory,
];

fn plan(kind: Kind) -> BackupPlan {
    BackupPlan {
        id: Some("b1".into()),
        share: Some("s1".into()),
        password: Some(Sensitive::secret("not a secret of anybody")),
        init: kind == Kind::Backup,
        ..BackupPlan::default()
    }
}

fn run(bench: &Bench, kind: Kind, tree: &Path, repository: &Endpoint) -> Ran {
    let tree = directory(tree);
    let (source, dest) = match kind {
        Kind::Backup => (tree, repository.clone()),
        Kind::Restore => (repository.clone(), tree),
        Kind::Check => (repository.clone(), Endpoint::None),
        _ => (Endpoint::None, repository.clone()),
    };
    let mut spec = JobSpec::new(kind, source, dest);
    spec.backup = Some(plan(kind));
    if kind == Kind::Check {
        spec.backup.as_mut().unwrap().read_data_percent = 100;
    }
    let mut order = bench.order_of(spec);
    order.job = JobId::generate();
    let sandbox = if testkit::disk::need_root().is_ok() { SandboxMode::Required } else { SandboxMode::Auto };
    bench.start(ProcessSettings { sandbox, ..settings() }, order, Control::default()).end()
}

/// All that is done with a repository.
fn everything(bench: &Bench, repository: &Endpoint) {
    let (source, dest) = (bench.tree("share"), bench.dir.subdir("restored"));
    run(bench, Kind::Backup, &source, repository).completed();
    run(bench, Kind::Restore, &dest, repository).completed();
    assert_eq!(std::fs::read_to_string(dest.join("dir/file")).unwrap(), "content");
    run(bench, Kind::Check, &dest, repository).completed();
    let deleted = run(bench, Kind::Delete, &dest, repository);
    deleted.completed();
    let removed = deleted.events.iter().find_map(|event| match event {
        WorkEvent::Summary(summary) => match &**summary {
            Summary::Repository(summary) => Some(summary.removed_backups),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(removed, Some(1));
    run(bench, Kind::Prune, &dest, repository).completed();
    bench.assert_released();
}

fn a_server_is_reached_from_the_sandbox_by_its_name() {
    let (bench, [port]) = (Bench::new(), free_ports());
    let root = bench.dir.subdir("served");
    let _server = serve_restic(&root, bench.dir.path(), port);
    everything(&bench, &url(port));
    assert!(root.join("repository/config").exists());
}

fn a_server_that_is_not_there_fails_the_job_and_says_so() {
    let (bench, [port]) = (Bench::new(), free_ports());
    let tree = bench.tree("share");
    let running = {
        let mut spec = JobSpec::new(Kind::Backup, directory(&tree), url(port));
        spec.backup = Some(plan(Kind::Backup));
        bench.start(settings(), bench.order_of(spec), Control::default())
    };
    running.end_within(std::time::Duration::from_mins(3)).failed(FailureCode::EngineFailed, "refused");
    bench.assert_released();
}

fn a_mounted_repository_is_used_as_any_directory() {
    let bench = Bench::new();
    let repository = directory(&bench.dir.subdir("repository"));
    everything(&bench, &repository);
}

fn url(port: u16) -> Endpoint {
    Endpoint::Url { url: Sensitive::new(format!("rest:http://localhost:{port}/repository/")) }
}
