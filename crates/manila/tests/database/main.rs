//! [`manila::database::SqlDatabase`] against real servers: every method with the schema of every release, two callers
//! at once, and servers that die, freeze or refuse.
#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that should not be")]

mod access;
mod backups;
mod connecting;
mod kit;
mod messages;
mod quota;
mod services;
mod shares;
mod trouble;

use kit::{Bed, Release, Server};
use testkit::disk::TempDir;
use testkit::lend;
use testkit::servers::mariadb::MariaDb;
use testkit::servers::postgres::Postgres;

/// All behaviours, with the schema of each release.
#[expect(clippy::print_stderr, reason = "says which release it was, where one fails")]
fn check_every_release(server: &Server) {
    for release in Release::ALL {
        let url = server.create(&format!("manila_{}", release.0), release);
        eprintln!("release {}", release.0);
        run(async {
            let bed = Bed::new(url, release).await;
            services::check(&bed).await;
            shares::check(&bed).await;
            access::check(&bed).await;
            messages::check(&bed).await;
            backups::check(&bed).await;
            quota::check(&bed).await;
        });
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(future);
}

#[test]
fn every_release_on_mariadb() {
    let server = lend!("every_release_on_mariadb", MariaDb::start(None));
    check_every_release(&Server::MariaDb(server));
}

#[test]
fn every_release_on_postgresql() {
    let server = lend!("every_release_on_postgresql", Postgres::start(None));
    check_every_release(&Server::Postgres(server));
}

#[test]
fn every_release_on_sqlite() {
    check_every_release(&Server::Sqlite(TempDir::new()));
}
