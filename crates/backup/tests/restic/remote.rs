//! Repositories on servers: REST, as rclone serves it, and S3.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backup::restic::{
    CheckOptions, Parent, PruneOptions, Repository, RepositoryError, RestStore, S3Options, S3Store, SnapshotFilter,
    Store,
};
use copy::{Ending, NoMonitor, StopReason, StopToken};
use testkit::disk::TempDir;
use testkit::memory::MemoryTree;
use testkit::model::{Entry, TreeModel};
use testkit::random::Random;
use testkit::servers::rclone::serve_restic;
use testkit::servers::{START_LIMIT, Server, free_ports};

use crate::kit::{assert_same, backup_clean, options, password, restic_check, restore, sha256, template};

fn tree(seed: u64) -> MemoryTree {
    let mut random = Random::new(seed);
    let mut model = TreeModel::new();
    model.insert("d", Entry::dir());
    for number in 0..100 {
        model.insert(format!("d/{number}"), Entry::file(&random.bytes(5_000)));
    }
    model.insert("big", Entry::file(&random.bytes(20_000_000)));
    MemoryTree::from_model(&model)
}

/// What `moto` is, an S3 server of others, kept where the compiler puts what it makes.
const MOTO: &str = "moto[server]==5.1.5";

fn install_moto() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto-5.1.5");
    let (server, stamp) = (dir.join("bin/moto_server"), dir.join("complete"));
    if stamp.exists() {
        return Ok(server);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(Command::new(dir.join("bin/pip")).args(["--quiet", "--disable-pip-version-check", "install", MOTO]))?;
    std::fs::write(stamp, MOTO).unwrap();
    Ok(server)
}

#[test]
fn a_repository_in_a_bucket_does_everything_that_one_on_a_disk_does() {
    let program = match install_moto() {
        Ok(program) => program,
        Err(reason) => {
            let name = "a_repository_in_a_bucket_does_everything_that_one_on_a_disk_does";
            return testkit::disk::skip(name, &format!("moto cannot be installed: {reason}"));
        }
    };
    let ([port], dir) = (free_ports(), TempDir::new());
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    let mut server = Server::spawn("moto", command, dir.path());
    server.wait_until_it_listens(port, START_LIMIT);
    let endpoint = format!("http://127.0.0.1:{port}");
    make_bucket(port);
    let s3 = S3Options {
        endpoint: endpoint.clone(),
        bucket: "bucket".into(),
        prefix: "project/one".into(),
        region: "us-east-1".into(),
        access_key: "key".into(),
        secret_key: "not a secret of anybody".to_owned().into(),
    };
    assert!(!format!("{s3:?}").contains("secret of"));
    everything(Arc::new(S3Store::open(&s3, StopToken::new()).unwrap()));
    let output = Command::new("restic")
        .args(["--no-cache", "-r", &format!("s3:{endpoint}/bucket/project/one"), "check", "--read-data"])
        .env("RESTIC_PASSWORD", crate::kit::PASSWORD)
        .envs([("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "not a secret of anybody")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Moto believes every signature; a bucket is made by naming it.
fn make_bucket(port: u16) {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request =
        format!("PUT /bucket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Everything that is done with a repository, wherever it lies.
fn everything(store: Arc<dyn Store>) -> Repository {
    let none = Repository::open(store.clone(), &password());
    assert!(matches!(none, Err(RepositoryError::NoRepository { .. })), "{none:?}");
    let repository = Repository::init(store.clone(), &password()).unwrap();
    assert!(matches!(Repository::init(store.clone(), &password()), Err(RepositoryError::Exists { .. })));
    let wrong = Repository::open(store, &"wrong".to_owned().into());
    assert!(matches!(wrong, Err(RepositoryError::WrongPassword { .. })));
    let source = tree(1);
    let first = backup_clean(&repository, &source, &options()).snapshot.unwrap();
    let mut again = options();
    again.parent = Parent::Latest(SnapshotFilter::default());
    let second = backup_clean(&repository, &source, &again);
    assert_eq!((second.report.counters.opened_files, second.added.data_blobs), (0, 0));
    backup_clean(&repository, &tree(2), &options());
    repository.delete_snapshots(&[first.id]).unwrap();
    repository.delete_snapshots(&[first.id]).unwrap();
    let prune = PruneOptions { max_unused_percent: 0, instant_delete: true };
    assert_eq!(repository.prune(prune, &NoMonitor, &StopToken::new()).unwrap().ending, Ending::Complete);
    assert!(repository.check(CheckOptions { read_percent: 100.0 }, &NoMonitor, &StopToken::new()).unwrap().is_sound());
    let dest = MemoryTree::new();
    assert_eq!(restore(&repository, &second.snapshot.unwrap(), &dest).ending, Ending::Complete);
    assert_same(&source, &dest);
    repository
}

#[test]
fn a_repository_on_a_rest_server_is_one_that_restic_finds_sound() {
    let dir = TempDir::new();
    let [port] = free_ports();
    let _server = serve_restic(dir.path(), dir.path(), port);
    let url = format!("rest:http://127.0.0.1:{port}/repository/");
    everything(Arc::new(RestStore::open(&url, None, StopToken::new()).unwrap()));
    restic_check(&dir.path().join("repository"));
    restic_check(Path::new(&url));
}

#[test]
fn an_order_to_stop_ends_the_wait_for_a_server_that_does_not_answer() {
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stop = StopToken::new();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let store: Arc<dyn Store> = Arc::new(RestStore::open(&url, None, stop.clone()).unwrap());
    let order = stop.clone();
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            order.stop(StopReason::Cancel);
        });
        let error = Repository::open(store, &password()).unwrap_err();
        assert!(matches!(error, RepositoryError::Store(_)), "{error:?}");
    });
    // Far below the limit of one request.
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_server_that_restarts_in_the_middle_costs_only_time() {
    let dir = TempDir::new();
    let root = dir.path().join("repository");
    backup::restic::LocalStore::open(&root).unwrap().create().unwrap();
    std::fs::write(root.join("config"), &template().config).unwrap();
    std::fs::write(root.join("keys").join(sha256(&template().key)), &template().key).unwrap();
    let [port] = free_ports();
    let server = serve_restic(dir.path(), dir.path(), port);
    let url = format!("http://127.0.0.1:{port}/repository/");
    let repository =
        Repository::open(Arc::new(RestStore::open(&url, None, StopToken::new()).unwrap()), &password()).unwrap();
    let source = tree(3);
    drop(server);
    let done = std::thread::scope(|scope| {
        let backup = scope.spawn(|| backup_clean(&repository, &source, &options()));
        std::thread::sleep(Duration::from_millis(500));
        let _server = serve_restic(dir.path(), dir.path(), port);
        backup.join().unwrap()
    });
    assert_eq!(done.report.ending, Ending::Complete);
    restic_check(&root);
}
