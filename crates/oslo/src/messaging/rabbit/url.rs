//! `transport_url`: which brokers, which virtual host, which options over those of the files.
//!
//! Read as oslo.messaging reads it, which is not what a URL library would make of it.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

const PORT: u16 = 5672;

/// What brokers are reached by.
#[derive(Clone)]
pub struct TransportUrl {
    /// At least one.
    pub hosts: Vec<Host>,
    pub virtual_host: String,
    /// Options of `[oslo_messaging_rabbit]` by name, with their values as text.
    pub query: BTreeMap<String, String>,
}

/// One broker, and who we are there.
#[derive(Clone)]
pub struct Host {
    /// A name or an address, without brackets.
    pub name: String,
    pub port: u16,
    pub user: String,
    pub password: SecretString,
}

/// Why a `transport_url` cannot be used. Never holds any part of a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(pub(super) String);

impl TransportUrl {
    /// Reads the text of the option.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError("begins with no scheme; write `rabbit://user:password@host:5672/`".into()));
        };
        check_scheme(scheme)?;
        if rest.contains('#') {
            // Nothing of it is shown: what stands around the sign is most likely a password.
            return Err(UrlError("holds a `#`; within a user name or password write `%23`".into()));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let virtual_host = match decode(path)? {
            path if path.is_empty() => "/".into(),
            path => path,
        };
        let mut hosts = Vec::new();
        for host in authority.split(',').filter(|host| !host.is_empty()) {
            hosts.push(parse_host(host)?);
        }
        let with_credentials = hosts.iter().filter(|(_, has_credentials)| *has_credentials).count();
        if with_credentials != 0 && with_credentials != hosts.len() {
            let without = hosts.iter().filter(|(_, has_credentials)| !has_credentials).map(|(host, _)| &host.name);
            let without: Vec<_> = without.cloned().collect();
            tracing::warn!(
                hosts = without.join(", "),
                "some hosts of transport_url have a user name and a password, and these have not: they will be asked \
                 without; write them for each host"
            );
        }
        let mut hosts: Vec<_> = hosts.into_iter().map(|(host, _)| host).collect();
        if hosts.is_empty() {
            let guest = || "guest".to_owned();
            hosts.push(Host { name: "localhost".into(), port: PORT, user: guest(), password: guest().into() });
        }
        Ok(Self { hosts, virtual_host, query: parse_query(query)? })
    }
}

/// `rabbit`, or `kombu`, which is the same driver. What follows a `+` chose among libraries.
fn check_scheme(scheme: &str) -> Result<(), UrlError> {
    let (driver, library) = scheme.split_once('+').unwrap_or((scheme, ""));
    match (driver, library) {
        ("rabbit", _) | ("kombu", "" | "amqp" | "pyamqp" | "rabbit") => Ok(()),
        _ => Err(UrlError(format!(
            "names the driver `{}`, which there is not; only RabbitMQ is served, by `rabbit://`",
            scheme.escape_debug()
        ))),
    }
}

/// A host, and whether it has a user name and a password.
fn parse_host(text: &str) -> Result<(Host, bool), UrlError> {
    // A password may hold the sign itself.
    let (credentials, address) = match text.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, text),
    };
    let (user, password) = match credentials.map(|it| it.split_once(':').unwrap_or((it, ""))) {
        Some((user, password)) => (decode(user)?, decode(password)?),
        None => (String::new(), String::new()),
    };
    let has_credentials = credentials.is_some_and(|it| it.contains(':'));
    let (name, port) = parse_address(address)?;
    Ok((Host { name, port, user, password: password.into() }, has_credentials))
}

fn parse_address(address: &str) -> Result<(String, u16), UrlError> {
    let (name, port) = if let Some(inner) = address.strip_prefix('[') {
        let Some((name, after)) = inner.split_once(']') else {
            return Err(UrlError("has a `[` without `]` around an IPv6 address".into()));
        };
        match after.strip_prefix(':') {
            Some(port) => (name, port),
            None if after.is_empty() => (name, ""),
            None => return Err(UrlError("has something other than `:port` after an IPv6 address".into())),
        }
    } else {
        match address.split_once(':') {
            // More than one: an IPv6 address without brackets.
            Some((_, port)) if port.contains(':') => (address, ""),
            Some((name, port)) => (name, port),
            None => (address, ""),
        }
    };
    if name.is_empty() {
        return Err(UrlError("has a host without a name".into()));
    }
    if port.is_empty() {
        return Ok((name.into(), PORT));
    }
    // The text is not shown: after a raw `/` in a password it would be the beginning of that.
    let port = port.parse().map_err(|_| {
        UrlError(
            "has a port that is no number from 0 to 65535; a `/`, `?`, `#` or `,` within a user name or password must \
             be written as `%2F`, `%3F`, `%23` or `%2C`"
                .into(),
        )
    })?;
    Ok((name.into(), port))
}

/// Keys with their values; those of a key that is there again are joined by commas. What is empty does not count.
fn parse_query(query: &str) -> Result<BTreeMap<String, String>, UrlError> {
    let mut pairs: BTreeMap<String, String> = BTreeMap::new();
    for pair in query.split('&') {
        let Some((key, value)) = pair.split_once('=').filter(|(_, value)| !value.is_empty()) else { continue };
        let value = decode(&value.replace('+', " "))?;
        let joined = pairs.entry(decode(&key.replace('+', " "))?);
        joined.and_modify(|all| *all = format!("{all},{value}")).or_insert(value);
    }
    Ok(pairs)
}

fn decode(text: &str) -> Result<String, UrlError> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2)));
        if let (b'%', (Some(high), Some(low))) = (byte, escaped) {
            decoded.push((high * 16 + low) as u8);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).map_err(|_| UrlError("holds a `%` sequence that is no UTF-8".into()))
}

