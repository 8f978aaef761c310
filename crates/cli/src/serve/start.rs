//! From the configuration to a service that runs; and why there is none.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use job::{Known, NodeName, Ports, Service, Settings, StoreError};
use store::{OpenError, OpenOptions, SqlStore};
use tokio_util::sync::CancellationToken;
use web::{TcpSettings, TlsFiles, WebhookSettings, Webhooks};
use work::sandbox::SandboxMode;
use work::{Hook, HookAccess, MountSettings, ProcessExecutor, ProcessSettings};

use super::Running;
use super::manila::Connections;
use super::ports::{Access, Notifiers};
use crate::config::{Config, HookConfig, Sandbox};

/// Why the service cannot begin, or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot write the log")]
    Log(#[source] oslo::log::LogError),
    #[cfg(feature = "otlp")]
    #[error("cannot prepare to send traces")]
    Traces(#[source] opentelemetry_otlp::ExporterBuildError),
    #[error("cannot make the state directory `{}`", path.display())]
    MakeState { path: PathBuf, source: io::Error },
    #[error("the state directory `{}` belongs to user {owner}", path.display())]
    ForeignState { path: PathBuf, owner: u32 },
    #[error("the state directory `{}` is open to others (mode {mode:04o})", path.display())]
    OpenState { path: PathBuf, mode: u32 },
    #[error("cannot open the job store")]
    Store(#[source] OpenError),
    #[error("cannot take up the jobs of the store")]
    Jobs(#[source] StoreError),
    #[error("cannot speak to a message broker: {0}")]
    Broker(String),
    #[error("cannot use Manila's database")]
    Database(#[source] manila::database::DatabaseError),
    #[error("cannot prepare to send webhooks: {0}")]
    Webhooks(String),
    #[error("cannot open the REST interface")]
    Doors(#[source] web::ServeError),
    #[error("the REST interface broke down")]
    DoorsClosed,
}

impl StartError {
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Log(_) => "name another file with `log_file`, and make its directory first".into(),
            #[cfg(feature = "otlp")]
            Self::Traces(_) => "look at `otlp_endpoint` in [DEFAULT]".into(),
            Self::MakeState { .. } => "name another directory with `state_path`, or run the service as root".into(),
            Self::ForeignState { .. } => {
                "run the service as the user it belongs to, or name another directory with `state_path`".into()
            }
            Self::OpenState { path, .. } => {
                format!("reports name other people's files: chmod 0700 {}", crate::plan::shown(path))
            }
            Self::Store(OpenError::InUse { .. }) => "only one service may use a state directory".into(),
            Self::Store(_) | Self::Jobs(_) => {
                "`manila-data doctor` looks at the store and the directory around it".into()
            }
            Self::Doors(web::ServeError::SocketInUse { .. }) => {
                "end the other service, or name another `socket` in [api]".into()
            }
            Self::Doors(web::ServeError::NotASocket { .. }) => "move it away, or name another `socket` in [api]".into(),
            Self::Doors(web::ServeError::Socket { .. }) => {
                "make its directory (systemd: RuntimeDirectory=manila-data), or name another `socket` in [api]".into()
            }
            Self::Doors(web::ServeError::Tokens(_)) => {
                "make the first token: `manila-data token create NAME --scope write`".into()
            }
            Self::Doors(web::ServeError::PlainTcp { .. }) => {
                "set `tls_cert` and `tls_key` in [api], or listen on 127.0.0.1".into()
            }
            Self::Doors(web::ServeError::Tls { .. }) => "look at `tls_cert` and `tls_key` in [api]".into(),
            Self::Doors(_) => "look at [api] of the configuration".into(),
            Self::Broker(_) => "look at `transport_url` and [oslo_messaging_rabbit]".into(),
            Self::Database(_) => "look at `connection` in [database]".into(),
            Self::Webhooks(_) | Self::DoorsClosed => return None,
        })
    }
}

/// Makes the directory, or sees that it is ours alone: it names files of other people, and mounts appear in it.
pub(super) fn prepare_state_dir(path: &Path) -> Result<(), StartError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let meta = made.and_then(|()| std::fs::metadata(path));
    let meta = meta.map_err(|source| StartError::MakeState { path: path.into(), source })?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(StartError::ForeignState { path: path.into(), owner: meta.uid() });
    }
    let mode = meta.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(StartError::OpenState { path: path.into(), mode });
    }
    Ok(())
}

