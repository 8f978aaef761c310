//! Connecting: what is refused, what is waited for, and what is said to each session.

use std::time::{Duration, Instant};

use manila::Database as _;
use manila::database::{DatabaseError, DatabaseSettings, DatabaseUrl, SqlDatabase, UserMessage};
use testkit::disk::TempDir;
use testkit::lend;
use testkit::servers::mariadb::{DatabaseTls, MariaDb};
use testkit::servers::postgres::Postgres;

use crate::kit::{Bed, Release, Server, id, service, settings, text};
use crate::run;

/// Part of the password of all servers here, as URLs and as people have it.
const PASSWORD: [&str; 2] = ["se%3Acr", "se:cr"];

async fn refused(url: &str) -> String {
    let error = SqlDatabase::connect(settings(url)).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Failed(_)), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(PASSWORD.iter().all(|password| !text.contains(password)) && !text.contains("geheim"), "{text}");
    text
}

/// The URL of another database of the same server.
fn other(url: &str, database: &str) -> String {
    format!("{}{database}", url.strip_suffix("manila").unwrap())
}

#[test]
fn mariadb_refuses_in_its_own_words() {
    let server = lend!("mariadb_refuses_in_its_own_words", MariaDb::start(None));
    server.execute(
        "CREATE DATABASE empty; SET GLOBAL sql_mode = ''; CREATE USER reader@'%' IDENTIFIED BY 'geheim'; \
         GRANT SELECT ON *.* TO reader@'%';",
    );
    let port = server.port();
    let server = Server::MariaDb(server);
    let url = server.create("manila", Release::NEWEST);
    run(async {
        let wrong = refused(&format!("mysql://manila:geheim@127.0.0.1:{port}/manila")).await;
        assert!(wrong.contains("Access denied for user 'manila'"), "{wrong}");
        let wrong = refused(&other(&url, "nowhere")).await;
        assert!(wrong.contains("nowhere"), "{wrong}");
        let wrong = refused(&other(&url, "empty")).await;
        assert!(wrong.contains("no table") && wrong.contains("manila-manage db sync"), "{wrong}");

        let reader = format!("mysql://reader:geheim@127.0.0.1:{port}/manila");
        let reader = SqlDatabase::connect(settings(&reader)).await.unwrap();
        assert_eq!(reader.share(&id()).await.unwrap(), None);
        let error = reader.register(&service()).await.unwrap_err().to_string();
        assert!(error.contains("cannot make the availability zone: INSERT command denied"), "{error}");

        // The server would cut it; the session's mode does not let it.
        let long = UserMessage {
            id: id(),
            project_id: "p".into(),
            request_id: None,
            resource_type: "SHARE".into(),
            resource_id: id(),
            action_id: "longer than ten".into(),
            detail_id: "001".into(),
            level: "ERROR".into(),
            keep: Duration::from_hours(1),
        };
        let database = SqlDatabase::connect(settings(&url)).await.unwrap();
        let error = database.add_message(&long).await.unwrap_err().to_string();
        assert!(error.contains("Data too long") && error.contains("1406"), "{error}");
        let lenient = DatabaseSettings { mysql_sql_mode: None, ..settings(&url) };
        assert!(SqlDatabase::connect(lenient).await.unwrap().add_message(&long).await.unwrap());
        let waiting = DatabaseSettings { mysql_wsrep_sync_wait: Some(1), ..settings(&url) };
        SqlDatabase::connect(waiting).await.unwrap().share(&id()).await.unwrap();

        let socket = match &server {
            Server::MariaDb(server) => server.socket(),
            _ => unreachable!("it is MariaDB"),
        };
        let socket = format!("mysql://manila:se%3Acr%2Fet%401@/manila?charset=utf8&unix_socket={}", socket.display());
        SqlDatabase::connect(settings(&socket)).await.unwrap().share(&id()).await.unwrap();

        check_microseconds(&Bed::new(url, Release::NEWEST).await).await;
    });
}

