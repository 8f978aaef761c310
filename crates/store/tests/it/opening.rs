//! What a store looks at before it opens, and says when it does not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use job::{JobFilter, JobStore as _, Outcome};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use store::{OpenError, OpenOptions, SqlStore};
use testkit::disk::TempDir;

use crate::kit::{PASSWORD, SIGNING_KEY, ended, event, file_in, job, kept, numbers, open, saved, secretive_job};

async fn refused(path: &Path) -> OpenError {
    SqlStore::open_file(path, &OpenOptions::default()).await.expect_err("it opens")
}

/// Another program's view of the file.
pub(crate) async fn raw(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn run(path: &Path, sql: &'static str) {
    let mut connection = raw(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A file with some jobs in it, closed.
async fn filled(path: &Path) {
    let store = open(path).await;
    for number in 1..=100 {
        let mut job = kept(&store, job(number)).await;
        saved(&store, &mut job, &[event(1, &"long ".repeat(100))]).await;
    }
    store.close().await.unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_store_is_private_with_all_that_lies_beside_it() {
    let dir = TempDir::new();
    let path = dir.path().join("a/b/jobs.sqlite");
    let store = open(&path).await;
    kept(&store, job(1)).await;
    assert_eq!((mode(&dir.path().join("a")), mode(&dir.path().join("a/b"))), (0o700, 0o700));
    for name in ["jobs.sqlite", "jobs.sqlite-wal", "jobs.sqlite-shm", "jobs.sqlite.lock"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_that_others_could_read_is_made_private() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path).await;
    assert_eq!(mode(&path), 0o600);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_url_opens_the_same_store_as_its_path() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    let options = OpenOptions::default();
    let store = SqlStore::open(&format!("sqlite://{}", path.display()), &options).await.unwrap();
    assert_eq!(numbers(&store, &JobFilter::default(), None, 1).await, [100]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn jobs_are_there_after_it_was_closed_and_also_if_it_was_not() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    let store = open(&path).await;
    kept(&store, job(1)).await;
    store.close().await.unwrap();
    drop(store);
    let store = open(&path).await;
    kept(&store, job(2)).await;
    drop(store);
    let store = open(&path).await;
    assert_eq!(numbers(&store, &JobFilter::default(), None, 9).await, [2, 1]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_store_is_opened_once() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    let store = open(&path).await;
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error:?}");
    let expected = format!("another manila-data (pid {}) uses", std::process::id());
    assert!(error.to_string().contains(&expected), "{error}");
    kept(&store, job(1)).await;
    drop(store);
    open(&path).await.close().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    run(
        &path,
        "INSERT INTO schema_versions (version, description, success, checksum, execution_time)
         VALUES (7, 'of a later day', TRUE, x'00', 0)",
    )
    .await;
    let before = fs::read(&path).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::NewerSchema { found: 7, known: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("schema version 7, this one knows 1") && text.contains("start that one"), "{text}");
    assert!(fs::read(&path).unwrap() == before, "nothing was written");
}

#[tokio::test]
async fn what_is_no_database_is_refused_and_left_as_it_is() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    let text = "a diary, and not a short one\n".repeat(1000);
    fs::write(&path, &text).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("jobs.sqlite` is no SQLite database"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn the_database_of_another_program_is_refused() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    run(&path, "CREATE TABLE shares (id TEXT)").await;
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[tokio::test]
async fn a_truncated_store_is_damaged() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    let bytes = fs::read(&path).unwrap();
    for keep in [bytes.len() / 2, 8192, 5000] {
        fs::write(&path, &bytes[..keep]).unwrap();
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{keep} bytes: {error:?}");
        assert!(error.to_string().contains("put back a backup"), "{error}");
    }
    fs::write(&path, &bytes).unwrap();
    open(&path).await.close().await.unwrap();
}

#[tokio::test]
async fn a_store_with_a_page_of_rubbish_is_damaged() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    let mut bytes = fs::read(&path).unwrap();
    // The pages in the middle hold rows; those at the beginning the schema.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let dir = TempDir::new();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = refused(&dir.path().join("file/jobs.sqlite")).await;
    assert!(matches!(error, OpenError::Directory { .. }), "{error:?}");
    let error = refused(&dir.subdir("no-file")).await;
    assert!(matches!(error, OpenError::Database { .. } | OpenError::File { .. }), "{error:?}");
}

#[tokio::test]
async fn a_schema_that_somebody_altered_is_refused() {
    let dir = TempDir::new();
    let path = file_in(&dir);
    filled(&path).await;
    run(&path, "UPDATE schema_versions SET checksum = x'00'").await;
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Migrate { .. }), "{error:?}");
}

#[tokio::test]
async fn wiped_secrets_are_nowhere_in_the_file() {
    let holds = |path: &Path, text: &str| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let dir = TempDir::new();
    let path = file_in(&dir);
    let store = open(&path).await;
    let job = kept(&store, secretive_job(1)).await;
    store.close().await.unwrap();
    drop(store);
    assert!(holds(&path, PASSWORD) && holds(&path, SIGNING_KEY), "the test looks at the right bytes");

    let store = open(&path).await;
    let job = ended(&store, job, Outcome::Completed).await;
    store.set_delivery(job.id, &job::Delivery::default()).await.unwrap();
    store.close().await.unwrap();
    assert!(!holds(&path, PASSWORD) && !holds(&path, SIGNING_KEY));
}