pub(super) async fn start(config: &Config) -> Result<Running, StartError> {
    let store = SqlStore::open(&config.job_store, &OpenOptions::default()).await.map_err(StartError::Store)?;
    let store = Arc::new(store);
    let executor = ProcessExecutor::new(process_settings(config));
    let access = HookAccess::new(config.hooks.iter().map(|(name, hook)| (name.clone(), self::hook(hook))).collect());
    let webhooks = Webhooks::new(WebhookSettings {
        secret: config.api.webhook_secret.clone(),
        allow: config.api.webhook_hosts.clone(),
        ..WebhookSettings::default()
    });
    let webhooks = webhooks.map_err(|error| StartError::Webhooks(crate::error::chain(&error)))?;
    let manila = match &config.manila {
        Some(manila) => Some(Connections::open(manila).await?),
        None => None,
    };
    let access = Access { hooks: access, manila: manila.as_ref().map(Connections::access) };
    let notifiers = Notifiers { webhooks, manila: manila.as_ref().map(Connections::notifier) };
    let mut ports = Ports::new(Arc::clone(&store) as _, Arc::new(executor), Arc::new(access), Arc::new(notifiers));
    if let Some(manila) = &manila {
        ports.follower = Arc::new(manila.follower());
    }
    let service = Service::start(ports, settings(config)).await.map_err(StartError::Jobs)?;
    let server = web::Server::bind(Arc::new(service.clone()), web_settings(config)).await;
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            // Jobs may have begun already.
            service.shut_down(super::PARKING_TIME).await;
            return Err(StartError::Doors(error));
        }
    };
    let (doors, shutdown) = (server.handle(), CancellationToken::new());
    let serving = tokio::spawn(server.run(shutdown.clone()));
    let manila = manila.map(|manila| manila.serve(&service));
    Ok(Running { store, service, manila, doors, shutdown, serving })
}

fn settings(config: &Config) -> Settings {
    Settings {
        lease: config.lease,
        known: known(config),
        schedules: config.schedules.clone(),
        scheduling: config.scheduling.clone(),
        retention: config.retention.clone(),
        ..Settings::new(NodeName::new(&*config.host), &config.state_path)
    }
}

/// What jobs may name.
pub(super) fn known(config: &Config) -> Known {
    Known { hooks: config.hooks.keys().cloned().collect(), repositories: config.repositories.keys().cloned().collect() }
}

fn hook(config: &HookConfig) -> Hook {
    Hook { command: config.command.clone(), timeout: config.timeout }
}

pub fn process_settings(config: &Config) -> ProcessSettings {
    ProcessSettings {
        grace: config.worker.stop_grace,
        repositories: config.repositories.clone(),
        mount: MountSettings {
            helpers: config.worker.mount_helpers.clone(),
            timeout: config.worker.mount_timeout,
            allowed_roots: config.allowed_roots.clone().unwrap_or_default(),
            ..MountSettings::default()
        },
        sandbox: match config.worker.sandbox {
            Sandbox::Auto => SandboxMode::Auto,
            Sandbox::Required => SandboxMode::Required,
            Sandbox::Off => SandboxMode::Off,
        },
        ..ProcessSettings::default()
    }
}

pub(super) fn web_settings(config: &Config) -> web::Settings {
    let api = &config.api;
    let tls = api.tls.clone().map(|(certificates, key)| TlsFiles { certificates, key });
    let tcp = api.listen.map(|address| TcpSettings {
        allow_plain: api.allow_plain,
        allow_mounts: api.allow_mounts,
        metrics_public: api.metrics_public,
        ..TcpSettings::new(address, tls, api.tokens_file.clone())
    });
    web::Settings {
        socket: api.socket.clone(),
        tcp,
        allowed_roots: config.allowed_roots.clone(),
        limits: web::Limits {
            body_bytes_max: api.body_bytes_max,
            requests_per_second: api.requests_per_second,
            requests_burst: api.requests_per_second.saturating_mul(BURST_SECONDS),
            ..web::Limits::default()
        },
    }
}

/// So many seconds' worth of requests may come at once.
const BURST_SECONDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(5).expect("five is not zero");
