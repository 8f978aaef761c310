//! The options of the driver, typed and checked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::defs::{MESSAGING_OPTIONS, RABBIT, RABBIT_OPTIONS};
use super::url::{TransportUrl, UrlError};
use crate::config::{ConfigError, DEFAULT, Kind, Typed, ValueError, Values, typed};
use crate::messaging::compression::Compression;

/// The longest time that `kombu_reconnect_delay` may hold.
const RECONNECT_DELAY_SECONDS_MAX: f64 = 4.5;

/// Everything that messaging is set up by.
#[derive(Clone, Debug)]
pub struct MessagingOptions {
    pub url: TransportUrl,
    pub control_exchange: String,
    pub rpc_response_timeout: Duration,
    pub executor_thread_pool_size: usize,
    pub rpc_ping_enabled: bool,
    /// With what the query of the URL sets.
    pub rabbit: RabbitOptions,
}

/// `[oslo_messaging_rabbit]`. `default()` is what holds where nothing is set.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitOptions {
    pub amqp_durable_queues: bool,
    pub amqp_auto_delete: bool,
    pub tls: Option<TlsOptions>,
    pub reconnect_delay: Duration,
    pub reconnect_splay: Duration,
    pub compression: Option<Compression>,
    pub missing_consumer_retry_timeout: Duration,
    pub failover: Failover,
    pub login: Login,
    pub retry_interval: Duration,
    pub retry_backoff: Duration,
    pub interval_max: Duration,
    pub ha_queues: bool,
    pub quorum_queue: bool,
    pub transient_quorum_queue: bool,
    pub quorum_delivery_limit: i64,
    pub quorum_max_memory_length: i64,
    pub quorum_max_memory_bytes: i64,
    pub transient_queues_ttl_seconds: u32,
    pub qos_prefetch_count: u16,
    /// Zero leaves it to the broker.
    pub heartbeat_seconds: u16,
    pub direct_mandatory_flag: bool,
    pub enable_cancel_on_failover: bool,
    pub queue_manager: Option<QueueManagerOptions>,
    pub stream_fanout: bool,
}

/// How brokers are reached by TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// Without it no certificate is checked.
    pub ca_file: Option<PathBuf>,
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub only_tls_1_2: bool,
    pub verify_host_name: bool,
}

/// Names of queues that outlast a restart of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueManagerOptions {
    /// `None`: of the machine.
    pub host_name: Option<String>,
    /// `None`: of the program.
    pub process_name: Option<String>,
}

/// Which broker is tried after the one that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    RoundRobin,
    Shuffle,
}

/// How a user is known to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    Plain,
    AmqPlain,
    /// By the certificate of the TLS connection.
    External,
    RabbitCrDemo,
}

impl MessagingOptions {
    /// Reads [`MESSAGING_OPTIONS`] and [`RABBIT_OPTIONS`], all of which must be among the definitions of `values`.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        let in_url = |UrlError(what)| ConfigError::Value {
            group: DEFAULT,
            name: "transport_url",
            origin: values.origin(DEFAULT, "transport_url"),
            source: ValueError(what),
        };
        let text = |name| values.get_str(DEFAULT, name).map(Option::unwrap_or_default);
        let count = |name: &'static str| {
            let default = || default_of(&MESSAGING_OPTIONS, name).parse().expect("the default is a number");
            values.get_int(DEFAULT, name).map(|it| it.unwrap_or_else(default))
        };
        let url = TransportUrl::parse(&text("transport_url")?).map_err(in_url)?;
        check_query(&url.query).map_err(in_url)?;
        Ok(Self {
            rabbit: read(Reader { values: Some(values), query: &url.query })?,
            url,
            control_exchange: text("control_exchange")?,
            rpc_response_timeout: Duration::from_secs(count("rpc_response_timeout")? as u64),
            executor_thread_pool_size: count("executor_thread_pool_size")? as usize,
            rpc_ping_enabled: values.get_bool(DEFAULT, "rpc_ping_enabled")?.unwrap_or_default(),
        })
    }
}

impl MessagingOptions {
    /// The defaults, with what a URL sets.
    pub fn of_url(text: &str) -> Result<Self, UrlError> {
        let url = TransportUrl::parse(text)?;
        let number = |name| default_of(&MESSAGING_OPTIONS, name).parse().expect("the default is a number");
        Ok(Self {
            rabbit: RabbitOptions::of_query(&url.query)?,
            url,
            control_exchange: default_of(&MESSAGING_OPTIONS, "control_exchange").into(),
            rpc_response_timeout: Duration::from_secs(number("rpc_response_timeout")),
            executor_thread_pool_size: number("executor_thread_pool_size") as usize,
            rpc_ping_enabled: false,
        })
    }
}

