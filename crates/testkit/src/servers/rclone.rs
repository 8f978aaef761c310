//! rclone as a server of restic's REST protocol.

use std::path::Path;
use std::process::Command;

use super::{START_LIMIT, Server};

/// Serves repositories below `root`, the directory itself included, at this port of the loopback device. The log goes to
/// `dir`.
#[track_caller]
pub fn serve_restic(root: &Path, dir: &Path, port: u16) -> Server {
    let mut command = Command::new("rclone");
    command.args(["--config", "/dev/null", "serve", "restic", "--addr", &format!("127.0.0.1:{port}")]).arg(root);
    let mut server = Server::spawn("rclone", command, dir);
    server.wait_until_it_listens(port, START_LIMIT);
    server
}
