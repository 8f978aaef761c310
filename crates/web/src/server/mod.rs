//! The doors: listens, accepts, and gives every connection its bounds. HTTP/1.1 only.

mod connection;
pub(crate) mod stall;
pub(crate) mod tls;
mod unix;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use job::DataService;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Handle, Peer};
use crate::error::ServeError;
use crate::routes;
use crate::settings::{Settings, TcpSettings};
use connection::Connection;

/// Doors that are open: callers can connect, and are answered once [`Self::run`] runs.
#[derive(Debug)]
pub struct Server {
    app: App,
    unix: Option<unix::Door>,
    tcp: Option<TcpListener>,
}

impl Server {
    /// Opens the doors.
    pub async fn bind(service: Arc<dyn DataService>, settings: Settings) -> Result<Self, ServeError> {
        if settings.socket.is_none() && settings.tcp.is_none() {
            return Err(ServeError::NoDoor);
        }
        if let Some(TcpSettings { address, tls: None, allow_plain: false, .. }) = settings.tcp
            && !address.ip().is_loopback()
        {
            return Err(ServeError::PlainTcp { address });
        }
        let (socket, address) = (settings.socket.clone(), settings.tcp.as_ref().map(|tcp| tcp.address));
        let app = App::new(service, settings)?;
        let tcp = match address {
            Some(address) => {
                let failed = |source| ServeError::Tcp { address, source };
                Some(TcpListener::bind(address).await.map_err(failed)?)
            }
            None => None,
        };
        // Last: from here on it is we who answer on this path.
        let unix = socket.map(|path| unix::Door::open(&path)).transpose()?;
        Ok(Self { app, unix, tcp })
    }

    pub fn handle(&self) -> Handle {
        Handle(self.app.clone())
    }

    /// Where the TCP door is, with the port that the system chose if none was given.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Answers until `shutdown`. Then nobody new is let in, streams end, and what is being answered has
    /// [`crate::Limits::shutdown_time`].
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { app, unix, tcp } = self;
        let limits = app.current().settings.limits.clone();
        let doors = Doors {
            router: routes::router(&app),
            app: app.clone(),
            tasks: TaskTracker::new(),
            cut: CancellationToken::new(),
            shutdown: shutdown.clone(),
        };
        tokio::join!(
            async {
                if let Some(door) = &unix {
                    doors.accept(limits.connections_max, || door.accept(), Doors::unix).await;
                }
            },
            async {
                if let Some(listener) = &tcp {
                    let accept = || async { listener.accept().await.map(|(stream, _)| stream) };
                    doors.accept(limits.connections_max, accept, Doors::tcp).await;
                }
            },
        );
        if let Some(door) = unix {
            door.close();
        }
        drop(tcp);
        app.ending().cancel();
        doors.tasks.close();
        if tokio::time::timeout(limits.shutdown_time, doors.tasks.wait()).await.is_err() {
            tracing::warn!(connections = doors.tasks.len(), "callers are cut off in the middle of answers");
            doors.cut.cancel();
            doors.tasks.wait().await;
        }
    }
}

/// What all connections of a run share.
struct Doors {
    app: App,
    router: Router,
    tasks: TaskTracker,
    /// Ends connections at once.
    cut: CancellationToken,
    shutdown: CancellationToken,
}

/// Long enough to free descriptors, short enough to go unnoticed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

impl Doors {
    async fn accept<S, A, F>(&self, connections_max: usize, accept: A, serve: fn(&Self, S) -> Option<Connection>)
    where
        A: Fn() -> F,
        F: Future<Output = io::Result<S>>,
    {
        let places = Arc::new(Semaphore::new(connections_max));
        loop {
            // A place first: callers beyond wait in the kernel's queue, and cost this process nothing.
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("the places are never closed");
                (place, accept().await)
            };
            let accepted = tokio::select! {
                accepted = accepted => Some(accepted),
                () = self.shutdown.cancelled() => None,
            };
            match accepted {
                None => return,
                Some((place, Ok(stream))) => {
                    let Some(connection) = serve(self, stream) else { continue };
                    let (cut, router) = (self.cut.clone(), self.router.clone());
                    self.tasks.spawn(async move {
                        connection.serve(router, &cut).await;
                        drop(place);
                    });
                }
                // Out of descriptors, or the caller is gone already: neither is a reason to stop listening.
                Some((_, Err(error))) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn unix(&self, stream: UnixStream) -> Option<Connection> {
        // The mode of the socket let the caller in; who it is only matters for the record.
        let uid = stream.peer_cred().ok()?.uid();
        Some(Connection::new(self.app.clone(), Peer::Unix { uid }, stream))
    }

    fn tcp(&self, stream: TcpStream) -> Option<Connection> {
        let address = stream.peer_addr().ok()?.ip();
        // Answers are small and whole; waiting for more of them only delays.
        stream.set_nodelay(true).ok()?;
        Some(Connection::new(self.app.clone(), Peer::Tcp { address }, stream))
    }
}
