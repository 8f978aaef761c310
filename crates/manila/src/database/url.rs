//! `[database] connection` as SQLAlchemy reads it: which engine, where, as whom, and how protected.
//!
//! The grammar is SQLAlchemy's own, with its oddities: a password may hold `/` and `?`, and ends at the first `@`.

use std::fmt;
use std::path::{Path, PathBuf};

/// A database, and how to come to it. Its password shows nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    pub(super) engine: Engine,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    /// For PostgreSQL also the directory of a socket.
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    /// Name of the database, or the file of SQLite.
    pub(super) database: String,
    pub(super) unix_socket: Option<PathBuf>,
    pub(super) tls: Tls,
    pub(super) application_name: Option<String>,
    /// Settings of a PostgreSQL session: `options=-c name=value`.
    pub(super) session: Vec<(String, String)>,
    warnings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// And MariaDB.
    MySql,
    Postgres,
    Sqlite,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) mode: TlsMode,
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disabled,
    /// Where the server has it, with whatever certificate; else without.
    #[default]
    Preferred,
    /// With whatever certificate.
    Required,
    /// Signed by an authority that we know.
    VerifyCa,
    /// And made for this host.
    VerifyIdentity,
}

/// What is wrong with a `connection`. The text of the URL is in none of these: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    #[error(
        "`connection` in [database] is no URL; write it as mysql+pymysql://user:password@host/manila (percent-encode \
         what is special in user and password)"
    )]
    NoUrl,
    #[error("`connection` in [database] begins with `{0}`; it must be mysql, mariadb, postgresql or sqlite")]
    Scheme(String),
    #[error("`connection` in [database] is not set, or is a database in memory; name Manila's database")]
    InMemory,
    #[error("`connection` in [database] names no database; add it behind the host: //host/manila")]
    NoDatabase,
    #[error("the port in `connection` in [database] must be a number from 1 to 65535")]
    Port,
    #[error("`{name}` in `connection` in [database] {what}")]
    Parameter { name: String, what: String },
}

impl DatabaseUrl {
    /// `parameters` is `[database] connection_parameters`: `k=v&k2=v2`, more of what may stand behind a `?`.
    pub fn parse(text: &str, parameters: &str) -> Result<Self, DatabaseUrlError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once("://").ok_or(DatabaseUrlError::NoUrl)?;
        let (dialect, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_word = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if dialect.is_empty() || !is_word(dialect) || !is_word(driver) {
            return Err(DatabaseUrlError::NoUrl);
        }
        let engine = match dialect {
            "mysql" | "mariadb" => Engine::MySql,
            "postgresql" => Engine::Postgres,
            "sqlite" => Engine::Sqlite,
            _ => return Err(DatabaseUrlError::Scheme(dialect.into())),
        };
        let parts = Parts::of(rest);
        let mut url = Self {
            engine,
            user: parts.user.map(unquoted),
            password: parts.password.map(unquoted),
            host: parts.host.map(Into::into),
            port: parts.port.map(port).transpose()?,
            database: parts.database.unwrap_or_default().into(),
            unix_socket: None,
            tls: Tls::default(),
            application_name: None,
            session: Vec::new(),
            warnings: Vec::new(),
        };
        let mut asked = TlsAsked::default();
        for (name, value) in pairs(parts.query.unwrap_or_default()).chain(pairs(parameters)) {
            url.set(&name, value, &mut asked)?;
        }
        url.tls = match engine {
            Engine::MySql => asked.mysql()?,
            Engine::Postgres => asked.postgres()?,
            Engine::Sqlite => Tls::default(),
        };
        match url.database.as_str() {
            "" | ":memory:" if engine == Engine::Sqlite => Err(DatabaseUrlError::InMemory),
            "" => Err(DatabaseUrlError::NoDatabase),
            _ => Ok(url),
        }
    }