impl RabbitOptions {
    /// Reads [`RABBIT_OPTIONS`], all of which must be among the definitions of `values`. What a URL sets is not seen;
    /// [`MessagingOptions::of`] reads both.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        read(Reader { values: Some(values), query: &BTreeMap::new() })
    }

    /// The defaults, with what the query of a URL sets.
    pub fn of_query(query: &BTreeMap<String, String>) -> Result<Self, UrlError> {
        check_query(query)?;
        read(Reader { values: None, query }).map_err(|error| match error {
            ConfigError::Value { name, source: ValueError(what), .. } => {
                UrlError(format!("sets `{name}`, which {what}"))
            }
            other => UrlError(other.to_string()),
        })
    }
}

impl Default for RabbitOptions {
    fn default() -> Self {
        read(Reader { values: None, query: &BTreeMap::new() }).expect("the defaults go together")
    }
}

/// What the query names must be options, and what they are set to must be of their kind.
fn check_query(query: &BTreeMap<String, String>) -> Result<(), UrlError> {
    for (key, value) in query {
        let Some(def) = RABBIT_OPTIONS.iter().find(|def| def.name == key) else {
            return Err(UrlError(format!("sets `{}`, which is no option of [{RABBIT}]", key.escape_debug())));
        };
        if let (Err(reason), None) = (typed(def.kind, value), def.removed) {
            return Err(UrlError(format!("sets `{key}`, which {reason}, not `{}`", value.escape_debug())));
        }
    }
    Ok(())
}

fn default_of(defs: &[crate::config::OptionDef], name: &str) -> &'static str {
    defs.iter().find(|def| def.name == name).and_then(|def| def.default).expect("the option has a default")
}

/// Where values come from: the query first, then the files, then the defaults.
#[derive(Clone, Copy)]
struct Reader<'a> {
    values: Option<&'a Values>,
    query: &'a BTreeMap<String, String>,
}

impl Reader<'_> {
    fn value(&self, name: &'static str, kind: Kind) -> Result<Option<Typed>, ConfigError> {
        let of_text = |text: &str| typed(kind, text).map_err(|reason| self.error(name, &reason)).map(Some);
        match (self.query.get(name), self.values) {
            (Some(text), _) => of_text(text),
            (None, Some(values)) => Ok(match kind {
                Kind::Bool => values.get_bool(RABBIT, name)?.map(Typed::Bool),
                Kind::Float => values.get_float(RABBIT, name)?.map(Typed::Float),
                Kind::Int { .. } => values.get_int(RABBIT, name)?.map(Typed::Int),
                _ => values.get_str(RABBIT, name)?.map(Typed::Str),
            }),
            (None, None) => Ok(None),
        }
    }

    /// The value, or the default where it has none.
    fn get(&self, name: &'static str) -> Result<Option<Typed>, ConfigError> {
        let def = RABBIT_OPTIONS.iter().find(|def| def.name == name).expect("only options of the table are read");
        match self.value(name, def.kind)? {
            None | Some(Typed::Null) => {
                Ok(def.default.map(|text| typed(def.kind, text).expect("the default is of its kind")))
            }
            value => Ok(value),
        }
    }

    fn bool(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.get(name)? {
            Some(Typed::Bool(value)) => Ok(value),
            _ => unreachable!("`{name}` is a yes or no with a default"),
        }
    }

    fn int(&self, name: &'static str) -> Result<i64, ConfigError> {
        match self.get(name)? {
            Some(Typed::Int(value)) => Ok(value),
            _ => unreachable!("`{name}` is a number with a default"),
        }
    }

    fn seconds(&self, name: &'static str) -> Result<Duration, ConfigError> {
        Ok(Duration::from_secs(self.int(name)?.try_into().unwrap_or(0)))
    }

    fn fraction(&self, name: &'static str, max: f64) -> Result<Duration, ConfigError> {
        match self.get(name)? {
            Some(Typed::Float(value)) if (0.0..=max).contains(&value) => Ok(Duration::from_secs_f64(value)),
            _ => Err(self.error(name, &format!("must be from 0 to {max} seconds"))),
        }
    }

    /// `None` where it is empty.
    fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        match self.get(name)? {
            Some(Typed::Str(value)) if !value.is_empty() => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    fn choice<T: Copy>(&self, name: &'static str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let value = self.text(name)?.unwrap_or_default();
        let chosen = choices.iter().find(|(choice, _)| *choice == value).map(|(_, chosen)| *chosen);
        chosen.ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            self.error(name, &format!("must be one of {}, not `{}`", names.join(", "), value.escape_debug()))
        })
    }

    fn error(&self, name: &'static str, what: &str) -> ConfigError {
        let (group, name, origin) = match self.values {
            Some(values) if self.query.contains_key(name) => {
                let source = ValueError(format!("sets `{name}`, which {what}"));
                let origin = values.origin(DEFAULT, "transport_url");
                return ConfigError::Value { group: DEFAULT, name: "transport_url", origin, source };
            }
            Some(values) => (RABBIT, name, values.origin(RABBIT, name)),
            None => (RABBIT, name, crate::config::Origin::Default),
        };
        ConfigError::Value { group, name, origin, source: ValueError(what.into()) }
    }
}

