//! Servers that die and come back, freeze, or are busy with somebody else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manila::Database as _;
use manila::database::{DatabaseError, NewRule, SqlDatabase, TaskStateChange};
use testkit::disk::TempDir;
use testkit::lend;
use testkit::servers::mariadb::MariaDb;
use testkit::servers::postgres::Postgres;
use tokio::time::sleep;

use crate::kit::{Bed, DOWN_TIME, Release, Server, id, service, settings};
use crate::run;

/// For what must happen at all.
const AT_ALL: Duration = Duration::from_mins(2);

#[test]
fn mariadb_may_come_and_go() {
    let server = lend!("mariadb_may_come_and_go", MariaDb::start(None));
    let mut server = Server::MariaDb(server);
    let url = server.create("manila", Release::NEWEST);
    run(check(&mut server, &url));
}

#[test]
fn postgresql_may_come_and_go() {
    let server = lend!("postgresql_may_come_and_go", Postgres::start(None));
    let mut server = Server::Postgres(server);
    let url = server.create("manila", Release::NEWEST);
    run(check(&mut server, &url));
}

#[test]
fn sqlite_may_be_busy() {
    let server = Server::Sqlite(TempDir::new());
    let url = server.create("manila", Release::NEWEST);
    run(async {
        let bed = Bed::new(url, Release::NEWEST).await;
        waiting_for_a_lock_ends(&bed, "BEGIN IMMEDIATE").await;
    });
}

async fn check(server: &mut Server, url: &str) {
    let bed = Bed::new(url.to_owned(), Release::NEWEST).await;
    a_deadlock_is_no_error(server, &bed).await;
    waiting_for_a_lock_ends(&bed, "BEGIN").await;
    a_restart_is_not_noticed(server, &bed).await;
    a_dead_server_is_unavailable_until_it_is_back(server, url).await;
    a_frozen_server_keeps_nobody(server, url).await;
}

/// The adapter waits for a row that another has, who then wants one that the adapter has.
async fn a_deadlock_is_no_error(server: &Server, bed: &Bed) {
    let (share, instance) = bed.share().await;
    let rule = NewRule {
        rule_id: id(),
        mapping_id: id(),
        share_id: share.clone(),
        instance_id: instance.clone(),
        access_type: "ip".into(),
        access_to: "10.0.0.1".into(),
    };
    assert!(bed.database.allow(&rule).await.unwrap());
    // More rows than the adapter has changed: MariaDB makes the one give way that has done less.
    bed.execute("BEGIN").await;
    for _ in 0..20 {
        let other = service();
        bed.execute(&format!(
            "INSERT INTO services (host, deleted, report_count, ensuring) VALUES ('{}', 1, 0, {})",
            other.host,
            if bed.is_mysql() { "0" } else { "false" },
        ))
        .await;
    }
    bed.execute(&format!("UPDATE share_instance_access_map SET state = 'applying' WHERE id = '{}'", rule.mapping_id))
        .await;
    let ids = [rule.mapping_id.as_str()];
    let deny = bed.database.deny(&instance, &ids);
    let other = async {
        until(|| is_anybody_waiting(server)).await;

        bed.execute(&format!("UPDATE share_instances SET progress = '7%' WHERE id = '{instance}'")).await;
        bed.execute("COMMIT").await;
    };
    let (denied, ()) = tokio::join!(deny, other);
    assert_eq!(denied.unwrap(), 1);
    let mapping = bed.database.mappings(&ids).await.unwrap().remove(0);
    assert_eq!(mapping.state.as_deref(), Some("queued_to_deny"));
}

fn is_anybody_waiting(server: &Server) -> bool {
    let count = match server {
        Server::MariaDb(server) => {
            server.execute("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
        }
        Server::Postgres(server) => server.execute("postgres", "SELECT COUNT(*) FROM pg_locks WHERE NOT granted"),
        Server::Sqlite(_) => unreachable!("it has one lock"),
    };
    count.trim() != "0"
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + AT_ALL;
    while !tokio::task::block_in_place(&mut is_so) {
        assert!(Instant::now() < end, "it did not come to be so");
        // MariaDB's view of who waits is made anew only if nobody looked for a tenth of a second.
        sleep(Duration::from_millis(300)).await;
    }
}

async fn waiting_for_a_lock_ends(bed: &Bed, begin: &str) {
    let (share, _) = bed.share().await;
    let (other, _) = bed.share().await;
    let mut impatient = settings(&bed.url);
    impatient.lock_timeout = Duration::from_secs(1);
    let database = SqlDatabase::connect(impatient).await.unwrap();
    bed.execute(begin).await;
    bed.execute(&format!("UPDATE shares SET size = 7 WHERE id = '{share}'")).await;
    if !bed.url.starts_with("sqlite") {
        // Only that row is locked: identifiers are looked up by their index.
        let change = database.set_task_state(&other, Some("a"), &[None]).await.unwrap();
        assert_eq!(change, TaskStateChange::Changed);
    }
    let error = database.set_task_state(&share, Some("a"), &[None]).await.unwrap_err();
    assert!(matches!(&error, DatabaseError::Unavailable(why) if why.contains("5 times in a row")), "{error:?}");
    bed.execute("COMMIT").await;
    assert_eq!(database.set_task_state(&share, Some("a"), &[None]).await.unwrap(), TaskStateChange::Changed);
}

async fn a_restart_is_not_noticed(server: &mut Server, bed: &Bed) {
    let service = service();
    let id = bed.database.register(&service).await.unwrap();
    tokio::task::block_in_place(|| server.restart());
    assert_eq!(bed.database.beat(id, &service, DOWN_TIME).await.unwrap(), id);
}

async fn a_dead_server_is_unavailable_until_it_is_back(server: &mut Server, url: &str) {
    let mut impatient = settings(url);
    impatient.acquire_timeout = Duration::from_secs(1);
    let database = SqlDatabase::connect(impatient).await.unwrap();
    let service = service();
    let id = database.register(&service).await.unwrap();
    tokio::task::block_in_place(|| server.kill());
    for _ in 0..2 {
        let error = database.beat(id, &service, DOWN_TIME).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Unavailable(why) if why.contains("refused")), "{error:?}");
    }
    tokio::task::block_in_place(|| server.restart());
    assert_eq!(database.beat(id, &service, DOWN_TIME).await.unwrap(), id);
}

async fn a_frozen_server_keeps_nobody(server: &Server, url: &str) {
    let mut impatient = settings(url);
    impatient.acquire_timeout = Duration::from_secs(2);
    impatient.transaction_timeout = Duration::from_secs(2);
    let database = Arc::new(SqlDatabase::connect(impatient).await.unwrap());
    let service = service();
    let id = database.register(&service).await.unwrap();
    server.freeze();
    // More than there are connections.
    let callers: Vec<_> = (0..7)
        .map(|_| {
            let (database, service) = (database.clone(), service.clone());
            tokio::spawn(async move { database.beat(id, &service, DOWN_TIME).await })
        })
        .collect();
    for caller in callers {
        let result = tokio::time::timeout(AT_ALL, caller).await.expect("a frozen server must keep nobody for ever");
        let result = result.unwrap();
        assert!(matches!(&result, Err(DatabaseError::Unavailable(_))), "{result:?}");
    }
    server.thaw();
    let end = Instant::now() + AT_ALL;
    loop {
        match database.beat(id, &service, DOWN_TIME).await {
            Ok(beaten) => break assert_eq!(beaten, id),
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    }
}
