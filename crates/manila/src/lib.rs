//! Manila's words, spoken nowhere else: its requests, its tables, its statuses, its access rules, its heartbeat.

pub mod access;
mod answer;
pub mod backup;
pub mod database;
mod endpoint;
mod failures;
mod follow;
pub mod heartbeat;
pub mod lock;
pub mod migration;
mod progress;
mod request;
mod service;
pub mod settings;
pub mod share_manager;
mod startup;
pub mod status;
pub mod task_state;
mod template;

pub use access::ManilaAccess;
pub use answer::ManilaNotifier;
pub use backup::BackupTask;
pub use database::Database;
pub use endpoint::Endpoint;
pub use follow::ManilaFollower;
pub use heartbeat::Heartbeat;
pub use lock::InstanceLocks;
pub use migration::{Migration, Peers};
pub use service::{BrokerHealth, ManilaService, Parts};
pub use settings::Settings;
pub use share_manager::{RpcShareManager, ShareManager};
