//! Who may begin now: a pure look at all jobs that have not ended.
//!
//! Higher priority first, then the order of making. A job that cannot begin yet (its time, its host, its destination)
//! does not hold up those behind it.

use std::cmp::Reverse;
use std::collections::HashMap;

use jiff::Timestamp;

use crate::door::WaitsFor;
use crate::id::{JobId, NodeName};
use crate::model::{Intent, Job, State, StopReason};
use crate::place::{Claim, Place};
use crate::settings::Scheduling;

/// What is to happen in the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To begin now, in this order.
    pub admit: Vec<JobId>,
    /// Places of those that wait for a slot, from 1. Those to be admitted have none.
    pub positions: HashMap<JobId, u32>,
    /// Of those that wait for something else.
    pub waits: HashMap<JobId, WaitsFor>,
    /// When to look again even if nothing happens.
    pub next_at: Option<Timestamp>,
}

/// `jobs` are all that have not ended; `runs_here` says which of them this process carries out.
pub fn plan(
    jobs: &[impl AsRef<Job>],
    runs_here: impl Fn(JobId) -> bool,
    node: &NodeName,
    scheduling: &Scheduling,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut taken =
        Taken { free_slots: scheduling.jobs_max, per_host_max: scheduling.jobs_per_host_max, ..Taken::default() };
    let mut waiting: Vec<&Job> = Vec::new();
    for job in jobs.iter().map(AsRef::as_ref).filter(|job| !job.state.is_ended()) {
        let here = runs_here(job.id);
        if here || job.state != State::Accepted || job.owner.as_ref().is_some_and(|owner| owner != node) {
            // One that only waits to give something back does no work, and must not stand in the way of those who do.
            taken.occupy(job, here && job.release_trouble.is_none());
        } else {
            waiting.push(job);
        }
    }
    waiting.sort_unstable_by_key(|job| (Reverse(job.spec.schedule.priority), job.created_at, job.id));
    let mut position = 0;
    for job in waiting {
        let waits = match waits_for(job, now) {
            None if taken.destination_is_busy(job) => Some(WaitsFor::Destination),
            waits => waits,
        };
        if waits == Some(WaitsFor::Time) {
            plan.next_at = job.not_before.into_iter().chain(plan.next_at).min();
        }
        if let Some(waits) = waits {
            plan.waits.insert(job.id, waits);
        } else if taken.has_room(job) {
            taken.occupy(job, true);
            plan.admit.push(job.id);
        } else {
            position += 1;
            plan.positions.insert(job.id, position);
        }
    }
    plan
}

/// What keeps the job itself from beginning.
fn waits_for(job: &Job, now: Timestamp) -> Option<WaitsFor> {
    if job.intent == Intent::Stop(StopReason::Pause) {
        Some(WaitsFor::Resume)
    } else if job.awaits_cutover() {
        Some(WaitsFor::Cutover)
    } else {
        job.not_before.is_some_and(|at| at > now).then_some(WaitsFor::Time)
    }
}

#[derive(Default)]
struct Taken {
    free_slots: usize,
    per_host_max: Option<usize>,
    hosts: HashMap<String, usize>,
    claims: Vec<Claim>,
}

impl Taken {
    fn occupy(&mut self, job: &Job, takes_slot: bool) {
        if takes_slot {
            self.free_slots = self.free_slots.saturating_sub(1);
        }
        for host in hosts(job) {
            *self.hosts.entry(host).or_default() += 1;
        }
        self.claims.extend(Claim::of(&job.spec));
    }

    fn has_room(&self, job: &Job) -> bool {
        let is_full =
            |host: &String| self.per_host_max.is_some_and(|max| self.hosts.get(host).is_some_and(|n| *n >= max));
        self.free_slots > 0 && !hosts(job).iter().any(is_full)
    }

    fn destination_is_busy(&self, job: &Job) -> bool {
        let claims = Claim::of(&job.spec);
        self.claims.iter().any(|taken| claims.iter().any(|claim| taken.excludes(claim)))
    }
}

