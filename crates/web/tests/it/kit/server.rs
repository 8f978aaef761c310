//! Servers on real sockets in a directory of their own.

use std::path::PathBuf;
use std::sync::Arc;

use testkit::disk::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use web::client::{Address, Client};
use web::{Handle, Server, Settings};

use super::{MemoryService, soon};

/// A server that runs.
pub(crate) struct RunningServer {
    pub(crate) service: Arc<MemoryService>,
    pub(crate) handle: Handle,
    pub(crate) socket: PathBuf,
    pub(crate) tcp_port: Option<u16>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    pub(crate) dir: Arc<TempDir>,
}

impl RunningServer {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With settings changed; the directory is there for files that they need.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::in_dir(Arc::new(TempDir::new()), Arc::default(), change).await
    }

    pub(crate) async fn in_dir(
        dir: Arc<TempDir>,
        service: Arc<MemoryService>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        web::install_crypto();
        let socket = dir.path().join("run").join("api.sock");
        let mut settings = Settings { socket: Some(socket.clone()), ..Settings::default() };
        change(&mut settings);
        let server = Server::bind(service.clone(), settings).await.unwrap();
        let (handle, tcp_port) = (server.handle(), server.tcp_address().map(|address| address.port()));
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.run(shutdown.clone()));
        Self { service, handle, socket, tcp_port, shutdown, task, dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&Address::Socket(self.socket.clone())).unwrap()
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Begins the end; [`Self::ended`] waits for it.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn ended(self) {
        soon("the server's end", self.task).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.shut_down();
        self.ended().await;
    }
}

/// Writes a request as it is and reads until the server closes.
pub(crate) async fn request_on<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read_to_end(stream).await
}

/// All that comes until the other side closes, or breaks off.
pub(crate) async fn read_to_end<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too: the server does not wait for what it refuses to read.
    let _ = soon("the end of a connection", stream.read_to_end(&mut bytes)).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