impl fmt::Debug for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportUrl")
            .field("hosts", &self.hosts)
            .field("virtual_host", &self.virtual_host)
            .field("query", &self.query)
            .finish()
    }
}

/// With `***` for passwords.
impl fmt::Display for TransportUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("rabbit://")?;
        for (index, host) in self.hosts.iter().enumerate() {
            write!(f, "{}{}:***@{host}", if index == 0 { "" } else { "," }, host.user)?;
        }
        write!(f, "/{}", self.virtual_host.strip_prefix('/').unwrap_or(&self.virtual_host))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***@{self}", self.user)
    }
}

/// Only where it is.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.port, &self.user) == (&other.name, other.port, &other.user)
            && self.password.expose_secret() == other.password.expose_secret()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(user: &str, password: &str, name: &str, port: u16) -> Host {
        Host { name: name.into(), port, user: user.into(), password: password.to_owned().into() }
    }

    #[track_caller]
    fn check(text: &str, virtual_host: &str, hosts: &[Host]) {
        let url = TransportUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(url.virtual_host, virtual_host, "{text}");
        assert!(url.hosts == hosts, "{text}: {:?}", url.hosts);
    }

    #[track_caller]
    fn check_error(text: &str, part: &str) {
        let error = TransportUrl::parse(text).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }

    #[test]
    fn virtual_hosts() {
        let one = [host("u", "p", "h", 5672)];
        check("rabbit://", "/", &[host("guest", "guest", "localhost", 5672)]);
        check("rabbit:///vh", "vh", &[host("guest", "guest", "localhost", 5672)]);
        check("rabbit://u:p@h:5672", "/", &one);
        check("rabbit://u:p@h:5672/", "/", &one);
        check("rabbit://u:p@h:5672//", "/", &one);
        check("rabbit://u:p@h:5672/%2F", "/", &one);
        check("rabbit://u:p@h/a%2Fb", "a/b", &one);
        check("rabbit://u:p@h/a/b", "a/b", &one);
        check("rabbit://u:p@h?ssl=1", "/", &one);
    }

    #[test]
    fn hosts_with_their_own_credentials() {
        check("rabbit://u:p@h1:5672,u:p@h2:5673/vh", "vh", &[host("u", "p", "h1", 5672), host("u", "p", "h2", 5673)]);
        check("rabbit://u:p@h1,h2/vh", "vh", &[host("u", "p", "h1", 5672), host("", "", "h2", 5672)]);
        check("rabbit://u@h/", "/", &[host("u", "", "h", 5672)]);
        check("rabbit://h/", "/", &[host("", "", "h", 5672)]);
        check("rabbit://u:p@h1,,u:p@h2,/", "/", &[host("u", "p", "h1", 5672), host("u", "p", "h2", 5672)]);
    }

    #[test]
    fn odd_names_passwords_and_addresses() {
        check("rabbit://u%40x:p%2Fw%3A@[::1]:5672/", "/", &[host("u@x", "p/w:", "::1", 5672)]);
        check("rabbit://a@b:c@h/", "/", &[host("a@b", "c", "h", 5672)]);
        check("rabbit://u:p:q@h/", "/", &[host("u", "p:q", "h", 5672)]);
        check("rabbit://u:p%zz%@h/", "/", &[host("u", "p%zz%", "h", 5672)]);
        check("rabbit://u:p@[fd00::5]/", "/", &[host("u", "p", "fd00::5", 5672)]);
        check("rabbit://u:p@fd00::5/", "/", &[host("u", "p", "fd00::5", 5672)]);
        check("rabbit://u:p%C3%A9+x@h/", "/", &[host("u", "pé+x", "h", 5672)]);
    }

    #[test]
    fn schemes() {
        check("kombu://u:p@h/", "/", &[host("u", "p", "h", 5672)]);
        check("rabbit+anything://u:p@h/", "/", &[host("u", "p", "h", 5672)]);
        check("kombu+amqp://u:p@h/", "/", &[host("u", "p", "h", 5672)]);
        check_error("amqp://u:p@h/", "`amqp`");
        check_error("kombu+memory:///", "`kombu+memory`");
        check_error("u:p@h", "no scheme");
        check_error("", "no scheme");
    }

    #[test]
    fn what_breaks_a_url_is_told_without_the_password() {
        for text in ["rabbit://u:s3cr#t@h/", "rabbit://u:s3cr/t@h/", "rabbit://u:s3cr?t@h/", "rabbit://u:s3cr,t@h/"] {
            let error = TransportUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains("%23") && !error.contains("s3cr"), "{text}: {error}");
        }
        check_error("rabbit://u:p@h:99999/", "0 to 65535");
        check_error("rabbit://u:p@[::1/", "`]`");
        check_error("rabbit://u:p@:5672/", "without a name");
        check_error("rabbit://u:%ff@h/", "UTF-8");
    }

    #[test]
    fn a_query_is_a_set_of_options() {
        let url = TransportUrl::parse("rabbit://h/?ssl=1&hostname=a+b%21&ssl_version=&x=1&x=2").unwrap();
        let query: Vec<_> = url.query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(query, [("hostname", "a b!"), ("ssl", "1"), ("x", "1,2")]);
    }

    #[test]
    fn passwords_are_never_shown() {
        let url = TransportUrl::parse("rabbit://u:s3cret@h1,v:s3cret@[::1]:1/vh").unwrap();
        assert_eq!(url.to_string(), "rabbit://u:***@h1:5672,v:***@[::1]:1/vh");
        assert!(!format!("{url:?} {:?} {}", url.hosts, url.hosts[0]).contains("s3cret"), "{url:?}");
    }
}
