//! A migration as the share manager asks for it, and what of it is kept in the job.

use std::collections::BTreeMap;
use std::sync::Arc;

use job::Job;
use serde::{Deserialize, Serialize};

use crate::database::{Database, ShareInstance};
use crate::settings::Settings;
use crate::share_manager::ShareManager;

/// Whose words [`job::OnBehalf`] has, and who is said to have asked for the job.
pub const MANILA: &str = "manila";

/// The destination of a migration that is under way, as the share manager marks it (`share_instances.status`).
pub(crate) const MIGRATING_TO: &str = "migrating_to";
/// The source of one.
pub(crate) const MIGRATING: &str = "migrating";

/// What is remembered of a `migration_start`, beside the mount commands, which are the job's endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Migration {
    pub share_id: String,
    pub source_instance_id: String,
    pub dest_instance_id: String,
    /// Access types with their protocols, as each side's back end offers them.
    pub source_access: AccessMapping,
    pub dest_access: AccessMapping,
    /// The request's context without its secrets, for the casts that follow from it.
    pub context: oslo::messaging::Context,
}

/// Access type (`ip`, `user`, `cert`) to protocols in lower case.
pub type AccessMapping = BTreeMap<String, Vec<String>>;

impl Migration {
    /// `None`: the job is not Manila's.
    pub fn of(job: &Job) -> Option<Self> {
        let behalf = job.origin.on_behalf.as_ref().filter(|behalf| behalf.of == MANILA)?;
        serde_json::from_value(behalf.request.clone()).ok()
    }

    /// By which the jobs of a share are found.
    pub fn job_name(share_id: &str) -> String {
        format!("share {share_id}")
    }

    /// The share is on its way to another destination than this one: whatever its `task_state` says is about that.
    pub(crate) fn is_superseded(&self, instances: &[ShareInstance]) -> bool {
        is_superseded(&self.dest_instance_id, instances)
    }
}

/// See [`Migration::is_superseded`].
pub(crate) fn is_superseded(dest_instance_id: &str, instances: &[ShareInstance]) -> bool {
    instances.iter().any(|other| other.status.as_deref() == Some(MIGRATING_TO) && other.id != dest_instance_id)
}

/// The other parts of Manila, as a job reaches them, and what its configuration says.
#[derive(Clone, Debug)]
pub struct Peers {
    pub database: Arc<dyn Database>,
    pub share_manager: Arc<dyn ShareManager>,
    pub settings: Arc<Settings>,
}
