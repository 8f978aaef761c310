//! Whether Manila's database and message brokers answer.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use manila::Database as _;
use manila::database::{DatabaseError, SqlDatabase};
use oslo::messaging::rabbit::Host;

use super::Check;
use crate::config::ManilaConfig;

/// Somebody waits at a terminal.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn checks(config: &ManilaConfig) -> Vec<Check> {
    let mut checks = vec![database(config)];
    checks.extend(config.messaging.url.hosts.iter().map(broker));
    if config.settings.data_node_access_ips.is_empty() {
        checks.push(Check::warn(
            "access",
            "`data_node_access_ips` is empty",
            "name the addresses from which this machine mounts shares; without them shares with rules for addresses \
             cannot be reached",
        ));
    }
    if config.settings.lock_path.is_none() {
        checks.push(Check::warn(
            "lock_path",
            "`lock_path` in [oslo_concurrency] is not set",
            "set it as for manila-share, so that both do not change the same rules at the same time on this machine",
        ));
    }
    checks
}

fn database(config: &ManilaConfig) -> Check {
    const NAME: &str = "manila_database";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = match runtime {
        Err(error) => return Check::fail(NAME, error.to_string(), "look at the limits of this process"),
        Ok(runtime) => runtime.block_on(async {
            let mut settings = config.database.clone();
            settings.connect_tries_max = Some(1);
            let connected = tokio::time::timeout(PATIENCE, SqlDatabase::connect(settings)).await;
            match connected {
                Ok(Ok(database)) => {
                    let services = database.services("manila-data").await;
                    database.close().await;
                    services
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(DatabaseError::Unavailable(format!("no answer within {} s", PATIENCE.as_secs()))),
            }
        }),
    };
    match answer {
        Ok(rows) => Check::ok(NAME, format!("answers; {} data services are registered", rows.len())),
        Err(error) => Check::fail(NAME, error.to_string(), "look at `connection` in [database]"),
    }
}

/// Only whether something listens: a login that fails shows in the log of the service.
fn broker(host: &Host) -> Check {
    let place = host.to_string();
    let addresses = (host.name.as_str(), host.port).to_socket_addrs();
    let reached = addresses.and_then(|addresses| {
        let mut answer = Err(std::io::Error::other("the name has no address"));
        for address in addresses {
            answer = TcpStream::connect_timeout(&address, PATIENCE);
            if answer.is_ok() {
                break;
            }
        }
        answer
    });
    match reached {
        Ok(_) => Check::ok("broker", format!("{place} can be reached")),
        Err(error) => Check::fail(
            "broker",
            format!("{place}: {error}"),
            "look at `transport_url`, the broker, and what is between",
        ),
    }
}