#[test]
fn postgresql_refuses_in_its_own_words() {
    let server = lend!("postgresql_refuses_in_its_own_words", Postgres::start(None));
    server.execute("postgres", "CREATE DATABASE empty; CREATE USER reader PASSWORD 'geheim';");
    let port = server.port();
    let server = Server::Postgres(server);
    let url = server.create("manila", Release::NEWEST);
    run(async {
        let wrong = refused(&format!("postgresql://manila:geheim@127.0.0.1:{port}/manila")).await;
        assert!(wrong.contains("password authentication failed"), "{wrong}");
        let wrong = refused(&other(&url, "nowhere")).await;
        assert!(wrong.contains("nowhere"), "{wrong}");
        let wrong = refused(&other(&url, "empty")).await;
        assert!(wrong.contains("no table") && wrong.contains("manila-manage db sync"), "{wrong}");

        // Tables that it may not see are none.
        let reader = format!("postgresql://reader:geheim@127.0.0.1:{port}/manila");
        assert!(refused(&reader).await.contains("may not see"));
        let bed = Bed::new(url.clone(), Release::NEWEST).await;
        bed.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader").await;
        let reader = SqlDatabase::connect(settings(&reader)).await.unwrap();
        assert_eq!(reader.share(&id()).await.unwrap(), None);
        let error = reader.register(&service()).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{error}");

        let elsewhere = format!("{url}?options=-csearch_path%3Dnowhere");
        assert!(refused(&elsewhere).await.contains("no table"));
        check_microseconds(&bed).await;
    });
}

#[test]
fn sqlite_needs_its_file() {
    let dir = TempDir::new();
    let missing = format!("sqlite:///{}/none", dir.path().display());
    let server = Server::Sqlite(dir);
    let url = server.create("manila", Release::NEWEST);
    run(async {
        let error = SqlDatabase::connect(settings(&missing)).await.unwrap_err().to_string();
        assert!(error.contains("unable to open database file"), "{error}");
        check_microseconds(&Bed::new(url, Release::NEWEST).await).await;
    });
}

/// Of ten moments all but one in 10^30 have more than three digits.
async fn check_microseconds(bed: &Bed) {
    let mut precise = 0;
    for _ in 0..10 {
        let id = bed.database.register(&service()).await.unwrap();
        let row = bed.row("services", &id.0.to_string()).await;
        let fraction = text(&row, "created_at").unwrap().split_once('.').map_or("", |(_, fraction)| fraction);
        assert!(fraction.len() <= 6, "{row:?}");
        precise += u32::from(fraction.len() == 6 && !fraction.ends_with("000"));
    }
    assert!(precise > 0, "no time has microseconds");
}

#[test]
fn connecting_waits_for_a_server_that_is_down() {
    let mut server = lend!("connecting_waits_for_a_server_that_is_down", MariaDb::start(None));
    server.execute("CREATE DATABASE empty");
    let url = server.url("empty");
    server.kill();
    run(async {
        let mut few = settings(&url);
        few.connect_tries_max = Some(3);
        few.connect_interval = Duration::from_millis(200);
        let start = Instant::now();
        let error = SqlDatabase::connect(few.clone()).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Unavailable(why) if why.contains("refused")), "{error:?}");
        assert!(start.elapsed() >= Duration::from_millis(400), "it did not wait between its tries");

        let forever = DatabaseSettings { connect_tries_max: None, ..few };
        let connecting = tokio::spawn(SqlDatabase::connect(forever));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!connecting.is_finished());
        server.restart();
        // It has no tables: that ends the waiting, too.
        let error = connecting.await.unwrap().unwrap_err();
        assert!(matches!(&error, DatabaseError::Failed(why) if why.contains("no table")), "{error:?}");
    });
}

/// A certificate for `localhost`, and the file of its authority.
fn certificate(dir: &TempDir) -> (DatabaseTls, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let cert_pem = params.signed_by(&key, &issuer).unwrap().pem();
    let path = dir.path().join("authority.pem");
    std::fs::write(&path, authority_pem).unwrap();
    (DatabaseTls { cert_pem, key_pem: key.serialize_pem() }, path.display().to_string())
}

