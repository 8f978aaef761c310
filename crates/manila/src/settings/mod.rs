//! What `manila.conf` says that matters to migrations and backups, with upstream's names, defaults and meaning.

mod backup;
mod options;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use oslo::config::{ConfigError, DEFAULT, Origin, Values};

pub use backup::{BackupDriver, BackupSettings, MountedExport, ResticSettings};
pub use options::MANILA_OPTIONS;

/// Options of the data service. Those of messaging and of the database are read by whoever connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `[DEFAULT] host`: the RPC server's name, and `host` in `services`.
    pub host: String,
    pub storage_availability_zone: String,
    pub enable_new_services: bool,
    /// Zero: no heartbeat.
    pub report_interval: Duration,
    pub service_down_time: Duration,
    pub cleanup_interval: Duration,
    pub share_topic: String,
    /// Only shown: mounts stand in a place of their own. Progress names files as if they were below it.
    pub mount_tmp_location: PathBuf,
    /// By protocol in lower case: what `%(options)s` of a mount command becomes.
    pub data_node_mount_options: BTreeMap<String, String>,
    pub data_node_access_ips: Vec<String>,
    pub data_node_access_cert: Option<String>,
    pub data_node_access_admin_user: Option<String>,
    pub data_access_wait_access_rules_timeout: Duration,
    pub check_hash: bool,
    /// `[oslo_concurrency]`; `None` where process locking is disabled or no directory is named.
    pub lock_path: Option<PathBuf>,
    pub message_ttl: Duration,
    /// `[data_service] data_copy_notify_on_success`: tells the source's share manager also after a copy that succeeded.
    pub notify_on_success: bool,
    pub backup: BackupSettings,
}

/// What is wrong with an option of [`MANILA_OPTIONS`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{origin}: `{name}` in [{group}] {problem}")]
    Value { group: &'static str, name: &'static str, origin: Origin, problem: String },
}

impl Settings {
    /// Reads them. `values` must know [`MANILA_OPTIONS`].
    pub fn of(values: &Values) -> Result<Self, SettingsError> {
        let reader = Reader { values };
        let lock_path = reader.lock_path(std::env::var_os("OSLO_LOCK_PATH"))?;
        Ok(Self {
            host: reader.host()?,
            storage_availability_zone: reader.needed("storage_availability_zone")?,
            enable_new_services: reader.switch(DEFAULT, "enable_new_services")?,
            report_interval: reader.seconds("report_interval")?,
            service_down_time: reader.seconds("service_down_time")?,
            cleanup_interval: reader.seconds("cleanup_interval")?,
            share_topic: reader.needed("share_topic")?,
            mount_tmp_location: reader.needed("mount_tmp_location")?.into(),
            data_node_mount_options: reader.mount_options()?,
            data_node_access_ips: reader.access_ips()?,
            data_node_access_cert: reader.text("data_node_access_cert")?,
            data_node_access_admin_user: reader.text("data_node_access_admin_user")?,
            data_access_wait_access_rules_timeout: reader.seconds("data_access_wait_access_rules_timeout")?,
            check_hash: reader.switch(DEFAULT, "check_hash")?,
            lock_path,
            message_ttl: reader.seconds("message_ttl")?,
            notify_on_success: reader.switch("data_service", "data_copy_notify_on_success")?,
            backup: reader.backup()?,
        })
    }
}

/// What columns and queues of that name hold at most.
const TEXT_CHARS_MAX: usize = 255;

struct Reader<'a> {
    values: &'a Values,
}