    /// What was given and has no effect here, one line each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn set(&mut self, name: &str, value: String, tls: &mut TlsAsked) -> Result<(), DatabaseUrlError> {
        let wrong = |what: &str| DatabaseUrlError::Parameter { name: name.into(), what: what.into() };
        match (self.engine, name) {
            // Text goes over the connection as utf8mb4, which holds all that these hold.
            (Engine::MySql, "charset") if matches!(&*value, "utf8" | "utf8mb3" | "utf8mb4") => {}
            (Engine::MySql, "unix_socket") => self.unix_socket = Some(value.into()),
            (Engine::MySql, "ssl_mode") | (Engine::Postgres, "sslmode") => tls.mode = Some(value),
            (Engine::MySql, "ssl_ca") | (Engine::Postgres, "sslrootcert") => tls.ca = Some(value),
            (Engine::MySql, "ssl_cert") | (Engine::Postgres, "sslcert") => tls.cert = Some(value),
            (Engine::MySql, "ssl_key") | (Engine::Postgres, "sslkey") => tls.key = Some(value),
            (Engine::MySql, "ssl_disabled") => tls.is_disabled = boolean(&value).ok_or(wrong(BOOLEAN))?,
            (Engine::MySql, "ssl_verify_cert") => tls.verify_cert = Some(boolean(&value).ok_or(wrong(BOOLEAN))?),
            (Engine::MySql, "ssl_verify_identity" | "ssl_check_hostname") => {
                tls.verify_host = Some(boolean(&value).ok_or(wrong(BOOLEAN))?);
            }
            // Going on without would trust others than the operator named.
            (Engine::MySql, "ssl_capath") => return Err(wrong("is not known here; name one file with `ssl_ca`")),
            (Engine::Postgres, "host") => self.host = Some(value),
            (Engine::Postgres, "port") => self.port = Some(port(&value)?),
            (Engine::Postgres, "application_name") => self.application_name = Some(value),
            (Engine::Postgres, "options") => {
                self.session = session_settings(&value).ok_or(wrong("must be settings, each as `-c name=value`"))?;
            }
            // Waiting has limits of its own here; the others say what is so anyway.
            (Engine::MySql, "connect_timeout" | "read_timeout" | "write_timeout" | "use_unicode" | "local_infile")
            | (Engine::Postgres, "connect_timeout" | "client_encoding") => {}
            _ => self.warnings.push(format!("`{name}` in `connection` in [database] has no effect here")),
        }
        Ok(())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.engine {
            Engine::MySql => "mysql://",
            Engine::Postgres => "postgresql://",
            Engine::Sqlite => return write!(f, "sqlite:///{}", self.database),
        })?;
        if let Some(user) = &self.user {
            write!(f, "{}@", user.escape_debug())?;
        }
        match (&self.unix_socket, &self.host) {
            (Some(socket), _) => write!(f, "[{}]", socket.display())?,
            (None, Some(host)) if host.contains(':') => write!(f, "[{host}]")?,
            (None, Some(host)) => f.write_str(host)?,
            (None, None) => {}
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// What stands behind `://`, undecoded.
struct Parts<'a> {
    user: Option<&'a str>,
    password: Option<&'a str>,
    host: Option<&'a str>,
    port: Option<&'a str>,
    database: Option<&'a str>,
    query: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let some = |text: &'a str| (!text.is_empty()).then_some(text);
        let (user, password, place) = Self::user(text);
        let (place, query) = place.split_once('?').map_or((place, None), |(place, query)| (place, Some(query)));
        let (place, database) =
            place.split_once('/').map_or((place, None), |(place, database)| (place, Some(database)));
        let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        Self {
            user: user.and_then(some),
            password,
            host: some(host),
            port: port.and_then(some),
            database: database.and_then(some),
            query,
        }
    }

    /// A user's name ends at the first `:`, his password at the first `@` behind it.
    fn user(text: &'a str) -> (Option<&'a str>, Option<&'a str>, &'a str) {
        let name_end = text.find([':', '/']).unwrap_or(text.len());
        if text[name_end..].starts_with(':')
            && let Some((password, place)) = text[name_end + 1..].split_once('@')
        {
            return (Some(&text[..name_end]), Some(password), place);
        }
        match text[..name_end].rfind('@') {
            Some(at) => (Some(&text[..at]), None, &text[at + 1..]),
            None => (None, None, text),
        }
    }
}

/// All that was said of TLS, in the words of the drivers.
#[derive(Default)]
struct TlsAsked {
    mode: Option<String>,
    ca: Option<String>,
    cert: Option<String>,
    key: Option<String>,
    verify_cert: Option<bool>,
    verify_host: Option<bool>,
    is_disabled: bool,
}