#[test]
fn mariadb_is_reached_over_tls() {
    let dir = TempDir::new();
    let (tls, authority) = certificate(&dir);
    let other = TempDir::new();
    let (_, foreign) = certificate(&other);
    let server = lend!("mariadb_is_reached_over_tls", MariaDb::start(Some(&tls)));
    server.execute("CREATE USER tls@'%' IDENTIFIED BY 'geheim' REQUIRE SSL; GRANT ALL ON *.* TO tls@'%';");
    let port = server.port();
    Server::MariaDb(server).create_and(Release::NEWEST, |_| {
        let url = |host: &str, query: &str| format!("mysql://tls:geheim@{host}:{port}/manila?{query}");
        run(async {
            for good in [
                url("localhost", ""),
                url("localhost", &format!("ssl_ca={authority}")),
                url("127.0.0.1", &format!("ssl_ca={authority}&ssl_check_hostname=false")),
                url("127.0.0.1", &format!("ssl_ca={foreign}&ssl_verify_cert=false")),
                url("127.0.0.1", "ssl_mode=REQUIRED"),
            ] {
                let database = SqlDatabase::connect(settings(&good)).await;
                database.unwrap_or_else(|error| panic!("{good}: {error}")).share(&id()).await.unwrap();
            }
            for bad in [
                url("localhost", "ssl_disabled=true"),
                url("127.0.0.1", &format!("ssl_ca={authority}")),
                url("localhost", &format!("ssl_ca={foreign}")),
                url("localhost", "ssl_verify_cert=true"),
                url("localhost", "ssl_ca=/nowhere.pem"),
            ] {
                refused(&bad).await;
            }
        });
    });
}

#[test]
fn postgresql_is_reached_over_tls() {
    let dir = TempDir::new();
    let (tls, authority) = certificate(&dir);
    let other = TempDir::new();
    let (_, foreign) = certificate(&other);
    let server = lend!("postgresql_is_reached_over_tls", Postgres::start(Some(&tls)));
    Server::Postgres(server).create_and(Release::NEWEST, |created| {
        let url = |host: &str, query: &str| created.replace("127.0.0.1", host) + "?" + query;
        run(async {
            let bed = Bed::new(url("127.0.0.1", "sslmode=disable"), Release::NEWEST).await;
            bed.database.close().await;
            for good in [
                url("localhost", ""),
                url("localhost", &format!("sslmode=verify-full&sslrootcert={authority}")),
                url("127.0.0.1", &format!("sslmode=require&sslrootcert={authority}")),
                url("127.0.0.1", "sslmode=require"),
            ] {
                let database = SqlDatabase::connect(settings(&good)).await;
                let database = database.unwrap_or_else(|error| panic!("{good}: {error}"));
                database.share(&id()).await.unwrap();
                let over_tls = bed
                    .execute(
                        "SELECT 1 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                         WHERE application_name = 'manila-data' AND ssl",
                    )
                    .await;
                assert!(over_tls > 0, "{good}");
                database.close().await;
            }
            for bad in [
                url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={authority}")),
                url("localhost", &format!("sslmode=verify-full&sslrootcert={foreign}")),
                url("localhost", "sslmode=verify-ca&sslrootcert=/nowhere.pem"),
            ] {
                refused(&bad).await;
            }
        });
    });
}

#[test]
fn what_a_database_says_of_itself_has_no_password() {
    let server = Server::Sqlite(TempDir::new());
    let url = server.create("manila", Release::NEWEST);
    run(async {
        let database = SqlDatabase::connect(settings(&url)).await.unwrap();
        assert!(format!("{database:?}").contains("sqlite:///"), "{database:?}");
    });
    let settings = DatabaseSettings::new(DatabaseUrl::parse("mysql://u:geheim@h/m", "").unwrap());
    assert!(!format!("{settings:?}").contains("geheim"));
}