fn read(from: Reader<'_>) -> Result<RabbitOptions, ConfigError> {
    let compression = match from.text("kombu_compression")? {
        None => None,
        Some(name) => Some(Compression::named(&name).ok_or_else(|| {
            from.error("kombu_compression", &format!("must be gzip or bz2, not `{}`", name.escape_debug()))
        })?),
    };
    let queue_manager = if from.bool("use_queue_manager")? {
        Some(QueueManagerOptions { host_name: from.text("hostname")?, process_name: from.text("processname")? })
    } else {
        None
    };
    let options = RabbitOptions {
        amqp_durable_queues: from.bool("amqp_durable_queues")?,
        amqp_auto_delete: from.bool("amqp_auto_delete")?,
        tls: if from.bool("ssl")? { Some(read_tls(from)?) } else { None },
        reconnect_delay: from.fraction("kombu_reconnect_delay", RECONNECT_DELAY_SECONDS_MAX)?,
        reconnect_splay: from.fraction("kombu_reconnect_splay", f64::from(u16::MAX))?,
        compression,
        missing_consumer_retry_timeout: from.seconds("kombu_missing_consumer_retry_timeout")?,
        failover: from.choice(
            "kombu_failover_strategy",
            &[("round-robin", Failover::RoundRobin), ("shuffle", Failover::Shuffle)],
        )?,
        login: from.choice(
            "rabbit_login_method",
            &[
                ("PLAIN", Login::Plain),
                ("AMQPLAIN", Login::AmqPlain),
                ("EXTERNAL", Login::External),
                ("RABBIT-CR-DEMO", Login::RabbitCrDemo),
            ],
        )?,
        retry_interval: from.seconds("rabbit_retry_interval")?,
        retry_backoff: from.seconds("rabbit_retry_backoff")?,
        interval_max: from.seconds("rabbit_interval_max")?,
        ha_queues: from.bool("rabbit_ha_queues")?,
        quorum_queue: from.bool("rabbit_quorum_queue")?,
        transient_quorum_queue: from.bool("rabbit_transient_quorum_queue")?,
        quorum_delivery_limit: from.int("rabbit_quorum_delivery_limit")?,
        quorum_max_memory_length: from.int("rabbit_quorum_max_memory_length")?,
        quorum_max_memory_bytes: from.int("rabbit_quorum_max_memory_bytes")?,
        transient_queues_ttl_seconds: from.int("rabbit_transient_queues_ttl")? as u32,
        qos_prefetch_count: from.int("rabbit_qos_prefetch_count")? as u16,
        heartbeat_seconds: from.int("heartbeat_timeout_threshold")? as u16,
        direct_mandatory_flag: from.bool("direct_mandatory_flag")?,
        enable_cancel_on_failover: from.bool("enable_cancel_on_failover")?,
        queue_manager,
        stream_fanout: from.bool("rabbit_stream_fanout")?,
    };
    check_together(&options).map_err(|(name, what)| from.error(name, what))?;
    Ok(options)
}

fn read_tls(from: Reader<'_>) -> Result<TlsOptions, ConfigError> {
    let path = |name| from.text(name).map(|it| it.map(PathBuf::from));
    let version = from.text("ssl_version")?.unwrap_or_default();
    let only_tls_1_2 = match version.to_ascii_lowercase().as_str() {
        "" | "sslv23" => false,
        "tlsv1_2" => true,
        "tlsv1" | "tlsv1_1" => {
            return Err(
                from.error("ssl_version", "asks for TLS 1.0 or 1.1, which are broken; write TLSv1_2 or nothing")
            );
        }
        _ => return Err(from.error("ssl_version", "must be TLSv1_2, SSLv23 or empty")),
    };
    let tls = TlsOptions {
        ca_file: path("ssl_ca_file")?,
        cert_file: path("ssl_cert_file")?,
        key_file: path("ssl_key_file")?,
        only_tls_1_2,
        verify_host_name: from.bool("ssl_enforce_hostname_verification")?,
    };
    if tls.key_file.is_some() && tls.cert_file.is_none() {
        return Err(from.error("ssl_key_file", "has no use without ssl_cert_file"));
    }
    Ok(tls)
}