impl TlsAsked {
    /// An authority is checked, and the host's name with it, unless somebody says otherwise, as with PyMySQL below
    /// SQLAlchemy. Where nothing is said, TLS is taken if the server has it: MySQL 8 wants it for passwords.
    fn mysql(self) -> Result<Tls, DatabaseUrlError> {
        let says_anything = self.ca.is_some()
            || self.cert.is_some()
            || self.key.is_some()
            || self.verify_cert.is_some()
            || self.verify_host.is_some();
        let mode = match self.mode.as_deref().map(str::to_ascii_uppercase).as_deref() {
            _ if self.is_disabled => TlsMode::Disabled,
            Some("DISABLED") => TlsMode::Disabled,
            Some("PREFERRED") => TlsMode::Preferred,
            Some("REQUIRED") => TlsMode::Required,
            Some("VERIFY_CA") => TlsMode::VerifyCa,
            Some("VERIFY_IDENTITY") => TlsMode::VerifyIdentity,
            Some(_) => {
                let what = "must be DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY".into();
                return Err(DatabaseUrlError::Parameter { name: "ssl_mode".into(), what });
            }
            None if !says_anything => TlsMode::Preferred,
            None => match (self.verify_cert, self.verify_host, &self.ca) {
                (Some(false), ..) => TlsMode::Required,
                (_, Some(true), _) | (_, None, Some(_)) => TlsMode::VerifyIdentity,
                (Some(true), ..) | (_, Some(false), Some(_)) => TlsMode::VerifyCa,
                (None, _, None) => TlsMode::Required,
            },
        };
        self.files(mode, "ssl_cert", "ssl_key")
    }

    fn postgres(self) -> Result<Tls, DatabaseUrlError> {
        let mode = match self.mode.as_deref().unwrap_or("prefer") {
            "disable" => TlsMode::Disabled,
            "allow" | "prefer" => TlsMode::Preferred,
            // libpq checks against an authority once it is told one.
            "require" if self.ca.is_some() => TlsMode::VerifyCa,
            "require" => TlsMode::Required,
            "verify-ca" => TlsMode::VerifyCa,
            "verify-full" => TlsMode::VerifyIdentity,
            _ => {
                let what = "must be disable, allow, prefer, require, verify-ca or verify-full".into();
                return Err(DatabaseUrlError::Parameter { name: "sslmode".into(), what });
            }
        };
        self.files(mode, "sslcert", "sslkey")
    }

    fn files(self, mode: TlsMode, cert: &str, key: &str) -> Result<Tls, DatabaseUrlError> {
        let alone = |name: &str, other: &str| {
            Err(DatabaseUrlError::Parameter { name: name.into(), what: format!("needs `{other}` beside it") })
        };
        match (&self.cert, &self.key) {
            (Some(_), None) => return alone(cert, key),
            (None, Some(_)) => return alone(key, cert),
            _ => {}
        }
        let path = |text: Option<String>| text.map(|text| Path::new(&text).to_path_buf());
        Ok(Tls { mode, ca: path(self.ca), cert: path(self.cert), key: path(self.key) })
    }
}

const BOOLEAN: &str = "must be true or false";

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn port(text: &str) -> Result<u16, DatabaseUrlError> {
    text.parse().ok().filter(|port| *port > 0).ok_or(DatabaseUrlError::Port)
}

/// `-c name=value`, with or without the blank, any number of times.
fn session_settings(text: &str) -> Option<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c")? {
            "" => words.next()?,
            setting => setting,
        };
        let (name, value) = setting.split_once('=')?;
        settings.push((name.into(), value.into()));
    }
    Some(settings)
}

/// Names and values behind a `?`. There, and only there, `+` is a blank.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decoded = |text: &str| unquoted(&text.replace('+', " "));
    query.split('&').filter_map(|pair| pair.split_once('=')).map(move |(name, value)| (decoded(name), decoded(value)))
}

