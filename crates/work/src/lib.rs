//! Carries out one job's data plane: mounts, copies, verifies and reports, here or in a worker process.

mod hook;
mod mount;
mod namespace;
pub mod process;
mod protocol;
pub mod report;
mod repositories;
pub mod run;
pub mod sandbox;
mod sys;
pub mod upkeep;

pub use hook::{Hook, HookAccess};
pub use mount::MountSettings;
pub use process::{ProcessExecutor, ProcessSettings, worker_main};
pub use repositories::{Repository, with_credentials};
pub use run::{Live, Trees, run_pass};

/// A path for people: exact and harmless, never lossy.
fn shown(path: &std::path::Path) -> String {
    copy::escape(path.as_os_str().as_encoded_bytes())
}
