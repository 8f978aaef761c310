//! Manila's database in memory, and the share managers that work on it: no tasks, because they outlive the service.
//! Each operation of the service lets them get on by some steps, in an order that a seed decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use manila::database::{DatabaseError, NewRule};
use testkit::random::Random;
use tokio::sync::Notify;

#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) share: String,
    pub(crate) host: Option<String>,
    pub(crate) rules_status: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) share: String,
    pub(crate) access_type: String,
    pub(crate) access_to: String,
    pub(crate) level: String,
    pub(crate) is_deleted: bool,
    pub(crate) is_tenants: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleOnInstance {
    pub(crate) rule: String,
    pub(crate) instance: String,
    pub(crate) state: String,
    pub(crate) is_deleted: bool,
}

/// What goes wrong, in percent of the times that it could, as long as `budget` lasts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) budget: u32,
    /// The database is away, and did nothing.
    pub(crate) away_before: u64,
    /// The answer is lost; what was asked for is done.
    pub(crate) away_after: u64,
    pub(crate) cast_lost: u64,
    pub(crate) cast_fails: u64,
    /// The storage refuses what the share manager asks of it.
    pub(crate) driver_fails: u64,
}

/// What ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The process, with all that it was doing.
    Process,
    /// Only the waiting: the runner's patience was over, and it gives back in the same process. What was under way goes
    /// on.
    Patience,
}

/// When the service, or the waiting for it, comes to an end: at this operation of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Break {
    pub(crate) end: End,
    pub(crate) at: usize,
    pub(crate) is_done_before: bool,
}

/// One run of `update_access_rules` in a share manager. Several may go on at once for one instance.
#[derive(Clone, Debug)]
enum Sync {
    /// The back end is being asked.
    Driving { denying: Vec<String> },
    /// What was applied is written down one by one, as it was read: what others write meanwhile is lost.
    Writing { left: VecDeque<(String, &'static str)>, failed: bool },
    /// There is nothing more to do; the summary will say so.
    Checked,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) rules: BTreeMap<String, Rule>,
    pub(crate) mappings: BTreeMap<String, RuleOnInstance>,
    pub(crate) casts: Vec<(String, String)>,
    pub(crate) faults: Faults,
    /// The share managers do something at all.
    pub(crate) is_managed: bool,
    pub(crate) operations: usize,
    break_at: Option<Break>,
    pub(crate) inbox: VecDeque<String>,
    syncs: Vec<(String, Sync)>,
    /// Rules whose sender did not wait for the answer, and which the database makes all the same, a little later.
    late: Vec<NewRule>,
    /// How far share managers get between two operations of the service.
    pace: u64,
    random: Random,
}

#[derive(Debug)]
pub(crate) struct World {
    state: Mutex<State>,
    pub(crate) broken: Notify,
}

impl World {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let mut random = Random::new(seed);
        let state = State {
            instances: BTreeMap::new(),
            rules: BTreeMap::new(),
            mappings: BTreeMap::new(),
            casts: Vec::new(),
            faults: Faults::default(),
            is_managed: true,
            operations: 0,
            break_at: None,
            inbox: VecDeque::new(),
            syncs: Vec::new(),
            late: Vec::new(),
            pace: 2 + random.below(5),
            random,
        };
        Arc::new(Self { state: Mutex::new(state), broken: Notify::new() })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.state().random.below(end)
    }

    /// The service ends at this operation, counted from now; or never, if there is none.
    pub(crate) fn break_at(&self, point: Option<Break>) {
        let mut state = self.state();
        state.operations = 0;
        state.break_at = point;
    }

    /// Lets the share managers do all there is to do.
    pub(crate) fn come_to_rest(&self) {
        let mut state = self.state();
        state.is_managed = true;
        while let Some(rule) = state.late.pop() {
            let _ = state.allow(&rule);
        }
        for _ in 0..10_000 {
            if !state.get_on() {
                return;
            }
        }
        panic!("the share managers do not come to rest: {state:?}");
    }

