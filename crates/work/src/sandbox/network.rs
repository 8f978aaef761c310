//! What a job needs whose repository is reached over a network: the one server, and what tells its address and whom to
//! trust.

use std::path::Path;

use job::{Endpoint, JobSpec};

/// Names of servers, and how they are looked up. Some are missing on each machine.
const NAMES: [&str; 5] = ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// Certificates of those who may vouch for a server: where the distributions keep them. No private keys lie there.
const TRUST: [&str; 6] = [
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates/extracted",
];

/// DNS, where an answer is too large for a datagram.
pub(super) const DNS_PORT: u16 = 53;

/// Files that are there, each alone.
#[expect(clippy::disallowed_methods, reason = "paths of the system, which nobody else can change")]
pub(super) fn files() -> impl Iterator<Item = &'static Path> {
    NAMES.iter().map(Path::new).filter(|path| path.is_file())
}

/// Directories that are there.
#[expect(clippy::disallowed_methods, reason = "paths of the system, which nobody else can change")]
pub(super) fn dirs() -> impl Iterator<Item = &'static Path> {
    TRUST.iter().map(Path::new).filter(|path| path.is_dir())
}

/// The port of the repository's server, where the job has one.
pub(super) fn server_port(spec: &JobSpec) -> Option<u16> {
    [&spec.source, &spec.dest].into_iter().find_map(|endpoint| match endpoint {
        Endpoint::Url { url } => port(url.shown()),
        _ => None,
    })
}

/// Of `rest:http://user@host:8000/path`. An address that tells none leaves nothing open.
fn port(url: &str) -> Option<u16> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    // An IPv6 address has colons of its own, in brackets.
    let after_address = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after_address.rsplit_once(':') {
        Some((_, port)) => port.parse().ok(),
        None if scheme.ends_with("https") => Some(443),
        None => Some(80),
    }
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn the_port_is_that_of_the_address() {
        for (url, expected) in [
            ("rest:http://h:8000/a", Some(8000)),
            ("rest:https://u:***@h/a:9", Some(443)),
            ("s3:http://h", Some(80)),
            ("s3:https://[::1]:9000/b", Some(9000)),
            ("s3:https://[::1]/b", Some(443)),
            ("rest:http://h:x/", None),
            ("nothing", None),
        ] {
            assert_eq!(port(url), expected, "{url}");
        }
    }
}
