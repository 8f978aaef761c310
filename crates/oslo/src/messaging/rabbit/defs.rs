//! The options of messaging as oslo.config knows them: names, kinds, defaults of oslo.messaging 18.3, and what they were
//! called before.

use crate::config::{DEFAULT, Kind, OptionDef};

/// The group of the driver's options.
pub const RABBIT: &str = "oslo_messaging_rabbit";

const fn rabbit(name: &'static str, kind: Kind) -> OptionDef {
    OptionDef::new(RABBIT, name, kind)
}

const fn yes_or_no(name: &'static str, default: &'static str) -> OptionDef {
    rabbit(name, Kind::Bool).default(default)
}

const fn number(name: &'static str, min: i64, default: &'static str) -> OptionDef {
    rabbit(name, Kind::Int { min, max: i64::MAX }).default(default)
}

/// Options of messaging in `[DEFAULT]`.
pub const MESSAGING_OPTIONS: [OptionDef; 5] = [
    OptionDef::new(DEFAULT, "transport_url", Kind::Str).default("rabbit://").secret().help(
        "Message brokers: `rabbit://user:password@host:port[,user:password@host:port]/virtual_host?option=value`.",
    ),
    OptionDef::new(DEFAULT, "control_exchange", Kind::Str)
        .default("openstack")
        .help("Exchange of topics, the same for all services."),
    OptionDef::new(DEFAULT, "rpc_response_timeout", Kind::Int { min: 1, max: i32::MAX as i64 })
        .default("60")
        .help("Seconds to wait for the answer to a call."),
    OptionDef::new(DEFAULT, "executor_thread_pool_size", Kind::Int { min: 1, max: i32::MAX as i64 })
        .default("64")
        .deprecated(&[(DEFAULT, "rpc_thread_pool_size")])
        .help("Requests that are worked on at the same time."),
    OptionDef::new(DEFAULT, "rpc_ping_enabled", Kind::Bool)
        .default("false")
        .help("Whether the method `oslo_rpc_server_ping` is answered."),
];

