//! From texts to what the service works with; every value is checked here, and an error names where it stands.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use job::{Known, Retention, Scheduling, Sensitive, Timetable};
use manila::database::DatabaseSettings;
use oslo::config::Values;
use oslo::log::{LogSettings, Style};
use oslo::messaging::rabbit::MessagingOptions;
use work::Repository;

use super::options::{API, DATA_SERVICE, DEFAULT, HOOK_PREFIX, REPOSITORY_PREFIX, SCHEDULE_PREFIX};
use super::{ConfigError, Mode, repositories};
use crate::ui::units::parse_rate;

/// The configuration as the service uses it.
#[derive(Clone, Debug)]
pub struct Config {
    pub host: String,
    pub state_path: PathBuf,
    pub log: LogSettings,
    /// `None`: nobody wants traces.
    pub traces: Option<TraceConfig>,
    /// A path or a URL.
    pub job_store: String,
    pub scheduling: Scheduling,
    pub retention: Retention,
    pub lease: Duration,
    pub allowed_roots: Option<Vec<PathBuf>>,
    pub worker: WorkerConfig,
    pub api: ApiConfig,
    pub hooks: BTreeMap<String, HookConfig>,
    /// Repositories of backups that jobs may name.
    pub repositories: BTreeMap<String, Repository>,
    /// Jobs that are made again and again.
    pub schedules: Vec<Timetable>,
    /// `None`: the service knows no Manila.
    pub manila: Option<ManilaConfig>,
}

/// What the service has to know to be Manila's.
#[derive(Clone, Debug)]
pub struct ManilaConfig {
    pub settings: manila::Settings,
    pub database: DatabaseSettings,
    pub messaging: MessagingOptions,
}

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// `http://` or `https://`, without the path of the protocol.
    pub endpoint: String,
    pub sample_ratio: f64,
}

/// How much workers are shut in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sandbox {
    Auto,
    Required,
    Off,
}

#[derive(Clone, Debug)]
pub struct WorkerConfig {
    pub sandbox: Sandbox,
    pub stop_grace: Duration,
    pub mount_helpers: Vec<String>,
    pub mount_timeout: Duration,
}

#[derive(Clone, Debug)]
pub struct ApiConfig {
    pub socket: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub tls: Option<(PathBuf, PathBuf)>,
    pub tokens_file: PathBuf,
    pub allow_plain: bool,
    pub allow_mounts: bool,
    pub metrics_public: bool,
    pub body_bytes_max: usize,
    pub requests_per_second: NonZeroU32,
    pub webhook_secret: Option<Sensitive>,
    /// `None`: webhooks may go anywhere.
    pub webhook_hosts: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// Program and arguments.
    pub command: Vec<String>,
    pub timeout: Duration,
}

impl Config {
    pub(super) fn of(mode: Mode, values: &Values, named: &[String]) -> Result<Self, ConfigError> {
        let reader = Reader(values);
        let days = |name| -> Result<Option<Duration>, ConfigError> {
            let days = reader.number(DATA_SERVICE, name)?;
            Ok((days > 0).then(|| Duration::from_secs(days * 24 * 3600)))
        };
        let manila = match mode {
            Mode::Standalone => None,
            Mode::Manila => Some(ManilaConfig {
                settings: manila::Settings::of(values)?,
                database: DatabaseSettings::of(values)?,
                messaging: MessagingOptions::of(values)?,
            }),
        };
        let mut repositories = sections(named, REPOSITORY_PREFIX, |name, group| reader.repository(name, group))?;
        let of_manila = manila.as_ref().and_then(|manila| repositories::of_manila(&manila.settings.backup));
        repositories.extend(of_manila.map(|repository| (manila::backup::REPOSITORY.to_owned(), repository)));
        let hooks = sections(named, HOOK_PREFIX, |_, group| reader.hook(group))?;
        let known =
            Known { hooks: hooks.keys().cloned().collect(), repositories: repositories.keys().cloned().collect() };
        let schedules = sections(named, SCHEDULE_PREFIX, |name, group| reader.schedule(name, group, &known))?;
        Ok(Self {
            host: match reader.text(DEFAULT, "host")? {
                Some(host) => host,
                None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
            },
            state_path: {
                let state_path = reader.absolute_path(DEFAULT, "state_path")?;
                if mode == Mode::Manila { state_path.join("manila-data") } else { state_path }
            },
            log: reader.log(mode)?,
            traces: reader.traces()?,
            job_store: reader.required(DATA_SERVICE, "job_store")?,
            scheduling: Scheduling {
                jobs_max: reader.count(DATA_SERVICE, "jobs_max")?,
                jobs_per_host_max: Some(reader.count(DATA_SERVICE, "jobs_per_host_max")?).filter(|max| *max > 0),
                queue_max: reader.number(DATA_SERVICE, "queue_max")?,
                bandwidth_bytes_per_second: reader.size(DATA_SERVICE, "bandwidth_limit")?.filter(|rate| *rate > 0),
            },
            retention: Retention {
                report_age_max: days("report_keep_days")?,
                report_bytes_max: reader.size(DATA_SERVICE, "report_keep_bytes")?.filter(|bytes| *bytes > 0),
                job_age_max: days("job_keep_days")?,
                event_age_max: days("event_keep_days")?,
                ..Retention::default()
            },
            lease: reader.seconds(DATA_SERVICE, "lease_seconds")?,
            allowed_roots: reader.absolute_paths(DATA_SERVICE, "allowed_roots")?,
            worker: reader.worker()?,
            api: reader.api()?,
            hooks,
            repositories,
            schedules: schedules.into_values().collect(),
            manila,
        })
    }
}

