//! One connection, from its handshake to its end.

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::app::{App, Peer};
use crate::server::stall::{Stalling, Stream};

pub(crate) struct Connection {
    app: App,
    peer: Peer,
    stream: Raw,
}

pub(crate) enum Raw {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl From<UnixStream> for Raw {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TcpStream> for Raw {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl Connection {
    pub(crate) fn new(app: App, peer: Peer, stream: impl Into<Raw>) -> Self {
        Self { app, peer, stream: stream.into() }
    }

    /// Answers requests until the caller hangs up, breaks the rules of time, the service ends, or `cut`.
    pub(crate) async fn serve(self, router: Router, cut: &CancellationToken) {
        let app = self.app.clone();
        let ending = app.ending().clone();
        tokio::select! {
            () = self.drive(router, &ending) => {}
            () = cut.cancelled() => {}
        }
    }

    async fn drive(self, router: Router, ending: &CancellationToken) {
        let Self { app, peer, stream } = self;
        let Some(stream) = secured(&app, stream).await else { return };
        let limits = app.current().settings.limits.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer.clone());
            router.clone().oneshot(request)
        });
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_time)
            .max_headers(limits.headers_max)
            .max_header_size(limits.header_bytes_max)
            .max_buf_size(limits.header_bytes_max.max(64 << 10));
        let io = TokioIo::new(Stalling::new(stream, limits.write_time));
        let mut connection = pin!(builder.serve_connection(io, service));
        let is_ending = tokio::select! {
            ended = connection.as_mut() => { log(ended); false }
            () = ending.cancelled() => true,
        };
        if is_ending {
            // The answer under way is finished, no further request is read.
            connection.as_mut().graceful_shutdown();
            log(connection.await);
        }
    }
}

fn log(ended: hyper::Result<()>) {
    // Callers hang up as they like; that is no event of ours.
    if let Err(error) = ended {
        tracing::debug!(error = crate::problem::chain(&error), "a connection ended early");
    }
}

/// The stream as HTTP sees it: with TLS where the door has it. `None`: the handshake failed, or took too long.
async fn secured(app: &App, stream: Raw) -> Option<Box<dyn Stream>> {
    let stream = match stream {
        Raw::Unix(stream) => return Some(Box::new(stream)),
        Raw::Tcp(stream) => stream,
    };
    let current = app.current();
    let Some(config) = &current.tls else { return Some(Box::new(stream)) };
    let handshake = TlsAcceptor::from(Arc::clone(config)).accept(stream);
    match tokio::time::timeout(current.settings.limits.header_time, handshake).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}
