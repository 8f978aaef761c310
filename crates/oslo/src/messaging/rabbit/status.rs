//! How connections are, for whoever asks.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

/// How the connections of a transport are. Cheap to get, and a moment old when it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RabbitStatus {
    /// In the order in which listening began.
    pub listeners: Vec<LinkStatus>,
    /// The one that messages are sent by; `None` before the first message.
    pub sender: Option<LinkStatus>,
}

impl RabbitStatus {
    /// Whether everything that is listened to is connected.
    pub fn is_listening(&self) -> bool {
        !self.listeners.is_empty() && self.listeners.iter().all(LinkStatus::is_connected)
    }
}

/// How one connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// What it is for.
    pub purpose: String,
    pub state: LinkState,
    /// Since when it is in that state.
    pub since: SystemTime,
    /// Why the last connection or attempt failed, as long as nothing has succeeded since.
    pub last_error: Option<String>,
}

/// Whether there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    Connecting,
    Connected {
        /// `host:port`
        broker: String,
    },
    /// Connected, but the broker takes no messages until it has memory or disk again.
    Blocked {
        broker: String,
    },
}

impl LinkStatus {
    pub fn is_connected(&self) -> bool {
        matches!(self.state, LinkState::Connected { .. } | LinkState::Blocked { .. })
    }
}

/// Where one connection tells how it is. Changes are logged, repetitions are not.
#[derive(Clone, Debug)]
pub(super) struct Reporter(Arc<Mutex<LinkStatus>>);

/// All reporters whose connections are still wanted.
#[derive(Debug, Default)]
pub(super) struct Reporters(Mutex<Vec<Weak<Mutex<LinkStatus>>>>);

impl Reporters {
    pub(super) fn add(&self, reporter: &Reporter) {
        let mut reporters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reporters.retain(|reporter| reporter.strong_count() > 0);
        reporters.push(Arc::downgrade(&reporter.0));
    }

    pub(super) fn statuses(&self) -> Vec<LinkStatus> {
        let reporters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reporters.iter().filter_map(Weak::upgrade).map(|reporter| Reporter(reporter).status()).collect()
    }
}

impl Reporter {
    pub(super) fn new(purpose: String) -> Self {
        let since = SystemTime::now();
        Self(Arc::new(Mutex::new(LinkStatus { purpose, state: LinkState::Connecting, since, last_error: None })))
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn connected(&self, broker: &str) {
        self.change(LinkState::Connected { broker: broker.into() }, None, |purpose| {
            tracing::info!(broker, purpose, "connected to the message broker");
        });
    }

    pub(super) fn blocked(&self, broker: &str, reason: &str) {
        self.change(LinkState::Blocked { broker: broker.into() }, None, |purpose| {
            tracing::error!(broker, purpose, reason, "the message broker takes no messages for now");
        });
    }

    pub(super) fn unblocked(&self, broker: &str) {
        self.change(LinkState::Connected { broker: broker.into() }, None, |purpose| {
            tracing::info!(broker, purpose, "the message broker takes messages again");
        });
    }

    /// There is no connection, and why. The same reason is logged once.
    pub(super) fn failed(&self, broker: &str, reason: &str) {
        self.change(LinkState::Connecting, Some(reason), |purpose| {
            tracing::warn!(broker, purpose, reason, "not connected to the message broker; trying on");
        });
    }

    /// Closed because nobody needs it any more.
    pub(super) fn closed(&self) {
        self.change(LinkState::Connecting, None, |purpose| tracing::debug!(purpose, "connection closed"));
    }

    fn change(&self, state: LinkState, error: Option<&str>, log: impl FnOnce(&str)) {
        let mut status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if status.state == state && status.last_error.as_deref() == error {
            return;
        }
        if status.state != state {
            status.since = SystemTime::now();
        }
        status.state = state;
        status.last_error = error.map(Into::into);
        log(&status.purpose);
    }
}
