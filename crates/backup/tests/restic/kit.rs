//! What the tests share: repositories in temporary directories, runs over them, and restic as the judge.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aes256ctr_poly1305aes::Aes256CtrPoly1305Aes;
use aes256ctr_poly1305aes::aead::Aead as _;
use backup::restic::{
    BackupContext, BackupOptions, BackupReport, LocalStore, Repository, RepositoryError, SecretString, Snapshot,
    Store as _,
};
use copy::tree::{DestTree, SourceTree};
use copy::{
    CompareOptions, CompareReport, CopyContext, CopyOptions, CopyReport, Fault, Monitor, NoMonitor, Progress, RelPath,
    Sparse, StopToken, Throttle, compare_trees, copy_tree,
};
use proptest::test_runner::Config;
use rustic_core::repofile::KeyFile;
use sha2::Digest as _;
use testkit::disk::TempDir;

pub(crate) const PASSWORD: &str = "not a secret of anybody";

pub(crate) fn password() -> SecretString {
    PASSWORD.to_owned().into()
}

pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) repository: Repository,
}

impl Place {
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("repository")
    }
}

/// A new, empty repository, whose key costs little to derive: that of a real one takes a second.
pub(crate) fn place() -> Place {
    let dir = TempDir::new();
    let root = dir.subdir("repository");
    LocalStore::open(&root).unwrap().create().unwrap();
    let template = template();
    std::fs::write(root.join("config"), &template.config).unwrap();
    std::fs::write(root.join("keys").join(sha256(&template.key)), &template.key).unwrap();
    let repository = open(&root).unwrap();
    Place { dir, repository }
}

pub(crate) fn open(root: &Path) -> Result<Repository, RepositoryError> {
    Repository::open(Arc::new(LocalStore::open(root).unwrap()), &password())
}

/// The files of a new repository.
pub(crate) struct Template {
    pub(crate) config: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

pub(crate) fn template() -> &'static Template {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let dir = TempDir::new();
        let root = dir.path().join("repository");
        Repository::init(Arc::new(LocalStore::open(&root).unwrap()), &password()).unwrap();
        let key = std::fs::read_dir(root.join("keys")).unwrap().next().unwrap().unwrap().path();
        let mut file: KeyFile = serde_json::from_slice(&std::fs::read(key).unwrap()).unwrap();
        let cipher = |file: &KeyFile| {
            let (encrypt, k, r) = file.kdf_key(&PASSWORD).unwrap().to_keys();
            let whole: [u8; 64] = [encrypt, k, r].concat().try_into().unwrap();
            Aes256CtrPoly1305Aes::new(&whole.into())
        };
        let nonce: [u8; 16] = file.data[..16].try_into().unwrap();
        let master = cipher(&file).decrypt(&nonce.into(), &file.data[16..]).unwrap();
        file.n = 1024;
        file.data = [&nonce[..], &cipher(&file).encrypt(&nonce.into(), &master[..]).unwrap()].concat();
        let config = std::fs::read(root.join("config")).unwrap();
        Template { config, key: serde_json::to_vec(&file).unwrap() }
    })
}

pub(crate) fn sha256(data: &[u8]) -> String {
    let digits = |text: String, byte: &u8| text + &format!("{byte:02x}");
    sha2::Sha256::digest(data).iter().fold(String::new(), digits)
}

pub(crate) fn reopen(place: &Place) -> Repository {
    open(&place.path()).unwrap()
}

pub(crate) fn options() -> BackupOptions {
    let time = "2026-05-01T12:00:00Z".parse().unwrap();
    let mut options = BackupOptions::new(RelPath::parse(b"srv/share").unwrap(), "host-a", time);
    options.limits.retry_pause = Duration::ZERO;
    options
}

pub(crate) fn try_backup(
    repository: &Repository,
    source: &dyn SourceTree,
    options: &BackupOptions,
    monitor: &dyn Monitor,
    stop: &StopToken,
) -> Result<BackupReport, RepositoryError> {
    let throttle = Throttle::default();
    repository.backup(&BackupContext { source, monitor, stop, throttle: &throttle }, options)
}

#[track_caller]
pub(crate) fn backup(repository: &Repository, source: &dyn SourceTree, options: &BackupOptions) -> BackupReport {
    try_backup(repository, source, options, &NoMonitor, &StopToken::new()).unwrap()
}

/// Backs up and expects that nothing is left to say.
#[track_caller]
pub(crate) fn backup_clean(repository: &Repository, source: &dyn SourceTree, options: &BackupOptions) -> BackupReport {
    let done = backup(repository, source, options);
    assert_eq!(done.report.faults, Vec::<Fault>::new());
    assert_eq!(done.report.ending, copy::Ending::Complete);
    assert!(done.snapshot.is_some());
    done
}

pub(crate) fn restore(repository: &Repository, snapshot: &Snapshot, dest: &dyn DestTree) -> CopyReport {
    restore_with(repository, snapshot, dest, &CopyOptions::default())
}

pub(crate) fn restore_with(
    repository: &Repository,
    snapshot: &Snapshot,
    dest: &dyn DestTree,
    options: &CopyOptions,
) -> CopyReport {
    let stop = StopToken::new();
    let source = repository.open_tree(snapshot, &RelPath::root(), &stop).unwrap();
    let throttle = Throttle::default();
    let cx = CopyContext { source: &source, dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    let mut options = CopyOptions { sparse: Sparse::Detect, ..options.clone() };
    options.limits.retry_pause = Duration::ZERO;
    copy_tree(&cx, &options).unwrap()
}

pub(crate) fn compare(source: &dyn SourceTree, dest: &dyn DestTree) -> CompareReport {
    let (stop, throttle) = (StopToken::new(), Throttle::default());
    let cx = CopyContext { source, dest, monitor: &NoMonitor, stop: &stop, throttle: &throttle };
    compare_trees(&cx, &CompareOptions::default()).unwrap()
}

#[track_caller]
pub(crate) fn assert_same(source: &dyn SourceTree, dest: &dyn DestTree) {
    let report = compare(source, dest);
    assert!(report.is_same(), "{:?} {:?}", report.differences, report.faults);
}

/// Runs Debian's restic on the repository.
pub(crate) fn restic(place: &Path, arguments: &[&str]) -> Output {
    Command::new("restic")
        .args(["--no-cache", "-r"])
        .arg(place)
        .args(arguments)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .expect("restic is installed: see scripts/test")
}

#[track_caller]
pub(crate) fn restic_ok(place: &Path, arguments: &[&str]) -> String {
    let output = restic(place, arguments);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "restic {arguments:?}:\n{text}");
    text
}

/// Reads every byte of the repository, and expects no word of anything wrong.
#[track_caller]
pub(crate) fn restic_check(place: &Path) {
    let text = restic_ok(place, &["check", "--read-data"]);
    assert!(text.contains("no errors were found"), "{text}");
}

/// `count` cases, or as many as `PROPTEST_CASES` says.
pub(crate) fn cases(count: u32) -> Config {
    let mut config = Config { max_shrink_iters: 100, max_local_rejects: u32::MAX, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    config
}

/// Remembers what was told.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) progress: Mutex<Vec<Progress>>,
}

impl Monitor for Recorder {
    fn progress(&self, progress: &Progress) {
        self.progress.lock().unwrap().push(progress.clone());
    }
}