/// Of both sides; one that serves both counts once.
fn hosts(job: &Job) -> Vec<String> {
    let mut hosts: Vec<String> = [&job.spec.source, &job.spec.dest]
        .into_iter()
        .filter_map(|endpoint| Place::of(endpoint).host().map(Into::into))
        .collect();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{CutoverState, Origin};
    use crate::spec::{Endpoint, JobSpec, Kind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("in range")
    }

    fn job(number: u128, change: impl FnOnce(&mut JobSpec)) -> Job {
        let dir = |path: String| Endpoint::Directory { path: path.into() };
        let mut spec = JobSpec::new(Kind::Copy, dir("/from".into()), dir(format!("/to/{number}")));
        change(&mut spec);
        Job::new(JobId::from_u128(number), spec, Origin::default(), at(i64::try_from(number).expect("small")))
    }

    fn mount(source: &str) -> Endpoint {
        Endpoint::Mount { fs_type: "nfs".into(), source: source.into(), options: Vec::new(), subdir: None }
    }

    fn planned(jobs: Vec<Job>, jobs_max: usize, per_host_max: Option<usize>, now: i64) -> Plan {
        let jobs: Vec<Arc<Job>> = jobs.into_iter().map(Arc::new).collect();
        let scheduling = Scheduling { jobs_max, jobs_per_host_max: per_host_max, ..Scheduling::default() };
        let node = NodeName::new("here");
        plan(
            &jobs,
            |id| jobs.iter().any(|job| job.id == id && job.owner.as_ref() == Some(&node)),
            &node,
            &scheduling,
            at(now),
        )
    }

    fn ids(numbers: &[u128]) -> Vec<JobId> {
        numbers.iter().map(|number| JobId::from_u128(*number)).collect()
    }

    #[test]
    fn higher_priority_first_then_the_order_of_making() {
        let jobs = vec![job(3, |_| {}), job(1, |_| {}), job(4, |spec| spec.schedule.priority = 5), job(2, |_| {})];
        let plan = planned(jobs, 2, None, 10);
        assert_eq!(plan.admit, ids(&[4, 1]));
        assert_eq!(plan.positions, HashMap::from([(JobId::from_u128(2), 1), (JobId::from_u128(3), 2)]));
    }

    #[test]
    fn jobs_that_run_here_take_slots_and_those_of_others_do_not() {
        let mut here = job(1, |_| {});
        (here.state, here.owner) = (State::Working, Some(NodeName::new("here")));
        let mut there = job(2, |_| {});
        (there.state, there.owner) = (State::Working, Some(NodeName::new("there")));
        let mut claimed_there = job(3, |_| {});
        claimed_there.owner = Some(NodeName::new("there"));
        let plan = planned(vec![here, there, claimed_there, job(4, |_| {}), job(5, |_| {})], 2, None, 10);
        assert_eq!(plan.admit, ids(&[4]));
        assert_eq!(plan.positions, HashMap::from([(JobId::from_u128(5), 1)]));
    }

    #[test]
    fn a_job_that_cannot_give_back_leaves_its_slot_and_keeps_its_destination() {
        let mut stuck = job(1, |_| {});
        (stuck.state, stuck.owner) = (State::Releasing { next: crate::Next::Wait }, Some(NodeName::new("here")));
        stuck.release_trouble = Some("busy".into());
        let same_dest = job(3, |spec| spec.dest = Endpoint::Directory { path: "/to/1/below".into() });
        let plan = planned(vec![stuck, job(2, |_| {}), same_dest], 1, None, 10);
        assert_eq!(plan.admit, ids(&[2]));
        assert_eq!(plan.waits, HashMap::from([(JobId::from_u128(3), WaitsFor::Destination)]));
    }

    #[test]
    fn a_host_serves_only_so_many_and_holds_up_nobody_else() {
        let on = |number, source: &str, dest: &str| {
            job(number, |spec| (spec.source, spec.dest) = (mount(source), mount(dest)))
        };
        let jobs = vec![on(1, "a:/1", "b:/1"), on(2, "a:/2", "c:/2"), on(3, "d:/3", "d:/4"), on(4, "c:/5", "b:/6")];
        let plan = planned(jobs, 9, Some(1), 10);
        assert_eq!(plan.admit, ids(&[1, 3]));
        assert_eq!(plan.positions.len(), 2);
    }

    #[test]
    fn two_jobs_never_get_the_same_or_a_nested_destination() {
        let to = |number, path: &str| job(number, |spec| spec.dest = Endpoint::Directory { path: path.into() });
        let plan = planned(vec![to(1, "/d/x"), to(2, "/d"), to(3, "/d/x/y"), to(4, "/d/z")], 9, None, 10);
        assert_eq!(plan.admit, ids(&[1, 4]));
        assert_eq!(plan.waits.len(), 2);
        assert!(plan.positions.is_empty());
    }

    #[test]
    fn what_each_job_waits_for_is_told_and_when_to_look_again() {
        let mut paused = job(1, |_| {});
        paused.intent = Intent::Stop(StopReason::Pause);
        let later = |number, seconds| {
            let mut job = job(number, |_| {});
            job.not_before = Some(at(seconds));
            job
        };
        let migration = |number, cutover| {
            let mut job = job(number, |spec| {
                spec.kind = Kind::Migrate;
                spec.migrate.passes_max = Some(2);
            });
            (job.passes_done, job.cutover) = (2, cutover);
            job
        };
        let (waits, asked) = (migration(4, CutoverState::NotAsked), migration(5, CutoverState::Asked));
        let plan = planned(vec![paused, later(2, 70), later(3, 60), later(6, 50), waits, asked], 9, None, 50);
        assert_eq!(plan.admit, ids(&[5, 6]));
        assert_eq!(plan.next_at, Some(at(60)));
        let expected = [(1, WaitsFor::Resume), (2, WaitsFor::Time), (3, WaitsFor::Time), (4, WaitsFor::Cutover)];
        assert_eq!(plan.waits, expected.map(|(id, waits)| (JobId::from_u128(id), waits)).into());
    }
}
