//! What the operator decides about the doors, and every bound of this room with its reason.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Where the service listens and what callers may do.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Unix socket. Whoever can open it (mode 0600: our own user and root) may do everything.
    pub socket: Option<PathBuf>,
    pub tcp: Option<TcpSettings>,
    /// Directories that endpoints may lie in. `None`: anywhere for callers of the unix socket, nowhere for those of TCP.
    pub allowed_roots: Option<Vec<PathBuf>>,
    pub limits: Limits,
}

/// A door for other machines, or for other users of this one.
#[derive(Clone, Debug)]
pub struct TcpSettings {
    pub address: SocketAddr,
    /// `None`: without encryption, which is refused unless the address is a loopback one.
    pub tls: Option<TlsFiles>,
    /// See [`crate::tokens`].
    pub tokens: PathBuf,
    /// Without encryption also where others can listen.
    pub allow_plain: bool,
    /// Callers may name mounts and mount commands, which run as root here. A caller of the unix socket always may: it is
    /// the service's own user or root.
    pub allow_mounts: bool,
    /// `/metrics` needs no token.
    pub metrics_public: bool,
}

impl TcpSettings {
    /// A door with nothing allowed that is not needed.
    pub fn new(address: SocketAddr, tls: Option<TlsFiles>, tokens: PathBuf) -> Self {
        Self { address, tls, tokens, allow_plain: false, allow_mounts: false, metrics_public: false }
    }
}

/// PEM files. Read again by [`crate::Handle::reload`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's own first, then what leads to its authority.
    pub certificates: PathBuf,
    pub key: PathBuf,
}

/// Bounds of what callers can make the service spend.
#[derive(Clone, Debug)]
pub struct Limits {
    /// A specification with thousands of exclusions has some 100 KiB.
    pub body_bytes_max: usize,
    /// Tokens, cursors and what proxies add stay far below.
    pub header_bytes_max: usize,
    pub headers_max: usize,
    /// Of one caller. A script that creates jobs one after another does not get there; a loop without end does.
    pub requests_per_second: NonZeroU32,
    /// A caller may submit a day's jobs at once.
    pub requests_burst: NonZeroU32,
    /// Of one address that shows no valid token: health checks, and those who guess.
    pub anonymous_per_second: NonZeroU32,
    pub anonymous_burst: NonZeroU32,
    /// Of each door, so that one cannot shut out the other. Those beyond wait to be accepted.
    pub connections_max: usize,
    /// Each holds a connection and a place among the receivers of events. Leaves connections for everything else.
    pub streams_max: usize,
    /// Each may hold a thread that decompresses.
    pub downloads_max: usize,
    /// From the first byte of a request to the end of its header, from the opening of a connection to the end of the
    /// handshake, and how long a connection may rest between requests. Slower clients want to keep places occupied.
    pub header_time: Duration,
    /// From the end of the header to the end of the body.
    pub body_time: Duration,
    /// A caller that reads nothing for so long is gone.
    pub write_time: Duration,
    /// Until an answer begins; above `wait_max`. Nothing here takes long, unless the store hangs.
    pub answer_time: Duration,
    /// The longest `?wait=`. Proxies commonly cut at a minute.
    pub wait_max: Duration,
    /// Between two signs of life on a stream of events; below the half minute after which many proxies hang up.
    pub keep_alive: Duration,
    /// What goes on may end, when the service ends. Part of the 10 s within which the whole service must be gone.
    pub shutdown_time: Duration,
    pub page_size: u32,
    pub page_size_max: u32,
    /// Stored events that are read at once; a stream holds so many in memory.
    pub event_batch: u32,
}

const fn count(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("limits of rates are not zero")
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 1 << 20,
            header_bytes_max: 16 << 10,
            headers_max: 64,
            requests_per_second: count(200),
            requests_burst: count(1000),
            anonymous_per_second: count(10),
            anonymous_burst: count(50),
            connections_max: 256,
            streams_max: 96,
            downloads_max: 16,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(30),
            write_time: Duration::from_mins(1),
            answer_time: Duration::from_secs(90),
            wait_max: Duration::from_mins(1),
            keep_alive: Duration::from_secs(15),
            shutdown_time: Duration::from_secs(4),
            page_size: 50,
            page_size_max: 500,
            event_batch: 256,
        }
    }
}
