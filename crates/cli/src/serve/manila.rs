//! The parts of the service that speak to Manila: its database, its share managers, its requests.

use std::sync::Arc;
use std::time::Duration;

use job::Service;
use manila::database::{DatabaseError, SqlDatabase};
use manila::heartbeat::JobStore;
use manila::{
    BrokerHealth, ManilaAccess, ManilaFollower, ManilaNotifier, ManilaService, Parts, Peers, RpcShareManager,
};
use oslo::messaging::rabbit::RabbitTransport;
use oslo::messaging::{Client, ServerOptions, Transport};
use tokio::time::timeout;

use super::start::StartError;
use crate::config::ManilaConfig;

/// How long the start waits for Manila's database. What is away longer is waited for later, beside everything else.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// For the row of the service to say that it has stopped, and for connections to end.
const STOP_TIME: Duration = Duration::from_secs(3);

/// What jobs of Manila need, before there is a service that runs them.
pub(super) struct Connections {
    peers: Peers,
    transport: Arc<RabbitTransport>,
    server: ServerOptions,
}

impl Connections {
    /// Nothing is sent yet, and whoever is away is no error.
    pub(super) async fn open(config: &ManilaConfig) -> Result<Self, StartError> {
        let lock_path = config.settings.lock_path.as_deref();
        let transport = RabbitTransport::new(&config.messaging, lock_path);
        let transport = Arc::new(transport.map_err(|error| StartError::Broker(crate::error::chain(&error)))?);
        let settings = Arc::new(config.settings.clone());
        let client = Client::new(Arc::clone(&transport) as Arc<dyn Transport>);
        let peers = Peers {
            database: Arc::new(database(config).await.map_err(StartError::Database)?),
            share_manager: Arc::new(RpcShareManager::new(client, &settings)),
            settings,
        };
        let server = ServerOptions { answers_pings: config.messaging.rpc_ping_enabled, ..ServerOptions::default() };
        Ok(Self { peers, transport, server })
    }

    pub(super) fn access(&self) -> ManilaAccess {
        let Peers { database, share_manager, settings } = &self.peers;
        ManilaAccess::new(Arc::clone(database), Arc::clone(share_manager), settings)
    }

    pub(super) fn follower(&self) -> ManilaFollower {
        ManilaFollower::new(self.peers.clone())
    }

    pub(super) fn notifier(&self) -> ManilaNotifier {
        ManilaNotifier::new(self.peers.clone())
    }

    /// Takes requests from now on, as soon as everybody that this needs is there.
    pub(super) fn serve(self, jobs: &Service) -> Manila {
        let Self { peers, transport, server } = self;
        let service = ManilaService::start(Parts {
            peers: peers.clone(),
            jobs: Arc::new(jobs.clone()),
            transport: Arc::clone(&transport) as Arc<dyn Transport>,
            broker: Arc::clone(&transport) as Arc<dyn BrokerHealth>,
            server,
            // An embedded store is one host's.
            job_store: JobStore::OfThisHost,
        });
        let service = Arc::new(service);
        let watched = Arc::downgrade(&service);
        jobs.watch(move || watched.upgrade().map_or_else(Vec::new, |service| service.troubles()));
        Manila { service, peers, transport }
    }
}

async fn database(config: &ManilaConfig) -> Result<SqlDatabase, DatabaseError> {
    match timeout(CONNECT_TIME, SqlDatabase::connect(config.database.clone())).await {
        Ok(Ok(database)) => return Ok(database),
        Ok(Err(error)) => tracing::error!(%error, "Manila's database is not to be had; going on without it for now"),
        Err(_) => tracing::error!("Manila's database does not answer; going on without it for now"),
    }
    SqlDatabase::open(config.database.clone())
}

/// Manila's side of a service that runs.
pub(super) struct Manila {
    service: Arc<ManilaService>,
    peers: Peers,
    transport: Arc<RabbitTransport>,
}

impl Manila {
    /// Takes no more requests. Jobs may still tell what becomes of them, until [`Closing::close`].
    pub(super) async fn stop(self) -> Closing {
        if timeout(STOP_TIME, self.service.stop()).await.is_err() {
            tracing::warn!("Manila was not told that the service stops");
        }
        Closing { peers: self.peers, transport: self.transport }
    }
}

/// Connections that nobody needs any more once the jobs have come to rest.
pub(super) struct Closing {
    peers: Peers,
    transport: Arc<RabbitTransport>,
}

impl Closing {
    pub(super) async fn close(self) {
        let closed = async {
            self.transport.close().await;
            self.peers.database.close().await;
        };
        if timeout(STOP_TIME, closed).await.is_err() {
            tracing::warn!("connections to Manila do not come to an end");
        }
    }
}
