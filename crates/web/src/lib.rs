//! The REST interface of the data service: jobs, reports, events, metrics; webhooks; and the client of all that.
//!
//! [`Server`] opens a unix socket, and TCP with tokens if asked to, and speaks for a [`job::DataService`].
//! [`Webhooks`] tells others of jobs that ended. [`client::Client`] is the other end. Knows HTTP and its statuses; knows
//! nothing of stores, mounts, or Manila.

mod app;
mod bodies;
pub mod client;
mod error;
mod extract;
mod guard;
mod hex;
mod metrics;
mod openapi;
mod problem;
mod roots;
mod routes;
mod server;
mod settings;
pub mod tokens;
mod webhooks;

use std::sync::Arc;

pub use app::{Handle, Peer};
pub use bodies::{
    EventBody, HealthBody, JobBody, JobListBody, ManifestBody, OutcomeName, ProgressBody, ProgressEventBody,
    ReportBody, ScheduleBody, ScheduleListBody, VersionBody,
};
pub use error::ServeError;
pub use problem::ProblemBody;
pub use server::Server;
pub use settings::{Limits, Settings, TcpSettings, TlsFiles};
pub use webhooks::{WebhookSettings, Webhooks};

/// Makes `ring` the cryptography of this process. Call it first thing: clients and TLS cannot begin without one.
pub fn install_crypto() {
    // A second call finds the first one's, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The routes without a door, for a server of one's own. Each request needs a [`Peer`] among its extensions.
pub fn router(service: Arc<dyn job::DataService>, settings: Settings) -> Result<(axum::Router, Handle), ServeError> {
    let app = app::App::new(service, settings)?;
    Ok((routes::router(&app), Handle(app)))
}

/// The description of the interface, `OpenAPI` 3.1 as JSON.
pub fn openapi() -> &'static str {
    openapi::text()
}
