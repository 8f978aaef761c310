//! The doors of the service: its socket, its certificates, its tokens.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Check;
use crate::config::Config;

pub(super) fn checks(config: &Config) -> Vec<Check> {
    let mut checks: Vec<_> = config.api.socket.as_deref().map(socket).into_iter().collect();
    let Some(address) = config.api.listen else { return checks };
    checks.push(tokens(&config.api.tokens_file));
    match &config.api.tls {
        Some((certificates, key)) => checks.extend([pem("tls_cert", certificates), pem("tls_key", key)]),
        None if address.ip().is_loopback() || config.api.allow_plain => {
            checks.push(Check::warn(
                "tls",
                "not configured",
                "set `tls_cert` and `tls_key`: tokens travel in the clear",
            ));
        }
        None => checks.push(Check::fail(
            "tls",
            format!("not configured, and {address} is reached from outside"),
            "set `tls_cert` and `tls_key`, or listen on 127.0.0.1",
        )),
    }
    checks
}

fn socket(path: &Path) -> Check {
    const NAME: &str = "socket";
    let shown = path.display();
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            Check::fail(NAME, format!("`{shown}` is no socket"), "move it away, or name another with `socket` in [api]")
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Check::ok(NAME, format!("a service answers on `{shown}`")),
        Ok(_) => Check::ok(NAME, format!("`{shown}`, left behind; the service replaces it")),
        Err(_) if path.parent().is_some_and(Path::is_dir) => Check::ok(NAME, format!("`{shown}`, no service runs")),
        Err(_) => Check::warn(
            NAME,
            format!("the directory of `{shown}` is not there"),
            "make it, or let systemd do so (RuntimeDirectory=manila-data)",
        ),
    }
}

fn tokens(path: &Path) -> Check {
    const NAME: &str = "tokens";
    match web::tokens::list(path) {
        Ok(entries) if entries.is_empty() => {
            Check::warn(NAME, format!("`{}` has none", path.display()), "make one: `manila-data token create NAME`")
        }
        Ok(entries) => Check::ok(NAME, format!("{} in `{}`", entries.len(), path.display())),
        Err(error) => {
            Check::fail(NAME, crate::error::chain(&error), "make the first one with `manila-data token create NAME`")
        }
    }
}

/// Whether the file holds what its name promises; whether it is good shows when the service starts.
fn pem(name: &'static str, path: &Path) -> Check {
    match std::fs::read_to_string(path) {
        Ok(text) if text.contains("-----BEGIN ") => Check::ok(name, path.display().to_string()),
        Ok(_) => Check::fail(name, format!("`{}` is no PEM file", path.display()), "name a file in PEM format"),
        Err(error) => Check::fail(name, format!("`{}`: {error}", path.display()), "check the path and its rights"),
    }
}
