//! Why the doors cannot be opened.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tokens::TokenError;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    #[error("neither a unix socket nor a TCP address is given to listen on")]
    NoDoor,
    #[error("another process listens on `{}`", path.display())]
    SocketInUse { path: PathBuf },
    #[error("`{}` is not a socket, and is not replaced", path.display())]
    NotASocket { path: PathBuf },
    #[error("cannot listen on `{}`", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("{address} can be reached by others, and tokens would travel unencrypted: give a certificate and a key")]
    PlainTcp { address: SocketAddr },
    #[error("cannot use the certificate or key in `{}`: {what}", path.display())]
    Tls { path: PathBuf, what: String },
    #[error(transparent)]
    Tokens(#[from] TokenError),
}
