//! Tells the program that started the service (systemd, or another that speaks `sd_notify`) how it is. Without one,
//! nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service takes jobs.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// Newer versions of systemd want to know when the reload began.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

pub fn is_alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often a sign of life is due: half of what the supervisor waits for it.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|time| time / 2).filter(|interval| !interval.is_zero())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        // Nobody depends on it here; the supervisor notices by itself.
        tracing::debug!(%error, "the supervisor cannot be told");
    }
}