impl Reader<'_> {
    fn wrong(&self, group: &'static str, name: &'static str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Value { group, name, origin: self.values.origin(group, name), problem: problem.into() }
    }

    /// `None`: not set, or empty, which upstream takes for the same.
    fn text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        match self.any_text(name)? {
            Some(text) if text.chars().count() > TEXT_CHARS_MAX => {
                Err(self.wrong(DEFAULT, name, format!("must not be longer than {TEXT_CHARS_MAX} characters")))
            }
            text => Ok(text),
        }
    }

    /// As [`Self::text`], of any length.
    fn any_text(&self, name: &'static str) -> Result<Option<String>, SettingsError> {
        let text = self.values.get_str(DEFAULT, name)?.filter(|text| !text.is_empty());
        match &text {
            Some(text) if text.chars().any(char::is_control) => {
                Err(self.wrong(DEFAULT, name, "must not hold control characters"))
            }
            _ => Ok(text),
        }
    }

    fn needed(&self, name: &'static str) -> Result<String, SettingsError> {
        self.text(name)?.ok_or_else(|| self.wrong(DEFAULT, name, "must not be empty"))
    }

    fn switch(&self, group: &'static str, name: &'static str) -> Result<bool, SettingsError> {
        self.values.get_bool(group, name)?.ok_or_else(|| self.wrong(group, name, "must be true or false"))
    }

    fn seconds(&self, name: &'static str) -> Result<Duration, SettingsError> {
        self.seconds_in(DEFAULT, name)
    }

    fn seconds_in(&self, group: &'static str, name: &'static str) -> Result<Duration, SettingsError> {
        let seconds = self.values.get_int(group, name)?.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map(Duration::from_secs).ok_or_else(|| self.wrong(group, name, "must be a number of seconds"))
    }

    fn host(&self) -> Result<String, SettingsError> {
        let host = match self.text("host")? {
            Some(host) => host,
            None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        };
        // It becomes part of a queue's name and of rows that others compare byte by byte.
        if host.contains(char::is_whitespace) {
            return Err(self.wrong(DEFAULT, "host", "must be a host name or an address, without blanks"));
        }
        Ok(host)
    }

    fn mount_options(&self) -> Result<BTreeMap<String, String>, SettingsError> {
        const NAME: &str = "data_node_mount_options";
        let mut options = BTreeMap::new();
        for (protocol, text) in self.values.get_dict(DEFAULT, NAME)?.unwrap_or_default() {
            if shlex::split(&text).is_none() {
                let problem = format!("has options for `{protocol}` with a quote or a backslash that nothing follows");
                return Err(self.wrong(DEFAULT, NAME, problem));
            }
            let protocol = protocol.to_lowercase();
            if options.insert(protocol.clone(), text).is_some() {
                return Err(self.wrong(DEFAULT, NAME, format!("names the protocol `{protocol}` twice")));
            }
        }
        Ok(options)
    }

    fn access_ips(&self) -> Result<Vec<String>, SettingsError> {
        const NAME: &str = "data_node_access_ips";
        let mut ips = Vec::new();
        for ip in self.values.get_list(DEFAULT, NAME)?.unwrap_or_default() {
            if !is_network(&ip) {
                let problem = format!(
                    "must be IPv4 or IPv6 addresses or networks with commas between them, and `{}` is none",
                    ip.escape_debug()
                );
                return Err(self.wrong(DEFAULT, NAME, problem));
            }
            // A second rule for the same address could not be told from the first.
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        Ok(ips)
    }

    fn lock_path(&self, variable: Option<OsString>) -> Result<Option<PathBuf>, SettingsError> {
        const GROUP: &str = "oslo_concurrency";
        if self.switch(GROUP, "disable_process_locking")? {
            return Ok(None);
        }
        let named = self.values.get_str(GROUP, "lock_path")?.map(PathBuf::from);
        let path = named.or_else(|| variable.map(PathBuf::from)).filter(|path| !path.as_os_str().is_empty());
        if path.as_ref().is_some_and(|path| path.as_os_str().as_encoded_bytes().contains(&0)) {
            return Err(self.wrong(GROUP, "lock_path", "must be the path of a directory"));
        }
        Ok(path)
    }
}

/// `address` or `address/prefix length`.
fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    prefix.is_none_or(|prefix| {
        prefix.bytes().all(|byte| byte.is_ascii_digit()) && prefix.parse::<u32>().is_ok_and(|bits| bits <= bits_max)
    })
}

#[cfg(test)]
mod tests;
