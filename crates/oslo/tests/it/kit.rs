//! Options and sources to test with.

use std::path::Path;

use oslo::config::{Kind, OptionDef, Sources, Values};

pub(crate) static DEFS: &[OptionDef] = &[
    OptionDef::new("DEFAULT", "state_path", Kind::Str).default("/var/lib/manila"),
    OptionDef::new("DEFAULT", "mount_path", Kind::Str).default("$state_path/mnt"),
    OptionDef::new("DEFAULT", "transport_url", Kind::Str).secret(),
    OptionDef::new("DEFAULT", "log_file", Kind::Str).deprecated(&[("DEFAULT", "logfile")]),
    OptionDef::new("DEFAULT", "debug", Kind::Bool).default("false"),
    OptionDef::new("DEFAULT", "timeout", Kind::Int { min: 0, max: 3600 }).default("180"),
    OptionDef::new("DEFAULT", "data_node_access_ip", Kind::Str).removed("use data_node_access_ips"),
    OptionDef::new("DEFAULT", "quota_age", Kind::INT).default("0").no_effect("the API counts"),
    OptionDef::new("DEFAULT", "access_ips", Kind::List).default(""),
    OptionDef::new("DEFAULT", "mount_options", Kind::Dict).default(""),
    OptionDef::new("DEFAULT", "mapping", Kind::ListDict).default("ip: [nfs]"),
    OptionDef::new("DEFAULT", "pin", Kind::INT).secret(),
    OptionDef::new("database", "connection", Kind::Str).secret().deprecated(&[("DEFAULT", "sql_connection")]),
    OptionDef::new("database", "shown", Kind::Str).default("at $connection"),
    OptionDef::new("database", "delay", Kind::Float).default("0.5"),
    OptionDef::new("data_service", "listen", Kind::Str).default("unix"),
    OptionDef::new("data_service", "job_store", Kind::Str),
];

/// Values of one file after the other: `a.conf`, `b.conf`, …
pub(crate) fn values(files: &[&str]) -> Values {
    Values::new(DEFS, sources(files))
}

pub(crate) fn sources(files: &[&str]) -> Sources {
    let mut sources = Sources::new();
    for (text, letter) in files.iter().zip('a'..) {
        sources.add_text(Path::new(&format!("{letter}.conf")), text.as_bytes()).unwrap();
    }
    sources
}

pub(crate) fn with_environment(mut sources: Sources, variables: &[(&str, &str)]) -> Values {
    sources.set_environment(variables.iter().map(|(name, value)| (name.into(), value.into())));
    Values::new(DEFS, sources)
}

pub(crate) fn text(values: &Values, name: &str) -> Option<String> {
    values.get_str("DEFAULT", name).unwrap()
}
