//! One connection to one broker.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo, SASLMechanism};
use lapin::{Channel, Connection, ConnectionProperties};
use rustls::ClientConfig;
use secrecy::ExposeSecret as _;
use uuid::Uuid;

use super::limits::Limits;
use super::names::program_name;
use super::options::{Login, RabbitOptions};
use super::url::Host;

/// How connections are made, the same for all of them.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    pub(super) virtual_host: String,
    pub(super) login: Login,
    pub(super) heartbeat_seconds: u16,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) limits: Limits,
}

/// A connection that ends with this value, whatever state it is in.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    // Ends the connection's thread even if the broker is frozen.
    _socket: SocketGuard,
    pub(super) broker: String,
}

/// Why there is no connection, or none any more.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no answer within {} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("{}", describe(.0))]
    Amqp(#[from] lapin::Error),
    #[error("the broker {0}")]
    Ended(&'static str),
}

impl LinkError {
    /// The reply code of the broker, if it gave one.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Amqp(error) => match error.kind() {
                lapin::ErrorKind::ProtocolError(error) => Some(error.get_id()),
                _ => None,
            },
            _ => None,
        }
    }

    /// What the broker says to the code.
    pub(super) fn text(&self) -> String {
        self.to_string()
    }
}

/// What the library says, with a hint where the reason is a common mistake.
fn describe(error: &lapin::Error) -> String {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else { return error.to_string() };
    let hint = match error.get_id() {
        403 => "; check the user, its password and its permissions (`rabbitmqctl list_users`, `list_permissions`)",
        530 => "; check that the virtual host of transport_url exists (`rabbitmqctl list_vhosts`)",
        _ => "",
    };
    format!("{} ({}){hint}", error.get_message(), error.get_id())
}

/// Waits for a command to the broker, but not for ever: nothing of it ends by itself while the broker is frozen.
pub(super) async fn within<T>(
    limit: Duration,
    command: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(limit, command).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LinkError::Silent(limit)),
    }
}

impl Connector {
    pub(super) fn new(
        options: &RabbitOptions,
        virtual_host: &str,
        tls: Option<Arc<ClientConfig>>,
        limits: Limits,
    ) -> Self {
        Self {
            virtual_host: virtual_host.into(),
            login: options.login,
            heartbeat_seconds: options.heartbeat_seconds,
            tls,
            limits,
        }
    }

    /// Connects and logs in.
    pub(super) async fn connect(&self, host: &Host) -> Result<Link, LinkError> {
        let socket = SocketGuard::default();
        let shared = Arc::clone(&socket.0);
        let tls = self.tls.clone();
        let limit = self.limits.connect;
        // The kernel gives up on what it cannot deliver for so long; without heartbeats it has its own idea.
        let unsent_limit_ms = u32::from(self.heartbeat_seconds) * 1000;
        let runtime = lapin::runtime::default_runtime()?;
        let connect = Connection::connector(
            self.uri(host),
            runtime,
            async move |uri, runtime| {
                let AMQPAuthority { host, port, .. } = uri.authority;
                let open = async {
                    let stream =
                        AsyncTcpStream::connect(&runtime, runtime.to_socket_addrs((host.clone(), port))).await?;
                    if let AsyncTcpStream::Plain(plain) = &stream {
                        let plain = plain.get_ref().as_fd();
                        rustix::net::sockopt::set_socket_keepalive(plain, true)?;
                        rustix::net::sockopt::set_tcp_user_timeout(plain, unsent_limit_ms)?;
                        keep(&shared, plain.try_clone_to_owned()?.into());
                    }
                    match &tls {
                        None => Ok(stream),
                        Some(config) => stream.into_rustls(&RustlsConnector::from(Arc::clone(config)), &host).await,
                    }
                };
                // It runs on a thread of its own, which nobody can drop.
                let opened = tokio::time::timeout(limit, open).await;
                Ok(opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?)
            },
            properties(),
        );
        let connection = within(limit, connect).await?;
        Ok(Link { connection, _socket: socket, broker: host.to_string() })
    }

    fn uri(&self, host: &Host) -> AMQPUri {
        AMQPUri {
            // TLS is our own affair.
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: host.user.clone(), password: host.password.expose_secret().into() },
                host: host.name.clone(),
                port: host.port,
            },
            vhost: self.virtual_host.clone(),
            query: AMQPQueryString {
                heartbeat: Some(self.heartbeat_seconds),
                auth_mechanism: Some(match self.login {
                    Login::Plain => SASLMechanism::Plain,
                    Login::AmqPlain => SASLMechanism::AMQPlain,
                    Login::External => SASLMechanism::External,
                    Login::RabbitCrDemo => SASLMechanism::RabbitCrDemo,
                }),
                ..AMQPQueryString::default()
            },
        }
    }
}

/// Who we are to those who look at the broker's list of connections. The capabilities are the library's.
fn properties() -> ConnectionProperties {
    let name = format!("{}:{}:{}", program_name(), std::process::id(), Uuid::new_v4());
    ConnectionProperties::default().with_connection_name(name.into())
}

impl Link {
    pub(super) async fn channel(&self, limits: &Limits) -> Result<Channel, LinkError> {
        within(limits.command, self.connection.create_channel()).await
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }

    /// What happens to the connection from now on.
    pub(super) fn events(&self) -> impl futures_util::Stream<Item = lapin::Event> + Send + 'static {
        self.connection.events_listener()
    }

    /// Says goodbye, after what was about to be sent.
    pub(super) async fn close(&self, limits: &Limits) {
        if let Err(error) = within(limits.close, self.connection.close(200, "OK".into())).await {
            tracing::debug!(broker = self.broker, error = error.text(), "the broker did not say goodbye");
        }
    }
}

/// The socket of a connection, beside the library's own hold of it.
#[derive(Debug, Default)]
struct Socket {
    stream: Option<TcpStream>,
    is_over: bool,
}

impl Socket {
    fn end(&mut self) {
        if let Some(stream) = self.stream.take() {
            // It is already shut, if all went well.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

type SharedSocket = Arc<Mutex<Socket>>;

fn keep(shared: &SharedSocket, stream: TcpStream) {
    let mut socket = shared.lock().unwrap_or_else(PoisonError::into_inner);
    socket.stream = Some(stream);
    if socket.is_over {
        socket.end();
    }
}

/// Shuts the socket when it is dropped, which is what the library's thread notices in any state.
#[derive(Debug, Default)]
struct SocketGuard(SharedSocket);

impl Drop for SocketGuard {
    fn drop(&mut self) {
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.is_over = true;
        socket.end();
    }
}