/// Reads all sections of one kind, each under its name.
fn sections<T>(
    named: &[String],
    prefix: &str,
    read: impl Fn(&str, &str) -> Result<T, ConfigError>,
) -> Result<BTreeMap<String, T>, ConfigError> {
    let sections = named.iter().filter_map(|group| Some((group.strip_prefix(prefix)?.trim(), group)));
    sections.map(|(name, group)| Ok((name.to_owned(), read(name, group)?))).collect()
}

/// Python's loggers that people name in `default_log_levels`, and what does their work here.
const LOGGERS: &[(&str, &[&str])] = &[("manila", &["manila", "manila_data", "job", "store", "work", "web", "copy"])];

/// Takes values out by name, and says what is wrong with one.
pub(super) struct Reader<'a>(&'a Values);

impl Reader<'_> {
    /// Empty is not set.
    pub(super) fn text(&self, group: &str, name: &str) -> Result<Option<String>, ConfigError> {
        Ok(self.0.get_str(group, name)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn required(&self, group: &str, name: &str) -> Result<String, ConfigError> {
        self.text(group, name)?.ok_or_else(|| self.wrong(group, name, "must not be empty"))
    }

    pub(super) fn wrong(&self, group: &str, name: &str, problem: impl Into<String>) -> ConfigError {
        let origin = self.0.origin(group, name);
        ConfigError::Value { group: group.into(), name: name.into(), origin, problem: problem.into() }
    }

    pub(super) fn bool(&self, group: &str, name: &str) -> Result<bool, ConfigError> {
        Ok(self.0.get_bool(group, name)?.unwrap_or_default())
    }

    /// Bounds are the table's, and none of them is below zero.
    fn number(&self, group: &str, name: &str) -> Result<u64, ConfigError> {
        let number = self.0.get_int(group, name)?.and_then(|number| u64::try_from(number).ok());
        number.ok_or_else(|| self.wrong(group, name, "must be a number"))
    }

    fn count(&self, group: &str, name: &str) -> Result<usize, ConfigError> {
        self.number(group, name).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    pub(super) fn seconds(&self, group: &str, name: &str) -> Result<Duration, ConfigError> {
        self.number(group, name).map(Duration::from_secs)
    }

    fn size(&self, group: &str, name: &str) -> Result<Option<u64>, ConfigError> {
        match self.text(group, name)?.as_deref() {
            None => Ok(None),
            Some("0") => Ok(Some(0)),
            Some(text) => parse_rate(text).map(Some).map_err(|problem| self.wrong(group, name, problem)),
        }
    }

    pub(super) fn list(&self, group: &str, name: &str) -> Result<Option<Vec<String>>, ConfigError> {
        let list = self.0.get_list(group, name)?;
        Ok(list.map(|items| items.into_iter().filter(|item| !item.is_empty()).collect()))
    }

    pub(super) fn dict(&self, group: &str, name: &str) -> Result<BTreeMap<String, String>, ConfigError> {
        Ok(self.0.get_dict(group, name)?.unwrap_or_default().into_iter().collect())
    }

    fn absolute_path(&self, group: &str, name: &str) -> Result<PathBuf, ConfigError> {
        let path = PathBuf::from(self.required(group, name)?);
        if path.is_absolute() { Ok(path) } else { Err(self.wrong(group, name, "must be an absolute path")) }
    }

    fn absolute_paths(&self, group: &str, name: &str) -> Result<Option<Vec<PathBuf>>, ConfigError> {
        let Some(list) = self.list(group, name)? else { return Ok(None) };
        let paths: Vec<PathBuf> = list.into_iter().map(PathBuf::from).collect();
        if paths.iter().all(|path| path.is_absolute()) {
            Ok(Some(paths))
        } else {
            Err(self.wrong(group, name, "must be absolute paths, separated by commas"))
        }
    }

    fn log(&self, mode: Mode) -> Result<LogSettings, ConfigError> {
        let levels = self.list(DEFAULT, "log_levels")?.unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(match mode {
            Mode::Manila => {
                // What the driver has to say is said by `oslo::messaging`, and without the contents of messages.
                let levels = std::iter::once("lapin=off".to_owned()).chain(levels).collect();
                LogSettings { product: "manila".into(), version, levels, loggers: LOGGERS, ..LogSettings::of(self.0)? }
            }
            Mode::Standalone => LogSettings {
                style: Style::Plain,
                product: "manila-data".into(),
                version,
                file: self.text(DEFAULT, "log_file")?.map(PathBuf::from),
                dir: self.text(DEFAULT, "log_dir")?.map(PathBuf::from),
                debug: self.bool(DEFAULT, "debug")?,
                json: self.bool(DEFAULT, "use_json")?,
                // Those are Python's, and would hide what debugging is for.
                default_levels: Vec::new(),
                levels,
                ..LogSettings::default()
            },
        })
    }

    fn traces(&self) -> Result<Option<TraceConfig>, ConfigError> {
        let sample_ratio = self.0.get_float(DEFAULT, "otlp_sample_ratio")?.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&sample_ratio) {
            return Err(self.wrong(DEFAULT, "otlp_sample_ratio", "must be from 0.0 to 1.0"));
        }
        let Some(endpoint) = self.text(DEFAULT, "otlp_endpoint")? else { return Ok(None) };
        if !["http://", "https://"].iter().any(|scheme| endpoint.starts_with(scheme)) {
            return Err(self.wrong(DEFAULT, "otlp_endpoint", "must begin with http:// or https://"));
        }
        Ok(Some(TraceConfig { endpoint, sample_ratio }))
    }

    fn worker(&self) -> Result<WorkerConfig, ConfigError> {
        Ok(WorkerConfig {
            sandbox: match self.required(DATA_SERVICE, "sandbox")?.as_str() {
                "auto" => Sandbox::Auto,
                "required" => Sandbox::Required,
                "off" => Sandbox::Off,
                _ => return Err(self.wrong(DATA_SERVICE, "sandbox", "must be auto, required or off")),
            },
            stop_grace: self.seconds(DATA_SERVICE, "stop_grace_seconds")?,
            mount_helpers: self.list(DATA_SERVICE, "mount_helpers")?.unwrap_or_default(),
            mount_timeout: self.seconds(DATA_SERVICE, "mount_timeout_seconds")?,
        })
    }

    fn api(&self) -> Result<ApiConfig, ConfigError> {
        let listen = self.text(API, "listen")?.map(|text| {
            let problem = "must be an address and a port: 127.0.0.1:8443, [::]:8443";
            text.parse().map_err(|_| self.wrong(API, "listen", problem))
        });
        let tls = match (self.text(API, "tls_cert")?, self.text(API, "tls_key")?) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => return Err(self.wrong(API, "tls_key", "must be set where `tls_cert` is")),
            (None, Some(_)) => return Err(self.wrong(API, "tls_cert", "must be set where `tls_key` is")),
        };
        let requests = u32::try_from(self.number(API, "requests_per_second")?).ok().and_then(NonZeroU32::new);
        let config = ApiConfig {
            socket: self.text(API, "socket")?.map(PathBuf::from),
            listen: listen.transpose()?,
            tls,
            tokens_file: self.absolute_path(API, "tokens_file")?,
            allow_plain: self.bool(API, "allow_plain")?,
            allow_mounts: self.bool(API, "allow_mounts")?,
            metrics_public: self.bool(API, "metrics_public")?,
            body_bytes_max: match self.size(API, "body_bytes_max")? {
                Some(bytes) if bytes >= 1024 => usize::try_from(bytes).unwrap_or(usize::MAX),
                _ => return Err(self.wrong(API, "body_bytes_max", "must be at least 1KiB")),
            },
            requests_per_second: requests.unwrap_or(NonZeroU32::MAX),
            webhook_secret: self.text(API, "webhook_secret")?.map(Sensitive::secret),
            webhook_hosts: self.list(API, "webhook_hosts")?,
        };
        if config.socket.as_ref().is_some_and(|socket| !socket.is_absolute()) {
            return Err(self.wrong(API, "socket", "must be an absolute path"));
        }
        if config.socket.is_none() && config.listen.is_none() {
            return Err(self.wrong(API, "socket", "must be set where `listen` is not: nobody could reach the service"));
        }
        Ok(config)
    }

    fn hook(&self, group: &str) -> Result<HookConfig, ConfigError> {
        let command: Vec<_> = self.required(group, "command")?.split_whitespace().map(ToOwned::to_owned).collect();
        if !command.first().is_some_and(|program| program.starts_with('/')) {
            return Err(self.wrong(group, "command", "must begin with the absolute path of a program"));
        }
        Ok(HookConfig { command, timeout: self.seconds(group, "timeout_seconds")? })
    }
}