    /// An operation of the service: what it does is `effect`, unless something comes in between.
    pub(crate) async fn operation<T>(
        &self,
        effect: impl FnOnce(&mut State) -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        let breaks = {
            let mut state = self.state();
            state.get_on_a_little();
            state.operations += 1;
            let count = state.operations;
            state.break_at.filter(|point| point.at == count)
        };
        if let Some(point) = breaks.filter(|point| !point.is_done_before) {
            self.end_here(point.end).await;
        }
        let answer = {
            let mut state = self.state();
            if breaks.is_none() && state.goes_wrong(|faults| faults.away_before) {
                return Err(away());
            }
            let done = effect(&mut state);
            if breaks.is_none() && done.is_ok() && state.goes_wrong(|faults| faults.away_after) {
                return Err(away());
            }
            done
        };
        if let Some(point) = breaks.filter(|point| point.is_done_before) {
            self.end_here(point.end).await;
        }
        answer
    }

    /// Says so, and never returns where all ends, as a process would.
    async fn end_here(&self, end: End) {
        self.broken.notify_one();
        match end {
            End::Process => std::future::pending().await,
            End::Patience => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// What was sent takes effect, whether somebody waits for the answer or not.
pub(crate) struct Sent<'a> {
    pub(crate) world: &'a World,
    pub(crate) rule: &'a NewRule,
    pub(crate) is_answered: bool,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let mut state = self.world.state();
        if !self.is_answered && state.break_at.is_some_and(|point| point.end == End::Patience) {
            state.late.push(self.rule.clone());
        }
    }
}

pub(crate) fn away() -> DatabaseError {
    DatabaseError::Unavailable("server has gone away".into())
}

impl State {
    pub(crate) fn goes_wrong(&mut self, percent: impl Fn(&Faults) -> u64) -> bool {
        if self.faults.budget == 0 || self.random.below(100) >= percent(&self.faults) {
            return false;
        }
        self.faults.budget -= 1;
        true
    }

    pub(crate) fn allow(&mut self, rule: &NewRule) -> Result<bool, DatabaseError> {
        if !self.instances.contains_key(&rule.instance_id) {
            return Err(DatabaseError::NotFound { what: "share instance", id: rule.instance_id.clone() });
        }
        if self.mappings.contains_key(&rule.mapping_id) {
            return Ok(false);
        }
        if self.rules.get(&rule.rule_id).is_some_and(|made| made.is_deleted) {
            return Err(DatabaseError::Failed(format!("access rule {} is deleted", rule.rule_id)));
        }
        let made = self.rules.entry(rule.rule_id.clone()).or_insert_with(|| Rule {
            share: rule.share_id.clone(),
            access_type: rule.access_type.clone(),
            access_to: rule.access_to.clone(),
            level: "rw".into(),
            is_deleted: false,
            is_tenants: false,
        });
        assert!(!made.is_tenants, "{rule:?}");
        let mapping = RuleOnInstance {
            rule: rule.rule_id.clone(),
            instance: rule.instance_id.clone(),
            state: "queued_to_apply".into(),
            is_deleted: false,
        };
        self.mappings.insert(rule.mapping_id.clone(), mapping);
        self.summarise(&rule.instance_id, "syncing");
        Ok(true)
    }

    fn get_on_a_little(&mut self) {
        if self.random.below(4) == 0
            && let Some(rule) = self.late.pop()
        {
            let _ = self.allow(&rule);
        }
        for _ in 0..self.random.below(self.pace) {
            if self.is_managed {
                self.get_on();
            }
        }
    }

    /// One step of one share manager. `false`: there is nothing to do.
    fn get_on(&mut self) -> bool {
        let choices = self.syncs.len() + usize::from(!self.inbox.is_empty());
        if choices == 0 {
            return false;
        }
        let choice = self.random.below(choices as u64) as usize;
        if choice == self.syncs.len() {
            let instance = self.inbox.pop_front().expect("there is a message");
            let is_busy = self.has_any(&instance, &["applying", "denying"]);
            if !is_busy && let Some(sync) = self.begin(&instance) {
                self.syncs.push((instance, sync));
            }
            return true;
        }
        let (instance, sync) = self.syncs.remove(choice);
        if let Some(next) = self.step(&instance, sync) {
            self.syncs.push((instance, next));
        }
        true
    }

