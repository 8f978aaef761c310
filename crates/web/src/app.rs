//! What all requests share.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use job::DataService;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::error::ServeError;
use crate::metrics::HttpMetrics;
use crate::roots::Permits;
use crate::server::tls;
use crate::settings::{Limits, Settings};
use crate::tokens::Tokens;

/// The service and everything that its doors know. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: Arc<dyn DataService>,
    current: RwLock<Arc<Current>>,
    metrics: HttpMetrics,
    streams: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    ending: CancellationToken,
}

/// What a reload replaces as one.
pub(crate) struct Current {
    pub(crate) settings: Settings,
    pub(crate) tokens: Tokens,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    known: Rates<String>,
    anonymous: Rates<IpAddr>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Current {
    fn load(settings: Settings) -> Result<Self, ServeError> {
        let (mut tokens, mut tls) = (Tokens::default(), None);
        if let Some(tcp) = &settings.tcp {
            tokens = Tokens::load(&tcp.tokens)?;
            tls = tcp.tls.as_ref().map(tls::load).transpose()?;
        }
        let Limits { requests_per_second, requests_burst, anonymous_per_second, anonymous_burst, .. } = settings.limits;
        Ok(Self {
            settings,
            tokens,
            tls,
            known: Rates::new(requests_per_second, requests_burst),
            anonymous: Rates::new(anonymous_per_second, anonymous_burst),
        })
    }

    /// Where a caller's endpoints may lie.
    pub(crate) fn permits(&self, peer: &Peer) -> Permits<'_> {
        let roots = self.settings.allowed_roots.as_deref();
        match peer {
            Peer::Unix { .. } => Permits { roots, mounts: true },
            Peer::Tcp { .. } => Permits {
                roots: roots.or(Some(&[])),
                mounts: self.settings.tcp.as_ref().is_some_and(|tcp| tcp.allow_mounts),
            },
        }
    }

    pub(crate) fn check_known(&self, requester: &str) -> Result<(), Duration> {
        self.known.check(&requester.to_owned())
    }

    pub(crate) fn check_anonymous(&self, address: IpAddr) -> Result<(), Duration> {
        self.anonymous.check(&network(address))
    }
}

/// Whoever has one address of version 6 has a network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        IpAddr::V4(address) => IpAddr::V4(address),
    }
}

/// Callers whose rates are remembered; beyond, those that rested are forgotten.
const RATES_KEPT: usize = 10_000;

struct Rates<K: std::hash::Hash + Eq + Clone>(DefaultKeyedRateLimiter<K>);

impl<K: std::hash::Hash + Eq + Clone> Rates<K> {
    fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self(RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)))
    }

    /// `Err`: how long to wait.
    fn check(&self, key: &K) -> Result<(), Duration> {
        if self.0.len() > RATES_KEPT {
            self.0.retain_recent();
        }
        self.0.check_key(key).map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }
}

impl App {
    pub(crate) fn new(service: Arc<dyn DataService>, settings: Settings) -> Result<Self, ServeError> {
        let (streams, downloads) = (settings.limits.streams_max, settings.limits.downloads_max);
        Ok(Self(Arc::new(Inner {
            service,
            current: RwLock::new(Arc::new(Current::load(settings)?)),
            metrics: HttpMetrics::new(),
            streams: Arc::new(Semaphore::new(streams)),
            downloads: Arc::new(Semaphore::new(downloads)),
            ending: CancellationToken::new(),
        })))
    }

    pub(crate) fn service(&self) -> &Arc<dyn DataService> {
        &self.0.service
    }

    pub(crate) fn current(&self) -> Arc<Current> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    /// Streams of events that may be open at once.
    pub(crate) fn streams(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.streams)
    }

    pub(crate) fn downloads(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.downloads)
    }

    /// Cancelled when the service ends: whatever waits or streams stops.
    pub(crate) fn ending(&self) -> &CancellationToken {
        &self.0.ending
    }
}

/// Changes a server that runs. Stays valid after it has ended.
#[derive(Clone, Debug)]
pub struct Handle(pub(crate) App);

impl Handle {
    /// Reads tokens and certificates again and takes over the other settings. When anything of it fails, all stays as it
    /// was. Answers which changes only a restart brings.
    pub fn reload(&self, settings: Settings) -> Result<Vec<&'static str>, ServeError> {
        let (old, new) = (self.0.current(), Current::load(settings)?);
        let mut after_restart = Vec::new();
        if old.settings.socket != new.settings.socket {
            after_restart.push("the path of the unix socket");
        }
        let address = |settings: &Settings| settings.tcp.as_ref().map(|tcp| (tcp.address, tcp.tls.is_some()));
        if address(&old.settings) != address(&new.settings) {
            after_restart.push("the address of the TCP door, and whether it has TLS");
        }
        let places = |Limits { connections_max, streams_max, downloads_max, .. }: &Limits| {
            [*connections_max, *streams_max, *downloads_max]
        };
        if places(&old.settings.limits) != places(&new.settings.limits) {
            after_restart.push("how many connections, streams and downloads there may be at once");
        }
        *self.0.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(after_restart)
    }
}

/// Who is at the other end of a connection, as the kernel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Unix { uid: u32 },
    Tcp { address: IpAddr },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_has_one_rate() {
        let check = |a: &str, b: &str, same: bool| {
            let [a, b] = [a, b].map(|text| network(text.parse().unwrap()));
            assert_eq!(a == b, same, "{a} {b}");
        };
        check("2001:db8::1", "2001:db8::ffff:1", true);
        check("2001:db8::1", "2001:db8:0:1::1", false);
        check("10.0.0.1", "10.0.0.2", false);
        check("10.0.0.1", "::ffff:10.0.0.1", true);
    }

    #[test]
    fn a_caller_is_told_how_long_to_wait() {
        let rates = Rates::new(NonZeroU32::MIN, NonZeroU32::MIN);
        assert_eq!(rates.check(&1), Ok(()));
        assert!(rates.check(&1).unwrap_err() > Duration::from_millis(1));
        assert_eq!(rates.check(&2), Ok(()), "another caller");
    }
}
