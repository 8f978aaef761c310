//! A migration between two instances, and the service that lets itself in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use job::{AccessError, Hold, Job, JobId, JobSpec, OnBehalf, Origin, PassKind, ShareAccess, Side};
use manila::migration::{AccessMapping, MANILA};
use manila::{ManilaAccess, Migration, Settings};
use oslo::config::{Sources, Values};
use oslo::messaging::Context;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::world::{Instance, World};

pub(crate) fn settings(text: &str) -> Settings {
    let mut sources = Sources::new();
    sources.add_text(Path::new("manila.conf"), text.as_bytes()).unwrap();
    Settings::of(&Values::new(manila::settings::MANILA_OPTIONS, sources)).unwrap()
}

/// Time passes when nobody does anything, so waits take none.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// A share on its way from one instance to the other.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) world: Arc<World>,
    pub(crate) job: Job,
    pub(crate) settings: Settings,
    pub(crate) share: String,
    pub(crate) source: String,
    pub(crate) dest: String,
}

impl Scene {
    pub(crate) fn new(seed: u64, ips: &[&str]) -> Self {
        Self::offering(seed, ips, &[("ip", &["nfs"])])
    }

    pub(crate) fn offering(seed: u64, ips: &[&str], dest_access: &[(&str, &[&str])]) -> Self {
        // Locks of instances are those of the process, which other tests share.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (share, source, dest) = (format!("share-{number}"), format!("source-{number}"), format!("dest-{number}"));
        let world = World::new(seed);
        for (id, host) in [(&source, "rig@alpha#pool"), (&dest, "rig@beta#pool")] {
            let instance = Instance { share: share.clone(), host: Some(host.into()), rules_status: "active".into() };
            world.state().instances.insert(id.clone(), instance);
        }
        let mapping = |pairs: &[(&str, &[&str])]| -> AccessMapping {
            let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
            pairs.iter().map(|(access_type, protocols)| ((*access_type).to_owned(), words(protocols))).collect()
        };
        let mut context = Context::default();
        context.set("request_id", "req-1".into());
        let migration = Migration {
            share_id: share.clone(),
            source_instance_id: source.clone(),
            dest_instance_id: dest.clone(),
            source_access: mapping(&[("ip", &["nfs"]), ("user", &["cifs"])]),
            dest_access: mapping(dest_access),
            context,
        };
        let request = serde_json::to_value(&migration).unwrap();
        let job = job(Some(OnBehalf { of: MANILA.into(), request }));
        let settings = settings(&format!("[DEFAULT]\nhost = data1\ndata_node_access_ips = {}", ips.join(",")));
        Self { world, job, settings, share, source, dest }
    }

    /// The service as it is after each of its starts.
    pub(crate) fn access(&self) -> ManilaAccess {
        ManilaAccess::new(self.world.clone(), self.world.clone(), &self.settings)
    }

    pub(crate) fn holds(&self) -> Vec<Hold> {
        self.access().needed(&self.job, PassKind::Single)
    }

    /// One life of the service that is not disturbed.
    pub(crate) fn take(&self, hold: &Hold) -> Result<Hold, AccessError> {
        runtime().block_on(self.access().take(&self.job, hold))
    }

    pub(crate) fn give_back(&self, hold: &Hold) -> Result<(), AccessError> {
        runtime().block_on(self.access().give_back(&self.job, hold))?;
        self.assert_given_back(hold);
        Ok(())
    }

    /// Not only asked for: it is gone. Where the instance or its host is gone, nobody can do that.
    pub(crate) fn assert_given_back(&self, hold: &Hold) {
        let Hold::Access { grant, .. } = hold else { return };
        let state = self.world.state();
        for (id, mapping) in state.mappings.iter().filter(|(id, _)| grant.contains(id.as_str())) {
            let is_managed = state.instances.get(&mapping.instance).is_some_and(|instance| instance.host.is_some());
            assert!(mapping.is_deleted || !is_managed, "{id}: {state:#?}");
        }
    }

    /// Takes all, in the order of the runner, and stops at the first that is not given.
    pub(crate) fn take_all(&self) -> (Vec<Hold>, Result<(), AccessError>) {
        let holds = self.holds();
        let taken = holds.iter().try_for_each(|hold| {
            assert_eq!(self.take(hold)?, *hold);
            Ok(())
        });
        (holds, taken)
    }

    /// Gives back as the runner does: the last first, each until it succeeds.
    pub(crate) fn give_all_back(&self, holds: &[Hold]) {
        for hold in holds.iter().rev() {
            let mut tries = 0;
            while let Err(error) = self.give_back(hold) {
                tries += 1;
                assert!(tries < 100, "{error}: {:#?}", self.world.state());
            }
        }
    }

    /// Nothing of ours is left, nothing of the tenant's was touched, and nobody waits for anything.
    pub(crate) fn assert_clean(&self) {
        self.world.come_to_rest();
        let state = self.world.state();
        for (id, mapping) in &state.mappings {
            let is_tenants = state.rules[&mapping.rule].is_tenants;
            assert_eq!(mapping.is_deleted, !is_tenants, "{id}: {state:#?}");
            assert!(!is_tenants || ["active", "error"].contains(&mapping.state.as_str()), "{id}: {state:#?}");
        }
        for (id, rule) in &state.rules {
            assert_eq!(rule.is_deleted, !rule.is_tenants, "{id}: {state:#?}");
        }
        for (id, instance) in &state.instances {
            assert_ne!(instance.rules_status, "syncing", "{id}: {state:#?}");
        }
    }
}

pub(crate) fn job(on_behalf: Option<OnBehalf>) -> Job {
    let end = |path: &str| json!({ "type": "directory", "path": path });
    let spec = json!({ "kind": "copy", "source": end("/s"), "dest": end("/d") });
    let spec: JobSpec = serde_json::from_value(spec).unwrap();
    let origin = Origin { requester: "manila".into(), request_id: Some("req-1".into()), on_behalf };
    Job::new(JobId::generate(), spec, origin, Timestamp::UNIX_EPOCH)
}

pub(crate) fn side_of(hold: &Hold) -> Side {
    match hold {
        Hold::Access { side, .. } => *side,
        other => panic!("{other:?}"),
    }
}
