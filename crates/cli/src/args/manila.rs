//! Arguments of the command without a subcommand: those that packages start Manila's own data service with.

use clap::Args;

use super::CONFIGURATION;
use super::locations::Locations;
use crate::config::Override;

/// With upstream's names. What is a switch there has its opposite here, too.
#[derive(Debug, Default, Args)]
pub struct ManilaArgs {
    #[command(flatten)]
    pub locations: Locations,
    /// Log what happens inside, too
    #[arg(short, long, overrides_with = "nodebug", help_heading = CONFIGURATION)]
    debug: bool,
    #[arg(long, overrides_with = "debug", hide = true)]
    nodebug: bool,
    /// Log into FILE, which is relative to the log directory
    #[arg(long, alias = "logfile", value_name = "FILE", help_heading = CONFIGURATION)]
    log_file: Option<String>,
    /// Directory of the log file
    #[arg(long, alias = "logdir", value_name = "DIR", help_heading = CONFIGURATION)]
    log_dir: Option<String>,
    /// Log to syslog
    #[arg(long, overrides_with = "nouse_syslog", help_heading = CONFIGURATION)]
    use_syslog: bool,
    #[arg(long = "nouse-syslog", overrides_with = "use_syslog", hide = true)]
    nouse_syslog: bool,
    /// Facility for syslog
    #[arg(long, value_name = "FACILITY", help_heading = CONFIGURATION)]
    syslog_log_facility: Option<String>,
    /// Log to the journal of systemd
    #[arg(long, overrides_with = "nouse_journal", help_heading = CONFIGURATION)]
    use_journal: bool,
    #[arg(long = "nouse-journal", overrides_with = "use_journal", hide = true)]
    nouse_journal: bool,
    /// Log a JSON object on each line
    #[arg(long, overrides_with = "nouse_json", help_heading = CONFIGURATION)]
    use_json: bool,
    #[arg(long = "nouse-json", overrides_with = "use_json", hide = true)]
    nouse_json: bool,
    /// Open the log file again when it was renamed
    #[arg(long, overrides_with = "nowatch_log_file", help_heading = CONFIGURATION)]
    watch_log_file: bool,
    #[arg(long = "nowatch-log-file", overrides_with = "watch_log_file", hide = true)]
    nowatch_log_file: bool,
    #[arg(long, value_name = "FORMAT", hide = true)]
    log_date_format: Option<String>,
    #[arg(long, alias = "log-config", alias = "log_config", value_name = "FILE", hide = true)]
    log_config_append: Option<String>,
    /// Directory of what must outlive the service
    #[arg(long = "state_path", alias = "state-path", value_name = "DIR", help_heading = CONFIGURATION)]
    state_path: Option<String>,
    #[arg(long = "api_paste_config", value_name = "FILE", hide = true)]
    api_paste_config: Option<String>,
}

impl ManilaArgs {
    /// The options that they set, in no order: each stands once.
    pub fn options(&self) -> Vec<Override> {
        let switches = [
            ("debug", "--debug", self.debug, self.nodebug),
            ("use_syslog", "--use-syslog", self.use_syslog, self.nouse_syslog),
            ("use_journal", "--use-journal", self.use_journal, self.nouse_journal),
            ("use_json", "--use-json", self.use_json, self.nouse_json),
            ("watch_log_file", "--watch-log-file", self.watch_log_file, self.nowatch_log_file),
        ];
        let switches = switches.into_iter().filter(|(_, _, on, off)| *on || *off);
        let switches = switches.map(|(name, flag, on, _)| Override::of_manila(name, &on.to_string(), flag));
        let values = [
            ("log_file", "--log-file", &self.log_file),
            ("log_dir", "--log-dir", &self.log_dir),
            ("syslog_log_facility", "--syslog-log-facility", &self.syslog_log_facility),
            ("log_date_format", "--log-date-format", &self.log_date_format),
            ("log_config_append", "--log-config-append", &self.log_config_append),
            ("state_path", "--state_path", &self.state_path),
        ];
        let values = values.into_iter().filter_map(|(name, flag, value)| Some((name, flag, value.as_deref()?)));
        switches.chain(values.map(|(name, flag, value)| Override::of_manila(name, value, flag))).collect()
    }

    /// Nothing was given.
    pub fn is_empty(&self) -> bool {
        self.locations.0.is_empty() && self.options().is_empty() && self.api_paste_config.is_none()
    }
}