/// Options of the driver. Any of them can stand in the query of `transport_url`, too.
pub const RABBIT_OPTIONS: [OptionDef; 43] = [
    yes_or_no("amqp_durable_queues", "false").help("Queues and exchange of topics outlive a broker's restart."),
    yes_or_no("amqp_auto_delete", "false").help("Queues and exchange of topics go when nobody uses them any more."),
    number("rpc_conn_pool_size", 1, "30").help("Accepted; one connection is enough for all that is sent."),
    rabbit("conn_pool_min_size", Kind::INT).default("2").help("Accepted; see rpc_conn_pool_size."),
    rabbit("conn_pool_ttl", Kind::INT).default("1200").help("Accepted; see rpc_conn_pool_size."),
    yes_or_no("ssl", "false").deprecated(&[(RABBIT, "rabbit_use_ssl")]).help("Connect by TLS."),
    rabbit("ssl_version", Kind::Str)
        .default("")
        .deprecated(&[(RABBIT, "kombu_ssl_version")])
        .help("TLSv1_2 for only that; otherwise the best that both sides speak."),
    rabbit("ssl_key_file", Kind::Str)
        .default("")
        .deprecated(&[(RABBIT, "kombu_ssl_keyfile")])
        .help("Key of our certificate (PEM)."),
    rabbit("ssl_cert_file", Kind::Str)
        .default("")
        .deprecated(&[(RABBIT, "kombu_ssl_certfile")])
        .help("Our certificate, with its chain (PEM)."),
    rabbit("ssl_ca_file", Kind::Str)
        .default("")
        .deprecated(&[(RABBIT, "kombu_ssl_ca_certs")])
        .help("Authorities that brokers' certificates must come from (PEM). Without it no certificate is checked."),
    yes_or_no("ssl_enforce_hostname_verification", "true")
        .help("Whether the name in the broker's certificate is checked, where transport_url has exactly one host."),
    yes_or_no("ssl_enforce_fips_mode", "false").help("Accepted without effect."),
    rabbit("kombu_reconnect_delay", Kind::Float).default("1.0").help("Seconds before each attempt to connect again."),
    rabbit("kombu_reconnect_splay", Kind::Float)
        .default("0.0")
        .help("Up to so many seconds more, at random, so that not all services come at once."),
    rabbit("kombu_compression", Kind::Str).help("How what we send is compressed: gzip or bz2. Empty: not at all."),
    number("kombu_missing_consumer_retry_timeout", 0, "60")
        .deprecated(&[(RABBIT, "kombu_reconnect_timeout")])
        .help("Seconds for which a reply is tried whose queue is gone."),
    rabbit("kombu_failover_strategy", Kind::Str)
        .default("round-robin")
        .help("Which broker comes next: round-robin or shuffle."),
    rabbit("rabbit_login_method", Kind::Str)
        .default("AMQPLAIN")
        .help("PLAIN, AMQPLAIN, EXTERNAL (by client certificate) or RABBIT-CR-DEMO."),
    number("rabbit_retry_interval", 1, "1").help("Seconds until all brokers are tried again."),
    number("rabbit_retry_backoff", 0, "2").help("So many seconds more each time."),
    number("rabbit_interval_max", 1, "30").help("But never more than this."),
    yes_or_no("rabbit_ha_queues", "false").help("Queues say x-ha-policy=all. RabbitMQ 4 does not heed it."),
    yes_or_no("rabbit_quorum_queue", "false").help("Queues of topics are quorum queues."),
    yes_or_no("rabbit_transient_quorum_queue", "false").help("Queues for replies and fanout are quorum queues."),
    rabbit("rabbit_quorum_delivery_limit", Kind::INT)
        .default("0")
        .help("A message that a quorum queue delivered so often is dropped. 0: never."),
    rabbit("rabbit_quorum_max_memory_length", Kind::INT)
        .default("0")
        .deprecated(&[(RABBIT, "rabbit_quroum_max_memory_length")])
        .help("Messages of a quorum queue that are held in memory. 0: all."),
    rabbit("rabbit_quorum_max_memory_bytes", Kind::INT)
        .default("0")
        .deprecated(&[(RABBIT, "rabbit_quroum_max_memory_bytes")])
        .help("Bytes of a quorum queue that are held in memory. 0: all."),
    // `x-expires` is in milliseconds, of which the broker takes 32 bits.
    rabbit("rabbit_transient_queues_ttl", Kind::Int { min: 0, max: 4_294_967 })
        .default("1800")
        .help("Seconds after which an unused queue for replies or fanout goes away. 0: never."),
    rabbit("rabbit_qos_prefetch_count", Kind::Int { min: 0, max: 65535 })
        .default("0")
        .help("Messages that may wait here unacknowledged. 0: any number."),
    rabbit("heartbeat_timeout_threshold", Kind::Int { min: 0, max: 65535 })
        .default("60")
        .help("Seconds of a broker's silence after which it counts as lost, if the broker does not want fewer."),
    rabbit("heartbeat_rate", Kind::INT)
        .default("3")
        .help("Accepted; two heartbeats are sent within the time that was agreed on."),
    yes_or_no("direct_mandatory_flag", "true").help("Whether the broker tells us that a reply's queue is gone."),
    yes_or_no("enable_cancel_on_failover", "false").help("Consumers say x-cancel-on-ha-failover."),
    yes_or_no("use_queue_manager", "false").help("Queues for replies and fanout have lasting names, not random ones."),
    rabbit("hostname", Kind::Str).help("Part of these names. Default: the name of the machine."),
    rabbit("processname", Kind::Str).help("Part of these names. Default: the name of the program."),
    yes_or_no("rabbit_stream_fanout", "false")
        .help("One stream for all servers of a topic, not a fanout queue for each."),
    rabbit("heartbeat_in_pthread", Kind::Bool).removed("heartbeats are always sent, whatever the service is at"),
    rabbit("rabbit_host", Kind::Str).removed("write the host in transport_url"),
    rabbit("rabbit_port", Kind::Str).removed("write the port in transport_url"),
    rabbit("rabbit_userid", Kind::Str).removed("write the user name in transport_url"),
    rabbit("rabbit_password", Kind::Str).secret().removed("write the password in transport_url"),
    rabbit("rabbit_virtual_host", Kind::Str).removed("write the virtual host in transport_url"),
];
