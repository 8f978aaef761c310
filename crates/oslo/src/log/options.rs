//! The options that oslo.log registers, in files and on the command line.

use crate::config::{DEFAULT, Kind, OptionDef};

const CONTEXT_FORMAT: &str = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s \
     [%(global_request_id)s %(request_id)s %(user_identity)s] %(instance)s%(message)s";
const DEFAULT_FORMAT: &str = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [-] %(instance)s%(message)s";
const IDENTITY_FORMAT: &str = "%(user)s %(project)s %(domain)s %(system_scope)s %(user_domain)s %(project_domain)s";
const LEVELS: &str = "amqp=WARN,boto=WARN,sqlalchemy=WARN,suds=INFO,oslo.messaging=INFO,oslo_messaging=INFO,\
     iso8601=WARN,requests.packages.urllib3.connectionpool=WARN,urllib3.connectionpool=WARN,websocket=WARN,\
     requests.packages.urllib3.util.retry=WARN,urllib3.util.retry=WARN,keystonemiddleware=WARN,\
     routes.middleware=WARN,stevedore=WARN,taskflow=WARN,keystoneauth=WARN,oslo.cache=INFO,oslo_policy=INFO,\
     dogpile.core.dogpile=INFO";

const fn text(name: &'static str, help: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, Kind::Str).help(help)
}

const fn switch(name: &'static str, help: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, Kind::Bool).default("false").help(help)
}

const fn number(name: &'static str, default: &'static str, help: &'static str) -> OptionDef {
    OptionDef::new(DEFAULT, name, Kind::Int { min: 0, max: u32::MAX as i64 }).default(default).help(help)
}

/// All options, those of old releases too, with the defaults of oslo.log 8. All stand in `[DEFAULT]`.
pub const LOG_OPTIONS: &[OptionDef] = &[
    switch("debug", "Logs what happens inside, too."),
    text(
        "log_config_append",
        "A file of Python's logging module, which this program cannot read. It is told and ignored.",
    )
    .deprecated(&[(DEFAULT, "log_config")]),
    text("log_date_format", "Format of %(asctime)s, as strftime reads it; a `%` is written as it is.")
        .default("%Y-%m-%d %H:%M:%S"),
    text("log_file", "File of the log, relative to log_dir. Not set: standard error, unless log_dir is set.")
        .deprecated(&[(DEFAULT, "logfile")]),
    text("log_dir", "Directory of the log file; alone it means a file named after the program in it.")
        .deprecated(&[(DEFAULT, "logdir")]),
    switch(
        "watch_log_file",
        "Opens the file again when it was renamed or removed. Lines of oslo.log's style always do.",
    ),
    switch("use_syslog", "Sends lines to the syslog daemon, too."),
    switch("use_journal", "Sends lines with their fields to systemd's journal, too."),
    text("syslog_log_facility", "Facility of lines that go to syslog or the journal.").default("LOG_USER"),
    switch("use_json", "Logs a JSON object on each line instead of text."),
    switch("use_stderr", "Logs to standard error, too. It is also where lines go that have no other place."),
    switch("log_color", "Gives %(color)s a value by the level, on standard error."),
    number("log_rotate_interval", "1", "Units of time between two rotations; with `weekday` the day, 0 is Monday."),
    text("log_rotate_interval_type", "Unit of log_rotate_interval: seconds, minutes, hours, days, weekday, midnight.")
        .default("days"),
    number("max_logfile_count", "30", "Rotated files that are kept. 0: all, and none where files are rotated by size."),
    number("max_logfile_size_mb", "200", "Size in MiB at which a file is rotated, with log_rotation_type = size."),
    text("log_rotation_type", "When the file is rotated: none, size or interval.").default("none"),
    text("logging_context_format_string", "Format of lines that belong to a request.").default(CONTEXT_FORMAT),
    text("logging_default_format_string", "Format of lines that belong to no request.").default(DEFAULT_FORMAT),
    text("logging_debug_format_suffix", "What stands at the end of lines of level DEBUG.")
        .default("%(funcName)s %(pathname)s:%(lineno)d"),
    text("logging_exception_prefix", "What Python writes before each line of a traceback. There are none here.")
        .default("%(asctime)s.%(msecs)03d %(process)d ERROR %(name)s %(instance)s")
        .no_effect("there are no tracebacks here; what went wrong stands in the line itself"),
    text("logging_user_identity_format", "Format of %(user_identity)s.").default(IDENTITY_FORMAT),
    OptionDef::new(DEFAULT, "default_log_levels", Kind::List)
        .default(LEVELS)
        .help("Levels of single loggers, LOGGER=LEVEL each. Python's loggers stand for what does their work here."),
    switch("publish_errors", "Sends errors as notifications, which this program cannot. It is told and ignored."),
    switch("fatal_deprecations", "For Python programs alone.").no_effect("it is for Python programs alone"),
    text("instance_format", "How the instance stands before the message.").default("[instance: %(uuid)s] "),
    text("instance_uuid_format", "How the instance stands before the message, by its id.")
        .default("[instance: %(uuid)s] "),
    number("rate_limit_interval", "0", "Seconds in which no more than rate_limit_burst lines are logged. 0: no limit."),
    number("rate_limit_burst", "0", "Lines within rate_limit_interval. 0: no limit."),
    text("rate_limit_except_level", "Lines of this level and above have no limit. Empty: all have.")
        .default("CRITICAL"),
    text("verbose", "").removed("the level is INFO, and DEBUG with `debug`"),
    text("log_format", "").removed("use logging_context_format_string and logging_default_format_string"),
    text("use_syslog_rfc_format", "").removed("syslog lines have one format"),
];