    fn begin(&mut self, instance: &str) -> Option<Sync> {
        if !self.has_any(instance, &["queued_to_apply", "queued_to_deny"]) {
            return None;
        }
        let mut denying = Vec::new();
        for (id, mapping) in live(&mut self.mappings, instance) {
            match mapping.state.as_str() {
                "queued_to_apply" => mapping.state = "applying".into(),
                "queued_to_deny" => {
                    mapping.state = "denying".into();
                    denying.push(id.clone());
                }
                _ => {}
            }
        }
        Some(Sync::Driving { denying })
    }

    fn step(&mut self, instance: &str, sync: Sync) -> Option<Sync> {
        match sync {
            Sync::Driving { denying } => {
                let failed = self.goes_wrong(|faults| faults.driver_fails);
                let to = |state: &str| match (state, failed) {
                    ("applying", false) => Some("active"),
                    ("applying" | "denying", true) => Some("error"),
                    _ => None,
                };
                let left: VecDeque<_> = live(&mut self.mappings, instance)
                    .filter_map(|(id, mapping)| Some((id.clone(), to(&mapping.state)?)))
                    .collect();
                if !failed {
                    for id in &denying {
                        self.delete(id);
                    }
                }
                Some(Sync::Writing { left, failed })
            }
            Sync::Writing { mut left, failed } => {
                if let Some((id, to)) = left.pop_front() {
                    if let Some(mapping) = self.mappings.get_mut(&id).filter(|mapping| !mapping.is_deleted) {
                        mapping.state = to.into();
                    }
                    return Some(Sync::Writing { left, failed });
                }
                if failed {
                    self.summarise(instance, "error");
                    return None;
                }
                Some(self.begin(instance).unwrap_or(Sync::Checked))
            }
            Sync::Checked => {
                let status = if self.has_any(instance, &["error"]) { "error" } else { "active" };
                self.summarise(instance, status);
                None
            }
        }
    }

    pub(crate) fn summarise(&mut self, instance: &str, status: &str) {
        if let Some(instance) = self.instances.get_mut(instance) {
            instance.rules_status = status.into();
        }
    }

    fn has_any(&mut self, instance: &str, states: &[&str]) -> bool {
        live(&mut self.mappings, instance).any(|(_, mapping)| states.contains(&mapping.state.as_str()))
    }

    /// The mapping, and the rule with its last one.
    pub(crate) fn delete(&mut self, id: &str) {
        let mapping = self.mappings.get_mut(id).expect("only what is there is deleted");
        mapping.is_deleted = true;
        let rule = mapping.rule.clone();
        if !self.mappings.values().any(|other| other.rule == rule && !other.is_deleted) {
            self.rules.get_mut(&rule).expect("a mapping has a rule").is_deleted = true;
        }
    }

    /// Mappings of `instance` that are not the tenant's and not deleted.
    pub(crate) fn ours(&self, instance: &str) -> Vec<&RuleOnInstance> {
        let is_ours = |mapping: &&RuleOnInstance| {
            mapping.instance == instance && !mapping.is_deleted && !self.rules[&mapping.rule].is_tenants
        };
        self.mappings.values().filter(is_ours).collect()
    }

    pub(crate) fn add_tenants_rule(&mut self, share: &str, access_to: &str, level: &str) -> String {
        let id = format!("tenants-{}", self.rules.len());
        self.rules.insert(
            id.clone(),
            Rule {
                share: share.into(),
                access_type: "ip".into(),
                access_to: access_to.into(),
                level: level.into(),
                is_deleted: false,
                is_tenants: true,
            },
        );
        id
    }

    pub(crate) fn map(&mut self, rule: &str, instance: &str, state: &str) -> String {
        let id = format!("{rule}-on-{instance}");
        let mapping =
            RuleOnInstance { rule: rule.into(), instance: instance.into(), state: state.into(), is_deleted: false };
        self.mappings.insert(id.clone(), mapping);
        id
    }

    /// A share manager is at work on the instance, whatever else is queued.
    pub(crate) fn begin_sync(&mut self, instance: &str) {
        if let Some(sync) = self.begin(instance) {
            self.summarise(instance, "syncing");
            self.syncs.push((instance.into(), sync));
        }
    }
}

fn live<'a>(
    mappings: &'a mut BTreeMap<String, RuleOnInstance>,
    instance: &'a str,
) -> impl Iterator<Item = (&'a String, &'a mut RuleOnInstance)> {
    mappings.iter_mut().filter(move |(_, mapping)| mapping.instance == instance && !mapping.is_deleted)
}