/// Options that upstream refuses together, at the start.
fn check_together(options: &RabbitOptions) -> Result<(), (&'static str, &'static str)> {
    if options.ha_queues && (options.quorum_queue || options.transient_quorum_queue) {
        return Err(("rabbit_ha_queues", "excludes quorum queues; switch one of both off"));
    }
    if options.stream_fanout && options.qos_prefetch_count == 0 {
        return Err(("rabbit_stream_fanout", "needs rabbit_qos_prefetch_count to be more than 0"));
    }
    if options.stream_fanout && !options.transient_quorum_queue {
        return Err(("rabbit_stream_fanout", "needs rabbit_transient_quorum_queue to be true"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{OptionDef, Sources};

    static DEFS: [OptionDef; MESSAGING_OPTIONS.len() + RABBIT_OPTIONS.len()] = {
        let mut defs = [MESSAGING_OPTIONS[0]; MESSAGING_OPTIONS.len() + RABBIT_OPTIONS.len()];
        let mut at = 0;
        while at < defs.len() {
            defs[at] = match at.checked_sub(MESSAGING_OPTIONS.len()) {
                None => MESSAGING_OPTIONS[at],
                Some(at) => RABBIT_OPTIONS[at],
            };
            at += 1;
        }
        defs
    };

    fn values(text: &str) -> Values {
        let mut sources = Sources::new();
        sources.add_text(Path::new("m.conf"), text.as_bytes()).unwrap();
        Values::new(&DEFS, sources)
    }

    fn of(text: &str) -> Result<MessagingOptions, ConfigError> {
        MessagingOptions::of(&values(text))
    }

    /// The whole chain of what is said.
    fn error(text: &str) -> String {
        let error = of(text).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }

    #[track_caller]
    fn check_error(lines: &str, parts: &[&str]) {
        let error = error(&format!("[oslo_messaging_rabbit]\n{lines}\n"));
        assert!(parts.iter().all(|part| error.contains(part)), "{lines}: {error}");
    }

    #[track_caller]
    fn check_url_error(query: &str, parts: &[&str]) {
        let error = error(&format!("[DEFAULT]\ntransport_url = rabbit://u:s3cret@h/?{query}\n"));
        assert!(parts.iter().all(|part| error.contains(part)) && !error.contains("s3cret"), "{query}: {error}");
    }

    #[test]
    fn nothing_set_is_upstreams_default() {
        let options = of("").unwrap();
        assert_eq!(options.rabbit, RabbitOptions::default());
        assert_eq!(options.url.to_string(), "rabbit://guest:***@localhost:5672/");
        assert_eq!(options.control_exchange, "openstack");
        assert_eq!((options.rpc_response_timeout, options.executor_thread_pool_size), (Duration::from_mins(1), 64));
        assert!(!options.rpc_ping_enabled);
        let rabbit = options.rabbit;
        assert_eq!((rabbit.login, rabbit.failover), (Login::AmqPlain, Failover::RoundRobin));
        assert_eq!((rabbit.heartbeat_seconds, rabbit.qos_prefetch_count), (60, 0));
        assert_eq!(rabbit.transient_queues_ttl_seconds, 1800);
        let seconds = [rabbit.retry_interval, rabbit.retry_backoff, rabbit.interval_max, rabbit.reconnect_delay];
        assert_eq!(seconds.map(|it| it.as_secs()), [1, 2, 30, 1]);
        assert_eq!(rabbit.missing_consumer_retry_timeout, Duration::from_mins(1));
        assert!(rabbit.direct_mandatory_flag && rabbit.tls.is_none() && rabbit.queue_manager.is_none());
        assert!(rabbit.compression.is_none() && rabbit.reconnect_splay.is_zero());
        assert!(values("").errors().is_empty());
        assert_eq!(MessagingOptions::of_url("rabbit://").unwrap().rabbit, rabbit);
    }

    #[test]
    fn files_set_options_and_the_url_sets_them_again() {
        let text = "[DEFAULT]\ntransport_url = rabbit://h/?ssl=1&heartbeat_timeout_threshold=30\n\
                    control_exchange = other\nrpc_thread_pool_size = 3\n\
                    [oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 20\nssl_ca_file = /ca.pem\n\
                    kombu_compression = bz2\nuse_queue_manager = true\nhostname = h1\n\
                    kombu_reconnect_delay = 0.5\nrabbit_qos_prefetch_count =\n";
        let options = of(text).unwrap();
        assert_eq!((options.control_exchange.as_str(), options.executor_thread_pool_size), ("other", 3));
        let rabbit = options.rabbit;
        assert_eq!(rabbit.heartbeat_seconds, 30);
        assert_eq!(rabbit.tls.unwrap().ca_file, Some("/ca.pem".into()));
        assert_eq!(rabbit.compression, Some(Compression::Bzip2));
        let manager = QueueManagerOptions { host_name: Some("h1".into()), process_name: None };
        assert_eq!(rabbit.queue_manager, Some(manager));
        assert_eq!(rabbit.reconnect_delay, Duration::from_millis(500));
        assert_eq!(rabbit.qos_prefetch_count, 0, "empty is not set");
        // What only the URL sets is not seen by the group alone.
        assert_eq!(RabbitOptions::of(&values(text)).unwrap().tls, None);
    }

    #[test]
    fn old_names_are_read_and_old_options_told() {
        let text = "[oslo_messaging_rabbit]\nrabbit_quroum_max_memory_length = 5\n\
                    rabbit_quroum_max_memory_bytes = 6\nkombu_reconnect_timeout = 7\nheartbeat_in_pthread = true\n\
                    rabbit_use_ssl = true\n";
        let rabbit = of(text).unwrap().rabbit;
        assert_eq!((rabbit.quorum_max_memory_length, rabbit.quorum_max_memory_bytes), (5, 6));
        assert_eq!(rabbit.missing_consumer_retry_timeout, Duration::from_secs(7));
        assert!(rabbit.tls.is_some());
        let notices = values(text).notices();
        assert!(notices.iter().any(|notice| notice.text.contains("heartbeat_in_pthread")), "{notices:?}");
    }

    #[test]
    fn choices_are_checked() {
        check_error("kombu_failover_strategy = random", &["m.conf", "round-robin, shuffle", "`random`"]);
        check_error("rabbit_login_method = plain", &["PLAIN, AMQPLAIN", "`plain`"]);
        check_error("kombu_compression = brotli", &["gzip or bz2"]);
        check_error("kombu_reconnect_delay = 5", &["0 to 4.5"]);
        check_error("ssl = true\nssl_version = TLSv1", &["TLSv1_2"]);
        check_error("ssl = true\nssl_version = nonsense", &["TLSv1_2"]);
        check_error("ssl = true\nssl_key_file = /key", &["ssl_cert_file"]);
        check_error("rabbit_qos_prefetch_count = 65536", &["at most 65535"]);
        for version in ["", "SSLv23", "tlsv1_2"] {
            let query = [("ssl".to_owned(), "1".to_owned()), ("ssl_version".into(), version.into())].into();
            let tls = RabbitOptions::of_query(&query).unwrap().tls.unwrap();
            assert_eq!(tls.only_tls_1_2, version == "tlsv1_2");
        }
    }

    #[test]
    fn what_upstream_refuses_together_is_refused() {
        check_error("rabbit_quorum_queue = true\nrabbit_ha_queues = true", &["rabbit_ha_queues", "quorum"]);
        check_error("rabbit_transient_quorum_queue = true\nrabbit_ha_queues = true", &["rabbit_ha_queues", "quorum"]);
        check_error("rabbit_stream_fanout = true", &["rabbit_qos_prefetch_count"]);
        check_error("rabbit_stream_fanout = true\nrabbit_qos_prefetch_count = 1", &["rabbit_transient_quorum_queue"]);
    }

    #[test]
    fn a_query_is_checked_as_the_options_are() {
        check_url_error("no_such_option=1", &["transport_url", "`no_such_option`", "no option"]);
        check_url_error("ssl=maybe", &["`ssl`", "`maybe`"]);
        check_url_error("rabbit_quroum_max_memory_length=5", &["no option"]);
        check_url_error("kombu_failover_strategy=random", &["transport_url", "`kombu_failover_strategy`"]);
        check_url_error("rabbit_stream_fanout=1", &["rabbit_qos_prefetch_count"]);
        assert!(MessagingOptions::of_url("rabbit://h/?ssl=maybe").unwrap_err().to_string().contains("`ssl`"));
        MessagingOptions::of_url("rabbit://h/?heartbeat_in_pthread=whatever").unwrap();
    }

    #[test]
    fn every_option_has_help_and_stands_once() {
        for (at, def) in DEFS.iter().enumerate() {
            assert!(!def.help.is_empty() || def.removed.is_some(), "{}", def.name);
            assert!(DEFS[..at].iter().all(|other| other.name != def.name), "{}", def.name);
        }
    }
}