/// A flag of the command line that sets an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFlag {
    /// Without the dashes before it.
    pub long: &'static str,
    pub short: Option<char>,
    /// Other spellings, without the dashes before them.
    pub aliases: &'static [&'static str],
    /// The option of `[DEFAULT]`.
    pub option: &'static str,
    pub sets: FlagSets,
}

/// What a flag sets its option to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagSets {
    /// The word that follows; this is what help calls it.
    Value(&'static str),
    /// This text.
    Text(&'static str),
}

const fn flag(long: &'static str, option: &'static str, sets: FlagSets) -> LogFlag {
    LogFlag { long, short: None, aliases: &[], option, sets }
}

const ON: FlagSets = FlagSets::Text("true");
const OFF: FlagSets = FlagSets::Text("false");

/// The flags that oslo.log registers, `watch-log-file` of older releases among them. Of a flag and its contrary, as of
/// any flag, the last one on the command line holds.
pub const LOG_FLAGS: &[LogFlag] = &[
    LogFlag { short: Some('d'), ..flag("debug", "debug", ON) },
    flag("nodebug", "debug", OFF),
    LogFlag {
        aliases: &["log-config", "log_config"],
        ..flag("log-config-append", "log_config_append", FlagSets::Value("PATH"))
    },
    flag("log-date-format", "log_date_format", FlagSets::Value("DATE_FORMAT")),
    LogFlag { aliases: &["logdir"], ..flag("log-dir", "log_dir", FlagSets::Value("LOG_DIR")) },
    LogFlag { aliases: &["logfile"], ..flag("log-file", "log_file", FlagSets::Value("PATH")) },
    flag("watch-log-file", "watch_log_file", ON),
    flag("nowatch-log-file", "watch_log_file", OFF),
    flag("use-syslog", "use_syslog", ON),
    flag("nouse-syslog", "use_syslog", OFF),
    flag("use-journal", "use_journal", ON),
    flag("nouse-journal", "use_journal", OFF),
    flag("syslog-log-facility", "syslog_log_facility", FlagSets::Value("SYSLOG_LOG_FACILITY")),
    flag("use-json", "use_json", ON),
    flag("nouse-json", "use_json", OFF),
];