/// Python's `unquote`: what is no percent code stays as it is, what is no UTF-8 is replaced.
fn unquoted(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = tail.first_chunk::<2>().filter(|_| *first == b'%').and_then(|code| {
            let digit = |byte: u8| (byte as char).to_digit(16);
            Some((digit(code[0])? * 16 + digit(code[1])?) as u8)
        });
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        DatabaseUrl::parse(text, "").unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        DatabaseUrl::parse(text, "").unwrap_err().to_string()
    }

    #[test]
    fn schemes_name_engines_whatever_the_driver() {
        let check = |text: &str, engine| assert_eq!(url(text).engine, engine, "{text}");
        for scheme in ["mysql", "mysql+pymysql", "mysql+mysqldb", "mariadb", "mariadb+pymysql", "mysql+mysqlconnector"]
        {
            check(&format!("{scheme}://manila:x@db/manila"), Engine::MySql);
        }
        for scheme in ["postgresql", "postgresql+psycopg2", "postgresql+psycopg"] {
            check(&format!("{scheme}://manila:x@db/manila"), Engine::Postgres);
        }
        check("sqlite:////var/lib/manila/manila.sqlite", Engine::Sqlite);
        assert_eq!(url("sqlite:////var/lib/manila.sqlite").database, "/var/lib/manila.sqlite");
        assert_eq!(url("sqlite:///manila.sqlite").database, "manila.sqlite");
    }

    #[test]
    fn parts_are_found_as_sqlalchemy_finds_them() {
        let check = |text: &str, user: &str, password: Option<&str>, host: Option<&str>, port, database: &str| {
            let url = url(text);
            assert_eq!(url.user.as_deref().unwrap_or_default(), user, "{text}");
            assert_eq!(url.password.as_deref(), password, "{text}");
            assert_eq!(url.host.as_deref(), host, "{text}");
            assert_eq!(url.port, port, "{text}");
            assert_eq!(url.database, database, "{text}");
        };
        check("mysql://u:p@h:3307/m?charset=utf8", "u", Some("p"), Some("h"), Some(3307), "m");
        check("mysql://u@h/m", "u", None, Some("h"), None, "m");
        check("mysql://h:3306/m", "", None, Some("h"), Some(3306), "m");
        check("mysql://u:p@/m", "u", Some("p"), None, None, "m");
        check("mysql:///m", "", None, None, None, "m");
        check("mysql://u:@h/m", "u", Some(""), Some("h"), None, "m");
        check("mysql://u:p@[2001:db8::1]:3306/m", "u", Some("p"), Some("2001:db8::1"), Some(3306), "m");
        check("mysql://u:p@[::1]/m", "u", Some("p"), Some("::1"), None, "m");
        check("mysql://us%40er:p%40%2f%3A%25+@h/m", "us@er", Some("p@/:%+"), Some("h"), None, "m");
        check("mysql://u:a/b?c:d@h/m", "u", Some("a/b?c:d"), Some("h"), None, "m");
        check("mysql://u:100%@h/m", "u", Some("100%"), Some("h"), None, "m");
        check("mysql://u:%e9@h/m", "u", Some("\u{fffd}"), Some("h"), None, "m");
        check(
            "postgresql://u:p@/m?host=/run/postgresql&port=5433",
            "u",
            Some("p"),
            Some("/run/postgresql"),
            Some(5433),
            "m",
        );
    }

    #[test]
    fn parameters_are_understood_or_warned_of() {
        let url = DatabaseUrl::parse(
            "mysql+pymysql://u:p@h/m?charset=utf8mb4&unix_socket=%2Frun%2Fmy+sql.sock&read_timeout=5",
            "binary_prefix=true&novel",
        )
        .unwrap();
        assert_eq!(url.unix_socket.as_deref(), Some(Path::new("/run/my sql.sock")));
        assert_eq!(url.warnings(), ["`binary_prefix` in `connection` in [database] has no effect here"]);
        let latin = DatabaseUrl::parse("mysql://h/m", "charset=latin1").unwrap();
        assert_eq!(latin.warnings().len(), 1);
        let session = DatabaseUrl::parse("postgresql://h/m?options=-csearch_path%3Dmanila%20-c%20a=b", "").unwrap();
        assert_eq!(session.session, [("search_path".into(), "manila".into()), ("a".into(), "b".into())]);
        assert!(error("postgresql://h/m?options=--x").contains("`options`"));
    }

    #[test]
    fn tls_is_as_strict_as_was_asked() {
        let check = |text: &str, mode| assert_eq!(url(text).tls.mode, mode, "{text}");
        check("mysql://h/m", TlsMode::Preferred);
        check("mysql://h/m?ssl_ca=/ca", TlsMode::VerifyIdentity);
        check("mysql://h/m?ssl_ca=/ca&ssl_check_hostname=false", TlsMode::VerifyCa);
        check("mysql://h/m?ssl_ca=/ca&ssl_verify_identity=False", TlsMode::VerifyCa);
        check("mysql://h/m?ssl_ca=/ca&ssl_verify_cert=false", TlsMode::Required);
        check("mysql://h/m?ssl_verify_cert=true", TlsMode::VerifyCa);
        check("mysql://h/m?ssl_verify_identity=true", TlsMode::VerifyIdentity);
        check("mysql://h/m?ssl_cert=/c&ssl_key=/k", TlsMode::Required);
        check("mysql://h/m?ssl_mode=VERIFY_CA&ssl_ca=/ca", TlsMode::VerifyCa);
        check("mysql://h/m?ssl_disabled=true&ssl_ca=/ca", TlsMode::Disabled);
        check("postgresql://h/m", TlsMode::Preferred);
        check("postgresql://h/m?sslmode=disable", TlsMode::Disabled);
        check("postgresql://h/m?sslmode=require", TlsMode::Required);
        check("postgresql://h/m?sslmode=require&sslrootcert=/ca", TlsMode::VerifyCa);
        check("postgresql://h/m?sslmode=verify-full&sslrootcert=/ca", TlsMode::VerifyIdentity);
        let tls = url("postgresql://h/m?sslcert=/c&sslkey=/k&sslrootcert=/ca").tls;
        assert_eq!(tls.cert.as_deref(), Some(Path::new("/c")));
        assert_eq!(tls.key.as_deref(), Some(Path::new("/k")));
        assert_eq!(tls.ca.as_deref(), Some(Path::new("/ca")));
        for wrong in ["ssl_cert=/c", "ssl_key=/k", "ssl_mode=maybe", "ssl_verify_cert=perhaps", "ssl_capath=/etc"] {
            let name = wrong.split_once('=').unwrap().0;
            assert!(error(&format!("mysql://h/m?{wrong}")).contains(&format!("`{name}`")), "{wrong}");
        }
        assert!(error("postgresql://h/m?sslmode=maybe").contains("`sslmode`"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_a_reason() {
        assert!(error("oracle://u:geheim@h/m").contains("begins with `oracle`"));
        for memory in ["sqlite://", "sqlite:///", "sqlite:///:memory:"] {
            assert!(error(memory).contains("in memory"), "{memory}");
        }
        for nameless in ["mysql://u:geheim@h", "mysql://u:geheim@h/", "postgresql://h?x=y"] {
            assert!(error(nameless).contains("names no database"), "{nameless}");
        }
        for port in ["0", "65536", "db", "geheim"] {
            assert!(error(&format!("mysql://u:geheim@h:{port}/m")).contains("port"), "{port}");
        }
        for junk in ["", "manila", "mysql:/u:geheim@h/m", "://h/m", "my sql://h/m", "a+b c://geheim"] {
            assert!(error(junk).contains("no URL"), "{junk}");
        }
    }

    #[test]
    fn passwords_show_nowhere() {
        let good = url("mysql+pymysql://manila:geheim@db:3306/manila?charset=utf8");
        for shown in [format!("{good}"), format!("{good:?}"), format!("{good:#?}")] {
            assert!(shown.contains("manila@db:3306/manila"), "{shown}");
            assert!(!shown.contains("geheim"), "{shown}");
        }
        let wrong = ["x://u:geheim@h/m", "mysql://u:geheim@h", "mysql://u:geheim@h:x/m", "mysql//u:geheim@h/m"];
        for text in wrong.iter().chain(&["mysql://u:geheim@h/m?ssl_mode=x", "mysql+x y://u:geheim@h/m"]) {
            let error = DatabaseUrl::parse(text, "").unwrap_err();
            assert!(!format!("{error} {error:?}").contains("geheim"), "{text}");
        }
    }
}
