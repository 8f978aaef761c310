//! What the service needs of the machine it runs on, looked at piece by piece: for `doctor`, and for the warnings at the
//! start of the service. Changes nothing.

mod helpers;
mod kernel;
mod manila;
mod network;
mod repositories;
mod rights;
mod state;

use serde::Serialize;

use crate::config::Config;

/// How one thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Keeps the service, or jobs that it is configured for, from working.
    Fail,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub found: String,
    /// What to do, where there is something to do.
    pub advice: Option<String>,
}

impl Check {
    /// Something that was noticed when the configuration was read.
    pub fn configuration(warning: &str) -> Self {
        Self { name: "configuration", verdict: Verdict::Warn, found: warning.to_owned(), advice: None }
    }

    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Everything.
pub fn examine(config: &Config) -> Vec<Check> {
    let mut checks = machine(config);
    checks.extend(helpers::checks(&config.worker));
    checks.extend(state::checks(config));
    checks.extend(network::checks(config));
    checks.extend(repositories::checks(config));
    if let Some(manila) = &config.manila {
        checks.extend(manila::checks(manila));
    }
    checks
}

/// What the kernel and this process's rights allow; cheap enough for every start.
pub fn machine(config: &Config) -> Vec<Check> {
    let mut checks = kernel::checks(config.worker.sandbox);
    checks.extend(rights::checks());
    checks
}
