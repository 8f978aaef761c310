//! A socket to a daemon of this machine, which may be started again or be slow.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a line waits for a daemon that is behind. A burst of lines passes then; a daemon that hangs stops nobody,
/// because the lines after the first that waited in vain do not wait any more.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Datagram {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    is_stalled: bool,
}

impl Datagram {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let mut this = Self { path: path.into(), socket: None, is_stalled: false };
        this.socket()?;
        Ok(this)
    }

    fn socket(&mut self) -> io::Result<&UnixDatagram> {
        let socket = if let Some(socket) = self.socket.take() {
            socket
        } else {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            self.is_stalled = false;
            socket
        };
        Ok(self.socket.insert(socket))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut result = self.socket()?.send(bytes);
        if result.as_ref().is_err_and(is_gone) {
            // The daemon was started again: its new socket has the same name.
            self.socket = None;
            result = self.socket()?.send(bytes);
        }
        let is_stalled = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        if is_stalled != self.is_stalled && (is_stalled || result.is_ok()) {
            self.is_stalled = is_stalled;
            self.socket()?.set_nonblocking(is_stalled)?;
        }
        result.map(drop)
    }
}

/// Whether an error means that nobody listens at the other end any more.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionRefused | ConnectionReset | NotConnected)
}

/// Whether an error means that the message is longer than the socket takes.
pub(super) fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MSGSIZE.raw_os_error())
}

/// The beginning of a line that is too long for a socket as a whole.
pub(super) fn shortened(line: &str) -> String {
    /// Below what sockets take by default, with room for all else in the message.
    const BYTES_MAX: usize = 32 << 10;
    let end = line.floor_char_boundary(BYTES_MAX);
    format!("{} [{} bytes are cut off]", &line[..end], line.len() - end)
}
